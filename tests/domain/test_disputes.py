"""Disputes: what the provider's words mean, when it is asked again, and how much a lost one takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from veza.domain.attempts import Interrupted
from veza.domain.disputes import (
    LOOKS,
    STATE_OF,
    Become,
    DisputeClaim,
    DisputeState,
    Forget,
    NoSuchDispute,
    Seen,
    after_look,
    deduction,
)
from veza.domain.payments import KeyRefused, NoAnswer, OrderStatus
from veza.domain.refund_attempts import AskAgain
from veza.domain.refunds import Line, Origin, Sold

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)


def claim(asked: int = 1, state: DisputeState = DisputeState.UNKNOWN) -> DisputeClaim:
    return DisputeClaim(UUID(int=1), "dp_1", UUID(int=2), "pay_1", "EUR", state, asked, NOW)


@pytest.mark.parametrize(("status", "state"), [*STATE_OF.items(), ("dispute_newer_than_this", DisputeState.OPEN)])
def test_a_dispute_becomes_what_the_provider_says_and_an_open_one_is_asked_about_again(
    status: str, state: DisputeState
) -> None:
    pause = timedelta(minutes=1) if state is DisputeState.OPEN else None
    assert after_look(claim(), Seen(status, 500, "EUR")) == Become(state, status, 500, pause)


def test_an_open_one_is_asked_about_ever_more_rarely() -> None:
    decisions = [after_look(claim(asked), Seen("dispute_opened", 500, "EUR")) for asked in (1, 2, 50)]
    pauses = [each.pause for each in decisions if isinstance(each, Become)]
    assert pauses == [timedelta(minutes=1), timedelta(minutes=2), timedelta(hours=1)]


def test_no_answer_is_asked_for_again() -> None:
    for outcome in (NoAnswer("silent"), KeyRefused("silent")):
        assert after_look(claim(2), outcome) == AskAgain(timedelta(minutes=2), "silent")
    assert after_look(claim(), Interrupted()) == AskAgain(timedelta(0), counted=False)


def test_what_the_provider_does_not_know_is_forgotten_only_if_it_never_did() -> None:
    assert isinstance(after_look(claim(LOOKS - 1), NoSuchDispute()), AskAgain)
    assert after_look(claim(LOOKS), NoSuchDispute()) == Forget()
    assert isinstance(after_look(claim(100, DisputeState.OPEN), NoSuchDispute()), AskAgain)


def test_one_in_another_currency_holds_and_takes_nothing_until_a_person_has_looked() -> None:
    decision = after_look(claim(), Seen("dispute_lost", 500, "USD"))
    assert decision == Become(DisputeState.OPEN, "dispute_lost, in USD", 500, timedelta(minutes=1))


def test_a_lost_one_takes_what_it_was_about_and_never_more_than_is_left() -> None:
    lines = tuple(Line(UUID(int=n), UUID(int=9), 1, 1000, 1000, taken, 0, 0, False) for n, taken in ((1, 400), (2, 0)))
    sold = Sold(UUID(int=50), UUID(int=3), OrderStatus.DISPUTED, "EUR", NOW, lines)
    for cents, parts in ((800, [300, 500]), (1600, [600, 1000]), (2000, [600, 1000])):
        made = deduction(sold, cents)
        assert made is not None
        assert made.origin is Origin.DISPUTE
        assert [item.amount_cents for item in made.items] == parts
    gone = tuple(Line(UUID(int=1), UUID(int=9), 1, 1000, 1000, 1000, 0, 0, False) for _ in range(1))
    assert deduction(Sold(UUID(int=50), UUID(int=3), OrderStatus.DISPUTED, "EUR", NOW, gone), 500) is None
