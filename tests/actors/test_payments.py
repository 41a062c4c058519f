"""The payments actor with a store in memory, a scripted provider and a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import pytest
import trio
from structlog.testing import capture_logs

from tests.actors.crash_matrix import WHERE, Once, assert_recovers, plant
from veza.actors.core import ActorCrashed, Ref, State
from veza.actors.payments import (
    ASKED_AT_ONCE,
    AT_ONCE,
    OpenPayment,
    Payments,
    TakeUpDue,
    Till,
    cancel_order,
    open_payment,
    ring,
)
from veza.actors.payments import Messages as PaymentsMessages
from veza.domain.ids import NewId
from veza.domain.payments import (
    LONGEST_PAUSE,
    WATCHED,
    Answer,
    Close,
    Declined,
    DueOrder,
    KeyRefused,
    NoAnswer,
    NoSuchPayment,
    OrderStatus,
    Payment,
    PaymentStatus,
    pause_before_next,
)
from veza.store.errors import DatabaseUnavailable, TryAgain
from veza.store.payments import Claim, Recorded
from veza.supervisors import one_for_one, permanent, running

EVERY = timedelta(seconds=60)
CALL_SECONDS = 20.0
UNOPENED = DueOrder(
    id=UUID(int=1),
    buyer_id=UUID(int=2),
    status=OrderStatus.PENDING,
    total_cents=2999,
    currency="EUR",
    payment_id="pay_1",
    opened=False,
    seconds_left=1800.0,
    asked=0,
)
OPENED = replace(UNOPENED, opened=True)
CREATED, SUCCEEDED = PaymentStatus.REQUIRES_PAYMENT_METHOD, PaymentStatus.SUCCEEDED


def payment(order: DueOrder, status: PaymentStatus) -> Payment:
    return Payment(order.payment_id, status, order.total_cents, order.currency, "secret")


@dataclass
class Row:
    order: DueOrder
    due_at: float | None
    claim: UUID | None = None
    claimed_until: float = 0.0
    paid: int = 0
    note: str | None = None


@dataclass
class MemoryOrders:
    """The queue's rows, on trio's clock. ``fails`` is what the next call raises; ``claim_takes`` seconds."""

    rows: dict[UUID, Row] = field(default_factory=dict)
    fails: Exception | None = None
    claim_takes: float = 0.0
    claims: int = 0

    def put(self, order: DueOrder, due_in: float | None = 0.0) -> Row:
        due_at = None if due_in is None else trio.current_time() + due_in
        self.rows[order.id] = Row(order, due_at)
        return self.rows[order.id]

    def make_due(self, order: DueOrder) -> None:
        self.rows[order.id].due_at = trio.current_time()

    async def claim_due(self, limit: int, claim: Claim, every: timedelta) -> list[DueOrder]:
        await self._answer()
        now = trio.current_time()
        free = [row for row in self.rows.values() if row.due_at is not None and row.due_at <= now >= row.claimed_until]
        return [self._take(row, claim, every) for row in free[:limit]]

    async def claim_pending(self, order_id: UUID, claim: Claim, every: timedelta) -> DueOrder | None:
        await self._answer()
        row = self.rows[order_id]
        pending = row.order.status is OrderStatus.PENDING and row.claimed_until <= trio.current_time()
        return self._take(row, claim, every) if pending else None

    def _take(self, row: Row, claim: Claim, every: timedelta) -> DueOrder:
        now, order = trio.current_time(), row.order
        row.claim, row.claimed_until = claim.id, now + claim.lease.total_seconds()
        row.due_at = now + max(pause_before_next(order.asked, every), claim.lease).total_seconds()
        row.order = replace(order, asked=order.asked + 1)
        self.claims += 1
        return order

    async def _answer(self) -> None:
        await trio.sleep(self.claim_takes)
        if self.fails is not None:
            failure, self.fails = self.fails, None
            raise failure

    async def next_due(self) -> float | None:
        due = [row.due_at for row in self.rows.values() if row.due_at is not None and row.claimed_until <= row.due_at]
        return min(due) - trio.current_time() if due else None

    def _put_back(self, order: DueOrder, claim_id: UUID, **changes: Any) -> tuple[Row, bool]:
        row = self.rows[order.id]
        if row.claim != claim_id:
            return row, False
        row.claim, row.claimed_until = None, 0.0
        row.order = replace(row.order, **changes)
        return row, row.due_at is not None and row.due_at <= trio.current_time()

    async def release(self, order: DueOrder, claim_id: UUID, payment: Payment | None) -> Recorded:
        await self._answer()
        _, due_again = self._put_back(order, claim_id, opened=order.opened or payment is not None)
        return Recorded(due_again=due_again)

    async def close(self, order: DueOrder, claim_id: UUID, payment: Payment | None, close: Close) -> Recorded:
        await self._answer()
        row, due_again = self._put_back(order, claim_id, status=close.status)
        row.due_at = row.due_at if due_again or close.watched else None
        return Recorded(due_again=due_again)

    async def examine(self, order: DueOrder, claim_id: UUID, payment: Payment | None, why: str) -> Recorded:
        await self._answer()
        row, due_again = self._put_back(order, claim_id)
        before, row.note = row.note, why
        return Recorded(due_again=due_again, examine=None if before == why else why)

    async def settle(
        self, order: DueOrder, claim_id: UUID, payment: Payment, *, payout_delay: timedelta, new_id: NewId
    ) -> Recorded:
        await self._answer()
        row, _ = self._put_back(order, claim_id, status=OrderStatus.PAID)
        row.due_at = None
        row.paid += 1
        return Recorded(paid=True)


@dataclass
class ScriptedProvider:
    """Answers from the script in turn, its last entry for all the rest; a status stands for the payment asked about."""

    script: Sequence[Answer | PaymentStatus | Exception]
    takes: float = 0.25
    spread: float = 0.0  # how much longer each takes than the one before, of sixteen
    calls: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    in_hand: int = 0
    most_in_hand: int = 0

    async def open_payment(self, order: DueOrder) -> Answer:
        return await self._answer(f"open {order.payment_id}")

    async def retrieve(self, payment_id: str) -> Answer:
        return await self._answer(f"retrieve {payment_id}")

    async def cancel(self, payment_id: str) -> Answer:
        return await self._answer(f"cancel {payment_id}")

    async def expire(self, payment_id: str) -> Answer:
        return await self._answer(f"expire {payment_id}")

    async def _answer(self, call: str) -> Answer:
        entry = self.script[min(len(self.calls), len(self.script) - 1)]
        self.calls.append(call)
        self.at.append(trio.current_time())
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        try:
            await trio.sleep(self.takes + self.spread * (len(self.calls) % 16))
        finally:
            self.in_hand -= 1
        if isinstance(entry, Exception):
            raise entry
        if isinstance(entry, PaymentStatus):
            return Payment(call.split()[1], entry, 2999, "EUR", "secret")
        return entry


def ids() -> NewId:
    numbers = count(1000)
    return lambda: UUID(int=next(numbers))


@dataclass
class Desk:
    orders: MemoryOrders
    provider: ScriptedProvider
    rings: list[float] = field(default_factory=list)

    def actor(self) -> Payments:
        return Payments(
            self.orders,
            self.provider,
            new_id=ids(),
            ring_refunds=lambda: None,
            ring_payouts=lambda: self.rings.append(trio.current_time()),
            every=EVERY,
            call_seconds=CALL_SECONDS,
            payout_delay=timedelta(0),
        )

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():  # noqa: ASYNC110 - on a clock that jumps
            await trio.sleep(0.01)


def desk(*script: Answer | PaymentStatus | Exception, takes: float = 0.25) -> Desk:
    return Desk(MemoryOrders(), ScriptedProvider(script, takes))


@asynccontextmanager
async def at_work(it: Desk, within: float = 24 * 3600) -> AsyncIterator[Ref[PaymentsMessages, Till]]:
    child = permanent("payments", it.actor)
    tree = one_for_one("veza", child)
    with trio.fail_after(within):
        async with running(tree, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), random=Random(1)):
            await tree.wait("veza/payments", State.RUNNING)
            yield child.ref


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


# -- what is due -------------------------------------------------------------------------------------------------------


async def test_an_order_that_is_due_at_the_start_is_synced_and_settled(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it):
        await it.until(lambda: row.paid)
    assert it.provider.calls == ["retrieve pay_1"]
    assert len(it.rings) == 1, "the payouts are rung"


async def test_an_order_whose_payment_was_never_opened_is_opened(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(CREATED)
    row = it.orders.put(UNOPENED)
    async with at_work(it):
        await it.until(lambda: row.order.opened)
    assert it.provider.calls == ["open pay_1"]


async def test_a_ring_brings_an_order_up_at_once(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(SUCCEEDED)
    row = it.orders.put(OPENED, due_in=None)
    async with at_work(it) as ref:
        await trio.sleep(5)
        it.orders.make_due(OPENED)
        rung_at = trio.current_time()
        ring(ref)
        await it.until(lambda: row.paid)
        assert it.provider.at == [rung_at]


async def test_an_order_made_due_without_a_ring_waits_a_round_and_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(SUCCEEDED)
    row = it.orders.put(OPENED, due_in=None)
    async with at_work(it):
        await trio.sleep(5)
        it.orders.make_due(OPENED)
        due_at = trio.current_time()
        await it.until(lambda: row.paid)
    assert it.provider.at[0] - due_at <= EVERY.total_seconds()


async def test_an_order_nobody_pays_is_asked_about_a_few_times_a_day(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(CREATED)
    it.orders.put(OPENED)
    async with at_work(it):
        await trio.sleep(12 * 3600)
    assert 10 < len(it.provider.calls) < 20
    assert it.orders.claims == len(it.provider.calls)


async def test_no_more_calls_are_in_hand_than_the_limit_and_all_of_them_are_made(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(SUCCEEDED)
    rows = [it.orders.put(replace(OPENED, id=UUID(int=number), payment_id=f"pay_{number}")) for number in range(100)]
    async with at_work(it):
        began = trio.current_time()
        await it.until(lambda: all(row.paid for row in rows))
        took = trio.current_time() - began
    assert it.provider.most_in_hand == AT_ONCE
    assert [row.paid for row in rows] == [1] * 100
    assert took <= 0.25 * 100 / AT_ONCE * 1.2, "a free place is filled at once"


async def test_an_event_during_a_sync_brings_another_one_right_after_it(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(PaymentStatus.PROCESSING, SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it):
        await it.until(lambda: it.provider.in_hand)
        it.orders.make_due(OPENED)  # as the event's own transaction does; its ring finds the order in hand
        await it.until(lambda: row.paid)
    assert it.provider.at[1] - it.provider.at[0] == pytest.approx(it.provider.takes, abs=0.001)


async def test_money_that_does_not_fit_is_shown_to_an_operator_once_however_often_it_is_asked_about(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    it = desk(Payment("pay_1", SUCCEEDED, 1, "EUR", None))
    row = it.orders.put(OPENED)
    async with at_work(it) as ref:
        await trio.sleep(3600)
        assert ref.snapshot == Till(in_hand=0, provider="answers", to_examine=1)
    assert row.note == "captured 1 EUR for an order of 2999 EUR"
    assert row.paid == 0
    assert it.rings == []
    assert [line["log_level"] for line in logged if line["event"] == "payment_to_examine"] == ["error"]
    assert len(it.provider.calls) > 1


async def test_a_failed_payment_closes_its_order_which_is_told_once(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    it = desk(PaymentStatus.FAILED)
    row = it.orders.put(OPENED)
    async with at_work(it):
        await trio.sleep(3600)
    assert row.order.status is OrderStatus.FAILED
    assert len([line for line in logged if line["event"] == "order_closed"]) == 1


async def test_an_order_nobody_paid_in_time_expires_and_its_payment_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(PaymentStatus.CANCELLED)
    row = it.orders.put(replace(OPENED, seconds_left=0.0))
    async with at_work(it):
        await trio.sleep(3600)
    assert row.order.status is OrderStatus.EXPIRED
    assert it.provider.calls == ["expire pay_1"]


@pytest.mark.parametrize(("answer", "shown"), [(NoAnswer("down"), "silent"), (KeyRefused("HTTP 401"), "refuses_key")])
async def test_a_provider_that_is_down_delays_an_order_and_is_shown(
    answer: Answer, shown: str, autojump_clock: trio.testing.MockClock
) -> None:
    it = desk(answer, answer, answer, SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it) as ref:
        await it.until(lambda: len(it.provider.calls) == 2 and not it.provider.in_hand)
        assert ref.snapshot is not None
        assert ref.snapshot.provider == shown
        await it.until(lambda: row.paid)
        assert ref.snapshot.provider == "answers"


async def test_a_database_that_is_away_for_a_moment_crashes_nothing(
    autojump_clock: trio.testing.MockClock, logged: list[Any]
) -> None:
    it = desk(SUCCEEDED)
    it.orders.fails = DatabaseUnavailable("gone")
    row = it.orders.put(OPENED)
    async with at_work(it):
        await it.until(lambda: row.paid)
    assert "payments_store_failed" in [line["event"] for line in logged]
    assert len(it.provider.calls) == 1


async def test_a_record_that_is_lost_is_made_up_for_after_the_lease(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it):
        await it.until(lambda: it.provider.in_hand)
        it.orders.fails = DatabaseUnavailable("gone")
        await it.until(lambda: row.paid)
    assert len(it.provider.calls) == 2


async def test_nothing_is_called_out_for_when_the_lease_may_end_before_the_record(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(SUCCEEDED)
    row = it.orders.put(OPENED)
    it.orders.claim_takes = 16  # as long as a process that was stopped meanwhile
    async with at_work(it):
        await trio.sleep(17)
        assert it.orders.claims == 1
        assert it.provider.calls == []
        it.orders.claim_takes = 0
        await it.until(lambda: row.paid)


async def test_an_order_that_crashes_the_actor_slows_down_itself_and_not_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(RuntimeError("poison"), SUCCEEDED)
    poisoned = it.orders.put(OPENED)
    async with at_work(it) as ref:
        await it.until(lambda: it.provider.calls and not it.provider.in_hand)
        healthy = it.orders.put(replace(OPENED, id=UUID(int=7), payment_id="pay_7"))
        ring(ref)
        await it.until(lambda: healthy.paid)
        assert poisoned.paid == 0
        await it.until(lambda: poisoned.paid)
    assert it.provider.at[-1] - it.provider.at[0] >= EVERY.total_seconds()


# -- a buyer waits -----------------------------------------------------------------------------------------------------


async def test_a_buyer_gets_the_payment_that_was_opened_for_them(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(CREATED)
    row = it.orders.put(UNOPENED, due_in=40)
    async with at_work(it) as ref:
        assert await open_payment(ref, UNOPENED.id) == payment(UNOPENED, CREATED)
    assert row.order.opened
    assert it.provider.calls == ["open pay_1"]


@pytest.mark.parametrize("answer", [NoAnswer("down"), KeyRefused("HTTP 401"), Declined("IR_05", "no")])
async def test_a_buyer_is_told_when_nothing_came_of_it(answer: Answer, autojump_clock: trio.testing.MockClock) -> None:
    it = desk(answer)
    row = it.orders.put(UNOPENED, due_in=40)
    async with at_work(it) as ref:
        assert await open_payment(ref, UNOPENED.id) is None
    assert not row.order.opened
    assert row.order.status is (OrderStatus.FAILED if isinstance(answer, Declined) else OrderStatus.PENDING)


async def test_a_buyer_who_hangs_up_cuts_nothing(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(CREATED)
    row = it.orders.put(UNOPENED, due_in=40)
    async with at_work(it) as ref:
        with trio.move_on_after(10) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_payment, ref, UNOPENED.id)
                await it.until(lambda: it.provider.in_hand)
                nursery.cancel_scope.cancel()
        assert not patience.cancelled_caught
        await it.until(lambda: row.order.opened)
    assert it.provider.calls == ["open pay_1"]


async def test_a_second_request_for_the_same_order_makes_no_second_call(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(CREATED)
    it.orders.put(UNOPENED, due_in=40)
    answers: list[Payment | None] = []

    async def ask(ref: Ref[PaymentsMessages, Till]) -> None:
        answers.append(await open_payment(ref, UNOPENED.id))

    async with at_work(it) as ref, trio.open_nursery() as nursery:
        nursery.start_soon(ask, ref)
        nursery.start_soon(ask, ref)
    assert sorted(answer is None for answer in answers) == [False, True]
    assert len(it.provider.calls) == 1


async def test_buyers_do_not_queue_behind_the_reconciler_and_too_many_are_sent_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(CREATED, takes=10)
    orders = [replace(UNOPENED, id=UUID(int=number), payment_id=f"pay_{number}") for number in range(200)]
    for number, order in enumerate(orders):
        it.orders.put(order, due_in=0 if number < 100 else 4000)
    answers: list[Payment | None] = []

    async def ask(ref: Ref[PaymentsMessages, Till], order: DueOrder) -> None:
        answers.append(await open_payment(ref, order.id))

    async with at_work(it) as ref:
        await it.until(lambda: it.provider.in_hand == AT_ONCE)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for order in orders[100:]:
                nursery.start_soon(ask, ref, order)
                await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)
    assert sum(answer is not None for answer in answers) == ASKED_AT_ONCE


async def test_a_crash_while_a_buyer_waits_is_their_answer(autojump_clock: trio.testing.MockClock) -> None:
    it = desk(RuntimeError("poison"), CREATED)
    row = it.orders.put(UNOPENED, due_in=40)
    async with at_work(it) as ref:
        with pytest.raises(ActorCrashed):
            await open_payment(ref, UNOPENED.id)
        await it.until(lambda: row.order.opened)
    assert it.provider.calls == ["open pay_1", "open pay_1"]


@pytest.mark.parametrize(
    ("order", "answer", "status"),
    [
        (OPENED, PaymentStatus.CANCELLED, OrderStatus.CANCELLED),
        (UNOPENED, NoSuchPayment(), OrderStatus.CANCELLED),
        (OPENED, SUCCEEDED, OrderStatus.PAID),
        (OPENED, NoAnswer("down"), OrderStatus.PENDING),
    ],
)
async def test_cancelling_ends_an_order_as_its_payment_ended(
    order: DueOrder, answer: Answer | PaymentStatus, status: OrderStatus, autojump_clock: trio.testing.MockClock
) -> None:
    it = desk(answer)
    row = it.orders.put(order, due_in=4000)
    async with at_work(it) as ref:
        await cancel_order(ref, order.id)
        assert row.order.status is status
    assert it.provider.calls == ["cancel pay_1"]


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("message", [TakeUpDue(), OpenPayment(UNOPENED.id)], ids=["doorbell", "ask"])
async def test_the_payments_actor_recovers_from_a_crash(
    where: str, message: PaymentsMessages, autojump_clock: trio.testing.MockClock
) -> None:
    it = desk(CREATED)
    it.orders.put(UNOPENED, due_in=4000)
    await assert_recovers(where, it.actor, message)


@pytest.mark.parametrize("where", WHERE)
async def test_a_crash_anywhere_loses_no_order_and_pays_none_twice(
    where: str, autojump_clock: trio.testing.MockClock
) -> None:
    it, crash = desk(SUCCEEDED), Once(where)
    row = it.orders.put(OPENED, due_in=1)
    child = permanent("payments", lambda: plant(it.actor(), crash, []))
    with trio.fail_after(3600):
        async with running(
            one_for_one("veza", child), clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), random=Random(1)
        ):
            ring(child.ref)
            await it.until(lambda: it.provider.in_hand)  # at stop it is cut off midway
            if where != "stop":
                await it.until(lambda: row.paid)
        assert crash.done
        async with at_work(it):  # the next process
            await it.until(lambda: row.paid)
            await trio.sleep(3 * LONGEST_PAUSE.total_seconds() / 4)
    assert row.paid == 1
    assert len(it.rings) == 1


# -- what must not be forgotten ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim_takes", [0.0, 0.01, 0.1])
async def test_however_many_are_due_at_once_all_are_settled_without_a_ring(
    autojump_clock: trio.testing.MockClock, claim_takes: float
) -> None:
    it = desk(SUCCEEDED)
    rows = [it.orders.put(replace(OPENED, id=UUID(int=number), payment_id=f"pay_{number}")) for number in range(60)]
    it.orders.claim_takes = claim_takes
    it.provider.spread = 0.01
    async with at_work(it, within=30):  # half of the pause after which it would look by itself
        await it.until(lambda: all(row.paid for row in rows))


async def test_an_order_whose_payment_failed_is_asked_about_for_a_day_in_case_its_buyer_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(PaymentStatus.FAILED, PaymentStatus.FAILED, SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it, within=3600):
        await it.until(lambda: row.paid)
    given_up = desk(PaymentStatus.FAILED)
    old = given_up.orders.put(replace(OPENED, seconds_left=-WATCHED.total_seconds()))
    async with at_work(given_up):
        await given_up.until(lambda: old.order.status is OrderStatus.FAILED)
    assert old.due_at is None


async def test_an_order_whose_payment_was_not_found_is_asked_about_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(NoSuchPayment(), SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it, within=3600):
        await it.until(lambda: row.note)
        await it.until(lambda: row.paid)


async def test_a_recording_that_another_stood_in_the_way_of_is_done_again_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    it = desk(SUCCEEDED)
    row = it.orders.put(OPENED)
    async with at_work(it, within=10):
        await it.until(lambda: it.provider.calls)
        it.orders.fails = TryAgain("deadlock")
        await it.until(lambda: row.paid)
