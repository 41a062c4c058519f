"""Accounts: users, their names and their password hashes.

What is hashed or verified is so before the transaction; each write that rests on a verified hash says which one, and
does nothing if it has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from veza.domain.accounts import Credentials, Role, Session, SessionEnd, User, check_may_lose_admin
from veza.domain.audit import By
from veza.domain.bans import Banned, Standing
from veza.domain.errors import Conflict, NotFound
from veza.domain.ids import NewId
from veza.store import audit
from veza.store.admins import is_last_admin
from veza.store.banned import BAN_COLUMNS, ban_in
from veza.store.bridge import Database, Record, Transaction
from veza.store.patterns import containing
from veza.store.sessions import USER_COLUMNS, end_sessions, open_session, user_in

ADD: Final = f"""
INSERT INTO users AS u (id, username, email, password_hash, role, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING {USER_COLUMNS}
"""

RENAME: Final = f"""
UPDATE users u SET username = coalesce($2, username), email = coalesce($3, email), updated_at = $4
WHERE id = $1 RETURNING {USER_COLUMNS}
"""

# Whoever was erased is unknown here. Their rows are what the books refer to.
THERE: Final = "u.erased_at IS NULL"
STANDING: Final = f"SELECT {USER_COLUMNS}, {BAN_COLUMNS} FROM users u WHERE u.id = $1 AND {THERE}"
CREDENTIALS: Final = f"SELECT {USER_COLUMNS}, u.password_hash FROM users u WHERE {THERE}"

HOLD_HASH: Final = f"SELECT {BAN_COLUMNS} FROM users u WHERE u.id = $1 AND u.password_hash = $2 FOR NO KEY UPDATE"
SET_HASH: Final = "UPDATE users SET password_hash = $2 WHERE id = $1"

TAKEN: Final = {
    "users_username_key": ("This username is taken.", "username"),
    "users_email_key": ("There is an account with this email already.", "email"),
}


@dataclass(frozen=True)
class Wanted:
    """Which accounts are listed: all of what is given. ``search`` is in the username or the address, or is the id."""

    search: str | None = None
    role: Role | None = None
    banned: bool | None = None


class Accounts:
    """The accounts' queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, user_id: UUID) -> User:
        """The user. Raises NotFound."""
        row = await self._db.fetchrow(f"SELECT {USER_COLUMNS} FROM users u WHERE u.id = $1 AND {THERE}", user_id)
        if row is None:
            raise NotFound("There is no such user.")
        return user_in(row)

    async def credentials(self, email: str) -> Credentials | None:
        """Whose address this is (as ``check_email`` writes it), and the hash of their password."""
        return _credentials_in(await self._db.fetchrow(f"{CREDENTIALS} AND u.email = $1", email))

    async def credentials_of(self, user_id: UUID) -> Credentials | None:
        """The user with the hash of their password."""
        return _credentials_in(await self._db.fetchrow(f"{CREDENTIALS} AND u.id = $1", user_id))

    async def register(self, user: User, password_hash: str, session: Session) -> User:
        """Write a new user, signed in. Raises Conflict if the username or the email is taken, in whatever case."""
        async with self._db.transaction() as tx:
            added = await _add(tx, user, password_hash)
            await open_session(tx, session)
        return added

    async def sign_in(self, verified: Credentials, session: Session, *, rehashed: str | None = None) -> bool:
        """Open a session on a verified password, and keep its new hash if there is one.

        False, and nothing is done, if the password has changed since it was verified. Raises Banned for who is: they
        are told so because they are who they say.
        """
        async with self._db.transaction() as tx:
            if not await _hold(tx, verified):
                return False
            if rehashed is not None:
                await tx.execute(SET_HASH, verified.user.id, rehashed)
            await open_session(tx, session)
        return True

    async def rename(self, user_id: UUID, *, username: str | None, email: str | None, now: datetime) -> User:
        """Change what is given. Raises Conflict if it is taken, NotFound."""
        try:
            async with self._db.transaction() as tx:
                row = await tx.fetchrow(RENAME, user_id, username, email, now)
        except asyncpg.UniqueViolationError as error:
            raise _taken(error) from None
        if row is None:
            raise NotFound("There is no such user.")
        return user_in(row)

    async def change_password(self, verified: Credentials, password_hash: str, *, keep: UUID, now: datetime) -> bool:
        """Set the hash of a new password and end the other sessions than ``keep``.

        False, and nothing is done, if the password has changed since it was verified. Raises Banned.
        """
        async with self._db.transaction() as tx:
            if not await _hold(tx, verified):
                return False
            await tx.execute(SET_HASH, verified.user.id, password_hash)
            await end_sessions(tx, verified.user.id, SessionEnd.PASSWORD_CHANGED, now, but=keep)
        return True

    # -- for admins ---------------------------------------------------------------------------------------------------

    async def page(self, wanted: Wanted, *, limit: int, offset: int) -> tuple[list[Standing], int]:
        """A page of the accounts, the newest first, and how many there are. Whoever was erased is in none."""
        where, args = _where(wanted)
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(
                f"SELECT {USER_COLUMNS}, {BAN_COLUMNS} FROM users u WHERE {where}"
                f" ORDER BY u.created_at DESC, u.id DESC LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}",
                *args,
                limit,
                offset,
            )
            total: int = await moment.fetchval(f"SELECT count(*) FROM users u WHERE {where}", *args)
        return [standing_in(row) for row in rows], total

    async def standing(self, user_id: UUID) -> Standing:
        """A user as they stand. Raises NotFound, for who was erased as well."""
        return _there(await self._db.fetchrow(STANDING, user_id))

    async def set_role(self, user_id: UUID, role: Role, *, by: By, new_id: NewId, now: datetime) -> Standing:
        """Make a user an admin, or one no more; the same again changes nothing. It acts at their next request.

        Raises NotFound, Conflict (`check_may_lose_admin`).
        """
        async with self._db.transaction() as tx:
            before = await hold_user(tx, user_id)
            was = before.user.role
            if was is role:
                return before
            if was is Role.ADMIN:
                check_may_lose_admin(before.user, by=by.user_id, last_admin=await is_last_admin(tx, user_id))
            await tx.execute("UPDATE users SET role = $2, updated_at = $3 WHERE id = $1", user_id, role, now)
            await audit.write(tx, new_id(), by, "user.role", f"users/{user_id}", {"from": was, "to": role})
            return await hold_user(tx, user_id)

    # -- for the command line; each is audited -----------------------------------------------------------------------

    async def add_admin(self, admin: User, password_hash: str, *, by: By, new_id: NewId) -> User:
        """Write a new admin. Raises Conflict if the username or the email is taken."""
        async with self._db.transaction() as tx:
            added = await _add(tx, admin, password_hash)
            await audit.write(tx, new_id(), by, "user.create_admin", f"users/{added.id}", {})
        return added

    async def grant_admin(self, email: str, *, by: By, new_id: NewId, now: datetime) -> User:
        """Make the user an admin; a second time changes nothing. Raises NotFound."""
        async with self._db.transaction() as tx:
            user = await _locked(tx, email)
            if user.role is Role.ADMIN:
                return user
            row = await tx.fetchrow(
                f"UPDATE users u SET role = $2, updated_at = $3 WHERE id = $1 RETURNING {USER_COLUMNS}",
                user.id,
                Role.ADMIN,
                now,
            )
            details = {"from": user.role, "to": Role.ADMIN}
            await audit.write(tx, new_id(), by, "user.role", f"users/{user.id}", details)
        return user if row is None else user_in(row)

    async def reset_password(self, email: str, password_hash: str, *, by: By, new_id: NewId, now: datetime) -> int:
        """Set the hash of a new password and end every session. How many there were. Raises NotFound."""
        async with self._db.transaction() as tx:
            user = await _locked(tx, email)
            await tx.execute(SET_HASH, user.id, password_hash)
            ended = await end_sessions(tx, user.id, SessionEnd.PASSWORD_CHANGED, now)
            await audit.write(tx, new_id(), by, "user.reset_password", f"users/{user.id}", {"sessions_ended": ended})
        return ended


async def hold_user(tx: Transaction, user_id: UUID) -> Standing:
    """A user as they stand until the transaction is over. Raises NotFound, for who was erased as well."""
    return _there(await tx.fetchrow(f"{STANDING} FOR NO KEY UPDATE", user_id))


def _there(row: Record | None) -> Standing:
    if row is None:
        raise NotFound("There is no such user.")
    return standing_in(row)


def standing_in(row: Record) -> Standing:
    return Standing(user_in(row), ban_in(row))


def _where(wanted: Wanted) -> tuple[str, list[object]]:
    conditions, args = [THERE], list[object]()
    if wanted.search is not None:
        args += [containing(wanted.search.casefold()), wanted.search.casefold()]
        conditions.append("(lower(u.username) LIKE $1 OR u.email LIKE $1 OR u.id::text = $2)")
    if wanted.role is not None:
        args.append(wanted.role)
        conditions.append(f"u.role = ${len(args)}")
    if wanted.banned is not None:
        conditions.append(f"u.banned_until > now() IS {'TRUE' if wanted.banned else 'NOT TRUE'}")
    return " AND ".join(conditions), args


def _credentials_in(row: Record | None) -> Credentials | None:
    return Credentials(user_in(row), row["password_hash"]) if row else None


async def _add(tx: Transaction, user: User, password_hash: str) -> User:
    try:
        row = await tx.fetchrow(ADD, user.id, user.username, user.email, password_hash, user.role, user.created_at)
    except asyncpg.UniqueViolationError as error:
        raise _taken(error) from None
    if row is None:
        raise LookupError("an insert returned no row")
    return user_in(row)


async def _hold(tx: Transaction, verified: Credentials) -> bool:
    """Whether the verified hash is still the user's, which it then is until the transaction ends. Raises Banned.

    Changing the password waits for that, and so does a ban, and then sees and ends the session that was opened
    meanwhile.
    """
    row = await tx.fetchrow(HOLD_HASH, verified.user.id, verified.password_hash)
    if row is None:
        return False
    if (ban := ban_in(row)) is not None:
        raise Banned(ban)
    return True


async def _locked(tx: Transaction, email: str) -> User:
    sql = f"SELECT {USER_COLUMNS} FROM users u WHERE u.email = $1 AND {THERE} FOR NO KEY UPDATE"
    row = await tx.fetchrow(sql, email)
    if row is None:
        raise NotFound("There is no account with this email.")
    return user_in(row)


def _taken(error: asyncpg.UniqueViolationError) -> Conflict:
    sentence, field = TAKEN[str(error.constraint_name)]
    return Conflict(sentence, code=f"{field}_taken", field=field)
