"""One stream on air: who may publish, what state it is in, and its row. The one writer of both.

It is started by an encoder that wants in, or to go on with a session that another process held. What it knows of its
publisher it is told: by the server's hooks, and by the poller, which says again what still matters at each poll.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Ask, Later, Mailbox, Ref, Refuse, Tell
from veza.actors.session_row import SessionRow, Studio, Written
from veza.domain.errors import Conflict, Refusal, Unavailable
from veza.domain.ingest import Audio, Publisher, Video
from veza.domain.live import (
    NEXT,
    START_SECONDS,
    Event,
    Permission,
    SessionEnd,
    StreamSession,
    StreamState,
    admit,
    key_revoked,
)
from veza.domain.stream_keys import KeyClaim
from veza.gateways.ingest import IngestAway
from veza.store.errors import StoreError

log = structlog.get_logger()

LATE_SECONDS: Final = 1.0  # no turn of a loop that is well takes so long
AGAIN_SECONDS: Final = 1.0  # between attempts to write while the database is away


@dataclass(frozen=True, slots=True)
class Publish(Ask["StreamSession | Refusal"]):
    """Let an encoder in, or not."""

    claim: KeyClaim
    client_id: str


@dataclass(frozen=True, slots=True)
class NotePublisherLeft(Tell):
    """The server said that a publisher disconnected: this stream's, or one that was never let in."""

    client_id: str


@dataclass(frozen=True, slots=True)
class NoteSeen(Tell):
    """What a poll shows of the publisher; an event only where it leads somewhere."""

    event: Event | None
    publisher: Publisher
    video: Video | None
    audio: Audio | None


@dataclass(frozen=True, slots=True)
class NoteEvent(Tell):
    """Something happened that concerns whatever publisher it has."""

    event: Event


@dataclass(frozen=True, slots=True)
class NotePlaylist(Tell):
    """There is something to play."""


@dataclass(frozen=True, slots=True)
class CheckHold(Tell):
    """Another process may hold this session now."""


@dataclass(frozen=True, slots=True)
class EndSession(Ask["bool | Refusal"]):
    """Drop the publisher, and that was it. Answers whether there was one.

    With a ``key_version`` only a session that was begun with that key is meant.
    """

    why: SessionEnd
    key_version: int | None = None


Messages = Publish | NotePublisherLeft | NoteSeen | NoteEvent | NotePlaylist | CheckHold | EndSession
SessionRef = Ref[Messages, StreamSession]


async def publish(ref: SessionRef, claim: KeyClaim, client_id: str) -> StreamSession:
    """Let an encoder in: its session, written. Raises a Refusal if it must not come in, and what an ask raises."""
    answer = await ref.ask(Publish(claim, client_id))
    if isinstance(answer, Refusal):
        raise answer
    return answer


async def end(ref: SessionRef, why: SessionEnd) -> bool:
    """End the session, and have it written; whether its publisher was there, and the server dropped it.

    Raises Unavailable when the ingest server does not answer, and what an ask raises.
    """
    answer = await ref.ask(EndSession(why))
    if isinstance(answer, Refusal):
        raise answer
    return answer


class StreamSessionActor(Actor[Messages, StreamSession]):
    mailbox = Mailbox(16, full=Refuse, why="an encoder tries again, and the poller says again what matters")

    def __init__(self, stream_id: UUID, studio: Studio) -> None:
        self._stream_id = stream_id
        self._studio = studio
        self._row = SessionRow(stream_id, studio)
        self._lost_ingest = False
        self._grace_until = 0.0  # trio time; kept while an encoder that came back has shown nothing yet
        self._alarm = 0
        # Of who lets in or ends: what happens meanwhile is theirs to know, or is said again.
        self._turn = trio.Semaphore(1)

    async def start(self) -> None:
        session = self._studio.taken.pop(self._stream_id, None)
        try:
            session = session or await self._studio.rows.take(self._stream_id)
        except StoreError as away:
            log.warning("live_store_away", error=str(away))
            self.finish()  # if there is a session, the holder begins it again
        if session is not None:
            log.info("session_taken_up", stream=str(self._stream_id), state=session.state)
            self._grace_until = trio.current_time() + self._studio.timing.grace
            self._show(session)
            self._set_alarm()

    async def handle(self, message: Messages) -> object:
        match message:
            case Publish(claim, client_id):
                return self._ask_to_publish(claim, Publisher(self._studio.server.name, client_id))
            case EndSession(why, key_version):
                return Later(self._end, why, key_version)
            case NotePublisherLeft(client_id):
                self._left(client_id)
            case NoteSeen():
                self._seen(message)
            case NoteEvent(event):
                self._happened(event)
            case NotePlaylist():
                self._can_be_played()
            case CheckHold():
                self._write_soon()  # which only who holds it can
        if self._session is None and self._turn.value:
            self.finish()
        return None

    async def stop(self) -> None:
        await self._write()

    # --- letting an encoder in

    def _ask_to_publish(self, claim: KeyClaim, publisher: Publisher) -> object:
        if self._row.why is not None:
            return Unavailable("The session before is just being ended; try again.")
        taken = self._session is not None and (self._session.state, Event.PUBLISHED) not in NEXT
        if taken or not self._turn.value:  # another encoder is refused, and hurts nobody
            return Conflict("This stream has a publisher.", code="already_publishing")
        self._turn.acquire_nowait()
        return Later(self._let_in, claim, publisher)

    async def _let_in(self, claim: KeyClaim, publisher: Publisher) -> StreamSession | Refusal:
        try:
            return await self._try_to_let_in(claim, publisher)
        except Refusal as refusal:
            if self._session is None:
                self.finish()
            return refusal
        finally:
            self._turn.release()
            self._set_alarm()  # one that rang meanwhile was not heard

    async def _try_to_let_in(self, claim: KeyClaim, publisher: Publisher) -> StreamSession:
        """Raises Refusal."""
        before = self._session
        if before is not None and claim.version < before.key_version:
            raise key_revoked()
        if before is not None and before.publisher is not None:
            await self._check_hold()
            await self._drop()  # a ghost: its encoder came back, and its old connection was never closed
        if before is not None:
            if before.state is StreamState.STALLED:
                self._grace_until = trio.current_time() + self._studio.timing.grace
            before = self._row.counted(before)

        def decide(permission: Permission) -> StreamSession:
            return admit(permission, claim, publisher, before, id=self._studio.new_id(), now=self._studio.clock())

        try:
            session = await self._row.begin(decide)
        except StoreError as away:
            log.warning("live_store_away", error=str(away))
            raise Unavailable("Nobody can be let in at the moment; try again.") from None
        if session is None:
            self._let_go()
            raise Unavailable("Another process has taken this session over; try again.")
        self._show(session)
        log.info("publisher_let_in", stream=str(self._stream_id), client=publisher.client_id, again=before is not None)
        if before is None:
            self._studio.peaks.pop(self._stream_id, None)
        return session

    async def _check_hold(self) -> None:
        """Before the publisher is dropped: nobody has taken the session over, and let in another, since.

        Raises Unavailable if somebody has, or that can't be told.
        """
        self._row.outdate()
        match await self._row.write():
            case Written.NOT_YET:
                raise Unavailable("Nothing can be changed at the moment; try again.")
            case Written.ANOTHERS:
                self._let_go()
                raise Unavailable("Another process has taken this session over; try again.")

    async def _drop(self) -> bool:
        """Drop the publisher; whether there was one. Raises Unavailable when the server does not say."""
        try:
            return bool(await self._studio.server.kick(self._stream_id))
        except IngestAway as away:
            log.warning("ingest_away", error=str(away))
            raise Unavailable("The ingest server does not answer; try again.") from None

    # --- what happens to it

    def _left(self, client_id: str) -> None:
        publisher = None if self._session is None else self._session.publisher
        if publisher is not None and publisher.client_id == client_id:
            self._happened(Event.VANISHED)

    def _seen(self, told: NoteSeen) -> None:
        session, publisher = self._session, told.publisher
        if session is None or session.publisher is None or publisher.boot is None:
            return
        if not session.publisher.is_(publisher.client_id, publisher.boot):
            return  # of before, or somebody else: what still holds is said again
        known = replace(session, publisher=publisher, video=told.video, audio=told.audio)
        if known != session:
            self._show(known)
            self._write_soon()
        if told.event is not None:
            self._happened(told.event)

    def _can_be_played(self) -> None:
        if self._session is not None and self._session.state is StreamState.LIVE and not self._session.ready:
            self._show(replace(self._session, ready=True))
            self._write_soon()

    def _happened(self, event: Event) -> None:
        session = self._session
        if session is None or self._row.why is not None or not self._turn.value:
            return
        following = NEXT.get((session.state, event))
        if following is StreamState.ENDED or (following is StreamState.RECONNECTING and session.live_at is None):
            self._close(session, SessionEnd.INGEST_LOST if self._lost_ingest else SessionEnd.TIMEOUT)
        elif following is not None:
            self._become(session, following, event)

    def _become(self, session: StreamSession, state: StreamState, event: Event) -> None:
        after = replace(session, state=state, changes=session.changes + 1)
        if state is StreamState.RECONNECTING:
            if session.on_air:
                self._grace_until = trio.current_time() + self._studio.timing.grace
            self._lost_ingest = event is Event.INGEST_LOST
            if not self._lost_ingest:  # else it may have been there all the time, and is heard of again
                after = replace(self._row.counted(after), ready=False)
        elif after.live_at is None:
            after = replace(after, live_at=self._studio.clock())
        log.info("stream_changed", stream=str(self._stream_id), was=session.state, now=state, because=event)
        self._show(after)
        self._write_soon()
        self._set_alarm()

    def _set_alarm(self) -> None:
        """For the state it is in; the one that was set before no longer counts."""
        self._alarm += 1
        if self._session is None or self._row.why is not None:
            return
        if self._session.state is StreamState.RECONNECTING:
            self.nursery.start_soon(self._overdue, self._grace_until, self._alarm)
        elif self._session.state is StreamState.STARTING:
            self.nursery.start_soon(self._overdue, trio.current_time() + START_SECONDS, self._alarm)

    async def _overdue(self, at: float, number: int) -> None:
        await trio.sleep_until(at)
        if number != self._alarm or self._session is None:
            return None
        if trio.current_time() - at > LATE_SECONDS:  # this process stood still, and looked at nobody meanwhile
            self._grace_until = trio.current_time() + START_SECONDS
            return self._set_alarm()
        if self._session.state is StreamState.STARTING:
            with suppress(Unavailable):  # then the poller drops it, as it does whoever was not let in
                await self._check_hold()
                await self._drop()
        if number == self._alarm:
            self._happened(Event.OVERDUE)
        return None

    # --- its end

    async def _end(self, why: SessionEnd, key_version: int | None) -> bool | Refusal:
        async with self._turn:
            session = self._session
            if session is None:
                self.finish()
                return False
            if key_version not in (None, session.key_version):
                return False
            try:
                dropped = await self._put_off(session, why)
            except Unavailable as away:
                return away
        await self._write()
        return dropped

    async def _put_off(self, session: StreamSession, why: SessionEnd) -> bool:
        """End it, its publisher first; whether there was one. Raises Unavailable."""
        if self._row.why is not None:
            return False
        if session.publisher is None:
            self._close(session, why)
            return False
        await self._check_hold()
        dropped = await self._drop()
        self._close(session, why)
        return dropped

    def _close(self, session: StreamSession, why: SessionEnd) -> None:
        state = session.resting if session.live_at is None else StreamState.ENDED
        log.info("session_over", stream=str(self._stream_id), why=why, was=session.state)
        self._row.why = why
        self._show(replace(self._row.counted(session), state=state, changes=session.changes + 1, ready=False))
        self._set_alarm()
        self._write_soon()

    def _let_go(self) -> None:
        log.info("session_elsewhere", stream=str(self._stream_id))
        self._row.drop()
        self.finish()

    # --- its row

    @property
    def _session(self) -> StreamSession | None:
        return self._row.session

    def _show(self, session: StreamSession) -> None:
        self._row.show(session)
        self.publish(session)

    def _write_soon(self) -> None:
        self._row.outdate()
        self.nursery.start_soon(self._write)

    async def _write(self) -> None:
        """Bring the row up to date, however long the database is away; done when it is, or is another's."""
        while True:
            written = await self._row.write()
            if written is not Written.NOT_YET:
                break
            await trio.sleep(AGAIN_SECONDS)
        if written is Written.ANOTHERS:
            self._let_go()
        elif self._row.why is not None:
            self._row.drop()
            self.finish()
