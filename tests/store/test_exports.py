"""Exports as rows: asked for at once by many, taken in hand, renewed, recorded once, and let go of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
import trio

from tests.store.selling import Market
from veza.domain.errors import NotFound, TooMany
from veza.domain.exports import Claim, Dead, Export, ExportStatus, GivenBack, Progress, Ready, Retry
from veza.domain.ids import IdMint
from veza.store.bridge import Database
from veza.store.exports import ExportRows

LEASE = timedelta(seconds=30)
LAPSED = timedelta(0)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
KEY = "a" * 64
HALF = Progress(1, 2, 10, 20)
S = ExportStatus


def now() -> datetime:
    return datetime.now(UTC)


class Desk:
    """One database's exports, and what a test does with them."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.market = Market.over(db)
        self.rows = ExportRows(db, IdMint(now, Random(8)))

    async def asked(self, when: datetime | None = None) -> Export:
        return await self.rows.ask(await self.market.user(), when or now())

    async def claimed(self, lease: timedelta = LEASE) -> Claim:
        await self.asked()
        [claim] = await self.rows.claim(1, lease)
        return claim

    async def ready(self, until: datetime) -> Export:
        recorded = await self.rows.record(await self.claimed(), Ready(KEY, 9, until), HALF, "https://x/y")
        assert recorded is not None
        return recorded

    async def row(self, export_id: UUID) -> dict[str, Any]:
        [row] = await self.db.fetch("SELECT * FROM exports WHERE id = $1", export_id)
        return dict(row)

    async def told(self, user_id: UUID) -> list[tuple[str, str]]:
        return [
            tuple(row)
            for row in await self.db.fetch("SELECT kind, data FROM notifications WHERE user_id = $1", user_id)
        ]


@pytest.fixture
def desk(db: Database) -> Desk:
    return Desk(db)


# -- asking -----------------------------------------------------------------------------------------------------------


async def test_many_who_ask_at_once_get_one_export(desk: Desk) -> None:
    user, found = await desk.market.user(), set[UUID]()

    async def ask() -> None:
        found.add((await desk.rows.ask(user, now())).id)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert len(found) == 1
    assert (await desk.rows.page(user, 20, 0))[1] == 1


async def test_the_one_that_is_running_is_the_answer(desk: Desk) -> None:
    claim = await desk.claimed()
    again = await desk.rows.ask(claim.export.user_id, now() + 3 * DAY)
    assert (again.id, again.status) == (claim.export.id, S.RUNNING)


async def test_another_can_be_asked_for_a_day_after_one_that_was_made_and_at_once_after_one_that_failed(
    desk: Desk,
) -> None:
    export = await desk.ready(now() + DAY)
    with pytest.raises(TooMany) as refused:
        await desk.rows.ask(export.user_id, export.created_at + HOUR)
    assert refused.value.retry_after == 23 * 3600
    second = await desk.rows.ask(export.user_id, export.created_at + DAY)
    [claim] = await desk.rows.claim(1, LEASE)
    await desk.rows.record(claim, Dead("internal"), HALF)
    third = await desk.rows.ask(export.user_id, second.created_at)
    assert len({export.id, second.id, third.id}) == 3
    found, total = await desk.rows.page(export.user_id, 2, 0)
    assert ([each.id for each in found], total) == ([third.id, second.id], 3)


async def test_anothers_is_not_there(desk: Desk) -> None:
    export, stranger = await desk.asked(), await desk.market.user()
    assert await desk.rows.get(export.user_id, export.id) == export
    with pytest.raises(NotFound):
        await desk.rows.get(stranger, export.id)
    assert await desk.rows.page(stranger, 20, 0) == ([], 0)


# -- the queue --------------------------------------------------------------------------------------------------------


async def test_several_who_claim_at_once_get_each_a_different_one(desk: Desk) -> None:
    for _ in range(6):
        await desk.asked()
    found: list[UUID] = []

    async def claim() -> None:
        found.extend(each.export.id for each in await desk.rows.claim(2, LEASE))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(claim)
    assert len(found) == len(set(found)) == 6


async def test_what_is_claimed_is_running_and_counts_as_a_try(desk: Desk) -> None:
    claim = await desk.claimed()
    assert (claim.export.status, claim.export.attempts) == (S.RUNNING, 1)
    assert claim.export.started_at == claim.claimed_at
    assert await desk.rows.claim(1, LEASE) == []


async def test_a_lapsed_lease_is_found_by_the_next_who_looks_but_for_its_own_holder(desk: Desk) -> None:
    first = await desk.claimed(LAPSED)
    assert await desk.rows.claim(1, LEASE, [first.export.id]) == []
    [second] = await desk.rows.claim(1, LEASE)
    assert (second.export.id, second.export.attempts) == (first.export.id, 2)
    assert second.id != first.id


async def test_a_lease_that_is_renewed_does_not_lapse_and_tells_how_far_it_is(desk: Desk) -> None:
    claim = await desk.claimed(LAPSED)
    assert await desk.rows.renew(claim, HALF, LEASE)
    assert await desk.rows.claim(1, LEASE) == []
    assert (await desk.rows.get(claim.export.user_id, claim.export.id)).progress == HALF


async def test_who_lost_it_can_neither_renew_nor_record(desk: Desk) -> None:
    lost = await desk.claimed(LAPSED)
    [held] = await desk.rows.claim(1, LEASE)
    assert held.export.progress == Progress()
    assert not await desk.rows.renew(lost, HALF, LEASE)
    assert await desk.rows.record(lost, Ready(KEY, 9, now() + DAY), HALF) is None
    assert (await desk.row(held.export.id))["status"] == "running"
    assert await desk.told(held.export.user_id) == []


async def test_one_that_is_ready_is_told_of_in_the_same_transaction_once(desk: Desk) -> None:
    until = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
    claim = await desk.claimed()
    recorded = await desk.rows.record(claim, Ready(KEY, 9, until), HALF, "https://veza.example/link")
    assert recorded is not None
    assert (recorded.status, recorded.object_key, recorded.size_bytes) == (S.READY, KEY, 9)
    assert (recorded.expires_at, recorded.progress) == (until, HALF)
    assert recorded.finished_at is not None
    [(kind, data)] = await desk.told(recorded.user_id)
    assert kind == "export_ready"
    assert str(recorded.id) in data
    assert "https://veza.example/link" in data
    assert "2027-01-02T03:04:05Z" in data
    assert await desk.rows.record(claim, Ready(KEY, 9, until), HALF) is None
    assert len(await desk.told(recorded.user_id)) == 1


async def test_one_that_is_given_back_is_due_at_once_and_has_cost_no_try(desk: Desk) -> None:
    recorded = await desk.rows.record(await desk.claimed(), GivenBack(), HALF)
    assert recorded is not None
    assert (recorded.status, recorded.attempts) == (S.QUEUED, 0)
    [again] = await desk.rows.claim(1, LEASE)
    assert again.export.attempts == 1


async def test_one_that_failed_is_due_later_and_says_why_until_it_is_made(desk: Desk) -> None:
    claim = await desk.claimed()
    recorded = await desk.rows.record(claim, Retry(now() + HOUR, "storage_unavailable"), HALF)
    assert recorded is not None
    assert (recorded.status, recorded.attempts, recorded.failure) == (S.QUEUED, 1, "storage_unavailable")
    assert await desk.rows.claim(1, LEASE) == []
    due_in = await desk.rows.next_due_in()
    assert due_in == pytest.approx(3600, abs=60)
    assert await desk.told(recorded.user_id) == []
    await desk.market.run("UPDATE exports SET due_at = now()")
    [again] = await desk.rows.claim(1, LEASE)
    made = await desk.rows.record(again, Ready(KEY, 9, now() + DAY), HALF)
    assert made is not None
    assert made.failure is None


async def test_one_that_failed_for_good_is_told_of(desk: Desk) -> None:
    recorded = await desk.rows.record(await desk.claimed(), Dead("file_missing"), HALF)
    assert recorded is not None
    assert (recorded.status, recorded.failure) == (S.FAILED, "file_missing")
    assert [kind for kind, _ in await desk.told(recorded.user_id)] == ["export_failed"]


async def test_what_is_due_next_is_known(desk: Desk) -> None:
    assert await desk.rows.next_due_in() is None
    await desk.claimed()
    assert await desk.rows.next_due_in() == pytest.approx(30, abs=5)
    await desk.asked()
    assert await desk.rows.next_due_in() == pytest.approx(0, abs=5)


# -- letting go -------------------------------------------------------------------------------------------------------


async def test_what_has_expired_names_no_bytes_any_more(desk: Desk) -> None:
    moment = now().replace(microsecond=0)
    gone, stays = await desk.ready(moment), await desk.ready(moment + timedelta(seconds=1))
    assert await desk.rows.expire(moment) == 1
    assert (await desk.row(gone.id))["status"] == "expired"
    assert (await desk.row(gone.id))["object_key"] is None
    assert (await desk.row(stays.id))["object_key"] == KEY
    assert await desk.rows.expire(moment) == 0
