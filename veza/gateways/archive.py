"""A ZIP written as it goes out: any number of bytes pass through, and none of them stays.

Whoever fills it adds entries; whoever keeps it reads chunks. They are two tasks, so that the one reads and sums up the
next piece while the other writes the last. Sums and compression are done in threads, on pieces of about a megabyte.
"""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self, TypeVar

import trio

T = TypeVar("T")

PIECE_BYTES: Final = 1024 * 1024  # a thread hop costs some 0.1 ms, summing up this much half a millisecond
SMALL_BYTES: Final = 16 * 1024  # what takes no longer than a thread hop is done at once: people have many small files
FEW: Final = 50  # entries whose directory takes no longer
WAITING: Final = 4  # chunks between the two tasks: a piece, in the sizes that files are read in
LEVEL: Final = 6  # zlib's own middle: rows shrink to a tenth at 100 MB/s, and to hardly less at half of that
LARGE_BYTES: Final = (
    1 << 31
)  # from here on an entry says its sizes in 64 bits (APPNOTE, 4.3.9.2), well before it has to
FIRST: Final = (1980, 1, 1, 0, 0, 0)  # the format knows no earlier time
LAST_YEAR: Final = 2107  # and none later
PLAIN_FILE: Final = 0o100644 << 16  # on Unix: a file that its owner may write
UNIX: Final = 3


@dataclass(frozen=True)
class Entry:
    """A file to be. ``size_bytes`` is what it will have, none if that is not known; ``packed``: worth compressing."""

    path: str
    modified: datetime
    size_bytes: int | None = None
    packed: bool = False


class _Sink:
    """What the archive is written into: takes what comes, and cannot be sought in, so that nothing is mended later."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> int:
        if chunk:
            self._chunks.append(chunk)
        return len(chunk)

    def flush(self) -> None:
        """What was written is taken as it is."""

    def close(self) -> None:
        """Nothing is held that would have to be let go."""

    def take(self) -> list[bytes]:
        chunks, self._chunks = self._chunks, []
        return chunks


class Archive:
    """Adds entries one after another, inside its block. ``send`` takes each chunk of the archive."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", compresslevel=LEVEL)

    async def add(self, entry: Entry, chunks: AsyncIterable[bytes]) -> None:
        """Write an entry's bytes. What the iterable raises passes through, and the archive is then worth nothing."""
        with self._zip.open(_described(entry), "w", force_zip64=_is_large(entry)) as file:
            piece: list[bytes] = []
            size = 0
            async for chunk in chunks:
                piece.append(chunk)
                size += len(chunk)
                if size >= PIECE_BYTES:
                    await self._write(file.write, piece)
                    piece, size = [], 0
            await self._write(file.write, piece)
        await self._pass_on()  # with what closing it wrote

    async def finish(self) -> None:
        """Write the directory of what was added."""
        if len(self._zip.filelist) > FEW:
            await trio.to_thread.run_sync(self._zip.close)
        else:
            self._zip.close()
        await self._pass_on()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()  # does nothing after `finish`; else what it writes goes nowhere

    async def _write(self, write: Callable[[bytes], int], piece: list[bytes]) -> None:
        if sum(map(len, piece)) > SMALL_BYTES:
            await trio.to_thread.run_sync(_write_all, write, piece)
        else:
            _write_all(write, piece)
        await self._pass_on()

    async def _pass_on(self) -> None:
        for chunk in self._sink.take():
            await self._send(chunk)


class _Pipe:
    """From the task that fills an archive to the one that keeps it."""

    def __init__(self, fill: Callable[[Archive], Awaitable[None]]) -> None:
        self._fill = fill
        self._send, self._receive = trio.open_memory_channel[bytes](WAITING)
        self._failed: Exception | None = EOFError("the archive was cut off")

    async def write(self) -> None:
        with self._send:
            try:
                with Archive(self._send.send) as archive:
                    await self._fill(archive)
                    await archive.finish()
                self._failed = None
            except Exception as error:  # noqa: BLE001 - it is raised where the archive is read
                self._failed = error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._failed is not None:
                raise self._failed from None
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Nobody reads any more."""
        self._receive.close()


async def write_archive(
    fill: Callable[[Archive], Awaitable[None]], keep: Callable[[AsyncIterator[bytes]], Awaitable[T]]
) -> T:
    """Have ``keep`` read the archive that ``fill`` writes; what ``keep`` returns.

    What either raises is raised here. Where ``fill`` fails the iterator raises its error: half an archive is never
    taken for a whole one.
    """
    pipe = _Pipe(fill)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.write)
        try:
            kept = await keep(pipe)
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery's exception groups
            raised = error
        finally:
            pipe.close()
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
    return kept


def _described(entry: Entry) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(entry.path, _time(entry.modified))
    info.compress_type = zipfile.ZIP_DEFLATED if entry.packed else zipfile.ZIP_STORED
    info.create_system, info.external_attr = UNIX, PLAIN_FILE
    return info


def _is_large(entry: Entry) -> bool:
    return entry.size_bytes is None or entry.size_bytes >= LARGE_BYTES


def _time(moment: datetime) -> tuple[int, int, int, int, int, int]:
    """In UTC, as the format has no zone."""
    at = moment.astimezone(UTC)
    if not FIRST[0] <= at.year <= LAST_YEAR:
        return FIRST
    return at.year, at.month, at.day, at.hour, at.minute, at.second


def _write_all(write: Callable[[bytes], int], piece: list[bytes]) -> None:
    for chunk in piece:
        write(chunk)
