"""The lookout: how busy each actor was in the last ten minutes, for whoever looks only now.

Actors keep counts of the last minute alone. Those of dynamic supervisors are left out: thousands may come and go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Never, assert_never

import trio

from veza.actors.core import Actor, ActorView, Mailbox, Refuse, SupervisorView

EVERY_SECONDS: Final = 10.0  # a look takes some 20 µs an actor
POINTS: Final = 60  # ten minutes: how long it takes to be called, and to sit down


@dataclass(frozen=True)
class Point:
    """Of one look: messages a second over the minute before, and the p99 of handling them in milliseconds, if any."""

    rate: float
    p99: float | None


class Trends:
    """The points of each actor by its path, the oldest first. They outlive the lookout's restarts."""

    def __init__(self) -> None:
        self._points: Mapping[str, deque[Point]] = {}
        self.looks = 0
        """How many there were: who has seen one looks again at the next."""

    def note(self, tree: SupervisorView) -> int:
        """Add a point for each actor there is, and forget those that are gone; how many there are."""
        seen = [node for node in tree.walk() if isinstance(node, ActorView)]
        before = self._points
        self._points = {each.path: before.get(each.path) or deque(maxlen=POINTS) for each in seen}
        for each in seen:
            self._points[each.path].append(Point(each.rate_1m, None if each.handle_ms is None else each.handle_ms.p99))
        self.looks += 1
        return len(seen)

    def of(self, path: str) -> tuple[Point, ...]:
        return tuple(self._points.get(path, ()))


@dataclass(frozen=True)
class LookoutView:
    """``actors``: how many there were at the last look."""

    looks: int = 0
    actors: int = 0


class Lookout(Actor[Never, LookoutView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing, it looks for itself")

    def __init__(self, look: Callable[[], SupervisorView], trends: Trends) -> None:
        self._look = look
        self._trends = trends

    async def start(self) -> None:
        self.publish(LookoutView(self._trends.looks))
        self.nursery.start_soon(self._work)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def _work(self) -> None:
        while True:
            await trio.sleep(EVERY_SECONDS)
            await self.unpaused()
            self.run_once()

    def run_once(self) -> LookoutView:
        """One look."""
        actors = self._trends.note(self._look())
        view = LookoutView(self._trends.looks, actors)
        self.publish(view)
        return view
