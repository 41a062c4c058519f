"""What operators look at, with the names that people go by: what waits to be paid, what is exported, who is on air."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.exports import Export
from veza.domain.payouts import Transfer
from veza.store.bridge import Database, Queries
from veza.store.exports import COLUMNS as EXPORT_COLUMNS
from veza.store.exports import export_in
from veza.store.payouts import COLUMNS as TRANSFER_COLUMNS
from veza.store.payouts import transfer_in


class Pile(StrEnum):
    """What becomes of a transfer that is not over."""

    DUE = "due"  # it is tried by itself, now or later
    HELD = "held"  # until what holds it is over
    DEAD = "dead"  # it was given up, and waits for an admin


# Each by an index, however much lies there: a week's sales are due at times, and all are held while payouts are off.
PILES: Final[Mapping[Pile, str]] = {
    Pile.DUE: f"""
        (SELECT {TRANSFER_COLUMNS} FROM transfers WHERE claim_id IS NOT NULL ORDER BY claimed_until LIMIT $1)
        UNION ALL
        (SELECT {TRANSFER_COLUMNS} FROM transfers WHERE next_retry_at IS NOT NULL AND status <> 'held'
         ORDER BY next_retry_at, id LIMIT $1)
        LIMIT $1
    """,
    Pile.HELD: f"SELECT {TRANSFER_COLUMNS} FROM transfers WHERE status = 'held' ORDER BY created_at, id LIMIT $1",
    Pile.DEAD: f"""
        SELECT {TRANSFER_COLUMNS} FROM transfers WHERE status = 'failed' AND next_retry_at IS NULL
        ORDER BY created_at, id LIMIT $1
    """,
}

ATTEMPTS: Final = """
SELECT started_at, finished_at, outcome, message FROM transfer_attempts WHERE transfer_id = $1
ORDER BY started_at DESC LIMIT $2
"""

OPEN_EXPORTS: Final = f"""
SELECT {EXPORT_COLUMNS} FROM exports WHERE status IN ('queued', 'running') ORDER BY id LIMIT $1
"""
CLOSED_EXPORTS: Final = f"""
SELECT {EXPORT_COLUMNS} FROM exports WHERE status NOT IN ('queued', 'running') ORDER BY id DESC LIMIT $1
"""

STREAMS: Final = """
SELECT t.id, t.title, u.id AS owner_id, u.username FROM streams t JOIN users u ON u.id = t.owner_id
WHERE t.id = ANY ($1::uuid[])
"""


CALLED: Final = """
SELECT id FROM users WHERE lower(username) = $1 AND erased_at IS NULL
UNION ALL SELECT id FROM users WHERE email = $1 AND erased_at IS NULL LIMIT 1
"""


@dataclass(frozen=True)
class SeenTransfer:
    transfer: Transfer
    seller: str


@dataclass(frozen=True)
class Attempt:
    """One try of a transfer; without an end it is under way, or was cut off."""

    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    message: str | None


@dataclass(frozen=True)
class SeenExport:
    export: Export
    owner: str


@dataclass(frozen=True)
class SeenStream:
    id: UUID
    title: str
    owner_id: UUID
    owner: str


class Operations:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def transfers(self, limit: int) -> dict[Pile, list[SeenTransfer]]:
        """The first of each pile, at most ``limit``: the next to be tried, those that have waited longest."""
        async with self._db.snapshot() as moment:
            found = {pile: [transfer_in(row) for row in await moment.fetch(sql, limit)] for pile, sql in PILES.items()}
            names = await _names(moment, {each.seller_id for pile in found.values() for each in pile})
        return {pile: [SeenTransfer(each, names[each.seller_id]) for each in all_] for pile, all_ in found.items()}

    async def transfer(self, transfer: Transfer, limit: int) -> tuple[SeenTransfer, list[Attempt]]:
        """One with its seller's name, and its latest tries, the newest first."""
        async with self._db.snapshot() as moment:
            names = await _names(moment, {transfer.seller_id})
            rows = await moment.fetch(ATTEMPTS, transfer.id, limit)
        return SeenTransfer(transfer, names[transfer.seller_id]), [Attempt(**dict(row)) for row in rows]

    async def exports(self, limit: int) -> tuple[list[SeenExport], list[SeenExport]]:
        """Those that are not over, the oldest first; and those that are, the newest first."""
        async with self._db.snapshot() as moment:
            going = [export_in(row) for row in await moment.fetch(OPEN_EXPORTS, limit)]
            over = [export_in(row) for row in await moment.fetch(CLOSED_EXPORTS, limit)]
            names = await _names(moment, {each.user_id for each in (*going, *over)})
        seen = [[SeenExport(each, names[each.user_id]) for each in some] for some in (going, over)]
        return seen[0], seen[1]

    async def streams(self, ids: Sequence[UUID]) -> dict[UUID, SeenStream]:
        """Titles and owners of streams, by their ids; what is gone is left out."""
        return {
            row["id"]: SeenStream(row["id"], row["title"], row["owner_id"], row["username"])
            for row in await self._db.fetch(STREAMS, ids)
        }

    async def names(self, ids: Collection[UUID]) -> dict[UUID, str]:
        """What users are called, by their ids; who was never there is left out."""
        return await _names(self._db, ids)

    async def called(self, name: str) -> UUID | None:
        """Whose username or email it is, in whatever case. Who was erased is called nothing any more."""
        found: UUID | None = await self._db.fetchval(CALLED, name.casefold())
        return found


async def _names(queries: Database | Queries, ids: Collection[UUID]) -> dict[UUID, str]:
    rows = await queries.fetch("SELECT id, username FROM users WHERE id = ANY ($1::uuid[])", list(ids))
    return {row["id"]: row["username"] for row in rows}
