"""The janitor: removes what nothing names any more from the store of objects, and rows whose time is over.

Whatever changes rows leaves the objects they named where they are. Each hour the janitor looks at everything that is
there, notes what no row names, and removes what was noted a grace ago and is still named by none. Several processes
may do so at once: what one has removed, the other finds gone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Never, Protocol, assert_never

import structlog
import trio

from veza.actors.core import Actor, Mailbox, Ref, Refuse
from veza.domain.errors import Unavailable
from veza.domain.ids import Clock
from veza.gateways.objects import KeptObject
from veza.store.errors import StoreError

log = structlog.get_logger()

FIRST_SECONDS: Final = 60.0  # a start has other things to do
EVERY_SECONDS: Final = 3600.0  # a million objects are a minute's look on a disk, two in a bucket
AT_ONCE: Final = 1000  # keys in a statement of some 10 ms
UNFINISHED: Final = timedelta(days=1)  # an upload may last an hour; nobody goes on with one of yesterday


class Rows(Protocol):
    """`veza.store.orphans.Orphans`. Every method raises StoreError."""

    async def note(self, keys: Sequence[str]) -> int: ...
    async def due(self, grace: timedelta, limit: int, after: str = "") -> list[str]: ...
    async def forget(self, keys: Sequence[str]) -> None: ...
    async def prune(self, limit: int) -> int: ...


class Exports(Protocol):
    """Lets go of archives that have expired. Raises StoreError."""

    async def expire(self, now: datetime) -> int: ...


class Store(Protocol):
    """The store of objects, as far as it is tidied. Every method raises Unavailable."""

    def kept(self) -> AsyncGenerator[Sequence[KeptObject], None]: ...
    async def remove(self, key: str, *, put_before: datetime) -> bool: ...
    async def sweep(self, begun_before: datetime) -> int: ...


@dataclass(frozen=True)
class JanitorView:
    """What was done since the last restart. ``objects``: how many there were at the last look."""

    rounds: int = 0
    objects: int = 0
    noted: int = 0
    removed: int = 0
    swept: int = 0
    pruned: int = 0


JanitorRef = Ref[Never, JanitorView]


class Janitor(Actor[Never, JanitorView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing, it looks for itself")

    def __init__(self, rows: Rows, exports: Exports, objects: Store, clock: Clock, grace: timedelta) -> None:
        self._rows = rows
        self._exports = exports
        self._objects = objects
        self._clock = clock
        self._grace = grace
        self._view = JanitorView()

    async def start(self) -> None:
        self.publish(self._view)
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def _work(self) -> None:
        await trio.sleep(FIRST_SECONDS)
        while True:
            await self.unpaused()
            try:
                await self.run_once()
            except (StoreError, Unavailable) as away:
                log.warning("janitor_round_cut_short", error=str(away))  # the next begins anew
            self.publish(self._view)
            await trio.sleep(EVERY_SECONDS)

    async def run_once(self) -> JanitorView:
        """One round. Raises StoreError, Unavailable."""
        before = self._view
        await self._prune()
        self._count(pruned=await self._exports.expire(self._clock()))
        await self._look()
        await self._remove()
        self._count(swept=await self._objects.sweep(self._clock() - UNFINISHED), rounds=1)
        if (self._view.removed, self._view.swept) != (before.removed, before.swept):
            gone, swept = self._view.removed - before.removed, self._view.swept - before.swept
            log.info("objects_removed", objects=gone, unfinished=swept)
        return self._view

    async def _prune(self) -> None:
        while gone := await self._rows.prune(AT_ONCE):
            self._count(pruned=gone)

    async def _look(self) -> None:
        """Note what no row names, of all that is there."""
        seen = 0
        async with aclosing(self._objects.kept()) as pages:
            async for page in pages:
                seen += len(page)
                for start in range(0, len(page), AT_ONCE):
                    keys = [each.key for each in page[start : start + AT_ONCE]]
                    self._count(noted=await self._rows.note(keys))
        self._view = replace(self._view, objects=seen)

    async def _remove(self) -> None:
        """Remove what was noted long enough ago. What was put again since is about to be named."""
        last = ""
        while keys := await self._rows.due(self._grace, AT_ONCE, last):
            last = keys[-1]
            put_before = self._clock() - self._grace
            gone = [key for key in keys if await self._objects.remove(key, put_before=put_before)]
            await self._rows.forget(gone)
            self._count(removed=len(gone))

    def _count(self, **more: int) -> None:
        self._view = replace(self._view, **{name: getattr(self._view, name) + by for name, by in more.items()})
