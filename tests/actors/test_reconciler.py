"""The reconciler over rows and a provider in memory: once a day, whatever is away, and whenever an admin asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, Once, assert_recovers, plant
from tests.actors.fakes import database_time
from veza.actors.core import Actor
from veza.actors.reconciler import EVERY, LEASE, Reconcile, Reconciler, ReconcilerView, reconcile
from veza.domain.audit import By
from veza.domain.errors import Unavailable
from veza.domain.ledger import Finding, Reconciliation
from veza.store.errors import DatabaseUnavailable
from veza.store.ledger import Lister
from veza.supervisors import one_for_one, permanent, running
from veza.supervisors.child import Child

DAY = EVERY.total_seconds()
ADMIN = By(UUID(int=1))
WRONG = Finding("6: transfers agree with the provider's", "tr_1", "the provider sent 2699 EUR", "not_booked")


@dataclass
class FakeRows:
    """What is due by trio's clock, and what was recorded. ``script``: what each look raises or finds, then nothing."""

    due_at: float = 0.0
    script: list[Exception | list[Finding]] = field(default_factory=list)
    away: int = 0
    ran_at: list[float] = field(default_factory=list)
    by: list[By | None] = field(default_factory=list)
    looking: int = 0
    most_looking: int = 0

    async def take(self, lease: timedelta) -> bool:
        await self._turn()
        if self.due_at > trio.current_time():
            return False
        self.due_at = trio.current_time() + lease.total_seconds()
        return True

    async def next_due_in(self) -> float:
        await self._turn()
        return self.due_at - trio.current_time()

    async def verify(self, provider: Lister | None) -> list[Finding]:
        self.looking += 1
        self.most_looking = max(self.most_looking, self.looking)
        try:
            await trio.sleep(1)
        finally:
            self.looking -= 1
        found = self.script.pop(0) if self.script else []
        if isinstance(found, Exception):
            raise found
        return found

    async def record(
        self, findings: list[Finding], *, provider_asked: bool, next_in: timedelta, by: By | None
    ) -> Reconciliation:
        await self._turn()
        self.ran_at.append(trio.current_time())
        self.by.append(by)
        self.due_at = trio.current_time() + next_in.total_seconds()
        return Reconciliation(UUID(int=len(self.ran_at)), database_time(), provider_asked, tuple(findings))

    async def _turn(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("away")


@asynccontextmanager
async def at_work(rows: FakeRows, within: float = 10 * DAY) -> AsyncIterator[Child[Reconcile, ReconcilerView]]:
    child = permanent("reconciler", lambda: Reconciler(rows, None))
    with trio.fail_after(within):
        async with running(one_for_one("veza", child), clock=database_time, random=Random(1)):
            yield child


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - on a clock that jumps
        await trio.sleep(1)


async def test_it_reconciles_when_it_is_due_and_every_day_after(autojump_clock: MockClock) -> None:
    rows = FakeRows(due_at=trio.current_time() + 3600)
    began = trio.current_time()
    async with at_work(rows) as child:
        await until(lambda: len(rows.ran_at) == 3)
        assert child.ref.snapshot is not None
        assert (child.ref.snapshot.findings, child.ref.snapshot.unreachable) == (0, 0)
    first, second, third = (at - began for at in rows.ran_at)
    assert 3600 < first < 3610
    assert [second - first, third - second] == pytest.approx([DAY, DAY], abs=10)
    assert rows.by == [None] * 3


async def test_what_it_finds_is_said_loudly_and_shown(autojump_clock: MockClock) -> None:
    rows = FakeRows(script=[[WRONG]])
    with capture_logs() as lines:
        async with at_work(rows) as child:
            await until(lambda: rows.ran_at)
            await trio.sleep(1)
            assert child.ref.snapshot is not None
            assert child.ref.snapshot.findings == 1
    said: list[Any] = [line for line in lines if line["event"] == "books_differ"]
    assert [(line["log_level"], line["code"], line["subject"]) for line in said] == [("error", "not_booked", "tr_1")]


async def test_a_provider_that_is_away_is_asked_again_when_the_lease_is_over(autojump_clock: MockClock) -> None:
    rows = FakeRows(script=[Unavailable("away"), Unavailable("away")])
    began = trio.current_time()
    async with at_work(rows) as child:
        await until(lambda: rows.ran_at)
        assert child.ref.snapshot is not None
        assert child.ref.snapshot.unreachable == 2
        assert child.last_crash is None
    assert rows.ran_at[0] - began == pytest.approx(2 * LEASE.total_seconds(), abs=10)


async def test_a_database_that_is_away_for_a_moment_crashes_nothing(autojump_clock: MockClock) -> None:
    rows = FakeRows(away=3)
    async with at_work(rows, within=3600) as child:
        await until(lambda: rows.ran_at)
        assert child.last_crash is None


async def test_an_admin_has_it_done_at_once_and_the_day_begins_anew(autojump_clock: MockClock) -> None:
    rows = FakeRows(due_at=trio.current_time() + 3600)
    async with at_work(rows) as child:
        with trio.fail_after(10):
            done = await reconcile(child.ref, ADMIN)
        assert done.balanced
        assert rows.by == [ADMIN]
        assert rows.due_at == pytest.approx(trio.current_time() + DAY, abs=10)


async def test_an_admin_is_told_when_it_can_not_be_done(autojump_clock: MockClock) -> None:
    rows = FakeRows(due_at=trio.current_time() + 3600, script=[Unavailable("away")])
    async with at_work(rows) as child:
        with trio.fail_after(10):
            with pytest.raises(Unavailable):
                await reconcile(child.ref, ADMIN)
            rows.away = 1
            with pytest.raises(Unavailable):
                await reconcile(child.ref, ADMIN)
    assert rows.ran_at == []


async def test_however_many_ask_the_provider_is_asked_once_at_a_time(autojump_clock: MockClock) -> None:
    rows = FakeRows()
    async with at_work(rows) as child:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(reconcile, child.ref, ADMIN)
    assert rows.most_looking == 1
    assert len(rows.ran_at) == 4  # the one that was due among them


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
async def test_the_reconciler_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    await assert_recovers(where, lambda: Reconciler(FakeRows(), None), Reconcile(ADMIN))


@pytest.mark.parametrize("where", WHERE)
async def test_a_crash_anywhere_loses_no_days_reconciliation(where: str, autojump_clock: MockClock) -> None:
    rows, planted = FakeRows(), Once(where)

    def crashing() -> Actor[Reconcile, ReconcilerView]:
        return plant(Reconciler(rows, None), planted, [])

    for _ in range(2):  # the second run is after a stop that may have crashed
        child = permanent("reconciler", crashing)
        with trio.fail_after(2 * DAY):
            async with running(one_for_one("veza", child), clock=database_time, random=Random(1)):
                ran = len(rows.ran_at)
                rows.due_at = trio.current_time()
                while len(rows.ran_at) == ran:  # noqa: ASYNC110 - on a clock that jumps
                    await trio.sleep(1)
