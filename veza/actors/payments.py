"""Taking payment: has due orders' payments opened or asks what became of them, and settles what was paid.

It is also the reconciler: an order whose request died, or whose webhook never came, becomes due by itself. The rows are
the queue and messages only ring. One order in hand is one call and one record, under a claim that outlasts both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, Protocol
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Ask, Coalesce, Later, Mailbox, Ref, Tell
from veza.domain.ids import NewId
from veza.domain.payments import (
    Answer,
    Close,
    DueOrder,
    Examine,
    Expire,
    KeyRefused,
    Look,
    NoAnswer,
    Open,
    OrderStatus,
    Payment,
    Settle,
    Verdict,
    Wait,
    after_answer,
    after_cancel,
    next_step,
)
from veza.store.errors import StoreError, TryAgain
from veza.store.payments import Claim, Recorded

log = structlog.get_logger()

AT_ONCE: Final = 16  # at a provider's usual quarter of a second 64 orders a second, far above any shop's rush
ASKED_AT_ONCE: Final = 64  # a buyer waits for each: not behind the reconciler's, and half of what the edge lets in
RECORD_SECONDS: Final = 15.0  # a connection's turn and a write at their limits (store/bridge.py)
SLACK_SECONDS: Final = 15.0  # between taking an order and calling out for it: the claim is itself such a write
RECORD_TRIES: Final = 3  # two sales of the same things may deadlock; a third time in a row is something else
STORE_SECONDS: Final = 1.0  # a database that went away is back within seconds, or an operator is needed anyway
SOONEST_SECONDS: Final = 0.1  # what is due and was not ours to take is just being taken by another process


class Provider(Protocol):
    async def open_payment(self, order: DueOrder) -> Answer: ...

    async def retrieve(self, payment_id: str) -> Answer: ...

    async def cancel(self, payment_id: str) -> Answer: ...

    async def expire(self, payment_id: str) -> Answer: ...


class Orders(Protocol):
    """The rows of the queue, as `veza.store.payments.Payments` keeps them."""

    async def claim_due(self, limit: int, claim: Claim, every: timedelta) -> list[DueOrder]: ...

    async def claim_pending(self, order_id: UUID, claim: Claim, every: timedelta) -> DueOrder | None: ...

    async def next_due(self) -> float | None: ...

    async def release(self, order: DueOrder, claim_id: UUID, payment: Payment | None) -> Recorded: ...

    async def close(self, order: DueOrder, claim_id: UUID, payment: Payment | None, close: Close) -> Recorded: ...

    async def examine(self, order: DueOrder, claim_id: UUID, payment: Payment | None, why: str) -> Recorded: ...

    async def settle(
        self, order: DueOrder, claim_id: UUID, payment: Payment, *, payout_delay: timedelta, new_id: NewId
    ) -> Recorded: ...


@dataclass(frozen=True)
class Till:
    """What an operator sees. ``to_examine`` counts, since the last restart, captured payments that settled nothing."""

    in_hand: int = 0
    provider: Literal["not_asked", "answers", "silent", "refuses_key"] = "not_asked"
    to_examine: int = 0


@dataclass(frozen=True, slots=True)
class TakeUpDue(Tell):
    """An order may have become due."""


@dataclass(frozen=True, slots=True)
class OpenPayment(Ask["Payment | None"]):
    """Have an order's payment opened while its buyer waits."""

    order_id: UUID


@dataclass(frozen=True, slots=True)
class CancelOrder(Ask[None]):
    """Have an order's payment cancelled, and the order with it."""

    order_id: UUID


Messages = TakeUpDue | OpenPayment | CancelOrder


async def open_payment(ref: Ref[Messages, Till], order_id: UUID) -> Payment | None:
    """The payment, opened and waiting for its buyer; None if the order's row now says otherwise, or nothing came of it.

    Raises Overloaded, ActorCrashed, Stopped, DeadlineExceeded; the order is then taken up again by itself.
    """
    return await ref.ask(OpenPayment(order_id))


async def cancel_order(ref: Ref[Messages, Till], order_id: UUID) -> None:
    """Cancel an order if it can be: its row says afterwards. Raises as `open_payment`."""
    await ref.ask(CancelOrder(order_id))


def ring(ref: Ref[Messages, Till]) -> None:
    """Say that an order may have become due. A lost ring costs latency only."""
    ref.tell(TakeUpDue())


Question = Callable[[DueOrder], Awaitable[Answer]]
Judge = Callable[[DueOrder, Answer], Verdict]


class Payments(Actor[Messages, Till]):
    mailbox = Mailbox(ASKED_AT_ONCE, full=Coalesce, why="handling starts a task and ends; rings say the same and fold")

    def __init__(
        self,
        orders: Orders,
        provider: Provider,
        *,
        new_id: NewId,
        ring_payouts: Callable[[], object],
        ring_refunds: Callable[[], object],
        every: timedelta,
        call_seconds: float,
        payout_delay: timedelta,
    ) -> None:
        """``every``: how soon an order is asked about first, and how often the queue is looked at without a ring.

        ``call_seconds``: how long a call to the provider may take. ``payout_delay``: how long after the sale a seller
        is paid.
        """
        self._orders = orders
        self._provider = provider
        self._new_id = new_id
        self._ring_payouts = ring_payouts
        self._ring_refunds = ring_refunds
        self._every = every
        self._payout_delay = payout_delay
        self._must_remain = call_seconds + RECORD_SECONDS
        self._lease = self._must_remain + SLACK_SECONDS
        self._syncing = 0
        self._more = True  # whether the last round left something for want of room
        self._asked = 0
        self._provider_is: Literal["not_asked", "answers", "silent", "refuses_key"] = "not_asked"
        self._to_examine = 0
        self._rung = trio.Event()

    async def start(self) -> None:
        self._show()
        self.nursery.start_soon(self._work)

    async def handle(self, message: Messages) -> object:
        match message:
            case TakeUpDue():
                self._rung.set()
            case OpenPayment(order_id) if self._asked < ASKED_AT_ONCE:
                return Later(self._take_one, order_id, self._ask, after_answer)
            case CancelOrder(order_id) if self._asked < ASKED_AT_ONCE:
                return Later(self._take_one, order_id, self._cancel, after_cancel)
        return None

    # -- what is due ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            self._rung = trio.Event()
            wait = await self.run_once()
            with trio.move_on_after(wait):
                await self._rung.wait()

    async def run_once(self) -> float:
        """Take up what is due, as much as is free. Answers in how many seconds to look again, if nobody rings."""
        free = AT_ONCE - self._syncing
        longest = self._every.total_seconds()  # whatever the bell is worth: a lost ring costs time, never an order
        if free == 0:
            self._more = True
            return longest
        claim, taken_at = self._new_claim()
        try:
            orders = await self._orders.claim_due(free, claim, self._every)
            due_in = await self._orders.next_due()
        except StoreError as error:
            log.warning("payments_store_failed", error=type(error).__name__)
            return STORE_SECONDS
        self._syncing += len(orders)
        self._more = len(orders) == free
        for order in orders:
            self.nursery.start_soon(self._sync, order, claim.id, taken_at)
        return longest if self._more or due_in is None else min(longest, max(due_in, SOONEST_SECONDS))

    async def _sync(self, order: DueOrder, claim_id: UUID, taken_at: float) -> None:
        try:
            await self._take_up(order, claim_id, taken_at, self._ask, after_answer)
        finally:
            self._syncing -= 1
            self._show()
            if self._more:
                self._rung.set()

    # -- a buyer waits -------------------------------------------------------------------------------------------------

    async def _take_one(self, order_id: UUID, ask: Question, judge: Judge) -> Payment | None:
        self._asked += 1
        try:
            claim, taken_at = self._new_claim()
            order = await self._orders.claim_pending(order_id, claim, self._every)
            return None if order is None else await self._take_up(order, claim.id, taken_at, ask, judge)
        except StoreError as error:
            log.warning("payments_store_failed", error=type(error).__name__, order=str(order_id))
            return None
        finally:
            self._asked -= 1
            self._show()

    # -- an order in hand ----------------------------------------------------------------------------------------------

    def _new_claim(self) -> tuple[Claim, float]:
        return Claim(self._new_id(), timedelta(seconds=self._lease)), trio.current_time()

    async def _take_up(
        self, order: DueOrder, claim_id: UUID, taken_at: float, ask: Question, judge: Judge
    ) -> Payment | None:
        """One call to the provider and what follows from it. The payment, if it is there and nothing is decided yet."""
        self._show()
        if trio.current_time() + self._must_remain > taken_at + self._lease:
            return None  # somebody else may have it by the time we could record; it is due again by itself
        answer = await ask(order)
        self._note(order, answer)
        payment = answer if isinstance(answer, Payment) else None
        verdict = judge(order, answer)
        try:
            recorded = await self._record_again(order, claim_id, payment, verdict)
        except StoreError as error:
            log.warning("payments_store_failed", error=type(error).__name__, order=str(order.id))
            return None
        self._follow(order, verdict, recorded)
        return payment if verdict == Wait() else None

    async def _ask(self, order: DueOrder) -> Answer:
        match next_step(order):
            case Open():
                return await self._provider.open_payment(order)
            case Expire():
                return await self._provider.expire(order.payment_id)
            case Look():
                return await self._provider.retrieve(order.payment_id)

    async def _cancel(self, order: DueOrder) -> Answer:
        return await self._provider.cancel(order.payment_id)

    async def _record_again(
        self, order: DueOrder, claim_id: UUID, payment: Payment | None, verdict: Verdict
    ) -> Recorded:
        """Record, once more where another order's recording stood in the way. Raises StoreError."""
        for _ in range(RECORD_TRIES - 1):
            with suppress(TryAgain):
                return await self._record(order, claim_id, payment, verdict)
        return await self._record(order, claim_id, payment, verdict)

    async def _record(self, order: DueOrder, claim_id: UUID, payment: Payment | None, verdict: Verdict) -> Recorded:
        match verdict:
            case Settle(paid):
                return await self._orders.settle(
                    order, claim_id, paid, payout_delay=self._payout_delay, new_id=self._new_id
                )
            case Close():
                return await self._orders.close(order, claim_id, payment, verdict)
            case Examine(why):
                return await self._orders.examine(order, claim_id, payment, why)
            case Wait():
                return await self._orders.release(order, claim_id, payment)

    def _note(self, order: DueOrder, answer: Answer) -> None:
        match answer:
            case KeyRefused(why):
                self._provider_is = "refuses_key"
                log.error("payment_provider_refuses_key", why=why)
            case NoAnswer(why):
                self._provider_is = "silent"
                log.warning("payment_provider_silent", why=why, order=str(order.id))
            case _:
                self._provider_is = "answers"

    def _follow(self, order: DueOrder, verdict: Verdict, recorded: Recorded) -> None:
        if recorded.due_again:
            self._rung.set()
        if recorded.paid:
            log.info("order_paid", order=str(order.id), total_cents=order.total_cents, currency=order.currency)
            self._ring_payouts()
        elif recorded.given_back is not None:
            log.warning("payment_given_back", order=str(order.id), payment=order.payment_id, why=recorded.given_back)
            self._ring_refunds()
        elif recorded.examine is not None:
            self._to_examine += 1
            log.error("payment_to_examine", order=str(order.id), payment=order.payment_id, why=recorded.examine)
        elif isinstance(verdict, Close) and order.status is OrderStatus.PENDING:
            log.info("order_closed", order=str(order.id), status=verdict.status, why=verdict.why)

    def _show(self) -> None:
        self.publish(Till(self._syncing + self._asked, self._provider_is, self._to_examine))
