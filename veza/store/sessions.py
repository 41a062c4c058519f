"""Signed-in devices: who is behind a token, and the rotation of refresh tokens.

Where a user's row and their sessions' are both locked, the user's comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.accounts import (
    Family,
    Refresh,
    Role,
    Session,
    SessionEnd,
    User,
    judge_refresh,
    session_expiry,
)
from veza.domain.bans import Ban, Banned
from veza.domain.guesses import REMEMBERED, Known
from veza.domain.ids import NewId
from veza.store.banned import BAN_COLUMNS, ban_in
from veza.store.bridge import Database, Record, Transaction

USER_COLUMNS: Final = (
    "u.id AS user_id, u.username, u.email, u.role, u.created_at AS joined_at, u.updated_at, u.do_not_sell"
)
SESSION_COLUMNS: Final = (
    "s.id, s.user_id, s.refresh_id, s.created_at, s.last_used_at, s.expires_at, s.user_agent, s.address"
)
LIVING: Final = "s.ended_at IS NULL AND s.expires_at > $2"

OF_USER: Final = f"SELECT {SESSION_COLUMNS} FROM sessions s WHERE s.user_id = $1 AND {LIVING}"

WHO: Final = f"""
SELECT {USER_COLUMNS} FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = $1 AND {LIVING} AND s.user_id = $3
"""

KNOWN: Final = """
SELECT id, address FROM sessions
WHERE user_id = $1 AND last_used_at > $2 AND (ended_at IS NULL OR ended_why = $3)
ORDER BY last_used_at DESC LIMIT 100
"""

FAMILY: Final = f"""
SELECT {SESSION_COLUMNS}, s.previous_id, s.rotated_at, s.ended_at, s.ended_why, {USER_COLUMNS}, {BAN_COLUMNS}
FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1 AND s.user_id = $2 FOR UPDATE OF s
"""

ROTATE: Final = f"""
UPDATE sessions s SET previous_id = refresh_id, refresh_id = $2, rotated_at = $3, last_used_at = $3, expires_at = $4
WHERE id = $1 RETURNING {SESSION_COLUMNS}
"""

OPEN: Final = """
INSERT INTO sessions (id, user_id, refresh_id, created_at, last_used_at, rotated_at, expires_at, user_agent, address)
VALUES ($1, $2, $3, $4, $4, $4, $5, $6, $7)
"""


@dataclass(frozen=True)
class Refreshed:
    """A session whose refresh token is a new one, and whose it is."""

    session: Session
    user: User


class Sessions:
    """The sessions' queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def user_of(self, session_id: UUID, user_id: UUID, now: datetime) -> User | None:
        """Whose living session this is, with the role they have now. None if it is over, or another's."""
        row = await self._db.fetchrow(WHO, session_id, now, user_id)
        return user_in(row) if row else None

    async def get(self, session_id: UUID, user_id: UUID, now: datetime) -> Session | None:
        """The user's living session of that id."""
        row = await self._db.fetchrow(f"{OF_USER} AND s.id = $3", user_id, now, session_id)
        return session_in(row) if row else None

    async def page(self, user_id: UUID, now: datetime, *, limit: int, offset: int) -> tuple[list[Session], int]:
        """A page of the user's living sessions, the latest used first, and how many there are."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(
                f"{OF_USER} ORDER BY s.last_used_at DESC, s.id DESC LIMIT $3 OFFSET $4", user_id, now, limit, offset
            )
            total = await moment.fetchval(
                f"SELECT count(*) FROM sessions s WHERE s.user_id = $1 AND {LIVING}", user_id, now
            )
        return [session_in(row) for row in rows], total

    async def known(self, user_id: UUID, now: datetime) -> list[Known]:
        """The devices and places that a user is signed in at, or has signed out of lately, a hundred at most. One that
        was put out, for whatever reason, may have been somebody else's."""
        rows = await self._db.fetch(KNOWN, user_id, now - REMEMBERED, SessionEnd.LOGOUT)
        return [Known(row["id"], row["address"]) for row in rows]

    async def refresh(
        self, session_id: UUID, user_id: UUID, shown: UUID, *, new_id: NewId, now: datetime, grace: timedelta
    ) -> Refreshed | Refresh:
        """Take the refresh token ``shown`` for the next one; of several who try at once, one wins.

        Refused with ``Refresh.OVER``, or with ``Refresh.REUSED`` after ending the session. Raises Banned for who was
        signed in when they were banned, while that stands.
        """
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(FAMILY, session_id, user_id)
            if row is None:
                return Refresh.OVER
            family = family_in(row)
            if (ban := _ban_that_ended(row, shown)) is not None:
                raise Banned(ban)
            verdict = judge_refresh(family, shown, now, grace)
            match verdict:
                case Refresh.ROTATE:
                    expires_at = session_expiry(family.session.created_at, now)
                    rotated = await tx.fetchrow(ROTATE, session_id, new_id(), now, expires_at)
                    if rotated is None:
                        raise LookupError(f"session {session_id} was locked and is gone")
                    return Refreshed(session_in(rotated), user_in(row))
                case Refresh.REPEAT:
                    return Refreshed(family.session, user_in(row))
                case Refresh.REUSED:
                    await end_sessions(tx, user_id, SessionEnd.REUSED, now, only=session_id)
        return verdict

    async def end(self, user_id: UUID, why: SessionEnd, now: datetime, *, only: UUID | None = None) -> int:
        """End one living session of the user's, or all of them. How many there were."""
        async with self._db.transaction() as tx:
            return await end_sessions(tx, user_id, why, now, only=only)


async def open_session(tx: Transaction, session: Session) -> None:
    """Write a new session, and sweep out what the user's expired ones left."""
    await tx.execute(
        "DELETE FROM sessions WHERE user_id = $1 AND expires_at <= $2", session.user_id, session.created_at
    )
    await tx.execute(
        OPEN,
        session.id,
        session.user_id,
        session.refresh_id,
        session.created_at,
        session.expires_at,
        session.user_agent,
        session.address,
    )


async def end_sessions(
    tx: Transaction,
    user_id: UUID,
    why: SessionEnd,
    now: datetime,
    *,
    only: UUID | None = None,
    but: UUID | None = None,
) -> int:
    """End the user's living sessions: all, ``only`` one, or all ``but`` one. How many there were."""
    tag = await tx.execute(
        f"UPDATE sessions s SET ended_at = $2, ended_why = $3 WHERE s.user_id = $1 AND {LIVING}"
        " AND ($4::uuid IS NULL OR s.id = $4) AND ($5::uuid IS NULL OR s.id <> $5)",
        user_id,
        now,
        why,
        only,
        but,
    )
    return int(tag.rpartition(" ")[2])


def session_in(row: Record) -> Session:
    return Session(
        id=row["id"],
        user_id=row["user_id"],
        refresh_id=row["refresh_id"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        user_agent=row["user_agent"],
        address=row["address"],
    )


def _ban_that_ended(row: Record, shown: UUID) -> Ban | None:
    """The ban that a session was ended by, told to who has its one good refresh token."""
    return ban_in(row) if row["ended_why"] == SessionEnd.BANNED and shown == row["refresh_id"] else None


def family_in(row: Record) -> Family:
    return Family(session_in(row), row["previous_id"], row["rotated_at"], row["ended_at"] is not None)


def user_in(row: Record) -> User:
    """The user in a row of USER_COLUMNS."""
    return User(
        id=row["user_id"],
        username=row["username"],
        email=row["email"],
        role=Role(row["role"]),
        created_at=row["joined_at"],
        updated_at=row["updated_at"],
        do_not_sell=row["do_not_sell"],
    )
