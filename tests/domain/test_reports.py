"""Reports: what each decision makes of one, once, and who is told what of it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from veza.domain.errors import Conflict, Invalid
from veza.domain.reports import (
    Action,
    ContentType,
    Report,
    ReportStatus,
    Subject,
    check_decision,
    check_not_own,
    decide,
    reviewed_news,
    warning_news,
)

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
ANN, BOB, ROOT = UUID(int=1), UUID(int=2), UUID(int=3)
REPORT = Report(UUID(int=9), ANN, ContentType.TRACK, UUID(int=8), BOB, "It is mine.", NOON)


@pytest.mark.parametrize("content_type", ContentType)
def test_a_track_is_a_product_and_a_comment_a_review(content_type: ContentType) -> None:
    also = {"track": Subject.PRODUCT, "comment": Subject.REVIEW}
    assert content_type.subject == also.get(content_type, str(content_type))


@pytest.mark.parametrize("action", Action)
def test_what_is_decided_is_decided_once(action: Action) -> None:
    after = decide(REPORT, action, "Don't.", by=ROOT, now=NOON)
    expected = ReportStatus.DISMISSED if action is Action.DISMISS else ReportStatus.RESOLVED
    assert (after.status, after.action, after.note) == (expected, action, "Don't.")
    assert (after.decided_by, after.decided_at) == (ROOT, NOON)
    for again in Action:
        with pytest.raises(Conflict) as refused:
            decide(after, again, "", by=ROOT, now=NOON)
        assert refused.value.code == "already_decided"


@pytest.mark.parametrize("action", Action)
def test_nobody_decides_about_themself(action: Action) -> None:
    with pytest.raises(Conflict) as refused:
        decide(REPORT, action, "", by=BOB, now=NOON)
    assert refused.value.code == "own_content"
    assert decide(REPORT, action, "", by=ANN, now=NOON).decided_by == ANN, "its reporter may"


def test_nobody_reports_themself() -> None:
    check_not_own(BOB, ANN)
    with pytest.raises(Conflict) as refused:
        check_not_own(ANN, ANN)
    assert refused.value.code == "own_content"


@pytest.mark.parametrize(
    ("action", "note", "until", "field"),
    [
        (Action.DISMISS, "Fine.", None, "reason"),
        (Action.RESOLVE, "Gone.", None, "reason"),
        (Action.WARN, "", NOON, "until"),
        (Action.WARN, "Don't.", None, None),
        (Action.BAN, "Spam.", NOON, None),
        (Action.DISMISS, "", None, None),
    ],
)
def test_what_nobody_would_be_told_is_refused(
    action: Action, note: str, until: datetime | None, field: str | None
) -> None:
    if field is None:
        return check_decision(action, note, until)
    with pytest.raises(Invalid) as refused:
        check_decision(action, note, until)
    assert refused.value.field == field
    return None


@pytest.mark.parametrize("action", Action)
def test_the_owner_is_never_told_who_reported_and_the_reporter_not_what_was_done(action: Action) -> None:
    after = decide(REPORT, action, "Not yours." if action in (Action.BAN, Action.WARN) else "", by=ROOT, now=NOON)
    warned, reviewed = warning_news(after), reviewed_news(after)
    told = repr(warned)
    assert str(ANN) not in told
    assert REPORT.reason not in told
    told = repr(reviewed)
    assert not any(word in told for word in ("ban", "warn", "Not yours.", str(BOB)))
    assert reviewed.data["status"] == after.status


def test_a_warning_says_what_it_is_about_and_why() -> None:
    news = warning_news(decide(REPORT, Action.WARN, "Not yours.", by=ROOT, now=NOON))
    assert (news.title, news.body) == ("You have been warned about what you sell", "Not yours.")
    assert news.data == {"content_type": "product", "content_id": UUID(int=8), "reason": "Not yours."}
