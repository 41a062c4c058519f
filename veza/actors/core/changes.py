"""Waiting for named conditions: one parking lot a tree, unparked at each change of state."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Changes:
    """`notify` after anything changed; `until` a condition over it holds."""

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()

    def notify(self) -> None:
        if self._lot:
            self._lot.unpark_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._lot.park()
