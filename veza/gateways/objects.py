"""Where uploaded bytes are kept: immutable objects, each named by the SHA-256 of what it holds.

An object is either wholly there or not at all, whatever cuts a write off: a cancel, a full disk, a kill or a power cut.
The same bytes put twice are kept once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from veza.domain.errors import Unavailable

T = TypeVar("T")

PIECE_BYTES = 1024 * 1024  # one thread hop writes this much: a hop costs some 0.1 ms, hashing and writing it 1 ms
DISK_THREADS = 8  # more writers at a time would only take turns at the disk, and the threads are shared
KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredObject:
    """``key`` is the lower-case hex SHA-256 of the bytes."""

    key: str
    size_bytes: int


class Objects(Protocol):
    """A store of immutable objects. A local directory is one; a bucket fits as well."""

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        """Keep the bytes of an iterator, which is read to its end. On return they will survive a power cut.

        What the iterator raises passes through, and nothing is kept. Raises Unavailable when there is no room, and
        OSError when the bytes cannot be stored for another reason.
        """
        ...

    async def open_path(self, key: str) -> Path:
        """A local file that holds the object's bytes; open it at once and only for reading.

        It may turn out missing when it is opened: FileNotFoundError then. Raises ValueError for what is no key.
        """
        ...


class LocalObjects:
    """Objects in a directory: ``sha256/ab/abcd...`` for what is kept, ``drafts/*/`` for what is still coming in.

    Several processes may share the directory.
    """

    def __init__(self, root: Path, drafts: Path) -> None:
        self._kept = root / "sha256"
        self._drafts = drafts
        self._disk = trio.CapacityLimiter(DISK_THREADS)

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path) -> AsyncIterator[LocalObjects]:
        """Open the store, making its directories. What processes that died were still writing is removed."""
        await trio.to_thread.run_sync(_make_folder, root / "sha256")
        drafts = await trio.to_thread.run_sync(_take_drafts, root / "drafts")
        try:
            yield cls(root, drafts.path)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(drafts.give_up)

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        try:
            return await self._put(chunks)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable("There is no room for this file now.", code="storage_full") from error
            raise

    async def _put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        draft = await self._on_disk(partial(Draft, self._drafts))
        try:
            piece: list[bytes] = []
            size = 0
            async for chunk in chunks:
                piece.append(chunk)
                size += len(chunk)
                if size >= PIECE_BYTES:
                    await self._on_disk(partial(draft.write, piece))
                    piece, size = [], 0
            return await self._on_disk(partial(draft.publish, self._kept, piece))
        finally:
            if not draft.published:
                with trio.CancelScope(shield=True):
                    await self._on_disk(draft.discard)

    async def open_path(self, key: str) -> Path:
        await trio.lowlevel.checkpoint()
        return _path_of(self._kept, key)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread. A cancel waits for it, so no thread writes on behind the caller's back."""
        return await trio.to_thread.run_sync(work, limiter=self._disk)


class Draft:
    """An object on its way in. Blocking; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=folder)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._hash = hashlib.sha256()
        self._size = 0
        self.published = False

    def write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._hash.update(chunk)
            self._file.write(chunk)
            self._size += len(chunk)

    def publish(self, kept: Path, rest: list[bytes]) -> StoredObject:
        """Give the draft its name. The bytes reach the disk before the name does, and the name before this returns."""
        self.write(rest)
        stored = StoredObject(self._hash.hexdigest(), self._size)
        path = _path_of(kept, stored.key)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            self._path.unlink()
        else:
            self._path.replace(path)
        _sync(kept)  # the folder's own name, made here or by somebody else just now
        _sync(path.parent)  # also when it was there: whoever put it may not have come this far yet
        self.published = True
        return stored

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def _path_of(kept: Path, key: str) -> Path:
    if not KEY.fullmatch(key):
        raise ValueError("an object's key is a SHA-256 in lower-case hex")
    return kept / key[:2] / key


def _make_folder(kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for folder in (kept.parent, kept.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    """Make a directory's names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class DraftsFolder:
    """One process's folder of drafts. Its lock is the kernel's, so it ends with the process, however that ends."""

    path: Path
    lock: int

    def give_up(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _take_drafts(parent: Path) -> DraftsFolder:
    """A folder of this process's own, after removing those whose processes are gone."""
    parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(parent):  # or another start could take our folder for a dead one before we locked it
        for folder in filter(Path.is_dir, parent.iterdir()):
            if (lock := _try_lock(folder)) is not None:
                DraftsFolder(folder, lock).give_up()
        own = Path(tempfile.mkdtemp(dir=parent))
        lock = _try_lock(own)
        if lock is None:
            raise OSError(f"cannot lock {own}")
        return DraftsFolder(own, lock)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock, or None while a living process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
