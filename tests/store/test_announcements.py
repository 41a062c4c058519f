"""Announcements as rows: what is made or deleted is audited with it, and rings; what is over is not read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
import trio

from tests.sales import ticking
from veza.domain.announcements import Announcement, Kind
from veza.domain.audit import By
from veza.domain.errors import NotFound
from veza.domain.ids import IdMint
from veza.store import audit
from veza.store.announcements import AnnouncementRows
from veza.store.bridge import Database

ADMIN = By(None, "req-1", "192.0.2.7")
HOUR = timedelta(hours=1)


@pytest.fixture
def rows(db: Database) -> AnnouncementRows:
    return AnnouncementRows(db, IdMint(ticking(), Random(1)))


def made(number: int, starts_in: timedelta = -HOUR, ends_in: timedelta | None = None) -> Announcement:
    now = datetime.now(UTC)
    ends_at = None if ends_in is None else now + ends_in
    created_at = now + timedelta(seconds=number)
    return Announcement(UUID(int=number), f"Title {number}", "Text", Kind.ERROR, now + starts_in, ends_at, created_at)


async def test_what_was_made_is_read_as_it_was_made(rows: AnnouncementRows) -> None:
    first, second = made(1, ends_in=HOUR), made(2, starts_in=HOUR)
    assert (await rows.add(first, ADMIN)).all == (first,)
    assert (await rows.add(second, ADMIN)).all == (first, second) == (await rows.load()).all


async def test_those_that_are_over_are_listed_and_not_shown(rows: AnnouncementRows) -> None:
    over, later = made(1, starts_in=-2 * HOUR, ends_in=-HOUR), made(2)
    await rows.add(over, ADMIN)
    assert (await rows.add(later, ADMIN)).all == (later,)
    assert await rows.page(limit=20, offset=0) == ([later, over], 2)
    assert await rows.page(limit=1, offset=1) == ([over], 2)
    assert await rows.page(limit=5, offset=2) == ([], 2)


async def test_what_is_deleted_is_gone_once(rows: AnnouncementRows) -> None:
    first, second = made(1), made(2)
    await rows.add(first, ADMIN)
    await rows.add(second, ADMIN)
    assert (await rows.delete(first.id, ADMIN)).all == (second,)
    with pytest.raises(NotFound):
        await rows.delete(first.id, ADMIN)
    assert (await rows.load()).all == (second,)


async def test_each_is_audited_in_its_transaction(db: Database, rows: AnnouncementRows) -> None:
    one = made(1)
    await rows.add(one, ADMIN)
    await rows.delete(one.id, ADMIN)
    with pytest.raises(NotFound):
        await rows.delete(one.id, ADMIN)
    found = await db.fetch("SELECT * FROM audit_entries ORDER BY id")
    assert [(row["action"], row["resource"]) for row in found] == [
        ("announcement.create", f"announcements/{one.id}"),
        ("announcement.delete", f"announcements/{one.id}"),
    ]
    assert [json.loads(row["details"])["title"] for row in found] == ["Title 1", "Title 1"]
    assert {(row["request_id"], row["address"]) for row in found} == {("req-1", "192.0.2.7")}


async def test_what_cannot_be_written_to_the_audit_is_not_done(
    rows: AnnouncementRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("planted")

    kept = made(1)
    await rows.add(kept, ADMIN)
    monkeypatch.setattr(audit, "write", fails)
    with pytest.raises(RuntimeError):
        await rows.add(made(2), ADMIN)
    with pytest.raises(RuntimeError):
        await rows.delete(kept.id, ADMIN)
    assert (await rows.load()).all == (kept,)


async def test_whatever_changes_one_rings(db: Database, rows: AnnouncementRows) -> None:
    with trio.fail_after(10):
        async with rows.listen() as bells:
            await bells.__anext__()  # of listening itself
            await rows.add(made(1), ADMIN)
            await bells.__anext__()
            async with db.transaction() as tx:
                await tx.execute("UPDATE announcements SET title = 'Another'")
            await bells.__anext__()
            await rows.delete(UUID(int=1), ADMIN)
            await bells.__anext__()
