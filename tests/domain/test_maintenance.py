"""What is said of maintenance, when it is worth coming back, and what a change leaves as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from veza.domain.errors import Invalid
from veza.domain.maintenance import (
    MESSAGE,
    MESSAGE_LENGTH,
    UNKNOWN,
    Maintenance,
    MaintenanceChange,
    changed,
    check_message,
    under_maintenance,
)

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
ON = Maintenance(True, "Back at one.", NOON + timedelta(hours=1), NOON - timedelta(days=1))


@pytest.mark.parametrize(
    ("ahead", "seconds"),
    [
        (None, 60),
        (timedelta(days=-1), 60),
        (timedelta(0), 60),
        (timedelta(microseconds=1), 1),
        (timedelta(seconds=90), 90),
        (timedelta(seconds=90, milliseconds=1), 91),
        (timedelta(hours=1), 3600),
        (timedelta(hours=9), 3600),
    ],
    ids=str,
)
def test_it_is_worth_coming_back_at_the_expected_end_within_an_hour_else_in_a_minute(
    ahead: timedelta | None, seconds: int
) -> None:
    maintenance = Maintenance(True, expected_end=None if ahead is None else NOON + ahead)
    assert maintenance.retry_after(NOON) == seconds


def test_who_is_turned_away_is_told_the_operators_words_or_ours() -> None:
    said = under_maintenance(ON, NOON)
    assert (str(said), said.code, said.retry_after) == ("Back at one.", "maintenance", 3600)
    assert str(under_maintenance(Maintenance(True), NOON)) == MESSAGE


def test_what_is_not_sent_stays_as_it_is_and_null_takes_it_away() -> None:
    assert changed(ON, MaintenanceChange(True), NOON) == Maintenance(True, ON.message, ON.expected_end, NOON)
    assert changed(ON, MaintenanceChange(True, message=None), NOON) == Maintenance(True, None, ON.expected_end, NOON)
    assert changed(ON, MaintenanceChange(True, expected_end=None), NOON) == Maintenance(True, ON.message, None, NOON)
    later = NOON + timedelta(hours=2)
    assert changed(ON, MaintenanceChange(True, "Later.", later), NOON) == Maintenance(True, "Later.", later, NOON)


def test_the_words_of_one_maintenance_are_not_those_of_the_next() -> None:
    off = changed(ON, MaintenanceChange(False), NOON)
    assert off == Maintenance(False, None, None, NOON)
    assert changed(off, MaintenanceChange(True), NOON) == Maintenance(True, None, None, NOON)


def test_words_may_be_prepared_while_it_is_off() -> None:
    prepared = changed(Maintenance(), MaintenanceChange(False, "Back at one."), NOON)
    assert changed(prepared, MaintenanceChange(True), NOON).message == "Back at one."


def test_a_fetched_one_can_be_sent_back() -> None:
    for fetched in (ON, Maintenance(False, None, None, NOON)):
        sent = MaintenanceChange(fetched.enabled, fetched.message, fetched.expected_end)
        assert changed(fetched, sent, NOON) == Maintenance(fetched.enabled, fetched.message, fetched.expected_end, NOON)


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(minutes=1), timedelta(days=700_000)], ids=str)
def test_an_end_that_is_over_is_refused(ago: timedelta) -> None:
    for before in (Maintenance(), ON):
        with pytest.raises(Invalid) as refused:
            changed(before, MaintenanceChange(True, expected_end=NOON - ago), NOON)
        assert refused.value.field == "expected_end"
    assert changed(ON, MaintenanceChange(True, expected_end=NOON + timedelta.resolution), NOON).enabled


def test_one_that_lasts_longer_than_was_expected_can_be_sent_back_and_switched_off_by_any_end() -> None:
    late = NOON + timedelta(hours=2)
    assert changed(ON, MaintenanceChange(True, "Later.", ON.expected_end), late).message == "Later."
    assert not changed(ON, MaintenanceChange(False, expected_end=NOON), late).enabled


def test_before_the_row_was_read_nobody_is_let_in() -> None:
    assert UNKNOWN.enabled


@pytest.mark.parametrize("message", ["Back at one.", "á" * MESSAGE_LENGTH, "  Back at one. ", "Réouverture à 13 h."])
def test_a_message_is_kept_without_the_space_around_it(message: str) -> None:
    assert check_message(message) == message.strip()


@pytest.mark.parametrize("message", ["", " ", "\n"])
def test_a_message_of_nothing_is_none(message: str) -> None:
    assert check_message(message) is None


@pytest.mark.parametrize("message", ["a" * (MESSAGE_LENGTH + 1), "one\ntwo", "nul\0", "\u202eturned", "half \ud800"])
def test_a_message_that_garbles_what_is_around_it_is_refused(message: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_message(message)
    assert refused.value.field == "message"
