"""An actor's counters: a fixed number of bytes, a few additions a message."""

from __future__ import annotations

from array import array
from math import ceil

from veza.actors.core.views import Percentiles

WINDOW_S = 60.0  # rates and percentiles speak of the last minutes: what an operator is looking at
BUCKETS = 54  # two to each doubling, from 1 µs to 67 s: 1.5x apart at most, which tells slow from fast
_COUNTS = [0] * (2 * BUCKETS)


def bucket(seconds: float) -> int:
    """Index of the logarithmic bucket of a duration."""
    us = int(seconds * 1e6)
    if us < 2:
        return 2 * max(us, 0)
    bits = us.bit_length()
    return 2 * bits + ((us >> (bits - 2)) & 1) if bits < 27 else BUCKETS - 1


def upper_ms(index: int) -> float:
    """The upper bound of a bucket, in milliseconds."""
    bits, half = divmod(index, 2)
    return (3 + half) * 2.0**bits / 4 / 1000 if bits > 1 else max(bits, 1) / 1000


class Meter:
    """Handling and waiting times in one small array, halved each minute: the last minute weighs most."""

    __slots__ = ("_before", "_counts", "_now", "_since", "_started")

    def __init__(self) -> None:
        self._started = self._since = 0.0
        self._counts: array[int] | None = None  # made at the first message: an idle actor costs nothing
        self._now = self._before = 0  # messages of this window and of the one before

    def record(self, now: float, waited: float, handled: float) -> None:
        """Count one handled message; both durations in seconds."""
        counts = self._counts
        if counts is None or now - self._since >= WINDOW_S:
            counts = self._turn(now)
        self._now += 1
        try:
            counts[bucket(handled)] += 1
            counts[BUCKETS + bucket(waited)] += 1
        except OverflowError:
            self._counts = array("Q", counts)  # more than 65,535 alike within a minute

    def rate(self, now: float) -> float:
        """Messages handled a second over the last minute (the window before counted by its overlap)."""
        self._catch_up(now)
        overlap = 1 - (now - self._since) / WINDOW_S
        return (self._now + overlap * self._before) / min(WINDOW_S, max(1.0, now - self._started))

    def handle_ms(self, now: float) -> Percentiles | None:
        return self._percentiles(now, 0)

    def wait_ms(self, now: float) -> Percentiles | None:
        return self._percentiles(now, BUCKETS)

    def _catch_up(self, now: float) -> None:
        if self._counts is not None and now - self._since >= WINDOW_S:
            self._turn(now)

    def _turn(self, now: float) -> array[int]:
        if self._counts is None:
            self._started = self._since = now
            self._counts = array("H", _COUNTS)
            return self._counts
        windows = int((now - self._since) // WINDOW_S)
        self._since += windows * WINDOW_S
        self._before, self._now = (self._now if windows == 1 else 0), 0
        for index, count in enumerate(self._counts):
            self._counts[index] = count >> windows
        return self._counts

    def _percentiles(self, now: float, offset: int) -> Percentiles | None:
        if self._counts is None:
            return None
        self._catch_up(now)
        counts = self._counts[offset : offset + BUCKETS].tolist()
        total = sum(counts)
        return Percentiles(_quantile(counts, total, 0.5), _quantile(counts, total, 0.99)) if total else None


def _quantile(counts: list[int], total: int, share: float) -> float:
    left = ceil(total * share)
    for index, count in enumerate(counts):
        left -= count
        if left <= 0:
            return upper_ms(index)
    return upper_ms(BUCKETS - 1)
