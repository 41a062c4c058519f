from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.faults.stage import CALL_SECONDS, Stage
from tests.sales import Sales
from tests.sandbox.running import NO_CERTIFICATES, running_sandbox
from veza.gateways.stripe import Stripe
from veza.store.bridge import Database


@pytest.fixture
async def stage(dsn: str, db: Database, tmp_path: Path) -> AsyncIterator[Stage]:
    """A fresh database and a provider of its own; nobody pays anything out yet."""
    async with running_sandbox(tmp_path / "sandbox") as sandbox:
        key, url = sandbox.config.stripe_secret_key, sandbox.stripe_url
        async with (
            Stripe.open(key, base=url, timeout=CALL_SECONDS, currency="EUR") as stripe,
            httpx.AsyncClient(
                base_url=url, headers={"Authorization": f"Bearer {key}"}, verify=NO_CERTIFICATES, timeout=CALL_SECONDS
            ) as http,
        ):
            with psycopg.connect(dsn, autocommit=True) as outside:
                yield Stage(dsn, db, sandbox, stripe, Sales(db), http, outside, tmp_path)
