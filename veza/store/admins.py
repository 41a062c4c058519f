"""Who is an admin stays one: while their last deed is written down, and while they are the last.

Both rest on one advisory lock. Whoever makes an admin no admin holds it alone, until that is committed; who writes in
an admin's name shares it, for the rest of their transaction.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from veza.domain.errors import Forbidden
from veza.store.bridge import Transaction
from veza.store.errors import TryAgain

ADMINS: Final = 0x76657A62  # the key of the lock; any number no other use of ours has

# Whether a user is the last admin, as a row or none. Who is banned is no admin meanwhile.
IS_LAST_ADMIN: Final = """
users WHERE id = $1 AND role = 'admin' AND NOT EXISTS (
    SELECT FROM users AS other WHERE other.role = 'admin' AND other.id <> $1 AND other.banned_until > now() IS NOT TRUE
)
"""
IS_ADMIN: Final = """
SELECT EXISTS (
    SELECT FROM users WHERE id = $1 AND role = 'admin' AND erased_at IS NULL AND banned_until > now() IS NOT TRUE
)
"""


async def is_last_admin(tx: Transaction, user_id: UUID) -> bool:
    """Whether nobody else is an admin who may sign in, which then stays so. With that user's row held."""
    await hold_admins(tx)
    return bool(await tx.fetchval(f"SELECT EXISTS (SELECT FROM {IS_LAST_ADMIN})", user_id))


async def hold_admins(tx: Transaction) -> None:
    """Let nobody else make an admin no admin before the transaction is over, so that one is left (`IS_LAST_ADMIN`).

    For whoever is about to do so, with that user's row held.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", ADMINS)


async def check_still_admin(tx: Transaction, user_id: UUID | None) -> None:
    """Raises Forbidden for who is no admin any more, and TryAgain while somebody is being made none.

    Who is one stays one until the transaction is over. It waits for nobody, as whoever calls it holds rows by now.
    """
    if not await tx.fetchval("SELECT pg_try_advisory_xact_lock_shared($1)", ADMINS):
        raise TryAgain("an admin is being made none")
    if not await tx.fetchval(IS_ADMIN, user_id):  # a statement of its own: it sees what was committed until now
        raise Forbidden("Only an admin may do this.")
