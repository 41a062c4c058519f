"""Which features are switched on, as the rows say at the moment of asking."""

from __future__ import annotations

from veza.domain.flags import Flag, feature_disabled
from veza.store.bridge import Database


def is_on(flag: Flag) -> str:
    """SQL for whether a feature is on, to ask within another query. One without a row is."""
    return f"coalesce((SELECT enabled FROM feature_flags WHERE name = '{flag}'), true)"


class Flags:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def enabled(self, flag: Flag) -> bool:
        on: bool = await self._db.fetchval(f"SELECT {is_on(flag)}")
        return on

    async def check(self, flag: Flag) -> None:
        """Raises Forbidden (`feature_disabled`) while the feature is switched off."""
        if not await self.enabled(flag):
            raise feature_disabled(flag)
