"""Paying out, switched off and on again: nothing is asked for meanwhile, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.fakes import LAUNCH, FakeStore, FakeStripe, new_transfer
from tests.actors.test_payouts import LEASES, NO_ANSWER, ONE, POLICY
from veza.actors import payouts, queue
from veza.actors.payouts import Payer, PayoutsRef
from veza.actors.queue import AT_ONCE, POLL_SECONDS
from veza.domain.audit import By
from veza.domain.errors import Forbidden
from veza.domain.flags import ALL_ON, Flag, Flags
from veza.domain.payouts import HoldReason, TransferStatus
from veza.supervisors import one_for_one, permanent, running

COMPLETED = TransferStatus.COMPLETED
OFF = Flags(off=frozenset({Flag.PAYOUTS}))


@dataclass
class Till:
    """A worker, and the switch: as the rows have it (``store``) and as its process was told (``flags``)."""

    store: FakeStore
    stripe: FakeStripe = field(default_factory=FakeStripe)
    flags: Flags = ALL_ON

    def switch(self, *, on: bool) -> None:
        self.store.switched_on = on
        self.flags = ALL_ON if on else OFF
        queue.ring(self.ref)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[PayoutsRef]:
        def payer() -> Payer:
            return Payer(self.store, self.stripe, POLICY, LEASES, Random(7), flags=lambda: self.flags)

        child = permanent("payouts", payer)
        self.ref = child.ref
        with trio.fail_after(30 * 86400):
            async with running(one_for_one("money", child), clock=lambda: LAUNCH, random=Random(1)):
                yield child.ref

    def held(self) -> list[UUID]:
        return [each.id for each in self.store.rows.values() if each.hold_reason is HoldReason.FLAG]


async def test_what_is_due_is_held_and_paid_at_once_when_it_is_on_again(autojump_clock: MockClock) -> None:
    till = Till(FakeStore.of(new_transfer(number) for number in (1, 2)))
    till.store.switched_on, till.flags = False, OFF
    async with till.working():
        await trio.sleep(86400)
        assert len(till.held()) == 2
        assert till.stripe.asked == []
        on_at = trio.current_time()
        till.switch(on=True)
        await till.store.until_all(COMPLETED)
        assert trio.current_time() - on_at < 1
    assert len(till.stripe.asked) == 2


async def test_what_falls_due_meanwhile_is_held_when_it_does(autojump_clock: MockClock) -> None:
    later = LAUNCH + timedelta(seconds=100)
    till = Till(FakeStore.of([new_transfer(1, next_retry_at=later)]))
    async with till.working():
        await wait_all_tasks_blocked()
        till.switch(on=False)
        await trio.sleep(99)
        assert till.held() == []
        await trio.sleep(1 + POLL_SECONDS)
        assert till.held() == [ONE]
    assert till.stripe.asked == []


async def test_what_was_claimed_and_not_asked_for_yet_is_given_back(autojump_clock: MockClock) -> None:
    till = Till(FakeStore.of(new_transfer(number) for number in range(1, 3 * AT_ONCE + 1)), FakeStripe(seconds=5))
    async with till.working():
        await trio.sleep(1)
        assert len(till.stripe.asked) == AT_ONCE
        till.switch(on=False)
        await trio.sleep(60)
        assert len(till.stripe.asked) == AT_ONCE
        assert len(till.held()) == 2 * AT_ONCE
        assert all(till.store.rows[each].attempts == 0 for each in till.held())
        till.switch(on=True)
        await till.store.until_all(COMPLETED)
    assert len(till.stripe.asked) == 3 * AT_ONCE


async def test_a_call_that_is_out_is_recorded_all_the_same(autojump_clock: MockClock) -> None:
    till = Till(FakeStore.of([new_transfer(1)]), FakeStripe(seconds=5))
    async with till.working():
        await trio.sleep(1)
        till.switch(on=False)
        await till.store.until_all(COMPLETED)


async def test_a_retry_goes_on_under_its_key_when_it_is_on_again(autojump_clock: MockClock) -> None:
    till = Till(FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [NO_ANSWER]}))
    async with till.working():
        await trio.sleep(1)
        till.switch(on=False)
        await trio.sleep(86400)
        assert till.held() == [ONE]
        till.switch(on=True)
        await till.store.until_all(COMPLETED)
    # A day later the provider may have forgotten the key: what there is is looked for before it is used again.
    assert till.stripe.steps(ONE)[:2] == [("transfer", 0), ("look", 0)]


@pytest.mark.parametrize("why", [each for each in HoldReason if each is not HoldReason.FLAG])
async def test_what_is_held_for_another_reason_stays_so(why: HoldReason, autojump_clock: MockClock) -> None:
    probe = LAUNCH if why is HoldReason.AWAITING_FUNDS else None
    kept = new_transfer(1, status=TransferStatus.HELD, hold_reason=why, next_retry_at=probe)
    till = Till(FakeStore.of([kept]))
    till.store.switched_on, till.flags = False, OFF
    till.store.banned = {kept.seller_id} if why is HoldReason.BANNED else set()
    async with till.working():
        await trio.sleep(600)
        assert till.store.rows[ONE] == kept
        assert till.stripe.asked == []


async def test_an_admins_try_is_refused_meanwhile(autojump_clock: MockClock) -> None:
    till = Till(FakeStore.of([new_transfer(1, status=TransferStatus.FAILED, next_retry_at=None)]))
    till.store.switched_on, till.flags = False, OFF
    async with till.working() as ref:
        with pytest.raises(Forbidden) as refused:
            await payouts.retry(ref, ONE, By(UUID(int=9)))
        assert refused.value.code == "feature_disabled"
        till.switch(on=True)
        assert (await payouts.retry(ref, ONE, By(UUID(int=9)))).status is COMPLETED


async def test_who_was_not_told_yet_claims_nothing_and_holds_nothing(autojump_clock: MockClock) -> None:
    till = Till(FakeStore.of([new_transfer(1)]))
    till.store.switched_on = False  # by another process, of which this one has not heard
    async with till.working():
        await trio.sleep(600)
        assert (till.held(), till.stripe.asked) == ([], [])
        till.flags, till.store.switched_on = OFF, True  # now it has, and is late again
        await trio.sleep(600)
        assert (till.held(), till.stripe.asked) == ([], [])
        till.switch(on=True)
        await till.store.until_all(COMPLETED)


async def test_what_is_held_when_a_process_starts_is_released_if_it_is_on(autojump_clock: MockClock) -> None:
    held = new_transfer(1, status=TransferStatus.HELD, hold_reason=HoldReason.FLAG, next_retry_at=None)
    till = Till(FakeStore.of([held]))
    async with till.working():
        await till.store.until_all(COMPLETED)
        assert trio.current_time() < POLL_SECONDS


async def test_it_looks_seldom_while_it_is_off(autojump_clock: MockClock) -> None:
    probed = new_transfer(1, status=TransferStatus.HELD, hold_reason=HoldReason.AWAITING_FUNDS)
    till = Till(FakeStore.of([probed]))
    looks = 0
    sound = till.store.hold_switched_off

    async def counted(limit: int, *, retries: bool) -> int:
        nonlocal looks
        looks += 1
        return await sound(limit, retries=retries)

    vars(till.store)["hold_switched_off"] = counted
    till.store.switched_on, till.flags = False, OFF
    async with till.working():
        await trio.sleep(10 * POLL_SECONDS)
    assert looks <= 11
