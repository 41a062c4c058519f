"""Disputes: asks the payment provider what became of each, holds payouts while one is open, deducts what is lost.

A queue of rows (`veza.actors.queue`), made due by events and, while one is open, by the clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

import structlog

from veza.actors.queue import Heard, Leases, Rows, RungWorker
from veza.actors.refunds import heard
from veza.domain.attempts import Interrupted
from veza.domain.disputes import (
    Become,
    DisputeClaim,
    DisputeDecision,
    DisputeOutcome,
    DisputeState,
    Forget,
    after_look,
)
from veza.domain.refund_attempts import AskAgain
from veza.store.disputes import Recorded

log = structlog.get_logger()


class Store(Rows[DisputeClaim], Protocol):
    """The rows, as `veza.store.disputes.Disputes` keeps them. Every method raises StoreError."""

    async def record(self, claim: DisputeClaim, decision: DisputeDecision) -> Recorded | None: ...


class Provider(Protocol):
    """Whoever knows what banks said. Whatever happens is an outcome; an exception is a bug of ours."""

    async def dispute(self, claim: DisputeClaim) -> DisputeOutcome: ...


class Disputer(RungWorker[DisputeClaim, DisputeOutcome, DisputeDecision, Recorded]):
    queue = "disputes"

    def __init__(
        self, store: Store, provider: Provider, leases: Leases, ring_sellers_side: Callable[[], object]
    ) -> None:
        """``ring_sellers_side``: there is something to reverse, or a payout that was held may go on."""
        super().__init__(store, leases)
        self._store = store
        self._provider = provider
        self._ring_sellers_side = ring_sellers_side

    def question(self, claim: DisputeClaim) -> Callable[[DisputeClaim], Awaitable[DisputeOutcome]] | DisputeOutcome:
        return self._provider.dispute

    @property
    def interrupted(self) -> DisputeOutcome:
        return Interrupted()

    def decide(self, claim: DisputeClaim, outcome: DisputeOutcome, now: datetime) -> DisputeDecision:
        return after_look(claim, outcome)

    async def record(self, claim: DisputeClaim, outcome: DisputeOutcome, decision: DisputeDecision) -> Recorded | None:
        return await self._store.record(claim, decision)

    def hear(self, outcome: DisputeOutcome) -> Heard:
        return heard(outcome)

    def tell(self, recorded: Recorded, decision: DisputeDecision) -> None:
        told = log.bind(dispute_id=recorded.dispute_id, order_id=str(recorded.order_id))
        match decision:
            case Become(DisputeState.OPEN, status, amount_cents):
                self.count(held=1)
                told.warning("payment_disputed", status=status, amount_cents=amount_cents)
            case Become(_, status, amount_cents):
                self.count(done=1)
                told.info("dispute_decided", status=status, amount_cents=amount_cents, taken_cents=recorded.taken_cents)
                self._ring_sellers_side()
            case Forget():
                self.count(given_up=1)
                told.warning("dispute_unknown")
            case AskAgain(why=why):
                self.count(retried=1)
                told.warning("dispute_to_ask_again", why=why)
        self.ring()  # it may be the next to fall due
