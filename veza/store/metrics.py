"""What of the platform's work stands where: counts by status, for whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veza.store.bridge import Database, Snapshot
from veza.store.pool import PoolStatistics


@dataclass(frozen=True)
class Standing:
    """``how_many`` are at ``status``; ``amount_cents`` is what they come to, in minor units, where it is money."""

    status: str
    how_many: int
    amount_cents: int = 0


@dataclass(frozen=True)
class Work:
    """What is under way or waits. ``transfers`` are by status, `dead` those that wait for an admin; ``held`` are those
    of them that are held, by why; ``sessions`` are streams on air, by state; ``reports`` wait for an admin."""

    transfers: Sequence[Standing]
    held: Sequence[Standing]
    exports: Sequence[Standing]
    sessions: Sequence[Standing]
    reports: int


# Of what is not over alone, by an index: what was ever paid grows for good.
TRANSFERS: Final = """
SELECT CASE WHEN status = 'failed' AND next_retry_at IS NULL THEN 'dead' ELSE status END AS status,
    count(*) AS how_many, sum(amount_cents)::bigint AS amount_cents
FROM transfers WHERE status IN ('pending', 'processing', 'failed', 'held') GROUP BY 1
"""
HELD: Final = """
SELECT hold_reason AS status, count(*) AS how_many, sum(amount_cents)::bigint AS amount_cents
FROM transfers WHERE status = 'held' GROUP BY 1
"""
EXPORTS: Final = """
SELECT status, count(*) AS how_many, 0 AS amount_cents FROM exports WHERE status IN ('queued', 'running') GROUP BY 1
"""
SESSIONS: Final = """
SELECT state AS status, count(*) AS how_many, 0 AS amount_cents FROM stream_sessions WHERE ended_at IS NULL GROUP BY 1
"""
REPORTS: Final = "SELECT count(*) FROM reports WHERE status = 'pending'"


class Metrics:
    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def pool(self) -> PoolStatistics:
        return self._db.statistics()

    async def work(self) -> Work:
        """How things stand at one moment. Raises StoreError."""
        async with self._db.snapshot() as moment:
            return Work(
                transfers=await _standing(moment, TRANSFERS),
                held=await _standing(moment, HELD),
                exports=await _standing(moment, EXPORTS),
                sessions=await _standing(moment, SESSIONS),
                reports=await moment.fetchval(REPORTS),
            )


async def _standing(moment: Snapshot, sql: str) -> Sequence[Standing]:
    return [Standing(row["status"], row["how_many"], row["amount_cents"]) for row in await moment.fetch(sql)]
