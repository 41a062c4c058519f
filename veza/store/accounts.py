"""Accounts: users, their names and their password hashes.

What is hashed or verified is so before the transaction; each write that rests on a verified hash says which one, and
does nothing if it has changed since.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from veza.domain.accounts import Credentials, Role, Session, SessionEnd, User
from veza.domain.audit import By
from veza.domain.errors import Conflict, NotFound
from veza.domain.ids import NewId
from veza.store import audit
from veza.store.bridge import Database, Record, Transaction
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
CREDENTIALS: Final = f"SELECT {USER_COLUMNS}, u.password_hash FROM users u WHERE {THERE}"

HOLD_HASH: Final = "SELECT 1 FROM users WHERE id = $1 AND password_hash = $2 FOR NO KEY UPDATE"
SET_HASH: Final = "UPDATE users SET password_hash = $2 WHERE id = $1"

LAST_ADMIN: Final = 0x76657A62  # the key of an advisory lock; any number no other use of ours has
# Whether a user is the last admin, as a row or none. Who is banned is no admin meanwhile.
IS_LAST_ADMIN: Final = """
users WHERE id = $1 AND role = 'admin' AND NOT EXISTS (
    SELECT FROM users AS other WHERE other.role = 'admin' AND other.id <> $1 AND other.banned_until > now() IS NOT TRUE
)
"""

TAKEN: Final = {
    "users_username_key": ("This username is taken.", "username"),
    "users_email_key": ("There is an account with this email already.", "email"),
}


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

        False, and nothing is done, if the password has changed since it was verified.
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

        False, and nothing is done, if the password has changed since it was verified.
        """
        async with self._db.transaction() as tx:
            if not await _hold(tx, verified):
                return False
            await tx.execute(SET_HASH, verified.user.id, password_hash)
            await end_sessions(tx, verified.user.id, SessionEnd.PASSWORD_CHANGED, now, but=keep)
        return True

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


async def hold_admins(tx: Transaction) -> None:
    """Let nobody else make an admin no admin before the transaction is over, so that one is left (`IS_LAST_ADMIN`).

    For whoever is about to do so, with that user's row held.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", LAST_ADMIN)


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
    """Whether the verified hash is still the user's, which it then is until the transaction ends.

    Changing the password waits for that, and then sees and ends the session that was opened meanwhile.
    """
    return await tx.fetchval(HOLD_HASH, verified.user.id, verified.password_hash) is not None


async def _locked(tx: Transaction, email: str) -> User:
    sql = f"SELECT {USER_COLUMNS} FROM users u WHERE u.email = $1 AND {THERE} FOR NO KEY UPDATE"
    row = await tx.fetchrow(sql, email)
    if row is None:
        raise NotFound("There is no account with this email.")
    return user_in(row)


def _taken(error: asyncpg.UniqueViolationError) -> Conflict:
    sentence, field = TAKEN[str(error.constraint_name)]
    return Conflict(sentence, code=f"{field}_taken", field=field)
