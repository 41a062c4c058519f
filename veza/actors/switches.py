"""What switches have in common: rows that few change and everybody reads, kept as a snapshot in each process.

A change is answered when this process goes by it. Every other process is rung (LISTEN), and looks at the rows; a poll
stands behind that for a ring that was lost. While the database is away the last snapshot holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Protocol, TypeVar

import structlog
import trio

from veza.actors.core import Actor, Coalesce, Mailbox, Tell
from veza.domain.errors import Refusal
from veza.store.errors import StoreError

log = structlog.get_logger()

POLL_SECONDS: Final = 5.0  # a ring that was lost costs so much
AWAY_SECONDS: Final = 1.0  # until what could not be read is tried again
LOAD_SECONDS: Final = 3.0  # a row or a few: longer is a server that hangs, and somebody may be asking meanwhile

M = TypeVar("M")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class Rows(Protocol[S_co]):
    """The rows. `load` raises StoreError; each wake-up may be followed by news, the first is of listening itself."""

    async def load(self) -> S_co: ...
    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]: ...


@dataclass(frozen=True, slots=True)
class Reload(Tell):
    """The rows may say something else by now."""


Callback = Callable[[], None]


def nothing_follows() -> None:
    """For a switch that nobody needs to be told of."""


class Keeper(Actor[M | Reload, S], Generic[M, S]):
    """Keeps one such snapshot. A subclass knows its changes."""

    mailbox = Mailbox(16, full=Coalesce, why="looks fold into one; people click, and a queue of sixteen is a mistake")
    what: ClassVar[str]
    """What is switched, as it stands in the log."""

    def __init__(self, rows: Rows[S], changed: Callback = nothing_follows) -> None:
        """``changed`` is called when the snapshot is another than before, its first included: it only rings."""
        self._rows = rows
        self._changed = changed
        self._away = False

    async def start(self) -> None:
        """From the rows, or from what was known before if they can't be read now."""
        await self.reload()
        self.nursery.start_soon(self._listen)
        self.nursery.start_soon(self._poll)

    async def reload(self) -> None:
        """Go by what the rows say now."""
        try:
            with trio.fail_after(LOAD_SECONDS):
                found = await self._rows.load()
        except (StoreError, trio.TooSlowError) as away:
            self._away = True
            log.warning("switch_store_away", what=self.what, error=str(away) or type(away).__name__)
        else:
            self._away = False
            self._go_by(found)

    async def keep(self, change: Awaitable[S]) -> S | StoreError | Refusal:
        """Make a change, and go by what it came to. One that failed may have been made: the rows will tell.

        One that was refused was not made.
        """
        try:
            self._go_by(await change)
        except StoreError as failed:
            self.ref.tell(Reload())
            return failed
        except Refusal as refused:
            return refused
        return self.snapshot

    def _go_by(self, found: S) -> None:
        if found != self.cell.snapshot:
            self.publish(found)
            log.info("switched", what=self.what, to=self.told(found))
            self._changed()

    def told(self, found: S) -> object:
        """The snapshot in the log's words."""
        return found

    async def _listen(self) -> None:
        async with self._rows.listen() as bells:
            async for _ in bells:
                self.ref.tell(Reload())

    async def _poll(self) -> None:
        while True:
            await trio.sleep(AWAY_SECONDS if self._away else POLL_SECONDS)
            self.ref.tell(Reload())


def known(answer: S | StoreError | Refusal) -> S:
    """The snapshot that a change was answered with. Raises the StoreError or the Refusal that came of it instead."""
    if isinstance(answer, StoreError | Refusal):
        raise answer
    return answer
