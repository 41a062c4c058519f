"""Disputes: a buyer's bank takes a payment back, or tries to.

Events only say that there is one; what it is, is asked of the payment provider. While it is open its sellers' payouts
are held. One that is won releases them; one that is lost is a refund that nobody needs to be asked for any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.attempts import Interrupted
from veza.domain.payments import KeyRefused, NoAnswer, pause_before_next
from veza.domain.refund_attempts import AskAgain
from veza.domain.refunds import (
    Draft,
    Origin,
    RefundStatus,
    Sold,
    split,
)

LOOKS: Final = 5  # for one that the provider does not know: its event may have been faster than its own records
FIRST_PAUSE: Final = timedelta(minutes=1)  # then ever less often: a bank takes weeks, and tells when it has decided


class DisputeState(StrEnum):
    UNKNOWN = "unknown"
    OPEN = "open"
    WON = "won"
    LOST = "lost"


STATE_OF: Final = {
    "dispute_opened": DisputeState.OPEN,
    "dispute_challenged": DisputeState.OPEN,
    "dispute_won": DisputeState.WON,
    "dispute_cancelled": DisputeState.WON,  # the buyer took it back
    "dispute_lost": DisputeState.LOST,
    "dispute_accepted": DisputeState.LOST,  # we let them have it
    "dispute_expired": DisputeState.LOST,  # nobody answered it in time
}
"""Hyperswitch's words (juspay/hyperswitch, crates/common_enums, DisputeStatus). One newer than this list is open."""


@dataclass(frozen=True)
class Dispute:
    """As an operator sees it. Amounts are minor units of ``currency``, null until the provider was asked.

    ``taken_cents`` were deducted for a lost one: less than its amount where a refund had given back the rest before.
    """

    id: str
    order_id: UUID
    buyer_id: UUID
    payment_id: str
    status: str | None
    state: DisputeState
    amount_cents: int | None
    taken_cents: int
    currency: str
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class DisputeClaim:
    """A dispute in hand. ``asked`` counts this time too; ``claimed_at`` is the database's time."""

    id: UUID
    dispute_id: str
    order_id: UUID
    payment_id: str
    currency: str
    state: DisputeState
    asked: int
    claimed_at: datetime


@dataclass(frozen=True)
class Seen:
    """What the provider says of it now. ``status`` is its own word; the amount is in minor units of ``currency``."""

    status: str
    amount_cents: int
    currency: str


@dataclass(frozen=True)
class NoSuchDispute:
    """The provider does not know it."""


DisputeOutcome = Seen | NoSuchDispute | NoAnswer | KeyRefused | Interrupted


@dataclass(frozen=True)
class Become:
    """It is this now; ask again after ``pause``, or only when an event comes."""

    state: DisputeState
    status: str
    amount_cents: int
    pause: timedelta | None


@dataclass(frozen=True)
class Forget:
    """There is no such dispute: an event told of one that isn't there. Ask only when another comes."""


DisputeDecision = Become | Forget | AskAgain


def after_look(claim: DisputeClaim, outcome: DisputeOutcome) -> DisputeDecision:
    """What the provider's answer means. One that is decided is asked about again only when an event comes.

    One in another currency than its order holds what there is to hold, and a person has to see to the rest.
    """
    match outcome:
        case Seen(status, amount_cents, currency) if currency != claim.currency:
            pause = pause_before_next(claim.asked - 1, FIRST_PAUSE)
            return Become(DisputeState.OPEN, f"{status}, in {currency}", amount_cents, pause)
        case Seen(status, amount_cents):
            state = STATE_OF.get(status, DisputeState.OPEN)
            again = pause_before_next(claim.asked - 1, FIRST_PAUSE) if state is DisputeState.OPEN else None
            return Become(state, status, amount_cents, again)
        case NoSuchDispute() if claim.state is DisputeState.UNKNOWN and claim.asked >= LOOKS:
            return Forget()
        case NoSuchDispute():
            return AskAgain(pause_before_next(claim.asked - 1, FIRST_PAUSE), "the provider does not know it")
        case Interrupted():
            return AskAgain(timedelta(0), counted=False)
        case NoAnswer(why) | KeyRefused(why):
            return AskAgain(pause_before_next(claim.asked - 1, FIRST_PAUSE), why)


def deduction(sold: Sold, cents: int) -> Draft | None:
    """The refund that a lost dispute is, of at most what is left of the order: what a refund gave back before is not
    deducted again. None when nothing is left.
    """
    left = sum(line.left_cents for line in sold.lines)
    if not min(cents, left):
        return None
    return Draft(Origin.DISPUTE, RefundStatus.PENDING, split(min(cents, left), sold.lines))
