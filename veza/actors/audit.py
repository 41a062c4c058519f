"""Writes what requests did to the audit, many rows at a time, and minds its months.

A finished request leaves its row in the outbox, and the keeper takes it from there. The outbox outlives the keeper: a
row leaves it when the database has it, so a crash loses none, and none is written twice, since its id was made with
it. A request gets a place for its row before it is let in; when there is none, it is told to come again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import Final, Never, Protocol, assert_never

import structlog
import trio

from veza.actors.core import Actor, Mailbox, Ref, Refuse
from veza.domain.audit import Entry
from veza.store.audit import Unwritable
from veza.store.errors import StoreError

log = structlog.get_logger()

PLACES: Final = 10_000
"""Some 8 MB, and minutes of a database that is away: what comes then mostly fails by itself, and has a row all the
same. More would be lost at once if the process were killed."""

WINDOW_SECONDS: Final = 0.25  # with the write itself, a kill loses less than half a second
BATCH: Final = 500  # rows of one statement of some 20 ms
AWAY_SECONDS: Final = 0.5  # until a database that was away is tried again: rows wait meanwhile
LAST_SECONDS: Final = 2.0  # for what is left at the end, of the six that all actors have
LAST_TRIES_APART: Final = 0.1

EVERY_SECONDS: Final = 3600.0  # months are made two ahead: any hour of them will do
MONTHS_AWAY_SECONDS: Final = 60.0


class Outbox:
    """Rows between the edge and the keeper: bounded, synchronous, of one process."""

    def __init__(self, places: int = PLACES) -> None:
        self.dropped = 0
        """Rows that found no place, or that the table did not take."""
        self._places = places
        self._reserved = 0
        self._rows: deque[Entry] = deque()
        self._awaited = 0
        self._reached = trio.Event()

    @property
    def waiting(self) -> int:
        return len(self._rows)

    @property
    def waiting_since(self) -> datetime | None:
        """When the oldest row that waits was made; None if none does."""
        return self._rows[0].at if self._rows else None

    @property
    def full(self) -> bool:
        return len(self._rows) + self._reserved >= self._places

    def reserve(self) -> bool:
        """A place for the row of a request that is let in; whoever got one gives it back with ``release``."""
        if self.full:
            return False
        self._reserved += 1
        return True

    def release(self) -> None:
        self._reserved -= 1

    def add(self, entry: Entry) -> None:
        """Never refused right after a ``release``. Without a place for it, the row is dropped, counted and logged."""
        if self.full:
            self.drop(entry, "there was no place for it")
            return
        self._rows.append(entry)
        if len(self._rows) >= self._awaited:
            self._reached.set()

    def drop(self, entry: Entry, why: str) -> None:
        """Give a row up, loudly."""
        self.dropped += 1
        log.error(
            "audit_entry_dropped",
            why=why,
            action=entry.action,
            status=entry.status,
            user=entry.user_id and str(entry.user_id),
            of_request=entry.request_id,
            dropped=self.dropped,
        )

    def first(self, count: int) -> list[Entry]:
        """The oldest rows, which stay where they are."""
        return list(islice(self._rows, count))

    def done(self, count: int) -> None:
        """The oldest rows need no place any more."""
        for _ in range(count):
            self._rows.popleft()

    async def reach(self, count: int) -> None:
        """Wait until so many rows are there. For one task at a time."""
        if len(self._rows) < count:
            self._awaited, self._reached = count, trio.Event()
            await self._reached.wait()


class Rows(Protocol):
    """`append` raises StoreError, and Unwritable for rows among which is one that can't be written."""

    async def append(self, entries: Sequence[Entry]) -> None: ...


@dataclass(frozen=True)
class AuditView:
    """``written`` since the last restart, ``dropped`` since the process began; ``waiting`` as of the last write."""

    waiting: int = 0
    written: int = 0
    dropped: int = 0
    store_away: bool = False


AuditRef = Ref[Never, AuditView]


class AuditKeeper(Actor[Never, AuditView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing: rows wait in its outbox, which outlives it")

    def __init__(self, rows: Rows, outbox: Outbox) -> None:
        self._rows = rows
        self._outbox = outbox
        self._writing = trio.Lock()
        self._written = 0

    async def start(self) -> None:
        self._show()
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def stop(self) -> None:
        """Write what is left, which is all of it where the database takes it: nothing comes after the drain."""
        try:
            with trio.move_on_after(LAST_SECONDS):
                while self._outbox.waiting:
                    if not await self._try():
                        await trio.sleep(LAST_TRIES_APART)
        finally:
            if self._outbox.waiting:
                log.error("audit_entries_lost", count=self._outbox.waiting)

    async def _work(self) -> None:
        while True:
            await self._outbox.reach(1)
            with trio.move_on_after(WINDOW_SECONDS):
                await self._outbox.reach(BATCH)
            await self.unpaused()
            if not await self._try():
                await trio.sleep(AWAY_SECONDS)

    async def _try(self) -> bool:
        """Write a batch; whether the database took it."""
        try:
            await self.run_once()
        except StoreError as away:
            self._show(store_away=True)
            log.warning("audit_store_away", waiting=self._outbox.waiting, error=str(away))
            return False
        return True

    async def run_once(self) -> int:
        """Write the oldest rows; how many left the outbox. Raises StoreError."""
        async with self._writing:  # the last batches are written while the loop may have one in hand
            batch = self._outbox.first(BATCH)
            if batch:
                await self._write(batch)
                self._show()
            return len(batch)

    async def _write(self, batch: Sequence[Entry]) -> None:
        try:
            await self._rows.append(batch)
        except Unwritable as odd:
            if len(batch) == 1:
                self._outbox.drop(batch[0], f"it can't be written: {odd}")
                self._outbox.done(1)
                return
            for entry in batch:  # one such row must not hold up the others for ever
                await self._write([entry])
        else:
            self._outbox.done(len(batch))
            self._written += len(batch)

    def _show(self, *, store_away: bool = False) -> None:
        self.publish(AuditView(self._outbox.waiting, self._written, self._outbox.dropped, store_away))


# -- months ------------------------------------------------------------------------------------------------------------


class Months(Protocol):
    """Both raise StoreError, and leave it to another process that is at it."""

    async def make_months(self) -> int: ...
    async def prune(self, retention_days: int) -> list[date]: ...


@dataclass(frozen=True)
class MonthsView:
    """Of how many looks, and how many months they dropped since the last restart."""

    looks: int = 0
    dropped: int = 0


MonthsRef = Ref[Never, MonthsView]


class MonthMinder(Actor[Never, MonthsView]):
    """Makes the audit's months before they begin, and drops those that have been over for long enough."""

    mailbox = Mailbox(1, full=Refuse, why="it is told nothing, it looks for itself")

    def __init__(self, months: Months, retention_days: int) -> None:
        self._months = months
        self._retention_days = retention_days

    async def start(self) -> None:
        self.publish(MonthsView())
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            wait = EVERY_SECONDS
            try:
                await self.run_once()
            except StoreError as away:
                log.warning("audit_months_not_minded", error=str(away))
                wait = MONTHS_AWAY_SECONDS
            await trio.sleep(wait)

    async def run_once(self) -> MonthsView:
        """One look. Raises StoreError."""
        moved = await self._months.make_months()
        if moved:
            log.warning("audit_entries_had_no_month", moved=moved)
        gone = await self._months.prune(self._retention_days)
        if gone:
            log.info("audit_months_dropped", months=[f"{month:%Y-%m}" for month in gone])
        view = self.snapshot
        self.publish(MonthsView(view.looks + 1, view.dropped + len(gone)))
        return self.snapshot
