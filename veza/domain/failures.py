"""Counting what somebody fails at, to hear them less often once it is too much."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import ceil
from typing import Final

MOST: Final = 10_000  # who is remembered, at some 200 bytes each; the one who failed longest ago is forgotten first


class Failures:
    """At most ``limit`` failures of one kind of asker within ``seconds``. Times are seconds of one clock."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._of: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # since when, and how many

    def note(self, who: Hashable, now: float) -> None:
        since, count = self._of.pop(who, (now, 0))
        self._of[who] = (since, count + 1) if now - since < self._seconds else (now, 1)
        if len(self._of) > MOST:
            self._of.popitem(last=False)

    def wait(self, who: Hashable, now: float) -> int:
        """For how many whole seconds they are not heard; 0 if they are."""
        since, count = self._of.get(who, (now, 0))
        left = self._seconds - (now - since)
        return ceil(left) if count >= self._limit and left > 0 else 0
