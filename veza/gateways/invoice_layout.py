"""How invoices and credit notes look: A4, one column of lines, the totals below them.

Where things stand is decided before anything is drawn (``paginate``), so that "page 1 of 3" is known from the start.
Free text is wrapped, and shaped where its script asks for it; labels and figures are plain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, cast

from fpdf import FPDF
from fpdf.enums import MethodReturnValue
from fpdf.fonts import SubsetMap, TTFFont

from veza.domain.invoices import EXEMPTIONS, CreditNote, Document, InvoiceLine, Vat, VatPart, major
from veza.domain.vat import percent
from veza.gateways.typefaces import BOLD, REGULAR, joins, needed

Colour = tuple[int, int, int]
Side = Literal["L", "R"]

WIDTH, HEIGHT = 210.0, 297.0  # A4 in mm, as are all lengths here
LEFT, RIGHT = 20.0, 190.0
BOTTOM = 268.0  # where the page's content ends; the foot is below
TOP = 34.0  # where it begins on the second page and after
INK: Colour = (27, 31, 40)
MUTED: Colour = (105, 112, 124)
RULE: Colour = (216, 220, 226)
ACCENT: Colour = (58, 76, 140)
LEADING = 1.38  # line height over type size: what Devanagari and Thai need above and below
POINT = 25.4 / 72
BODY, SMALL, TINY = 9.0, 8.0, 7.0  # type sizes in points

# Right edges of the columns of figures; the description has what is left of them.
QUANTITY, UNIT, RATE, AMOUNT = 122.0, 146.0, 162.0, RIGHT
DESCRIPTION_WIDTH = 86.0
PADDING = 2.2
SUMMARY = 112.0  # left edge of the totals

MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905


def day(moment: datetime) -> str:
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}"


class Sheet(FPDF):
    """Paper with the typefaces that a document's texts need, and two ways to write on it."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(format="A4", enforce_compliance="PDF/A-3U")
        self.set_auto_page_break(auto=False)
        self.set_margin(0)
        self.c_margin = 0
        self.str_alias_nb_pages = ""  # or {nb} in a title would be read as the number of pages
        self.add_font("text", "", REGULAR)
        self.add_font("text", "B", BOLD)
        others = {face: characters for face, characters in needed(texts).items() if face != REGULAR}
        for face, characters in others.items():
            self.add_font(face.stem, "", face, unicode_range=sorted(characters))
        self.set_fallback_fonts([face.stem for face in others], exact_match=False)

    def release(self) -> None:
        """Close the typefaces' files, read as they are needed up to the output, and let go of what was read of them.

        The library caches by method and so keeps each sheet's typefaces for good, 0.5 MB and more a document. Emptying
        its caches costs another sheet that is being written some look-ups, no more.
        """
        for font in self.fonts.values():
            cast("TTFFont", font).ttfont.close()
        SubsetMap.pick.cache_clear()
        SubsetMap.get_glyph.cache_clear()

    def _pen(self, size: float, colour: Colour, *, bold: bool, shaped: bool) -> None:
        self.set_font("text", "B" if bold else "", size)
        self.set_text_color(*colour)
        self.set_text_shaping(shaped)

    def put(
        self, x: float, y: float, text: str, *, size: float = BODY, colour: Colour = INK, bold: bool = False
    ) -> None:
        """A label from ``x`` on."""
        self._pen(size, colour, bold=bold, shaped=False)
        self.set_xy(x, y)
        self.cell(h=size * POINT * LEADING, text=text)

    def put_to(
        self, x: float, y: float, text: str, *, size: float = BODY, colour: Colour = INK, bold: bool = False
    ) -> None:
        """A figure or label that ends at ``x``."""
        self._pen(size, colour, bold=bold, shaped=False)
        self.set_xy(x - self.get_string_width(text), y)
        self.cell(h=size * POINT * LEADING, text=text)

    def write_in(
        self, x: float, y: float, width: float, text: str, *, size: float = BODY, colour: Colour = INK,
        bold: bool = False, side: Side = "L", dry: bool = False,
    ) -> float:  # fmt: skip
        """Free text, wrapped to ``width``; how high it is. ``dry`` measures only."""
        self._pen(size, colour, bold=bold, shaped=joins(text))
        self.set_xy(x, y)
        height = self.multi_cell(
            width, size * POINT * LEADING, text, align=side, dry_run=dry, output=MethodReturnValue.HEIGHT
        )
        return cast("float", height)  # what HEIGHT alone returns

    def rule(self, x: float, y: float, to: float, *, colour: Colour = RULE, width: float = 0.2) -> None:
        self.set_draw_color(*colour)
        self.set_line_width(width)
        self.line(x, y, to, y)


class Layout:
    """One document on its sheets. ``draw`` fills them."""

    def __init__(self, document: Document, sheet: Sheet) -> None:
        self.document = document
        self.sheet = sheet
        self.credit = isinstance(document, CreditNote)
        self.title = "Credit note" if self.credit else "Invoice"
        self.total = f"Total {document.currency}"

    def draw(self) -> None:
        self.sheet.add_page()
        top = self._head()
        heights = [self._row(0, line, dry=True) for line in self.document.lines]
        pages = list(paginate(heights, top + 8, TOP + 8, self._end(0, dry=True)))
        at = 0
        for number, count in enumerate(pages, start=1):
            if number > 1:
                self.sheet.add_page()
                top = self._continued()
            y = self._columns(top) if count else top
            for line, height in zip(self.document.lines[at : at + count], heights[at : at + count], strict=True):
                self._row(y, line)
                y += height
                self.sheet.rule(LEFT, y, RIGHT)
            at += count
            if number == len(pages):
                self._end(y)
            self._foot(number, len(pages))

    def _money(self, cents: int) -> str:
        return f"{major(cents, self.document.currency):,f}"

    def _head(self) -> float:
        """Who, to whom and which; returns where it ends."""
        sheet, document = self.sheet, self.document
        sheet.set_fill_color(*ACCENT)
        sheet.rect(LEFT, 17.4, 14, 1.2, style="F")
        sheet.put(LEFT, 21.5, self.title, size=24, bold=True)
        sheet.put(LEFT, 33.5, document.number, size=11, colour=MUTED)
        height = sheet.write_in(SUMMARY, 23.5, RIGHT - SUMMARY, document.issuer.name, size=11, bold=True, side="R")
        sheet.write_in(SUMMARY, 23.5 + height, RIGHT - SUMMARY, document.issuer.site, colour=MUTED, side="R")
        ends = (
            self._party(LEFT, 50, "From", document.issuer.name, self._issuer_details()),
            self._party(72, 50, "Billed to", document.buyer.name, [document.buyer.email or ""]),
            self._facts(122, 50),
        )
        return max(ends) + 9

    def _issuer_details(self) -> list[str]:
        issuer = self.document.issuer
        vat = [f"VAT {issuer.vat_id}"] if issuer.vat_id else []
        return [*issuer.address.lines, *([f"SIREN {issuer.siren}"] if issuer.siren else []), *vat]

    def _party(self, x: float, y: float, label: str, name: str, details: Sequence[str]) -> float:
        self.sheet.put(x, y, label, size=SMALL, colour=ACCENT, bold=True)
        y += 5.5
        y += self.sheet.write_in(x, y, 46, name, bold=True)
        for detail in filter(None, details):
            y += self.sheet.write_in(x, y, 46, detail, colour=MUTED)
        return y

    def _facts(self, x: float, y: float) -> float:
        self.sheet.put(x, y, "Details", size=SMALL, colour=ACCENT, bold=True)
        y += 5.5
        document = self.document
        facts = [("Issued", day(document.issued_at))]
        facts.append(("Refunded" if self.credit else "Paid", day(document.settled_at)))
        if isinstance(document, CreditNote):
            facts.append(("Corrects", f"{document.invoice_number}, {day(document.invoice_issued_at)}"))
        facts += [("Order", document.order_id), ("Payment", document.payment_reference)]
        for name, fact in facts:
            self.sheet.put(x, y, name, size=SMALL, colour=MUTED)
            y += self.sheet.write_in(x + 15, y, RIGHT - x - 15, fact, size=SMALL if len(fact) < 33 else TINY) + 0.6
        return y

    def _continued(self) -> float:
        self.sheet.put(LEFT, 18, f"{self.title} {self.document.number}", size=BODY, bold=True)
        self.sheet.put_to(RIGHT, 18, "continued", size=SMALL, colour=MUTED)
        return TOP - 6

    def _columns(self, y: float) -> float:
        self.sheet.put(LEFT, y, "Description", size=SMALL, colour=MUTED)
        for x, text in ((QUANTITY, "Qty"), (UNIT, "Unit price"), (RATE, "VAT"), (AMOUNT, self.document.currency)):
            self.sheet.put_to(x, y, text, size=SMALL, colour=MUTED)
        self.sheet.rule(LEFT, y + 6, RIGHT, colour=INK, width=0.3)
        return y + 6

    def _row(self, y: float, line: InvoiceLine, *, dry: bool = False) -> float:
        """One line; how high it is."""
        sheet, figures = self.sheet, y + PADDING
        below = figures + sheet.write_in(LEFT, figures, DESCRIPTION_WIDTH, line.description, dry=dry)
        sold = f"Sold by {line.seller}"
        below += sheet.write_in(LEFT, below, DESCRIPTION_WIDTH, sold, size=SMALL, colour=MUTED, dry=dry)
        if not dry:
            rate = "none" if self.document.vat(line.vat_bp) is Vat.OUTSIDE else f"{percent(line.vat_bp)} %"
            sheet.put_to(QUANTITY, figures, str(line.quantity))
            sheet.put_to(UNIT, figures, self._money(line.unit_price_cents))
            sheet.put_to(RATE, figures, rate)
            sheet.put_to(AMOUNT, figures, self._money(line.total_cents))
        return below + PADDING - y

    def _end(self, y: float, *, dry: bool = False) -> float:
        """The totals and what has to be said; how high it is."""
        top = y
        y += 6
        sums = list(self._sums())
        parts = self.document.totals.parts if self.document.issuer.vat_id else ()
        if not dry:
            self._breakdown(y, parts)
            self._totals(y, sums)
        y += max(6 * len(sums) + 4, 5.2 * len(parts) + 7) + 6
        for note in self._notes():
            y += self.sheet.write_in(LEFT, y, RIGHT - LEFT, note, size=SMALL, colour=MUTED, dry=dry) + 0.8
        return y - top

    def _sums(self) -> Iterator[tuple[str, int]]:
        totals = self.document.totals
        if self.document.issuer.vat_id:
            yield "Total without VAT", totals.net_cents
            yield "VAT", totals.vat_cents
        yield self.total, totals.gross_cents
        yield f"{'Refunded' if self.credit else 'Paid'} on {day(self.document.settled_at)}", totals.gross_cents
        yield "Amount due", 0

    def _totals(self, y: float, sums: Sequence[tuple[str, int]]) -> None:
        for name, cents in sums:
            bold = name == self.total
            if bold:
                self.sheet.rule(SUMMARY, y + 0.6, RIGHT, colour=INK, width=0.3)
                y += 2
            size, colour = (12.0, INK) if bold else (BODY, MUTED)
            self.sheet.put(SUMMARY, y, name, size=size, colour=colour, bold=bold)
            self.sheet.put_to(RIGHT, y, self._money(cents), size=size, colour=INK, bold=bold)
            y += 8 if bold else 6

    def _breakdown(self, y: float, parts: Sequence[VatPart]) -> None:
        if not parts:
            return
        columns = (48.0, 70.0, 92.0)
        self.sheet.put(LEFT, y, "VAT", size=SMALL, colour=MUTED)
        for x, text in zip(columns, ("Net", "VAT", "With VAT"), strict=True):
            self.sheet.put_to(x, y, text, size=SMALL, colour=MUTED)
        self.sheet.rule(LEFT, y + 5.2, columns[-1])
        y += 6.2
        for part in parts:
            self.sheet.put(LEFT, y, f"{percent(part.vat_bp)} %", size=SMALL)
            for x, cents in zip(columns, (part.net_cents, part.vat_cents, part.gross_cents), strict=True):
                self.sheet.put_to(x, y, self._money(cents), size=SMALL)
            y += 5.2

    def _notes(self) -> Iterator[str]:
        document = self.document
        if isinstance(document, CreditNote):
            yield f"Reason: {document.reason}"
        elif document.totals.vat_cents:
            yield "Prices include VAT."
        for vat in {document.vat(part.vat_bp): None for part in document.totals.parts}:
            if vat is Vat.EXEMPT:
                yield f"VAT at 0 %: {EXEMPTIONS[vat]}"
            elif vat is Vat.OUTSIDE:
                yield EXEMPTIONS[vat]
        if document.mentions:
            yield " ".join(document.mentions.values())

    def _foot(self, page: int, pages: int) -> None:
        issuer, y = self.document.issuer, 281.0
        self.sheet.rule(LEFT, y - 3, RIGHT)
        who = " · ".join(filter(None, (issuer.name, issuer.site, issuer.vat_id and f"VAT {issuer.vat_id}")))
        self.sheet.write_in(LEFT, y, 140, who, size=TINY, colour=MUTED)
        self.sheet.put_to(RIGHT, y, f"Page {page} of {pages}", size=TINY, colour=MUTED)


def paginate(heights: Sequence[float], first: float, other: float, end: float) -> Iterator[int]:
    """How many rows stand on each page, from ``first`` or ``other`` down to BOTTOM, and below the last the end.

    Where the end does not fit under the last row, that row goes to the next page with it: totals never stand alone. A
    first page may stay empty, for a reason too long to fit under all that is on it.
    """
    y, count = first, 0
    for at, height in enumerate(heights):
        below = height + (end if at == len(heights) - 1 else 0)
        if y + below > BOTTOM and (count or not at):
            yield count
            y, count = other, 0
        y, count = y + height, count + 1
    yield count
