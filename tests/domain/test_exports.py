"""Asking for an export, and what follows from an attempt at one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from tests.people import NOON
from veza.domain.errors import TooMany
from veza.domain.exports import (
    MAX_ATTEMPTS,
    Broken,
    Dead,
    Decision,
    Export,
    ExportStatus,
    GivenBack,
    Interrupted,
    Made,
    Outcome,
    Progress,
    Ready,
    Retry,
    after_attempt,
    current,
    failed_news,
    is_spent,
    ready_news,
)

S = ExportStatus
DAY = timedelta(days=1)


def export(status: ExportStatus = S.RUNNING, attempts: int = 1) -> Export:
    return Export(UUID(int=1), UUID(int=2), status, Progress(), attempts, NOON)


@pytest.mark.parametrize("latest", [None, export(S.FAILED)], ids=["none", "failed"])
def test_the_first_and_one_after_a_failure_is_a_new_one(latest: Export | None) -> None:
    assert current(latest, NOON) is None


@pytest.mark.parametrize("status", [S.QUEUED, S.RUNNING])
def test_one_that_is_open_is_the_answer_however_old_it_is(status: ExportStatus) -> None:
    assert current(export(status), NOON + 3 * DAY) == export(status)


@pytest.mark.parametrize("status", [S.READY, S.EXPIRED])
def test_the_next_can_be_asked_for_a_day_after_the_last_was(status: ExportStatus) -> None:
    with pytest.raises(TooMany) as refused:
        current(export(status), NOON + timedelta(hours=23, minutes=59, seconds=29, milliseconds=500))
    assert refused.value.retry_after == 31
    with pytest.raises(TooMany) as refused:
        current(export(status), NOON + DAY - timedelta(microseconds=1))
    assert refused.value.retry_after == 1
    assert current(export(status), NOON + DAY) is None


def test_what_can_be_fetched_until_a_moment_is_shown_as_expired_from_then_on() -> None:
    ready = replace(export(S.READY), expires_at=NOON + DAY, object_key="0" * 64)
    assert ready.as_of(NOON + DAY - timedelta(seconds=1)) == ready
    gone = ready.as_of(NOON + DAY)
    assert (gone.status, gone.object_key) == (S.EXPIRED, None)


MINUTES = [1, 5, 15, 60]


@pytest.mark.parametrize(
    ("attempts", "outcome", "decision"),
    [
        *((number, Broken("x"), Retry(NOON + timedelta(minutes=m), "x")) for number, m in enumerate(MINUTES, start=1)),
        (MAX_ATTEMPTS, Broken("x"), Dead("x")),
        (MAX_ATTEMPTS + 1, Broken("x"), Dead("x")),
        (MAX_ATTEMPTS, Interrupted(), GivenBack()),
        (MAX_ATTEMPTS, Made("k", 9), Ready("k", 9, NOON + DAY)),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_a_failed_try_is_followed_by_another_later_and_the_fifth_by_none(
    attempts: int, outcome: Outcome, decision: Decision
) -> None:
    assert after_attempt(export(attempts=attempts), outcome, NOON, DAY) == decision


def test_one_that_was_begun_a_sixth_time_is_not_made_again() -> None:
    assert not is_spent(export(attempts=MAX_ATTEMPTS))
    assert is_spent(export(attempts=MAX_ATTEMPTS + 1))


def test_its_owner_is_told_where_it_is_and_until_when() -> None:
    news = ready_news(export(), "https://veza.example/x", NOON)
    assert news.data["download_url"] == "https://veza.example/x"
    assert news.data["expires_at"] == "2026-02-23T12:00:00Z"
    assert "2026-02-23 12:00 UTC" in news.body
    assert failed_news(export()).data == {"export_id": UUID(int=1)}


def test_it_is_named_by_the_day_it_was_asked_for() -> None:
    assert export().filename == "veza-export-2026-02-23.zip"
