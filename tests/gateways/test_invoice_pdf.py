"""Invoices and credit notes as PDF/A-3 with Factur-X data: valid for machines, readable for people in any script."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import facturx
import psutil
import pypdf
import pytest
import trio
from fontTools.ttLib import TTFont
from fpdf.fonts import TTFFont
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pypdf.generic import ContentStream

from tests.gateways.saxon import saxon_server
from veza.domain.addresses import parse_address
from veza.domain.errors import Unavailable
from veza.domain.invoices import Buyer, CreditNote, Document, Invoice, InvoiceLine, Issuer
from veza.gateways import invoice_pdf
from veza.gateways.factur_x import cii
from veza.gateways.invoice_layout import BOTTOM, paginate
from veza.gateways.invoice_pdf import render
from veza.gateways.typefaces import BOX, CHAIN, needed, readable

FRENCH = Issuer(
    "Veza Musique SAS", parse_address("12 rue des Lilas|Bâtiment C|75011 Paris|FR"), "FR11123456782", "veza.fr"
)
GERMAN = Issuer("Veza GmbH", parse_address("Torstraße 1|10119 Berlin|DE"), "DE123456789", "veza.de")
UNREGISTERED = Issuer("Veza Kollektiv", parse_address("Monaco|MC"), None, "veza.mc")
BUYER = Buyer("crème_brûlée-7", "creme@example.org")
ORDER = "0199c0de-7a31-7000-8000-0123456789ab"
ISSUED = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
MIXED = (
    InvoiceLine("Midnight Rain (WAV)", "aïe_aïe", 1, 2999, 2000),
    InvoiceLine("Drum kit", "kick.lab", 3, 999, 2000),
    InvoiceLine("Mixing for beginners", "smörgås-fm", 1, 4900, 0),
    InvoiceLine("Score", "Ben", 7, 333, 550),
)


def invoice(*lines: InvoiceLine, **changes: Any) -> Invoice:
    document = Invoice(
        number="2021-000123",
        issued_at=ISSUED,
        currency="EUR",
        issuer=FRENCH,
        buyer=BUYER,
        lines=lines or MIXED,
        order_id=ORDER,
        settled_at=ISSUED,
        payment_reference="pay_8fJ2kLmQ0xY1",
    )
    return replace(document, **changes)


def credit_note(*lines: InvoiceLine, **changes: Any) -> CreditNote:
    document = CreditNote(
        number="CN-2021-000007",
        issued_at=ISSUED,
        currency="EUR",
        issuer=FRENCH,
        buyer=BUYER,
        lines=lines or MIXED[:2],
        order_id=ORDER,
        settled_at=ISSUED,
        payment_reference="ref_8fJ2kLmQ0xY1",
        invoice_number="2021-000123",
        invoice_issued_at=ISSUED,
        reason="The file was damaged.",
    )
    return replace(document, **changes)


def one(cents: int, vat_bp: int = 2000, quantity: int = 1, title: str = "Kit", seller: str = "Ben") -> InvoiceLine:
    return InvoiceLine(title, seller, quantity, cents, vat_bp)


KINDS: dict[str, Document] = {
    "several rates": invoice(),
    "a credit note": credit_note(),
    "a credit note after others": credit_note(one(333), one(3, 550), credited_before={2000: 333, 550: 8}),
    "a rate no net amount fits": invoice(one(3)),
    "a high quantity": invoice(one(7, quantity=1000)),
    "all exempt": invoice(one(999, 0)),
    "free of charge": invoice(one(0)),
    "a German issuer": invoice(issuer=GERMAN),
    "an issuer not registered for VAT": invoice(one(999, 0), issuer=UNREGISTERED),
    "its credit note": credit_note(one(999, 0), issuer=UNREGISTERED),
    "a currency without minor units": invoice(currency="JPY"),
    "a buyer without an address of any kind": invoice(issuer=GERMAN, buyer=Buyer("gone", None)),
    "names of blanks": invoice(one(1, title=" ", seller="\t"), buyer=Buyer("", None), issuer=GERMAN),
    "names that XML has to escape": invoice(one(1, title="<b>&amp;\x00\x0b\ud800</b>", seller="'\"")),
}


@pytest.fixture(scope="module")
def saxon() -> Iterator[str]:
    with saxon_server() as url:
        yield url


def check_rules(xml: bytes, document: Document, saxon: str) -> None:
    """What factur-x checks: EN 16931's rules, and those of the French reform for a French issuer. Raises its finds."""
    french = document.issuer.siren and document.currency == "EUR"
    facturx.xml_check_schematron(
        xml,
        check_option="fr-ctc" if french else "base",
        saxon_server_url=saxon,
        saxon_server_codedb_dir=str(Path(facturx.__file__).parent / "xsd_and_schematron" / "facturx-en16931"),
        saxon_server_raise_if_http_error=True,
    )


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages)


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_is_valid_by_its_schema_and_by_the_rules_of_the_norm(kind: str, saxon: str) -> None:
    pdf = render(KINDS[kind])
    name, xml = facturx.get_facturx_xml_from_pdf(pdf, check_xsd=True)
    assert name == "factur-x.xml"
    assert xml == cii(KINDS[kind])
    check_rules(xml, KINDS[kind], saxon)


RATES = {FRENCH: [0, 210, 550, 1000, 2000], GERMAN: [0, 700, 1900, 2550, 2700, 9999]}


@st.composite
def sales(draw: st.DrawFn) -> Document:
    issuer = draw(st.sampled_from([FRENCH, GERMAN]))
    cents, rates, quantities = st.integers(0, 9_999_999), st.sampled_from(RATES[issuer]), st.integers(1, 1000)
    lines = draw(st.lists(st.builds(one, cents, rates, quantities), min_size=1, max_size=8))
    if draw(st.booleans()):
        return invoice(*lines, issuer=issuer)
    return credit_note(*lines, issuer=issuer, credited_before=draw(st.dictionaries(rates, cents, max_size=3)))


@given(sales())
@settings(max_examples=60)
def test_whatever_was_bought_or_paid_back_the_rules_of_the_norm_hold(saxon: str, document: Document) -> None:
    check_rules(cii(document), document, saxon)


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        (b"<ram:LineTotalAmount>24.99<", b"<ram:LineTotalAmount>24.98<", "BR-CO-10"),
        (b"<ram:DuePayableAmount>0.00<", b"<ram:DuePayableAmount>0.01<", "BR-CO-16"),
        (b">PMT<", b">AAI<", "BR-FR-05"),
    ],
)
def test_a_broken_rule_would_be_seen(saxon: str, right: bytes, wrong: bytes, rule: str) -> None:
    xml = cii(invoice())
    assert right in xml
    with pytest.raises(Exception, match=rule):  # the library raises no class of its own
        check_rules(xml.replace(right, wrong, 1), invoice(), saxon)


def test_the_data_says_who_sold_and_what_was_paid() -> None:
    said = facturx.parse_ubl_cii_xml(cii(invoice()))
    assert (said["BT-112"], said["BT-113"], said["BT-115"]) == ("132.27", "132.27", "0.00")
    assert b"<ram:Content>Sold by a\xc3\xafe_a\xc3\xafe</ram:Content>" in cii(invoice())


def test_a_credit_note_s_data_has_its_type_and_the_invoice_it_corrects() -> None:
    root = ET.fromstring(cii(credit_note()))  # noqa: S314 - our own
    assert next(node.text for node in root.iter() if node.tag.endswith("}TypeCode")) == "381"
    [corrected] = [node for node in root.iter() if node.tag.endswith("}InvoiceReferencedDocument")]
    assert next(iter(corrected)).text == "2021-000123"
    assert not re.search(rb"Amount[^>]*>-", cii(credit_note()))


def catalog(reader: pypdf.PdfReader) -> Any:
    return reader.trailer["/Root"].get_object()


def read(document: Document) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(render(document)))


def test_it_has_what_pdf_a_3_asks_for() -> None:
    reader = read(invoice())
    root = catalog(reader)
    [intent] = root["/OutputIntents"]
    assert intent["/S"] == "/GTS_PDFA1"
    assert intent["/DestOutputProfile"].get_object().get_data()[36:40] == b"acsp"  # ICC.1, 7.2.9: a profile's signature
    [attached] = root["/AF"]
    assert attached.get_object()["/AFRelationship"] == "/Data"
    assert root["/Lang"] == "en"
    assert "/Encrypt" not in reader.trailer
    assert "/ID" in reader.trailer
    assert not {"/AA", "/AcroForm"} & set(root)


def test_the_metadata_names_the_standards_and_the_document() -> None:
    xmp = catalog(read(invoice()))["/Metadata"].get_data().decode()
    for said in (
        "<pdfaid:part>3</pdfaid:part>",
        "<pdfaid:conformance>U</pdfaid:conformance>",
        "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>",
        "<fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>",
        "<pdfaSchema:prefix>fx</pdfaSchema:prefix>",
        "<xmp:CreateDate>2021-03-04T05:06:07+00:00</xmp:CreateDate>",
        ">Invoice 2021-000123</rdf:li>",
    ):
        assert said in xmp


WORLD = {
    "夜": "DroidSansFallback",
    "한국": "DroidSansFallback",
    "ليل": "NotoSansArabic",
    "לילה": "NotoSansHebrew",
    "रात": "NotoSansDevanagari",
    "ร็อก": "NotoSansThai",
    "🎸": "NotoEmoji",
    "♪": "DejaVuSansBook",
    "Полночь": "NotoSans",
    "Μεσάνυχτα": "NotoSans",
    "Đêm": "NotoSans",
}


def shown(reader: pypdf.PdfReader) -> dict[str, tuple[Any, set[int]]]:
    """The fonts by the names they had before they were cut down, each with the codes that are shown of it.

    All are Identity-H: two bytes are a code (ISO 32000-1, 9.7.5.2).
    """
    fonts: dict[str, tuple[Any, set[int]]] = {}
    for page in reader.pages:
        resources: Any = page["/Resources"].get_object()
        codes: set[int] = set()
        kept: list[set[int]] = []  # by q, for Q: the font is a part of the graphics state (ISO 32000-1, 8.4.2)
        for operands, operator in ContentStream(page.get_contents(), reader).operations:
            if operator == b"q":
                kept.append(codes)
            elif operator == b"Q":
                codes = kept.pop()
            elif operator == b"Tf":
                font = resources["/Font"][operands[0]].get_object()
                _, codes = fonts.setdefault(font["/BaseFont"].partition("+")[2], (font, set()))
            elif operator in (b"Tj", b"TJ"):
                texts = operands[0] if operator == b"TJ" else operands
                codes.update(*(pairs(t.original_bytes) for t in texts if hasattr(t, "original_bytes")))
    return fonts


def pairs(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def glyphs_shown(reader: pypdf.PdfReader) -> set[tuple[str, int]]:
    """The number of each glyph that is shown, with its font; 0 is the missing glyph."""
    glyphs: set[tuple[str, int]] = set()
    for name, (font, codes) in shown(reader).items():
        numbers = glyph_numbers(font)
        glyphs.update((name, numbers[code]) for code in codes)
    return glyphs


def glyph_numbers(font: Any) -> list[int]:
    """By the code (ISO 32000-1, 9.7.4.2)."""
    return pairs(font["/DescendantFonts"][0].get_object()["/CIDToGIDMap"].get_data())


def said_widths(descendant: Any) -> dict[int, float]:
    """The widths of a font by its dictionary: runs as ``first [w w w]`` or ``first last w`` (ISO 32000-1, 9.7.4.3)."""
    said = list(descendant["/W"])
    widths: dict[int, float] = {}
    while said:
        first, then = said.pop(0), said.pop(0)
        run = then if isinstance(then, list) else [said.pop(0)] * (then - first + 1)
        widths |= {first + at: float(width) for at, width in enumerate(run)}
    return widths


@pytest.mark.parametrize(("word", "typeface"), WORLD.items())
def test_a_name_in_any_script_has_its_typeface_embedded_and_can_be_searched(word: str, typeface: str) -> None:
    reader = read(invoice(one(1, title=word)))
    assert typeface in shown(reader)
    # Joined letters come out in the order in which they stand, so that each is looked for by itself.
    assert set(word) <= set(reader.pages[0].extract_text())


def test_every_typeface_is_embedded_and_each_glyph_known_as_text_and_as_wide_as_said() -> None:
    fonts = shown(read(invoice(one(1, title=" ".join(WORLD)))))
    assert set(fonts) == {*WORLD.values(), "NotoSansBold"}
    for font, codes in fonts.values():
        assert (font["/Encoding"], "/ToUnicode" in font) == ("/Identity-H", True)
        [descendant] = font["/DescendantFonts"]
        said, numbers = said_widths(descendant.get_object()), glyph_numbers(font)
        program = descendant.get_object()["/FontDescriptor"]["/FontFile2"].get_data()
        with TTFont(io.BytesIO(program)) as embedded:
            names, scale = embedded.getGlyphOrder(), 1000 / embedded["head"].unitsPerEm
            for code in codes:
                width = embedded["hmtx"][names[numbers[code]]][0] * scale
                assert abs(width - said[code]) <= 1  # ISO 19005-3, 6.2.11.5


def test_what_no_typeface_has_is_a_box_and_never_a_missing_glyph() -> None:
    reader = read(invoice(one(1, title="ሰላም \U00013000 \ue000 x")))
    assert f"{BOX * 3} {BOX} {BOX} x" in reader.pages[0].extract_text()
    glyphs = {glyph for _, glyph in glyphs_shown(reader)}
    assert len(glyphs) > 20
    assert 0 not in glyphs


ANY = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"]), max_size=40)


@given(ANY)
def test_each_character_that_is_drawn_has_the_typeface_that_draws_it(text: str) -> None:
    drawn = readable(text)
    faces = needed([drawn])
    assert sorted(ord(char) for char in set(drawn)) == sorted(code for codes in faces.values() for code in codes)
    assert readable(drawn) == drawn


@given(ANY, ANY, ANY)
@example("", "", "00@000\x1b\x12\x07\x03^bl¤ËÓÝù\U0004204e\U000cd561¿")  # a line ends between two typefaces
@settings(max_examples=10)  # half a second each: any text needs many typefaces
def test_any_text_at_all_becomes_a_document_without_missing_glyphs(title: str, seller: str, buyer: str) -> None:
    reader = read(invoice(one(1, title=title, seller=seller), buyer=Buyer(buyer, None)))
    assert 0 not in {glyph for _, glyph in glyphs_shown(reader)}


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("e\u0301", "é"),
        (" a\t\r\nb\u2028c ", "a b c"),
        ("gpj.exe\u202e", "gpj.exe"),
        ("\u2764\ufe0f", "\u2764"),
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),
        ("a\x00\x01\ud800\U0010ffffb", f"a{BOX * 4}b"),
    ],
)
def test_text_is_made_readable(text: str, drawn: str) -> None:
    assert readable(text) == drawn


def test_the_typefaces_and_their_licences_are_here() -> None:
    assert all(face.is_file() for face in CHAIN)
    assert {path.name for path in CHAIN[0].parent.glob("LICENSE*")} == {
        "LICENSE-OFL-1.1.txt",
        "LICENSE-Apache-2.0.txt",
        "LICENSE-Bitstream-Vera.txt",
    }


def test_an_invoice_says_who_what_and_how_much() -> None:
    text = text_of(render(invoice()))
    for said in (
        "Invoice\n2021-000123",
        "Veza Musique SAS\n12 rue des Lilas\nBâtiment C\n75011 Paris, FR\nSIREN 123456782\nVAT FR11123456782",
        "crème_brûlée-7\ncreme@example.org",
        "Issued 4 March 2021",
        f"Order {ORDER}",
        "Drum kit\nSold by kick.lab\n3 9.99 20 % 29.97",
        "20 % 49.97 9.99 59.96",
        "5.5 % 22.09 1.22 23.31",
        "Total EUR 132.27",
        "Paid on 4 March 2021 132.27",
        "VAT at 0 %: Exempt from VAT.",
        "Page 1 of 1",
    ):
        assert said in text


def test_a_credit_note_says_what_it_corrects_and_why() -> None:
    text = text_of(render(credit_note()))
    for said in ("Credit note\nCN-2021-000007", "Corrects 2021-000123, 4 March 2021", "Reason: The file was damaged."):
        assert said in text
    assert "Refunded on 4 March 2021 59.96" in text
    assert "Prices include" not in text


def test_an_issuer_not_registered_for_vat_says_so_and_shows_no_vat() -> None:
    text = text_of(render(KINDS["an issuer not registered for VAT"]))
    assert "No VAT charged: the issuer is not registered for VAT." in text
    assert "Total without VAT" not in text
    assert "0 %" not in text


def test_amounts_have_the_digits_of_their_currency() -> None:
    assert "Total JPY 1,234,567" in text_of(render(invoice(one(1_234_567), currency="JPY")))
    assert "Total KWD 1,234.567" in text_of(render(invoice(one(1_234_567), currency="KWD")))


def test_a_currency_that_the_norm_cannot_express_has_its_document_without_data() -> None:
    reader = read(invoice(currency="KWD"))
    assert not reader.attachments
    assert "/AF" not in catalog(reader)


async def test_a_few_are_printed_at_once_some_wait_and_more_are_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, begun = threading.Event(), list[Document]()

    def slow(document: Document) -> bytes:
        begun.append(document)
        go_on.wait(10)
        return b"%PDF"

    monkeypatch.setattr(invoice_pdf, "render", slow)
    printer, printed, refused = invoice_pdf.Printer(), list[bytes](), list[str]()

    async def one() -> None:
        try:
            printed.append(await printer.print(invoice()))
        except Unavailable as unavailable:
            refused.append(unavailable.code)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(invoice_pdf.AT_ONCE + invoice_pdf.WAITING + 1):
                nursery.start_soon(one)
            while not refused or len(begun) < invoice_pdf.AT_ONCE:
                await trio.lowlevel.checkpoint()
            assert (len(begun), printed, refused) == (invoice_pdf.AT_ONCE, [], ["overloaded"])
            go_on.set()
    assert printed == [b"%PDF"] * (invoice_pdf.AT_ONCE + invoice_pdf.WAITING)


def test_documents_rendered_side_by_side_do_not_disturb_each_other() -> None:
    documents = [invoice(one(1, title=" ".join(WORLD))), credit_note(), invoice(*MIXED * 9), invoice(issuer=GERMAN)]
    alone = [render(document) for document in documents]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(render, documents * 3)) == alone * 3


def test_a_rendered_document_leaves_neither_files_open_nor_its_typefaces_in_memory() -> None:
    render(invoice(one(1, title="夜")))
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, TTFFont)]
    assert not [file.path for file in psutil.Process().open_files() if file.path.endswith(".ttf")]


def test_a_title_is_never_read_as_markup_or_as_the_number_of_pages() -> None:
    assert "{nb} **a** __b__ [c](d)" in text_of(render(invoice(one(1, title="{nb} **a** __b__ [c](d)"))))


def test_many_lines_flow_over_pages_that_repeat_the_head_and_count_themselves() -> None:
    pages = read(invoice(*(one(100, title=f"Kit no. {number};") for number in range(60)))).pages
    texts = [page.extract_text() for page in pages]
    assert len(texts) > 2
    for number, text in enumerate(texts, start=1):
        assert "Description Qty Unit price VAT EUR" in text
        assert f"Page {number} of {len(texts)}" in text
    assert all("Invoice 2021-000123 continued" in text for text in texts[1:])
    assert re.findall(r"Kit no\. (\d+);", "\n".join(texts)) == [str(number) for number in range(60)]
    assert ["Total EUR" in text for text in texts] == [False] * (len(texts) - 1) + [True]


@given(st.lists(st.floats(8, 60), min_size=1, max_size=100), st.floats(80, 140), st.floats(40, 100))
def test_no_page_is_too_full_and_totals_never_stand_alone(heights: list[float], first: float, end: float) -> None:
    counts = list(paginate(heights, first, 40, end))
    assert sum(counts) == len(heights)
    assert counts[-1] > 0
    at = 0
    for page, count in enumerate(counts):
        below = (first if page == 0 else 40) + sum(heights[at : at + count])
        at += count
        assert below + (end if at == len(heights) and count else 0) <= BOTTOM
    assert 0 not in counts[1:]


SAME = """
import gc
import hashlib
from tests.gateways.test_invoice_pdf import WORLD, invoice, one, render
print(hashlib.sha256(render(invoice(one(1, title=" ".join(WORLD))))).hexdigest())
"""


def test_the_same_document_has_the_same_bytes_in_any_process_and_at_any_time() -> None:
    pdf = render(invoice(one(1, title=" ".join(WORLD))))
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", SAME], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(pdf).hexdigest()
    assert set(re.findall(rb"D:(\d{14})", pdf)) == {b"20210304050607"}
