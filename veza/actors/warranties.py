"""Minds warranties: tells owners of gear whose warranty ends soon, once for each end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Never, Protocol, assert_never

import structlog
import trio

from veza.actors.core import Actor, Mailbox, Ref, Refuse
from veza.store.errors import StoreError

log = structlog.get_logger()

EVERY_SECONDS: Final = 3600.0  # a warranty ends on a day, in whichever zone its owner lives
AWAY_SECONDS: Final = 60.0
AT_ONCE: Final = 100  # told in one transaction of a tenth of a second


class Rows(Protocol):
    """The rows. `warn` raises StoreError."""

    async def warn(self, limit: int) -> int: ...


@dataclass(frozen=True)
class WarrantiesView:
    """Of how much was told since the last restart."""

    told: int = 0


WarrantiesRef = Ref[Never, WarrantiesView]


class WarrantyMinder(Actor[Never, WarrantiesView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing, it looks for itself")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._told = 0

    async def start(self) -> None:
        self.publish(WarrantiesView())
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            try:
                wait = 0.0 if await self.run_once() == AT_ONCE else EVERY_SECONDS
            except StoreError as away:
                log.warning("warranties_store_away", error=str(away))
                wait = AWAY_SECONDS
            await trio.sleep(wait)

    async def run_once(self) -> int:
        """One transaction's worth; of how much was told. Raises StoreError."""
        told = await self._rows.warn(AT_ONCE)
        if told:
            log.info("warranties_told_of", count=told)
            self._told += told
            self.publish(WarrantiesView(self._told))
        return told
