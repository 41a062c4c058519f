"""The queue of refunds to be done: claimed under a lease, recorded with all that follows when the buyer has it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain import ledger as journals
from veza.domain.refund_attempts import (
    AskAgain,
    Fail,
    RefundClaim,
    RefundDecision,
    Succeed,
)
from veza.domain.refunds import Origin, Share, order_status
from veza.store import ledger
from veza.store.bridge import Database, Record, Transaction
from veza.store.numbers import take_credit_note_number
from veza.store.recovery import take_back
from veza.store.refunds import BLOCK, HOLD, ORDER, TAKE

# Due again when the lease lapses, should nothing come of it: a worker that crashes on a refund slows it down.
CLAIM: Final = """
WITH due AS (
    SELECT r.id, o.payment_id FROM refunds r JOIN orders o ON o.id = r.order_id
    WHERE r.due_at <= now() AND (r.claimed_until IS NULL OR r.claimed_until <= now())
    ORDER BY r.due_at, r.id LIMIT $1 FOR UPDATE OF r SKIP LOCKED
)
UPDATE refunds AS r SET claim_id = gen_random_uuid(), claimed_until = now() + $2, due_at = now() + $2, asked = asked + 1
FROM due WHERE r.id = due.id
RETURNING r.claim_id AS id, r.id AS refund_id, due.payment_id, r.amount_cents, r.currency, r.asked, now() AS claimed_at
"""

NEXT_DUE: Final = """
SELECT extract(epoch FROM due_at - now())::float8 FROM refunds
WHERE due_at IS NOT NULL AND (claimed_until IS NULL OR claimed_until <= due_at) ORDER BY due_at LIMIT 1
"""

# An event that came meanwhile made it due at once; that outlives the claim.
PUT_BACK: Final = """
UPDATE refunds SET claim_id = NULL, claimed_until = NULL, asked = asked - $4::integer,
    due_at = CASE WHEN due_at <= clock_timestamp() THEN due_at ELSE now() + $3 END, failure_message = $5
WHERE id = $1 AND claim_id = $2 RETURNING due_at
"""

CLAIMED: Final = "SELECT order_id FROM refunds WHERE id = $1 AND claim_id = $2"

FINISH: Final = """
UPDATE refunds SET status = $3, due_at = NULL, claim_id = NULL, claimed_until = NULL, completed_at = now(),
    failure_code = $4, failure_message = $5
WHERE id = $1 AND claim_id = $2 AND status = 'pending'
RETURNING order_id, origin, reference, amount_cents, currency
"""

DONE: Final = """
UPDATE refunds SET status = 'succeeded', due_at = NULL, completed_at = now() WHERE id = $1 AND status = 'pending'
RETURNING order_id, origin, reference, amount_cents, currency
"""

IS_DISPUTED: Final = "SELECT EXISTS (SELECT FROM disputes WHERE order_id = $1 AND state = 'open')"

# What a refund was to give back, a dispute that was lost meanwhile may have taken: it is deducted by that.
TAKEN_AFTER_ALL: Final = """
UPDATE disputes SET due_at = least(due_at, now()) WHERE order_id = $1 AND state = 'lost' AND taken_cents < amount_cents
"""

SHARES: Final = """
SELECT id, order_id, seller_id, currency, gross_cents, fee_cents,
    gross_cents - fee_cents - withheld_cents - reversed_cents AS left
FROM refund_shares WHERE refund_id = $1 ORDER BY seller_id
"""

RETURNED: Final = """
SELECT coalesce(sum(amount_cents), 0)::bigint FROM refunds
WHERE order_id = $1 AND status = 'succeeded' AND origin <> 'platform'
"""


@dataclass(frozen=True)
class Recorded:
    """A refund as an attempt left it; ``due_at`` is when it is due again."""

    refund_id: UUID
    order_id: UUID
    due_at: datetime | None = None


class RefundQueue:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, limit: int, lease: timedelta) -> list[RefundClaim]:
        """Take at most ``limit`` refunds in hand that are due, the oldest first."""
        async with self._db.transaction() as tx:
            return [RefundClaim(**dict(row)) for row in await tx.fetch(CLAIM, limit, lease)]

    async def next_due_in(self) -> float | None:
        """Seconds until a refund is due, by the database's clock; null when none waits."""
        seconds: float | None = await self._db.fetchval(NEXT_DUE)
        return seconds

    async def record(self, claim: RefundClaim, decision: RefundDecision) -> Recorded | None:
        """Write down what came of an attempt, once. Null, and nothing is changed, when the claim is no longer ours."""
        async with self._db.transaction() as tx:
            order_id: UUID | None = await tx.fetchval(CLAIMED, claim.refund_id, claim.id)
            if order_id is None:
                return None
            if isinstance(decision, AskAgain):
                not_asked = int(not decision.counted)
                due_at = await tx.fetchval(PUT_BACK, claim.refund_id, claim.id, decision.pause, not_asked, decision.why)
                return Recorded(claim.refund_id, order_id, due_at) if due_at else None
            await tx.execute(f"SELECT FROM orders WHERE id = $1 {HOLD}", order_id)
            return await _finish(tx, claim, decision)


async def _finish(tx: Transaction, claim: RefundClaim, decision: Succeed | Fail) -> Recorded | None:
    told = ("succeeded", None, None) if isinstance(decision, Succeed) else ("failed", decision.code, decision.message)
    row = await tx.fetchrow(FINISH, claim.refund_id, claim.id, *told)
    if row is None:
        return None
    await tx.execute(BLOCK, claim.refund_id, -1)
    if isinstance(decision, Fail):
        await tx.execute(TAKE, claim.refund_id, -1)
        await tx.execute("UPDATE refund_shares SET status = 'void' WHERE refund_id = $1", claim.refund_id)
        await tx.execute(TAKEN_AFTER_ALL, row["order_id"])
    else:
        await book_refund(tx, claim.refund_id, row)
    return Recorded(claim.refund_id, row["order_id"])


async def book_at_once(tx: Transaction, refund_id: UUID) -> None:
    """A refund that somebody else did already: nobody is asked for it. The order's row must be held."""
    row = await tx.fetchrow(DONE, refund_id)
    if row is None:
        raise LookupError(f"refund {refund_id} is not pending")
    await tx.execute(BLOCK, refund_id, -1)
    await book_refund(tx, refund_id, row)


async def book_refund(tx: Transaction, refund_id: UUID, row: Record) -> None:
    """The buyer has it back: book it, take the sellers' shares back, and number its credit note.

    ``row`` is the refund's: order_id, origin, reference, amount_cents and currency. The order's row must be held.
    """
    reference = f"hyperswitch:{row['reference']}"
    if row["origin"] == Origin.PLATFORM:
        await _book(tx, reference, row, journals.deposit_returned(row["amount_cents"]))
        return
    taken = await tx.fetch(SHARES, refund_id)
    of = [Share(share["seller_id"], share["gross_cents"], share["fee_cents"]) for share in taken]
    await _book(tx, reference, row, journals.refund(of))
    await refresh_order(tx, row["order_id"])
    for share in taken:
        await take_back(tx, share)
    # Last, for everyone who needs one waits for it.
    number = await take_credit_note_number(tx)
    await tx.execute("UPDATE refunds SET credit_note_number = $2 WHERE id = $1", refund_id, number)


async def refresh_order(tx: Transaction, order_id: UUID) -> None:
    """Have a paid order's status say what of it went back. Its row must be held."""
    row = await tx.fetchrow(ORDER, order_id)
    if row is None or row["paid_at"] is None:
        return
    returned: int = await tx.fetchval(RETURNED, order_id)
    disputed: bool = await tx.fetchval(IS_DISPUTED, order_id)
    status = order_status(row["total_cents"], returned, disputed=disputed)
    await tx.execute("UPDATE orders SET status = $2 WHERE id = $1", order_id, status)


async def _book(tx: Transaction, reference: str, row: Record, entries: Sequence[journals.Entry]) -> None:
    if not await ledger.book(tx, "refund", reference, row["order_id"], entries, row["currency"]):
        raise LookupError(f"{reference} is booked, but its refund is not done")
