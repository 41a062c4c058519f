"""Disputes' rows: the queue of those to be asked about, and what follows from what the provider says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from veza.domain.disputes import (
    Become,
    Dispute,
    DisputeClaim,
    DisputeDecision,
    DisputeState,
    Forget,
    deduction,
)
from veza.domain.ids import NewId
from veza.domain.refund_attempts import AskAgain
from veza.store.bridge import Database, Record, Transaction
from veza.store.refund_queue import IS_DISPUTED, book_at_once, refresh_order
from veza.store.refunds import HOLD, read_sold, write_refund

# Due again when the lease lapses, should nothing come of it.
CLAIM: Final = """
WITH due AS (
    SELECT d.id, o.payment_id, o.currency FROM disputes d JOIN orders o ON o.id = d.order_id
    WHERE d.due_at <= now() AND (d.claimed_until IS NULL OR d.claimed_until <= now())
    ORDER BY d.due_at, d.id LIMIT $1 FOR UPDATE OF d SKIP LOCKED
)
UPDATE disputes AS d SET claim_id = gen_random_uuid(), claimed_until = now() + $2, due_at = now() + $2,
    asked = d.asked + 1
FROM due WHERE d.id = due.id
RETURNING d.claim_id AS id, d.id AS dispute_id, d.order_id, due.payment_id, due.currency, d.state, d.asked,
    now() AS claimed_at
"""

NEXT_DUE: Final = """
SELECT extract(epoch FROM due_at - now())::float8 FROM disputes
WHERE due_at IS NOT NULL AND (claimed_until IS NULL OR claimed_until <= due_at) ORDER BY due_at LIMIT 1
"""

# An event that came meanwhile made it due at once; that outlives the claim.
PUT_BACK: Final = """
UPDATE disputes SET claim_id = NULL, claimed_until = NULL, asked = asked - $4::integer,
    due_at = CASE WHEN due_at <= clock_timestamp() THEN due_at ELSE now() + $3::interval END
WHERE id = $1 AND claim_id = $2
"""

BECOME: Final = """
UPDATE disputes SET state = $3, status = $4, amount_cents = greatest($5, taken_cents),
    closed_at = CASE WHEN $3 IN ('won', 'lost') THEN coalesce(closed_at, now()) END
WHERE id = $1 AND claim_id = $2 AND (state <> 'lost' OR $3 = 'lost')
"""

# What caused a hold is what lifts it: what an admin holds stays as it is, and is held for the dispute when released.
HOLD_BACK: Final = """
UPDATE transfers SET disputed = true, updated_at = now(),
    status = CASE WHEN movable THEN 'held' ELSE status END,
    hold_reason = CASE WHEN movable THEN 'disputed' ELSE hold_reason END,
    next_retry_at = CASE WHEN NOT movable THEN next_retry_at END
FROM (
    SELECT id, status IN ('pending', 'failed') OR hold_reason IN ('not_onboarded', 'awaiting_funds') IS TRUE AS movable
    FROM transfers WHERE order_id = $1 AND NOT disputed ORDER BY id FOR UPDATE
) AS each WHERE transfers.id = each.id
"""

LET_GO: Final = """
UPDATE transfers SET disputed = false, updated_at = now(),
    status = CASE WHEN NOT held THEN status WHEN able THEN 'pending' ELSE 'held' END,
    hold_reason = CASE WHEN NOT held THEN hold_reason WHEN NOT able THEN 'not_onboarded' END,
    next_retry_at = CASE WHEN NOT held THEN next_retry_at WHEN able THEN greatest(now(), created_at + $2) END
FROM (
    SELECT t.id, (t.hold_reason = 'disputed') IS TRUE AS held, coalesce(c.transfers_active, false) AS able
    FROM transfers t LEFT JOIN connect_accounts c ON c.user_id = t.seller_id
    WHERE t.order_id = $1 AND t.disputed ORDER BY t.id FOR UPDATE OF t
) AS each WHERE transfers.id = each.id
"""

LOSSES: Final = """
SELECT id, amount_cents - taken_cents AS cents, taken_cents FROM disputes
WHERE order_id = $1 AND state = 'lost' AND taken_cents < amount_cents ORDER BY id FOR UPDATE
"""

PAGE: Final = """
SELECT d.id, d.order_id, o.buyer_id, o.payment_id, d.status, d.state, d.amount_cents, d.taken_cents, o.currency,
    d.created_at, d.closed_at
FROM disputes d JOIN orders o ON o.id = d.order_id WHERE $1::text IS NULL OR d.state = $1
ORDER BY d.created_at DESC, d.id DESC LIMIT $2 OFFSET $3
"""


@dataclass(frozen=True)
class Recorded:
    """A dispute as an attempt left it. ``taken_cents``: what was deducted for it this time."""

    dispute_id: str
    order_id: UUID
    taken_cents: int = 0


class Disputes:
    """``delay`` is how long after the sale a transfer is due."""

    def __init__(self, db: Database, new_id: NewId, delay: timedelta) -> None:
        self._db = db
        self._new_id = new_id
        self._delay = delay

    async def claim(self, limit: int, lease: timedelta) -> list[DisputeClaim]:
        """Take at most ``limit`` disputes in hand that are due."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch(CLAIM, limit, lease)
        return [DisputeClaim(**{**dict(row), "state": DisputeState(row["state"])}) for row in rows]

    async def next_due_in(self) -> float | None:
        """Seconds until a dispute is due, by the database's clock; null when none waits for a moment."""
        seconds: float | None = await self._db.fetchval(NEXT_DUE)
        return seconds

    async def record(self, claim: DisputeClaim, decision: DisputeDecision) -> Recorded | None:
        """Write down what was learnt, and all that follows. Null, and nothing is changed, when the claim isn't ours."""
        pause = None if isinstance(decision, Forget) else decision.pause
        not_asked = int(isinstance(decision, AskAgain) and not decision.counted)
        taken = 0
        async with self._db.transaction() as tx:
            await tx.execute(f"SELECT FROM orders WHERE id = $1 {HOLD}", claim.order_id)
            if isinstance(decision, Become):
                taken = await self._become(tx, claim, decision)
            done = await tx.execute(PUT_BACK, claim.dispute_id, claim.id, pause, not_asked)
        return Recorded(claim.dispute_id, claim.order_id, taken) if done == "UPDATE 1" else None

    async def _become(self, tx: Transaction, claim: DisputeClaim, now_is: Become) -> int:
        known = (now_is.state, now_is.status, now_is.amount_cents)
        if await tx.execute(BECOME, claim.dispute_id, claim.id, *known) != "UPDATE 1":
            return 0  # not ours any more, or lost before: what was deducted is not undone by an answer
        taken = 0
        if await tx.fetchval(IS_DISPUTED, claim.order_id):
            await tx.execute(HOLD_BACK, claim.order_id)
        else:
            taken = await deduct_losses(tx, claim.order_id, self._new_id)
            await tx.execute(LET_GO, claim.order_id, self._delay)
        await refresh_order(tx, claim.order_id)
        return taken

    async def page(self, state: DisputeState | None, limit: int, offset: int) -> tuple[list[Dispute], int]:
        """A page of disputes, the newest first, and how many there are."""
        async with self._db.snapshot() as moment:
            rows: Sequence[Record] = await moment.fetch(PAGE, state, limit, offset)
            total: int = await moment.fetchval(
                "SELECT count(*) FROM disputes WHERE $1::text IS NULL OR state = $1", state
            )
        return [Dispute(**{**dict(row), "state": DisputeState(row["state"])}) for row in rows], total


async def deduct_losses(tx: Transaction, order_id: UUID, new_id: NewId) -> int:
    """Deduct what lost disputes took and no refund gave back: once. The order's row must be held. Answers how much."""
    taken = 0
    for loss in await tx.fetch(LOSSES, order_id):
        sold = await read_sold(tx, order_id)
        draft = None if sold is None or sold.paid_at is None else deduction(sold, loss["cents"])
        if sold is None or draft is None:
            break
        reference = loss["id"] if not loss["taken_cents"] else f"{loss['id']}:{loss['taken_cents']}"
        refund = await write_refund(tx, sold, draft, new_id, None, "Disputed by the buyer's bank.", reference=reference)
        await book_at_once(tx, refund.id)
        taken += draft.amount_cents
        await tx.execute(
            "UPDATE disputes SET taken_cents = taken_cents + $2 WHERE id = $1", loss["id"], draft.amount_cents
        )
    return taken
