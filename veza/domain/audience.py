"""How many watch: the distinct pollers of each stream within about a minute. An approximation, and told as one."""

from __future__ import annotations

from typing import Final
from uuid import UUID

HALF_SECONDS: Final = 30.0  # two halves make a window: who is in neither has not polled for 30 to 60 seconds
MOST_OF_A_STREAM: Final = 100_000  # at some 100 bytes each, 10 MB; above that the count stands
MOST: Final = 1_000_000  # of all streams


class Audience:
    """Counts by an opaque number for each viewer. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._rooms: dict[UUID, _Room] = {}
        self._size = 0

    def see(self, stream_id: UUID, viewer: int, now: float) -> None:
        """One of a stream's viewers polled."""
        room = self._rooms.get(stream_id)
        if room is None:
            room = self._rooms[stream_id] = _Room(now)
        before = len(room)
        room.turn(now)
        if len(room) < MOST_OF_A_STREAM and self._size < MOST:
            room.see(viewer)
        self._size += len(room) - before

    def count(self, stream_id: UUID, now: float) -> int:
        room = self._rooms.get(stream_id)
        if room is None:
            return 0
        before = len(room)
        room.turn(now)
        self._size += len(room) - before
        return len(room)

    def counts(self, now: float) -> dict[UUID, int]:
        """Every stream that is watched. What nobody watches any more is forgotten."""
        found = {stream_id: self.count(stream_id, now) for stream_id in self._rooms}
        for stream_id, viewers in found.items():
            if not viewers:
                del self._rooms[stream_id]
        return {stream_id: viewers for stream_id, viewers in found.items() if viewers}


class _Room:
    __slots__ = ("_before", "_lately", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._lately: set[int] = set()
        self._before: set[int] = set()  # seen in the half before, and not in this one

    def __len__(self) -> int:
        return len(self._lately) + len(self._before)

    def turn(self, now: float) -> None:
        halves = (now - self._since) // HALF_SECONDS
        if halves >= 1:
            self._before = self._lately if halves < 2 else set()
            self._lately = set()
            self._since += halves * HALF_SECONDS

    def see(self, viewer: int) -> None:
        self._before.discard(viewer)
        self._lately.add(viewer)
