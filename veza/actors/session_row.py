"""A session as it is shown and as it is written: its row, which only the process that holds it can write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Protocol
from uuid import UUID

import structlog
import trio

from veza.domain.ids import Clock, NewId
from veza.domain.ingest import Watch
from veza.domain.live import Figures, Permission, SessionEnd, StreamSession, Timing
from veza.store.errors import StoreError

log = structlog.get_logger()


class Rows(Protocol):
    """A stream's open session, as `veza.store.live.LiveRows` keeps it. Every method raises StoreError."""

    async def take(self, stream_id: UUID) -> StreamSession | None: ...
    async def accept(self, decide: Callable[[Permission], StreamSession], stream_id: UUID) -> StreamSession | None: ...
    async def save(self, session: StreamSession, figures: Figures) -> bool: ...
    async def end(self, session: StreamSession, figures: Figures, why: SessionEnd, now: datetime) -> bool: ...


class Server(Protocol):
    """The ingest server, as far as a session needs it."""

    @property
    def name(self) -> str: ...
    async def kick(self, stream_id: UUID) -> int: ...


@dataclass(frozen=True)
class Studio:
    """What every session works with. ``watches`` and ``peaks`` (of viewers) are kept by the poller and the holder.

    ``taken`` are sessions that the holder took from processes that are gone, for their actors to begin with.
    """

    rows: Rows
    server: Server
    clock: Clock
    new_id: NewId
    timing: Timing
    watches: Mapping[UUID, Watch]
    peaks: dict[UUID, int]
    taken: dict[UUID, StreamSession]


class Written(Enum):
    """What has become of an attempt to write."""

    DONE = auto()
    NOT_YET = auto()  # the database is away
    ANOTHERS = auto()  # another process holds the session


class SessionRow:
    """``session`` is what is shown, none where no session is open. ``why``: it is over, and of what; its row may not
    say so yet.
    """

    def __init__(self, stream_id: UUID, studio: Studio) -> None:
        self._stream_id = stream_id
        self._studio = studio
        self.session: StreamSession | None = None
        self.why: SessionEnd | None = None
        self._written = True
        self._pen = trio.Lock()

    def show(self, session: StreamSession) -> None:
        self.session = session

    def outdate(self) -> None:
        """What is shown is not what was written, or has to be written to see who holds it."""
        self._written = False

    def drop(self) -> None:
        """There is no session any more, or not here."""
        self._studio.peaks.pop(self._stream_id, None)
        self.session, self._written = None, True

    def counted(self, session: StreamSession) -> StreamSession:
        """Without its publisher, whose bytes are added to those of the ones before."""
        return replace(session, publisher=None, bytes_before=self._figures(session).bytes_in)

    async def begin(self, decide: Callable[[Permission], StreamSession]) -> StreamSession | None:
        """A session begun, or begun anew, and written; None where another process holds one. Raises StoreError."""
        async with self._pen:
            session = await self._studio.rows.accept(decide, self._stream_id)
            if session is not None:
                self.session, self._written = session, True
            return session

    async def write(self) -> Written:
        """Write what is shown, until that is what is written."""
        async with self._pen:
            while not self._written and self.session is not None:
                self._written = True  # what is shown from here on is for the next turn
                try:
                    ours = await self._put(self.session)
                except StoreError as away:
                    log.warning("live_store_away", error=str(away))
                    self._written = False
                    return Written.NOT_YET
                if not ours:
                    return Written.ANOTHERS
            return Written.DONE

    async def _put(self, session: StreamSession) -> bool:
        figures = self._figures(session)
        if self.why is None:
            return await self._studio.rows.save(session, figures)
        return await self._studio.rows.end(session, figures, self.why, self._studio.clock())

    def _figures(self, session: StreamSession) -> Figures:
        watch = self._studio.watches.get(self._stream_id)
        current = 0 if watch is None or session.publisher is None else watch.bytes_of(session.publisher)
        return Figures(session.bytes_before + current, self._studio.peaks.get(self._stream_id, 0))
