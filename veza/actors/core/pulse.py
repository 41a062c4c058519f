"""The event loop's pulse: a beat at a steady pace, and how late each came.

It is the one measure of the loop's lag: probes, metrics and the loop's watch all go by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor, inf
from time import perf_counter
from typing import Final

import trio

BEAT_SECONDS: Final = 0.02  # fifty a second cost an idle core a hundredth, and a tenth of a second is five of them
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets that lags are counted in, in seconds: from the poll's own grain to what serves nobody."""


class Pulse:
    """Beats are written by the loop's thread alone, stalls by that of its watch; anybody reads."""

    def __init__(self) -> None:
        self.last: tuple[int, float] = (0, inf)
        """How many beats there were, and when the next is due (`time.perf_counter`): one value, so that both agree."""
        self.watched = False
        """Whether something looks at what the loop is stuck in."""
        self.stuck = self.crowded = 0
        """Stalls so far: of one task that kept the loop, and of many that did together."""
        self.stalled_seconds = 0.0
        self.counts = [0] * (len(BOUNDS) + 1)
        """Lags by bucket; the last is for those over all bounds."""
        self.seconds = 0.0
        """What the lags add up to."""
        self._lag = 0.0

    @property
    def lag(self) -> float:
        """Seconds by which the last beat was late, or by which the next one is already."""
        return max(self._lag, perf_counter() - self.last[1])

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat for as long as the block runs.

        As a task of the system's, so that it goes on while what is around the block is being cancelled.
        """
        scope = trio.CancelScope()
        self.last = (self.last[0], perf_counter() + BEAT_SECONDS)  # the first may be late already
        trio.lowlevel.spawn_system_task(self._beat, scope, name="the event loop's pulse")
        try:
            yield
        finally:
            scope.cancel()
            self.last = (self.last[0], inf)

    async def _beat(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await trio.sleep(BEAT_SECONDS)
                now = perf_counter()
                self.felt(now - self.last[1])
                self.last = (self.last[0] + 1, now + BEAT_SECONDS)

    def felt(self, late: float) -> None:
        """Count a beat that came ``late`` seconds after it was due.

        Those that were left out meanwhile count as well, each as late as it would have been: a second in which nobody
        is served is fifty waits and not one, or the lag's percentiles would speak well of it.
        """
        self._lag = late = max(late, 0.0)
        beats = 1 + int(late / BEAT_SECONDS)
        self.seconds += beats * late - BEAT_SECONDS * beats * (beats - 1) / 2
        lowest = late - BEAT_SECONDS * (beats - 1)
        for index in range(bisect_left(BOUNDS, lowest), bisect_left(BOUNDS, late)):
            within = 1 + floor((BOUNDS[index] - lowest) / BEAT_SECONDS)
            self.counts[index] += within
            beats -= within
            lowest += BEAT_SECONDS * within
        self.counts[bisect_left(BOUNDS, late)] += beats
