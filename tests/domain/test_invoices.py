"""The amounts of invoices and credit notes, and what an operator writes about them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.addresses import Address, parse_address
from veza.domain.catalog import ProductType
from veza.domain.invoices import (
    Buyer,
    Invoice,
    InvoiceLine,
    Issuer,
    Vat,
    exponent,
    major,
    net_of,
    net_unit_price,
    parse_vat_id,
    parse_vat_rates,
    percent,
    totals_of,
)
from veza.domain.orders import MAX_QUANTITY

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


def invoice(*lines: InvoiceLine, vat_id: str | None = "FR40303265045") -> Invoice:
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
    assert (french.issuer.siren, german.issuer.siren) == ("303265045", None)
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
        ("twenty", "'twenty' is no VAT rate"),
        ("100", "'100' is no VAT rate"),
        ("-5", "'-5' is no VAT rate"),
        ("5.555", "'5.555' is no VAT rate"),
        ("default=", "'' is no VAT rate"),
        ("5,5", "given twice"),
        ("course=0,course=5", "the rate of course is given twice"),
        ("podcast=20", "'podcast' is no kind of product; there are default, track, album"),
    ],
)
def test_a_fault_in_the_rates_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="^" + said if not said.startswith("given") else said):
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
    assert parse_vat_id(" fr 40 303 265 045 ") == "FR40303265045"
    assert parse_vat_id("CHE-116.281.710") == "CHE116281710"
    assert parse_vat_id(" ") is None


@pytest.mark.parametrize("text", ["40303265045", "F", "FR", "FR40303265045303265045", "FR4030326504é"])
def test_what_is_no_vat_identifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins with its country"):
        parse_vat_id(text)
