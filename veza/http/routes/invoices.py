"""Invoices and credit notes, as PDF with their data in it."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, Response
from quart_schema import document_response

from veza.domain.invoices import CreditNote, Invoice
from veza.http.auth import asker, login_required
from veza.http.document import Pdf, takes_headers
from veza.http.downloads import send_owned_bytes
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.orders import ORDER

api = Blueprint("invoices", __name__)


@api.get(f"{ORDER}/invoice")
@login_required
@takes_headers(if_none_match="The ETag of what is there already.")
@document_response(Pdf)
@refuses("forbidden", "not_paid", "precondition_failed")
async def get_invoice(order_id: UUID) -> Response:
    """An order's invoice as PDF/A-3 with its Factur-X data, for its buyer and admins."""
    invoice = await parts().invoices.invoice(order_id, asker())
    return await _send(invoice)


@api.get(f"{ORDER}/refunds/<uuid:refund_id>/credit-note")
@login_required
@takes_headers(if_none_match="The ETag of what is there already.")
@document_response(Pdf)
@refuses("forbidden", "no_credit_note", "precondition_failed")
async def get_credit_note(order_id: UUID, refund_id: UUID) -> Response:
    """The credit note of what a refund paid back, in the same form and for the same people."""
    note = await parts().invoices.credit_note(order_id, refund_id, asker())
    return await _send(note)


async def _send(document: Invoice | CreditNote) -> Response:
    pdf = await parts().printer.print(document)
    return send_owned_bytes(pdf, filename=document.filename, content_type="application/pdf")
