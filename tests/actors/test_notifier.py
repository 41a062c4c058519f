"""Passing notifications on to many connections: in order, to whom they are for, and not at the pace of the slowest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.fakes import database_time
from veza.actors.core import Actor
from veza.actors.notifier import (
    BEGIN_SECONDS,
    OF_ONE_USER,
    POLL_SECONDS,
    WAITING,
    Messages,
    Notifier,
    NotifierRef,
    NotifierView,
    Subscribe,
    subscribe,
)
from veza.domain.errors import TooMany
from veza.domain.notifications import Notification, NotificationKind
from veza.store.errors import DatabaseUnavailable
from veza.supervisors import one_for_one, permanent, running

ANN, BOB = UUID(int=1), UUID(int=2)


@dataclass
class FakeRows:
    """``deaf``: nobody is rung for, as when the connection that listens is lost. ``fail``: what each look raises."""

    told: dict[UUID, list[Notification]] = field(default_factory=dict)
    deaf: bool = False
    fail: list[Exception] = field(default_factory=list)
    looks: int = 0
    put_out: set[UUID] = field(default_factory=set)
    ban_fails: list[Exception] = field(default_factory=list)
    bell: trio.Event = field(default_factory=trio.Event)

    def tell(self, user_id: UUID, many: int = 1) -> None:
        for _ in range(many):
            mine = self.told.setdefault(user_id, [])
            number = len(mine) + 1
            identity = UUID(int=user_id.int << 64 | number)
            mine.append(
                Notification(
                    identity, user_id, number, NotificationKind.EXPORT_READY, "Ready", "", {}, database_time(), None
                )
            )
        if not self.deaf:
            self.bell.set()

    async def after(self, had: Mapping[UUID, int], limit: int) -> list[Notification]:
        await trio.lowlevel.checkpoint()
        self.looks += 1
        if self.fail:
            raise self.fail.pop(0)
        return [each for user_id, number in had.items() for each in self.told.get(user_id, [])[number:][:limit]]

    async def banned(self, among: Collection[UUID]) -> set[UUID]:
        await trio.lowlevel.checkpoint()
        if self.ban_fails:
            raise self.ban_fails.pop(0)
        return self.put_out & set(among)

    def ban(self, user_id: UUID) -> None:
        self.put_out.add(user_id)
        if not self.deaf:
            self.bell.set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        yield self._rings()

    async def _rings(self) -> AsyncIterator[None]:
        while True:
            await self.bell.wait()
            self.bell = trio.Event()
            yield


@dataclass
class Hall:
    rows: FakeRows
    ref: NotifierRef

    async def join(self, user_id: UUID, after: int = 0) -> trio.MemoryReceiveChannel[Notification]:
        with trio.fail_after(10):
            return (await subscribe(self.ref, user_id, after)).listen()

    @property
    def view(self) -> NotifierView:
        assert self.ref.snapshot is not None
        return self.ref.snapshot


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    rows = FakeRows()
    child = permanent("notifier", lambda: Notifier(rows))
    async with running(one_for_one("veza", child), clock=database_time, random=Random(1)):
        yield Hall(rows, child.ref)


async def numbers(line: trio.MemoryReceiveChannel[Notification], many: int) -> list[int]:
    with trio.fail_after(100):
        return [(await line.receive()).number for _ in range(many)]


async def test_each_is_told_what_is_theirs_in_every_connection(hall: Hall, autojump_clock: MockClock) -> None:
    lines = [await hall.join(ANN), await hall.join(ANN), await hall.join(BOB)]
    hall.rows.tell(ANN, 3)
    hall.rows.tell(BOB)
    assert [await numbers(line, many) for line, many in zip(lines, (3, 3, 1), strict=True)] == [[1, 2, 3]] * 2 + [[1]]


async def test_who_comes_back_gets_what_was_missed_first(hall: Hall, autojump_clock: MockClock) -> None:
    hall.rows.tell(ANN, 5)
    line = await hall.join(ANN, after=2)
    hall.rows.tell(ANN)
    assert await numbers(line, 4) == [3, 4, 5, 6]


async def test_connections_of_one_user_each_go_on_from_their_own_number(hall: Hall, autojump_clock: MockClock) -> None:
    hall.rows.tell(ANN, 4)
    behind, ahead = await hall.join(ANN, after=1), await hall.join(ANN, after=4)
    hall.rows.tell(ANN)
    assert await numbers(ahead, 1) == [5]
    assert await numbers(behind, 4) == [2, 3, 4, 5]


async def test_one_that_does_not_read_is_closed_and_delays_nobody(hall: Hall, autojump_clock: MockClock) -> None:
    slow, quick = await hall.join(ANN), await hall.join(ANN)
    read: list[int] = []

    async def reading() -> None:
        while True:
            read.append((await quick.receive()).number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reading)
        for _ in range(3):
            hall.rows.tell(ANN, WAITING // 2)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert read == list(range(1, 3 * (WAITING // 2) + 1))
    assert len([each async for each in slow]) == WAITING  # what it had, and then the end
    assert hall.view.too_slow == 1


async def test_more_than_is_read_at_once_comes_all_the_same(hall: Hall, autojump_clock: MockClock) -> None:
    hall.rows.tell(ANN, 3 * WAITING)
    got: list[int] = []
    line = await hall.join(ANN)
    while len(got) < 3 * WAITING:
        try:
            got += await numbers(line, 1)
        except trio.EndOfChannel:  # too slow for so many, as told: come back with what one has
            line = await hall.join(ANN, after=got[-1])
    assert got == list(range(1, 3 * WAITING + 1))


async def test_who_left_is_forgotten(hall: Hall, autojump_clock: MockClock) -> None:
    line = await hall.join(ANN)
    assert (hall.view.connections, hall.view.users) == (1, 1)
    line.close()
    hall.rows.tell(ANN)
    await trio.sleep(1)
    assert (hall.view.connections, hall.view.users) == (0, 0)


async def test_one_user_has_no_more_connections_than_they_may_and_others_are_not_concerned(
    hall: Hall, autojump_clock: MockClock
) -> None:
    lines = [await hall.join(ANN) for _ in range(OF_ONE_USER)]
    with pytest.raises(TooMany):
        await hall.join(ANN)
    await hall.join(BOB)
    lines[0].close()
    await hall.join(ANN)


async def test_a_ring_that_was_lost_costs_a_poll_at_most(hall: Hall, autojump_clock: MockClock) -> None:
    line = await hall.join(ANN)
    hall.rows.deaf = True
    began = trio.current_time()
    hall.rows.tell(ANN)
    await numbers(line, 1)
    assert trio.current_time() - began <= POLL_SECONDS


async def test_a_database_that_is_away_costs_nothing_but_time(hall: Hall, autojump_clock: MockClock) -> None:
    line = await hall.join(ANN)
    hall.rows.fail.append(DatabaseUnavailable("away"))
    hall.rows.tell(ANN)
    assert await numbers(line, 1) == [1]


async def test_nobody_listening_nothing_is_looked_for(hall: Hall, autojump_clock: MockClock) -> None:
    hall.rows.tell(ANN)
    await trio.sleep(60)
    assert hall.rows.looks == 0


async def test_a_crash_ends_every_connection_and_who_comes_back_misses_nothing(
    hall: Hall, autojump_clock: MockClock
) -> None:
    line = await hall.join(ANN)
    hall.rows.fail.append(RuntimeError("planted"))
    hall.rows.tell(ANN)
    with pytest.raises(trio.EndOfChannel):
        await numbers(line, 1)
    assert await numbers(await hall.join(ANN), 1) == [1]


@pytest.mark.parametrize("deaf", [False, True])
async def test_who_is_banned_is_hung_up_on_within_two_seconds_also_where_the_ring_was_lost(
    hall: Hall, deaf: bool, autojump_clock: MockClock
) -> None:
    lines, other = [await hall.join(ANN), await hall.join(ANN)], await hall.join(BOB)
    hall.rows.deaf = deaf
    began = trio.current_time()
    hall.rows.ban(ANN)
    for line in lines:
        with pytest.raises(trio.EndOfChannel):
            await numbers(line, 1)
    assert trio.current_time() - began < 2
    hall.rows.deaf = False
    hall.rows.tell(BOB)
    assert await numbers(other, 1) == [1]
    assert (hall.view.connections, hall.view.hung_up) == (1, 2)


async def test_what_somebody_is_told_of_their_ban_still_comes_through(hall: Hall, autojump_clock: MockClock) -> None:
    line = await hall.join(ANN)
    hall.rows.put_out.add(ANN)
    hall.rows.tell(ANN)
    assert await numbers(line, 1) == [1]
    with pytest.raises(trio.EndOfChannel):
        await numbers(line, 1)


async def test_who_was_banned_while_they_asked_for_a_line_gets_none_that_lasts(
    hall: Hall, autojump_clock: MockClock
) -> None:
    hall.rows.put_out.add(ANN)
    line = await hall.join(ANN)
    began = trio.current_time()
    with pytest.raises(trio.EndOfChannel):
        await numbers(line, 1)
    assert trio.current_time() == began


async def test_a_database_that_is_away_at_a_ban_costs_nothing_but_time(hall: Hall, autojump_clock: MockClock) -> None:
    line = await hall.join(ANN)
    hall.rows.ban_fails.append(DatabaseUnavailable("away"))
    hall.rows.ban(ANN)
    with pytest.raises(trio.EndOfChannel):
        await numbers(line, 1)
    assert hall.rows.ban_fails == []


@pytest.mark.parametrize("where", WHERE)
async def test_the_notifier_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    def notifier() -> Actor[Messages, NotifierView]:
        return Notifier(FakeRows())

    message: Messages = Subscribe(ANN, 0)
    await assert_recovers(where, notifier, message)


async def test_a_line_that_nobody_begins_to_listen_on_is_forgotten(hall: Hall, autojump_clock: MockClock) -> None:
    """A client may hang up between the asking and the listening, where nothing could close its line."""
    with trio.fail_after(10):
        for _ in range(OF_ONE_USER):
            await subscribe(hall.ref, ANN, 0)
        with pytest.raises(TooMany):
            await subscribe(hall.ref, ANN, 0)
    await trio.sleep(BEGIN_SECONDS + 1)
    line = await hall.join(ANN)
    assert hall.view.connections == 1
    hall.rows.tell(ANN)
    assert await numbers(line, 1) == [1]
