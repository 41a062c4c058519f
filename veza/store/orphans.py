"""Objects that no row names any more, and rows whose time is over: what the janitor is to remove.

An object that stops being named is seen as an orphan at the janitor's next look, and is removed a grace later if it is
still one. So a backup of the database that is no older than the grace finds all its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from veza.domain.guesses import REMEMBERED
from veza.store.bridge import Database
from veza.store.idempotency import KEY_LIFETIME

NAMED: Final = "EXISTS (SELECT FROM object_references r WHERE r.object_key = {key})"

NOTE: Final = f"""
INSERT INTO orphans (object_key)
SELECT key FROM unnest($1::text[]) AS key WHERE NOT {NAMED.format(key="key")}
ORDER BY key ON CONFLICT DO NOTHING
"""

NAMED_AGAIN: Final = f"""
DELETE FROM orphans o WHERE object_key = ANY($1::text[]) AND {NAMED.format(key="o.object_key")}
"""

DUE: Final = f"""
SELECT object_key FROM orphans o
WHERE since <= now() - $1::interval AND object_key > $2 AND NOT {NAMED.format(key="o.object_key")}
ORDER BY object_key LIMIT $3
"""

OVER: Final = (
    ("cloud_shares", "expires_at <= now()", timedelta()),
    ("stream_tickets", "expires_at <= now()", timedelta()),
    ("idempotency_keys", "created_at <= now()", KEY_LIFETIME),
    ("sessions", "expires_at <= now()", REMEMBERED),
)
"""Each table whose rows are over at some time, and how long after that they still have a meaning."""


class Orphans:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def is_named(self, key: str) -> bool:
        """Whether any row names an object now: a look into an index for each place where one may."""
        named: bool = await self._db.fetchval(f"SELECT {NAMED.format(key='$1')}", key)
        return named

    async def note(self, keys: Sequence[str]) -> int:
        """Of objects that there are, note which no row names; of how many that is news."""
        async with self._db.transaction() as tx:
            await tx.execute(NAMED_AGAIN, keys)
            done = await tx.execute(NOTE, keys)
        return int(done.rpartition(" ")[2])

    async def due(self, grace: timedelta, limit: int, after: str = "") -> list[str]:
        """Of those noted at least ``grace`` ago and named by no row now, the next that come after a key."""
        return [row["object_key"] for row in await self._db.fetch(DUE, grace, after, limit)]

    async def forget(self, keys: Sequence[str]) -> None:
        """They are gone."""
        async with self._db.transaction() as tx:
            await tx.execute("DELETE FROM orphans WHERE object_key = ANY($1::text[])", keys)

    async def prune(self, limit: int) -> int:
        """Delete rows that are over, at most ``limit`` of each kind; how many."""
        gone = 0
        for table, over, later in OVER:
            async with self._db.transaction() as tx:
                some = f"SELECT ctid FROM {table} WHERE {over} - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED"
                done = await tx.execute(f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({some}))", later, limit)
            gone += int(done.removeprefix("DELETE "))
        return gone
