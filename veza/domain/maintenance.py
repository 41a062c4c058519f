"""Maintenance: the doors are closed to everyone but admins. What is under way, and what works by itself, goes on."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from math import ceil
from typing import Final

from veza.domain.errors import Invalid, Unavailable
from veza.domain.names import BIDI_CONTROLS, CONTROLS

MESSAGE_LENGTH: Final = 500  # a few sentences: it stands in an error, and on a page

MESSAGE: Final = "Veza is being maintained, and will be back soon."
"""What is said where the operator said nothing."""

RETRY: Final = timedelta(minutes=1)
"""When to come back where no end is known, or it has passed. Being told no costs next to nothing."""

RETRY_AT_MOST: Final = timedelta(hours=1)  # it may be over sooner than was thought


class Unsent(Enum):
    """Stands for what was not sent: it is no null, which takes away."""

    UNSENT = auto()


UNSENT: Final = Unsent.UNSENT


@dataclass(frozen=True)
class Maintenance:
    """``message`` is shown to whoever is turned away, ``expected_end`` tells them when to come back."""

    enabled: bool = False
    message: str | None = None
    expected_end: datetime | None = None
    updated_at: datetime | None = None

    @property
    def sentence(self) -> str:
        return self.message or MESSAGE

    def retry_after(self, now: datetime) -> int:
        """Whole seconds after which it is worth coming back: until the expected end, an hour at most."""
        if self.expected_end is None or self.expected_end <= now:
            return int(RETRY.total_seconds())
        return ceil(min(self.expected_end - now, RETRY_AT_MOST).total_seconds())


UNKNOWN: Final = Maintenance(enabled=True, message="Veza is starting, and will be here in a moment.")
"""Until the row was read once nobody is let in: it may say that it is on."""


@dataclass(frozen=True)
class MaintenanceChange:
    """What is to be. What is unsent stays as it is; but when it is switched off the old words go."""

    enabled: bool
    message: str | Unsent | None = UNSENT
    expected_end: datetime | Unsent | None = UNSENT


class UnderMaintenance(Unavailable):
    """Not now: ``retry_after`` seconds from now it is worth asking again."""

    code = "maintenance"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def under_maintenance(maintenance: Maintenance, now: datetime) -> UnderMaintenance:
    """What is said to whoever is turned away."""
    return UnderMaintenance(maintenance.sentence, retry_after=maintenance.retry_after(now))


def changed(before: Maintenance, change: MaintenanceChange, now: datetime) -> Maintenance:
    """What it is after a change.

    Raises Invalid for an end that would be over already; one that stands so may be sent back as it was fetched.
    """
    if change.enabled and isinstance(change.expected_end, datetime):
        check_expected_end(change.expected_end, before, now)
    ended = before.enabled and not change.enabled
    message, end = (None, None) if ended else (before.message, before.expected_end)
    return Maintenance(
        change.enabled,
        message if change.message is UNSENT else change.message,
        end if change.expected_end is UNSENT else change.expected_end,
        now,
    )


def check_expected_end(end: datetime, before: Maintenance, now: datetime) -> None:
    """Raises Invalid for one that is over, unless it is the one that stands."""
    if end <= now and end != before.expected_end:
        raise Invalid("The expected end is in the future, or left out.", field="expected_end")


def check_message(message: str) -> str | None:
    """The message without the space around it, null if that is nothing.

    Raises Invalid for one that is too long or has control characters.
    """
    message = message.strip()
    if len(message) > MESSAGE_LENGTH:
        raise Invalid(f"The message has at most {MESSAGE_LENGTH} characters.", field="message")
    if not CONTROLS.isdisjoint(map(unicodedata.category, message)) or not BIDI_CONTROLS.isdisjoint(message):
        raise Invalid("The message is one line without control characters.", field="message")
    return message or None
