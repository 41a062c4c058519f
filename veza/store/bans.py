"""Banning and lifting bans: all that follows from it at once, in one transaction with its audit.

What only reads whether somebody is banned asks the same row by the database's clock: a ban that ends does so by itself.
Rows are locked in one order: the user, that there is another admin, their sessions, their transfers (those that nobody
else has; the payouts' worker sees to the rest), the numbers of their notifications.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.accounts import Role, SessionEnd
from veza.domain.audit import By
from veza.domain.bans import Ban, Standing, ban_news, check_may_ban, check_may_lift, lift_news
from veza.domain.ids import NewId
from veza.store import audit
from veza.store.accounts import hold_user
from veza.store.admins import is_last_admin
from veza.store.bridge import Database, Transaction
from veza.store.notifications import notify
from veza.store.payouts import hold_banned, release_unbanned
from veza.store.sessions import end_sessions

AT_ONCE: Final = 5_000  # transfers of one seller, in a statement of a tenth of a second

BAN: Final = """
UPDATE users SET banned_until = coalesce($2::timestamptz, 'infinity'), banned_at = now(), ban_reason = $3 WHERE id = $1
"""
LIFT: Final = "UPDATE users SET banned_until = NULL, banned_at = NULL, ban_reason = '' WHERE id = $1"


class Bans:
    """``payout_delay`` is how long after the sale a transfer is due."""

    def __init__(self, db: Database, new_id: NewId, payout_delay: timedelta = timedelta(0)) -> None:
        self._db = db
        self._new_id = new_id
        self._payout_delay = payout_delay

    async def ban(self, user_id: UUID, until: datetime | None, reason: str, *, by: By, now: datetime) -> Standing:
        """Ban a user; who is banned already is from now on for this time and reason.

        Raises NotFound, Conflict and Invalid (`check_may_ban`).
        """
        async with self._db.transaction() as tx:
            stands = await ban(tx, self._new_id, user_id, until, reason, by=by, now=now)
            await notify(tx, self._new_id(), user_id, ban_news(stands))
            return await hold_user(tx, user_id)

    async def lift(self, user_id: UUID, *, by: By) -> Standing:
        """Let a banned user back in, and their payouts go on. Raises NotFound, Conflict for who is not banned."""
        async with self._db.transaction() as tx:
            before = await hold_user(tx, user_id)
            check_may_lift(before.ban)
            await tx.execute(LIFT, user_id)
            released = await release_unbanned(tx, AT_ONCE, self._payout_delay, of=user_id)
            await notify(tx, self._new_id(), user_id, lift_news())
            told = {"transfers_released": released}
            await audit.write(tx, self._new_id(), by, "user.unban", f"users/{user_id}", told)
            return await hold_user(tx, user_id)


async def ban(
    tx: Transaction,
    new_id: NewId,
    user_id: UUID,
    until: datetime | None,
    reason: str,
    *,
    by: By,
    now: datetime,
) -> Ban:
    """As `Bans.ban`, in the transaction of what it follows from, whose last thing is to tell them (`ban_news`)."""
    before = await hold_user(tx, user_id)
    last_admin = before.user.role is Role.ADMIN and await is_last_admin(tx, user_id)
    check_may_ban(before.user, by=by.user_id, last_admin=last_admin, until=until, now=now)
    await tx.execute(BAN, user_id, until, reason)
    ended = await end_sessions(tx, user_id, SessionEnd.BANNED, now)
    held = await hold_banned(tx, AT_ONCE, of=user_id)
    told = {"until": until, "reason": reason, "sessions_ended": ended, "transfers_held": held}
    await audit.write(tx, new_id(), by, "user.ban", f"users/{user_id}", told)
    return Ban(now, until, reason)
