"""What an attempt does, and what its outcome means: the whole table, without a clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.attempts import (
    Absent,
    Again,
    Call,
    Dead,
    Done,
    Exhausted,
    GiveUp,
    Hold,
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
    after_attempt,
    delay,
    next_step,
)
from veza.domain.payouts import (
    Claim,
    HoldReason,
    Transfer,
    TransferStatus,
    may_retry,
)

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)
POLICY = RetryPolicy()
MIDDLE = 0.5  # jitter that changes nothing

TRANSFER = Transfer(
    id=UUID(int=1),
    order_id=UUID(int=2),
    seller_id=UUID(int=3),
    amount_cents=2699,
    platform_fee_cents=300,
    currency="EUR",
    status=TransferStatus.PROCESSING,
    hold_reason=None,
    retry_count=0,
    attempts=1,
    key_epoch=0,
    next_retry_at=None,
    key_used_at=NOW,
    doubtful=False,
    absent_since=None,
    external_ref=None,
    failure_code=None,
    failure_message=None,
    created_at=NOW,
    completed_at=None,
)

OUTCOMES: tuple[Outcome, ...] = (
    Paid("tr_1"),
    Unclear("timeout", ""),
    StoredError("http_500", ""),
    Absent(),
    Mismatch("tr_1"),
    NoFunds(""),
    NotOnboarded(""),
    Refused("resource_missing", ""),
    Unauthorized(""),
    Interrupted(),
    Exhausted(),
)
DEFINITIVE = (NoFunds, NotOnboarded, Refused)


def after(
    outcome: Outcome, transfer: Transfer = TRANSFER, policy: RetryPolicy = POLICY, claimed_at: datetime = NOW
) -> object:
    claim = Claim(UUID(int=9), transfer, "acct_1", claimed_at)
    return after_attempt(claim, outcome, NOW, policy, MIDDLE)


def moves_key(decision: object) -> bool:
    return isinstance(decision, Hold | Retry | Dead) and decision.new_key


def test_a_payment_is_done_and_names_the_providers_transfer() -> None:
    assert after(Paid("tr_1")) == Done("tr_1")


def test_no_answer_is_tried_again_with_the_same_key() -> None:
    decision = after(Unclear("timeout", "no answer"))
    assert decision == Retry(NOW + timedelta(seconds=15), "timeout", "no answer")
    assert not moves_key(decision)


def test_what_was_doubted_stays_doubted_until_it_is_cleared_up() -> None:
    doubtful = replace(TRANSFER, doubtful=True, absent_since=NOW - timedelta(minutes=1))
    decision = after(Unclear("timeout", ""), doubtful)
    assert isinstance(decision, Retry)
    assert decision.doubtful
    assert decision.absent_since == doubtful.absent_since


def test_the_last_try_gives_up_and_keeps_its_key() -> None:
    decision = after(Unclear("timeout", "no answer"), replace(TRANSFER, attempts=POLICY.max_attempts))
    assert decision == Dead("timeout", "no answer", new_key=False)


def test_a_stored_error_is_looked_into_at_once() -> None:
    decision = after(StoredError("http_500", ""))
    assert decision == Retry(NOW, "http_500", "", doubtful=True)
    assert next_step(replace(TRANSFER, doubtful=True), NOW, POLICY) == Look()


def test_a_stored_error_on_the_last_try_is_still_looked_into() -> None:
    last = replace(TRANSFER, attempts=POLICY.max_attempts)
    decision = after(StoredError("http_500", ""), last)
    assert isinstance(decision, Retry)
    assert not decision.counted, "else the next claim would give it up without a look"
    assert next_step(replace(last, doubtful=True), NOW, POLICY) == Look()


def test_nothing_found_is_believed_only_when_it_is_found_again_later() -> None:
    first = after(Absent(), replace(TRANSFER, doubtful=True))
    assert isinstance(first, Retry)
    assert (first.at, first.absent_since, first.new_key) == (NOW + POLICY.ambiguity, NOW, False)
    early = after(Absent(), replace(TRANSFER, doubtful=True, absent_since=NOW - timedelta(minutes=9)))
    assert isinstance(early, Retry)
    assert (early.at, early.new_key) == (NOW + timedelta(minutes=1), False)
    second = after(Absent(), replace(TRANSFER, doubtful=True, absent_since=NOW - POLICY.ambiguity))
    assert isinstance(second, Retry)
    assert (second.at, second.new_key, second.doubtful) == (NOW, True, False)


def test_nothing_found_after_the_last_try_ends_it_with_a_key_that_may_be_used_anew() -> None:
    last = replace(TRANSFER, attempts=POLICY.max_attempts, doubtful=True, absent_since=NOW - POLICY.ambiguity)
    decision = after(Absent(), last)
    assert isinstance(decision, Dead)
    assert decision.new_key


def test_another_transfer_of_that_name_is_for_a_person_to_look_at() -> None:
    decision = after(Mismatch("tr_1"))
    assert isinstance(decision, Dead)
    assert (decision.code, decision.new_key) == ("transfer_mismatch", False)


def test_missing_funds_hold_it_and_are_asked_about_again() -> None:
    assert after(NoFunds("low")) == Hold(HoldReason.AWAITING_FUNDS, "low", NOW + POLICY.funds_probe)


def test_a_seller_who_is_not_on_board_is_waited_for() -> None:
    assert after(NotOnboarded("not yet")) == Hold(HoldReason.NOT_ONBOARDED, "not yet", None)


def test_a_refusal_waits_for_an_admin_and_their_try_asks_anew() -> None:
    assert after(Refused("resource_missing", "no such destination")) == Dead(
        "resource_missing", "no such destination", new_key=True
    )


@pytest.mark.parametrize("outcome", [Unauthorized("bad key"), Interrupted()])
def test_what_says_nothing_of_the_transfer_puts_it_back_as_it_was(outcome: Outcome) -> None:
    assert isinstance(after(outcome, replace(TRANSFER, attempts=POLICY.max_attempts)), Again)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_a_definitive_no_moves_the_key(outcome: Outcome) -> None:
    assert moves_key(after(outcome)) is isinstance(outcome, DEFINITIVE)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_no_answer_moves_a_key_that_was_used_before_except_a_look_that_found_nothing(outcome: Outcome) -> None:
    decision = after(outcome, claimed_at=NOW - timedelta(seconds=1))
    assert not moves_key(decision)
    if isinstance(outcome, Refused):
        assert decision == Dead(outcome.code, outcome.message, doubtful=True)
    if isinstance(outcome, DEFINITIVE):
        assert moves_key(after(replace(outcome, stored=True), claimed_at=NOW - timedelta(seconds=1)))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_with_retries_off_nothing_that_failed_is_due_again(outcome: Outcome) -> None:
    decision = after(outcome, policy=RetryPolicy(automatic=False))
    match decision:
        case Retry(at=at) | Hold(probe_at=at):
            assert at is None
        case _:
            assert decision == after(outcome)


def test_a_row_that_was_in_hand_too_often_is_not_touched_again() -> None:
    poisoned = replace(TRANSFER, attempts=POLICY.max_attempts + 1, doubtful=True)
    assert next_step(poisoned, NOW, POLICY) == GiveUp()
    assert next_step(replace(poisoned, attempts=POLICY.max_attempts, doubtful=False), NOW, POLICY) == Call()


@pytest.mark.parametrize(("hours", "step"), [(22.9, Call()), (23, Look()), (400, Look())])
def test_a_key_that_the_provider_may_have_forgotten_is_not_used_before_a_look(hours: float, step: object) -> None:
    used = replace(TRANSFER, key_used_at=NOW - timedelta(hours=hours))
    assert next_step(used, NOW, POLICY) == step


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_delays_double_from_the_base_to_six_hours_within_a_tenth(attempts: int, jitter: float) -> None:
    plain = min(15 * 2 ** (attempts - 1), 6 * 3600)
    assert 0.9 * plain - 1e-6 <= delay(attempts, POLICY, jitter).total_seconds() <= 1.1 * plain + 1e-6


def test_twelve_tries_are_over_before_their_first_key_is_old() -> None:
    waits = sum(delay(attempts, POLICY, 0.999).total_seconds() for attempts in range(1, POLICY.max_attempts))
    assert waits < 23 * 3600


@pytest.mark.parametrize("status", TransferStatus)
def test_an_admin_may_retry_what_failed_and_no_other_that_is_not_held(status: TransferStatus) -> None:
    if status is not TransferStatus.HELD:
        assert may_retry(replace(TRANSFER, status=status)) is (status is TransferStatus.FAILED)


@pytest.mark.parametrize("why", HoldReason)
def test_an_admin_may_retry_only_holds_that_a_try_can_find_to_be_over(why: HoldReason) -> None:
    held = replace(TRANSFER, status=TransferStatus.HELD, hold_reason=why)
    assert may_retry(held) is (why in (HoldReason.NOT_ONBOARDED, HoldReason.AWAITING_FUNDS))
