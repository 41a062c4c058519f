"""A stream on air: the states of one session, what leads from one to the next, and what everyone may know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.errors import Forbidden
from veza.domain.flags import Flag, feature_disabled
from veza.domain.ingest import Audio, Flow, Publisher, Video
from veza.domain.stream_keys import KeyClaim


class StreamState(StrEnum):
    OFFLINE = "offline"
    STARTING = "starting"
    LIVE = "live"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Event(StrEnum):
    """What happens to a session."""

    PUBLISHED = "published"  # an encoder was let in
    FLOWED = "flowed"
    STOOD_STILL = "stood_still"
    VANISHED = "vanished"  # its publisher, as the server told or as the polls show
    INGEST_LOST = "ingest_lost"  # nothing was heard of its server for long
    OVERDUE = "overdue"  # the time that its state may take is over


class SessionEnd(StrEnum):
    """Why a session is over."""

    FINISHED = "finished"
    TIMEOUT = "timeout"
    KEY_ROTATED = "key_rotated"
    BANNED = "banned"
    INGEST_LOST = "ingest_lost"
    DELETED = "deleted"


S, E = StreamState, Event
NEXT: Final[Mapping[tuple[StreamState, Event], StreamState]] = {
    (S.STARTING, E.FLOWED): S.LIVE,
    (S.STARTING, E.VANISHED): S.RECONNECTING,
    (S.STARTING, E.INGEST_LOST): S.RECONNECTING,
    (S.STARTING, E.OVERDUE): S.RECONNECTING,
    (S.LIVE, E.STOOD_STILL): S.STALLED,
    (S.LIVE, E.VANISHED): S.RECONNECTING,
    (S.LIVE, E.INGEST_LOST): S.RECONNECTING,
    (S.STALLED, E.FLOWED): S.LIVE,
    (S.STALLED, E.PUBLISHED): S.STARTING,
    (S.STALLED, E.VANISHED): S.RECONNECTING,
    (S.STALLED, E.INGEST_LOST): S.RECONNECTING,
    (S.RECONNECTING, E.PUBLISHED): S.STARTING,
    (S.RECONNECTING, E.FLOWED): S.LIVE,  # the server is heard of again, and its publisher never left
    (S.RECONNECTING, E.OVERDUE): S.ENDED,
}
"""The life of a session, once an encoder was let in. What is not here changes nothing, or is refused.

One that was never live has nothing to come back to: where this says reconnecting, it is as if it had never been.
"""

ON_AIR: Final = frozenset({S.LIVE, S.STALLED, S.RECONNECTING})

EVENT_OF: Final[Mapping[Flow, Event]] = {
    Flow.FLOWING: E.FLOWED,
    Flow.STANDING: E.STOOD_STILL,
    Flow.ABSENT: E.VANISHED,
}

START_SECONDS: Final = 10.0  # an encoder sends its first pictures within one or two
POLLS_UNTIL_LOST: Final = 15  # of an ingest server that does not answer: half a minute, at a poll every two seconds


@dataclass(frozen=True)
class Timing:
    """Seconds: between two polls, without a byte until it counts as stalled, and for an encoder to come back."""

    poll: float = 2.0
    stall: float = 6.0
    grace: float = 60.0

    @property
    def lost(self) -> float:
        """After so many seconds without an answer of the ingest server its sessions are told."""
        return self.poll * POLLS_UNTIL_LOST


@dataclass(frozen=True, slots=True)
class StreamSession:
    """One time on air, across every reconnection. ``bytes_before`` are those of the publishers it had before.

    ``changes`` counts the stream's changes of state, over all its sessions. ``key_version`` is of the key shown.
    ``resting`` is the stream's state without a session: offline, or ended once it was live.
    """

    id: UUID
    stream_id: UUID
    state: StreamState
    publisher: Publisher | None
    key_version: int
    changes: int
    started_at: datetime
    live_at: datetime | None = None
    reconnects: int = 0
    peak_viewers: int = 0
    bytes_before: int = 0
    ready: bool = False
    resting: StreamState = StreamState.OFFLINE
    video: Video | None = None
    audio: Audio | None = None

    @property
    def on_air(self) -> bool:
        return self.state in ON_AIR


@dataclass(frozen=True, slots=True)
class Figures:
    """What moves all the time: the bytes of a session so far, and the most viewers it had at once."""

    bytes_in: int
    peak_viewers: int


@dataclass(frozen=True)
class Permission:
    """What the rows say of a stream when somebody wants to publish. ``key_version`` null: there is no such stream."""

    key_version: int | None
    changes: int
    enabled: bool = True
    banned: bool = False
    resting: StreamState = StreamState.OFFLINE


def admit(
    permission: Permission,
    claim: KeyClaim,
    publisher: Publisher,
    before: StreamSession | None,
    *,
    id: UUID,  # noqa: A002
    now: datetime,
) -> StreamSession:
    """The session of an encoder that is let in: a new one, with this id, or the open one that it comes back to.

    Raises Forbidden for a key that was replaced or whose stream is gone, for who is banned, and where streaming is
    switched off; a session that was begun before that may be come back to.
    """
    if permission.key_version != claim.version:
        raise key_revoked()
    if permission.banned:
        raise Forbidden("This account is banned.", code="banned")
    if before is not None:
        return replace(
            before,
            state=NEXT[before.state, E.PUBLISHED],
            publisher=publisher,
            key_version=claim.version,
            changes=max(before.changes, permission.changes) + 1,
            reconnects=before.reconnects + 1,
            ready=False,
        )
    if not permission.enabled:
        raise feature_disabled(Flag.INGEST)
    return StreamSession(
        id=id,
        stream_id=claim.stream_id,
        state=S.STARTING,
        publisher=publisher,
        key_version=claim.version,
        changes=permission.changes + 1,
        started_at=now,
        resting=permission.resting,
    )


def key_revoked() -> Forbidden:
    """Says the same of a key that was replaced, of one whose stream is gone, and of what is no key."""
    return Forbidden("This stream key is not valid.", code="key_revoked")


@dataclass(frozen=True)
class PastSession:
    """What is kept of a session. ``bytes_in``: all that its publishers sent. An open one has no end yet."""

    id: UUID
    started_at: datetime
    live_at: datetime
    ended_at: datetime | None
    end_reason: SessionEnd | None
    peak_viewers: int
    bytes_in: int
    reconnects: int


# -- what everyone may know --------------------------------------------------------------------------------------------


class Health(StrEnum):
    NONE = "none"  # it is not on air
    GOOD = "good"
    POOR = "poor"
    UNKNOWN = "unknown"  # its ingest server does not answer us


POLL_AFTER_MS: Final[Mapping[StreamState, int]] = {
    S.OFFLINE: 15_000,
    S.STARTING: 1_000,
    S.LIVE: 5_000,
    S.STALLED: 2_000,
    S.RECONNECTING: 2_000,
    S.ENDED: 15_000,
}

FIGURES_SECONDS: Final = 5.0  # at most so often do figures that always move make a new version
FIGURES_A_CHANGE: Final = 10_000_000  # at one in five seconds, a year and a half in one state


@dataclass(frozen=True, slots=True)
class Status:
    """What pollers are told. ``viewer_count`` is approximate: those who polled within the last minute."""

    state: StreamState
    is_live: bool
    health: Health
    viewer_count: int
    version: int
    poll_after_ms: int


def status(
    state: StreamState, *, changes: int, figures: int = 0, viewers: int = 0, ingest_known: bool = True
) -> Status:
    """The status of a stream after so many changes of state, and so many of its figures since.

    The two make one version, which never goes back or is told of another status: the changes are kept.
    """
    return Status(
        state=state,
        is_live=state in ON_AIR,
        health=health(state, ingest_known=ingest_known),
        viewer_count=viewers,
        version=changes * FIGURES_A_CHANGE + min(figures, FIGURES_A_CHANGE - 1),
        poll_after_ms=POLL_AFTER_MS[state],
    )


def is_over(state: StreamState) -> bool:
    return state in (S.OFFLINE, S.ENDED)


def health(state: StreamState, *, ingest_known: bool) -> Health:
    if is_over(state):
        return Health.NONE
    if not ingest_known:
        return Health.UNKNOWN
    return Health.GOOD if state is S.LIVE else Health.POOR
