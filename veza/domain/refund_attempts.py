"""Asking the payment provider to give a refund back, and what its answers mean.

A refund is asked about for as long as it takes: it is somebody's money.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.attempts import Interrupted
from veza.domain.payments import KeyRefused, NoAnswer, pause_before_next
from veza.domain.refunds import refund_id_of

FIRST_PAUSE: Final = timedelta(seconds=15)  # most refunds are done by then; later ones wait for a bank, or for an event


@dataclass(frozen=True)
class RefundClaim:
    """A refund in hand: nobody else asks the provider for it until its lease is over.

    ``asked`` counts how often it was in hand, this time included. ``claimed_at`` is the database's time.
    """

    id: UUID
    refund_id: UUID
    payment_id: str
    amount_cents: int
    currency: str
    asked: int
    claimed_at: datetime

    @property
    def reference(self) -> str:
        """The provider's id of the refund."""
        return refund_id_of(self.refund_id)


@dataclass(frozen=True)
class Returned:
    """The buyer has it back."""


@dataclass(frozen=True)
class Underway:
    """The provider has the refund and is at it."""


@dataclass(frozen=True)
class NotReturned:
    """A definitive no: the provider would not take the refund on, or could not do it. Nothing went back."""

    code: str
    message: str


RefundOutcome = Returned | Underway | NotReturned | NoAnswer | KeyRefused | Interrupted


@dataclass(frozen=True)
class Succeed:
    """Book it."""


@dataclass(frozen=True)
class Fail:
    """Nothing went back, and nothing will by this refund."""

    code: str
    message: str


@dataclass(frozen=True)
class AskAgain:
    """After ``pause``. ``counted``: whether the provider was asked at all this time."""

    pause: timedelta
    why: str | None = None
    counted: bool = True


RefundDecision = Succeed | Fail | AskAgain


def after_refund(claim: RefundClaim, outcome: RefundOutcome) -> RefundDecision:
    """What an outcome means. A refund is never given up for want of an answer: it is somebody's money."""
    match outcome:
        case Returned():
            return Succeed()
        case NotReturned(code, message):
            return Fail(code, message)
        case Interrupted():
            return AskAgain(timedelta(0), counted=False)
        case Underway():
            return AskAgain(pause_before_next(claim.asked - 1, FIRST_PAUSE))
        case NoAnswer(why) | KeyRefused(why):
            return AskAgain(pause_before_next(claim.asked - 1, FIRST_PAUSE), why)
