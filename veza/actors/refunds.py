"""Refunds: has the payment provider give back what is due to buyers, and asks until it is done.

A queue of rows (`veza.actors.queue`). What an answer books, it books in one transaction; what has to be had back from
sellers is due in the queue of reversals from then on, and what stood still of their payouts goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

import structlog

from veza.actors.queue import Answered, Heard, Leases, Rows, RungWorker, Silent
from veza.domain.attempts import Interrupted
from veza.domain.payments import KeyRefused, NoAnswer
from veza.domain.refund_attempts import (
    AskAgain,
    Fail,
    RefundClaim,
    RefundDecision,
    RefundOutcome,
    Succeed,
    after_refund,
)
from veza.store.refund_queue import Recorded

log = structlog.get_logger()


class Store(Rows[RefundClaim], Protocol):
    """The rows, as `veza.store.refund_queue.RefundQueue` keeps them. Every method raises StoreError."""

    async def record(self, claim: RefundClaim, decision: RefundDecision) -> Recorded | None: ...


class Provider(Protocol):
    """Whoever gives the money back. Whatever happens is an outcome; an exception is a bug of ours."""

    async def refund(self, claim: RefundClaim) -> RefundOutcome: ...


def heard(outcome: object) -> Heard:
    """What an outcome in the payment provider's words says about our key."""
    match outcome:
        case KeyRefused():
            return outcome
        case NoAnswer() | Interrupted():
            return Silent()
        case _:
            return Answered()


class Refunder(RungWorker[RefundClaim, RefundOutcome, RefundDecision, Recorded]):
    queue = "refunds"

    def __init__(
        self, store: Store, provider: Provider, leases: Leases, ring_sellers_side: Callable[[], object]
    ) -> None:
        """``ring_sellers_side``: there is something to reverse, or a payout that stood still may go on."""
        super().__init__(store, leases)
        self._store = store
        self._provider = provider
        self._ring_sellers_side = ring_sellers_side

    def question(self, claim: RefundClaim) -> Callable[[RefundClaim], Awaitable[RefundOutcome]] | RefundOutcome:
        return self._provider.refund

    @property
    def interrupted(self) -> RefundOutcome:
        return Interrupted()

    def decide(self, claim: RefundClaim, outcome: RefundOutcome, now: datetime) -> RefundDecision:
        return after_refund(claim, outcome)

    async def record(self, claim: RefundClaim, outcome: RefundOutcome, decision: RefundDecision) -> Recorded | None:
        return await self._store.record(claim, decision)

    def hear(self, outcome: RefundOutcome) -> Heard:
        return heard(outcome)

    def tell(self, recorded: Recorded, decision: RefundDecision) -> None:
        told = log.bind(refund_id=str(recorded.refund_id), order_id=str(recorded.order_id))
        match decision:
            case Succeed():
                self.count(done=1)
                told.info("order_refunded")
                self._ring_sellers_side()
            case Fail(code, message):
                self.count(given_up=1)
                told.error("refund_failed", code=code, message=message)
                self._ring_sellers_side()
            case AskAgain(why=why):
                self.count(retried=1)
                told.info("refund_underway", why=why, due_at=recorded.due_at)
                self.ring()  # it may be the next to fall due
