"""The payments queue: orders that are due are claimed, asked about, and settled, closed or put back.

A claim is a lease: nobody else calls the provider for the order before it lapses. Claiming says when the order is due
again, so a worker that dies with it delays it and loses nothing. Whatever is recorded is recorded under the claim. All
times are the database's own, so that several processes agree on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from veza.domain import ledger as journals
from veza.domain.ids import NewId
from veza.domain.orders import Earning
from veza.domain.payments import (
    LATE,
    SETTLED,
    Close,
    DueOrder,
    GiveBack,
    OrderStatus,
    Payment,
    check_capture,
    pause_before_next,
)
from veza.store import ledger
from veza.store.banned import BANNED
from veza.store.bridge import Database, Record, Transaction
from veza.store.disputes import HOLD_BACK
from veza.store.numbers import take_invoice_number
from veza.store.orders import LAND, ROUTE, earning_of
from veza.store.recovery import net_debts
from veza.store.refund_queue import refresh_order
from veza.store.refunds import give_back

AWAITING: Final = ("pending", "failed", "expired", "cancelled")  # the statuses in which news of the payment matters

DUE = """
SELECT id, buyer_id, status, total_cents, currency, payment_id, client_secret IS NOT NULL AS opened,
       extract(epoch FROM expires_at - now())::float8 AS seconds_left, sync_count
FROM orders
"""

PICK_DUE = f"""
{DUE} WHERE sync_due_at <= now() AND (claimed_until IS NULL OR claimed_until <= now())
ORDER BY sync_due_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""

PICK_ONE = f"""
{DUE} WHERE id = $1 AND status = 'pending' AND (claimed_until IS NULL OR claimed_until <= now())
FOR UPDATE SKIP LOCKED
"""

# While it can be paid an order is due again when that ends at the latest, so that it expires on time.
CLAIM = """
UPDATE orders SET claim_id = $1, claimed_until = now() + $2::interval, sync_count = sync_count + 1,
       sync_due_at = CASE WHEN expires_at > now() THEN least(now() + pick.pause, greatest(expires_at, now() + $2))
                          ELSE now() + pick.pause END
FROM unnest($3::uuid[], $4::interval[]) AS pick (id, pause)
WHERE orders.id = pick.id
"""

NEXT_DUE = """
SELECT extract(epoch FROM sync_due_at - now())::float8 FROM orders
WHERE sync_due_at IS NOT NULL AND (claimed_until IS NULL OR claimed_until <= sync_due_at)
ORDER BY sync_due_at LIMIT 1
"""

# An event that came while the order was in hand made it due again at once; that must outlive the claim.
RUNG = "sync_due_at <= clock_timestamp()"

RELEASE = f"""
UPDATE orders SET claim_id = NULL, claimed_until = NULL,
       client_secret = coalesce($3, client_secret), payment_status = coalesce($4, payment_status)
WHERE id = $1 AND claim_id = $2 RETURNING {RUNG}
"""

FINISH = f"""
UPDATE orders SET claim_id = NULL, claimed_until = NULL, sync_due_at = CASE WHEN {RUNG} OR $7 THEN sync_due_at END,
       status = CASE WHEN status = 'pending' THEN coalesce($5, status) ELSE status END,
       client_secret = coalesce($3, client_secret), payment_status = coalesce($4, payment_status),
       payment_note = coalesce($6, payment_note)
FROM (SELECT id, payment_note AS note FROM orders WHERE id = $1 AND claim_id = $2 FOR UPDATE) AS before
WHERE orders.id = before.id
RETURNING coalesce({RUNG}, false) AS due_again, note IS DISTINCT FROM payment_note AS news
"""

PAY = """
UPDATE orders SET claim_id = NULL, claimed_until = NULL, sync_due_at = NULL, status = 'paid', paid_at = now(),
       client_secret = coalesce($2, client_secret), payment_status = $3, payment_note = NULL, invoice_number = $4
WHERE id = $1
"""

STILL_SOLD = f"""
SELECT bool_and(status = 'published' AND seller_id NOT IN ({BANNED})) FROM (
    SELECT status, seller_id FROM products WHERE id IN (SELECT product_id FROM order_items WHERE order_id = $1)
    ORDER BY id FOR NO KEY UPDATE
) AS product
"""

# Locked whether active or not: an activation that commits meanwhile either was seen here or will see these transfers.
SELLERS = """
SELECT user_id, transfers_active, has_owed FROM connect_accounts WHERE user_id = ANY($1::uuid[]) ORDER BY 1 FOR SHARE
"""

OWE = """
INSERT INTO transfers (id, order_id, seller_id, amount_cents, platform_fee_cents, currency,
                       status, hold_reason, next_retry_at)
SELECT line.id, $1, line.seller_id, line.net, line.fee, $2,
       CASE WHEN line.active THEN 'pending' ELSE 'held' END,
       CASE WHEN NOT line.active THEN 'not_onboarded' END,
       CASE WHEN line.active THEN now() + $3::interval END
FROM unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::bigint[], $8::boolean[]) AS line (id, seller_id, net, fee, active)
"""

# Free orders don't count: it would cost nothing to make a product look popular.
COUNT_SOLD = """
WITH sold AS (
    SELECT p.id, (SELECT sum(quantity) FROM order_items i WHERE i.order_id = $1 AND i.product_id = p.id) AS quantity
    FROM products p WHERE p.id IN (SELECT product_id FROM order_items WHERE order_id = $1)
    ORDER BY p.id FOR NO KEY UPDATE
)
UPDATE products SET sold_count = sold_count + sold.quantity FROM sold WHERE products.id = sold.id
"""

RECEIVE = """
INSERT INTO provider_events (provider, event_id, event_type, subject) VALUES ('hyperswitch', $1, $2, $3)
ON CONFLICT DO NOTHING RETURNING event_id
"""

GIVEN_BACK = "SELECT reason FROM refunds WHERE order_id = $1 AND origin = 'platform' ORDER BY created_at LIMIT 1"

# A dispute may be known before the sale: what it holds or took is seen to now that there is something to take.
SEE_TO_DISPUTES = "UPDATE disputes SET due_at = now() WHERE order_id = $1 RETURNING state"

MAKE_REFUND_DUE = """
UPDATE refunds SET due_at = least(due_at, now()) WHERE reference = $1 AND status = 'pending'
"""

# The first event of a dispute is what we learn of it by.
MAKE_DISPUTE_DUE = """
INSERT INTO disputes (id, order_id, due_at) SELECT $1, id, now() FROM orders WHERE payment_id = $2
ON CONFLICT (id) DO UPDATE SET due_at = least(disputes.due_at, now())
"""

MAKE_DUE = """
UPDATE orders SET sync_due_at = least(sync_due_at, now()) WHERE payment_id = $1 AND status = ANY($2::text[])
"""


@dataclass(frozen=True)
class Claim:
    """Under what name orders are taken, and for how long."""

    id: UUID
    lease: timedelta


@dataclass(frozen=True)
class Recorded:
    """What became of an order in hand. ``paid`` is true for the one call that paid it.

    ``due_again``: an event came meanwhile. ``examine``: why its captured payment did not settle it, told once.
    ``given_back``: why it is due to go back to its buyer, told once.
    """

    due_again: bool = False
    paid: bool = False
    examine: str | None = None
    given_back: str | None = None


class Payments:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- the queue ----------------------------------------------------------------------------------------------------

    async def claim_due(self, limit: int, claim: Claim, every: timedelta) -> list[DueOrder]:
        """Take up to ``limit`` orders that are due; each is due again after its pause, should nothing come of it."""
        async with self._db.transaction() as tx:
            return await _claim(tx, await tx.fetch(PICK_DUE, limit), claim, every)

    async def claim_pending(self, order_id: UUID, claim: Claim, every: timedelta) -> DueOrder | None:
        """Take one order, due or not; None if it no longer waits for its payment, or is in somebody's hand."""
        async with self._db.transaction() as tx:
            claimed = await _claim(tx, await tx.fetch(PICK_ONE, order_id), claim, every)
        return claimed[0] if claimed else None

    async def next_due(self) -> float | None:
        """In how many seconds the next order is due that is in nobody's hand; None if none is."""
        seconds: float | None = await self._db.fetchval(NEXT_DUE)
        return seconds

    # -- what became of an order in hand ------------------------------------------------------------------------------

    async def release(self, order: DueOrder, claim_id: UUID, payment: Payment | None) -> Recorded:
        """Nothing is decided: put the order back, and keep what was learnt of its payment."""
        async with self._db.transaction() as tx:
            due_again = await tx.fetchval(RELEASE, order.id, claim_id, *_learnt(payment))
            await _land(tx, order)
        return Recorded(due_again=bool(due_again))

    async def close(self, order: DueOrder, claim_id: UUID, payment: Payment | None, close: Close) -> Recorded:
        """No money came. Only a pending order ends so; it is asked about again if watched, or if an event comes."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(
                FINISH, order.id, claim_id, *_learnt(payment), close.status, close.why, close.watched
            )
            await _land(tx, order)
        return Recorded(due_again=row is not None and row["due_again"])

    async def examine(self, order: DueOrder, claim_id: UUID, payment: Payment | None, why: str) -> Recorded:
        """Leave the order as it is, note ``why`` for an operator, and go on asking: what was odd may right itself."""
        async with self._db.transaction() as tx:
            recorded = await _leave(tx, order, claim_id, payment, why)
            await _land(tx, order)
        return recorded

    async def settle(
        self, order: DueOrder, claim_id: UUID, payment: Payment, *, payout_delay: timedelta, new_id: NewId
    ) -> Recorded:
        """Mark the order paid, book its capture and owe each seller their transfer, all in one transaction.

        A second time changes nothing. A payment that came too late for what is still on sale is due to go back instead.
        """
        async with self._db.transaction() as tx:
            status = await tx.fetchval(
                "SELECT status FROM orders WHERE id = $1 AND claim_id = $2 FOR UPDATE", order.id, claim_id
            )
            if status is None:  # the claim lapsed: whoever has the order now will learn the same
                return Recorded()
            earnings = [earning_of(row) for row in await tx.fetch(EARNINGS, order.id)]
            if status not in SETTLED:  # before any product's row, which other sales lock after their accounts
                await ledger.open_accounts(tx, [earning.seller_id for earning in earnings], order.currency)
            objection = await _objection(tx, order, OrderStatus(status))
            if status in SETTLED:
                return await _leave(tx, order, claim_id, payment, None)
            if objection is not None:
                return await _give_back(tx, order, claim_id, payment, objection.why, new_id)
            await _book(tx, order, earnings)
            await _owe(tx, order, earnings, payout_delay, new_id)
            await _land(tx, order)
            # Last, for others wait: for a popular product's row some of them, for the next invoice number all.
            await tx.execute(COUNT_SOLD, order.id)
            await tx.execute(PAY, order.id, *_learnt(payment), await take_invoice_number(tx))
            if "open" in [row["state"] for row in await tx.fetch(SEE_TO_DISPUTES, order.id)]:
                await tx.execute(HOLD_BACK, order.id)
                await refresh_order(tx, order.id)
        return Recorded(paid=True)

    # -- events -------------------------------------------------------------------------------------------------------

    async def receive(
        self,
        event_id: str,
        event_type: str,
        payment_id: str | None,
        refund_id: str | None = None,
        dispute_id: str | None = None,
    ) -> bool:
        """Record a verified event and make what it is about due, in one transaction; False if it was recorded before.

        ``refund_id`` and ``dispute_id`` are the provider's: of the payment's refund or dispute, if it is about one.
        """
        async with self._db.transaction() as tx:
            if await tx.fetchval(RECEIVE, event_id, event_type, payment_id) is None:
                return False
            if payment_id is not None:
                await tx.execute(MAKE_DUE, payment_id, AWAITING)
            if refund_id is not None:
                await tx.execute(MAKE_REFUND_DUE, refund_id)
            if dispute_id is not None:
                await tx.execute(MAKE_DISPUTE_DUE, dispute_id, payment_id)
        return True


EARNINGS = "SELECT * FROM earnings WHERE order_id = $1 ORDER BY seller_id"


async def _claim(tx: Transaction, picked: Sequence[Record], claim: Claim, every: timedelta) -> list[DueOrder]:
    orders = [_due_order(row) for row in picked]
    if orders:
        # Not sooner than the lease lapses: so a worker that crashes on an order slows it down, and never the rest.
        pauses = [max(pause_before_next(order.asked, every), claim.lease) for order in orders]
        await tx.execute(CLAIM, claim.id, claim.lease, [order.id for order in orders], pauses)
    return orders


def _due_order(row: Record) -> DueOrder:
    return DueOrder(
        id=row["id"],
        buyer_id=row["buyer_id"],
        status=OrderStatus(row["status"]),
        total_cents=row["total_cents"],
        currency=row["currency"],
        payment_id=row["payment_id"],
        opened=row["opened"],
        seconds_left=row["seconds_left"],
        asked=row["sync_count"],
    )


def _learnt(payment: Payment | None) -> tuple[str | None, str | None]:
    return (None, None) if payment is None else (payment.client_secret, payment.status)


async def _leave(
    tx: Transaction, order: DueOrder, claim_id: UUID, payment: Payment | None, why: str | None
) -> Recorded:
    """Leave it as it is; while there is something to examine it is asked about again, and told of once."""
    row = await tx.fetchrow(FINISH, order.id, claim_id, *_learnt(payment), None, why, why is not None)
    if row is None:
        return Recorded()
    return Recorded(due_again=row["due_again"], examine=why if row["news"] else None)


async def _give_back(
    tx: Transaction, order: DueOrder, claim_id: UUID, payment: Payment, why: str, new_id: NewId
) -> Recorded:
    """The money is its buyer's: booked as such, and due to go back. A second time changes nothing."""
    entries = journals.deposit(payment.amount_cents)
    came = await ledger.book(tx, "deposit", f"hyperswitch:{order.payment_id}", order.id, entries, payment.currency)
    if came:
        await give_back(tx, new_id(), order.id, payment.amount_cents, payment.currency, why)
    row = await tx.fetchrow(FINISH, order.id, claim_id, *_learnt(payment), None, why, False)
    return Recorded(due_again=row is not None and row["due_again"], given_back=why if came else None)


async def _land(tx: Transaction, order: DueOrder) -> None:
    """While the payment was not open, the request that placed the order may have been waiting for this."""
    if not order.opened:
        await tx.execute(LAND, order.id, order.buyer_id, ROUTE)


async def _objection(tx: Transaction, order: DueOrder, status: OrderStatus) -> GiveBack | None:
    if status in SETTLED:
        return None
    if (why := await tx.fetchval(GIVEN_BACK, order.id)) is not None:  # for good, whatever is on sale by now
        return GiveBack(why)
    still_sold = status not in LATE or await tx.fetchval(STILL_SOLD, order.id)
    return check_capture(status, still_sold=bool(still_sold))


async def _book(tx: Transaction, order: DueOrder, earnings: Sequence[Earning]) -> None:
    entries = journals.capture(order.total_cents, earnings)
    reference = f"hyperswitch:{order.payment_id}"
    if not await ledger.book(tx, "capture", reference, order.id, entries, order.currency):
        raise LookupError(f"{reference} is booked, but its order is not paid")


async def _owe(
    tx: Transaction, order: DueOrder, earnings: Sequence[Earning], payout_delay: timedelta, new_id: NewId
) -> None:
    """A transfer for each seller with something to get; held for those who cannot take it yet."""
    owed = [earning for earning in earnings if earning.net_cents > 0]
    rows = await tx.fetch(SELLERS, [earning.seller_id for earning in owed])
    active = {row["user_id"] for row in rows if row["transfers_active"]}
    await tx.execute(
        OWE,
        order.id,
        order.currency,
        payout_delay,
        [new_id() for _ in owed],
        [earning.seller_id for earning in owed],
        [earning.net_cents for earning in owed],
        [earning.fee_cents for earning in owed],
        [earning.seller_id in active for earning in owed],
    )
    for row in rows:
        if row["has_owed"]:
            await net_debts(tx, row["user_id"], order.currency)
