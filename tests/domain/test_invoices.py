"""The amounts of invoices and credit notes, and what an operator writes about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.addresses import Address, parse_address
from veza.domain.catalog import ProductType
from veza.domain.invoices import (
    Buyer,
    Credited,
    CreditNote,
    Invoice,
    InvoiceLine,
    Issuer,
    Vat,
    credit_note,
    credited_by_rate,
    exponent,
    major,
    net_of,
    net_unit_price,
    totals_of,
)
from veza.domain.orders import MAX_QUANTITY
from veza.domain.vat import parse_vat_id, parse_vat_rates, percent

PARIS = Address(("12 rue des Lilas",), "75011", "Paris", "FR")
LINES = st.builds(
    InvoiceLine,
    description=st.just("a track"),
    seller=st.just("aida"),
    quantity=st.integers(1, MAX_QUANTITY),
    unit_price_cents=st.integers(0, 99_999),
    vat_bp=st.sampled_from([0, 210, 550, 1000, 1900, 2000, 2550, 2700]),
)


def line(cents: int, vat_bp: int = 2000, quantity: int = 1) -> InvoiceLine:
    return InvoiceLine("a track", "aida", quantity, cents, vat_bp)


def invoice(*lines: InvoiceLine, vat_id: str | None = "FR11123456782") -> Invoice:
    return Invoice(
        number="2026-000001",
        issued_at=datetime(2026, 3, 1, tzinfo=UTC),
        currency="EUR",
        issuer=Issuer("Veza", PARIS, vat_id, "veza.example"),
        buyer=Buyer("Ben", "ben@example.org"),
        lines=lines,
        order_id="0199c0de-7a31-7000-8000-0123456789ab",
        settled_at=datetime(2026, 3, 1, tzinfo=UTC),
        payment_reference="pay_1",
    )


def credited(bill: Invoice, parts: Sequence[Credited], before: Sequence[Credited]) -> CreditNote:
    return credit_note(
        bill, "CN-2026-000001", parts, before, issued_at=bill.issued_at, payment_reference="ref_1", reason="Hums."
    )


@given(st.lists(LINES, min_size=1, max_size=20))
def test_what_was_paid_is_the_total_and_every_sum_adds_up_to_the_minor_unit(lines: list[InvoiceLine]) -> None:
    totals = totals_of(lines)
    assert totals.gross_cents == sum(line.total_cents for line in lines)
    assert totals.net_cents + totals.vat_cents == totals.gross_cents
    for part in totals.parts:
        at = [index for index, line in enumerate(lines) if line.vat_bp == part.vat_bp]
        assert part.gross_cents == sum(lines[index].total_cents for index in at)
        assert part.net_cents == sum(totals.line_nets[index] for index in at)


@given(st.lists(LINES, min_size=1, max_size=20))
def test_each_line_s_share_is_within_a_minor_unit_of_its_own_and_nothing_is_below_zero(
    lines: list[InvoiceLine],
) -> None:
    totals = totals_of(lines)
    for own, share in zip(lines, totals.line_nets, strict=True):
        exact = Decimal(own.total_cents) * 10_000 / (10_000 + own.vat_bp)
        assert abs(share - exact) < 1
        assert 0 <= share <= own.total_cents
    assert all(part.vat_cents >= 0 for part in totals.parts)


@given(st.integers(0, 10**10), st.integers(0, 9_999))
def test_vat_is_net_times_the_rate_but_for_one_minor_unit_at_most(gross: int, vat_bp: int) -> None:
    net = net_of(gross, vat_bp)
    due = (Decimal(net) * vat_bp / 10_000).quantize(Decimal(1), ROUND_HALF_UP)
    assert abs(gross - net - due) <= 1


@given(st.integers(0, 10**8), st.integers(1, MAX_QUANTITY), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_a_net_unit_price_times_the_quantity_is_the_line_s_net_amount(net: int, quantity: int, currency: str) -> None:
    price = net_unit_price(net, quantity, currency)
    cent = Decimal(1).scaleb(-exponent(currency))
    assert (price * quantity).quantize(cent, ROUND_HALF_UP) == major(net, currency)
    assert -Decimal(price.as_tuple().exponent) <= exponent(currency) + 4  # a digit more than the quantity has, at most


def test_vat_contained_is_rounded_half_up_on_the_sum_not_on_each_line() -> None:
    assert net_of(2999, 2000) == 2499  # 2499.17
    assert net_of(999, 2000) == 833  # 832.5
    assert net_of(3, 2000) == 3  # 2.5
    totals = totals_of([line(999), line(999), line(999)])
    assert (totals.net_cents, totals.vat_cents) == (2498, 499)  # 2497.5; each by itself would come to 2499
    assert sorted(totals.line_nets) == [832, 833, 833]


def test_the_parts_are_one_for_each_rate_the_highest_first_and_the_nets_keep_the_order_of_the_lines() -> None:
    totals = totals_of([line(1055, 550), line(1200), line(500, 0), line(2400)])
    assert [(part.vat_bp, part.net_cents, part.vat_cents) for part in totals.parts] == [
        (2000, 3000, 600),
        (550, 1000, 55),
        (0, 500, 0),
    ]
    assert totals.line_nets == (1000, 1000, 500, 2000)


@given(st.lists(LINES, min_size=1, max_size=8), st.data())
def test_credit_notes_that_add_up_to_the_invoice_take_back_its_vat_to_the_minor_unit(
    lines: list[InvoiceLine], data: st.DataObject
) -> None:
    bill = invoice(*lines)
    left = [each.total_cents for each in lines]
    before: list[Credited] = []
    taken: dict[int, int] = {}
    while any(left):
        most = st.integers(0, 2) if len(before) < 20 else st.just(0)  # then all that is left
        amounts = [cents if not data.draw(most) else data.draw(st.integers(0, cents)) for cents in left]
        parts = [Credited(line, cents, None) for line, cents in zip(lines, amounts, strict=True) if cents]
        left = [have - cents for have, cents in zip(left, amounts, strict=True)]
        if not parts:
            continue
        totals = credited(bill, parts, before).totals
        assert totals.gross_cents == sum(part.amount_cents for part in parts)
        assert totals.net_cents == sum(totals.line_nets)
        for part, share in zip(parts, totals.line_nets, strict=True):
            assert abs(share - Decimal(part.amount_cents) * 10_000 / (10_000 + part.line.vat_bp)) < 1
            assert 0 <= share <= part.amount_cents
        before += parts
        for rate in totals.parts:
            taken[rate.vat_bp] = taken.get(rate.vat_bp, 0) + rate.vat_cents
    billed = {part.vat_bp: part.vat_cents for part in bill.totals.parts if part.gross_cents}
    assert taken == billed


def test_a_credit_note_s_vat_is_what_the_ones_before_it_left() -> None:
    bill = invoice(line(333, quantity=3))
    third = [Credited(bill.lines[0], 333, 1)]
    notes = [credited(bill, third, third * at) for at in range(3)]
    assert bill.totals.vat_cents == 166  # 166.5 is contained, the net amount is rounded up
    assert [note.totals.vat_cents for note in notes] == [55, 56, 55]  # each by itself would have 55
    assert credited_by_rate(third * 2) == {2000: 666} == notes[2].credited_before


def test_a_credit_note_shows_pieces_at_their_price_and_a_part_of_them_as_an_amount() -> None:
    bought = line(333, quantity=3)
    for amount, quantity, shown in ((333, 1, (1, 333)), (999, None, (3, 333)), (500, None, (1, 500))):
        as_line = Credited(bought, amount, quantity).as_line
        assert (as_line.quantity, as_line.unit_price_cents) == shown
        assert as_line.total_cents == amount


def test_a_line_that_costs_nothing_takes_no_part_in_what_is_left_by_rounding() -> None:
    assert totals_of([line(0), line(999), line(0)]).line_nets == (0, 833, 0)


@pytest.mark.parametrize(
    ("cents", "currency", "amount"), [(1234, "EUR", "12.34"), (1234, "JPY", "1234"), (1234, "KWD", "1.234")]
)
def test_an_amount_has_as_many_digits_after_the_point_as_its_currency(cents: int, currency: str, amount: str) -> None:
    assert f"{major(cents, currency):f}" == amount


@pytest.mark.parametrize(("vat_bp", "text"), [(0, "0"), (550, "5.5"), (2000, "20"), (1000, "10"), (2525, "25.25")])
def test_a_rate_is_written_without_needless_zeros(vat_bp: int, text: str) -> None:
    assert percent(vat_bp) == text


def test_an_issuer_without_a_vat_identifier_is_outside_of_vat_and_may_charge_none() -> None:
    assert invoice(line(999, 0), vat_id=None).vat(0) is Vat.OUTSIDE
    with pytest.raises(ValueError, match="VAT identifier"):
        invoice(line(999, 2000), vat_id=None)


def test_a_rate_of_nothing_of_a_registered_issuer_is_an_exemption() -> None:
    document = invoice(line(999, 0), line(999))
    assert (document.vat(0), document.vat(2000)) == (Vat.EXEMPT, Vat.STANDARD)


def test_a_french_issuer_s_siren_is_read_from_its_vat_identifier_and_it_has_mentions_to_make() -> None:
    french, german = invoice(line(1)), invoice(line(1), vat_id="DE123456789")
    assert (french.issuer.siren, german.issuer.siren) == ("123456782", None)
    assert set(french.mentions) == {"AAB", "PMD", "PMT"}
    assert not german.mentions


def test_a_document_without_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="no lines"):
        invoice()


@pytest.mark.parametrize(
    ("quantity", "cents", "vat_bp"), [(0, 1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, -1), (1, 1, 10_000)]
)
def test_a_line_that_makes_no_sense_is_refused(quantity: int, cents: int, vat_bp: int) -> None:
    with pytest.raises(ValueError, match="a line has"):
        InvoiceLine("a track", "aida", quantity, cents, vat_bp)


def test_one_rate_is_for_everything_and_names_are_for_kinds_of_product() -> None:
    assert parse_vat_rates("20").of(ProductType.TRACK) == 2000
    rates = parse_vat_rates(" default=20 , course = 0, other=5.5 %,beat=2.10 ")
    assert [
        rates.of(kind) for kind in (ProductType.ALBUM, ProductType.COURSE, ProductType.OTHER, ProductType.BEAT)
    ] == [
        2000,
        0,
        550,
        210,
    ]
    assert rates.charges
    assert parse_vat_rates("course=19").of(ProductType.TRACK) == 0


@pytest.mark.parametrize("text", ["", " ", "0", "default=0,course=0"])
def test_no_rate_is_no_vat(text: str) -> None:
    assert not parse_vat_rates(text).charges


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("twenty", "a rate is a percentage below 100, such as 20 or 5.5"),
        ("100", "a rate is a percentage"),
        ("-5", "a rate is a percentage"),
        ("5.555", "a rate is a percentage"),
        ("default=", "a rate is a percentage"),
        ("5,5", "the rate of default is given twice"),
        ("course=0,course=5", "the rate of course is given twice"),
        ("podcast=20", "rates are of track, album, sample_pack"),
    ],
)
def test_a_fault_in_the_rates_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="^" + said):
        parse_vat_rates(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("12 rue des Lilas|75011 Paris|FR", PARIS),
        (" 12 rue des Lilas \r\n75011  Paris\n\nfr ", PARIS),
        ("Paris|FR", Address((), None, "Paris", "FR")),
        ("a|b|c|SW1A 1AA London|GB", Address(("a", "b", "c"), None, "SW1A 1AA London", "GB")),
        ("Hauptstr. 1|L-1234 Luxembourg|LU", Address(("Hauptstr. 1",), "L-1234", "Luxembourg", "LU")),
    ],
)
def test_an_address_is_lines_a_city_and_a_country(text: str, address: Address) -> None:
    assert parse_address(text) == address


def test_an_address_is_shown_as_it_was_written() -> None:
    assert PARIS.lines == ("12 rue des Lilas", "75011 Paris, FR")
    assert Address((), None, "Monaco", "MC").lines == ("Monaco, MC",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the last line is the country"),
        ("12 rue des Lilas|75011 Paris", "the last line is the country"),
        ("75011 Paris|France", "the last line is the country"),
        ("75011 Paris|XX", "the last line is the country"),
        ("FR", "a line with the city"),
        ("a|b|c|d|Paris|FR", "at most 3 lines"),
    ],
)
def test_a_fault_in_an_address_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_address(text)


def test_a_vat_identifier_is_read_as_people_write_it() -> None:
    assert parse_vat_id(" fr 11 123 456 782 ") == "FR11123456782"
    assert parse_vat_id("CHE-116.281.710") == "CHE116281710"
    assert parse_vat_id("el 123456789") == "EL123456789"
    assert parse_vat_id(" ") is None


@pytest.mark.parametrize("text", ["11123456782", "F", "FR", "FR11123456782123456782", "FR1112345678é", "XX123456789"])
def test_what_is_no_vat_identifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins with its country"):
        parse_vat_id(text)
