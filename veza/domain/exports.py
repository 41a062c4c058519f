"""Exports: everything that is held about a person, as one archive that they can fetch for a while.

An export waits as ``queued``, is ``running`` under a lease, and is then ``ready`` until it has ``expired``, or
``failed`` for good. Its row is the queue: what follows from asking for one, and from an attempt at one, stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Final
from uuid import UUID

from veza.domain.errors import NotFound, TooMany
from veza.domain.notifications import News, NotificationKind

EVERY: Final = timedelta(days=1)  # an export reads all that somebody has: once a day is often enough for anyone
LEASE: Final = timedelta(seconds=30)  # renewed every ten: two renewals may fail before another process takes it
MAX_ATTEMPTS: Final = 5
BACKOFF: Final = (  # a restart; an outage; a long outage; somebody has mended it. After the fifth nobody waits longer.
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(minutes=60),
)
CONTENT_TYPE: Final = "application/zip"


class ExportStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Progress:
    """How many of a person's files are in the archive, of how many, and their bytes. Totals may grow as it goes on."""

    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True)
class Export:
    """``attempts`` are tries begun, the present one among them. ``failure`` is why the last that failed did, as a code.

    ``object_key`` names the archive's bytes, ``size_bytes`` of them, from when it is ready until it has expired.
    """

    id: UUID
    user_id: UUID
    status: ExportStatus
    progress: Progress
    attempts: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    object_key: str | None = None
    size_bytes: int | None = None
    failure: str | None = None

    @property
    def is_open(self) -> bool:
        return self.status in (ExportStatus.QUEUED, ExportStatus.RUNNING)

    @property
    def filename(self) -> str:
        """What it is called where it is fetched to."""
        return f"veza-export-{self.created_at:%Y-%m-%d}.zip"

    def as_of(self, now: datetime) -> Export:
        """The export as it is to be shown: what may be fetched until a moment may not be after it, whoever notes it."""
        if self.status is ExportStatus.READY and self.expires_at is not None and self.expires_at <= now:
            return replace(self, status=ExportStatus.EXPIRED, object_key=None)
        return self


@dataclass(frozen=True)
class Claim:
    """An export in hand, until its lease lapses. ``claimed_at`` is the database's time, from which all is reckoned."""

    id: UUID
    export: Export
    claimed_at: datetime


# -- asking for one ---------------------------------------------------------------------------------------------------


def current(latest: Export | None, now: datetime) -> Export | None:
    """What asking for an export comes to, by the latest that did not fail: that one while it is open, else a new one.

    None stands for a new one. Raises TooMany within a day of asking for one that was made.
    """
    if latest is None or latest.status is ExportStatus.FAILED:
        return None
    if latest.is_open:
        return latest
    again = latest.created_at + EVERY
    if again > now:
        seconds = max(1, ceil((again - now).total_seconds()))
        raise TooMany("One export can be made a day; the last one is kept for you.", retry_after=seconds)
    return None


def no_export() -> NotFound:
    """Says the same whether it does not exist or is not the asker's."""
    return NotFound("There is no such export.")


# -- what follows from an attempt -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """The archive is kept."""

    object_key: str
    size_bytes: int


@dataclass(frozen=True)
class Interrupted:
    """We were stopping. It says nothing about the export, and costs it no try."""


@dataclass(frozen=True)
class Broken:
    """It could not be made this time; ``why`` is a code."""

    why: str


Outcome = Made | Interrupted | Broken


@dataclass(frozen=True)
class Ready:
    object_key: str
    size_bytes: int
    expires_at: datetime


@dataclass(frozen=True)
class GivenBack:
    """As if it had not been taken."""


@dataclass(frozen=True)
class Retry:
    at: datetime
    why: str


@dataclass(frozen=True)
class Dead:
    why: str


Decision = Ready | GivenBack | Retry | Dead


def is_spent(export: Export) -> bool:
    """Whether it is beyond its last try: the tries before ended with their process, and this one might as well."""
    return export.attempts > MAX_ATTEMPTS


def after_attempt(export: Export, outcome: Outcome, now: datetime, lifetime: timedelta) -> Decision:
    """What follows. ``lifetime`` is how long an archive can be fetched."""
    match outcome:
        case Made(object_key, size_bytes):
            return Ready(object_key, size_bytes, (now + lifetime).replace(microsecond=0))  # links know no less
        case Interrupted():
            return GivenBack()
        case Broken(why):
            if export.attempts >= MAX_ATTEMPTS:
                return Dead(why)
            return Retry(now + BACKOFF[export.attempts - 1], why)


# -- what its owner is told -------------------------------------------------------------------------------------------


def ready_news(export: Export, url: str, expires_at: datetime) -> News:
    return News(
        NotificationKind.EXPORT_READY,
        "Your export is ready",
        f"Everything that is held about you, as one archive. It can be fetched until {expires_at:%Y-%m-%d %H:%M} UTC.",
        {"export_id": export.id, "download_url": url, "expires_at": f"{expires_at:%Y-%m-%dT%H:%M:%S}Z"},
    )


def failed_news(export: Export) -> News:
    return News(
        NotificationKind.EXPORT_FAILED,
        "Your export could not be made",
        "It was tried several times. Ask for another whenever you like; we have been told as well.",
        {"export_id": export.id},
    )
