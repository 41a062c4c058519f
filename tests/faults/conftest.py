from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.stage import Stage, open_stage
from veza.store.bridge import Database


@pytest.fixture
async def stage(dsn: str, db: Database, tmp_path: Path) -> AsyncIterator[Stage]:
    """A fresh database and a provider of its own; nobody pays anything out yet."""
    async with open_stage(dsn, db, tmp_path) as opened:
        yield opened
