"""The disputes worker over a store and a provider in memory: what it asks, what it tells, and what a crash costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tests.actors.fakes import LAUNCH, Bug, database_time
from tests.actors.queue_fakes import Oracle, Rows
from veza.actors.disputes import Disputer
from veza.actors.queue import BellRef, Leases, Progress
from veza.domain.disputes import (
    LOOKS,
    Become,
    DisputeClaim,
    DisputeDecision,
    DisputeOutcome,
    DisputeState,
    NoSuchDispute,
    Seen,
)
from veza.domain.payments import KeyRefused, NoAnswer
from veza.domain.refund_attempts import AskAgain
from veza.store.disputes import Recorded
from veza.supervisors import one_for_one, permanent, running

ONE = UUID(int=1)
OPENED, WON = Seen("dispute_opened", 2999, "EUR"), Seen("dispute_won", 2999, "EUR")


@dataclass
class FakeDisputes(Rows[DisputeClaim]):
    asked: dict[UUID, int] = field(default_factory=dict)

    def _claim(self, row_id: UUID, claim_id: UUID) -> DisputeClaim:
        self.asked[row_id] = self.asked.get(row_id, 0) + 1
        dispute = f"dp_{row_id.int}"
        about = (UUID(int=1000), "pay_1", "EUR", DisputeState.UNKNOWN)
        return DisputeClaim(claim_id, dispute, *about, self.asked[row_id], database_time())

    async def record(self, claim: DisputeClaim, decision: DisputeDecision) -> Recorded | None:
        row_id = UUID(int=int(claim.dispute_id.removeprefix("dp_")))
        pause = decision.pause if isinstance(decision, Become | AskAgain) else None
        due = None if pause is None else database_time() + pause
        if not await self._record(row_id, claim.id, due, decision):
            return None
        return Recorded(claim.dispute_id, claim.order_id)


class FakeBank(Oracle[DisputeOutcome]):
    async def dispute(self, claim: DisputeClaim) -> DisputeOutcome:
        return await self.answer("look", UUID(int=int(claim.dispute_id.removeprefix("dp_"))), claim.asked, WON)


def due(many: int = 1) -> FakeDisputes:
    return FakeDisputes({UUID(int=number): LAUNCH for number in range(1, many + 1)})


@asynccontextmanager
async def working(
    store: FakeDisputes, bank: FakeBank, rung: Callable[[], object] = lambda: None
) -> AsyncIterator[BellRef]:
    child = permanent("disputes", lambda: Disputer(store, bank, Leases(), rung))
    with trio.fail_after(30 * 86400):
        async with running(one_for_one("money", child), clock=database_time, random=Random(1)):
            yield child.ref


async def test_an_open_dispute_is_asked_about_until_it_is_decided_and_then_the_sellers_side_is_told(
    autojump_clock: MockClock,
) -> None:
    store, bank, rung = due(), FakeBank({ONE: [OPENED, OPENED]}), list[float]()
    async with working(store, bank, lambda: rung.append(trio.current_time())) as ref:
        await store.until_ended(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert ref.snapshot == Progress(done=1, held=2)
    assert store.ended == {ONE: Become(DisputeState.WON, "dispute_won", 2999, None)}
    first, second, third = bank.times(ONE)
    assert second - first == pytest.approx(60, abs=1)
    assert third - second == pytest.approx(120, abs=1)
    assert len(rung) == 1


async def test_one_that_never_turns_up_is_forgotten(autojump_clock: MockClock) -> None:
    store, bank = due(), FakeBank({ONE: [NoSuchDispute()] * LOOKS})
    async with working(store, bank) as ref:
        await store.until_ended(ONE)
        await trio.sleep(4 * 3600)
        assert ref.snapshot == Progress(given_up=1, retried=LOOKS - 1)
    assert len(bank.asked) == LOOKS


async def test_a_refused_key_stops_the_claiming_and_no_answer_does_not(autojump_clock: MockClock) -> None:
    store, bank = due(2), FakeBank({ONE: [NoAnswer("timeout"), KeyRefused("401"), OPENED]})
    async with working(store, bank) as ref:
        await store.until(lambda: store.asked[ONE] == 2 and ref.snapshot and ref.snapshot.stopped_because)
        await store.until_ended(ONE)
        assert ref.snapshot is not None
        assert ref.snapshot.stopped_because is None


async def test_a_look_that_crashes_is_taken_again_once_its_claim_has_lapsed(autojump_clock: MockClock) -> None:
    store, bank = due(), FakeBank({ONE: [Bug]})
    async with working(store, bank):
        await store.until_ended(ONE)
    first, second = bank.times(ONE)
    assert second - first >= timedelta(seconds=Leases().claim).total_seconds()
