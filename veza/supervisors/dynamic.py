"""Children started on demand, one a key: live sessions, exports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from itertools import islice
from typing import Generic, TypeVar

import structlog
import trio

from veza.actors.core.actor import Actor
from veza.actors.core.errors import Misuse, Overloaded, Stopped
from veza.actors.core.loop import World
from veza.actors.core.ref import INSIDE, Ref
from veza.actors.core.views import RestartsView, State, SupervisorView
from veza.supervisors.child import Backoff, Child, Intensity, Restart, Slot, Strategy
from veza.supervisors.supervisor import DEFAULT_BACKOFF, DEFAULT_INTENSITY, NO_RESTARTS, Supervisor

log = structlog.get_logger()

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")
S = TypeVar("S")

STOP_WITHIN_S = 5.0  # longer than a message should take, shorter than anyone waits for a stop


class _Entry(Generic[K, M, S]):
    """A key and what stands for it. It is the child's factory too: with 10,000 children each object counts."""

    __slots__ = ("_make", "child", "key", "slot")

    def __init__(self, key: K, make: Callable[[K], Actor[M, S]], restart: Restart, intensity: Intensity) -> None:
        self.key = key
        self._make = make
        self.child = Child(str(key), self, restart)
        self.slot = Slot(self.child, intensity)

    def __call__(self) -> Actor[M, S]:
        return self._make(self.key)


class Dynamic(Supervisor, Generic[K, M, S]):
    """Children of one kind, made by a factory from their keys (whose `str` is the last part of their path).

    A child over its limit is given up alone: its mailbox answers Stopped, its siblings live on. If this
    supervisor is itself restarted by its own, it brings its children back with their mailboxes.
    """

    def __init__(
        self,
        name: str,
        factory: Callable[[K], Actor[M, S]],
        limit: int,
        kind: Restart,
        intensity: Intensity,
        backoff: Backoff,
    ) -> None:
        super().__init__(name, Strategy.DYNAMIC, (), intensity, backoff)
        self._factory = factory
        self._limit = limit
        self._kind = kind
        self._entries: dict[str, _Entry[K, M, S]] = {}
        self._open = False  # between its tree's start and the final stop
        self.gave_up = 0

    # --- for those who hold it

    def start(self, key: K) -> Ref[M, S]:
        """The child of this key, started if it isn't there; its mailbox is open at once.

        Raises Overloaded at the limit, Stopped while no tree runs it, and whatever the factory raises.
        """
        entry = self._entry(key)
        if entry is not None:
            return entry.child.ref
        if not self._open:
            raise Stopped(self.path)
        if len(self._entries) >= self._limit:
            raise Overloaded(self.path)
        entry = _Entry(key, self._factory, self._kind, self._intensity)
        entry.child.adopt(self.path, self._world)
        self._entries[entry.child.path] = entry
        if self._running:  # else: it is backing off, and starts what is here when it comes back
            self._launch(entry.slot)
        return entry.child.ref

    def get(self, key: K) -> Ref[M, S] | None:
        """The child of this key, if it is there."""
        entry = self._entry(key)
        return None if entry is None else entry.child.ref

    def keys(self) -> list[K]:
        """Whose children are there, in start order."""
        return [entry.key for entry in self._entries.values()]

    def children(self) -> list[tuple[K, Ref[M, S]]]:
        """The children that are there, by key, in start order."""
        return [(entry.key, entry.child.ref) for entry in self._entries.values()]

    async def stop(self, key: K, *, within: float = STOP_WITHIN_S) -> None:
        """Stop a child in order, cut it short after so many seconds; returns when it is gone.

        Raises Misuse from inside that child, which would wait for itself: it calls `finish()`.
        """
        entry = self._entry(key)
        if entry is None:
            return
        if INSIDE.get() == entry.child.path:
            raise Misuse(f"{entry.child.path} stops itself")
        with trio.CancelScope(shield=True):  # half a stop would leave it neither here nor gone
            self._call_off(entry.slot)
            await self._retire(entry.slot, trio.current_time() + within)
            self._gone(entry.slot)

    def _entry(self, key: K) -> _Entry[K, M, S] | None:
        return self._entries.get(f"{self.path}/{key}")

    # --- as a supervisor

    def adopt(self, parent: str | None, world: World) -> None:
        super().adopt(parent, world)
        self._open = True

    def slots(self) -> Collection[Slot]:
        return [entry.slot for entry in self._entries.values()]

    def close(self) -> None:
        self._open = False
        super().close()

    def view(self, restarts: RestartsView = NO_RESTARTS, most: int | None = None) -> SupervisorView:
        return replace(super().view(restarts, most), limit=self._limit, gave_up=self.gave_up)

    def _shown(self, most: int | None) -> Collection[Slot]:
        return [entry.slot for entry in islice(self._entries.values(), most)]

    def _towards(self, path: str) -> Slot | None:
        entry = self._entries.get(path)
        return None if entry is None else entry.slot

    async def _over_limit(self, slot: Slot, crash: Exception | None) -> None:
        log.error("actor_given_up", path=slot.node.path)
        self.gave_up += 1
        self.last_crash = slot.node.last_crash
        self._gone(slot)

    def _gone(self, slot: Slot) -> None:
        entry = self._entries.get(slot.node.path)
        if entry is not None and entry.slot is slot:  # else: its key is another's by now
            del self._entries[slot.node.path]
        super()._gone(slot)

    async def _stop(self, deadline: float) -> None:
        """All at once: they are peers, none rests on another."""
        self._open = False  # one started now would have nobody to stop it
        self.state = State.STOPPING
        for slot in self.slots():
            self._call_off(slot)
            if slot.alive:
                slot.halting = True
                slot.node.retire(deadline)
        with trio.move_on_at(deadline):
            await self._world.changes.until(lambda: self._alive == 0)
        if self._alive:
            log.warning("actors_cut_short", path=self.path, how_many=self._alive)
        await self._halt(list(self.slots()))
        self.close()


def dynamic(
    name: str,
    factory: Callable[[K], Actor[M, S]],
    *,
    limit: int,
    restart: Restart = Restart.TRANSIENT,
    intensity: Intensity = DEFAULT_INTENSITY,
    backoff: Backoff = DEFAULT_BACKOFF,
) -> Dynamic[K, M, S]:
    """A supervisor whose children come by key, at most `limit` of them; transient unless said otherwise."""
    return Dynamic(name, factory, limit, restart, intensity, backoff)
