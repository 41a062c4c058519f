"""Payments: what the provider says of the money for an order, and what that means for the order.

The order's row is the intent. It is taken up whenever it is due: its payment is opened if it was not yet, or asked
about, and what the provider answers decides. Events only make an order due; nothing is believed of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from uuid import UUID


class PaymentStatus(StrEnum):
    """Hyperswitch's intent statuses (juspay/hyperswitch, api_models, IntentStatus)."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CANCELLED_POST_CAPTURE = "cancelled_post_capture"
    PROCESSING = "processing"
    REQUIRES_CUSTOMER_ACTION = "requires_customer_action"
    REQUIRES_MERCHANT_ACTION = "requires_merchant_action"
    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_CAPTURE = "requires_capture"
    PARTIALLY_CAPTURED = "partially_captured"
    PARTIALLY_CAPTURED_AND_CAPTURABLE = "partially_captured_and_capturable"
    PARTIALLY_AUTHORIZED_AND_REQUIRES_CAPTURE = "partially_authorized_and_requires_capture"
    PARTIALLY_CAPTURED_AND_PROCESSING = "partially_captured_and_processing"
    CONFLICTED = "conflicted"
    EXPIRED = "expired"
    UNKNOWN = "unknown"  # a word newer than this list: the order waits and an operator can see it


@dataclass(frozen=True)
class Payment:
    """A payment as the provider has it. ``amount_cents`` is in minor units of ``currency``."""

    payment_id: str
    status: PaymentStatus
    amount_cents: int
    currency: str
    client_secret: str | None


class OrderStatus(StrEnum):
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    DISPUTED = "disputed"


def payment_id_of(order_id: UUID) -> str:
    """The provider's id of an order's payment: derived, so that creating it twice creates it once.

    Hyperswitch wants exactly 30 characters. A UUID has 128 bits and six of them (version and variant) say nothing,
    but the 26 hexadecimal digits after ``pay_`` hold 104: the 48 of the time, and 56 of the 74 random ones.
    """
    digits = order_id.hex
    return "pay_" + digits[:12] + digits[13:16] + digits[-11:]


@dataclass(frozen=True)
class DueOrder:
    """An order in hand, as far as its payment goes. Amounts are minor units of ``currency``.

    ``opened``: whether we know that the provider has the payment. ``seconds_left``: how long its buyer may still pay,
    negative afterwards. ``asked`` counts how often it was in hand before.
    """

    id: UUID
    buyer_id: UUID
    status: OrderStatus
    total_cents: int
    currency: str
    payment_id: str
    opened: bool
    seconds_left: float
    asked: int

    @property
    def in_time(self) -> bool:
        return self.seconds_left > 0


# -- what is asked of the provider -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """Ask the provider to make the payment; a payment it has already is as good."""


@dataclass(frozen=True)
class Look:
    """Ask what the payment is now, at the connector too."""


@dataclass(frozen=True)
class Expire:
    """Ask what the payment is now, and have it cancelled if it still waits for its buyer."""


Step = Open | Look | Expire


def next_step(order: DueOrder) -> Step:
    """A payment is opened for an order somebody may still pay, and ended for one nobody paid in time.

    Of every other one we only ask.
    """
    if order.status is not OrderStatus.PENDING:
        return Look()
    if not order.in_time:
        return Expire()
    return Look() if order.opened else Open()


def pause_before_next(asked: int, every: timedelta) -> timedelta:
    """How long until an order is in hand again that was so ``asked`` times before: doubling, from ``every`` to an hour.

    An order is so asked about when it is about twice as old as the last time: a webhook brings the news sooner in
    nearly every case, and one that nobody pays costs ever less.
    """
    return min(every * (1 << min(asked, 16)), LONGEST_PAUSE)


WATCHED = timedelta(days=1)
"""After its time an order whose payment failed is asked about that long: its buyer may have tried again at the
provider, and the event that told of it may be lost."""

LONGEST_PAUSE = timedelta(hours=1)  # Hyperswitch resends an event for a day: by then it was asked about 24 times


# -- what the provider answers -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoSuchPayment:
    """The provider does not know the payment."""


@dataclass(frozen=True)
class NoAnswer:
    """Nothing was learnt: no connection, no answer in time, or one that says to ask again."""

    why: str


@dataclass(frozen=True)
class KeyRefused:
    """The provider does not take our key: nothing is wrong with the order, and no other will fare better."""

    why: str


@dataclass(frozen=True)
class Declined:
    """A definitive no to what we asked."""

    code: str
    message: str


Answer = Payment | NoSuchPayment | NoAnswer | KeyRefused | Declined


# -- what follows from it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settle:
    """The money is ours and is what the order costs: mark it paid."""

    payment: Payment


@dataclass(frozen=True)
class Close:
    """No money came: the order ends in ``status``. ``watched``: it may yet come, so it is asked about again."""

    status: OrderStatus
    why: str | None = None
    watched: bool = False


@dataclass(frozen=True)
class Wait:
    """Nothing is decided; the order is due again after its pause."""


@dataclass(frozen=True)
class Examine:
    """Money came, or may have, that the order cannot take as it is. Nothing is booked; an operator is told ``why``."""

    why: str


Verdict = Settle | Close | Wait | Examine


@dataclass(frozen=True)
class GiveBack:
    """The money came, but the order can't be honoured any more: it goes back whole. ``why`` is for its buyer too."""

    why: str


BUYERS_TURN = {
    PaymentStatus.REQUIRES_PAYMENT_METHOD,
    PaymentStatus.REQUIRES_CONFIRMATION,
    PaymentStatus.REQUIRES_CUSTOMER_ACTION,
}

FINAL = {
    PaymentStatus.FAILED: OrderStatus.FAILED,
    PaymentStatus.CANCELLED: OrderStatus.CANCELLED,
    PaymentStatus.EXPIRED: OrderStatus.EXPIRED,
}

PARTLY_OURS = {
    PaymentStatus.PARTIALLY_CAPTURED,
    PaymentStatus.PARTIALLY_CAPTURED_AND_CAPTURABLE,
    PaymentStatus.PARTIALLY_AUTHORIZED_AND_REQUIRES_CAPTURE,
    PaymentStatus.PARTIALLY_CAPTURED_AND_PROCESSING,
    PaymentStatus.CANCELLED_POST_CAPTURE,
    PaymentStatus.CONFLICTED,
}


def after_answer(order: DueOrder, answer: Answer) -> Verdict:
    """What the provider's answer means for the order."""
    match answer:
        case Payment(status=PaymentStatus.CANCELLED) if next_step(order) == Expire():
            return Close(OrderStatus.EXPIRED)
        case Payment():
            return _after_sync(order, answer)
        case NoSuchPayment():
            return _after_absent(order)
        case Declined(code, message):
            # A no to opening leaves nothing that could be paid. A no to looking says nothing of the money.
            return Close(OrderStatus.FAILED, f"{code}: {message}") if next_step(order) == Open() else Wait()
        case NoAnswer() | KeyRefused():
            return Wait()


def after_cancel(order: DueOrder, answer: Answer) -> Verdict:
    """What the answer to a wish to cancel means; the provider may know that it was paid meanwhile."""
    if isinstance(answer, NoSuchPayment) and not order.opened:
        return Close(OrderStatus.CANCELLED)
    if isinstance(answer, Payment):
        return _after_sync(order, answer)
    if isinstance(answer, Declined):
        return Wait()
    return after_answer(order, answer)


def _after_sync(order: DueOrder, payment: Payment) -> Verdict:
    verdict = after_sync(order.total_cents, order.currency, payment)
    if isinstance(verdict, Close) and verdict.status is OrderStatus.FAILED:
        return replace(verdict, watched=order.seconds_left > -WATCHED.total_seconds())
    return verdict


def _after_absent(order: DueOrder) -> Verdict:
    if order.opened:
        return Examine("the provider no longer knows the payment")
    if next_step(order) == Open():
        return Wait()  # making it cannot find it missing: the answer is somebody else's
    return Close(OrderStatus.EXPIRED)  # its time is over, and nobody could have paid


def after_sync(total_cents: int, currency: str, payment: Payment) -> Verdict:
    """What a payment, as just synced, means for an order of ``total_cents`` in ``currency``."""
    if payment.status is PaymentStatus.SUCCEEDED:
        if (payment.amount_cents, payment.currency) == (total_cents, currency):
            return Settle(payment)
        return Examine(f"captured {payment.amount_cents} {payment.currency} for an order of {total_cents} {currency}")
    if payment.status in PARTLY_OURS:
        return Examine(f"the payment is {payment.status}")
    if payment.status in FINAL:
        return Close(FINAL[payment.status])
    return Wait()


SETTLED = frozenset({OrderStatus.PAID, OrderStatus.PARTIALLY_REFUNDED, OrderStatus.REFUNDED, OrderStatus.DISPUTED})
LATE = frozenset({OrderStatus.FAILED, OrderStatus.EXPIRED})


def check_capture(status: OrderStatus, *, still_sold: bool) -> GiveBack | None:
    """Whether a captured payment can settle an order in ``status`` that is not settled yet: None if it can.

    One that comes late is honoured while all of the order is still on sale.
    """
    if status is OrderStatus.CANCELLED:
        return GiveBack("Paid after it was cancelled.")
    if status in LATE and not still_sold:
        return GiveBack(f"Paid after it was {status}, and not all of it is on sale any more.")
    return None
