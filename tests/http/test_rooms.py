"""Room for uploads: together they take what is left and no more, and none is refused by what is so no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import pytest
import trio

from veza.domain.errors import TooLarge
from veza.http.rooms import Coming, Room, Rooms

ANN, BOB = UUID(int=1), UUID(int=2)


class Hall:
    """Rooms, and the rows behind them: how much those leave, and how often they were asked."""

    def __init__(self, left: int) -> None:
        self.rooms = Rooms()
        self.left = left
        self.looks = 0

    async def look(self) -> int:
        self.looks += 1
        left = self.left
        await trio.lowlevel.checkpoint()
        return left

    def room(self, announced: int = 0, owner: UUID = ANN) -> AbstractAsyncContextManager[Room]:
        return self.rooms.room(owner, self.look, announced)

    def becomes_row(self, room: Room, size: int) -> None:
        room.ended()
        self.left -= size
        room.kept()


@asynccontextmanager
async def refused() -> AsyncIterator[None]:
    with pytest.raises(TooLarge) as raised:
        yield
    assert raised.value.code == "quota_exceeded"


async def test_what_comes_in_at_once_takes_no_more_than_is_left() -> None:
    hall = Hall(100)
    async with hall.room() as first, hall.room() as second, hall.room(owner=BOB) as of_another:
        await first.take(60)
        async with refused():
            await second.take(41)
        await of_another.take(100)
    assert hall.rooms.coming(ANN) == Coming(), "nothing of it stays"


async def test_one_that_was_refused_leaves_its_room_to_the_others() -> None:
    hall = Hall(100)
    async with hall.room() as first:
        await first.take(60)
        async with refused(), hall.room() as second:
            await second.take(41)
        await first.take(40)
        async with refused():
            await first.take(1)


async def test_what_was_refused_is_in_nobodys_way_while_it_is_taken_away() -> None:
    hall = Hall(100)
    async with hall.room() as first, hall.room() as second:
        await first.take(60)
        async with refused():
            await second.take(41)
        await first.take(40)


async def test_what_announces_more_than_is_left_is_refused_before_it_comes() -> None:
    hall = Hall(100)
    async with refused(), hall.room(announced=101):
        pass
    async with hall.room(announced=100), hall.room(announced=100):
        assert hall.rooms.coming(ANN).uploads == 2, "either may yet come to nothing"


async def test_what_can_no_longer_be_kept_is_refused_with_its_next_byte() -> None:
    hall = Hall(100)
    async with hall.room(announced=80) as first, hall.room() as second:
        await first.take(1)
        await second.take(30)
        hall.becomes_row(second, 30)
        async with refused():
            await first.take(1)


async def test_what_is_being_written_down_never_counts_twice() -> None:
    hall = Hall(100)
    async with hall.room() as first, hall.room() as second:
        await first.take(50)
        await second.take(30)
        first.ended()
        hall.left -= 50  # committed, and nobody has been told yet
        await second.take(20)
        first.kept()
        await second.take(0)
        async with refused():
            await second.take(1)


async def test_what_becomes_a_row_while_one_looks_is_looked_for_again() -> None:
    hall = Hall(100)
    async with hall.room() as first, hall.room() as second:
        await first.take(50)

        async def look() -> int:
            if not hall.looks:
                hall.becomes_row(first, 50)
            return await hall.look()

        hall.looks = 0
        async with hall.rooms.room(ANN, look, 50) as third:
            await third.take(50)
        assert hall.looks == 2
        await second.take(50)


async def test_room_that_was_made_meanwhile_is_found_and_nobody_asks_while_there_is_enough() -> None:
    hall = Hall(100)
    async with hall.room() as first:
        for _ in range(10):
            await first.take(10)
        assert hall.looks == 1
        hall.left = 200
        await first.take(100)
        assert hall.looks == 2
