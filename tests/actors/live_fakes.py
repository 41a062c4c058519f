"""An ingest server and sessions' rows in memory, on trio's clock, and a live tree over them: a studio for the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from random import Random
from uuid import UUID

import trio

from tests.actors.fakes import database_time
from veza.actors.core import Actor
from veza.actors.ingest_poller import IngestPoller
from veza.actors.live import Live
from veza.actors.session_holder import SessionHolder, may_be_elsewhere
from veza.actors.session_row import Studio
from veza.actors.stream_session import Messages, StreamSessionActor
from veza.domain.audience import Audience
from veza.domain.ids import IdMint
from veza.domain.ingest import Audio, Seen, StatPage, Video, Watch
from veza.domain.live import Figures, Permission, SessionEnd, Status, StreamSession, StreamState, Timing
from veza.domain.stream_keys import KeyClaim
from veza.gateways.ingest import IngestAway
from veza.store.errors import DatabaseUnavailable
from veza.store.live import Elsewhere, LiveRows, Revoked
from veza.supervisors import dynamic, one_for_one, permanent, running
from veza.supervisors.child import Intensity

SHOW = UUID(int=0xA)
H264 = Video("H264", 1280, 720, 30.0, "High", "3.1")
AAC = Audio("AAC", "LC", 2, 48_000)
BYTES_A_SECOND = 100_000
LEASE_SECONDS = 5.0
TIMING = Timing()
BLIPS = Intensity(restarts=3, per_seconds=60)


@dataclass
class Encoder:
    """One connection to the server; its bytes flow by the clock until it is told to stand still."""

    stream_id: UUID
    client_id: str
    since: float
    video: Video | None = H264
    audio: Audio | None = AAC
    frozen_at: float | None = None
    thawed: float = 0.0  # seconds that it stood still before

    @property
    def bytes_in(self) -> int:
        until = trio.current_time() if self.frozen_at is None else self.frozen_at
        return round((until - self.since - self.thawed) * BYTES_A_SECOND)

    def freeze(self) -> None:
        self.frozen_at = trio.current_time()

    def thaw(self) -> None:
        assert self.frozen_at is not None
        self.thawed += trio.current_time() - self.frozen_at
        self.frozen_at = None


@dataclass
class FakeServer:
    """``away``: why it does not answer. What nobody expects: ``crash`` is raised by dropping, ``blind`` by one poll."""

    name: str = "nginx-rtmp"
    boot: str = "boot-1"
    away: str | None = None
    crash: Exception | None = None
    blind: Exception | None = None
    encoders: dict[UUID, Encoder] = field(default_factory=dict)
    kicked: list[UUID] = field(default_factory=list)
    playlists: set[UUID] = field(default_factory=set)
    polls: int = 0
    clients: int = 0
    on_done: Callable[[UUID, str], None] = lambda stream_id, client_id: None

    async def sample(self) -> StatPage:
        await self._turn()
        blind, self.blind = self.blind, None
        if blind is not None:
            raise blind
        self.polls += 1
        seen = {e.stream_id: Seen(e.client_id, e.bytes_in, 0, e.video, e.audio) for e in self.encoders.values()}
        return StatPage(self.boot, seen)

    async def kick(self, stream_id: UUID) -> int:
        await self._turn()
        if self.crash is not None:
            raise self.crash
        self.kicked.append(stream_id)
        return int(self.hang_up(stream_id))

    async def has_playlist(self, stream_id: UUID) -> bool:
        await self._turn()
        return stream_id in self.playlists

    def connect(self, stream_id: UUID = SHOW) -> Encoder:
        """A connection that was let in."""
        self.clients += 1
        encoder = self.encoders[stream_id] = Encoder(stream_id, str(self.clients), trio.current_time())
        return encoder

    def hang_up(self, stream_id: UUID = SHOW, *, told: bool = True) -> bool:
        """The connection ends, however; nginx tells of it unless it is itself what ended."""
        gone = self.encoders.pop(stream_id, None)
        if gone is not None and told:
            self.on_done(stream_id, gone.client_id)
        return gone is not None

    def restart(self) -> None:
        """Everyone is gone, nobody is told, and connections are numbered anew."""
        self.encoders.clear()
        self.boot, self.clients, self.away = f"{self.boot}+", 0, None

    async def _turn(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away is not None:
            raise IngestAway(self.away)


@dataclass
class FakeTable:
    """The database: what several processes share."""

    key_versions: dict[UUID, int] = field(default_factory=lambda: {SHOW: 1})
    changes: dict[UUID, int] = field(default_factory=dict)
    banned: set[UUID] = field(default_factory=set)
    enabled: bool = True
    away: bool = False
    crash: Exception | None = None  # raised once by the next round of a holder
    open: dict[UUID, tuple[UUID, StreamSession]] = field(default_factory=dict)  # by stream: holder, row
    past: list[tuple[StreamSession, Figures, SessionEnd, datetime]] = field(default_factory=list)
    figures: dict[UUID, Figures] = field(default_factory=dict)
    seen: dict[UUID, float] = field(default_factory=dict)
    viewers: dict[UUID, Mapping[UUID, int]] = field(default_factory=dict)


@dataclass
class FakeRows:
    """As one process sees them."""

    table: FakeTable
    holder: UUID

    async def take(self, stream_id: UUID) -> StreamSession | None:
        await self._turn()
        found = self.table.open.get(stream_id)
        return None if found is None else self._hold(found[1])

    async def take_lapsed(self, limit: int) -> list[StreamSession]:
        await self._turn()
        lapsed = [
            session
            for holder, session in self.table.open.values()
            if holder != self.holder
            and trio.current_time() - self.table.seen.get(holder, float("-inf")) > LEASE_SECONDS
        ]
        return [self._hold(session) for session in lapsed[:limit]]

    async def accept(self, decide: Callable[[Permission], StreamSession], stream_id: UUID) -> StreamSession | None:
        await self._turn()
        table = self.table
        session = decide(
            Permission(
                table.key_versions.get(stream_id),
                table.changes.get(stream_id, 0),
                table.enabled,
                stream_id in table.banned,
                StreamState.ENDED
                if any(past[0].stream_id == stream_id for past in table.past)
                else StreamState.OFFLINE,
            )
        )
        if not self._is_mine(session) and (session.reconnects or stream_id in table.open):
            return None
        self._put(session)
        return session

    async def save(self, session: StreamSession, figures: Figures) -> bool:
        await self._turn()
        if not self._is_mine(session):
            return False
        self._put(session)
        self.table.figures[session.id] = figures
        return True

    async def end(self, session: StreamSession, figures: Figures, why: SessionEnd, now: datetime) -> bool:
        await self._turn()
        if not self._is_mine(session):
            return False
        self._put(session)
        del self.table.open[session.stream_id]
        if session.live_at is not None:
            self.table.past.append((session, figures, why, now))
        return True

    async def seen(self, viewers: Mapping[UUID, int] | None) -> Elsewhere:
        await self._turn()
        table = self.table
        crash, table.crash = table.crash, None
        if crash is not None:
            raise crash
        table.seen[self.holder] = trio.current_time()
        if viewers is not None:
            table.viewers[self.holder] = viewers
        added: dict[UUID, int] = {}
        for holder, counted in table.viewers.items():
            if holder != self.holder and trio.current_time() - table.seen[holder] <= LEASE_SECONDS:
                for stream_id, count in counted.items():
                    added[stream_id] = added.get(stream_id, 0) + count
        return Elsewhere(
            tuple(session for holder, session in table.open.values() if holder != self.holder),
            added,
            {
                stream_id: Revoked(SessionEnd.KEY_ROTATED, session.key_version)
                for stream_id, (holder, session) in table.open.items()
                if holder == self.holder and session.key_version != table.key_versions.get(stream_id)
            }
            | {
                stream_id: Revoked(SessionEnd.BANNED, table.open[stream_id][1].key_version)
                for stream_id in table.banned & table.open.keys()
            },
            alone=table.seen.keys() <= {self.holder},
        )

    async def mine(self) -> list[UUID]:
        await self._turn()
        return [stream_id for stream_id, (holder, _) in self.table.open.items() if holder == self.holder]

    async def note(self, figures: Mapping[UUID, Figures]) -> None:
        await self._turn()
        self.table.figures.update(figures)

    async def leave(self) -> None:
        await self._turn()
        self.table.seen.pop(self.holder, None)
        self.table.viewers.pop(self.holder, None)

    def _is_mine(self, session: StreamSession) -> bool:
        found = self.table.open.get(session.stream_id)
        return found is not None and found[0] == self.holder and found[1].id == session.id

    def _hold(self, session: StreamSession) -> StreamSession:
        held = replace(session, changes=self.table.changes.get(session.stream_id, 0) + 100)
        self._put(held)
        return held

    def _put(self, session: StreamSession) -> None:
        self.table.open[session.stream_id] = (self.holder, session)
        self.table.changes[session.stream_id] = max(self.table.changes.get(session.stream_id, 0), session.changes)

    async def _turn(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.table.away:
            raise DatabaseUnavailable("away")


@dataclass
class Station:
    """One process's live tree, its doors, and what stands around it."""

    live: Live
    server: FakeServer
    table: FakeTable
    watches: dict[UUID, Watch]

    async def publish(self, stream_id: UUID = SHOW, version: int = 1) -> Encoder:
        """As an encoder does: asks to be let in, and connects. Raises what it is refused with."""
        with trio.fail_after(30):
            session = await self.live.publish(KeyClaim(stream_id, version), str(self.server.clients + 1))
        assert session.state is StreamState.STARTING
        return self.server.connect(stream_id)

    async def on_air(self) -> Encoder:
        encoder = await self.publish()
        await self.until(StreamState.LIVE)
        return encoder

    async def until(self, *states: StreamState | None) -> None:
        """Wait for one of these states, None for no open session; in no time, but for at most an hour."""
        with trio.fail_after(3600):
            while self.state() not in states:  # noqa: ASYNC110 - the clock jumps: nobody waits
                await trio.sleep(0.25)

    def state(self, stream_id: UUID = SHOW) -> StreamState | None:
        session = self.live.session(stream_id)
        return None if session is None else session.state

    def session(self, stream_id: UUID = SHOW) -> StreamSession:
        session = self.live.session(stream_id)
        assert session is not None
        return session

    def status(self, stream_id: UUID = SHOW) -> Status:
        status = self.live.status(stream_id)
        assert status is not None
        return status

    async def end(self, why: SessionEnd, stream_id: UUID = SHOW) -> bool:
        with trio.fail_after(30):
            return await self.live.end(stream_id, why)


def lone_session(server: FakeServer, table: FakeTable) -> Actor[Messages, StreamSession]:
    """A session's actor without a tree around it."""
    rows, mint = FakeRows(table, UUID(int=0xFF01)), IdMint(database_time, Random(1))
    studio = Studio(rows, server, database_time, mint, TIMING, watches={}, peaks={}, taken={})
    return StreamSessionActor(SHOW, studio)


@asynccontextmanager
async def open_station(
    server: FakeServer | None = None,
    table: FakeTable | None = None,
    *,
    number: int = 1,
    rows: LiveRows | None = None,
    timing: Timing = TIMING,
    intensity: Intensity = BLIPS,
) -> AsyncIterator[Station]:
    """A process's live tree; several may share a server and a table. It stops in order at the end of the block.

    With ``rows`` of a real database the table is not used.
    """
    server, table = server or FakeServer(), table or FakeTable()
    kept = rows or FakeRows(table, UUID(int=0xFF00 + number))
    watches: dict[UUID, Watch] = {}
    peaks: dict[UUID, int] = {}
    taken: dict[UUID, StreamSession] = {}
    audience = Audience()
    mint = IdMint(database_time, Random(number))
    studio = Studio(kept, server, database_time, mint, timing, watches=watches, peaks=peaks, taken=taken)

    def session(stream_id: UUID) -> StreamSessionActor:
        return StreamSessionActor(stream_id, studio)

    sessions = dynamic("sessions", session, limit=100, intensity=intensity)
    holder = permanent("holder", lambda: SessionHolder(kept, sessions, audience, watches, peaks, taken))
    poller = permanent(
        "ingest", lambda: IngestPoller(server, sessions, partial(may_be_elsewhere, holder.ref), timing, watches)
    )
    live = Live(sessions, audience, watches, poller.ref, holder.ref)
    server.on_done = live.left
    tree = one_for_one("live", holder, sessions, poller, intensity=intensity)
    async with running(tree, clock=database_time, random=Random(number)):
        yield Station(live, server, table, watches)
