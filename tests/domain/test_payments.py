"""What the provider's answers mean for an order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.payments import (
    FINAL,
    LONGEST_PAUSE,
    PARTLY_OURS,
    SETTLED,
    Close,
    Declined,
    DueOrder,
    Examine,
    Expire,
    KeyRefused,
    Look,
    NoAnswer,
    NoSuchPayment,
    Open,
    OrderStatus,
    Payment,
    PaymentStatus,
    Settle,
    Wait,
    after_answer,
    after_cancel,
    check_capture,
    next_step,
    pause_before_next,
    payment_id_of,
)

ORDER = DueOrder(
    id=UUID("0199a0b0-c0d0-7abc-8def-0123456789ab"),
    buyer_id=UUID(int=1),
    status=OrderStatus.PENDING,
    total_cents=2999,
    currency="EUR",
    payment_id="pay_1",
    opened=True,
    seconds_left=1800.0,
    asked=0,
)
UNOPENED = replace(ORDER, opened=False)
TOO_LATE = replace(UNOPENED, seconds_left=-1.0)


def payment(status: PaymentStatus, cents: int = 2999, currency: str = "EUR") -> Payment:
    return Payment("pay_1", status, cents, currency, "secret")


def test_a_payment_of_exactly_the_orders_price_settles_it() -> None:
    paid = payment(PaymentStatus.SUCCEEDED)
    assert after_answer(ORDER, paid) == Settle(paid)


@pytest.mark.parametrize(("cents", "currency"), [(2998, "EUR"), (3000, "EUR"), (2999, "USD"), (0, "EUR")])
def test_a_payment_of_anything_else_is_left_to_an_operator(cents: int, currency: str) -> None:
    verdict = after_answer(ORDER, payment(PaymentStatus.SUCCEEDED, cents, currency))
    assert verdict == Examine(f"captured {cents} {currency} for an order of 2999 EUR")


@pytest.mark.parametrize("status", PaymentStatus)
def test_each_status_of_a_payment_settles_closes_waits_or_is_examined(status: PaymentStatus) -> None:
    verdict = after_answer(ORDER, payment(status))
    if status is PaymentStatus.SUCCEEDED:
        assert isinstance(verdict, Settle)
    elif status in PARTLY_OURS:
        assert verdict == Examine(f"the payment is {status}")
    elif status in FINAL:
        # A payment that failed may yet be paid: its buyer can try again at the provider.
        assert verdict == Close(FINAL[status], watched=status is PaymentStatus.FAILED)
    else:
        assert verdict == Wait()


@pytest.mark.parametrize("order", [ORDER, UNOPENED, TOO_LATE])
@pytest.mark.parametrize("answer", [NoAnswer("silence"), KeyRefused("HTTP 401")])
def test_learning_nothing_decides_nothing(order: DueOrder, answer: NoAnswer | KeyRefused) -> None:
    assert after_answer(order, answer) == Wait()
    assert after_cancel(order, answer) == Wait()


def test_a_payment_is_opened_only_while_its_buyer_may_still_pay() -> None:
    assert next_step(UNOPENED) == Open()
    assert next_step(ORDER) == Look()
    assert next_step(replace(UNOPENED, status=OrderStatus.CANCELLED)) == Look()


def test_an_order_nobody_paid_in_time_has_its_payment_ended_and_expires() -> None:
    late = replace(ORDER, seconds_left=0.0)
    for order in (late, TOO_LATE):
        assert next_step(order) == Expire()
        assert after_answer(order, payment(PaymentStatus.CANCELLED)) == Close(OrderStatus.EXPIRED)
    assert after_answer(late, payment(PaymentStatus.SUCCEEDED)) == Settle(payment(PaymentStatus.SUCCEEDED))
    assert after_answer(late, payment(PaymentStatus.PROCESSING)) == Wait()
    assert after_cancel(late, payment(PaymentStatus.CANCELLED)) == Close(OrderStatus.CANCELLED), "its buyer's wish"
    for status in OrderStatus:
        if status is not OrderStatus.PENDING:
            assert next_step(replace(late, status=status)) == Look()


def test_a_refusal_to_open_fails_the_order_and_a_refusal_to_look_does_not() -> None:
    no = Declined("IR_05", "amount too small")
    assert after_answer(UNOPENED, no) == Close(OrderStatus.FAILED, "IR_05: amount too small")
    assert after_answer(ORDER, no) == Wait()
    assert after_answer(TOO_LATE, no) == Wait()


def test_a_payment_that_is_missing_means_what_we_knew_of_it() -> None:
    assert isinstance(after_answer(ORDER, NoSuchPayment()), Examine)
    assert after_answer(UNOPENED, NoSuchPayment()) == Wait()
    assert after_answer(TOO_LATE, NoSuchPayment()) == Close(OrderStatus.EXPIRED)


def test_cancelling_believes_the_provider_and_not_the_wish() -> None:
    paid = payment(PaymentStatus.SUCCEEDED)
    assert after_cancel(ORDER, payment(PaymentStatus.CANCELLED)) == Close(OrderStatus.CANCELLED)
    assert after_cancel(ORDER, paid) == Settle(paid)
    assert after_cancel(ORDER, payment(PaymentStatus.PROCESSING)) == Wait()
    assert after_cancel(ORDER, Declined("IR_14", "no")) == Wait()
    assert after_cancel(UNOPENED, NoSuchPayment()) == Close(OrderStatus.CANCELLED)
    assert isinstance(after_cancel(ORDER, NoSuchPayment()), Examine)


def test_a_late_payment_is_honoured_only_while_all_of_it_is_sold() -> None:
    for status in OrderStatus:
        if status in SETTLED:
            continue
        honoured = check_capture(status, still_sold=True) is None
        assert honoured == (status is not OrderStatus.CANCELLED)
        assert (check_capture(status, still_sold=False) is None) == (status is OrderStatus.PENDING)


@given(st.integers(0, 10_000))
def test_the_pauses_grow_from_the_first_to_an_hour_and_no_further(asked: int) -> None:
    every = timedelta(seconds=60)
    pause = pause_before_next(asked, every)
    assert every <= pause <= pause_before_next(asked + 1, every) <= LONGEST_PAUSE


@given(st.uuids(version=4), st.uuids(version=4))
def test_payment_ids_have_thirty_characters_and_follow_from_the_order(one: UUID, other: UUID) -> None:
    assert len(payment_id_of(one)) == 30
    assert payment_id_of(one) == payment_id_of(UUID(str(one)))
    assert (payment_id_of(one) == payment_id_of(other)) == (one == other)
