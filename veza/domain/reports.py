"""Reports: what people find fault with, and what an admin decides about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.errors import Conflict, Invalid
from veza.domain.notifications import News, NotificationKind

REASON_LENGTH: Final = 1_000
EXCERPT_LENGTH: Final = 200  # of a comment: enough to see what it is about


class Subject(StrEnum):
    """What a report is about."""

    USER = "user"
    PRODUCT = "product"
    REVIEW = "review"
    STREAM = "stream"


class ContentType(StrEnum):
    """What reporters call it."""

    USER = "user"
    TRACK = "track"
    COMMENT = "comment"
    PRODUCT = "product"
    REVIEW = "review"
    STREAM = "stream"

    @property
    def subject(self) -> Subject:
        return ALSO_CALLED.get(self) or Subject(self)


ALSO_CALLED: Final[Mapping[ContentType, Subject]] = {
    ContentType.TRACK: Subject.PRODUCT,
    ContentType.COMMENT: Subject.REVIEW,
}


class ReportStatus(StrEnum):
    PENDING = "pending"
    RESOLVED = "resolved"
    DISMISSED = "dismissed"


class Action(StrEnum):
    """What an admin decides. Warning and banning hit whose content it is."""

    RESOLVE = "resolve"  # it was right, and has been seen to
    DISMISS = "dismiss"  # nothing is wrong
    BAN = "ban"
    WARN = "warn"


NEXT: Final[Mapping[Action, ReportStatus]] = {
    Action.RESOLVE: ReportStatus.RESOLVED,
    Action.DISMISS: ReportStatus.DISMISSED,
    Action.BAN: ReportStatus.RESOLVED,
    Action.WARN: ReportStatus.RESOLVED,
}
"""Where each takes a pending report; one that was decided is decided for good."""

TELLING: Final = frozenset({Action.BAN, Action.WARN})
"""What the content's owner is told of, and with which words."""


@dataclass(frozen=True)
class Report:
    """``owner_id``: whose content it was when it was reported. ``note``: what they were told.

    ``reporter_id`` is null once the reporter was erased; ``action``, ``decided_by`` and ``decided_at`` until it is
    decided.
    """

    id: UUID
    reporter_id: UUID | None
    content_type: ContentType
    content_id: UUID
    owner_id: UUID
    reason: str
    created_at: datetime
    status: ReportStatus = ReportStatus.PENDING
    action: Action | None = None
    note: str = ""
    decided_by: UUID | None = None
    decided_at: datetime | None = None

    @property
    def subject(self) -> Subject:
        return self.content_type.subject


def check_not_own(owner_id: UUID, reporter_id: UUID) -> None:
    """Raises Conflict for who would report themself, or what is theirs."""
    if owner_id == reporter_id:
        raise Conflict("This is your own: there is nobody to report it to but yourself.", code="own_content")


def check_decision(action: Action, note: str, until: datetime | None) -> None:
    """Raises Invalid for words that nobody would be told, and for an end of what has none."""
    if note and action not in TELLING:
        raise Invalid("Nobody is told this: only a warning and a ban have a reason.", field="reason")
    if until is not None and action is not Action.BAN:
        raise Invalid("Only a ban has an end.", field="until")


def decide(report: Report, action: Action, note: str, *, by: UUID | None, now: datetime) -> Report:
    """The report once it is decided. Raises Conflict for one that was, and for one about who decides."""
    if report.status is not ReportStatus.PENDING:
        raise Conflict(f"This report was {report.status} before.", code="already_decided")
    if report.owner_id == by:
        raise Conflict("This report is about you, or what is yours: another admin decides it.", code="own_content")
    return replace(report, status=NEXT[action], action=action, note=note, decided_by=by, decided_at=now)


# -- what is told ------------------------------------------------------------------------------------------------------

CALLED: Final[Mapping[Subject, str]] = {
    Subject.USER: "your account",
    Subject.PRODUCT: "what you sell",
    Subject.REVIEW: "a review of yours",
    Subject.STREAM: "a stream of yours",
}


def warning_news(report: Report) -> News:
    """What is told to whose content it is: never who reported it, nor in which words."""
    data = {"content_type": report.subject, "content_id": report.content_id, "reason": report.note}
    return News(
        NotificationKind.ACCOUNT_WARNED, f"You have been warned about {CALLED[report.subject]}", report.note, data
    )


def reviewed_news(report: Report) -> News:
    """What is told to who reported it: that somebody looked. What became of another is not theirs to know."""
    data = {"report_id": report.id, "content_type": report.content_type, "content_id": report.content_id}
    found = "We found nothing wrong." if report.status is ReportStatus.DISMISSED else "We have acted on it. Thank you."
    return News(
        NotificationKind.REPORT_REVIEWED, "Your report was looked into", found, data | {"status": report.status}
    )
