"""What an invoice says to machines: EN 16931 data in the CII syntax, profile EN 16931 ("comfort") of Factur-X 1.0.

The terms are those of the norm (BT-n, BG-n); the library that writes the elements takes them by these names. Some
choices are ours, since the norm was not made for a shop:

- The platform is the seller (BG-4). Who made the work is said in the line's note (BT-127).
- A buyer's address is not known, but its country is a must (BR-11): it is the issuer's, whose VAT was charged.
- What is bought can be downloaded once it is paid: that is the day of delivery (BT-72).
- All is settled when a document is issued: the amount paid (BT-113) is the total and nothing is due (BT-115).
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from facturx import generate_cii_xml, generate_xmp_object
from lxml import etree

from veza.domain.invoices import (
    EXEMPTIONS,
    Buyer,
    CreditNote,
    Document,
    InvoiceLine,
    Issuer,
    Vat,
    VatPart,
    exponent,
    major,
    net_unit_price,
)
from veza.domain.vat import percent

FILE_NAME = "factur-x.xml"  # Factur-X 1.0, 6.2.2: the name by which a reader finds it
LEVEL = "en16931"
MAX_EXPONENT = 2  # BR-DEC-*: the norm's amounts have no third digit after the point
INVOICE, CREDIT_NOTE = "380", "381"  # UNTDID 1001, BT-3
PIECE = "C62"  # UN/ECE Recommendation 20: one
ONLINE_PAYMENT = "68"  # UNTDID 4461, BT-81: an online payment service
EMAIL = "EM"  # CEF EAS code list: electronic mail
SIREN = "0002"  # ISO/IEC 6523: the register of French enterprises
FRENCH_ADDRESS = "0225"  # CEF EAS code list: an address in the French directory of invoicing, a SIREN to begin with
PAID_SERVICE = "S2"  # XP Z12-012, BT-23: an invoice for services, already paid
NOT_SUBJECT = "VATEX-EU-O"  # CEF VATEX code list, BT-121

ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can not hold (section 2.2)."""


def expressible(currency: str) -> bool:
    """Whether the norm has a place for this currency's minor units."""
    return exponent(currency) <= MAX_EXPONENT


def cii(document: Document) -> bytes:
    """The document as a CrossIndustryInvoice, valid by its schema, UTF-8. Its currency must be ``expressible``."""
    lines = zip(document.lines, document.totals.line_nets, strict=True)
    terms = {
        **_header(document),
        "BG-4": _seller(document.issuer),
        "BG-7": _buyer(document.buyer, document.issuer.address.country),
        "BG-23": [_vat_part(document, part) for part in document.totals.parts],
        "BG-25": [_line(document, number, line, net) for number, (line, net) in enumerate(lines, start=1)],
        **_totals(document),
    }
    # The schema is checked each time (2 ms), so that nothing invalid is handed out; the norm's rules, by the tests.
    written: bytes = generate_cii_xml(terms, level=LEVEL, check_xsd=True, check_schematron=False)
    return written


def _header(document: Document) -> dict[str, Any]:
    settled = _day(document.settled_at)
    notes = [{"BT-21": code, "BT-22": text} for code, text in document.mentions.items()]
    header: dict[str, Any] = {
        "BT-1": document.number,
        "BT-2": _day(document.issued_at),
        "BT-3": CREDIT_NOTE if isinstance(document, CreditNote) else INVOICE,
        "BT-5": document.currency,
        "BT-9": settled,
        "BT-14": document.order_id,
        "BT-23": PAID_SERVICE if document.issuer.siren else None,
        "BT-72": settled,
        "BT-81": ONLINE_PAYMENT,
        "BT-83": _legal(document.payment_reference),
    }
    if isinstance(document, CreditNote):
        header["BT-72"] = _day(document.invoice_issued_at)
        header["BG-3"] = [{"BT-25": document.invoice_number, "BT-26": _day(document.invoice_issued_at)}]
        notes.append({"BT-22": _legal(document.reason)})
    return header | {"BG-1": notes}


def _seller(issuer: Issuer) -> dict[str, Any]:
    address = issuer.address
    streets = dict(zip(("addr_l1", "addr_l2", "addr_l3"), map(_legal, address.street), strict=False))
    seller = {
        "name": _legal(issuer.name),
        "identifiers": {None: _legal(issuer.site)},
        "vat_identifier": issuer.vat_id,
        "postcode": address.post_code,
        "city": _legal(address.city),
        "country_code": address.country,
    }
    if issuer.siren:
        seller |= {"legal_identifier": issuer.siren, "legal_identifier_schemeid": SIREN}
        seller |= {"einvoicing_addr": issuer.siren, "einvoicing_addr_schemeid": FRENCH_ADDRESS}
    return seller | streets


def _buyer(buyer: Buyer, country: str) -> dict[str, Any]:
    party = {"name": _legal(buyer.name), "country_code": country}
    if not buyer.email:
        return party
    email = _legal(buyer.email)
    return party | {"einvoicing_addr": email, "einvoicing_addr_schemeid": EMAIL, "contacts": [{"email": email}]}


def _line(document: Document, number: int, line: InvoiceLine, net_cents: int) -> dict[str, Any]:
    vat = document.vat(line.vat_bp)
    return {
        "BT-126": str(number),
        "BT-127-00": [{"BT-127": f"Sold by {_legal(line.seller)}"}],
        "BT-129": str(line.quantity),
        "BT-130": PIECE,
        "BT-131": _amount(document, net_cents),
        "BT-146": str(net_unit_price(net_cents, line.quantity, document.currency)),
        "BT-151": vat.value,
        "BT-152": _rate(vat, line.vat_bp),
        "BT-153": _legal(line.description),
    }


def _vat_part(document: Document, part: VatPart) -> dict[str, Any]:
    vat = document.vat(part.vat_bp)
    return {
        "BT-116": _amount(document, part.net_cents),
        "BT-117": _amount(document, part.vat_cents),
        "BT-118": vat.value,
        "BT-119": _rate(vat, part.vat_bp),
        "BT-120": EXEMPTIONS.get(vat),
        "BT-121": NOT_SUBJECT if vat is Vat.OUTSIDE else None,
    }


def _totals(document: Document) -> dict[str, str]:
    totals = document.totals
    return {
        "BT-106": _amount(document, totals.net_cents),
        "BT-109": _amount(document, totals.net_cents),
        "BT-110": _amount(document, totals.vat_cents),
        "BT-112": _amount(document, totals.gross_cents),
        "BT-113": _amount(document, totals.gross_cents),
        "BT-115": _amount(document, 0),
    }


def _rate(vat: Vat, vat_bp: int) -> str | None:
    return None if vat is Vat.OUTSIDE else percent(vat_bp)  # BR-O-5: what is not subject to VAT has no rate


def _amount(document: Document, cents: int) -> str:
    return f"{major(cents, document.currency):f}"


def _day(moment: datetime) -> date:
    return moment.date()


def _legal(text: str) -> str:
    """A text that XML can hold. Names are a must, so that one of blanks alone is a dash."""
    return ILLEGAL.sub("\ufffd", text).strip() or "-"


def xmp(*, title: str, author: str, subject: str, producer: str, moment: datetime) -> str:
    """The metadata that makes a PDF/A-3 a Factur-X: its own fields and the schema that declares them (6.2.3)."""
    stamp = moment.isoformat(timespec="seconds")
    fields = {
        "pdfa3_flavor": "U",
        "title": _legal(title),
        "author": _legal(author),
        "subject": _legal(subject),
        "producer": producer,
        "creator_tool": "Veza",
        "timestamp": stamp,
        "version": "1.0",
        "documenttype": "INVOICE",
        "xml_filename": FILE_NAME,
        "xmp_level": "EN 16931",
        "urn": "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#",
    }
    written: str = etree.tostring(generate_xmp_object(fields), pretty_print=True, encoding="unicode")
    return written
