"""Streams as rows, and what is kept of their sessions.

Which streams are on air the rows do not know for sure: that is asked of who holds their sessions, and handed in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from veza.domain.catalog import fold_tag
from veza.domain.live import PastSession, SessionEnd, StreamState
from veza.domain.streams import Stream, Streamer, StreamListing, check_room, fold_category, no_stream
from veza.store.banned import BANNED
from veza.store.bridge import Database, Record, Transaction

COUNT_LIMIT: Final = 10_000  # how far a list is counted: more pages than anyone turns

COLUMNS: Final = """
s.id, s.owner_id, u.username, s.title, s.description, s.category, s.tags, s.key_version, s.state, s.created_at,
s.updated_at, u.banned_until > now() IS TRUE AS owner_banned
"""

STREAM: Final = f"SELECT {COLUMNS} FROM streams s JOIN users u ON u.id = s.owner_id"
ONE: Final = f"{STREAM} WHERE s.id = $1"
OF_USER: Final = f"{STREAM} WHERE s.owner_id = $1 ORDER BY s.id DESC"

PAGE: Final = (
    f"SELECT {COLUMNS} {{source}} JOIN users u ON u.id = s.owner_id {{where}} ORDER BY {{order}} LIMIT {{limit}}"
)
COUNT: Final = f"SELECT count(*) FROM (SELECT {{source}} {{where}} LIMIT {COUNT_LIMIT}) AS counted"

INSERT: Final = """
INSERT INTO streams (id, owner_id, title, description, category, tags, key_version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

UPDATE: Final = """
UPDATE streams SET title = $2, description = $3, category = $4, tags = $5, updated_at = $6 WHERE id = $1
"""

REPLACE_KEYS: Final = "UPDATE streams SET key_version = key_version + 1 WHERE id = ANY($1::uuid[])"

OPEN: Final = "SELECT stream_id FROM stream_sessions WHERE stream_id = ANY($1::uuid[]) AND ended_at IS NULL"

# One that was never live is nothing to look back on.
PAST: Final = """
SELECT id, started_at, live_at, ended_at, end_reason, peak_viewers, bytes_in, reconnects
FROM stream_sessions WHERE stream_id = $1 AND live_at IS NOT NULL ORDER BY started_at DESC, id DESC LIMIT $2 OFFSET $3
"""
COUNT_PAST: Final = "SELECT count(*) FROM stream_sessions WHERE stream_id = $1 AND live_at IS NOT NULL"


@dataclass(frozen=True)
class Replaced:
    """Streams with new keys, the newest stream first; ``open``: those that a session was begun on with an old one."""

    streams: tuple[Stream, ...]
    open: tuple[UUID, ...]


class Streams:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- reading ------------------------------------------------------------------------------------------------------

    async def get(self, stream_id: UUID) -> Stream:
        """The stream, be it a draft. Raises NotFound."""
        row = await self._db.fetchrow(ONE, stream_id)
        if row is None:
            raise no_stream()
        return _stream(row)

    async def page(
        self, listing: StreamListing, on_air: Sequence[UUID], *, limit: int, offset: int = 0
    ) -> tuple[list[Stream], int]:
        """A part of the public list, and how many there are, counted as far as COUNT_LIMIT.

        ``on_air`` are the streams that are live, in the order in which live ones are listed; others the newest first.
        ``limit`` stands in the statement's text, so it should be one of few numbers: the server plans for it.
        """
        source, where, order, args = _listed(listing, on_air)
        sql = PAGE.format(source=source, where=where, order=order, limit=int(limit))
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(f"{sql} OFFSET ${len(args) + 1}", *args, offset)
            counted: int = await moment.fetchval(COUNT.format(source=source, where=where), *args)
        return [_stream(row) for row in rows], max(counted, offset + len(rows)) if rows else counted

    async def of_user(self, user_id: UUID, *, limit: int, offset: int = 0) -> tuple[list[Stream], int]:
        """A user's streams, drafts too, the newest first, and how many there are."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(f"{OF_USER} LIMIT $2 OFFSET $3", user_id, limit, offset)
            total: int = await moment.fetchval("SELECT count(*) FROM streams WHERE owner_id = $1", user_id)
        return [_stream(row) for row in rows], total

    async def past_sessions(self, stream_id: UUID, *, limit: int, offset: int = 0) -> tuple[list[PastSession], int]:
        """A stream's times on air, the newest first, one that is not over included, and how many there are."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(PAST, stream_id, limit, offset)
            total: int = await moment.fetchval(COUNT_PAST, stream_id)
        return [_past(row) for row in rows], total

    async def is_open(self, stream_id: UUID) -> bool:
        """Whether a stream has an open session, whoever holds it and whatever its state."""
        return bool(await self._db.fetch(OPEN, [stream_id]))

    # -- changing -----------------------------------------------------------------------------------------------------

    async def add(self, stream: Stream) -> None:
        """Write a new stream. Raises Conflict if its user has as many as one may have."""
        async with self._db.transaction() as tx:
            await _lock_user(tx, stream.user.id)
            check_room(await tx.fetchval("SELECT count(*) FROM streams WHERE owner_id = $1", stream.user.id))
            await _insert(tx, stream)

    async def newest_or(self, draft: Stream) -> Stream:
        """The newest stream of the draft's user; the draft, written, if there is none."""
        newest = await self._db.fetchrow(f"{OF_USER} LIMIT 1", draft.user.id)
        if newest is not None:
            return _stream(newest)
        async with self._db.transaction() as tx:
            await _lock_user(tx, draft.user.id)
            newest = await tx.fetchrow(f"{OF_USER} LIMIT 1", draft.user.id)
            if newest is not None:
                return _stream(newest)
            await _insert(tx, draft)
        return draft

    async def change(self, stream_id: UUID, decide: Callable[[Stream], Stream]) -> Stream:
        """Write what ``decide`` makes of the stream, and return that. Raises NotFound, and what ``decide`` raises."""
        async with self._db.transaction() as tx:
            before = await _lock(tx, stream_id)
            after = decide(before)
            if after != before:
                a = after
                await tx.execute(UPDATE, a.id, a.title, a.description, a.category, list(a.tags), a.updated_at)
        return after

    async def replace_key(self, stream_id: UUID, allow: Callable[[Stream], None]) -> Replaced:
        """Let no key of the stream's so far publish any more. Raises NotFound, and what ``allow`` raises."""
        async with self._db.transaction() as tx:
            allow(await _lock(tx, stream_id))
            return await _replace_keys(tx, [stream_id])

    async def replace_keys(self, draft: Stream) -> Replaced:
        """`replace_key` for every stream of the draft's user; the draft is written if there is none."""
        async with self._db.transaction() as tx:
            await _lock_user(tx, draft.user.id)
            ids = await tx.fetch("SELECT id FROM streams WHERE owner_id = $1 ORDER BY id FOR UPDATE", draft.user.id)
            if ids:
                return await _replace_keys(tx, [row["id"] for row in ids])
            await _insert(tx, draft)
        return Replaced((draft,), ())

    async def retire(self, user_id: UUID) -> list[UUID]:
        """Let no key of a user's streams so far publish any more; those of the streams that a session is open on."""
        async with self._db.transaction() as tx:
            await _lock_user(tx, user_id)
            rows = await tx.fetch("SELECT id FROM streams WHERE owner_id = $1 ORDER BY id FOR UPDATE", user_id)
            ids = [row["id"] for row in rows]
            await tx.execute(REPLACE_KEYS, ids)
            return [row["stream_id"] for row in await tx.fetch(OPEN, ids)]

    async def remove(self, stream_id: UUID, allow: Callable[[Stream], None]) -> None:
        """Delete the stream, and what is kept of its sessions. Raises NotFound, and what ``allow`` raises."""
        async with self._db.transaction() as tx:
            allow(await _lock(tx, stream_id))
            await tx.execute("DELETE FROM streams WHERE id = $1", stream_id)


async def _lock(tx: Transaction, stream_id: UUID) -> Stream:
    row = await tx.fetchrow(f"{ONE} FOR UPDATE OF s", stream_id)
    if row is None:
        raise no_stream()
    return _stream(row)


async def _lock_user(tx: Transaction, user_id: UUID) -> None:
    """One at a time adds to a user's streams. What only refers to the user does not wait."""
    await tx.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)


async def _insert(tx: Transaction, stream: Stream) -> None:
    s = stream
    await tx.execute(
        INSERT,
        s.id,
        s.user.id,
        s.title,
        s.description,
        s.category,
        list(s.tags),
        s.key_version,
        s.created_at,
        s.updated_at,
    )


async def _replace_keys(tx: Transaction, stream_ids: list[UUID]) -> Replaced:
    """Their rows are locked: who is let in by an old key either shows as open here, or waits and is refused."""
    await tx.execute(REPLACE_KEYS, stream_ids)
    rows = await tx.fetch(f"{STREAM} WHERE s.id = ANY($1::uuid[]) ORDER BY s.id DESC", stream_ids)
    opened = await tx.fetch(OPEN, stream_ids)
    return Replaced(tuple(map(_stream, rows)), tuple(row["stream_id"] for row in opened))


# -- the public list --------------------------------------------------------------------------------------------------


def _listed(listing: StreamListing, on_air: Sequence[UUID]) -> tuple[str, str, str, list[object]]:
    """Where the list comes from, what is in it and its order, as SQL, and the arguments of these."""
    source, order, args = "FROM streams s", "s.id DESC", list[object]()  # ids grow with time
    conditions = ["s.title <> ''", f"s.owner_id NOT IN ({BANNED})"]
    if listing.is_live:
        source, order = "FROM unnest($1::uuid[]) WITH ORDINALITY AS live (id, place) JOIN streams s USING (id)", "place"
        args.append(on_air)
    elif listing.is_live is not None:
        conditions.append("s.id NOT IN (SELECT unnest($1::uuid[]))")  # which the server looks up in a hash
        args.append(on_air)
    for condition, arg in _filters(listing):
        args.append(arg)
        conditions.append(condition.format(f"${len(args)}"))
    return source, f"WHERE {' AND '.join(conditions)}", order, args


def _filters(listing: StreamListing) -> Iterator[tuple[str, object]]:
    """Each condition, with a place for its argument."""
    if listing.user_id is not None:
        yield "s.owner_id = {}", listing.user_id
    if listing.category is not None:
        yield "s.category = {}", fold_category(listing.category)
    if listing.tag is not None:
        yield "s.tags @> ARRAY[{}::text]", fold_tag(listing.tag)


# -- rows -------------------------------------------------------------------------------------------------------------


def _stream(row: Record) -> Stream:
    values = dict(row)
    user = Streamer(values.pop("owner_id"), values.pop("username"))
    return Stream(user=user, tags=tuple(values.pop("tags")), state=StreamState(values.pop("state")), **values)


def _past(row: Record) -> PastSession:
    values = dict(row)
    reason = values.pop("end_reason")
    return PastSession(end_reason=None if reason is None else SessionEnd(reason), **values)
