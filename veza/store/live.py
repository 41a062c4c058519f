"""Sessions' rows, and who holds them. A row is written by the process that holds it alone: `where holder = ...`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.flags import Flag
from veza.domain.ingest import Audio, Publisher, Video
from veza.domain.live import Figures, Permission, SessionEnd, Status, StreamSession, StreamState, status
from veza.store.bridge import Database, Record, Transaction
from veza.store.flags import is_on

LEASE: Final = timedelta(seconds=5)  # a process is seen every second: a few lost ones are a pause, not a death

SESSION: Final = """
s.id, s.stream_id, s.state, s.ingest, s.boot, s.client_id, s.key_version, t.changes, s.started_at, s.live_at,
s.reconnects, s.peak_viewers, s.bytes_before, s.ready, s.video, s.audio, t.state AS resting
"""

PERMISSION: Final = f"""
SELECT t.key_version, t.changes, t.state AS resting, u.banned_until > now() IS TRUE AS banned,
    {is_on(Flag.INGEST)} AS enabled
FROM streams t JOIN users u ON u.id = t.owner_id WHERE t.id = $1 FOR UPDATE OF t
"""

# A process that fell may have told pollers of changes that it had not written: what we tell comes after those.
UNTOLD: Final = 100  # changes within the second or so that a write takes, or a database that is away for a while

# Whoever writes a session locks its stream first, as who lets in and who deletes do.
TAKE: Final = f"""
WITH locked AS (SELECT id FROM streams WHERE id = $1 FOR NO KEY UPDATE),
s AS (
    UPDATE stream_sessions AS s SET holder = $2 FROM locked WHERE s.stream_id = locked.id AND s.ended_at IS NULL
    RETURNING s.*
),
t AS (
    UPDATE streams SET changes = changes + {UNTOLD} FROM s WHERE streams.id = s.stream_id
    RETURNING streams.id, streams.changes, streams.state
)
SELECT {SESSION} FROM s JOIN t ON t.id = s.stream_id
"""

# Who took one over meanwhile is not taken over from: the holder is looked at again once the row is ours.
TAKE_LAPSED: Final = f"""
WITH lapsed AS (
    SELECT s.id, s.holder, t.id AS stream_id FROM stream_sessions s JOIN streams t ON t.id = s.stream_id
    LEFT JOIN live_processes p ON p.id = s.holder
    WHERE s.ended_at IS NULL AND s.holder <> $1 AND (p.id IS NULL OR p.seen_at < now() - $2::interval)
    ORDER BY t.id LIMIT $3 FOR NO KEY UPDATE OF t SKIP LOCKED
),
s AS (
    UPDATE stream_sessions AS s SET holder = $1 FROM lapsed
    WHERE s.id = lapsed.id AND s.holder = lapsed.holder AND s.ended_at IS NULL RETURNING s.*
),
t AS (
    UPDATE streams SET changes = changes + {UNTOLD} FROM s WHERE streams.id = s.stream_id
    RETURNING streams.id, streams.changes, streams.state
)
SELECT {SESSION} FROM s JOIN t ON t.id = s.stream_id
"""

INSERT: Final = """
INSERT INTO stream_sessions (id, stream_id, state, holder, ingest, boot, client_id, key_version, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (stream_id) WHERE ended_at IS NULL DO NOTHING
"""

OURS: Final = """
FROM (SELECT id FROM streams WHERE id = $1 FOR NO KEY UPDATE) AS locked
WHERE s.stream_id = locked.id AND s.id = $2 AND s.holder = $3 AND s.ended_at IS NULL
"""

SAVE: Final = f"""
UPDATE stream_sessions AS s SET state = $4, ingest = $5, boot = $6, client_id = $7, key_version = $8, live_at = $9,
    reconnects = $10, peak_viewers = greatest(peak_viewers, $11), bytes_before = $12, bytes_in = $13, ready = $14,
    video = $15, audio = $16
{OURS}
"""

END: Final = f"""
UPDATE stream_sessions AS s SET state = 'ended', ended_at = $4, end_reason = $5, ingest = NULL, boot = NULL,
    client_id = NULL, peak_viewers = greatest(peak_viewers, $6), bytes_before = $7, bytes_in = $7
{OURS}
"""

FORGET: Final = """
DELETE FROM stream_sessions AS s USING (SELECT id FROM streams WHERE id = $1 FOR NO KEY UPDATE) AS locked
WHERE s.stream_id = locked.id AND s.id = $2 AND s.holder = $3 AND s.ended_at IS NULL
"""

SEEN: Final = """
INSERT INTO live_processes (id, viewers) VALUES ($1, coalesce($2::jsonb, '{}'))
ON CONFLICT (id) DO UPDATE SET seen_at = now(), viewers = coalesce($2::jsonb, live_processes.viewers)
"""

REVOKED: Final = """
SELECT s.stream_id, s.key_version, CASE WHEN s.key_version <> t.key_version THEN 'key_rotated' ELSE 'banned' END AS why
FROM stream_sessions s JOIN streams t ON t.id = s.stream_id JOIN users u ON u.id = t.owner_id
WHERE s.holder = $1 AND s.ended_at IS NULL AND (s.key_version <> t.key_version OR u.banned_until > now())
"""

ELSEWHERE: Final = f"""
SELECT {SESSION} FROM stream_sessions s JOIN streams t ON t.id = s.stream_id
WHERE s.ended_at IS NULL AND s.holder <> $1
"""

FIGURES: Final = """
UPDATE stream_sessions s SET bytes_in = f.bytes_in, peak_viewers = greatest(s.peak_viewers, f.viewers)
FROM unnest($2::uuid[], $3::bigint[], $4::integer[]) AS f (id, bytes_in, viewers)
WHERE s.id = f.id AND s.holder = $1 AND s.ended_at IS NULL
"""

STATUS: Final = """
SELECT coalesce(s.state, t.state) AS state, t.changes FROM streams t
LEFT JOIN stream_sessions s ON s.stream_id = t.id AND s.ended_at IS NULL WHERE t.id = $1
"""


@dataclass(frozen=True, slots=True)
class Revoked:
    """A session that must end: why, and the key that it was begun with, lest one begun since with another be ended."""

    why: SessionEnd
    key_version: int


@dataclass(frozen=True)
class Elsewhere:
    """What a round learns: sessions that other processes hold, their viewers, and which of ours must end.

    ``alone``: no other process was seen lately.
    """

    sessions: tuple[StreamSession, ...]
    viewers: Mapping[UUID, int]
    revoked: Mapping[UUID, Revoked]
    alone: bool


class LiveRows:
    """The rows as one process works with them: ``holder`` is its name among those that hold sessions."""

    def __init__(self, db: Database, holder: UUID) -> None:
        self._db = db
        self._holder = holder

    async def take(self, stream_id: UUID) -> StreamSession | None:
        """Hold a stream's open session, whoever held it before; None if there is none."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(TAKE, stream_id, self._holder)
        return None if row is None else _session(row)

    async def take_lapsed(self, limit: int) -> list[StreamSession]:
        """Hold at most ``limit`` sessions whose processes were not seen for the length of a lease."""
        async with self._db.transaction() as tx:
            return [_session(row) for row in await tx.fetch(TAKE_LAPSED, self._holder, LEASE, limit)]

    async def accept(self, decide: Callable[[Permission], StreamSession], stream_id: UUID) -> StreamSession | None:
        """Write the session that ``decide`` makes of what the stream's row permits, new or begun anew.

        None when an open session is another process's by now. Raises what ``decide`` raises.
        """
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(PERMISSION, stream_id)
            session = decide(_permission(row))
            if not session.reconnects:
                begun = await tx.execute(INSERT, *_key(session, self._holder), session.started_at)
                if begun != "INSERT 0 1":
                    return None
            elif not await self._write(tx, session, Figures(session.bytes_before, 0)):
                return None
            await _note_changes(tx, session)
        return session

    async def save(self, session: StreamSession, figures: Figures) -> bool:
        """Write what has become of a session; False, and nothing is changed, when it isn't ours any more."""
        async with self._db.transaction() as tx:
            if not await self._write(tx, session, figures):
                return False
            await _note_changes(tx, session)
        return True

    async def end(self, session: StreamSession, figures: Figures, why: SessionEnd, now: datetime) -> bool:
        """Write that it is over; False when it isn't ours any more. One that was never live leaves no row."""
        ours = (session.stream_id, session.id, self._holder)
        async with self._db.transaction() as tx:
            if session.live_at is None:
                done = await tx.execute(FORGET, *ours)
            else:
                done = await tx.execute(END, *ours, now, why, figures.peak_viewers, figures.bytes_in)
            if not done.endswith(" 1"):
                return False
            await tx.execute("UPDATE streams SET state = $2 WHERE id = $1", session.stream_id, session.state)
            await _note_changes(tx, session)
        return True

    async def seen(self, viewers: Mapping[UUID, int] | None) -> Elsewhere:
        """Say that this process lives, and how many watch by it (None: as before); learn what the others do."""
        told = None if viewers is None else json.dumps({str(stream_id): n for stream_id, n in viewers.items()})
        async with self._db.transaction() as tx:
            await tx.execute(SEEN, self._holder, told)
            revoked = await tx.fetch(REVOKED, self._holder)
            sessions = await tx.fetch(ELSEWHERE, self._holder)
            counted = await tx.fetch(
                "SELECT viewers FROM live_processes WHERE id <> $1 AND seen_at >= now() - $2::interval",
                self._holder,
                LEASE,
            )
        return Elsewhere(
            tuple(map(_session, sessions)),
            _added_up(json.loads(row["viewers"]) for row in counted),
            {row["stream_id"]: Revoked(SessionEnd(row["why"]), row["key_version"]) for row in revoked},
            alone=not counted,
        )

    async def mine(self) -> list[UUID]:
        """The streams whose open sessions this process holds."""
        sql = "SELECT stream_id FROM stream_sessions WHERE holder = $1 AND ended_at IS NULL"
        return [row["stream_id"] for row in await self._db.fetch(sql, self._holder)]

    async def note(self, figures: Mapping[UUID, Figures]) -> None:
        """Write the figures of sessions, by their ids."""
        columns = ([f.bytes_in for f in figures.values()], [f.peak_viewers for f in figures.values()])
        async with self._db.transaction() as tx:
            await tx.execute(FIGURES, self._holder, list(figures), *columns)

    async def leave(self) -> None:
        """Let go of everything: others take over at once. Forget processes that are long gone."""
        async with self._db.transaction() as tx:
            await tx.execute(
                "DELETE FROM live_processes WHERE id = $1 OR seen_at < now() - interval '1 day'", self._holder
            )

    async def status(self, stream_id: UUID) -> Status | None:
        """The status of a stream, as its rows have it; None for a stream that does not exist."""
        row = await self._db.fetchrow(STATUS, stream_id)
        return None if row is None else status(StreamState(row["state"]), changes=row["changes"])

    async def _write(self, tx: Transaction, session: StreamSession, figures: Figures) -> bool:
        s, (_, _, _, _, ingest, boot, client_id, _) = session, _key(session, self._holder)
        done = await tx.execute(
            SAVE,
            s.stream_id,
            s.id,
            self._holder,
            s.state,
            ingest,
            boot,
            client_id,
            s.key_version,
            s.live_at,
            s.reconnects,
            figures.peak_viewers,
            s.bytes_before,
            figures.bytes_in,
            s.ready,
            None if s.video is None else json.dumps(s.video._asdict()),
            None if s.audio is None else json.dumps(s.audio._asdict()),
        )
        return done == "UPDATE 1"


def _key(session: StreamSession, holder: UUID) -> tuple[object, ...]:
    s, p = session, session.publisher
    of = (None, None, None) if p is None else (p.ingest, p.boot, p.client_id)
    return s.id, s.stream_id, s.state, holder, *of, s.key_version


async def _note_changes(tx: Transaction, session: StreamSession) -> None:
    await tx.execute(
        "UPDATE streams SET changes = greatest(changes, $2) WHERE id = $1", session.stream_id, session.changes
    )


def _permission(row: Record | None) -> Permission:
    if row is None:
        return Permission(None, 0)
    values = dict(row)
    return Permission(resting=StreamState(values.pop("resting")), **values)


def _added_up(each: Iterable[Mapping[str, int]]) -> dict[UUID, int]:
    total: dict[UUID, int] = {}
    for viewers in each:
        for stream_id, count in viewers.items():
            total[UUID(stream_id)] = total.get(UUID(stream_id), 0) + count
    return total


def _session(row: Record) -> StreamSession:
    values = dict(row)
    ingest, boot, client_id = (values.pop(name) for name in ("ingest", "boot", "client_id"))
    publisher = None if ingest is None else Publisher(ingest, client_id, boot)
    video, audio = values.pop("video"), values.pop("audio")
    return StreamSession(
        state=StreamState(values.pop("state")),
        resting=StreamState(values.pop("resting")),
        publisher=publisher,
        video=None if video is None else Video(**json.loads(video)),
        audio=None if audio is None else Audio(**json.loads(audio)),
        **values,
    )
