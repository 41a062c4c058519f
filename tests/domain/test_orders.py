"""Placing orders: prices, fees and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.errors import Conflict, Invalid
from veza.domain.ids import IdMint
from veza.domain.orders import (
    MAX_LINES,
    MAX_QUANTITY,
    MAX_TOTAL_CENTS,
    CartLine,
    Offer,
    Order,
    Terms,
    check_cart,
    fee_cents,
    place,
)
from veza.domain.payments import OrderStatus, payment_id_of

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
BUYER, SELLER, OTHER, ORDER_ID = (UUID(int=number) for number in range(1, 5))
TERMS = Terms("EUR", 1000, timedelta(minutes=30))


def offer(number: int, cents: int, seller: UUID = SELLER, currency: str = "EUR", *, on_sale: bool = True) -> Offer:
    return Offer(UUID(int=number), seller, f"Track {number}", cents, currency, on_sale)


def order_of(*offers: Offer, quantity: int = 1, expected: int | None = None, terms: Terms = TERMS) -> Order:
    return place(
        BUYER,
        [CartLine(each.product_id, quantity) for each in offers],
        {each.product_id: each for each in offers},
        terms,
        order_id=ORDER_ID,
        now=NOON,
        new_id=IdMint(lambda: NOON, Random(1)),
        expected_total_cents=expected,
    )


def test_ten_percent_of_2999_is_300() -> None:
    assert fee_cents(2999, 1000) == 300


@given(st.integers(0, MAX_TOTAL_CENTS), st.integers(0, 10_000))
def test_a_fee_is_rounded_half_up_and_never_above_its_amount(gross: int, bp: int) -> None:
    exact = Decimal(gross) * bp / 10_000
    assert fee_cents(gross, bp) == exact.quantize(Decimal(1), ROUND_HALF_UP)
    assert 0 <= fee_cents(gross, bp) <= gross


def test_an_order_has_one_earning_a_seller_with_its_fee_taken_once() -> None:
    order = order_of(offer(10, 1005), offer(11, 1005), offer(12, 500, OTHER))
    assert order.total_cents == 2510
    assert [(e.seller_id, e.gross_cents, e.fee_cents, e.net_cents) for e in order.earnings] == [
        (SELLER, 2010, 201, 1809),
        (OTHER, 500, 50, 450),
    ]
    assert order.status is OrderStatus.PENDING
    assert order.expires_at == NOON + timedelta(minutes=30)
    assert order.payment is not None
    assert order.payment.payment_id == payment_id_of(ORDER_ID)


def test_a_free_order_is_paid_and_earns_nobody_anything() -> None:
    order = order_of(offer(10, 0), offer(11, 0, OTHER))
    assert (order.status, order.paid_at, order.payment, order.earnings) == (OrderStatus.PAID, NOON, None, ())


def test_a_free_part_earns_its_seller_nothing() -> None:
    assert [e.seller_id for e in order_of(offer(10, 0), offer(11, 100, OTHER)).earnings] == [OTHER]


@given(st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), min_size=1, max_size=20), st.integers(0, 10_000))
def test_earnings_and_fees_add_up_to_the_total(prices: list[tuple[int, bool]], bp: int) -> None:
    offers = [offer(100 + i, cents, OTHER if other else SELLER) for i, (cents, other) in enumerate(prices)]
    order = order_of(*offers, terms=Terms("EUR", bp, timedelta(minutes=30)))
    assert sum(e.net_cents + e.fee_cents for e in order.earnings) == order.total_cents
    assert sum(item.total_cents for item in order.items) == order.total_cents


def test_the_total_must_be_the_one_that_the_buyer_expects() -> None:
    assert order_of(offer(10, 2999), expected=2999).total_cents == 2999
    with pytest.raises(Conflict, match="2999"):
        order_of(offer(10, 2999), expected=1999)


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (offer(10, 100, on_sale=False), "not_on_sale"),
        (offer(10, 100, currency="USD"), "not_on_sale"),
        (offer(10, 100, BUYER), "own_product"),
    ],
)
def test_what_cannot_be_sold_is_refused(refused: Offer, code: str) -> None:
    with pytest.raises(Conflict) as conflict:
        order_of(refused)
    assert conflict.value.code == code


def test_a_product_nobody_has_heard_of_is_not_on_sale() -> None:
    with pytest.raises(Conflict) as conflict:
        place(
            BUYER,
            [CartLine(UUID(int=99), 1)],
            {},
            TERMS,
            order_id=ORDER_ID,
            now=NOON,
            new_id=IdMint(lambda: NOON, Random(1)),
        )
    assert conflict.value.code == "not_on_sale"


def test_an_order_above_what_one_charge_can_be_is_refused() -> None:
    assert order_of(offer(10, MAX_TOTAL_CENTS)).total_cents == MAX_TOTAL_CENTS
    with pytest.raises(Invalid):
        order_of(offer(10, MAX_TOTAL_CENTS), offer(11, 1))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [CartLine(UUID(int=number), 1) for number in range(MAX_LINES + 1)],
        [CartLine(SELLER, 1), CartLine(SELLER, 2)],
        [CartLine(SELLER, 0)],
        [CartLine(SELLER, MAX_QUANTITY + 1)],
    ],
)
def test_a_cart_that_makes_no_sense_is_refused(lines: list[CartLine]) -> None:
    with pytest.raises(Invalid) as invalid:
        check_cart(lines)
    assert invalid.value.field == "items"
