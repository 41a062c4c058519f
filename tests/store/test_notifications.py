"""Notifications as rows: numbered without gaps, told when they are committed, and tickets that hold once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest
import trio

from tests.people import People
from tests.sales import START, Sales
from veza.domain.errors import NotFound
from veza.domain.notifications import News, NotificationKind
from veza.store.bridge import Database
from veza.store.notifications import Notifications, notify

READY = News(NotificationKind.EXPORT_READY, "Your data is ready", "For a day.", {"export_id": "1", "url": "https://x"})


@dataclass
class Stage:
    db: Database
    sales: Sales
    rows: Notifications

    async def tell(self, user_id: UUID, news: News = READY) -> None:
        async with self.db.transaction() as tx:
            await notify(tx, self.sales.new_id(), user_id, news)


@pytest.fixture
async def stage(db: Database) -> AsyncIterator[Stage]:
    with trio.fail_after(30):
        yield Stage(db, Sales(db), Notifications(db))


async def test_what_was_told_is_listed_the_newest_first(stage: Stage) -> None:
    ann, bob = await stage.sales.user(), await stage.sales.user()
    for title in ("one", "two", "three"):
        await stage.tell(ann, News(NotificationKind.EXPORT_FAILED, title))
    await stage.tell(bob)
    found, total = await stage.rows.page(ann, unread=None, limit=2, offset=0)
    assert ([each.title for each in found], total) == (["three", "two"], 3)
    [his], _ = await stage.rows.page(bob, unread=None, limit=10, offset=0)
    assert (his.number, his.body, his.data, his.read_at) == (1, READY.body, dict(READY.data), None)


async def test_reading_is_noted_once_and_by_whom_it_concerns_alone(stage: Stage) -> None:
    ann, bob = await stage.sales.user(), await stage.sales.user()
    for _ in range(3):
        await stage.tell(ann)
    [newest, *_], _ = await stage.rows.page(ann, unread=None, limit=10, offset=0)
    with pytest.raises(NotFound):
        await stage.rows.read(bob, newest.id, START)
    read = await stage.rows.read(ann, newest.id, START)
    later = await stage.rows.read(ann, newest.id, People().clock())
    assert read.read_at == later.read_at == START
    assert await stage.rows.unread(ann) == 2
    unread, total = await stage.rows.page(ann, unread=True, limit=10, offset=0)
    assert ([each.number for each in unread], total) == ([2, 1], 2)
    assert await stage.rows.read_all(ann, START) == 2
    assert await stage.rows.read_all(ann, START) == 0
    assert await stage.rows.unread(ann) == 0


async def test_many_at_once_are_numbered_in_the_order_in_which_they_can_be_seen(stage: Stage) -> None:
    ann = await stage.sales.user()
    gaps: list[list[int]] = []

    async def watch() -> None:
        while True:
            seen = [each.number for each in await stage.rows.after({ann: 0}, 100)]
            if seen != list(range(1, len(seen) + 1)):
                gaps.append(seen)

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        async with trio.open_nursery() as telling:
            for _ in range(20):
                telling.start_soon(stage.tell, ann)
        watching.cancel_scope.cancel()
    assert gaps == []
    assert await stage.rows.last_number(ann) == 20


async def test_what_is_not_committed_was_not_told(stage: Stage) -> None:
    ann = await stage.sales.user()

    async def tell_and_fail() -> None:
        async with stage.db.transaction() as tx:
            await notify(tx, stage.sales.new_id(), ann, READY)
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError):
        await tell_and_fail()
    await stage.tell(ann)
    assert [each.number for each in await stage.rows.after({ann: 0}, 10)] == [1]


async def test_each_user_is_looked_up_from_their_own_number_and_so_far(stage: Stage) -> None:
    ann, bob = await stage.sales.user(), await stage.sales.user()
    for _ in range(5):
        await stage.tell(ann)
        await stage.tell(bob)
    found = await stage.rows.after({ann: 1, bob: 4, UUID(int=1): 0}, 2)
    assert sorted((each.user_id, each.number) for each in found) == sorted([(ann, 2), (ann, 3), (bob, 5)])


async def test_telling_rings_for_who_listens(stage: Stage) -> None:
    ann = await stage.sales.user()
    async with stage.rows.listen() as bells:
        await anext(bells)  # it listens
        await stage.tell(ann)
        await anext(bells)


async def test_a_ticket_holds_once_and_only_so_long(stage: Stage) -> None:
    ann = await stage.sales.user()
    session = UUID(int=7)
    async with stage.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO sessions (id, user_id, refresh_id, expires_at) VALUES ($1, $2, $1, now() + interval '1 day')",
            session,
            ann,
        )
    await stage.rows.hand_out("once", ann, session)
    held = await stage.rows.take("once")
    assert held is not None
    assert (held.user_id, held.session_id) == (ann, session)
    assert await stage.rows.take("once") is None
    await stage.rows.hand_out("late", ann, session)
    async with stage.db.transaction() as tx:
        await tx.execute("UPDATE stream_tickets SET expires_at = now()")
        assert b"late" not in await tx.fetchval("SELECT hash FROM stream_tickets")
    assert await stage.rows.take("late") is None
