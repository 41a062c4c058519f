"""Announcements: which are shown is the clock's doing, in an order that puts first what matters most."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from tests.people import NOON
from veza.domain.announcements import (
    CONTENT_LENGTH,
    TITLE_LENGTH,
    Announcement,
    Announcements,
    Kind,
    Phase,
    check_content,
    check_title,
    check_window,
)
from veza.domain.errors import Invalid

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


def one(
    number: int = 1, kind: Kind = Kind.INFO, starts_at: datetime = NOON, ends_at: datetime | None = None
) -> Announcement:
    return Announcement(UUID(int=number), "Moving", "We move.", kind, starts_at, ends_at, NOON)


def test_it_is_shown_from_its_first_moment_on_and_not_at_its_last() -> None:
    it = one(starts_at=NOON, ends_at=NOON + HOUR)
    seen = [it.phase(at) for at in (NOON - TICK, NOON, NOON + HOUR - TICK, NOON + HOUR)]
    assert seen == [Phase.SCHEDULED, Phase.ACTIVE, Phase.ACTIVE, Phase.ENDED]


def test_without_an_end_it_goes_on() -> None:
    assert one().phase(NOON + 100_000 * HOUR) is Phase.ACTIVE


def test_the_clock_alone_makes_it_another_list() -> None:
    known = Announcements((one(1, ends_at=NOON + HOUR), one(2, starts_at=NOON + HOUR)))
    shown = [[each.id.int for each in known.active(at)] for at in (NOON - TICK, NOON, NOON + HOUR)]
    assert shown == [[], [1], [2]]
    assert [known.next_change(at) for at in (NOON - TICK, NOON, NOON + HOUR)] == [NOON, NOON + HOUR, None]


def test_errors_come_first_then_warnings_and_of_each_the_one_that_began_last() -> None:
    known = Announcements(
        (
            one(1, Kind.INFO, NOON - HOUR),
            one(2, Kind.WARNING, NOON - 2 * HOUR),
            one(3, Kind.ERROR, NOON - 3 * HOUR),
            one(4, Kind.INFO, NOON),
            one(5, Kind.WARNING, NOON - HOUR),
            one(6, Kind.INFO, NOON),
        )
    )
    assert [each.id.int for each in known.active(NOON)] == [3, 5, 2, 6, 4, 1]


@pytest.mark.parametrize("text", ["Moving", "ü", "x" * TITLE_LENGTH, "  Moving  ", "日曜日"])
def test_a_title_is_a_line(text: str) -> None:
    assert check_title(text) == text.strip()


@pytest.mark.parametrize("text", ["", "   ", "x" * (TITLE_LENGTH + 1), "one\ntwo", "a\0b", "\u200b", "a\u202eb"])
def test_what_is_no_line_is_no_title(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_title(text)
    assert refused.value.field == "title"


def test_a_content_keeps_its_lines_and_loses_what_is_around_it() -> None:
    assert check_content(" one\r\n\ttwo\n\n") == "one\n\ttwo"
    assert len(check_content("x" * CONTENT_LENGTH)) == CONTENT_LENGTH
    assert check_content("<b>not bold</b>") == "<b>not bold</b>"


@pytest.mark.parametrize(
    "text", ["", " \n ", "x" * (CONTENT_LENGTH + 1), "a\0b", "a\x1bb", "a\rb", "a\u202eb", "\u200b"]
)
def test_what_says_nothing_or_garbles_is_no_content(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_content(text)
    assert refused.value.field == "content"


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [(NOON, None), (NOON - HOUR, None), (NOON + HOUR, NOON + 2 * HOUR), (NOON - HOUR, NOON + TICK)],
)
def test_a_window_in_which_it_would_be_seen_is_taken(starts_at: datetime, ends_at: datetime | None) -> None:
    check_window(starts_at, ends_at, NOON)


@pytest.mark.parametrize(
    ("starts_at", "ends_at"), [(NOON, NOON), (NOON + HOUR, NOON), (NOON - 2 * HOUR, NOON - HOUR), (NOON - HOUR, NOON)]
)
def test_a_window_in_which_nobody_would_see_it_is_refused(starts_at: datetime, ends_at: datetime) -> None:
    with pytest.raises(Invalid) as refused:
        check_window(starts_at, ends_at, NOON)
    assert refused.value.field == "ends_at"
