"""Orders and what they add up to, as the sellers of their lines see them."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.payments import OrderStatus
from veza.domain.sales import DaySums, ProductSums, Sale, SoldItem, Stats, Sums
from veza.store.bridge import Database, Record

# The orders with lines of a seller's that were paid, refunded since or not.
OF_SELLER: Final = """
FROM orders o WHERE o.paid_at IS NOT NULL AND EXISTS (
    SELECT FROM order_items i WHERE i.order_id = o.id AND i.seller_id = $1
)
"""

PAGE: Final = f"""
SELECT o.id, o.status, o.currency, o.paid_at, u.username AS buyer,
       coalesce(e.gross_cents, 0) AS gross_cents, coalesce(e.fee_cents, 0) AS fee_cents,
       coalesce(back.gross, 0)::bigint AS refunded_cents, coalesce(back.fee, 0)::bigint AS fee_refunded_cents
FROM (SELECT o.* {OF_SELLER} ORDER BY o.paid_at DESC, o.id DESC LIMIT $2 OFFSET $3) AS o
JOIN users u ON u.id = o.buyer_id LEFT JOIN earnings e ON e.order_id = o.id AND e.seller_id = $1
LEFT JOIN LATERAL (
    SELECT sum(s.gross_cents) AS gross, sum(s.fee_cents) AS fee
    FROM refund_shares s JOIN refunds r ON r.id = s.refund_id AND r.status = 'succeeded'
    WHERE s.order_id = o.id AND s.seller_id = $1
) AS back ON true
ORDER BY o.paid_at DESC, o.id DESC
"""

ITEMS: Final = """
SELECT order_id, id, product_id, title, quantity, unit_price_cents, total_cents, refunded_cents
FROM order_items
WHERE seller_id = $1 AND order_id = ANY($2::uuid[]) ORDER BY order_id, position
"""

# $2 is included, $3 is not. What was free earned nothing and is no sale. What was refunded counts when it went back.
BY_DAY: Final = """
SELECT day, sum(orders)::bigint AS orders, sum(gross)::bigint AS gross_cents, sum(fee)::bigint AS fee_cents,
       sum(refunded)::bigint AS refunded_cents, sum(fee_refunded)::bigint AS fee_refunded_cents
FROM (
    SELECT (o.paid_at AT TIME ZONE 'UTC')::date AS day, 1 AS orders, e.gross_cents AS gross, e.fee_cents AS fee,
           0 AS refunded, 0 AS fee_refunded
    FROM earnings e JOIN orders o ON o.id = e.order_id
    WHERE e.seller_id = $1 AND o.paid_at >= $2 AND o.paid_at < $3
    UNION ALL
    SELECT (r.completed_at AT TIME ZONE 'UTC')::date, 0, 0, 0, s.gross_cents, s.fee_cents
    FROM refund_shares s JOIN refunds r ON r.id = s.refund_id
    WHERE s.seller_id = $1 AND r.status = 'succeeded' AND r.completed_at >= $2 AND r.completed_at < $3
) AS each GROUP BY day ORDER BY day
"""

BY_PRODUCT: Final = """
SELECT product_id, p.title, sum(quantity)::bigint AS quantity, sum(gross)::bigint AS gross_cents,
       sum(refunded)::bigint AS refunded_cents
FROM (
    SELECT i.product_id, i.quantity, i.total_cents AS gross, 0 AS refunded
    FROM order_items i JOIN orders o ON o.id = i.order_id
    WHERE i.seller_id = $1 AND o.paid_at >= $2 AND o.paid_at < $3 AND i.total_cents > 0
    UNION ALL
    SELECT i.product_id, 0, 0, part.amount_cents
    FROM order_items i JOIN refund_items part ON part.order_item_id = i.id JOIN refunds r ON r.id = part.refund_id
    WHERE i.seller_id = $1 AND r.status = 'succeeded' AND r.completed_at >= $2 AND r.completed_at < $3
) AS each JOIN products p ON p.id = product_id
GROUP BY product_id, p.title ORDER BY gross_cents DESC, product_id
"""


class Sales:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(self, seller_id: UUID, *, limit: int, offset: int) -> tuple[list[Sale], int]:
        """A seller's parts of paid orders, the latest first, and how many there are."""
        async with self._db.snapshot() as moment:
            total: int = await moment.fetchval(f"SELECT count(*) {OF_SELLER}", seller_id)
            rows = await moment.fetch(PAGE, seller_id, limit, offset)
            items = await moment.fetch(ITEMS, seller_id, [row["id"] for row in rows])
        return [_sale(row, items) for row in rows], total

    async def stats(self, seller_id: UUID, since: datetime, until: datetime) -> Stats:
        """What a seller's sales of a period add up to, by day (UTC) and by product; days without any are left out."""
        async with self._db.snapshot() as moment:
            days = await moment.fetch(BY_DAY, seller_id, since, until)
            products = await moment.fetch(BY_PRODUCT, seller_id, since, until)
        by_day = tuple(DaySums(row["day"], _sums(row)) for row in days)
        total = Sums(
            orders=sum(each.sums.orders for each in by_day),
            gross_cents=sum(each.sums.gross_cents for each in by_day),
            fee_cents=sum(each.sums.fee_cents for each in by_day),
            refunded_cents=sum(each.sums.refunded_cents for each in by_day),
            fee_refunded_cents=sum(each.sums.fee_refunded_cents for each in by_day),
        )
        return Stats(total, by_day, tuple(ProductSums(**dict(row)) for row in products))


def _sale(row: Record, items: list[Record]) -> Sale:
    own = [dict(item) for item in items if item["order_id"] == row["id"]]
    return Sale(
        order_id=row["id"],
        status=OrderStatus(row["status"]),
        buyer=row["buyer"],
        currency=row["currency"],
        gross_cents=row["gross_cents"],
        fee_cents=row["fee_cents"],
        refunded_cents=row["refunded_cents"],
        fee_refunded_cents=row["fee_refunded_cents"],
        items=tuple(SoldItem(**{name: value for name, value in item.items() if name != "order_id"}) for item in own),
        paid_at=row["paid_at"],
    )


def _sums(row: Record) -> Sums:
    return Sums(**{name: value for name, value in dict(row).items() if name != "day"})
