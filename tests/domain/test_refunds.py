"""Refunds: who may have what back, how an amount is split, and that the fee goes back to the cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.attempts import Interrupted
from veza.domain.errors import Conflict, Forbidden, Invalid
from veza.domain.orders import Earning, fee_cents
from veza.domain.payments import KeyRefused, NoAnswer, OrderStatus
from veza.domain.refund_attempts import (
    AskAgain,
    Fail,
    NotReturned,
    RefundClaim,
    Returned,
    Succeed,
    Underway,
    after_refund,
)
from veza.domain.refunds import (
    Amount,
    Asker,
    Given,
    Line,
    Origin,
    Pieces,
    RefundItem,
    Sold,
    Whole,
    draft,
    may_know,
    order_status,
    refund_id_of,
    shares,
    split,
)

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)
WINDOW = timedelta(days=14)
BEN, ANA, EVE, MALLORY = (UUID(int=number) for number in range(1, 5))
BUYER, SELLER, ADMIN = Asker(BEN, False), Asker(ANA, False), Asker(MALLORY, True)


def line(number: int, seller: UUID = ANA, unit: int = 1000, quantity: int = 1, **changes: Any) -> Line:
    plain = Line(UUID(int=100 + number), seller, quantity, unit, unit * quantity, 0, 0, 0, False)
    return replace(plain, **changes)


def sold(*lines: Line, status: OrderStatus = OrderStatus.PAID) -> Sold:
    return Sold(UUID(int=50), BEN, status, "EUR", NOW - timedelta(days=1), lines)


def drafted(order: Sold, asker: Asker = BUYER, wish: Whole | Pieces | Amount = Whole()) -> list[tuple[str, list[int]]]:  # noqa: B008
    made = draft(order, asker, wish, NOW, WINDOW)
    return [(each.status.value, [item.amount_cents for item in each.items]) for each in made]


# -- who may have what -------------------------------------------------------------------------------------------------


def test_a_buyer_and_an_admin_have_all_that_is_left_and_a_seller_their_own() -> None:
    order = sold(line(1), line(2, EVE, taken_cents=400), line(3, EVE, unit=0))
    assert drafted(order, BUYER) == drafted(order, ADMIN) == [("pending", [1000, 600])]
    assert drafted(order, SELLER) == [("pending", [1000])]


def test_what_was_downloaded_is_a_request_to_each_of_its_sellers() -> None:
    order = sold(line(1, downloaded=True), line(2, EVE, downloaded=True), line(3, MALLORY))
    assert drafted(order) == [("pending", [1000]), ("requested", [1000]), ("requested", [1000])]
    assert drafted(order, SELLER) == [("pending", [1000])]


def test_an_amount_that_leaves_a_rest_of_a_line_leaves_the_line_and_so_is_its_sellers_to_decide() -> None:
    order = sold(line(1), line(2, EVE, unit=100))
    assert drafted(order, BUYER, Amount(1099)) == [("requested", [999]), ("pending", [100])][::-1]
    assert drafted(order, BUYER, Amount(1100)) == [("pending", [1000, 100])]
    assert drafted(order, SELLER, Amount(999)) == [("pending", [999])]
    assert drafted(sold(line(1, quantity=10)), BUYER, Pieces({UUID(int=101): 9})) == [("pending", [9000])]


def test_a_buyer_refunds_an_order_so_often_and_no_more() -> None:
    order = replace(sold(line(1)), refunds=100)
    with pytest.raises(Conflict, match="enough"):
        drafted(order)
    assert drafted(order, SELLER) == [("pending", [1000])]


def test_what_a_buyer_asked_for_counts_as_gone_for_them_only() -> None:
    order = sold(line(1, asked_cents=1000, downloaded=True))
    with pytest.raises(Conflict, match="left"):
        drafted(order)
    assert drafted(order, SELLER) == [("pending", [1000])]


@pytest.mark.parametrize("status", [each for each in OrderStatus if each not in ("paid", "partially_refunded")])
def test_only_what_is_paid_and_undisputed_is_refunded(status: OrderStatus) -> None:
    with pytest.raises(Conflict):
        drafted(sold(line(1), status=status), ADMIN)


def test_a_buyer_may_ask_to_the_last_moment_of_the_window_and_others_after_it() -> None:
    order = replace(sold(line(1)), paid_at=NOW - WINDOW)
    assert drafted(order) == [("pending", [1000])]
    late = replace(order, paid_at=NOW - WINDOW - timedelta(microseconds=1))
    with pytest.raises(Conflict, match="within 14 days"):
        drafted(late)
    assert drafted(late, SELLER) == drafted(late, ADMIN)


def test_pieces_are_of_lines_the_asker_may_give_back_and_never_more_than_are_left() -> None:
    mine, others = line(1, quantity=3, taken_pieces=1, taken_cents=1000), line(2, EVE)
    order = sold(mine, others)
    assert drafted(order, SELLER, Pieces({mine.item_id: 2})) == [("pending", [2000])]
    for wish in (Pieces({mine.item_id: 3}), Pieces({mine.item_id: 2, others.item_id: 2})):
        with pytest.raises(Conflict, match="more than is left"):
            drafted(order, BUYER, wish)
    with pytest.raises(Forbidden):
        drafted(order, SELLER, Pieces({others.item_id: 1}))
    with pytest.raises(Invalid):
        drafted(order, BUYER, Pieces({UUID(int=9): 1}))
    with pytest.raises(Conflict, match="free"):
        drafted(sold(line(1), line(2, unit=0)), BUYER, Pieces({UUID(int=102): 1}))


def test_pieces_whose_money_went_back_as_an_amount_are_not_there_to_give() -> None:
    order = sold(line(1, quantity=2, taken_cents=1500))
    with pytest.raises(Conflict):
        drafted(order, BUYER, Pieces({UUID(int=101): 1}))


def test_a_stranger_may_not_know_and_an_admin_may() -> None:
    order = sold(line(1))
    assert [may_know(order, asker) for asker in (BUYER, SELLER, ADMIN, Asker(MALLORY, False))] == [True] * 3 + [False]
    assert draft(order, ADMIN, Whole(), NOW, WINDOW)[0].origin is Origin.ADMIN


# -- arithmetic --------------------------------------------------------------------------------------------------------

LEFT = st.lists(st.integers(0, 10_000), min_size=1, max_size=8).filter(any)


@given(LEFT, st.data())
def test_an_amount_is_split_whole_in_proportion_and_within_what_is_left(left: list[int], data: st.DataObject) -> None:
    cents = data.draw(st.integers(1, sum(left)))
    lines = [line(number, unit=10_000, taken_cents=10_000 - rest) for number, rest in enumerate(left)]
    of = {item.order_item_id: item.amount_cents for item in split(cents, lines)}
    assert sum(of.values()) == cents
    for each in lines:
        part = of.get(each.item_id, 0)
        assert 0 <= part <= each.left_cents
        assert abs(part - cents * each.left_cents / sum(left)) < 1


def test_more_than_is_left_is_refused_and_the_odd_cent_goes_to_the_largest_remainder() -> None:
    lines = [line(1, unit=100), line(2, unit=101)]
    assert [item.amount_cents for item in split(100, lines)] == [50, 50]
    assert [item.amount_cents for item in split(3, [line(1), line(2), line(3, unit=500)])] == [1, 1, 1]
    with pytest.raises(Conflict, match="At most 201"):
        split(202, lines)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(0, 10_000))
def test_a_whole_refund_in_parts_returns_the_whole_fee(parts: list[int], bp: int) -> None:
    total, before = sum(parts), Given()
    earning = Earning(ANA, total, fee_cents(total, bp), bp)
    for part in parts:
        [share] = shares([RefundItem(UUID(int=101), ANA, part, None)], [earning], {ANA: before})
        assert 0 <= share.fee_cents <= share.gross_cents == part
        before = Given(before.gross_cents + part, before.fee_cents + share.fee_cents)
    assert before == Given(total, earning.fee_cents)


def test_the_fee_goes_back_cumulatively_where_each_part_alone_would_lose_a_cent() -> None:
    earning, before, fees = Earning(ANA, 2999, 300, 1000), Given(), []
    for part in (4, 4, 4, 2987):
        [share] = shares([RefundItem(UUID(int=101), ANA, part, None)], [earning], {ANA: before})
        before = Given(before.gross_cents + part, before.fee_cents + share.fee_cents)
        fees.append(share.fee_cents)
    assert fees == [0, 1, 0, 299]


def test_where_an_earlier_part_failed_no_fee_goes_below_nothing() -> None:
    [share] = shares([RefundItem(UUID(int=101), ANA, 1, None)], [Earning(ANA, 2999, 300, 1000)], {ANA: Given(1, 1)})
    assert share.fee_cents == 0


def test_a_share_is_each_sellers_own() -> None:
    items = [RefundItem(UUID(int=number), seller, 100, None) for number, seller in enumerate((EVE, ANA, EVE))]
    of = shares(items, [Earning(ANA, 100, 10, 1000), Earning(EVE, 200, 20, 1000)], {})
    assert [(each.seller_id, each.gross_cents, each.net_cents) for each in of] == [(ANA, 100, 90), (EVE, 200, 180)]


def test_an_orders_status_says_what_of_it_went_back() -> None:
    found = [order_status(100, returned, disputed=False) for returned in (0, 1, 99, 100)]
    partly = OrderStatus.PARTIALLY_REFUNDED
    assert found == [OrderStatus.PAID, partly, partly, OrderStatus.REFUNDED]
    assert order_status(100, 100, disputed=True) is OrderStatus.DISPUTED


# -- the provider's answers --------------------------------------------------------------------------------------------


def claim(asked: int) -> RefundClaim:
    return RefundClaim(UUID(int=1), UUID(int=2), "pay_1", 100, "EUR", asked, NOW)


def test_a_refund_is_done_failed_or_asked_about_ever_more_rarely_but_for_ever() -> None:
    assert after_refund(claim(1), Returned()) == Succeed()
    assert after_refund(claim(1), NotReturned("IR_14", "no")) == Fail("IR_14", "no")
    pauses = [after_refund(claim(asked), Underway()) for asked in (1, 2, 3, 50)]
    assert [each.pause.total_seconds() for each in pauses if isinstance(each, AskAgain)] == [15, 30, 60, 3600]
    assert after_refund(claim(9), KeyRefused("401")) == after_refund(claim(9), NoAnswer("401"))
    assert after_refund(claim(3), Interrupted()) == AskAgain(timedelta(0), counted=False)


def test_the_providers_id_has_thirty_characters_and_is_the_refunds_alone() -> None:
    ids = {refund_id_of(UUID(int=number)) for number in range(100)}
    assert len(ids) == 100
    assert {len(each) for each in ids} == {30}
