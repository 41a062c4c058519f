"""Invoices and credit notes as PDF: for people to read, and for machines by the data in it.

The file is PDF/A-3U (ISO 19005-3): typefaces, colour profile and metadata are in it, so that it looks the same in ten
years, and its text can be searched and copied. The data is Factur-X, attached as ``factur-x.xml``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from veza.domain.errors import Unavailable
from veza.domain.invoices import Buyer, CreditNote, Document, InvoiceLine

if TYPE_CHECKING:
    from veza.gateways.invoice_layout import Sheet

PRODUCER = "Veza"
LANGUAGE = "en"
AT_ONCE: Final = 2  # threads that may take turns with the event loop's: it is served in between, and others wait
WAITING: Final = 20  # at some 100 ms each, two seconds' wait


class Printer:
    """Renders off the event loop, a few at a time."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._limiter = trio.CapacityLimiter(at_once)

    async def print(self, document: Document) -> bytes:
        """As `render`, in a thread that a cancel waits for. Raises Unavailable when ``WAITING`` wait already."""
        if self._limiter.statistics().tasks_waiting >= WAITING:
            raise Unavailable("Too many documents are being made; try again.", code="overloaded")
        return await trio.to_thread.run_sync(render, document, limiter=self._limiter)


def render(document: Document) -> bytes:
    """The document as a PDF; the same document always gives the same bytes.

    Takes some 100 ms of a processor, more for many lines or scripts, so callers give it a thread. The data is left out
    for the few currencies that EN 16931 cannot express (three digits after the point).
    """
    # What draws takes 0.4 s and 50 MB to import: a process pays when it first makes a document, not at its start.
    from veza.gateways.factur_x import cii, expressible
    from veza.gateways.invoice_layout import Layout, Sheet

    shown = _readable(document)
    sheet = Sheet(_texts(shown))
    try:
        layout = Layout(shown, sheet)
        layout.draw()
        _describe(sheet, shown, f"{layout.title} {shown.number}")
        if expressible(document.currency):
            _attach(sheet, document, cii(document))
        return bytes(sheet.output())
    finally:
        sheet.release()


def _describe(sheet: Sheet, shown: Document, title: str) -> None:
    from veza.gateways.factur_x import xmp

    sheet.set_lang(LANGUAGE)
    sheet.set_creation_date(shown.issued_at)
    sheet.set_xmp_metadata(
        xmp(
            title=title,
            author=shown.issuer.name,
            subject=f"{title} for {shown.buyer.name}",
            producer=PRODUCER,
            moment=shown.issued_at,
        )
    )


def _attach(sheet: Sheet, document: Document, data: bytes) -> None:
    from veza.gateways.factur_x import FILE_NAME

    sheet.embed_file(
        bytes=data,
        basename=FILE_NAME,
        mime_type="text/xml",
        desc="Factur-X data of this document",
        modification_date=document.issued_at,
        creation_date=document.issued_at,
        associated_file_relationship="Data",  # Factur-X 1.0, 6.2.1: the document and its data are of equal worth
        compress=True,
        checksum=True,
    )


def _readable(document: Document) -> Document:
    """The document with its free texts as they can be drawn."""
    from veza.gateways.typefaces import readable

    issuer, address = document.issuer, document.issuer.address
    shown = replace(
        document,
        issuer=replace(
            issuer,
            name=readable(issuer.name),
            site=readable(issuer.site),
            address=replace(address, street=tuple(map(readable, address.street)), city=readable(address.city)),
        ),
        buyer=Buyer(readable(document.buyer.name), readable(document.buyer.email or "")),
        lines=tuple(_readable_line(line) for line in document.lines),
        payment_reference=readable(document.payment_reference),
    )
    return replace(shown, reason=readable(shown.reason)) if isinstance(shown, CreditNote) else shown


def _readable_line(line: InvoiceLine) -> InvoiceLine:
    from veza.gateways.typefaces import readable

    return replace(line, description=readable(line.description), seller=readable(line.seller))


def _texts(shown: Document) -> list[str]:
    """All of its free texts."""
    issuer, buyer = shown.issuer, shown.buyer
    texts = [issuer.name, issuer.site, *issuer.address.lines, buyer.name, buyer.email or "", shown.payment_reference]
    texts += [text for line in shown.lines for text in (line.description, line.seller)]
    return [*texts, shown.reason] if isinstance(shown, CreditNote) else texts
