"""Recovery: withheld from what was not sent, reversed from what was, and owed for the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.attempts import (
    Absent,
    Again,
    Done,
    Interrupted,
    Look,
    Mismatch,
    NoFunds,
    NotOnboarded,
    Outcome,
    Paid,
    Refused,
    Retry,
    RetryPolicy,
    StoredError,
    Unauthorized,
    Unclear,
)
from veza.domain.payouts import TransferStatus
from veza.domain.recovery import (
    Owe,
    Plan,
    Reversal,
    ReversalClaim,
    ReversalDecision,
    Sent,
    Stuck,
    after_reversal,
    net,
    next_reversal,
    plan,
)

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)
POLICY = RetryPolicy()
UNSENT = Sent(UUID(int=1), TransferStatus.PENDING, 2699, 0, 0, 0, False)
IN_HAND = replace(UNSENT, status=TransferStatus.PROCESSING, key_used=True)
COMPLETED = replace(UNSENT, status=TransferStatus.COMPLETED, key_used=True)


def test_what_was_not_sent_is_withheld() -> None:
    for status in (TransferStatus.PENDING, TransferStatus.FAILED, TransferStatus.HELD):
        assert plan(replace(UNSENT, status=status), 1000) == Plan(withhold=1000)


def test_what_may_have_been_sent_is_waited_for() -> None:
    assert plan(IN_HAND, 1000) == plan(replace(UNSENT, key_used=True), 1000) == Plan()


def test_what_was_sent_is_reversed_as_far_as_there_is_something_left_of_it() -> None:
    assert plan(COMPLETED, 2699) == Plan(reverse=2699)
    assert plan(replace(COMPLETED, reversed_cents=1000, reversing_cents=1500), 1000) == Plan(reverse=199, owe=801)


def test_what_was_netted_for_another_debt_is_owed() -> None:
    assert plan(replace(UNSENT, withheld_cents=2000), 2699) == Plan(withhold=699, owe=2000)
    assert plan(replace(COMPLETED, withheld_cents=2699), 2699) == Plan(owe=2699)


CENTS = st.lists(st.integers(1, 500), max_size=6)


@given(CENTS, CENTS)
def test_netting_takes_all_that_is_owed_or_all_that_is_there(owed: list[int], there: list[int]) -> None:
    debts = [(UUID(int=number), cents) for number, cents in enumerate(owed)]
    payable = [(UUID(int=100 + number), cents) for number, cents in enumerate(there)]
    taken = net(debts, payable)
    assert sum(cents for *_, cents in taken) == min(sum(owed), sum(there))
    assert len({(share, transfer) for share, transfer, _ in taken}) == len(taken)
    for side, limits in ((0, dict(debts)), (1, dict(payable))):
        for each, limit in limits.items():
            assert sum(row[2] for row in taken if row[side] == each) <= limit


# -- reversing ---------------------------------------------------------------------------------------------------------


def claim(*, fresh: bool = True, **changes: Any) -> ReversalClaim:
    used = NOW if fresh else NOW - timedelta(minutes=1)
    plain = Reversal(UUID(int=1), UUID(int=2), UUID(int=3), "tr_1", 2699, "EUR", 1, 0, used, False, None)
    return ReversalClaim(UUID(int=9), replace(plain, **changes), NOW)


def after(outcome: Outcome, **story: Any) -> ReversalDecision:
    return after_reversal(claim(**story), outcome, NOW, POLICY, 0.5)


def test_a_reversal_that_came_back_is_booked() -> None:
    assert after(Paid("trr_1")) == Done("trr_1")


@pytest.mark.parametrize("outcome", [NoFunds("spent"), NotOnboarded("no"), Refused("account_invalid", "gone")])
def test_a_definitive_no_is_a_debt_at_once(outcome: Outcome) -> None:
    assert isinstance(after(outcome), Owe)


@pytest.mark.parametrize("outcome", [NoFunds("spent"), Refused("http_400", "no")])
def test_a_no_that_proves_nothing_is_looked_into_first(outcome: Outcome) -> None:
    decision = after(outcome, fresh=False)
    assert isinstance(decision, Retry)
    assert decision.doubtful
    assert next_reversal(claim(doubtful=True), POLICY) == Look()


def test_no_answer_is_asked_for_again_however_often_and_whatever_the_switch_for_payouts() -> None:
    switched_off = RetryPolicy(automatic=False)
    decision = after_reversal(claim(attempts=500), Unclear("timeout", ""), NOW, switched_off, 0.5)
    assert decision == Retry(NOW + timedelta(hours=6), "timeout", "")


def test_a_stored_error_is_looked_into_and_believed_when_it_is_absent_twice() -> None:
    assert isinstance(first := after(StoredError("api_error", "")), Retry)
    assert first.doubtful
    assert isinstance(once := after(Absent(), doubtful=True), Retry)
    assert once.absent_since == NOW
    assert isinstance(twice := after(Absent(), doubtful=True, absent_since=NOW - timedelta(minutes=10)), Retry)
    assert twice.new_key


def test_what_the_provider_has_otherwise_waits_for_a_person() -> None:
    assert isinstance(after(Mismatch("trr_2")), Stuck)


def test_what_says_nothing_of_the_reversal_is_not_counted() -> None:
    assert isinstance(after(Unauthorized("key")), Again)
    assert isinstance(after(Interrupted()), Again)
