"""Stores and a provider in memory for the workers of refunds and reversals; see `fakes` for those of payouts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import trio

from tests.actors.fakes import LAUNCH, Bug, database_time
from veza.domain.attempts import (
    Again,
    Done,
    Outcome,
    Paid,
    Retry,
)
from veza.domain.recovery import Owe, Reversal, ReversalClaim, ReversalDecision, Stuck
from veza.domain.refund_attempts import (
    AskAgain,
    Fail,
    RefundClaim,
    RefundDecision,
    RefundOutcome,
    Returned,
    Succeed,
)
from veza.store.errors import DatabaseUnavailable
from veza.store.refund_queue import Recorded


class Claimed(Protocol):
    @property
    def id(self) -> UUID: ...


C = TypeVar("C", bound=Claimed)
O = TypeVar("O")  # noqa: E741 - an outcome, as in the queue itself


@dataclass
class Rows(Generic[C]):
    """Rows that are due at a moment, claimed under a lease. ``away``, ``records_away``: calls that will fail."""

    due: dict[UUID, datetime] = field(default_factory=dict)
    claims: dict[UUID, tuple[UUID, datetime]] = field(default_factory=dict)  # by row: claim id, until
    ended: dict[UUID, object] = field(default_factory=dict)  # by row: the decision that ended it
    away: int = 0
    records_away: int = 0
    numbers: int = 0
    changed: trio.Condition = field(default_factory=trio.Condition)

    @abstractmethod
    def _claim(self, row_id: UUID, claim_id: UUID) -> C:
        """The row in hand, the try counted."""

    async def claim(self, limit: int, lease: timedelta) -> list[C]:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("away")
        return [self._take(row_id, lease) for row_id in self._free()[:limit]]

    async def next_due_in(self) -> float | None:
        await trio.lowlevel.checkpoint()
        return min((at - database_time()).total_seconds() for at in self.due.values()) if self.due else None

    async def until(self, holds: Callable[[], object]) -> None:
        """Until what was recorded satisfies ``holds``."""
        async with self.changed:
            while not holds():
                await self.changed.wait()

    async def until_ended(self, *row_ids: UUID) -> None:
        await self.until(lambda: set(row_ids) <= set(self.ended))

    def _free(self) -> list[UUID]:
        now = database_time()
        held = {row_id for row_id, (_, until) in self.claims.items() if until > now}
        return [row_id for row_id, at in self.due.items() if at <= now and row_id not in held]

    def _take(self, row_id: UUID, lease: timedelta) -> C:
        self.numbers += 1
        self.due[row_id] = database_time() + lease
        claim = self._claim(row_id, UUID(int=self.numbers))
        self.claims[row_id] = claim.id, self.due[row_id]
        return claim

    async def _record(self, row_id: UUID, claim_id: UUID, due: datetime | None, decision: object) -> bool:
        """Whether the claim still stood; without ``due`` the row is over."""
        await trio.lowlevel.checkpoint()
        if self.records_away:
            self.records_away -= 1
            raise DatabaseUnavailable("away")
        if self.claims.get(row_id, (None,))[0] != claim_id:
            return False
        del self.claims[row_id], self.due[row_id]
        if due is None:
            self.ended[row_id] = decision
        else:
            self.due[row_id] = due
        async with self.changed:
            self.changed.notify_all()
        return True


@dataclass
class FakeRefunds(Rows[RefundClaim]):
    asked: dict[UUID, int] = field(default_factory=dict)

    @classmethod
    def of(cls, many: int) -> FakeRefunds:
        return cls({UUID(int=number): LAUNCH for number in range(1, many + 1)})

    def _claim(self, row_id: UUID, claim_id: UUID) -> RefundClaim:
        self.asked[row_id] = self.asked.get(row_id, 0) + 1
        return RefundClaim(claim_id, row_id, "pay_1", 2999, "EUR", self.asked[row_id], database_time())

    async def record(self, claim: RefundClaim, decision: RefundDecision) -> Recorded | None:
        due = None
        match decision:
            case AskAgain(pause, counted=counted):
                due = database_time() + pause
            case Succeed() | Fail():
                counted = True
        if not await self._record(claim.refund_id, claim.id, due, decision):
            return None
        self.asked[claim.refund_id] -= not counted
        return Recorded(claim.refund_id, UUID(int=1000), due)


@dataclass
class FakeReversals(Rows[ReversalClaim]):
    rows: dict[UUID, Reversal] = field(default_factory=dict)

    @classmethod
    def of(cls, many: int) -> FakeReversals:
        rows = {UUID(int=number): new_reversal(number) for number in range(1, many + 1)}
        return cls(dict.fromkeys(rows, LAUNCH), rows=rows)

    def _claim(self, row_id: UUID, claim_id: UUID) -> ReversalClaim:
        row, now = self.rows[row_id], database_time()
        self.rows[row_id] = taken = replace(row, attempts=row.attempts + 1, key_used_at=row.key_used_at or now)
        return ReversalClaim(claim_id, taken, now)

    async def record(self, claim: ReversalClaim, outcome: Outcome, decision: ReversalDecision) -> Reversal | None:
        row_id = claim.reversal.share_id
        due = decision.at if isinstance(decision, Again | Retry) else None
        if not await self._record(row_id, claim.id, due, decision):
            return None
        self.rows[row_id] = _after(self.rows[row_id], decision)
        return self.rows[row_id]


def new_reversal(number: int, **changes: Any) -> Reversal:
    fresh = Reversal(
        share_id=UUID(int=number),
        order_id=UUID(int=1000 + number),
        seller_id=UUID(int=2000 + number),
        transfer_ref=f"tr_{number}",
        amount_cents=2699,
        currency="EUR",
        attempts=0,
        key_epoch=0,
        key_used_at=None,
        doubtful=False,
        absent_since=None,
    )
    return replace(fresh, **changes)


def _after(row: Reversal, decision: ReversalDecision) -> Reversal:
    match decision:
        case Again():
            return replace(row, attempts=row.attempts - 1)
        case Retry(counted=counted, new_key=new_key, doubtful=doubtful, absent_since=since):
            row = replace(row, attempts=row.attempts - (not counted), doubtful=doubtful, absent_since=since)
            if not new_key:
                return row
            return replace(row, key_epoch=row.key_epoch + 1, key_used_at=None, doubtful=False, absent_since=None)
        case Done() | Owe() | Stuck():
            return row


@dataclass
class Oracle(Generic[O]):
    """Answers each row by its script, then ``otherwise``. ``seconds`` is how long an answer takes, on trio's clock."""

    script: dict[UUID, list[O | type[Bug]]] = field(default_factory=dict)
    seconds: float = 0.25
    asked: list[tuple[str, UUID, int, float]] = field(default_factory=list)  # step, row, key epoch, when
    out: int = 0
    most_out: int = 0

    def steps(self, row_id: UUID) -> list[tuple[str, int]]:
        return [(step, epoch) for step, asked, epoch, _ in self.asked if asked == row_id]

    def times(self, row_id: UUID) -> list[float]:
        return [when for _, asked, _, when in self.asked if asked == row_id]

    async def answer(self, step: str, row_id: UUID, epoch: int, otherwise: O) -> O:
        self.asked.append((step, row_id, epoch, trio.current_time()))
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.out -= 1
        left = self.script.get(row_id, [])
        answer = left.pop(0) if left else otherwise
        if isinstance(answer, type):
            raise answer("planted")
        return answer


class FakePayments(Oracle[RefundOutcome]):
    async def refund(self, claim: RefundClaim) -> RefundOutcome:
        return await self.answer("refund", claim.refund_id, claim.asked, Returned())


class FakeTransfers(Oracle[Outcome]):
    async def reverse(self, claim: ReversalClaim) -> Outcome:
        return await self._of("reverse", claim)

    async def look_for_reversal(self, claim: ReversalClaim) -> Outcome:
        return await self._of("look", claim)

    async def _of(self, step: str, claim: ReversalClaim) -> Outcome:
        reversal = claim.reversal
        return await self.answer(step, reversal.share_id, reversal.key_epoch, Paid(f"trr_{reversal.share_id.int}"))
