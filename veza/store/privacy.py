"""What people have said of selling and sharing their data, in their user's row.

It is known with the user of a session (`User.do_not_sell`), so that whether a request says anything new costs no query.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.errors import NotFound
from veza.domain.privacy import Preference, Source
from veza.store.bridge import Database, Record

COLUMNS: Final = "do_not_sell, do_not_sell_source, do_not_sell_at"

READ: Final = f"SELECT {COLUMNS} FROM users WHERE id = $1 AND erased_at IS NULL"

# A second time changes nothing: since when it holds is what is asked for later.
CHOOSE: Final = f"""
UPDATE users SET do_not_sell = $2, do_not_sell_source = $3, do_not_sell_at = $4
WHERE id = $1 AND erased_at IS NULL AND (do_not_sell <> $2 OR do_not_sell_source IS NULL)
RETURNING {COLUMNS}
"""

# Whoever holds the row holds up nobody: the signal comes again with the next request.
HEED: Final = """
UPDATE users SET do_not_sell = true, do_not_sell_source = $2, do_not_sell_at = $3
WHERE id = (
    SELECT id FROM users WHERE id = $1 AND erased_at IS NULL AND NOT do_not_sell FOR NO KEY UPDATE SKIP LOCKED
)
"""

HEED_STATEMENT_SECONDS: Final = 0.25  # of a row by its key that nobody holds; it takes about one thousandth
HEED_SECONDS: Final = 0.5


class PrivacyRows:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, user_id: UUID) -> Preference:
        """What stands for a person. Raises NotFound."""
        return _preference(await self._db.fetchrow(READ, user_id))

    async def choose(self, user_id: UUID, do_not_sell: bool, now: datetime) -> Preference:
        """Set what somebody said; what stands then. Raises NotFound."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(CHOOSE, user_id, do_not_sell, Source.USER, now)
            return _preference(row or await tx.fetchrow(READ, user_id))

    async def heed(self, user_id: UUID, now: datetime) -> bool:
        """Set what a browser's signal said; whether that was news. Somebody else at the row: false, to come again.

        Once it has a connection it takes half a second at most. Raises StoreError.
        """
        async with self._db.transaction(statement_seconds=HEED_STATEMENT_SECONDS, seconds=HEED_SECONDS) as tx:
            done = await tx.execute(HEED, user_id, Source.SIGNAL, now)
        return done != "UPDATE 0"


def _preference(row: Record | None) -> Preference:
    if row is None:
        raise NotFound("There is no such user.")
    source = row["do_not_sell_source"]
    return Preference(row["do_not_sell"], source and Source(source), row["do_not_sell_at"])
