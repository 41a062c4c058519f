"""A bounded set of wires, handed out in the order they were asked for.

A slot is a wire or the right to open one. It is always in exactly one place: idle, with a task, being cleaned, or free;
so a cancelled waiter, a failed connect and a dead connection each give theirs back, and none is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import outcome
import trio

from veza.store.errors import DatabaseUnavailable
from veza.store.wire import Loop, Wire

WAITING_LIMIT: Final = 256  # more than this behind one pool cannot be served within any deadline of ours


@dataclass(frozen=True)
class PoolStatistics:
    """Counts of one moment (size, idle, in_use, waiting) and totals since the start."""

    size: int
    idle: int
    in_use: int
    waiting: int
    acquired_total: int
    cleaned_total: int
    replaced_total: int


class Pool:
    """Wires for trio tasks. `connect` opens one or raises DatabaseUnavailable."""

    def __init__(self, loop: Loop, connect: Callable[[], Awaitable[Wire]], *, size: int, patience: float) -> None:
        self._loop = loop
        self._connect = connect
        self._size = size
        self._patience = patience
        self._taken = 0
        self._idle: deque[Wire] = deque()
        self._wires: set[Wire] = set()
        self._waiters: dict[trio.lowlevel.Task, float] = {}  # until when; a FIFO that can lose one from its middle
        self._timed = False
        self._cleaning: set[object] = set()  # asyncio keeps only weak references to its tasks
        self._quiet = trio.Event()
        self._closed = False
        self._acquired = self._cleaned = self._replaced = 0

    async def acquire(self) -> Wire:
        """A fit wire, first come first served. Raises DatabaseUnavailable when none comes within the patience."""
        await trio.lowlevel.checkpoint_if_cancelled()  # what has expired does not start
        self._acquired += 1
        while self._idle:  # then nobody waits: a wire is only idle when no one wanted it
            wire = self._idle.pop()
            if wire.is_fit():
                return wire
            self._discard(wire)
        if self._closed:
            raise DatabaseUnavailable("the pool is closed")
        if self._taken < self._size:
            self._taken += 1
        elif (handed := await self._wait_in_line()) is not None:
            return handed
        return await self._fill_slot(self._connect)

    async def acquire_first(self, connect: Callable[[], Awaitable[Wire]]) -> Wire:
        """The first wire of a new pool, by a more patient `connect`."""
        self._taken += 1
        return await self._fill_slot(connect)

    async def _wait_in_line(self) -> Wire | None:
        """A wire, or None: the right to open one."""
        if len(self._waiters) >= WAITING_LIMIT:
            raise DatabaseUnavailable("too many are waiting for a connection")
        task = trio.lowlevel.current_task()
        self._waiters[task] = trio.current_time() + self._patience
        if not self._timed:
            self._timed = True
            self._loop.call_later(self._patience, self._turn_away_late)

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            return trio.lowlevel.Abort.SUCCEEDED

        handed: Wire | None = await trio.lowlevel.wait_task_rescheduled(leave)
        return handed

    def _turn_away_late(self) -> None:
        """All wait equally long, so one timer for the first in line does for all, and a waiter costs no scope."""
        now = trio.current_time()
        late = f"no connection came free within {self._patience:g} s"
        while self._waiters and (left := next(iter(self._waiters.values())) - now) <= 0:
            trio.lowlevel.reschedule(self._next_waiter(), outcome.Error(DatabaseUnavailable(late)))
        self._timed = bool(self._waiters)
        if self._timed:
            self._loop.call_later(left, self._turn_away_late)

    async def _fill_slot(self, connect: Callable[[], Awaitable[Wire]]) -> Wire:
        try:
            wire = await connect()
        except DatabaseUnavailable as away:
            if not self._wires:
                self._turn_away(away)  # no one is about to release a wire, so waiting longer is in vain
            self._free_slot()
            raise
        except BaseException:
            self._free_slot()
            raise
        self._wires.add(wire)
        return wire

    def release(self, wire: Wire) -> None:
        """Take back a wire that did its work undisturbed. Whether it is fit is asked when the next task gets it."""
        if self._closed:
            self._discard(wire)
        elif not self._waiters:
            self._idle.append(wire)
        elif wire.is_fit():
            trio.lowlevel.reschedule(self._next_waiter(), outcome.Value(wire))
        else:
            self._discard(wire)

    def renew(self, wire: Wire) -> None:
        """Take back a wire after a cancel or an error; it is cleaned beside the caller, who need not wait."""
        cleaning = self._loop.create_task(self._clean(wire))
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaning.discard)

    async def renew_now(self, wire: Wire) -> None:
        """`renew`, waiting until it is done: what the wire had begun is over at the server (or the wire is cut)."""
        with trio.CancelScope(shield=True):
            await self._loop.run_aio_coroutine(self._clean(wire))

    async def _clean(self, wire: Wire) -> None:
        if await wire.clean():
            self._cleaned += 1
            self.release(wire)
        else:
            self._discard(wire)

    def _discard(self, wire: Wire) -> None:
        wire.terminate()
        self._wires.discard(wire)
        self._replaced += 1
        self._free_slot()

    def _free_slot(self) -> None:
        if self._waiters:
            trio.lowlevel.reschedule(self._next_waiter(), outcome.Value(None))
            return
        self._taken -= 1
        if self._taken == 0:
            self._quiet.set()

    def _next_waiter(self) -> trio.lowlevel.Task:
        task = next(iter(self._waiters))
        del self._waiters[task]
        return task

    def _turn_away(self, why: DatabaseUnavailable) -> None:
        while self._waiters:
            trio.lowlevel.reschedule(self._next_waiter(), outcome.Error(DatabaseUnavailable(*why.args)))

    async def close(self, grace: float) -> None:
        """Refuse new work, wait `grace` seconds for what runs, then cut it off. Shield it."""
        self._closed = True
        self._quiet = trio.Event()
        self._turn_away(DatabaseUnavailable("the pool is closed"))
        parting = list(self._idle)
        self._idle.clear()
        await self._loop.run_aio_coroutine(_hang_up(parting))
        for wire in parting:
            self._discard(wire)
        if self._taken:
            with trio.move_on_after(grace):
                await self._quiet.wait()
        for wire in list(self._wires):
            wire.cut()

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            size=self._size,
            idle=len(self._idle),
            in_use=self._taken - len(self._idle),
            waiting=len(self._waiters),
            acquired_total=self._acquired,
            cleaned_total=self._cleaned,
            replaced_total=self._replaced,
        )


async def _hang_up(wires: Iterable[Wire]) -> None:
    await asyncio.gather(*(wire.hang_up() for wire in wires))
