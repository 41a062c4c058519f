"""Taking sellers' shares of refunds back: withheld from what was not sent, else due to be reversed, else owed.

Everything here happens in the transaction of whoever found out: that a refund succeeded, that a reversal was refused,
that there is something new to take a debt out of. Rows are locked in one order: the order, its transfers, its shares.
Where another's lock stands in the way of a debt or a reversal it is left for later, never waited for.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from veza.domain.payouts import TransferStatus
from veza.domain.recovery import Plan, Sent, net, plan
from veza.domain.refunds import RecoveryStatus
from veza.store.bridge import Record, Transaction

LOCK: Final = "SELECT id FROM transfers WHERE order_id = $1 AND seller_id = $2 FOR UPDATE"

# Read once the lock is held: what is being reversed changes under that lock only.
SENT: Final = """
SELECT t.id, t.status, t.amount_cents, t.withheld_cents, t.reversed_cents, t.key_used_at IS NOT NULL AS key_used,
    (SELECT coalesce(sum(s.reversing_cents), 0)::bigint FROM refund_shares AS s
     WHERE s.order_id = t.order_id AND s.seller_id = t.seller_id) AS reversing_cents
FROM transfers AS t WHERE t.id = $1
"""

WITHHOLD: Final = """
WITH noted AS (
    INSERT INTO withholdings (share_id, transfer_id, amount_cents) VALUES ($1, $2, $3)
), share AS (
    UPDATE refund_shares SET withheld_cents = withheld_cents + $3, due_at = NULL,
        status = CASE WHEN withheld_cents + $3 + reversed_cents = gross_cents - fee_cents THEN 'settled' ELSE status END
    WHERE id = $1
)
UPDATE transfers SET withheld_cents = withheld_cents + $3, updated_at = now(),
    status = CASE WHEN withheld_cents + $3 = amount_cents THEN $4 ELSE status END,
    hold_reason = CASE WHEN withheld_cents + $3 < amount_cents THEN hold_reason END,
    next_retry_at = CASE WHEN withheld_cents + $3 < amount_cents THEN next_retry_at END,
    completed_at = CASE WHEN withheld_cents + $3 = amount_cents AND $4 = 'completed' THEN now() END
WHERE id = $2
"""

# Whoever records the transfer makes due what waits for it, but does not see a share that came to wait while they stood
# at the transfer's lock: so it is looked at now and then. A minute is nothing to a refund, and the look costs little.
MOVE: Final = """
UPDATE refund_shares SET status = $2, reversing_cents = $3, claim_id = NULL, claimed_until = NULL,
    due_at = CASE $2 WHEN 'reversing' THEN now() WHEN 'waiting' THEN now() + interval '1 minute' END
WHERE id = $1
"""

# What is about to come back is not asked for again before it was looked for: if it never went out, it need not.
DOUBT: Final = """
UPDATE transfers SET doubtful = true WHERE id = $1 AND key_used_at IS NOT NULL AND status <> 'processing'
"""

WAITING: Final = """
SELECT id, order_id, seller_id, currency, gross_cents - fee_cents - withheld_cents - reversed_cents AS left
FROM refund_shares WHERE order_id = $1 AND seller_id = $2 AND status = 'waiting' ORDER BY id FOR UPDATE
"""

# Under the lock that settling takes too: a sale that settles meanwhile either was seen here or will see the debt.
HAS_OWED: Final = "UPDATE connect_accounts SET has_owed = true WHERE user_id = $1"

DEBTS: Final = """
SELECT id, gross_cents - fee_cents - withheld_cents - reversed_cents AS cents FROM refund_shares
WHERE seller_id = $1 AND currency = $2 AND status = 'owed' ORDER BY id FOR UPDATE
"""

PAYABLE: Final = """
SELECT id, amount_cents - withheld_cents AS cents FROM transfers
WHERE seller_id = $1 AND currency = $2 AND status IN ('pending', 'failed', 'held') AND key_used_at IS NULL
  AND amount_cents > withheld_cents
ORDER BY created_at, id FOR UPDATE SKIP LOCKED
"""


async def take_back(tx: Transaction, share: Record) -> None:
    """Take what is left of a share by how far the order's own transfer is. The share's row must be locked or new.

    ``share`` has its id, order_id, seller_id, currency and what is ``left`` of it, in minor units.
    """
    if share["left"] == 0:
        await tx.execute(MOVE, share["id"], RecoveryStatus.SETTLED, 0)
        return
    transfer_id: UUID | None = await tx.fetchval(LOCK, share["order_id"], share["seller_id"])
    if transfer_id is None:
        raise LookupError(f"share {share['id']} has something to take and no transfer")
    await _carry_out(tx, share, transfer_id, plan(_sent(await tx.fetchrow(SENT, transfer_id)), share["left"]))


async def _carry_out(tx: Transaction, share: Record, transfer_id: UUID, wanted: Plan) -> None:
    if wanted.withhold:
        await tx.execute(WITHHOLD, share["id"], transfer_id, wanted.withhold, TransferStatus.REVERSED)
    if wanted.reverse:
        await tx.execute(MOVE, share["id"], RecoveryStatus.REVERSING, wanted.reverse)
    elif wanted.owe:
        await owe(tx, share["id"], share["seller_id"], share["currency"])
    elif not wanted.withhold:
        await tx.execute(MOVE, share["id"], RecoveryStatus.WAITING, 0)
        await tx.execute(DOUBT, transfer_id)


async def reduce(tx: Transaction, order_id: UUID, seller_id: UUID, currency: str) -> None:
    """By its next key an order's transfer may be sent less: take out of it now what waited for that, and debts."""
    for share in await tx.fetch(WAITING, order_id, seller_id):
        await take_back(tx, share)
    await net_debts(tx, seller_id, currency)


async def owe(tx: Transaction, share_id: UUID, seller_id: UUID, currency: str) -> None:
    """What is left of a share is a debt from now on; what can be taken of it at once, is."""
    await tx.execute(MOVE, share_id, RecoveryStatus.OWED, 0)
    await tx.execute(HAS_OWED, seller_id)
    await net_debts(tx, seller_id, currency)


async def net_debts(tx: Transaction, seller_id: UUID, currency: str) -> None:
    """Take a seller's debts, the oldest first, out of what was not sent to them yet.

    A transfer that is taken whole is over: the seller was paid by what they no longer owe.
    """
    debts = [(row["id"], row["cents"]) for row in await tx.fetch(DEBTS, seller_id, currency)]
    if not debts:
        return
    payable = [(row["id"], row["cents"]) for row in await tx.fetch(PAYABLE, seller_id, currency)]
    for share_id, transfer_id, cents in net(debts, payable):
        await tx.execute(WITHHOLD, share_id, transfer_id, cents, TransferStatus.COMPLETED)


def _sent(row: Record | None) -> Sent:
    if row is None:
        raise LookupError("a transfer went away under its lock")
    return Sent(**{**dict(row), "status": TransferStatus(row["status"])})
