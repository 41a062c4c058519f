"""Keeps this process's hold on its sessions: says every second that it lives, and learns what the others do.

Sessions of a process that was not seen for a while are taken over; one of ours that another has taken is let go; one
whose key was replaced or whose owner was banned, wherever that was done, is ended; one of ours that no actor minds gets
one again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Never, Protocol, assert_never
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, AskFailed, Mailbox, Ref, Refuse
from veza.actors.stream_session import CheckHold, EndSession, SessionRef
from veza.domain.audience import Audience
from veza.domain.ingest import Watch
from veza.domain.live import Figures, StreamSession
from veza.store.errors import StoreError
from veza.store.live import Elsewhere

log = structlog.get_logger()

SEEN_SECONDS: Final = 1.0  # a fifth of the lease; and as fast as what is decided elsewhere acts here
ROUNDS_A_COUNT: Final = 5  # viewers are told no more often than a status may change for them
ROUNDS_A_NOTE: Final = 30  # what a kill takes from a session's figures is this much
STALE_SECONDS: Final = 5.0  # older, and what others hold is not known any more
TAKEN_AT_ONCE: Final = 500  # a statement of some 50 ms


class Rows(Protocol):
    """The rows, as `veza.store.live.LiveRows` keeps them. Every method raises StoreError."""

    async def seen(self, viewers: Mapping[UUID, int] | None) -> Elsewhere: ...
    async def take_lapsed(self, limit: int) -> list[StreamSession]: ...
    async def mine(self) -> list[UUID]: ...
    async def note(self, figures: Mapping[UUID, Figures]) -> None: ...
    async def leave(self) -> None: ...


class Sessions(Protocol):
    """The sessions of this process, by stream. `start` raises Overloaded and Stopped."""

    def start(self, key: UUID) -> SessionRef: ...
    def get(self, key: UUID) -> SessionRef | None: ...
    def children(self) -> list[tuple[UUID, SessionRef]]: ...


@dataclass(frozen=True)
class HolderView:
    """What other processes hold, and how many watch by them. ``at``: trio time when that was so."""

    at: float
    sessions: Mapping[UUID, StreamSession] = field(default_factory=dict)
    viewers: Mapping[UUID, int] = field(default_factory=dict)


HolderRef = Ref[Never, HolderView]


def may_be_elsewhere(ref: HolderRef, stream_id: UUID) -> bool:
    """Whether another process may hold a stream's session: it does, or that has not been known for a while."""
    view = ref.snapshot
    return view is None or trio.current_time() - view.at > STALE_SECONDS or stream_id in view.sessions


class SessionHolder(Actor[Never, HolderView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing, it looks for itself")

    def __init__(
        self,
        rows: Rows,
        sessions: Sessions,
        audience: Audience,
        watches: Mapping[UUID, Watch],
        peaks: dict[UUID, int],
        taken: dict[UUID, StreamSession],
    ) -> None:
        """``peaks`` and ``taken`` are the sessions' too: see `veza.actors.stream_session.Studio`."""
        self._rows = rows
        self._sessions = sessions
        self._audience = audience
        self._watches = watches
        self._peaks = peaks
        self._taken = taken
        self._round = 0
        self._away = False

    async def start(self) -> None:
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def stop(self) -> None:
        try:
            await self._rows.leave()
        except StoreError as away:
            log.warning("live_store_away", error=str(away))  # then the others wait for the lease

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            try:
                await self.run_once()
                self._away = False
            except StoreError as away:
                if not self._away:
                    log.warning("live_store_away", error=str(away))
                self._away = True
            await trio.sleep(SEEN_SECONDS)

    async def run_once(self) -> None:
        """One second's work. Raises StoreError."""
        counting = self._round % ROUNDS_A_COUNT == 0
        at = trio.current_time()
        viewers = self._audience.counts(at) if counting else None
        found = await self._rows.seen(viewers)
        elsewhere = {session.stream_id: session for session in found.sessions}
        self.publish(HolderView(at, elsewhere, found.viewers))
        for stream_id, revoked in found.revoked.items():
            if (ref := self._sessions.get(stream_id)) is not None:
                ref.tell(EndSession(revoked.why, revoked.key_version))
        if elsewhere:
            await self._take_over()
        if counting or not found.alone:
            await self._compare()
        if viewers is not None:
            self._note_peaks(viewers, found.viewers)
        if self._round % ROUNDS_A_NOTE == ROUNDS_A_NOTE - 1:
            await self._rows.note(self._figures())
        self._round += 1

    async def _compare(self) -> None:
        """Each session of ours has an actor, and each actor its session; who lost one finds out as it writes."""
        mine = set(await self._rows.mine())
        for stream_id, ref in self._sessions.children():
            if ref.snapshot is not None and stream_id not in mine:
                ref.tell(CheckHold())
        for stream_id in mine:
            if self._sessions.get(stream_id) is None:
                self._mind(stream_id)

    async def _take_over(self) -> None:
        for session in await self._rows.take_lapsed(TAKEN_AT_ONCE):
            if self._sessions.get(session.stream_id) is None:
                self._taken[session.stream_id] = session
                self._mind(session.stream_id)

    def _mind(self, stream_id: UUID) -> None:
        """Have an actor for a session that is ours."""
        try:
            self._sessions.start(stream_id)
        except AskFailed as full:
            self._taken.pop(stream_id, None)
            log.warning("session_without_actor", stream=str(stream_id), error=type(full).__name__)

    def _note_peaks(self, here: Mapping[UUID, int], elsewhere: Mapping[UUID, int]) -> None:
        for stream_id in here.keys() | elsewhere.keys():
            if self._sessions.get(stream_id) is not None:
                count = here.get(stream_id, 0) + elsewhere.get(stream_id, 0)
                self._peaks[stream_id] = max(self._peaks.get(stream_id, 0), count)

    def _figures(self) -> dict[UUID, Figures]:
        found = {}
        for stream_id, ref in self._sessions.children():
            session, watch = ref.snapshot, self._watches.get(stream_id)
            if session is not None and session.publisher is not None and watch is not None:
                now = session.bytes_before + watch.bytes_of(session.publisher)
                found[session.id] = Figures(now, self._peaks.get(stream_id, 0))
        return found
