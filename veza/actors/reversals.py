"""Reversals: has back from sellers what they were sent of orders that were refunded since.

A queue of rows (`veza.actors.queue`), tried with the care of payouts: the keys, the looks and the doubts are theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random
from typing import Protocol

import structlog

from veza.actors.queue import Answered, Heard, Leases, Rows, RungWorker, Silent
from veza.domain.attempts import (
    Again,
    Call,
    Done,
    Exhausted,
    GiveUp,
    Interrupted,
    Look,
    Outcome,
    Retry,
    RetryPolicy,
    Unauthorized,
    Unclear,
)
from veza.domain.payments import KeyRefused
from veza.domain.recovery import Owe, Reversal, ReversalClaim, ReversalDecision, Stuck, after_reversal, next_reversal

log = structlog.get_logger()


class Store(Rows[ReversalClaim], Protocol):
    """The rows, as `veza.store.reversals.Reversals` keeps them. Every method raises StoreError."""

    async def record(self, claim: ReversalClaim, outcome: Outcome, decision: ReversalDecision) -> Reversal | None: ...


class Provider(Protocol):
    """Whoever moves the money. Whatever happens is an outcome; an exception is a bug of ours."""

    async def reverse(self, claim: ReversalClaim) -> Outcome: ...
    async def look_for_reversal(self, claim: ReversalClaim) -> Outcome: ...


class Reverser(RungWorker[ReversalClaim, Outcome, ReversalDecision, Reversal]):
    queue = "reversals"

    def __init__(self, store: Store, provider: Provider, policy: RetryPolicy, leases: Leases, random: Random) -> None:
        super().__init__(store, leases)
        self._store = store
        self._provider = provider
        self._policy = policy
        self._random = random

    def question(self, claim: ReversalClaim) -> Callable[[ReversalClaim], Awaitable[Outcome]] | Outcome:
        match next_reversal(claim, self._policy):
            case Look():
                return self._provider.look_for_reversal
            case Call():
                return self._provider.reverse
            case GiveUp():
                return Exhausted()

    @property
    def interrupted(self) -> Outcome:
        return Interrupted()

    def decide(self, claim: ReversalClaim, outcome: Outcome, now: datetime) -> ReversalDecision:
        return after_reversal(claim, outcome, now, self._policy, self._random.random())

    async def record(self, claim: ReversalClaim, outcome: Outcome, decision: ReversalDecision) -> Reversal | None:
        return await self._store.record(claim, outcome, decision)

    def hear(self, outcome: Outcome) -> Heard:
        match outcome:
            case Unauthorized(message):
                return KeyRefused(message)
            case Unclear() | Interrupted() | Exhausted():
                return Silent()
            case _:
                return Answered()

    def tell(self, recorded: Reversal, decision: ReversalDecision) -> None:
        told = log.bind(share_id=str(recorded.share_id), order_id=str(recorded.order_id))
        match decision:
            case Done(external_ref):
                self.count(done=1)
                told.info("transfer_reversed", external_ref=external_ref, amount_cents=recorded.amount_cents)
            case Owe(code, message):
                self.count(given_up=1)
                told.warning("seller_owes", code=code, message=message, amount_cents=recorded.amount_cents)
            case Stuck(code, message):
                self.count(given_up=1)
                told.error("reversal_stuck", code=code, message=message)
            case Retry(code=code, at=at):
                self.count(retried=1)
                told.info("reversal_to_retry", code=code, at=at)
                self.ring()
            case Again(code=code):
                self.count(given_back=1)
                told.info("reversal_given_back", code=code)
                self.ring()
