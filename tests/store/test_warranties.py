"""Warranties that end soon are told of once, whoever looks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest
import trio

from tests.sales import Sales
from veza.domain.gear import WARNED_DAYS
from veza.domain.notifications import Notification, NotificationKind
from veza.store.bridge import Database
from veza.store.notifications import Notifications
from veza.store.warranties import Warranties


@dataclass
class Stage:
    db: Database
    sales: Sales
    warranties: Warranties

    async def own(self, owner: UUID, days: int | None, name: str = "MPC", status: str = "active") -> UUID:
        """Something whose warranty ends so many days from now."""
        gear_id = self.sales.new_id()
        async with self.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO gear (id, owner_id, name, warranty_expires_on, status, words, created_at, updated_at)"
                " VALUES ($1, $2, $3, current_date + $4::integer, $5, '', now(), now())",
                gear_id,
                owner,
                name,
                days,
                status,
            )
        return gear_id

    async def told(self, owner: UUID) -> list[Notification]:
        found, _ = await Notifications(self.db).page(owner, unread=None, limit=100, offset=0)
        return found


@pytest.fixture
async def stage(db: Database) -> AsyncIterator[Stage]:
    with trio.fail_after(30):
        sales = Sales(db)
        yield Stage(db, sales, Warranties(db, sales.new_id))


async def test_an_owner_is_told_once_of_what_ends_soon(stage: Stage) -> None:
    ann = await stage.sales.user()
    gear_id = await stage.own(ann, WARNED_DAYS)
    assert [await stage.warranties.warn(10) for _ in range(2)] == [1, 0]
    [told] = await stage.told(ann)
    assert told.kind is NotificationKind.WARRANTY_ENDING
    assert told.data["gear_id"] == str(gear_id)
    assert str(told.data["warranty_expires_on"]) in told.title


@pytest.mark.parametrize(
    ("days", "status"), [(WARNED_DAYS + 1, "active"), (-1, "active"), (None, "active"), (5, "sold"), (5, "lost")]
)
async def test_nobody_is_told_of_what_ends_later_has_ended_or_is_no_more(
    stage: Stage, days: int | None, status: str
) -> None:
    ann = await stage.sales.user()
    await stage.own(ann, days, status=status)
    assert await stage.warranties.warn(10) == 0


async def test_another_end_is_told_of_anew(stage: Stage) -> None:
    ann = await stage.sales.user()
    gear_id = await stage.own(ann, 3)
    await stage.warranties.warn(10)
    async with stage.db.transaction() as tx:
        await tx.execute("UPDATE gear SET warranty_expires_on = current_date + 20 WHERE id = $1", gear_id)
    assert await stage.warranties.warn(10) == 1


async def test_processes_that_look_at_once_tell_of_each_once(stage: Stage) -> None:
    owners = [await stage.sales.user() for _ in range(3)]
    for owner in owners:
        for _ in range(10):
            await stage.own(owner, 7)
    counts: list[int] = []

    async def look() -> None:
        while told := await stage.warranties.warn(4):
            counts.append(told)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(look)
    assert sum(counts) == 30
    assert [len(await stage.told(owner)) for owner in owners] == [10, 10, 10]
