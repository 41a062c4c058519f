"""Notifications as rows: written in the transaction of what they tell of, numbered for each user without gaps."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from veza.domain.errors import NotFound
from veza.domain.notifications import TICKET_LIFETIME, News, Notification, NotificationKind
from veza.store.banned import BANNED
from veza.store.bridge import Database, Record, Transaction
from veza.store.listening import Wakeups

CHANNEL: Final = "notifications"

COLUMNS: Final = "n.id, n.user_id, n.number, n.kind, n.title, n.body, n.data, n.created_at, n.read_at"

NUMBER: Final = """
INSERT INTO notification_numbers AS c (user_id, last) VALUES ($1, 1)
ON CONFLICT (user_id) DO UPDATE SET last = c.last + 1 WHERE NOT c.closed RETURNING last
"""

CLOSE: Final = """
INSERT INTO notification_numbers (user_id, last, closed) VALUES ($1, 0, true)
ON CONFLICT (user_id) DO UPDATE SET last = 0, closed = true
"""

INSERT: Final = """
INSERT INTO notifications (id, user_id, number, kind, title, body, data) VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)
"""

PAGE: Final = f"""
SELECT {COLUMNS} FROM notifications n WHERE n.user_id = $1 AND ($2 IS NOT TRUE OR n.read_at IS NULL)
ORDER BY n.number DESC LIMIT $3 OFFSET $4
"""
COUNT: Final = "SELECT count(*) FROM notifications WHERE user_id = $1 AND ($2 IS NOT TRUE OR read_at IS NULL)"

READ: Final = f"""
UPDATE notifications n SET read_at = coalesce(read_at, $3) WHERE n.id = $1 AND n.user_id = $2 RETURNING {COLUMNS}
"""
READ_ALL: Final = "UPDATE notifications SET read_at = $2 WHERE user_id = $1 AND read_at IS NULL"

# Of each user, what came after the number that they have; so many at a time.
AFTER: Final = f"""
SELECT {COLUMNS} FROM unnest($1::uuid[], $2::bigint[]) AS had (user_id, number)
CROSS JOIN LATERAL (
    SELECT * FROM notifications WHERE user_id = had.user_id AND number > had.number ORDER BY number LIMIT $3
) AS n
ORDER BY n.user_id, n.number
"""


@dataclass(frozen=True)
class Holder:
    """Whose ticket it was, and the session they had it by."""

    user_id: UUID
    session_id: UUID


async def notify(tx: Transaction, notification_id: UUID, user_id: UUID, news: News) -> None:
    """Tell a user something, if and when the transaction commits. One who was erased is told nothing."""
    number = await tx.fetchval(NUMBER, user_id)
    if number is None:
        return
    told = (news.kind, news.title, news.body, json.dumps(news.data, default=str))
    await tx.execute(INSERT, notification_id, user_id, number, *told)
    await tx.execute(f"NOTIFY {CHANNEL}")


async def close(tx: Transaction, user_id: UUID) -> int:
    """Take a user's notifications away, and let nobody tell them anything any more; how many there were.

    Whoever is just telling them something goes first; whoever waits for this then tells them nothing.
    """
    await tx.execute(CLOSE, user_id)
    gone = await tx.execute("DELETE FROM notifications WHERE user_id = $1", user_id)
    return int(gone.removeprefix("DELETE "))


class Notifications:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def page(
        self, user_id: UUID, *, unread: bool | None, limit: int, offset: int
    ) -> tuple[list[Notification], int]:
        """A user's notifications, the newest first, and how many there are; the unread alone if that is asked for."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(PAGE, user_id, unread, limit, offset)
            total: int = await moment.fetchval(COUNT, user_id, unread)
        return [_notification(row) for row in rows], total

    async def unread(self, user_id: UUID) -> int:
        count: int = await self._db.fetchval(COUNT, user_id, True)
        return count

    async def read(self, user_id: UUID, notification_id: UUID, now: datetime) -> Notification:
        """Note that one was read; when it was first. Raises NotFound for another's."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(READ, notification_id, user_id, now)
        if row is None:
            raise NotFound("There is no such notification.")
        return _notification(row)

    async def read_all(self, user_id: UUID, now: datetime) -> int:
        """Note that all were read; how many were not."""
        async with self._db.transaction() as tx:
            done = await tx.execute(READ_ALL, user_id, now)
        return int(done.removeprefix("UPDATE "))

    async def last_number(self, user_id: UUID) -> int:
        """The number of the user's newest; 0 if they have none."""
        last: int | None = await self._db.fetchval("SELECT last FROM notification_numbers WHERE user_id = $1", user_id)
        return last or 0

    async def after(self, had: Mapping[UUID, int], limit: int) -> list[Notification]:
        """What came after the number that each user has, at most ``limit`` for each, in order."""
        rows = await self._db.fetch(AFTER, list(had), list(had.values()), limit)
        return [_notification(row) for row in rows]

    async def banned(self, among: Collection[UUID]) -> set[UUID]:
        """Who of these is banned."""
        rows = await self._db.fetch(f"{BANNED} AND id = ANY($1::uuid[])", list(among))
        return {row["id"] for row in rows}

    def listen(self) -> Wakeups:
        """Wake-ups whenever somebody was told something, or was banned, by whichever process."""
        return self._db.listen(CHANNEL)

    # -- tickets ------------------------------------------------------------------------------------------------------

    async def hand_out(self, ticket: str, user_id: UUID, session_id: UUID) -> None:
        """Let the ticket in once, soon. One that nobody uses in time is the janitor's."""
        async with self._db.transaction() as tx:
            await tx.execute(
                "INSERT INTO stream_tickets (hash, user_id, session_id, expires_at) VALUES ($1, $2, $3, now() + $4)",
                _hash(ticket),
                user_id,
                session_id,
                TICKET_LIFETIME,
            )

    async def take(self, ticket: str) -> Holder | None:
        """Whose ticket it is, which lets nobody in any more; None for one that doesn't hold."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(
                "DELETE FROM stream_tickets WHERE hash = $1"
                " RETURNING user_id, session_id, expires_at > now() AS in_time",
                _hash(ticket),
            )
        return Holder(row["user_id"], row["session_id"]) if row is not None and row["in_time"] else None


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode()).digest()


def _notification(row: Record) -> Notification:
    values = dict(row)
    kind, data = NotificationKind(values.pop("kind")), json.loads(values.pop("data"))
    return Notification(kind=kind, data=data, **values)
