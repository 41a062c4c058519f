"""Invoices and credit notes: made of their order's rows the first time they are asked for, and kept as they were made.

An issued document may not change, but much of what it says may: usernames, addresses, who the issuer is and at what
rates. So what a document says is written down once, under its number, and read from there ever
after; of two who ask first at the same time, one writes and both read the same. That is done at the first asking and
not at the payment, so that paying holds the row of the number series no longer than it must (`veza.store.numbers`), and
no sale fails for what only its invoice needs. What must be as it was on the day of the sale is known then anyway: the
titles, kinds and prices stand in the order, and the issuer and the rates in force at any time are kept.
`veza.store.invoice_backlog` makes what nobody asked for when one of its people goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from veza.domain.catalog import ProductType
from veza.domain.errors import Conflict, Forbidden, NotFound
from veza.domain.invoices import FREE, Billing, Buyer, Credited, CreditNote, Document, Invoice, InvoiceLine, credit_note
from veza.domain.refunds import Asker
from veza.store.bridge import Database, Record, Transaction
from veza.store.orders import no_order

D = TypeVar("D", bound=Document)

BILLING: Final = TypeAdapter(Billing)
INVOICE: Final = TypeAdapter(Invoice)
CREDIT_NOTE: Final = TypeAdapter(CreditNote)

IN_FORCE: Final = "SELECT billing = $1::jsonb FROM billings ORDER BY id DESC LIMIT 1"
BEGIN: Final = "INSERT INTO billings (billing) VALUES ($1)"

# What was paid before the first was written down has the first.
BILLING_OF: Final = """
SELECT billing FROM billings ORDER BY since <= $1 DESC, CASE WHEN since <= $1 THEN -id ELSE id END LIMIT 1
"""

ORDER: Final = """
SELECT o.id, o.buyer_id, o.currency, o.paid_at, o.payment_id, o.invoice_number, u.username, u.email,
    EXISTS (SELECT FROM order_items WHERE order_id = o.id AND seller_id = $2) AS sells, d.document
FROM orders o JOIN users u ON u.id = o.buyer_id LEFT JOIN invoice_documents d ON d.number = o.invoice_number
WHERE o.id = $1
"""

LINES: Final = """
SELECT i.title, i.quantity, i.unit_price_cents, u.username, i.product_type
FROM order_items i JOIN users u ON u.id = i.seller_id
WHERE i.order_id = $1 ORDER BY i.position
"""

REFUND: Final = """
SELECT r.credit_note_number, r.completed_at, r.reference, r.reason, d.document
FROM refunds r LEFT JOIN invoice_documents d ON d.number = r.credit_note_number
WHERE r.id = $1 AND r.order_id = $2
"""

# In the order of their numbers: each was given before the next could be.
CREDITED: Final = """
SELECT r.credit_note_number AS number, part.amount_cents, part.quantity, line.at
FROM refunds r JOIN refund_items part ON part.refund_id = r.id
JOIN (SELECT id, row_number() OVER (ORDER BY position) - 1 AS at FROM order_items WHERE order_id = $1) AS line
    ON line.id = part.order_item_id
WHERE r.order_id = $1 AND r.credit_note_number IS NOT NULL
ORDER BY split_part(r.credit_note_number, '-', 2)::integer, split_part(r.credit_note_number, '-', 3)::bigint, line.at
"""

KEEP: Final = "INSERT INTO invoice_documents (number, document) VALUES ($1, $2) ON CONFLICT DO NOTHING"
KEPT: Final = "SELECT document FROM invoice_documents WHERE number = $1"


class Invoices:
    """Whose they are: a paid order's buyer's, and an admin's."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, billing: Billing) -> bool:
        """Have sales from now on invoiced under ``billing``; whether that is news."""
        text = BILLING.dump_json(billing).decode()
        if await self._db.fetchval(IN_FORCE, text):
            return False
        async with self._db.transaction() as tx:
            await tx.execute(BEGIN, text)
        return True

    async def invoice(self, order_id: UUID, asker: Asker) -> Invoice:
        """A paid order's invoice.

        Raises NotFound for an order that is none of the asker's business, Forbidden for its sellers, Conflict while it
        is not paid.
        """
        order = await self._order(order_id, asker)
        if order["document"] is not None:
            return INVOICE.validate_json(order["document"])
        async with self._db.transaction() as tx:
            return await _invoice(tx, order)

    async def credit_note(self, order_id: UUID, refund_id: UUID, asker: Asker) -> CreditNote:
        """A refund's credit note.

        Raises as `invoice` does, NotFound for another order's refund, Conflict where nothing was paid back.
        """
        order = await self._order(order_id, asker)
        refund = await self._db.fetchrow(REFUND, refund_id, order_id)
        if refund is None:
            raise NotFound("This order has no such refund.")
        if refund["credit_note_number"] is None:
            raise Conflict("This refund has no credit note: nothing was paid back by it.", code="no_credit_note")
        if refund["document"] is not None:
            return CREDIT_NOTE.validate_json(refund["document"])
        async with self._db.transaction() as tx:
            return await keep_credit_note(tx, await _invoice(tx, order), order_id, refund)

    async def _order(self, order_id: UUID, asker: Asker) -> Record:
        order = await self._db.fetchrow(ORDER, order_id, asker.user_id)
        if order is None:
            raise no_order()
        if asker.user_id != order["buyer_id"] and not asker.is_admin:
            raise Forbidden("An invoice is for the buyer alone.") if order["sells"] else no_order()
        if order["invoice_number"] is None:
            raise Conflict("An order is invoiced once it is paid.", code="not_paid")
        return order


async def _invoice(tx: Transaction, order: Record) -> Invoice:
    """The invoice as it is kept, made now if need be."""
    billing = BILLING.validate_json(await tx.fetchval(BILLING_OF, order["paid_at"]))
    return await _kept(tx, invoice_of(order, await tx.fetch(LINES, order["id"]), billing), INVOICE)


def invoice_of(order: Record, lines: Iterable[Record], billing: Billing) -> Invoice:
    """What a paid order's invoice says, of the columns of ORDER and LINES."""
    return Invoice(
        number=order["invoice_number"],
        issued_at=order["paid_at"],
        currency=order["currency"],
        issuer=billing.issuer,
        buyer=Buyer(order["username"], order["email"]),
        lines=tuple(
            InvoiceLine(
                description=line["title"],
                seller=line["username"],
                quantity=line["quantity"],
                unit_price_cents=line["unit_price_cents"],
                vat_bp=billing.rates.of(ProductType(line["product_type"])),
            )
            for line in lines
        ),
        order_id=str(order["id"]),
        settled_at=order["paid_at"],
        payment_reference=order["payment_id"] or FREE,
    )


async def keep_credit_note(tx: Transaction, invoice: Invoice, order_id: UUID, refund: Record) -> CreditNote:
    """The credit note as it is kept, made now if need be."""
    before: list[Credited] = []
    for number, rows in groupby(await tx.fetch(CREDITED, order_id), itemgetter("number")):
        parts = [Credited(invoice.lines[row["at"]], row["amount_cents"], row["quantity"]) for row in rows]
        if number == refund["credit_note_number"]:
            break
        before += parts
    else:
        raise LookupError(f"{refund['credit_note_number']} credits no lines")
    made = credit_note(
        invoice,
        number,
        parts,
        before,
        issued_at=refund["completed_at"],
        payment_reference=refund["reference"],
        reason=refund["reason"],
    )
    return await _kept(tx, made, CREDIT_NOTE)


async def _kept(tx: Transaction, made: D, as_json: TypeAdapter[D]) -> D:
    await tx.execute(KEEP, made.number, as_json.dump_json(made).decode())
    return as_json.validate_json(await tx.fetchval(KEPT, made.number))
