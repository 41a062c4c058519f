"""The queue of reversals: what sellers were sent of orders that were refunded since, to be had back or owed."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from operator import itemgetter
from typing import Final

from veza.domain import ledger as journals
from veza.domain.attempts import (
    Again,
    Done,
    Outcome,
    Retry,
)
from veza.domain.recovery import Owe, Reversal, ReversalClaim, ReversalDecision, Stuck
from veza.store import ledger
from veza.store.bridge import Database, Record, Transaction
from veza.store.recovery import owe, take_back

# Shares that waited for their transfer's end, and reversals, those whose claim has lapsed too.
DUE: Final = """
SELECT id, status, order_id, seller_id, currency, gross_cents - fee_cents - withheld_cents - reversed_cents AS left
FROM refund_shares WHERE due_at <= now() AND (claimed_until IS NULL OR claimed_until <= now())
ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
"""

# Whoever records that transfer waits for the share: waiting for each other would be a deadlock, so this doesn't.
IS_FREE: Final = "SELECT id FROM transfers WHERE order_id = $1 AND seller_id = $2 FOR UPDATE SKIP LOCKED"

# Due again when the lease lapses, should nothing come of it.
CLAIM: Final = """
UPDATE refund_shares AS s SET claim_id = gen_random_uuid(), claimed_until = now() + $2, due_at = now() + $2,
    attempts = s.attempts + 1, key_used_at = coalesce(s.key_used_at, now())
FROM transfers AS t
WHERE s.id = ANY($1::uuid[]) AND s.status = 'reversing' AND t.order_id = s.order_id AND t.seller_id = s.seller_id
RETURNING s.claim_id, now() AS claimed_at, s.id AS share_id, s.order_id, s.seller_id, t.external_ref AS transfer_ref,
    s.reversing_cents AS amount_cents, s.currency, s.attempts, s.key_epoch, s.key_used_at, s.doubtful, s.absent_since
"""

NEXT_DUE: Final = """
SELECT extract(epoch FROM due_at - now())::float8 FROM refund_shares
WHERE due_at IS NOT NULL AND (claimed_until IS NULL OR claimed_until <= due_at) ORDER BY due_at LIMIT 1
"""

HELD: Final = "SELECT id FROM refund_shares WHERE id = $1 AND claim_id = $2 FOR UPDATE"

PUT_BACK: Final = """
UPDATE refund_shares SET claim_id = NULL, claimed_until = NULL, due_at = $2, attempts = greatest(attempts - $3, 0),
    key_epoch = key_epoch + $4::boolean::integer, key_used_at = CASE WHEN NOT $4 THEN key_used_at END,
    doubtful = CASE WHEN $4 THEN false ELSE coalesce($5::boolean, doubtful) END,
    absent_since = CASE WHEN $4 THEN NULL WHEN $5::boolean IS NULL THEN absent_since ELSE $6::timestamptz END,
    failure_code = $7, failure_message = $8
WHERE id = $1
"""

TOLD: Final = "UPDATE refund_shares SET failure_code = $2, failure_message = $3 WHERE id = $1"

# What came back is the share's and the transfer's. What netting had taken from that transfer before is still owed.
CAME_BACK: Final = """
WITH share AS (
    UPDATE refund_shares SET claim_id = NULL, claimed_until = NULL, due_at = NULL, external_ref = $2,
        failure_code = NULL, failure_message = NULL, reversed_cents = reversed_cents + $3, reversing_cents = 0,
        status = CASE WHEN withheld_cents + reversed_cents + $3 = gross_cents - fee_cents THEN 'settled' ELSE 'owed' END
    WHERE id = $1 RETURNING order_id, seller_id, status
)
UPDATE transfers AS t SET reversed_cents = t.reversed_cents + $3, reversed_at = now(), updated_at = now(),
    status = CASE WHEN t.reversed_cents + $3 = t.amount_cents - t.withheld_cents THEN 'reversed' ELSE t.status END
FROM share WHERE t.order_id = share.order_id AND t.seller_id = share.seller_id
RETURNING share.status
"""


class Reversals:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, limit: int, lease: timedelta) -> list[ReversalClaim]:
        """Take at most ``limit`` reversals in hand that are due.

        A share that waited for its transfer is taken further first: that may have come to nothing, and then so much is
        withheld and nothing is left to reverse.
        """
        async with self._db.transaction() as tx:
            due = await tx.fetch(DUE, limit)
            for share in sorted(due, key=itemgetter("seller_id")):  # in which order settling locks sellers too
                if share["status"] == "waiting" and await tx.fetchval(IS_FREE, share["order_id"], share["seller_id"]):
                    await take_back(tx, share)
            claimed = await tx.fetch(CLAIM, [share["id"] for share in due], lease)
        return [_claim(row) for row in claimed]

    async def next_due_in(self) -> float | None:
        """Seconds until a reversal is due, by the database's clock; null when none waits for a moment."""
        seconds: float | None = await self._db.fetchval(NEXT_DUE)
        return seconds

    async def record(self, claim: ReversalClaim, outcome: Outcome, decision: ReversalDecision) -> Reversal | None:
        """Write down what came of an attempt, once. Null, and nothing is changed, when the claim is no longer ours."""
        reversal = claim.reversal
        async with self._db.transaction() as tx:
            if await tx.fetchval(HELD, reversal.share_id, claim.id) is None:
                return None
            match decision:
                case Done(external_ref):
                    await _came_back(tx, reversal, external_ref)
                case Owe(code, message):
                    await tx.execute(TOLD, reversal.share_id, code, message)
                    await owe(tx, reversal.share_id, reversal.seller_id, reversal.currency)
                case Again() | Retry() | Stuck():
                    await tx.execute(PUT_BACK, reversal.share_id, *_changes(decision))
        return reversal


async def _came_back(tx: Transaction, reversal: Reversal, external_ref: str) -> None:
    entries = journals.reversal(reversal.seller_id, reversal.amount_cents)
    reference = f"stripe:{external_ref}"
    if not await ledger.book(tx, "reversal", reference, reversal.order_id, entries, reversal.currency):
        raise LookupError(f"{reference} is booked, but its share is not settled")
    if await tx.fetchval(CAME_BACK, reversal.share_id, external_ref, reversal.amount_cents) == "owed":
        await owe(tx, reversal.share_id, reversal.seller_id, reversal.currency)


def _changes(decision: Again | Retry | Stuck) -> tuple[object, ...]:
    """$2 to $8 of PUT_BACK: due, attempts taken back, new key, doubt (null: as it is), since when absent, and why."""
    match decision:
        case Again(at, code, message):
            return at, 1, False, None, None, code, message
        case Retry(at, code, message, counted, new_key, doubtful, absent_since):
            return at, int(not counted), new_key, doubtful, absent_since, code, message
        case Stuck(code, message):
            return None, 0, False, None, None, code, message


def _claim(row: Record) -> ReversalClaim:
    reversal = Reversal(**{field.name: row[field.name] for field in fields(Reversal)})
    return ReversalClaim(row["claim_id"], reversal, row["claimed_at"])
