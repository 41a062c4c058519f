"""Which features are switched on, as rows: one for each flag that was ever thrown."""

from __future__ import annotations

from typing import Final

from veza.domain.audit import By
from veza.domain.flags import Flag, Flags, Switch
from veza.domain.ids import NewId
from veza.store import audit
from veza.store.bridge import Database, Transaction
from veza.store.listening import Wakeups

CHANNEL: Final = "feature_flags"  # rung by the table's own trigger

THROW: Final = """
INSERT INTO feature_flags (name, enabled) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET enabled = $2, updated_at = now()
"""


def is_on(flag: Flag) -> str:
    """SQL for whether a feature is on, to ask within a transaction. One without a row is."""
    return f"coalesce((SELECT enabled FROM feature_flags WHERE name = '{flag}'), true)"


class FlagRows:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    async def load(self) -> Flags:
        """How all flags stand now."""
        return await _read(self._db)

    async def switch(self, flag: Flag, enabled: bool, by: By) -> Flags:
        """Throw a switch, and write that to the audit; how all flags stand then."""
        async with self._db.transaction() as tx:
            await tx.execute(THROW, flag, enabled)
            await audit.write(tx, self._new_id(), by, "flag.switch", f"feature_flags/{flag}", {"enabled": enabled})
            return await _read(tx)

    def listen(self) -> Wakeups:
        """Wake-ups whenever a switch was thrown, by whichever process."""
        return self._db.listen(CHANNEL)


async def _read(queries: Database | Transaction) -> Flags:
    """Names that are no flags of this version are another's, and passed over."""
    rows = await queries.fetch(
        "SELECT name, enabled, updated_at FROM feature_flags WHERE name = ANY($1)", list(map(str, Flag))
    )
    return Flags.of(Switch(Flag(row["name"]), row["enabled"], row["updated_at"]) for row in rows)
