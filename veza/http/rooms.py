"""Room for what somebody uploads: what their rows leave of the quota, less what else of theirs is coming in.

The rows decide (`veza.store.cloud`): nothing is kept above the quota, whatever runs in parallel and wherever. This
bounds what lies on the disk until they do, and refuses what can't be kept as soon as that is known. It is memory of one
process, so a kill leaves nothing of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from veza.domain.cloud import no_room

Look = Callable[[], Awaitable[int]]
"""Bytes that there is room for, as the rows are now."""


@dataclass
class Coming:
    """What of one account comes in here: how many uploads, and their bytes so far; and the bytes that became rows."""

    uploads: int = 0
    size_bytes: int = 0
    kept_bytes: int = 0


class Room:
    """One upload's. ``announced`` is what it has at least, by its own word."""

    def __init__(self, coming: Coming, look: Look, announced: int) -> None:
        self._coming = coming
        self._look = look
        self._announced = announced
        self._taken = self._counted = 0
        self._left = 0  # when we looked, at which moment so much had become rows
        self._seen = 0

    async def look(self) -> None:
        """Look how much is left by now. Raises TooLarge (`quota_exceeded`)."""
        while True:
            self._seen = before = self._coming.kept_bytes
            self._left = await self._look()
            if self._fits():
                return
            if before == self._coming.kept_bytes:  # else what was kept meanwhile may count twice
                self.ended()  # while it is taken away it is in nobody's way, or those would be refused who have room
                raise no_room()

    async def take(self, size_bytes: int) -> None:
        """So many more are here, and about to be written. Raises TooLarge (`quota_exceeded`)."""
        self._taken += size_bytes
        self._counted += size_bytes
        self._coming.size_bytes += size_bytes
        if not self._fits():
            await self.look()  # something may have been deleted: nobody is refused by what was so before

    def ended(self) -> None:
        """Nothing more comes: from now on it counts as a row or not at all, and not twice."""
        self._coming.size_bytes -= self._counted
        self._counted = 0

    def kept(self) -> None:
        """It is a row, and leaves the others less."""
        self._coming.kept_bytes += self._taken

    def _fits(self) -> bool:
        left = self._left - (self._coming.kept_bytes - self._seen)
        return max(self._taken, self._announced, self._coming.size_bytes) <= left


class Rooms:
    """Who uploads something here at the moment."""

    def __init__(self) -> None:
        self._coming: Final = dict[UUID, Coming]()

    def coming(self, owner_id: UUID) -> Coming:
        """What of theirs comes in at the moment."""
        return self._coming.get(owner_id, Coming())

    @asynccontextmanager
    async def room(self, owner_id: UUID, look: Look, announced: int) -> AsyncIterator[Room]:
        """Room for an upload, for as long as the block takes it in. Raises TooLarge (`quota_exceeded`)."""
        coming = self._coming.setdefault(owner_id, Coming())
        coming.uploads += 1
        room = Room(coming, look, announced)
        try:
            await room.look()
            yield room
        finally:
            room.ended()
            coming.uploads -= 1
            if not coming.uploads:
                del self._coming[owner_id]
