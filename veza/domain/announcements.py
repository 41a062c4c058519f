"""Announcements: what the operator tells everybody, each from one moment to another."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.errors import Invalid
from veza.domain.names import BIDI_CONTROLS, CONTROLS, can_be_seen, check_line

TITLE_LENGTH: Final = 200  # a line on a banner
CONTENT_LENGTH: Final = 5000  # some paragraphs; every process keeps it, and every visitor is sent it
LAYOUT: Final = "\n\t"


class Kind(StrEnum):
    """How much it matters, by the words that banners are coloured by."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


URGENCY: Final = (Kind.ERROR, Kind.WARNING, Kind.INFO)


class Phase(StrEnum):
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    ENDED = "ended"


@dataclass(frozen=True)
class Announcement:
    """Shown from ``starts_at`` on until ``ends_at``, which is the first moment without it; null is until it is deleted.

    ``title`` and ``content`` are plain text.
    """

    id: UUID
    title: str
    content: str
    type: Kind
    starts_at: datetime
    ends_at: datetime | None
    created_at: datetime

    def phase(self, now: datetime) -> Phase:
        if now < self.starts_at:
            return Phase.SCHEDULED
        if self.ends_at is not None and self.ends_at <= now:
            return Phase.ENDED
        return Phase.ACTIVE


@dataclass(frozen=True)
class Announcements:
    """All that are shown or will be, as is known. Which are shown now is the clock's doing; no row changes."""

    all: tuple[Announcement, ...] = ()

    def active(self, now: datetime) -> list[Announcement]:
        """What is shown now: the most urgent first, and of those the one that began last."""
        shown = [each for each in self.all if each.phase(now) is Phase.ACTIVE]
        shown.sort(key=lambda each: (each.starts_at, each.id), reverse=True)
        return sorted(shown, key=lambda each: URGENCY.index(each.type))

    def next_change(self, now: datetime) -> datetime | None:
        """When the clock next begins or ends one; null if none waits for it."""
        moments = [moment for each in self.all for moment in (each.starts_at, each.ends_at)]
        return min((moment for moment in moments if moment is not None and moment > now), default=None)


def check_title(title: str) -> str:
    """The title without the space around it. Raises Invalid unless it is a line of 1 to 200 characters to be seen."""
    title = title.strip()
    if len(title) > TITLE_LENGTH:
        raise Invalid(f"The title has at most {TITLE_LENGTH} characters.", field="title")
    return check_line(title, "title")


def check_content(content: str) -> str:
    """The text without the space around it, its lines ended alike.

    Raises Invalid unless it has 1 to 5000 characters, and of controls the ends of lines and tabs alone.
    """
    content = content.replace("\r\n", "\n").strip()
    if not content:
        raise Invalid("The content says something.", field="content")
    if len(content) > CONTENT_LENGTH:
        raise Invalid(f"The content has at most {CONTENT_LENGTH} characters.", field="content")
    kinds = {unicodedata.category(character) for character in content if character not in LAYOUT}
    if not kinds.isdisjoint(CONTROLS) or not BIDI_CONTROLS.isdisjoint(content):
        raise Invalid("The content has no control characters but ends of lines and tabs.", field="content")
    if not can_be_seen(kinds):
        raise Invalid("The content says something.", field="content")
    return content


def check_window(starts_at: datetime, ends_at: datetime | None, now: datetime) -> None:
    """Raises Invalid for a window in which nobody would ever see it."""
    if ends_at is not None and ends_at <= starts_at:
        raise Invalid("It ends after it starts.", field="ends_at")
    if ends_at is not None and ends_at <= now:
        raise Invalid("It ends in the future.", field="ends_at")
