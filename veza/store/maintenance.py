"""Whether the doors are closed: one row, which the migration has written."""

from __future__ import annotations

from typing import Final

from veza.domain.audit import By
from veza.domain.ids import NewId
from veza.domain.maintenance import Maintenance, MaintenanceChange, changed
from veza.store import audit
from veza.store.bridge import Database, Record
from veza.store.listening import Wakeups

CHANNEL: Final = "maintenance"  # rung by the table's own trigger

# An end that never comes is none. The last moment that there is becomes such on its way in, too.
COLUMNS: Final = """
enabled, message, CASE WHEN isfinite(expected_end) THEN expected_end END AS expected_end, updated_at
"""
READ: Final = f"SELECT {COLUMNS} FROM maintenance"
WRITE: Final = f"""
INSERT INTO maintenance (enabled, message, expected_end, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (one) DO UPDATE SET enabled = $1, message = $2, expected_end = $3, updated_at = $4
RETURNING {COLUMNS}
"""


class MaintenanceRows:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    async def load(self) -> Maintenance:
        """How it stands now."""
        return _maintenance(await self._db.fetchrow(READ))

    async def switch(self, change: MaintenanceChange, by: By) -> Maintenance:
        """Make the change, and write it to the audit; how it stands then. Raises Invalid (`changed`)."""
        async with self._db.transaction() as tx:
            before = _maintenance(await tx.fetchrow(f"{READ} FOR UPDATE"))
            wanted = changed(before, change, await tx.fetchval("SELECT now()"))
            values = (wanted.enabled, wanted.message, wanted.expected_end, wanted.updated_at)
            after = _maintenance(await tx.fetchrow(WRITE, *values))
            details = {"enabled": after.enabled, "message": after.message, "expected_end": after.expected_end}
            await audit.write(tx, self._new_id(), by, "maintenance.switch", "maintenance", details)
        return after

    def listen(self) -> Wakeups:
        """Wake-ups whenever it was switched, by whichever process."""
        return self._db.listen(CHANNEL)


def _maintenance(row: Record | None) -> Maintenance:
    """Without its row, which somebody would have had to delete, it is off."""
    return Maintenance() if row is None else Maintenance(**dict(row))
