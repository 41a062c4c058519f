"""Who is banned, as other rooms' statements ask it. The clock that says so is the database's, in every process."""

from __future__ import annotations

from typing import Final

from veza.domain.bans import Ban
from veza.store.bridge import Record

BANNED: Final = "SELECT id FROM users WHERE banned_until > now()"
"""Those who are, by an index of few rows: to be asked as ``NOT IN``, which the server does by a look into a hash."""

BAN_COLUMNS: Final = """
u.banned_until > now() IS TRUE AS banned, u.banned_at, nullif(u.banned_until, 'infinity') AS banned_until, u.ban_reason
"""


def ban_in(row: Record) -> Ban | None:
    """The ban that stands, in a row of BAN_COLUMNS."""
    return Ban(row["banned_at"], row["banned_until"], row["ban_reason"]) if row["banned"] else None
