"""Invoices and credit notes: what they say and how their amounts come about.

Prices include VAT, so an invoice starts from what was paid and finds the VAT in it. For each rate the net amount of the
sum is ``gross x 10000 / (10000 + rate)``, rounded half up to the minor unit, and VAT is the rest: the total is always
what was paid. The lines' net amounts are shares of that net amount by largest remainder, so they add up to it.

The semantic model is EN 16931-1:2017, whose terms (BT-n) and rules (BR-n) are cited by number. Its rule that VAT be net
times rate (BR-CO-17, BR-S-9) cannot be met to the minor unit by every gross amount (0.03 at 20 % has no such net
amount); the rules' published checks therefore allow for a difference, and ours is at most one minor unit.

Credit notes of one invoice count together: each takes the net amount of all that is credited so far, less that of the
ones before it, so that parts which add up to the invoice take back its VAT to the minor unit. Each of them may differ
from net times rate by one minor unit more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from enum import StrEnum
from functools import cached_property
from itertools import groupby

from veza.domain.addresses import Address
from veza.domain.vat import BP, FRENCH_VAT_ID, VatRates

_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
EXPONENTS: Mapping[str, int] = {code: exponent for exponent, codes in _EXPONENTS.items() for code in codes.split()}
"""Digits after the point where they are not two: ISO 4217, list one, column "minor unit"."""


def exponent(currency: str) -> int:
    """How many digits of an amount in minor units stand after the point."""
    return EXPONENTS.get(currency, 2)


def major(cents: int, currency: str) -> Decimal:
    """Minor units as an amount of the currency: 1234 is 12.34 of EUR and 1234 of JPY."""
    return Decimal(cents).scaleb(-exponent(currency))


class Vat(StrEnum):
    """Why a line bears the VAT it bears (BT-151, UNTDID 5305)."""

    STANDARD = "S"
    EXEMPT = "E"
    """The issuer is registered for VAT and this kind of work has a rate of 0."""
    OUTSIDE = "O"
    """The issuer has no VAT identifier, which being exempt (E) would need (BR-E-2) and this forbids (BR-O-2)."""


EXEMPTIONS: Mapping[Vat, str] = {
    Vat.EXEMPT: "Exempt from VAT.",
    Vat.OUTSIDE: "No VAT charged: the issuer is not registered for VAT.",
}
"""What the document says where no VAT is charged (BT-120; BR-E-10 and BR-O-10 ask for a reason)."""


FRENCH_MENTIONS: Mapping[str, str] = {
    "AAB": "No discount for early payment.",
    "PMD": "No interest for late payment: settled before issue.",
    "PMT": "No fee for the costs of recovery (40 EUR): settled before issue.",
}
"""What a French issuer has to say (Code de commerce, L441-9 and D441-5), by the note's code (BT-21, UNTDID 4451)."""


@dataclass(frozen=True)
class Issuer:
    """Who issues: the platform (BG-4)."""

    name: str
    address: Address
    vat_id: str | None
    site: str
    """Where the platform is found, such as ``veza.example``: its identifier (BT-29, BR-CO-26)."""

    @property
    def siren(self) -> str | None:
        """A French issuer's number in the register of enterprises: the digits of its VAT identifier after the key."""
        french = FRENCH_VAT_ID.fullmatch(self.vat_id or "")
        return french[1] if french else None


@dataclass(frozen=True)
class Billing:
    """What documents are made under: who issues, and at what rates. It holds for the sales of its time."""

    issuer: Issuer
    rates: VatRates


@dataclass(frozen=True)
class Buyer:
    name: str
    email: str | None


@dataclass(frozen=True)
class InvoiceLine:
    """What was bought of whom. A refund by amount is a line of quantity 1 at that amount."""

    description: str
    seller: str
    quantity: int
    unit_price_cents: int
    """With VAT."""
    vat_bp: int

    def __post_init__(self) -> None:
        if self.quantity < 1 or self.unit_price_cents < 0 or not 0 <= self.vat_bp < BP:
            raise ValueError("a line has a quantity from 1, a price from 0 and a VAT rate from 0 to below 100 %")

    @property
    def total_cents(self) -> int:
        """With VAT."""
        return self.quantity * self.unit_price_cents


@dataclass(frozen=True)
class VatPart:
    """All that bears one rate (BG-23), in minor units."""

    vat_bp: int
    net_cents: int
    vat_cents: int

    @property
    def gross_cents(self) -> int:
        return self.net_cents + self.vat_cents


@dataclass(frozen=True)
class Totals:
    """What a document's lines come to, in minor units. ``net + vat = gross``; the parts and the lines' nets add up."""

    parts: tuple[VatPart, ...]
    line_nets: tuple[int, ...]
    """In the order of the lines (BT-131)."""

    @property
    def net_cents(self) -> int:
        return sum(part.net_cents for part in self.parts)

    @property
    def vat_cents(self) -> int:
        return sum(part.vat_cents for part in self.parts)

    @property
    def gross_cents(self) -> int:
        return self.net_cents + self.vat_cents


NOTHING: Mapping[int, int] = {}


def net_of(gross_cents: int, vat_bp: int) -> int:
    """What is left of a gross amount without the VAT in it, rounded half up to the minor unit."""
    return (2 * gross_cents * BP + BP + vat_bp) // (2 * (BP + vat_bp))


def totals_of(lines: Sequence[InvoiceLine], before: Mapping[int, int] = NOTHING) -> Totals:
    """The totals of the lines, a part for each rate, the highest first.

    ``before`` are the gross amounts by rate that the lines go on from: the nets are what the lines add to theirs.
    """
    nets = [0] * len(lines)
    parts = []
    ranked = sorted(range(len(lines)), key=lambda at: -lines[at].vat_bp)
    for vat_bp, group in groupby(ranked, key=lambda at: lines[at].vat_bp):
        at = list(group)
        gross = [lines[index].total_cents for index in at]
        so_far = before.get(vat_bp, 0)
        # Between the exact amount rounded down and rounded up, whatever it goes on from: so the shares below fit.
        net = net_of(so_far + sum(gross), vat_bp) - net_of(so_far, vat_bp)
        for index, share in zip(at, _shares(gross, vat_bp, net), strict=True):
            nets[index] = share
        parts.append(VatPart(vat_bp, net, sum(gross) - net))
    return Totals(tuple(parts), tuple(nets))


def _shares(gross: Sequence[int], vat_bp: int, net: int) -> list[int]:
    """``net`` over the lines: each its own part rounded down, the rest to the largest remainders."""
    exact = [divmod(amount * BP, BP + vat_bp) for amount in gross]
    shares = [whole for whole, _ in exact]
    by_remainder = sorted(range(len(exact)), key=lambda at: -exact[at][1])
    for at in by_remainder[: net - sum(shares)]:
        shares[at] += 1
    return shares


def net_unit_price(net_cents: int, quantity: int, currency: str) -> Decimal:
    """A line's net price for one (BT-146): the shortest that times the quantity rounds to its net amount."""
    net, cent = major(net_cents, currency), Decimal(1).scaleb(-exponent(currency))
    digits = exponent(currency)
    with localcontext() as context:
        context.rounding = ROUND_HALF_UP
        # Each digit brings the price ten times nearer: as many as the quantity has, and one more, always do.
        while ((price := (net / quantity).quantize(Decimal(1).scaleb(-digits))) * quantity).quantize(cent) != net:
            digits += 1
    return price


FREE = "free of charge"
"""The payment of what cost nothing."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What an invoice and a credit note have in common. Raises ValueError where it could not be a valid document."""

    number: str
    issued_at: datetime
    currency: str
    issuer: Issuer
    buyer: Buyer
    lines: tuple[InvoiceLine, ...]
    order_id: str
    settled_at: datetime
    """When it was paid, or paid back. Nothing is issued before."""
    payment_reference: str
    """The provider's id of it, or ``FREE``."""

    def __post_init__(self) -> None:
        if not self.lines:
            raise ValueError(f"{self.number} has no lines (BR-16)")
        if self.issuer.vat_id is None and any(line.vat_bp for line in self.lines):
            raise ValueError(f"{self.number} charges VAT, so its issuer needs a VAT identifier (BR-S-2)")

    @cached_property
    def totals(self) -> Totals:
        return totals_of(self.lines)

    @property
    def mentions(self) -> Mapping[str, str]:
        """What the law of the issuer's country wants said, by the note's code."""
        return FRENCH_MENTIONS if self.issuer.siren else {}

    def vat(self, vat_bp: int) -> Vat:
        """The kind of VAT that a rate of this document means."""
        if self.issuer.vat_id is None:
            return Vat.OUTSIDE
        return Vat.STANDARD if vat_bp else Vat.EXEMPT


@dataclass(frozen=True, kw_only=True)
class Invoice(Document):
    """A paid order, billed by the platform."""

    @property
    def filename(self) -> str:
        """What its PDF is called."""
        return f"invoice-{self.number}.pdf"


@dataclass(frozen=True, kw_only=True)
class CreditNote(Document):
    """What was paid back of an invoice. Its amounts are positive: the type code (381) says that they are credited."""

    invoice_number: str
    invoice_issued_at: datetime
    reason: str
    credited_before: Mapping[int, int] = field(default_factory=dict)
    """What earlier credit notes of the invoice took back, with VAT, in minor units by the rate in basis points."""

    @cached_property
    def totals(self) -> Totals:
        return totals_of(self.lines, self.credited_before)

    @property
    def filename(self) -> str:
        """What its PDF is called."""
        return f"credit-note-{self.number}.pdf"


@dataclass(frozen=True)
class Credited:
    """What was paid back of one line of an invoice. ``quantity`` is null where it was an amount, not pieces."""

    line: InvoiceLine
    amount_cents: int
    quantity: int | None

    @property
    def as_line(self) -> InvoiceLine:
        """As a credit note shows it: pieces at their price where it was pieces, or all of them; else the amount."""
        quantity = self.line.quantity if self.amount_cents == self.line.total_cents else self.quantity
        if quantity is not None:
            return replace(self.line, quantity=quantity)
        return replace(self.line, quantity=1, unit_price_cents=self.amount_cents)


def credited_by_rate(parts: Iterable[Credited]) -> dict[int, int]:
    """What was paid back, in minor units with VAT, by the rate in basis points."""
    by_rate: dict[int, int] = {}
    for part in parts:
        by_rate[part.line.vat_bp] = by_rate.get(part.line.vat_bp, 0) + part.amount_cents
    return by_rate


def credit_note(
    invoice: Invoice,
    number: str,
    parts: Iterable[Credited],
    before: Iterable[Credited],
    *,
    issued_at: datetime,
    payment_reference: str,
    reason: str,
) -> CreditNote:
    """A credit note of ``parts`` of an invoice, ``before`` which others were credited.

    It names the same issuer and buyer, and the same rates, whatever has become of them since.
    """
    return CreditNote(
        number=number,
        issued_at=issued_at,
        currency=invoice.currency,
        issuer=invoice.issuer,
        buyer=invoice.buyer,
        lines=tuple(part.as_line for part in parts),
        order_id=invoice.order_id,
        settled_at=issued_at,
        payment_reference=payment_reference,
        invoice_number=invoice.number,
        invoice_issued_at=invoice.issued_at,
        reason=reason,
        credited_before=credited_by_rate(before),
    )
