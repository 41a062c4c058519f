"""Orders as rows: placed once under an idempotency key, found and listed for their buyer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.errors import Conflict, NotFound
from veza.domain.flags import ALL_ON, Flag, Flags
from veza.domain.ids import NewId
from veza.domain.orders import (
    CartLine,
    Earning,
    IdempotencyKey,
    Offer,
    Order,
    OrderItem,
    OrderPayment,
    Placed,
    Terms,
    check_cart,
    place,
)
from veza.domain.payments import OrderStatus, PaymentStatus
from veza.store.banned import BANNED
from veza.store.bridge import Database, Record, Snapshot, Transaction
from veza.store.idempotency import reserve
from veza.store.numbers import take_invoice_number

ROUTE: Final = "POST /marketplace/orders"
IN_FLIGHT: Final = timedelta(seconds=40)
# Longer than the provider's timeout and the record's together (20 s and 15 s): while the first request may still be at
# work, a repeat is told so. If its process died, that is how long the buyer waits.

TAKE_UP_KEY = """
UPDATE idempotency_keys SET in_flight_until = now() + $4::interval
WHERE user_id = $1 AND route = $2 AND key = $3 AND (in_flight_until IS NULL OR in_flight_until <= now())
RETURNING resource_id
"""

LAND = """
UPDATE idempotency_keys SET in_flight_until = NULL WHERE resource_id = $1 AND user_id = $2 AND route = $3
"""

HOLD_BUYER = "SELECT FROM users WHERE id = $1 FOR SHARE"

# Locked in the order of their ids, as everyone who locks several products does.
OFFERS = f"""
SELECT id, seller_id, title, price_cents, currency, status = 'published' AND seller_id NOT IN ({BANNED}) AS on_sale
FROM products WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE
"""

INSERT_ORDER = """
INSERT INTO orders (id, buyer_id, status, currency, total_cents, created_at, paid_at, expires_at, payment_id,
                    sync_due_at, invoice_number)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $9::text IS NOT NULL THEN now() + $10::interval END, $11)
"""

INSERT_ITEMS = """
INSERT INTO order_items (id, order_id, position, product_id, seller_id, title, quantity, unit_price_cents, total_cents,
                         product_type)
SELECT line.id, $1, line.position, line.product_id, line.seller_id, line.title, line.quantity, line.unit, line.total,
    product.product_type
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::integer[], $7::bigint[], $8::bigint[]) WITH ORDINALITY
    AS line (id, product_id, seller_id, title, quantity, unit, total, position)
JOIN products AS product ON product.id = line.product_id
"""

INSERT_EARNINGS = """
INSERT INTO earnings (order_id, seller_id, gross_cents, fee_cents, fee_bp)
SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::integer[])
"""

ORDER = """
SELECT id, buyer_id, status, currency, total_cents, created_at, paid_at, expires_at,
       payment_id, client_secret, payment_status, invoice_number
FROM orders
"""


class Orders:
    """Orders and what stands in them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def place(
        self,
        buyer_id: UUID,
        lines: Sequence[CartLine],
        terms: Terms,
        *,
        key: IdempotencyKey | None,
        now: datetime,
        new_id: NewId,
        expected_total_cents: int | None = None,
        flags: Flags = ALL_ON,
    ) -> Placed:
        """Place an order, or find the one that an earlier request under the same key placed, also while ordering is
        switched off.

        Its payment is for the payments actor to open: the committed row is the intent. Raises Invalid and Conflict as
        `veza.domain.orders.place` does, Conflict for a key that came with another body or is still in flight, and
        Forbidden while ordering is switched off.
        """
        check_cart(lines)
        async with self._db.transaction() as tx:
            order_id = new_id()
            if key is not None and not await reserve(tx, buyer_id, ROUTE, key, order_id, IN_FLIGHT):
                return Placed(await _take_up(tx, buyer_id, key), repeated=True)
            flags.check(Flag.CHECKOUT)
            # Before any product's row, as a key's does: who erases the buyer holds what others may wait for.
            if key is None:
                await tx.execute(HOLD_BUYER, buyer_id)
            offers = await _offers(tx, lines)
            order = place(
                buyer_id,
                lines,
                offers,
                terms,
                order_id=order_id,
                now=now,
                new_id=new_id,
                expected_total_cents=expected_total_cents,
            )
            await _insert(tx, order)
            if order.payment is None:
                await _land(tx, order.id, buyer_id)
                order = await _read(tx, order.id)  # with its licence keys and invoice number
            return Placed(order, repeated=False)

    async def get(self, order_id: UUID, buyer_id: UUID) -> Order:
        """Raises NotFound for what does not exist and for other people's."""
        order = await self.any(order_id)
        if order.buyer_id != buyer_id:
            raise no_order()
        return order

    async def any(self, order_id: UUID) -> Order:
        """Whosever it is: for an admin. Raises NotFound."""
        async with self._db.snapshot() as seen:
            return await _read(seen, order_id)

    async def list_of(
        self, buyer_id: UUID, *, status: OrderStatus | None, limit: int, offset: int
    ) -> tuple[list[Order], int]:
        """A page of somebody's orders, the newest first, and how many there are."""
        wanted = "WHERE buyer_id = $1 AND ($2::text IS NULL OR status = $2)"
        async with self._db.snapshot() as seen:
            total: int = await seen.fetchval(f"SELECT count(*) FROM orders {wanted}", buyer_id, status)
            page = f"{ORDER} {wanted} ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4"
            return await _orders(seen, await seen.fetch(page, buyer_id, status, limit, offset)), total

    async def land(self, order: Order) -> None:
        """The request that placed the order is over and came to nothing: whoever repeats it need not wait."""
        async with self._db.transaction() as tx:
            await _land(tx, order.id, order.buyer_id)


def no_order() -> NotFound:
    """Says the same whether an order does not exist or is somebody else's."""
    return NotFound("There is no such order.")


# -- placing -----------------------------------------------------------------------------------------------------------


async def _land(tx: Transaction, order_id: UUID, buyer_id: UUID) -> None:
    await tx.execute(LAND, order_id, buyer_id, ROUTE)


async def _take_up(tx: Transaction, buyer_id: UUID, key: IdempotencyKey) -> Order:
    """The order that a key in use made; while its payment is to be opened, the repeat is now the request in flight.

    Raises Conflict.
    """
    order_id: UUID | None = await tx.fetchval(TAKE_UP_KEY, buyer_id, ROUTE, key.key, IN_FLIGHT)
    if order_id is None:
        raise Conflict("The first request with this Idempotency-Key is still in hand.", code="idempotency_in_flight")
    order = await _read(tx, order_id)
    if not order.unopened:
        await _land(tx, order_id, buyer_id)
    return order


async def _offers(tx: Transaction, lines: Sequence[CartLine]) -> dict[UUID, Offer]:
    rows = await tx.fetch(OFFERS, [line.product_id for line in lines])
    return {
        row["id"]: Offer(row["id"], row["seller_id"], row["title"], row["price_cents"], row["currency"], row["on_sale"])
        for row in rows
    }


async def _insert(tx: Transaction, order: Order) -> None:
    await tx.execute(
        INSERT_ORDER,
        order.id,
        order.buyer_id,
        order.status,
        order.currency,
        order.total_cents,
        order.created_at,
        order.paid_at,
        order.expires_at,
        order.payment and order.payment.payment_id,
        IN_FLIGHT,  # the placing request has its payment opened; if it dies, whoever looks after due orders does
        None if order.paid_at is None else await take_invoice_number(tx),
    )
    await tx.execute(
        INSERT_ITEMS,
        order.id,
        [item.id for item in order.items],
        [item.product_id for item in order.items],
        [item.seller_id for item in order.items],
        [item.title for item in order.items],
        [item.quantity for item in order.items],
        [item.unit_price_cents for item in order.items],
        [item.total_cents for item in order.items],
    )
    if order.earnings:
        await tx.execute(
            INSERT_EARNINGS,
            order.id,
            [earning.seller_id for earning in order.earnings],
            [earning.gross_cents for earning in order.earnings],
            [earning.fee_cents for earning in order.earnings],
            [earning.fee_bp for earning in order.earnings],
        )


# -- reading -----------------------------------------------------------------------------------------------------------


async def _read(queries: Snapshot | Transaction, order_id: UUID) -> Order:
    row = await queries.fetchrow(f"{ORDER} WHERE id = $1", order_id)
    if row is None:
        raise no_order()
    return (await _orders(queries, [row]))[0]


async def _orders(queries: Snapshot | Transaction, rows: Sequence[Record]) -> list[Order]:
    ids = [row["id"] for row in rows]
    items = await queries.fetch("SELECT * FROM order_items WHERE order_id = ANY($1::uuid[]) ORDER BY position", ids)
    earnings = await queries.fetch("SELECT * FROM earnings WHERE order_id = ANY($1::uuid[]) ORDER BY seller_id", ids)
    return [_order(row, items, earnings) for row in rows]


def _order(row: Record, items: Sequence[Record], earnings: Sequence[Record]) -> Order:
    return Order(
        id=row["id"],
        buyer_id=row["buyer_id"],
        status=OrderStatus(row["status"]),
        currency=row["currency"],
        total_cents=row["total_cents"],
        items=tuple(_item(item) for item in items if item["order_id"] == row["id"]),
        earnings=tuple(earning_of(earning) for earning in earnings if earning["order_id"] == row["id"]),
        created_at=row["created_at"],
        paid_at=row["paid_at"],
        expires_at=row["expires_at"],
        payment=_payment(row),
        invoice_number=row["invoice_number"],
    )


def _item(row: Record) -> OrderItem:
    return OrderItem(
        id=row["id"],
        product_id=row["product_id"],
        seller_id=row["seller_id"],
        title=row["title"],
        quantity=row["quantity"],
        unit_price_cents=row["unit_price_cents"],
        total_cents=row["total_cents"],
        licence_key=row["licence_key"],
        refunded_cents=row["refunded_cents"],
    )


def earning_of(row: Record) -> Earning:
    return Earning(row["seller_id"], row["gross_cents"], row["fee_cents"], row["fee_bp"])


def _payment(row: Record) -> OrderPayment | None:
    if row["payment_id"] is None:
        return None
    status = row["payment_status"]
    return OrderPayment(row["payment_id"], row["client_secret"], None if status is None else PaymentStatus(status))
