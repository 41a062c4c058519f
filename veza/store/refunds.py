"""Refunds' rows: asked for and decided, the queue of those to be done, and what follows when one is.

Whoever changes an order's refunds holds the order's row: however many ask at once, they ask one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.audit import By
from veza.domain.errors import NotFound
from veza.domain.ids import NewId
from veza.domain.orders import IdempotencyKey
from veza.domain.payments import OrderStatus
from veza.domain.refunds import (
    Asker,
    Draft,
    Given,
    Line,
    Origin,
    RecoveryStatus,
    Refund,
    RefundItem,
    RefundStatus,
    SellersShare,
    Share,
    Sold,
    Whole,
    Wish,
    check_may_decide,
    check_still_left,
    draft,
    may_know,
    refund_id_of,
    shares,
)
from veza.store import audit
from veza.store.bridge import Database, Record, Snapshot, Transaction
from veza.store.idempotency import reserve
from veza.store.orders import earning_of, no_order

ROUTE: Final = "POST /marketplace/orders/:id/refund"
NOTHING_IN_FLIGHT: Final = timedelta(0)  # a refund is written down within its request: nothing is left to wait for

# Who records a transfer holds that while they book it for its order, which a full lock of the order would not let them.
HOLD: Final = "FOR NO KEY UPDATE"

ORDER: Final = """
SELECT id, buyer_id, status, currency, total_cents, paid_at,
    (SELECT count(*) FROM refunds WHERE refunds.order_id = orders.id) AS refunds
FROM orders WHERE id = $1
"""

# A download of a file that is gone since is not known to be anybody's, and so counts as everybody's.
LINES: Final = """
SELECT i.id AS item_id, i.seller_id, i.quantity, i.unit_price_cents, i.total_cents, i.refunded_cents AS taken_cents,
    coalesce(sum(part.quantity) FILTER (WHERE r.status IN ('pending', 'succeeded')), 0)::integer AS taken_pieces,
    coalesce(sum(part.amount_cents) FILTER (WHERE r.status = 'requested'), 0)::bigint AS asked_cents,
    EXISTS (
        SELECT FROM downloads d LEFT JOIN product_files f ON f.id = d.file_id
        LEFT JOIN products p ON p.id = f.product_id
        WHERE d.order_id = $1 AND coalesce(p.seller_id, i.seller_id) = i.seller_id
    ) AS downloaded
FROM order_items i LEFT JOIN refund_items part ON part.order_item_id = i.id LEFT JOIN refunds r ON r.id = part.refund_id
WHERE i.order_id = $1 GROUP BY i.id ORDER BY i.position
"""

INSERT: Final = """
INSERT INTO refunds (id, order_id, origin, requested_by, status, reason, details, amount_cents, currency, reference,
                     due_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $5 = 'pending' THEN now() END)
"""

INSERT_ITEMS: Final = """
INSERT INTO refund_items (refund_id, order_item_id, amount_cents, quantity)
SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::integer[])
"""

TAKE: Final = """
UPDATE order_items SET refunded_cents = refunded_cents + $2 * part.amount_cents
FROM refund_items part WHERE part.refund_id = $1 AND order_items.id = part.order_item_id
"""

GIVEN: Final = """
SELECT seller_id, sum(gross_cents)::bigint AS gross_cents, sum(fee_cents)::bigint AS fee_cents
FROM refund_shares WHERE order_id = $1 AND status <> 'void' GROUP BY seller_id
"""

INSERT_SHARES: Final = """
INSERT INTO refund_shares (id, refund_id, order_id, seller_id, currency, gross_cents, fee_cents, status)
SELECT share.id, $1, $2, share.seller_id, $3, share.gross, share.fee, 'open'
FROM unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::bigint[]) AS share (id, seller_id, gross, fee)
"""

# While a refund of it is under way, a transfer is not tried: it may be about to become less.
BLOCK: Final = """
UPDATE transfers SET open_refunds = open_refunds + $2, updated_at = now()
FROM refund_shares share
WHERE share.refund_id = $1 AND transfers.order_id = share.order_id AND transfers.seller_id = share.seller_id
"""

# What could not be given back of a payment that could not be honoured: an admin may have it tried again.
KEPT: Final = """
SELECT amount_cents, currency FROM refunds
WHERE order_id = $1 AND origin = 'platform' AND status = 'failed'
  AND NOT EXISTS (SELECT FROM refunds WHERE order_id = $1 AND origin = 'platform' AND status <> 'failed')
LIMIT 1
"""

# A request for more than is left can't be granted any more: what it wanted went back otherwise.
OVERTAKE: Final = """
UPDATE refunds SET status = 'declined', decided_at = now(), failure_code = 'refunded_otherwise'
WHERE order_id = $1 AND status = 'requested' AND EXISTS (
    SELECT FROM refund_items part JOIN order_items i ON i.id = part.order_item_id
    WHERE part.refund_id = refunds.id AND part.amount_cents > i.total_cents - i.refunded_cents
)
"""

DECIDE: Final = """
UPDATE refunds SET status = $2, decided_by = $3, decided_at = now(), decision_reason = $4,
    due_at = CASE WHEN $2 = 'pending' THEN now() END
WHERE id = $1
"""

REFUND: Final = """
SELECT id, order_id, origin, requested_by, status, reason, details, amount_cents, currency, failure_code,
    failure_message, credit_note_number, created_at, decided_at, decision_reason, completed_at,
    (SELECT buyer_id FROM orders WHERE orders.id = order_id) AS buyer_id
FROM refunds
"""

OF_SELLERS: Final = """
SELECT refund_id, seller_id, status, gross_cents - fee_cents AS net_cents, fee_cents, withheld_cents, reversed_cents
FROM refund_shares WHERE refund_id = ANY($1::uuid[])
"""

ITEMS: Final = """
SELECT part.refund_id, part.order_item_id, i.seller_id, part.amount_cents, part.quantity
FROM refund_items part JOIN order_items i ON i.id = part.order_item_id
WHERE part.refund_id = ANY($1::uuid[]) ORDER BY i.position
"""

OF_SELLER: Final = """
EXISTS (SELECT FROM refund_items part JOIN order_items i ON i.id = part.order_item_id
        WHERE part.refund_id = refunds.id AND i.seller_id = $1)
"""


class Refunds:
    """``window`` is how long after paying a buyer may ask for their money back."""

    def __init__(self, db: Database, new_id: NewId, window: timedelta) -> None:
        self._db = db
        self._new_id = new_id
        self._window = window

    # -- asking and deciding ----------------------------------------------------------------------------------------

    async def ask(
        self,
        order_id: UUID,
        asker: Asker,
        wish: Wish,
        *,
        reason: str,
        details: str,
        by: By,
        now: datetime,
        key: IdempotencyKey | None = None,
    ) -> list[Refund]:
        """Write down the refunds that a wish makes; none for a request that was made before under its key.

        Raises NotFound for an order that is none of the asker's business, and what `veza.domain.refunds.draft` does.
        """
        async with self._db.transaction() as tx:
            if key and not await reserve(tx, asker.user_id, ROUTE, key, order_id, NOTHING_IN_FLIGHT):
                return []
            sold = await _sold(tx, order_id, asker, HOLD)
            if asker.is_admin and wish == Whole() and (kept := await tx.fetchrow(KEPT, order_id)):
                refund_id = self._new_id()
                await give_back(tx, refund_id, order_id, kept["amount_cents"], kept["currency"], reason)
                made = [await _read(tx, refund_id)]
            else:
                made = [
                    await write_refund(tx, sold, each, self._new_id, asker.user_id, reason, details)
                    for each in draft(sold, asker, wish, now, self._window)
                ]
            for refund in made:
                told = {"status": refund.status, "amount_cents": refund.amount_cents, "order_id": order_id}
                await audit.write(tx, self._new_id(), by, "refund.ask", f"refund:{refund.id}", told)
        return made

    async def approve(self, refund_id: UUID, asker: Asker, by: By) -> Refund:
        """Have a request done. Raises NotFound, Forbidden, Conflict (it is decided, or not all of it is left)."""
        async with self._db.transaction() as tx:
            sold, refund = await _to_decide(tx, refund_id, asker)
            check_still_left(sold, refund)
            await tx.execute(DECIDE, refund_id, RefundStatus.PENDING, asker.user_id, "")
            await _begin(tx, refund.id, sold, refund.items, self._new_id)
            await self._told(tx, refund, "refund.approve", by)
            return await _read(tx, refund_id)

    async def decline(self, refund_id: UUID, asker: Asker, by: By, reason: str = "") -> Refund:
        """Refuse a request; its buyer is told the ``reason``. Raises NotFound, Forbidden, Conflict (it is decided)."""
        async with self._db.transaction() as tx:
            _, refund = await _to_decide(tx, refund_id, asker)
            await tx.execute(DECIDE, refund_id, RefundStatus.DECLINED, asker.user_id, reason)
            await self._told(tx, refund, "refund.decline", by)
            return await _read(tx, refund_id)

    async def _told(self, tx: Transaction, refund: Refund, action: str, by: By) -> None:
        told = {"amount_cents": refund.amount_cents, "order_id": refund.order_id}
        await audit.write(tx, self._new_id(), by, action, f"refund:{refund.id}", told)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def of_order(self, order_id: UUID, asker: Asker) -> list[Refund]:
        """An order's refunds, the oldest first; to a seller, their own part of those that touch their lines.

        Raises NotFound for an order that is none of the asker's business.
        """
        async with self._db.snapshot() as moment:
            sold = await _sold(moment, order_id, asker)
            rows = await moment.fetch(f"{REFUND} WHERE order_id = $1 ORDER BY created_at, id", order_id)
            found = await _refunds(moment, rows)
        if asker.is_admin or asker.user_id == sold.buyer_id:
            return found
        own = [each.part_of(asker.user_id) for each in found]
        return [each for each in own if each.items]

    async def page(
        self, seller_id: UUID | None, status: RefundStatus | None, limit: int, offset: int
    ) -> tuple[list[Refund], int]:
        """A page of refunds of a seller's lines, or of everybody's, the newest first, and how many there are."""
        conditions, values = ["true"], list[object]()
        if seller_id is not None:
            conditions, values = [OF_SELLER], [seller_id]
        if status is not None:
            values.append(status)
            conditions.append(f"status = ${len(values)}")
        where = " AND ".join(conditions)
        page = f"ORDER BY created_at DESC, id DESC LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}"
        async with self._db.snapshot() as moment:
            total: int = await moment.fetchval(f"SELECT count(*) FROM refunds WHERE {where}", *values)
            rows = await moment.fetch(f"{REFUND} WHERE {where} {page}", *values, limit, offset)
            found = await _refunds(moment, rows)
        return [each if seller_id is None else each.part_of(seller_id) for each in found], total


async def write_refund(
    tx: Transaction,
    sold: Sold,
    wanted: Draft,
    new_id: NewId,
    requested_by: UUID | None,
    reason: str,
    details: str = "",
    reference: str | None = None,
) -> Refund:
    """Write a refund down, with the order's row held; one to be done takes from its lines from here on.

    ``reference`` is the provider's id of what took the money, where that is no refund of ours.
    """
    refund_id, items = new_id(), wanted.items
    await tx.execute(
        INSERT,
        refund_id,
        sold.id,
        wanted.origin,
        requested_by,
        wanted.status,
        reason,
        details,
        wanted.amount_cents,
        sold.currency,
        reference or refund_id_of(refund_id),
    )
    await tx.execute(
        INSERT_ITEMS,
        refund_id,
        [item.order_item_id for item in items],
        [item.amount_cents for item in items],
        [item.quantity for item in items],
    )
    if wanted.status is RefundStatus.PENDING:
        await _begin(tx, refund_id, sold, items, new_id)
    return await _read(tx, refund_id)


async def _begin(tx: Transaction, refund_id: UUID, sold: Sold, items: Sequence[RefundItem], new_id: NewId) -> None:
    """From here on what it gives back is gone from its lines, and its sellers' transfers stand still."""
    await tx.execute(TAKE, refund_id, 1)
    earnings = [earning_of(row) for row in await tx.fetch("SELECT * FROM earnings WHERE order_id = $1", sold.id)]
    given = {row["seller_id"]: Given(row["gross_cents"], row["fee_cents"]) for row in await tx.fetch(GIVEN, sold.id)}
    await _insert_shares(tx, refund_id, sold, shares(items, earnings, given), new_id)
    await tx.execute(BLOCK, refund_id, 1)
    await tx.execute(OVERTAKE, sold.id)


async def give_back(
    tx: Transaction, refund_id: UUID, order_id: UUID, amount_cents: int, currency: str, why: str
) -> None:
    """A payment that can't be honoured is due to go back whole. It was no sale: nothing of it is anybody's share."""
    origin, status, reference = Origin.PLATFORM, RefundStatus.PENDING, refund_id_of(refund_id)
    await tx.execute(INSERT, refund_id, order_id, origin, None, status, why, "", amount_cents, currency, reference)


async def _insert_shares(tx: Transaction, refund_id: UUID, sold: Sold, of: Sequence[Share], new_id: NewId) -> None:
    await tx.execute(
        INSERT_SHARES,
        refund_id,
        sold.id,
        sold.currency,
        [new_id() for _ in of],
        [share.seller_id for share in of],
        [share.gross_cents for share in of],
        [share.fee_cents for share in of],
    )


# -- rows --------------------------------------------------------------------------------------------------------------


async def _sold(queries: Transaction | Snapshot, order_id: UUID, asker: Asker, lock: str = "") -> Sold:
    sold = await read_sold(queries, order_id, lock)
    if sold is None or not may_know(sold, asker):
        raise no_order()
    return sold


async def read_sold(queries: Transaction | Snapshot, order_id: UUID, lock: str = "") -> Sold | None:
    """An order as far as giving it back goes, held if ``lock`` says so."""
    row = await queries.fetchrow(f"{ORDER} {lock}", order_id)
    if row is None:
        return None
    lines = tuple(Line(**dict(line)) for line in await queries.fetch(LINES, order_id))
    status = OrderStatus(row["status"])
    return Sold(row["id"], row["buyer_id"], status, row["currency"], row["paid_at"], lines, row["refunds"])


async def _to_decide(tx: Transaction, refund_id: UUID, asker: Asker) -> tuple[Sold, Refund]:
    """A refund under its order's lock. Raises NotFound, Forbidden, Conflict."""
    order_id: UUID | None = await tx.fetchval("SELECT order_id FROM refunds WHERE id = $1", refund_id)
    sold = None if order_id is None else await read_sold(tx, order_id, HOLD)
    if sold is None or not may_know(sold, asker):
        raise NotFound("There is no such refund.")
    refund = await _read(tx, refund_id)
    check_may_decide(refund, asker)
    return sold, refund


async def _read(queries: Transaction | Snapshot, refund_id: UUID) -> Refund:
    return (await _refunds(queries, await queries.fetch(f"{REFUND} WHERE id = $1", refund_id)))[0]


async def _refunds(queries: Transaction | Snapshot, rows: Sequence[Record]) -> list[Refund]:
    items: dict[UUID, list[RefundItem]] = {row["id"]: [] for row in rows}
    for item in await queries.fetch(ITEMS, list(items)):
        values = {name: value for name, value in dict(item).items() if name != "refund_id"}
        items[item["refund_id"]].append(RefundItem(**values))
    of: dict[UUID, dict[UUID, SellersShare]] = {row["id"]: {} for row in rows}
    for share in await queries.fetch(OF_SELLERS, list(items)):
        amounts = (share["net_cents"], share["fee_cents"], share["withheld_cents"], share["reversed_cents"])
        of[share["refund_id"]][share["seller_id"]] = SellersShare(RecoveryStatus(share["status"]), *amounts)
    return [_refund(row, tuple(items[row["id"]]), of[row["id"]]) for row in rows]


def _refund(row: Record, items: tuple[RefundItem, ...], of: Mapping[UUID, SellersShare]) -> Refund:
    values = {
        **dict(row),
        "status": RefundStatus(row["status"]),
        "origin": Origin(row["origin"]),
        "items": items,
        "shares": of,
    }
    return Refund(**values)
