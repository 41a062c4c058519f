"""Maintenance as a row: one, whatever happens, with what is said of it, and who switched it written down."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random

import asyncpg
import pytest
import trio

from tests.sales import ticking
from veza.domain.audit import By
from veza.domain.errors import Invalid
from veza.domain.ids import IdMint
from veza.domain.maintenance import Maintenance, MaintenanceChange
from veza.store.bridge import Database
from veza.store.maintenance import MaintenanceRows

CONSOLE = By(None)
NOON = datetime(2100, 2, 23, 12, tzinfo=UTC)


@pytest.fixture
def rows(db: Database) -> MaintenanceRows:
    return MaintenanceRows(db, IdMint(ticking(), Random(1)))


async def test_it_is_off_until_it_is_switched_on_and_stays_on(db: Database, rows: MaintenanceRows) -> None:
    before = await rows.load()
    assert (before.enabled, before.message, before.expected_end) == (False, None, None)
    after = await rows.switch(MaintenanceChange(True, "Back at noon.", NOON), CONSOLE)
    assert (after.enabled, after.message, after.expected_end) == (True, "Back at noon.", NOON)
    assert before.updated_at is not None
    assert after.updated_at is not None
    assert after.updated_at > before.updated_at
    assert await MaintenanceRows(db, rows._new_id).load() == after


async def test_there_is_one_row_at_most_and_without_it_it_is_off(db: Database, rows: MaintenanceRows) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO maintenance (enabled) VALUES (true)")
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM maintenance")
    assert await rows.load() == Maintenance()
    assert (await rows.switch(MaintenanceChange(True), CONSOLE)).enabled
    assert (await rows.load()).enabled


NEVER = datetime.max.replace(tzinfo=UTC)  # as which the driver sends infinity


async def test_an_end_that_never_comes_is_none(rows: MaintenanceRows) -> None:
    after = await rows.switch(MaintenanceChange(True, "For now.", NEVER), CONSOLE)
    assert (after.enabled, after.message, after.expected_end) == (True, "For now.", None)
    assert await rows.load() == after


async def test_an_end_that_is_over_by_the_databases_clock_changes_nothing(db: Database, rows: MaintenanceRows) -> None:
    before = await rows.load()
    now = await db.fetchval("SELECT now()")
    for end in (now, datetime.min.replace(tzinfo=UTC)):
        with pytest.raises(Invalid):
            await rows.switch(MaintenanceChange(True, "For now.", end), CONSOLE)
    assert await rows.load() == before
    assert await db.fetchval("SELECT count(*) FROM audit_entries") == 0


async def test_each_switch_is_audited_in_its_transaction(db: Database, rows: MaintenanceRows) -> None:
    await rows.switch(MaintenanceChange(True, "Back at noon.", NOON), CONSOLE)
    await rows.switch(MaintenanceChange(False), CONSOLE)
    found = await db.fetch("SELECT action, resource, details FROM audit_entries ORDER BY id")
    assert [(row["action"], row["resource"]) for row in found] == [("maintenance.switch", "maintenance")] * 2
    assert [json.loads(row["details"]) for row in found] == [
        {"enabled": True, "message": "Back at noon.", "expected_end": "2100-02-23 12:00:00+00:00"},
        {"enabled": False, "message": None, "expected_end": None},
    ]


async def test_whatever_switches_it_rings(db: Database, rows: MaintenanceRows) -> None:
    with trio.fail_after(10):
        async with rows.listen() as bells:
            await bells.__anext__()  # of listening itself
            await rows.switch(MaintenanceChange(True), CONSOLE)
            await bells.__anext__()
            async with db.transaction() as tx:
                await tx.execute("UPDATE maintenance SET enabled = false")
            await bells.__anext__()
