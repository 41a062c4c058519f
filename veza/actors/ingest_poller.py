"""Watches one ingest server: reads its page at each poll, and tells each session what of it matters to it.

It says again at every poll what still holds, so a session that was just restarted misses nothing for long. What a
session knows already it isn't told: ten thousand streams that run well cost a look each, and no message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Never, Protocol, assert_never
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Mailbox, Ref, Refuse
from veza.actors.stream_session import NoteEvent, NotePlaylist, NoteSeen, SessionRef
from veza.domain.ingest import Publisher, StatPage, Watch
from veza.domain.live import EVENT_OF, NEXT, Event, StreamSession, StreamState, Timing
from veza.gateways.ingest import IngestAway

log = structlog.get_logger()

UNCLAIMED_SECONDS: Final = 7.0  # longer than until a session without an actor gets one again, or another's is known
TURN: Final = 500  # streams looked at before the others get their turn: a few milliseconds
LOOKS_AT_ONCE: Final = 8  # for playlists: an ingest server has other things to do


class Server(Protocol):
    """The ingest server. `sample` and `kick` raise IngestAway."""

    @property
    def name(self) -> str: ...
    async def sample(self) -> StatPage: ...
    async def kick(self, stream_id: UUID) -> int: ...
    async def has_playlist(self, stream_id: UUID) -> bool: ...


class Sessions(Protocol):
    """The sessions of this process, by stream."""

    def children(self) -> list[tuple[UUID, SessionRef]]: ...


@dataclass(frozen=True)
class IngestView:
    """What an operator sees, and everyone's health rests on. ``silent_since``: trio time, null while it answers."""

    polls: int = 0
    failures: int = 0
    streams: int = 0
    silent_since: float | None = None
    error: str | None = None


PollerRef = Ref[Never, IngestView]


class IngestPoller(Actor[Never, IngestView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing, it looks for itself")

    def __init__(
        self,
        server: Server,
        sessions: Sessions,
        claimed_elsewhere: Callable[[UUID], bool],
        timing: Timing,
        watches: dict[UUID, Watch],
    ) -> None:
        """``claimed_elsewhere``: whether a stream may be another process's; ``watches`` are shared with who reads."""
        self._server = server
        self._sessions = sessions
        self._claimed_elsewhere = claimed_elsewhere
        self._timing = timing
        self._watches = watches
        self._unclaimed: dict[UUID, float] = {}
        self._to_look: dict[UUID, SessionRef] = {}
        self._looking = 0
        self._view = IngestView()

    async def start(self) -> None:
        self._watches.clear()  # the gaps of a poller that fell are not the publishers'
        self.publish(self._view)
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            began = trio.current_time()
            await self.run_once()
            await trio.sleep_until(began + self._timing.poll)

    async def run_once(self) -> None:
        """One poll. One that fails changes no session, until the server has been silent for long."""
        try:
            page = await self._server.sample()
        except IngestAway as away:
            self._not_answered(str(away))
            return
        if self._view.silent_since is not None:
            log.info("ingest_answers", server=self._server.name)
        self._show(IngestView(self._view.polls + 1, self._view.failures, len(page.streams)))
        now = trio.current_time()
        await self._look_at(page, now)
        await self._drop_unclaimed(now)

    def _not_answered(self, error: str) -> None:
        now, since = trio.current_time(), self._view.silent_since
        if since is None:
            log.warning("ingest_away", server=self._server.name, error=error)
            since = now
        self._show(replace(self._view, failures=self._view.failures + 1, silent_since=since, error=error))
        if now - since >= self._timing.lost:
            for _, ref in self._sessions.children():
                if ref.snapshot is not None and (ref.snapshot.state, Event.INGEST_LOST) in NEXT:
                    ref.tell(NoteEvent(Event.INGEST_LOST))

    async def _look_at(self, page: StatPage, now: float) -> None:
        watches, unclaimed = self._watches, set(page.streams)
        for turn, (stream_id, seen) in enumerate(page.streams.items()):
            if turn % TURN == 0:
                await trio.lowlevel.checkpoint()
            watch = watches.get(stream_id)
            if watch is None:
                watch = watches[stream_id] = Watch()
            watch.see(seen, page.boot, now)
        for stream_id in watches.keys() - page.streams.keys():
            watches[stream_id].miss()
        for turn, (stream_id, ref) in enumerate(self._sessions.children()):
            if turn % TURN == 0:
                await trio.lowlevel.checkpoint()
            session = ref.snapshot
            if session is not None and session.publisher is not None:
                watch = watches.get(stream_id)
                if watch is None:
                    watch = watches[stream_id] = Watch()
                    watch.miss()
                if watch.is_of(session.publisher):
                    unclaimed.discard(stream_id)
                self._tell(ref, session, session.publisher, watch, now)
        for stream_id in [stream_id for stream_id, watch in watches.items() if watch.forgotten]:
            del watches[stream_id]
        self._unclaimed = {
            stream_id: self._unclaimed.get(stream_id, now)
            for stream_id in unclaimed
            if not self._claimed_elsewhere(stream_id)
        }

    def _tell(self, ref: SessionRef, session: StreamSession, publisher: Publisher, watch: Watch, now: float) -> None:
        """What the session doesn't know yet."""
        event = EVENT_OF.get(watch.flow(publisher, self._timing.stall, now))
        if event is not None and (session.state, event) not in NEXT:
            event = None
        seen = watch.seen
        if seen is None or not watch.is_of(publisher):
            if event is not None:
                ref.tell(NoteEvent(event))
            return
        if event is not None or publisher.boot is None or seen.video != session.video or seen.audio != session.audio:
            ref.tell(NoteSeen(event, replace(publisher, boot=watch.boot), seen.video, seen.audio))
        if session.state is StreamState.LIVE and not session.ready:
            self._to_look[session.stream_id] = ref
            if self._looking < LOOKS_AT_ONCE:
                self._looking += 1
                self.nursery.start_soon(self._look_for_playlists)

    async def _look_for_playlists(self) -> None:
        """One of a few that share the work: a task for each stream would weigh as much as its session."""
        while self._to_look:
            stream_id, ref = self._to_look.popitem()
            if await self._server.has_playlist(stream_id):
                ref.tell(NotePlaylist())
        self._looking -= 1

    async def _drop_unclaimed(self, now: float) -> None:
        """Whoever publishes without having been let in: what could not be dropped before, for one."""
        for stream_id, since in self._unclaimed.items():
            if now - since >= UNCLAIMED_SECONDS:
                log.warning("unclaimed_publisher", stream=str(stream_id))
                try:
                    await self._server.kick(stream_id)
                except IngestAway as away:
                    log.warning("ingest_away", server=self._server.name, error=str(away))
                    return

    def _show(self, view: IngestView) -> None:
        self._view = view
        self.publish(view)
