"""Writing the audit, over rows in memory and trio's own clock."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from random import Random
from uuid import UUID

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.actors.fakes import LAUNCH, database_time
from veza.actors.audit import (
    AWAY_SECONDS,
    BATCH,
    EVERY_SECONDS,
    LAST_SECONDS,
    MONTHS_AWAY_SECONDS,
    WINDOW_SECONDS,
    AuditKeeper,
    AuditRef,
    AuditView,
    MonthMinder,
    MonthsView,
    Outbox,
)
from veza.actors.core import State
from veza.domain.audit import Entry
from veza.store.audit import Unwritable
from veza.store.errors import DatabaseUnavailable, OutcomeUnknown
from veza.supervisors import Supervisor, one_for_one, permanent, running
from veza.supervisors.control import pause

AWAY = DatabaseUnavailable("away")


def entry(number: int) -> Entry:
    return Entry(UUID(int=number), LAUNCH, None, "auth.login.post", "auth/login", "POST", 200)


@dataclass
class FakeRows:
    """``fail`` are raised one after the other, those of ``after`` once the rows are written all the same."""

    fail: list[Exception] = field(default_factory=list)
    after: list[Exception] = field(default_factory=list)
    away: bool = False
    slow: float = 0.0
    odd: frozenset[UUID] = frozenset()
    written: list[UUID] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0

    async def append(self, entries: Sequence[Entry]) -> None:
        self.at_once += 1
        assert self.at_once == 1, "two batches at once"
        try:
            with trio.CancelScope(shield=True):  # as a transaction is
                await trio.sleep(self.slow)
            self._append(entries)
        finally:
            self.at_once -= 1

    def _append(self, entries: Sequence[Entry]) -> None:
        if self.away:
            raise AWAY
        if self.fail:
            raise self.fail.pop(0)
        if self.odd & {each.id for each in entries}:
            raise Unwritable("DataError")
        self.batches.append(len(entries))
        self.times.append(trio.current_time())
        self.written += [each.id for each in entries if each.id not in self.written]
        if self.after:
            raise self.after.pop(0)


@dataclass
class Stage:
    rows: FakeRows
    outbox: Outbox
    ref: AuditRef
    tree: Supervisor
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def add(self, count: int) -> None:
        for number in itertools.islice(self.numbers, count):
            self.outbox.add(entry(number))

    @property
    def view(self) -> AuditView:
        assert self.ref.snapshot is not None
        return self.ref.snapshot

    def assert_all_written(self, count: int) -> None:
        """Each once, in the order in which they came."""
        assert self.rows.written == [UUID(int=number) for number in range(count)]
        assert self.outbox.waiting == 0


@asynccontextmanager
async def stage(rows: FakeRows | None = None, outbox: Outbox | None = None) -> AsyncIterator[Stage]:
    rows, outbox = rows or FakeRows(), outbox or Outbox()
    child = permanent("keeper", lambda: AuditKeeper(rows, outbox))
    tree = one_for_one("audit", child)
    async with running(tree, clock=database_time, random=Random(1)):
        yield Stage(rows, outbox, child.ref, tree)


async def test_rows_of_one_window_are_one_batch(autojump_clock: MockClock) -> None:
    async with stage() as it:
        await trio.sleep(10)
        begun = trio.current_time()
        it.add(1)
        await trio.sleep(WINDOW_SECONDS / 2)
        it.add(2)
        await trio.sleep(WINDOW_SECONDS)
        assert it.rows.batches == [3]
        assert it.rows.times == pytest.approx([begun + WINDOW_SECONDS])
        assert it.view == AuditView(written=3)
    it.assert_all_written(3)


async def test_a_full_batch_waits_for_no_window_and_what_is_more_comes_next(autojump_clock: MockClock) -> None:
    async with stage() as it:
        begun = trio.current_time()
        it.add(2 * BATCH + 1)
        await trio.sleep(WINDOW_SECONDS * 3)
        assert it.rows.batches == [BATCH, BATCH, 1]
        assert it.rows.times == pytest.approx([begun, begun, begun + WINDOW_SECONDS])
    it.assert_all_written(2 * BATCH + 1)


async def test_what_waits_while_the_database_is_away_is_written_when_it_is_back(autojump_clock: MockClock) -> None:
    async with stage(FakeRows(away=True)) as it:
        for _ in range(60):
            it.add(1)
            await trio.sleep(1)
        assert it.rows.written == []
        assert it.view.store_away
        it.rows.away = False
        await trio.sleep(AWAY_SECONDS + WINDOW_SECONDS)
        assert it.view == AuditView(written=60)
    it.assert_all_written(60)


async def test_a_batch_of_which_it_is_not_known_is_written_again_and_stands_once(autojump_clock: MockClock) -> None:
    async with stage(FakeRows(after=[OutcomeUnknown("no answer")])) as it:
        it.add(5)
        await trio.sleep(5)
        assert len(it.rows.batches) == 2
    it.assert_all_written(5)


async def test_without_a_place_nobody_is_let_in_and_a_place_that_was_given_is_kept(autojump_clock: MockClock) -> None:
    async with stage(FakeRows(away=True), Outbox(places=3)) as it:
        assert [it.outbox.reserve() for _ in range(4)] == [True, True, True, False]
        with structlog.testing.capture_logs() as lines:
            it.add(1)  # of one who was let in all the same
        assert it.outbox.dropped == 1
        assert [line["event"] for line in lines] == ["audit_entry_dropped"]
        for _ in range(3):
            assert it.outbox.full
            it.outbox.release()
            it.add(1)
        assert (it.outbox.waiting, it.outbox.dropped) == (3, 1)
        assert not it.outbox.reserve()
        it.rows.away = False
        await trio.sleep(5)
        assert it.view == AuditView(written=3, dropped=1)
        assert it.outbox.reserve()


async def test_a_row_that_can_t_be_written_is_told_of_and_holds_up_no_other(autojump_clock: MockClock) -> None:
    odd = UUID(int=3)
    async with stage(FakeRows(odd=frozenset({odd}))) as it:
        with structlog.testing.capture_logs() as lines:
            it.add(6)
            await trio.sleep(5)
        assert it.rows.written == [UUID(int=number) for number in (0, 1, 2, 4, 5)]
        assert it.view == AuditView(written=5, dropped=1)
        assert [line["event"] for line in lines] == ["audit_entry_dropped"]


@pytest.mark.parametrize("away", [0.0, LAST_SECONDS / 2], ids=["there", "briefly-away"])
async def test_an_orderly_stop_writes_all_that_is_left(autojump_clock: MockClock, away: float) -> None:
    async with stage(FakeRows(away=True)) as it, trio.open_nursery() as nursery:
        it.add(3 * BATCH)

        async def come_back() -> None:
            await trio.sleep(away)
            it.rows.away = False

        nursery.start_soon(come_back)
        it.tree.retire(trio.current_time() + 6)
        await it.tree.wait("audit", State.STOPPED)
    it.assert_all_written(3 * BATCH)


async def test_a_stop_with_a_batch_in_hand_writes_each_row_once(autojump_clock: MockClock) -> None:
    async with stage(FakeRows(slow=1)) as it:
        it.add(BATCH + 1)
        await trio.sleep(WINDOW_SECONDS)  # the first batch is in hand
    it.assert_all_written(BATCH + 1)


async def test_a_stop_without_the_database_says_what_is_lost_and_does_not_hang(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as lines:
        async with stage(FakeRows(away=True)) as it:
            it.add(7)
            await trio.sleep(1)
            begun = trio.current_time()
        assert trio.current_time() - begun <= LAST_SECONDS + 0.1
    assert [line["count"] for line in lines if line["event"] == "audit_entries_lost"] == [7]


@pytest.mark.parametrize("done", [False, True], ids=["before-the-write", "after-it"])
async def test_a_crash_loses_no_row_and_doubles_none(autojump_clock: MockClock, done: bool) -> None:
    planted: list[Exception] = [RuntimeError("planted"), RuntimeError("planted")]
    rows = FakeRows(after=planted) if done else FakeRows(fail=planted)
    async with stage(rows) as it:
        it.add(5)
        with trio.fail_after(60):
            await it.tree.wait("audit/keeper", State.RUNNING, incarnation=2)
        it.add(2)
        await trio.sleep(30)
        assert it.ref.snapshot is not None
    it.assert_all_written(7)
    assert not planted


async def test_a_paused_keeper_begins_nothing_and_writes_all_at_the_stop(autojump_clock: MockClock) -> None:
    async with stage() as it:
        pause(it.tree, "audit/keeper", 1, because="a look")
        it.add(2)
        await trio.sleep(10)
        assert it.rows.written == []
    it.assert_all_written(2)


# -- months ------------------------------------------------------------------------------------------------------------


@dataclass
class FakeMonths:
    fail: list[Exception] = field(default_factory=list)
    over: list[date] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    async def make_months(self) -> int:
        await trio.lowlevel.checkpoint()
        self.looks.append(trio.current_time())
        if self.fail:
            raise self.fail.pop(0)
        return 0

    async def prune(self, retention_days: int) -> list[date]:
        await trio.lowlevel.checkpoint()
        self.asked.append(retention_days)
        gone, self.over = self.over, []
        return gone


async def test_months_are_minded_at_once_and_then_every_hour(autojump_clock: MockClock) -> None:
    months = FakeMonths(over=[date(2025, 1, 1), date(2025, 2, 1)])
    child = permanent("months", lambda: MonthMinder(months, 400))
    async with running(one_for_one("audit", child), clock=database_time, random=Random(1)):
        await trio.sleep(2 * EVERY_SECONDS + 1)
    assert months.looks == pytest.approx([0, EVERY_SECONDS, 2 * EVERY_SECONDS], abs=0.1)
    assert months.asked == [400] * 3
    assert child.ref.snapshot == MonthsView(looks=3, dropped=2)


async def test_months_are_looked_at_again_soon_after_the_database_was_away(autojump_clock: MockClock) -> None:
    months = FakeMonths(fail=[AWAY, AWAY, RuntimeError("planted")])
    child = permanent("months", lambda: MonthMinder(months, 400))
    tree = one_for_one("audit", child)
    async with running(tree, clock=database_time, random=Random(1)):
        with trio.fail_after(3 * MONTHS_AWAY_SECONDS):
            await tree.wait("audit/months", State.RUNNING, incarnation=2)
        await trio.sleep(1)
    assert len(months.looks) == 4
    assert months.looks[:3] == pytest.approx([0, MONTHS_AWAY_SECONDS, 2 * MONTHS_AWAY_SECONDS], abs=0.1)
    assert replace(child.ref.snapshot or MonthsView(), looks=1) == child.ref.snapshot
