"""A supervisor's child: the actor itself, when it is restarted, and the record of its restarts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Protocol, TypeVar

import trio

from veza.actors.core.actor import Actor
from veza.actors.core.loop import Cell, World
from veza.actors.core.views import CrashView, NodeView, RestartsView, State

M = TypeVar("M")
S = TypeVar("S")


class Restart(Enum):
    """Which ends bring a child back."""

    PERMANENT = "permanent"  # every one
    TRANSIENT = "transient"  # a crash; finished, it is gone
    TEMPORARY = "temporary"  # none

    def after(self, *, crashed: bool) -> bool:
        """Does such an end bring it back?"""
        return self is Restart.PERMANENT or (self is Restart.TRANSIENT and crashed)


class Strategy(Enum):
    """Who is restarted with a child that crashed."""

    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"  # those started after it
    ONE_FOR_ALL = "one_for_all"
    DYNAMIC = "dynamic"  # itself; and over its limit it is given up alone


@dataclass(frozen=True)
class Intensity:
    """How many restarts of one child its supervisor bears within the window; one more and it gives up.

    Counted per child, unlike OTP: ten healthy actors with a blip each are not one sick actor.
    """

    restarts: int
    per_seconds: float


@dataclass(frozen=True)
class Backoff:
    """Pauses before a restart, in seconds: doubled from `first` to `longest`; `subtree` after a giving up."""

    first: float = 0.1  # a dropped connection is back by then
    longest: float = 5.0
    subtree: float = 30.0  # so that a subtree that fails at once stays under its own supervisor's limit

    def after(self, crashes: int, random: Random) -> float:
        return min(self.first * 2.0 ** (crashes - 1), self.longest) * jitter(random)

    def after_giving_up(self, random: Random) -> float:
        return self.subtree * jitter(random)


def jitter(random: Random) -> float:
    """±25 %: children felled by one outage don't all come back in one instant."""
    return random.uniform(0.75, 1.25)


class Node(Protocol):
    """What a supervisor needs of a child: an actor's cell, or another supervisor."""

    name: str
    path: str
    incarnation: int
    last_crash: CrashView | None

    @property
    def restart(self) -> Restart: ...
    @property
    def state(self) -> State: ...
    @state.setter
    def state(self, state: State) -> None: ...
    def adopt(self, parent: str, world: World) -> None: ...
    async def run(self) -> None: ...
    def retire(self, deadline: float) -> None: ...
    def close(self) -> None: ...
    def crashed(self, crash: Exception) -> CrashView: ...
    def view(self, restarts: RestartsView, most: int | None = None) -> NodeView: ...


class Child(Cell[M, S]):
    """An actor as a supervisor's child. Its `ref` is valid from here on, before the tree starts."""

    __slots__ = ("restart",)

    def __init__(self, name: str, factory: Callable[[], Actor[M, S]], restart: Restart) -> None:
        super().__init__(name, factory)
        self.restart = restart


def permanent(name: str, factory: Callable[[], Actor[M, S]]) -> Child[M, S]:
    """An actor that is always brought back. The factory is called here once, and again for each restart."""
    return Child(name, factory, Restart.PERMANENT)


def transient(name: str, factory: Callable[[], Actor[M, S]]) -> Child[M, S]:
    """An actor that is brought back after a crash and gone when it has finished."""
    return Child(name, factory, Restart.TRANSIENT)


def temporary(name: str, factory: Callable[[], Actor[M, S]]) -> Child[M, S]:
    """An actor that lives once."""
    return Child(name, factory, Restart.TEMPORARY)


class Revival:
    """Slots about to be brought back together, and the scope that calls it off."""

    __slots__ = ("due", "scope", "slots", "under_way")

    def __init__(self, slots: list[Slot], delay: float) -> None:
        self.slots = slots
        self.due = trio.current_time() + delay
        self.scope = trio.CancelScope()
        self.under_way = False  # the backoff is over
        for slot in slots:
            slot.revival = self

    def waiting(self) -> list[Slot]:
        """Those not started yet and not called off."""
        return [slot for slot in self.slots if slot.revival is self]


class Slot:
    """A child's place: what its supervisor remembers of it between incarnations."""

    __slots__ = ("_crashes", "alive", "doomed", "gone", "halting", "intensity", "node", "restarts", "revival", "scope")

    def __init__(self, node: Node, intensity: Intensity) -> None:
        self.node = node
        self.intensity = intensity
        self.restarts = 0
        self.scope: trio.CancelScope | None = None  # of the living incarnation
        self.revival: Revival | None = None  # while it waits to be brought back
        self.alive = False
        self.halting = False  # its end is its supervisor's own doing
        self.gone = False  # for good
        self.doomed = False  # an operator's restart is on its way to it
        self._crashes: deque[float] | None = None

    def count(self, now: float) -> bool:
        """Count an end that wants a restart; False if it is one too many."""
        if self._crashes is None:
            self._crashes = deque(maxlen=self.intensity.restarts + 1)
        self._crashes.append(now)
        return self.in_window(now) <= self.intensity.restarts

    def in_window(self, now: float) -> int:
        return sum(now - at < self.intensity.per_seconds for at in self._crashes or ())

    def record(self, now: float) -> RestartsView:
        left = max(0.0, self.revival.due - now) if self.revival is not None and self.node.incarnation else None
        return RestartsView(self.restarts, self.in_window(now), self.intensity.restarts, left)

    def view(self, now: float, most: int | None = None) -> NodeView:
        return self.node.view(self.record(now), most)
