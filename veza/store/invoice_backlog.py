"""Invoices and credit notes that nobody asked for yet, made because somebody whom they name goes, or wants all theirs.

A document names people as they were called when it was made. So before a person is erased, whatever still has to be
able to name them is written down: of what they bought, and of what was bought of them. An export has all that are
theirs: of what they bought.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.invoices import Billing
from veza.store.bridge import Record, Transaction
from veza.store.invoices import BILLING, INVOICE, KEEP, invoice_of, keep_credit_note

BOUGHT: Final = "(SELECT id FROM orders WHERE buyer_id = $1)"
TRADED: Final = """
(SELECT id FROM orders WHERE buyer_id = $1 UNION SELECT order_id FROM order_items WHERE seller_id = $1)
"""

ORDERS: Final = """
SELECT o.id, o.currency, o.paid_at, o.payment_id, o.invoice_number, u.username, u.email
FROM orders o JOIN users u ON u.id = o.buyer_id
WHERE o.id IN {those} AND o.invoice_number IS NOT NULL
  AND NOT EXISTS (SELECT FROM invoice_documents d WHERE d.number = o.invoice_number)
LIMIT $2
"""

LINES: Final = """
SELECT i.order_id, i.title, i.quantity, i.unit_price_cents, u.username, i.product_type
FROM order_items i JOIN users u ON u.id = i.seller_id
WHERE i.order_id = ANY($1::uuid[]) ORDER BY i.order_id, i.position
"""

BILLINGS: Final = "SELECT since, billing FROM billings ORDER BY id"

# Their invoices are kept by then.
REFUNDS: Final = """
SELECT r.order_id, r.credit_note_number, r.completed_at, r.reference, r.reason, invoice.document AS invoice
FROM refunds r JOIN orders o ON o.id = r.order_id JOIN invoice_documents invoice ON invoice.number = o.invoice_number
WHERE r.order_id IN {those} AND r.credit_note_number IS NOT NULL
  AND NOT EXISTS (SELECT FROM invoice_documents d WHERE d.number = r.credit_note_number)
LIMIT $2
"""


async def write_documents(tx: Transaction, user_id: UUID, limit: int, those: str = TRADED) -> int:
    """Write at most ``limit`` of the documents of a person's orders that nobody asked for; how many it were.

    Less than the limit: these were the last. ``those`` are the orders: what names the person, or ``BOUGHT``, what is
    theirs.
    """
    orders = await tx.fetch(ORDERS.format(those=those), user_id, limit)
    if orders:
        await _write_invoices(tx, orders)
    if len(orders) == limit:
        return limit
    refunds = await tx.fetch(REFUNDS.format(those=those), user_id, limit - len(orders))
    for refund in refunds:
        await keep_credit_note(tx, INVOICE.validate_json(refund["invoice"]), refund["order_id"], refund)
    return len(orders) + len(refunds)


async def _write_invoices(tx: Transaction, orders: list[Record]) -> None:
    billings = [(row["since"], BILLING.validate_json(row["billing"])) for row in await tx.fetch(BILLINGS)]
    lines = defaultdict[UUID, list[Record]](list)
    for line in await tx.fetch(LINES, [order["id"] for order in orders]):
        lines[line["order_id"]].append(line)
    made = [invoice_of(order, lines[order["id"]], _in_force(billings, order["paid_at"])) for order in orders]
    await tx.executemany(KEEP, [(each.number, INVOICE.dump_json(each).decode()) for each in made])


def _in_force(billings: list[tuple[datetime, Billing]], at: datetime) -> Billing:
    """What a sale is invoiced under. What was paid before the first was written down has the first."""
    return next((billing for since, billing in reversed(billings) if since <= at), billings[0][1])
