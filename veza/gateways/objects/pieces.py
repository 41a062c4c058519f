"""Chunks in larger pieces, each worked on while the next one comes in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import trio

Piece = list[bytes]


async def in_pieces(
    chunks: AsyncIterator[bytes], at_least: Callable[[], int], work: Callable[[Piece], Awaitable[None]]
) -> Piece:
    """Hand the chunks to ``work`` in pieces of at least so many bytes, one after another; returns what is left over.

    While a piece is worked on, the next is gathered: one more is held in memory, and no time is lost. What the iterator
    or ``work`` raises is raised here, when nothing is being worked on any more.
    """
    send, receive = trio.open_memory_channel[Piece](0)
    failed: list[Exception] = []

    async def worker() -> None:
        try:
            with receive:
                async for piece in receive:
                    await work(piece)
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery's exception group
            failed.append(error)
            nursery.cancel_scope.cancel()  # who sends slowly is not waited for

    rest: Piece = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker)
        try:
            with send:
                rest = await _gather(chunks, at_least, send)
        except Exception as error:  # noqa: BLE001 - as above; that the worker is gone says less than why
            failed.append(error)
    if failed:
        raise failed[0]
    return rest


async def _gather(
    chunks: AsyncIterator[bytes], at_least: Callable[[], int], send: trio.MemorySendChannel[Piece]
) -> Piece:
    piece: Piece = []
    size = 0
    async for chunk in chunks:
        piece.append(chunk)
        size += len(chunk)
        if size >= at_least():
            await send.send(piece)
            piece, size = [], 0
    return piece
