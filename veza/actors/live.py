"""Streams on air, for those who ask: what this process and the others hold, read without a message; and the doors in.

A status is made of the session's own snapshot and of figures that always move. Those make a new version at most every
few seconds, and only where somebody asks: a stream that nobody watches costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol
from uuid import UUID

import trio

from veza.actors import stream_session
from veza.actors.core import Stopped
from veza.actors.ingest_poller import IngestView, PollerRef
from veza.actors.session_holder import STALE_SECONDS, HolderRef
from veza.actors.stream_session import NotePublisherLeft, SessionRef
from veza.domain.audience import Audience
from veza.domain.errors import Unavailable
from veza.domain.ingest import Watch
from veza.domain.live import FIGURES_SECONDS, SessionEnd, Status, StreamSession, is_over, status
from veza.domain.stream_keys import KeyClaim

TOLD: Final = 1_000  # statuses that are kept, before those of sessions that are over are looked for
TRIES: Final = 2  # a session that was just finishing is gone at the second


class Sessions(Protocol):
    """The sessions of this process, by stream. `start` raises Overloaded and Stopped."""

    def start(self, key: UUID) -> SessionRef: ...
    def get(self, key: UUID) -> SessionRef | None: ...
    def children(self) -> list[tuple[UUID, SessionRef]]: ...


class NoSessions:
    """Stands where no ingest server is set up."""

    def start(self, key: UUID) -> SessionRef:
        raise Unavailable("Live streaming is not set up here.", code="live_not_configured")

    def get(self, key: UUID) -> SessionRef | None:
        return None

    def children(self) -> list[tuple[UUID, SessionRef]]:
        return []


@dataclass(frozen=True)
class Measured:
    """What its owner alone sees of a publisher. ``bitrate``: bits a second, 0 until it could be measured."""

    bitrate: int
    bytes_in: int
    dropped_frames: int


@dataclass(slots=True)
class _Told:
    """The status that pollers of one stream are told, until something in it changes."""

    status: Status
    changes: int
    figures: int
    at: float


class Live:
    """``poller`` and ``holder`` are none where no ingest server is set up, and nothing is ever on air."""

    def __init__(
        self,
        sessions: Sessions,
        audience: Audience,
        watches: Mapping[UUID, Watch],
        poller: PollerRef | None = None,
        holder: HolderRef | None = None,
    ) -> None:
        self._sessions = sessions
        self._audience = audience
        self._watches = watches
        self._poller = poller
        self._holder = holder
        self._told: dict[UUID, _Told] = {}
        self._room = TOLD
        self._begun: dict[UUID, float] = {}

    # --- read

    def session(self, stream_id: UUID) -> StreamSession | None:
        """A stream's open session, whichever process holds it, as far as it is known here."""
        ref = self._sessions.get(stream_id)
        if ref is not None and ref.snapshot is not None:
            return ref.snapshot
        view = None if self._holder is None else self._holder.snapshot
        if view is None or view.at <= self._begun.get(stream_id, -inf):
            return None  # it was begun here since, and is over: its row knows
        return view.sessions.get(stream_id)

    def on_air(self) -> list[UUID]:
        """Every stream that is live, those with the most viewers first."""
        here = {stream_id: ref.snapshot for stream_id, ref in self._sessions.children()}
        found = [
            key for key, session in {**self._elsewhere(), **here}.items() if session is not None and session.on_air
        ]
        return sorted(found, key=lambda stream_id: (-self.viewers(stream_id), stream_id.int))

    def viewers(self, stream_id: UUID) -> int:
        """How many watch, about: the distinct pollers of the last minute, of every process."""
        view = None if self._holder is None else self._holder.snapshot
        others = 0 if view is None else view.viewers.get(stream_id, 0)
        return self._audience.count(stream_id, trio.current_time()) + others

    def measured(self, stream_id: UUID) -> Measured | None:
        """What is measured of a stream's publisher; None while it has none, or none that was seen."""
        session, watch = self.session(stream_id), self._watches.get(stream_id)
        if session is None or session.publisher is None or watch is None or watch.seen is None:
            return None
        if not watch.is_of(session.publisher):
            return None
        return Measured(watch.bitrate, session.bytes_before + watch.seen.bytes_in, watch.seen.dropped)

    def status(self, stream_id: UUID) -> Status | None:
        """What everyone may know of a stream that has an open session; None for others, whose rows know."""
        session = self.session(stream_id)
        if session is None:
            self._told.pop(stream_id, None)
            return None
        if is_over(session.state):  # its row tells the same, once it is written
            return status(session.state, changes=session.changes)
        now, told = trio.current_time(), self._told.get(stream_id)
        if told is not None and told.changes == session.changes:
            if now - told.at < FIGURES_SECONDS:
                return told.status
            fresh = self._status(session, told.figures)
            if fresh != told.status:
                told.figures += 1
                told.status = self._status(session, told.figures)
            told.at = now
            return told.status
        if len(self._told) >= self._room:
            self._told = {key: told for key, told in self._told.items() if self.session(key) is not None}
            self._room = 2 * len(self._told) + TOLD
        self._told[stream_id] = _Told(self._status(session, 0), session.changes, 0, now)
        return self._told[stream_id].status

    def watched(self, stream_id: UUID, viewer: int) -> None:
        """Somebody polled the status of a stream that is on air. ``viewer`` tells one from another."""
        self._audience.see(stream_id, viewer, trio.current_time())

    def _status(self, session: StreamSession, figures: int) -> Status:
        return status(
            session.state,
            changes=session.changes,
            figures=figures,
            viewers=self.viewers(session.stream_id),
            ingest_known=self.ingest is not None and self.ingest.silent_since is None,
        )

    def _elsewhere(self) -> Mapping[UUID, StreamSession]:
        view = None if self._holder is None else self._holder.snapshot
        return {} if view is None else view.sessions

    @property
    def ingest(self) -> IngestView | None:
        """How the ingest server was found at the last poll; None where there is none, or before the first."""
        return None if self._poller is None else self._poller.snapshot

    # --- the doors

    def _begin(self, stream_id: UUID) -> SessionRef:
        """The stream's actor. What others were known to hold before that is not believed of it any more."""
        now = trio.current_time()
        self._begun = {key: at for key, at in self._begun.items() if now - at < STALE_SECONDS}
        self._begun[stream_id] = now
        return self._sessions.start(stream_id)

    async def publish(self, claim: KeyClaim, client_id: str) -> StreamSession:
        """Let an encoder in. Raises a Refusal if it must not come in, and what an ask raises."""
        for _ in range(TRIES):
            try:
                return await stream_session.publish(self._begin(claim.stream_id), claim, client_id)
            except Stopped:
                await trio.lowlevel.checkpoint()
        raise Unavailable("The session before is just being ended; try again.")

    def left(self, stream_id: UUID, client_id: str) -> None:
        """The server said that a publisher disconnected. A session that another process holds is taken over."""
        if self.session(stream_id) is not None:  # else it is over, or was never begun
            self._begin(stream_id).tell(NotePublisherLeft(client_id))

    async def end(self, stream_id: UUID, why: SessionEnd) -> bool:
        """End a stream's session, whichever process holds it; whether a publisher was there and was dropped.

        Raises Unavailable when the ingest server does not answer, and what an ask raises.
        """
        if self._holder is None:
            return False
        for _ in range(TRIES):
            try:
                return await stream_session.end(self._begin(stream_id), why)
            except Stopped:
                await trio.lowlevel.checkpoint()
        return False  # it has just ended by itself
