"""Connect accounts' rows, and the provider's events that make them due for a look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.connect import AccountState, ConnectAccount, ProviderEvent, next_check
from veza.domain.errors import NotFound
from veza.store.bridge import Database, Record, Transaction
from veza.store.payouts import RELEASE, _count

COLUMNS: Final = "user_id, account_id, key_epoch, transfers_active, details_submitted"

CLAIM_CHECKS: Final = f"""
UPDATE connect_accounts SET check_due_at = now() + $2
WHERE user_id IN (
    SELECT user_id FROM connect_accounts WHERE check_due_at <= now() AND account_id IS NOT NULL
    ORDER BY check_due_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING {COLUMNS}, check_due_at
"""

# An event that came while the account was being fetched has made it due anew, and another process may have fetched it
# since: what is older than that is no news.
RECORD_CHECK: Final = """
UPDATE connect_accounts SET transfers_active = $2, details_submitted = $3, updated_at = now(),
    check_due_at = now() + $5::interval
WHERE user_id = $1 AND check_due_at IS NOT DISTINCT FROM $4
"""

NEXT_CHECK: Final = """
SELECT extract(epoch FROM min(check_due_at) - now())::float8 FROM connect_accounts
WHERE check_due_at IS NOT NULL AND account_id IS NOT NULL
"""

ABOUT_ACCOUNTS: Final = frozenset({"account.updated", "capability.updated", "account.application.deauthorized"})

SEEN: Final = """
INSERT INTO provider_events (provider, event_id, event_type, subject) VALUES ('stripe', $1, $2, $3)
ON CONFLICT DO NOTHING
"""


class Connect:
    """``delay`` is how long after the sale a transfer is due."""

    def __init__(self, db: Database, delay: timedelta = timedelta(0)) -> None:
        self._db = db
        self._delay = delay

    async def find(self, user_id: UUID) -> ConnectAccount | None:
        """A user's account, or the wish for one; null when they never asked."""
        row = await self._db.fetchrow(f"SELECT {COLUMNS} FROM connect_accounts WHERE user_id = $1", user_id)
        return None if row is None else _account(row)

    async def wish(self, user_id: UUID) -> ConnectAccount:
        """The intent to have an account: the row, made if there is none."""
        async with self._db.transaction() as tx:
            await tx.execute("INSERT INTO connect_accounts (user_id) VALUES ($1) ON CONFLICT DO NOTHING", user_id)
            return await _find(tx, user_id)

    async def opened(self, user_id: UUID, account_id: str) -> ConnectAccount:
        """The account exists. Answers the one that stands: the first to be written down stays."""
        async with self._db.transaction() as tx:
            await tx.execute(
                "UPDATE connect_accounts SET account_id = $2, check_due_at = now(), updated_at = now()"
                " WHERE user_id = $1 AND account_id IS NULL",
                user_id,
                account_id,
            )
            return await _find(tx, user_id)

    async def ask_anew(self, account: ConnectAccount) -> ConnectAccount:
        """The present key leads nowhere; the next request for the account uses another."""
        async with self._db.transaction() as tx:
            await tx.execute(
                "UPDATE connect_accounts SET key_epoch = key_epoch + 1 WHERE user_id = $1 AND key_epoch = $2",
                account.user_id,
                account.key_epoch,
            )
            return await _find(tx, account.user_id)

    async def claim_checks(self, limit: int, lease: timedelta) -> Sequence[tuple[ConnectAccount, datetime]]:
        """Accounts to fetch now, each with the mark to record it under.

        One that isn't recorded is due again after ``lease``.
        """
        async with self._db.transaction() as tx:
            rows = await tx.fetch(CLAIM_CHECKS, limit, lease)
        return [(_account(row), row["check_due_at"]) for row in rows]

    async def record(self, user_id: UUID, state: AccountState, mark: datetime | None) -> int:
        """Write down what the provider says of an account; once it is active, its seller's transfers are due.

        Nothing is written if it was made due anew since ``mark``. Answers how many were released.
        """
        async with self._db.transaction() as tx:
            written = await tx.execute(
                RECORD_CHECK, user_id, state.transfers_active, state.details_submitted, mark, next_check(state)
            )
            if not _count(written) or not state.transfers_active:
                return 0
            return _count(await tx.execute(f"{RELEASE} AND user_id = $2", self._delay, user_id))

    async def check_soon(self, user_id: UUID) -> None:
        """Have the account fetched at the next round."""
        async with self._db.transaction() as tx:
            await tx.execute(
                "UPDATE connect_accounts SET check_due_at = now() WHERE user_id = $1 AND account_id IS NOT NULL",
                user_id,
            )

    async def next_check_in(self) -> float | None:
        """Seconds until an account is due to be fetched; null when none is."""
        seconds: float | None = await self._db.fetchval(NEXT_CHECK)
        return seconds

    async def note(self, event: ProviderEvent) -> bool:
        """Write down a verified event and make due what it speaks of. False for one that was noted before.

        Events come twice and in any order, so none is believed for what it says: it only has us ask.
        """
        async with self._db.transaction() as tx:
            if not _count(await tx.execute(SEEN, event.id, event.type, event.subject)):
                return False
            if event.type == "balance.available" and event.account is None:
                await tx.execute(
                    "UPDATE transfers SET status = 'pending', hold_reason = NULL, next_retry_at = now(),"
                    " updated_at = now() WHERE status = 'held' AND hold_reason = 'awaiting_funds'"
                )
            elif event.type in ABOUT_ACCOUNTS:
                await tx.execute(
                    "UPDATE connect_accounts SET check_due_at = now() WHERE account_id = $1",
                    event.account or event.subject,
                )
        return True


async def _find(tx: Transaction, user_id: UUID) -> ConnectAccount:
    row = await tx.fetchrow(f"SELECT {COLUMNS} FROM connect_accounts WHERE user_id = $1", user_id)
    if row is None:
        raise NotFound("This user has no account for payouts.")
    return _account(row)


def _account(row: Record) -> ConnectAccount:
    return ConnectAccount(
        row["user_id"], row["account_id"], row["key_epoch"], row["transfers_active"], row["details_submitted"]
    )
