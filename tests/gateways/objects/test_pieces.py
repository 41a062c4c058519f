"""Chunks become pieces in their order, and what goes wrong on either side is told as it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from veza.gateways.objects.pieces import Piece, in_pieces


async def chunks(count: int, seconds: float = 0, then: Exception | None = None) -> AsyncGenerator[bytes, None]:
    for number in range(count):
        await trio.sleep(seconds)
        yield bytes([number])
    if then is not None:
        raise then


async def test_pieces_are_worked_on_in_order_and_what_is_left_over_is_returned() -> None:
    worked: list[Piece] = []

    async def work(piece: Piece) -> None:
        await trio.lowlevel.checkpoint()
        worked.append(piece)

    rest = await in_pieces(chunks(8), lambda: 3, work)
    assert worked == [[b"\0", b"\1", b"\2"], [b"\3", b"\4", b"\5"]]
    assert rest == [b"\6", b"\7"]


async def test_a_piece_is_worked_on_while_the_next_comes_in(autojump_clock: MockClock) -> None:
    async def work(piece: Piece) -> None:
        await trio.sleep(10)

    began = trio.current_time()
    await in_pieces(chunks(5, 10), lambda: 1, work)
    assert trio.current_time() - began == pytest.approx(60)  # one after the other it would be a hundred


async def test_at_most_one_piece_waits_while_one_is_worked_on(autojump_clock: MockClock) -> None:
    came: list[float] = []

    async def watched() -> AsyncIterator[bytes]:
        async for chunk in chunks(4):
            came.append(trio.current_time() - began)
            yield chunk

    async def work(piece: Piece) -> None:
        await trio.sleep(10)

    began = trio.current_time()
    await in_pieces(watched(), lambda: 1, work)
    assert came == pytest.approx([0, 0, 10, 20])


async def test_what_the_work_raises_is_raised_and_no_more_is_asked_for() -> None:
    came: list[bytes] = []

    async def watched() -> AsyncIterator[bytes]:
        async for chunk in chunks(100):
            came.append(chunk)
            yield chunk

    async def work(piece: Piece) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        await in_pieces(watched(), lambda: 1, work)
    assert len(came) < 10


async def test_what_the_source_raises_is_raised_once_nothing_is_worked_on_any_more(autojump_clock: MockClock) -> None:
    done: list[Piece] = []

    async def work(piece: Piece) -> None:
        await trio.sleep(10)
        done.append(piece)

    with pytest.raises(ZeroDivisionError):
        await in_pieces(chunks(2, then=ZeroDivisionError()), lambda: 1, work)
    assert done == [[b"\0"], [b"\1"]]


async def test_what_the_work_raises_is_raised_at_once_however_slowly_more_comes_in(autojump_clock: MockClock) -> None:
    async def work(piece: Piece) -> None:
        await trio.sleep(1)
        raise OSError("no space left")

    began = trio.current_time()
    with pytest.raises(OSError, match="no space left"):
        await in_pieces(chunks(100, 60), lambda: 1, work)
    assert trio.current_time() - began == pytest.approx(61)
