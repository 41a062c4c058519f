"""Where uploaded bytes are kept: immutable objects behind one interface, on a local disk or in an S3 bucket.

An object is either wholly there or not at all, whatever cuts a write off: a cancel, a full disk, a kill or a power cut.
Its key is 64 lower-case hex digits, which mean something to its store alone; one key never names other bytes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from veza.domain.errors import Unavailable

KEY: Final = re.compile(r"[0-9a-f]{64}")
PIECE_BYTES: Final = 1024 * 1024  # a hop to a thread writes this much: it costs some 0.1 ms, hashing and writing 1 ms
DISK_THREADS: Final = 8  # more writers at a time would only take turns at the disk, and the threads are shared
CHUNK_BYTES: Final = 256 * 1024  # a thread hop reads this much: at 8 KiB the hops are nearly all there is to a download


@dataclass(frozen=True)
class StoredObject:
    """What was put, and how many bytes it has. ``mark`` tells this put from a later one of the same bytes; None where
    they were there before."""

    key: str
    size_bytes: int
    mark: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class KeptObject:
    """What a store holds. ``put_at``: when these bytes were last put, for the same bytes may be kept once."""

    key: str
    put_at: datetime


class ObjectMissing(Exception):  # noqa: N818 - what is so, not what went wrong
    """There are no bytes of this key. Where our own rows name it that is a surprise, not a refusal."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no object {key}")


class Objects(Protocol):
    """A store of immutable objects. Every method raises ValueError for what is no key, and Unavailable when the store
    cannot be reached."""

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        """Keep the bytes of an iterator, which is read to its end. On return they will survive a power cut.

        What the iterator raises passes through, and nothing is kept. Raises Unavailable when there is no room too, and
        OSError when the bytes cannot be stored for another reason.
        """
        ...

    async def take_back(self, stored: StoredObject) -> None:
        """Remove what was just put, and that nobody wants after all; but not what was there before, or put again since.

        Nothing may name it by then: what is refused need not wait for the janitor.
        """
        ...

    async def size(self, key: str) -> int:
        """How many bytes the object has. Raises ObjectMissing."""
        ...

    def read(
        self, key: str, begin: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The object's bytes from ``begin`` up to ``end``, or its own end, in chunks of at most CHUNK_BYTES.

        Entering raises ObjectMissing; reading raises EOFError if there are fewer bytes than were asked for.
        """
        ...

    async def link(self, key: str, *, filename: str, content_type: str, until: datetime) -> str:
        """A URL by which anyone who has it may fetch the object, as a file of that name, until then."""
        ...

    def kept(self) -> AsyncGenerator[Sequence[KeptObject], None]:
        """Everything that is there, a part at a time; close it. What comes and goes meanwhile may be told of or not."""
        ...

    async def remove(self, key: str, *, put_before: datetime) -> bool:
        """Remove the object unless it was put, or put again, since; whether it is gone."""
        ...

    async def sweep(self, begun_before: datetime) -> int:
        """Remove what puts that will never end have left: those of dead processes; how many there were."""
        ...

    async def check(self) -> None:
        """Whether the store can be reached at all."""
        ...


def check_key(key: str) -> str:
    """The key. Raises ValueError for what is none, before it becomes a part of a path."""
    if not KEY.fullmatch(key):
        raise ValueError("an object's key is 64 digits of lower-case hex")
    return key


def check_range(key: str, size: int, begin: int, end: int | None) -> int:
    """Where the range ends. Raises EOFError if the object ends before."""
    end = size if end is None else end
    if not begin <= end <= size:
        raise EOFError(f"the object {key} has {size} bytes")
    return end


def no_room(error: OSError) -> Exception:
    """What a disk's refusal is to whoever puts: Unavailable where it is full, and else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("There is no room for this file now.", code="storage_full")
    return error


def unreachable() -> Unavailable:
    return Unavailable("Files cannot be reached now.", code="storage_unavailable")
