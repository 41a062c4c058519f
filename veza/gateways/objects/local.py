"""Objects on a local disk, each named by the SHA-256 of what it holds: the same bytes put twice are kept once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from veza.gateways.objects import (
    CHUNK_BYTES,
    DISK_THREADS,
    KEY,
    PIECE_BYTES,
    KeptObject,
    ObjectMissing,
    StoredObject,
    check_key,
    check_range,
    no_room,
)
from veza.gateways.objects.links import Links
from veza.gateways.objects.pieces import in_pieces

T = TypeVar("T")

SHARD: Final = re.compile("[0-9a-f]{2}")


class LocalObjects:
    """Objects in a directory: ``sha256/ab/abcd...`` for what is kept, ``drafts/*/`` for what is still coming in.

    Several processes may share the directory.
    """

    def __init__(self, root: Path, drafts: Path, links: Links) -> None:
        self._root = root
        self._kept = root / "sha256"
        self._drafts = drafts
        self._links = links
        self._disk = trio.CapacityLimiter(DISK_THREADS)

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path, links: Links) -> AsyncIterator[LocalObjects]:
        """Open the store, making its directories. What processes that died were still writing is removed."""
        await trio.to_thread.run_sync(_make_folder, root / "sha256")
        drafts = await trio.to_thread.run_sync(_take_drafts, root / "drafts")
        try:
            yield cls(root, drafts.path, links)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(drafts.give_up)

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        try:
            return await self._put(chunks)
        except OSError as error:
            raise no_room(error) from error

    async def _put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        draft = await self._on_disk(partial(Draft, self._drafts))
        try:
            rest = await in_pieces(
                chunks, lambda: PIECE_BYTES, lambda piece: self._on_disk(partial(draft.write, piece))
            )
            return await self._on_disk(partial(draft.publish, self._kept, rest))
        finally:
            if not draft.published:
                with trio.CancelScope(shield=True):
                    await self._on_disk(draft.discard)

    async def take_back(self, stored: StoredObject) -> None:
        await self._on_disk(partial(_take_back, self._path(stored.key), stored.mark))

    async def size(self, key: str) -> int:
        return await trio.to_thread.run_sync(_size, key, self._path(key))

    @asynccontextmanager
    async def read(self, key: str, begin: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        chunks = FileChunks(self._path(key), begin, check_range(key, await self.size(key), begin, end))
        await chunks.begin()
        yield chunks

    async def link(self, key: str, *, filename: str, content_type: str, until: datetime) -> str:
        await trio.lowlevel.checkpoint()
        return self._links.sign(check_key(key), filename=filename, content_type=content_type, until=until)

    async def kept(self) -> AsyncGenerator[Sequence[KeptObject], None]:
        for shard in await trio.to_thread.run_sync(_shards, self._kept):
            yield await self._on_disk(partial(_objects_in, shard))

    async def remove(self, key: str, *, put_before: datetime) -> bool:
        return await self._on_disk(partial(_remove, self._path(key), put_before))

    async def sweep(self, begun_before: datetime) -> int:
        """The moment does not matter: a folder's lock says whether its process lives."""
        return await self._on_disk(partial(_sweep, self._root / "drafts"))

    async def check(self) -> None:
        await self._on_disk(partial(os.listdir, self._kept))

    def _path(self, key: str) -> Path:
        return _path_of(self._kept, key)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread. A cancel waits for it, so no thread writes on behind the caller's back."""
        return await trio.to_thread.run_sync(work, limiter=self._disk)


class FileChunks:
    """A range of a file, read in threads. The file is opened for each chunk: a reader may take hours over one, and
    holds no descriptor meanwhile; what is removed within those hours is kept for a grace longer than that."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._path = path
        self._at = begin
        self._end = end
        self._first = b""

    async def begin(self) -> None:
        """Read the first: what can't be read is better told before anything of it was sent."""
        if self._at < self._end:
            self._first = await self._next()

    def __aiter__(self) -> FileChunks:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, b""
        if first:
            return first
        if self._at == self._end:
            raise StopAsyncIteration
        return await self._next()

    async def _next(self) -> bytes:
        chunk = await trio.to_thread.run_sync(_read, self._path, self._at, min(CHUNK_BYTES, self._end - self._at))
        if not chunk:
            raise EOFError(f"the object {self._path.name} became shorter while it was read")
        self._at += len(chunk)
        return chunk


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
        key = self._hash.hexdigest()
        path = _path_of(kept, key)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path.parent.mkdir(exist_ok=True)
        with _one_at_a_time(path.parent):  # or the same bytes could be removed between our look and our answer
            if path.exists():
                _touch(path)  # put again: whoever finds it unused may not remove it now
                self._path.unlink()
                mark = None
            else:
                self._path.replace(path)
                mark = path.stat().st_mtime_ns
        _sync(kept)  # the folder's own name, made here or by somebody else just now
        _sync(path.parent)  # also when it was there: whoever put it may not have come this far yet
        self.published = True
        return StoredObject(key, self._size, mark)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def _path_of(kept: Path, key: str) -> Path:
    return kept / check_key(key)[:2] / key


def _touch(path: Path) -> None:
    """Date it to now, and to another moment than before: a file system's own clock may stand still for as long as it
    takes to put the same twice, and the mark of the first would then be good for taking back the second."""
    before = path.stat().st_mtime_ns
    now = max(time.time_ns(), before + 1000)  # some file systems know no nanoseconds
    os.utime(path, ns=(now, now))


def _size(key: str, path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise ObjectMissing(key) from None


def _read(path: Path, begin: int, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, begin)
    finally:
        os.close(descriptor)


def _shards(kept: Path) -> list[Path]:
    """The folders of objects; what else somebody has laid there is none of ours."""
    return sorted(path for path in kept.iterdir() if SHARD.fullmatch(path.name) and path.is_dir())


def _objects_in(shard: Path) -> list[KeptObject]:
    found = []
    with os.scandir(shard) as entries:
        for entry in entries:
            try:
                put_at = datetime.fromtimestamp(entry.stat().st_mtime, UTC)
            except FileNotFoundError:
                continue
            if KEY.fullmatch(entry.name):
                found.append(KeptObject(entry.name, put_at))
    return found


def _take_back(path: Path, mark: int | None) -> None:
    with suppress(FileNotFoundError), _one_at_a_time(path.parent):
        if mark is not None and path.stat().st_mtime_ns == mark:
            path.unlink()


def _remove(path: Path, put_before: datetime) -> bool:
    """Removing one that was removed already is well: two processes may come to it."""
    try:
        with _one_at_a_time(path.parent):
            if path.stat().st_mtime >= put_before.timestamp():
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    return True


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
    _sweep(parent)
    with _one_at_a_time(parent):  # or a sweep could take our folder for a dead one before we locked it
        own = Path(tempfile.mkdtemp(dir=parent))
        lock = _try_lock(own)
        if lock is None:
            raise OSError(f"cannot lock {own}")
        return DraftsFolder(own, lock)


def _sweep(parent: Path) -> int:
    """Remove the folders whose processes are gone; how many they were."""
    swept = 0
    with _one_at_a_time(parent):
        for folder in filter(Path.is_dir, parent.iterdir()):
            if (lock := _try_lock(folder)) is not None:
                DraftsFolder(folder, lock).give_up()
                swept += 1
    return swept


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
