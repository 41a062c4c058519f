"""A store and a provider in memory for the payouts worker, on trio's clock: a whole day passes in no time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import trio

from veza.domain.attempts import (
    Again,
    Dead,
    Decision,
    Done,
    Hold,
    Outcome,
    Paid,
    Retry,
)
from veza.domain.audit import By
from veza.domain.errors import Conflict, NotFound, Refusal
from veza.domain.payouts import (
    Claim,
    HoldReason,
    Transfer,
    TransferStatus,
    may_retry,
)
from veza.store.errors import DatabaseUnavailable
from veza.store.payouts import Moved

LAUNCH = datetime(2026, 2, 23, 12, tzinfo=UTC)


def database_time() -> datetime:
    return LAUNCH + timedelta(seconds=trio.current_time())


def new_transfer(number: int, **changes: Any) -> Transfer:
    fresh = Transfer(
        id=UUID(int=number),
        order_id=UUID(int=1000 + number),
        seller_id=UUID(int=2000 + number),
        amount_cents=2699,
        platform_fee_cents=300,
        currency="EUR",
        status=TransferStatus.PENDING,
        hold_reason=None,
        retry_count=0,
        attempts=0,
        key_epoch=0,
        next_retry_at=LAUNCH,
        key_used_at=None,
        doubtful=False,
        absent_since=None,
        external_ref=None,
        failure_code=None,
        failure_message=None,
        created_at=LAUNCH,
        completed_at=None,
    )
    return replace(fresh, **changes)


@dataclass
class FakeStore:
    """Transfers as rows, claimed and recorded by the rules of the real ones."""

    rows: dict[UUID, Transfer] = field(default_factory=dict)
    claims: dict[UUID, tuple[UUID, datetime]] = field(default_factory=dict)  # by transfer: claim id, until
    to_release: int = 0
    away: int = 0
    records_away: int = 0
    claimed_with: list[int] = field(default_factory=list)
    numbers: int = 0
    switched_on: bool = True  # as the rows say; what the worker was told is another matter
    banned: set[UUID] = field(default_factory=set)
    changed: trio.Condition = field(default_factory=trio.Condition)

    @classmethod
    def of(cls, transfers: Iterable[Transfer]) -> FakeStore:
        return cls({each.id: each for each in transfers})

    async def claim(self, limit: int, lease: timedelta, *, retries: bool) -> list[Claim]:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("away")
        self.claimed_with.append(limit)
        if not self.switched_on:
            return []
        due = [each for each in self._due(retries) if each.seller_id not in self.banned]
        return [self._take(each, lease) for each in due[:limit]]

    async def claim_one(self, transfer_id: UUID, lease: timedelta, by: By) -> Claim | Refusal:
        await trio.lowlevel.checkpoint()
        row = self.rows.get(transfer_id)
        if row is None:
            return NotFound("none")
        if not may_retry(row):
            return Conflict("not now")
        return self._take(replace(row, attempts=0), lease)

    async def record(self, claim: Claim, outcome: Outcome, decision: Decision) -> Transfer | None:
        await trio.lowlevel.checkpoint()
        if self.records_away:
            self.records_away -= 1
            raise DatabaseUnavailable("away")
        row = self.rows[claim.transfer.id]
        if self.claims.get(row.id, (None,))[0] != claim.id:
            return None
        del self.claims[row.id]
        self.rows[row.id] = recorded = _after(row, decision)
        async with self.changed:
            self.changed.notify_all()
        return recorded

    async def next_due_in(self, *, retries: bool) -> float | None:
        await trio.lowlevel.checkpoint()
        moments = [
            each.next_retry_at
            for each in self.rows.values()
            if each.next_retry_at and each.seller_id not in self.banned and _claimable(each, retries)
        ]
        moments += [until for _, until in self.claims.values()]
        return (min(moments) - database_time()).total_seconds() if moments else None

    async def release_onboarded(self) -> int:
        await trio.lowlevel.checkpoint()
        released, self.to_release = self.to_release, 0
        return released

    async def hold_switched_off(self, limit: int, *, retries: bool) -> int:
        if self.switched_on:
            return 0
        now = database_time()
        due = [each for each in self.rows.values() if each.next_retry_at and each.next_retry_at <= now]
        due = [each for each in due if _claimable(each, retries) and each.hold_reason is None]
        return await self._become(
            due[:limit], status=TransferStatus.HELD, hold_reason=HoldReason.FLAG, next_retry_at=None
        )

    async def release_switched_on(self, limit: int) -> int:
        if not self.switched_on:
            return 0
        held = [each for each in self.rows.values() if each.hold_reason is HoldReason.FLAG]
        return await self._become(
            held[:limit], status=TransferStatus.PENDING, hold_reason=None, next_retry_at=database_time()
        )

    async def heed_bans(self, limit: int) -> Moved:
        now, waiting = database_time(), (None, HoldReason.AWAITING_FUNDS)
        due = [each for each in self.rows.values() if each.next_retry_at and each.next_retry_at <= now]
        due = [each for each in due if each.seller_id in self.banned and each.hold_reason in waiting]
        over = [each for each in self.rows.values() if each.hold_reason is HoldReason.BANNED]
        over = [each for each in over if each.seller_id not in self.banned]
        held = {"status": TransferStatus.HELD, "hold_reason": HoldReason.BANNED, "next_retry_at": None}
        released = {"status": TransferStatus.PENDING, "hold_reason": None, "next_retry_at": now}
        return Moved(await self._become(due[:limit], **held), await self._become(over[:limit], **released))

    async def _become(self, rows: list[Transfer], **changes: Any) -> int:
        await trio.lowlevel.checkpoint()
        for each in rows:
            self.rows[each.id] = replace(each, **changes)
        async with self.changed:
            self.changed.notify_all()
        return len(rows)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until what was recorded satisfies ``holds``."""
        async with self.changed:
            while not holds():
                await self.changed.wait()

    async def until_all(self, status: TransferStatus) -> None:
        await self.until(lambda: all(each.status is status for each in self.rows.values()))

    def _due(self, retries: bool) -> list[Transfer]:
        now = database_time()
        lapsed = [self.rows[each] for each, (_, until) in self.claims.items() if until <= now]
        due = [each for each in self.rows.values() if each.next_retry_at and each.next_retry_at <= now]
        return lapsed + [each for each in due if _claimable(each, retries)]

    def _take(self, row: Transfer, lease: timedelta) -> Claim:
        self.numbers += 1
        claim_id, now = UUID(int=self.numbers), database_time()
        taken = replace(
            row,
            status=TransferStatus.PROCESSING,
            hold_reason=None,
            next_retry_at=None,
            attempts=row.attempts + 1,
            key_used_at=row.key_used_at or now,
        )
        self.rows[row.id] = taken
        self.claims[row.id] = claim_id, now + lease
        return Claim(claim_id, taken, f"acct_{row.seller_id.int}", now)


def _claimable(row: Transfer, retries: bool) -> bool:
    again = row.status is TransferStatus.FAILED or row.hold_reason is HoldReason.AWAITING_FUNDS
    return row.status is TransferStatus.PENDING or (retries and again)


def _after(row: Transfer, decision: Decision) -> Transfer:
    match decision:
        case Done(external_ref):
            return replace(
                row, status=TransferStatus.COMPLETED, external_ref=external_ref, completed_at=database_time()
            )
        case Again(at, code, message):
            told = replace(row, failure_code=code, failure_message=message)
            return replace(told, status=TransferStatus.PENDING, next_retry_at=at, attempts=row.attempts - 1)
        case Retry(at, code, message, counted, new_key, doubtful, absent_since):
            row = _rekeyed(row) if new_key else replace(row, doubtful=doubtful, absent_since=absent_since)
            failed = replace(row, status=TransferStatus.FAILED, next_retry_at=at, attempts=row.attempts - (not counted))
            return replace(failed, failure_code=code, failure_message=message)
        case Hold(why, message, probe_at, new_key):
            row = _rekeyed(row) if new_key else replace(row, doubtful=True, absent_since=None)
            held = replace(row, status=TransferStatus.HELD, hold_reason=why, next_retry_at=probe_at)
            return replace(held, attempts=row.attempts - 1, failure_message=message)
        case Dead(code, message, new_key, doubtful):
            row = _rekeyed(row) if new_key else replace(row, doubtful=doubtful or row.doubtful)
            dead = replace(row, status=TransferStatus.FAILED, next_retry_at=None)
            return replace(dead, failure_code=code, failure_message=message)


def _rekeyed(row: Transfer) -> Transfer:
    return replace(row, key_epoch=row.key_epoch + 1, key_used_at=None, doubtful=False, absent_since=None)


class Bug(Exception):  # noqa: N818 - what a test plants
    """The gateway does what it never should: raises."""


Scripted = Outcome | type[Bug]


@dataclass
class FakeStripe:
    """Answers each transfer by its script, then pays. ``seconds`` is how long an answer takes, on trio's clock."""

    script: dict[UUID, list[Scripted]] = field(default_factory=dict)
    looks: dict[UUID, list[Scripted]] = field(default_factory=dict)
    seconds: float = 0.25
    asked: list[tuple[str, UUID, int, float]] = field(default_factory=list)  # step, transfer, key epoch, when
    out: int = 0
    most_out: int = 0
    hook: Callable[[Claim], Awaitable[None]] | None = None

    async def transfer(self, claim: Claim) -> Outcome:
        return await self._answer("transfer", claim, self.script)

    async def look(self, claim: Claim) -> Outcome:
        return await self._answer("look", claim, self.looks)

    def steps(self, transfer_id: UUID) -> list[tuple[str, int]]:
        return [(step, epoch) for step, asked, epoch, _ in self.asked if asked == transfer_id]

    async def _answer(self, step: str, claim: Claim, script: dict[UUID, list[Scripted]]) -> Outcome:
        transfer = claim.transfer
        self.asked.append((step, transfer.id, transfer.key_epoch, trio.current_time()))
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            if self.hook is not None:
                await self.hook(claim)
            await trio.sleep(self.seconds)
        finally:
            self.out -= 1
        left = script.get(transfer.id, [])
        answer = left.pop(0) if left else Paid(f"tr_{transfer.id.int}")
        if isinstance(answer, type):
            raise answer("planted")
        return answer
