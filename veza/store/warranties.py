"""Warranties that end soon: told to their owners once, in the transaction that notes it."""

from __future__ import annotations

from typing import Final

from veza.domain.gear import WARNED_DAYS, warranty_news
from veza.domain.ids import NewId
from veza.store.bridge import Database
from veza.store.notifications import notify

# Several processes share them out. In the owners' order, as each of them is told under a lock of their own.
ENDING: Final = f"""
UPDATE gear SET warned_of = gear.warranty_expires_on FROM (
    SELECT id FROM gear
    WHERE status = 'active' AND warned_of IS DISTINCT FROM warranty_expires_on
      AND warranty_expires_on BETWEEN current_date AND current_date + {WARNED_DAYS}
    ORDER BY warranty_expires_on, id LIMIT $1 FOR UPDATE SKIP LOCKED
) AS ending WHERE gear.id = ending.id
RETURNING gear.id, gear.owner_id, gear.name, gear.warranty_expires_on
"""


class Warranties:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    async def warn(self, limit: int) -> int:
        """Tell the owners of at most ``limit`` things whose warranty ends soon; of how many they were told."""
        async with self._db.transaction() as tx:
            ending = sorted(await tx.fetch(ENDING, limit), key=lambda row: (row["owner_id"], row["id"]))
            for row in ending:
                news = warranty_news(row["id"], row["name"], row["warranty_expires_on"])
                await notify(tx, self._new_id(), row["owner_id"], news)
        return len(ending)
