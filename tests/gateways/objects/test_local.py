"""Objects on a disk: named by their hash, durable in the right order, and shared by several processes."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import trio

from tests.buckets import open_local
from veza.domain.errors import Unavailable
from veza.gateways.objects import CHUNK_BYTES, PIECE_BYTES
from veza.gateways.objects.local import Draft

CHUNK = b"x" * 65536


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await trio.lowlevel.checkpoint()
        yield piece


class Tap:
    """Chunks that come until they are cut off: by a cancel, or by an error."""

    def __init__(self, before: int, error: Exception | None = None) -> None:
        self.left = before
        self.error = error
        self.dry = trio.Event()

    def __aiter__(self) -> Tap:
        return self

    async def __anext__(self) -> bytes:
        if self.left:
            self.left -= 1
            return CHUNK
        self.dry.set()
        if self.error is not None:
            raise self.error
        return await trio.sleep_forever()


def path_of(root: Path, key: str) -> Path:
    return root / "sha256" / key[:2] / key


def files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


async def test_what_was_put_is_found_under_its_hash(tmp_path: Path) -> None:
    whole = os.urandom(3 * PIECE_BYTES + 17)
    pieces = [whole[start : start + 50_000] for start in range(0, len(whole), 50_000)]
    async with open_local(tmp_path) as objects:
        stored = await objects.put(chunks(*pieces))
        assert stored.key == hashlib.sha256(whole).hexdigest()
        assert stored.size_bytes == len(whole)
        assert path_of(tmp_path, stored.key).read_bytes() == whole


async def test_the_same_bytes_are_kept_once_however_they_came(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        first = await objects.put(chunks(b"one", b"two"))
        inode = path_of(tmp_path, first.key).stat().st_ino
        second = await objects.put(chunks(b"onetwo"))
        assert second == first
        assert files_under(tmp_path) == [path_of(tmp_path, first.key)]
        assert path_of(tmp_path, first.key).stat().st_ino == inode  # who reads it now is not disturbed


async def test_the_same_bytes_put_at_the_same_time_are_kept_once(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(objects.put, chunks(*[CHUNK] * 20))
    assert len(files_under(tmp_path)) == 1


async def test_an_upload_cut_off_midway_leaves_nothing_behind(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        tap = Tap(before=40)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(objects.put, tap)
                await tap.dry.wait()
                assert len(files_under(tmp_path)) == 1  # the draft
                nursery.cancel_scope.cancel()
        assert files_under(tmp_path) == []


async def test_a_disk_that_refuses_keeps_nothing_and_frees_what_was_taken(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        limits = [f"ulimit -f {2 * PIECE_BYTES // 1024}"]  # in KiB: the third piece does not fit
        program = (
            "import signal, sys, trio; from pathlib import Path; from tests.buckets import open_local\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "async def chunks():\n    for _ in range(64): yield bytes(65536)\n"
            "async def main():\n"
            "    async with open_local(Path(sys.argv[1])) as objects:\n"
            "        try: await objects.put(chunks())\n"
            "        except OSError: print('refused', *(p for p in Path(sys.argv[1]).rglob('*') if p.is_file()))\n"
            "trio.run(main)"
        )
        command = " && ".join([*limits, 'exec "$0" -c "$1" "$2"'])
        done = await trio.run_process(["bash", "-c", command, sys.executable, program, tmp_path], capture_stdout=True)
        assert done.stdout == b"refused\n"
        assert (await objects.put(chunks(b"fits"))).size_bytes == 4


KILLED = """
import os, sys, trio
from pathlib import Path
from tests.buckets import open_local

async def chunks():
    for _ in range(40):
        yield bytes(65536)
    os.write(1, b"midway")
    await trio.sleep_forever()

async def main():
    async with open_local(Path(sys.argv[1])) as objects:
        await objects.put(chunks())

trio.run(main)
"""


async def test_what_a_killed_process_left_is_removed_at_the_next_start_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    with trio.fail_after(30):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async with process.stdout:
            try:
                assert await process.stdout.receive_some() == b"midway"
                async with open_local(tmp_path):
                    assert len(files_under(tmp_path / "drafts")) == 1  # it lives
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
        assert len(files_under(tmp_path / "drafts")) == 1  # it left its draft
        async with open_local(tmp_path):
            assert files_under(tmp_path) == []
        assert list((tmp_path / "drafts").iterdir()) == []


async def test_the_bytes_reach_the_disk_before_their_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(descriptor: int) -> None:
        of = Path(f"/proc/self/fd/{descriptor}")
        steps.append("sync " + (of.resolve().name if of.is_dir() else "file"))
        fsync(descriptor)

    def seen_replace(self: Path, target: Path) -> Path:
        steps.append("name")
        return replace(self, target)

    async with open_local(tmp_path) as objects:
        monkeypatch.setattr(os, "fsync", seen_fsync)
        monkeypatch.setattr(Path, "replace", seen_replace)
        await objects.put(chunks(b"one"))
        # The object's folder may have been made just now, here or by another process: its name has to last as well.
        assert steps == ["sync file", "name", "sync sha256", "sync 76"]
        del steps[:]
        await objects.put(chunks(b"one"))
        assert steps == ["sync file", "sync sha256", "sync 76"]


async def test_a_full_disk_is_told_as_what_may_pass_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:  # a disk of a few bytes needs rights that a test has not everywhere
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Draft, "write", full)
    async with open_local(tmp_path) as objects:
        with pytest.raises(Unavailable) as refused:
            await objects.put(chunks(CHUNK))
        assert files_under(tmp_path / "sha256") == []
    assert refused.value.code == "storage_full"


# -- what is removed --------------------------------------------------------------------------------------------------


async def test_what_is_put_again_while_it_is_looked_for_unused_is_not_removed(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        stored = await objects.put(chunks(b"one"))
        path = path_of(tmp_path, stored.key)
        os.utime(path, (1000.0, 1000.0))
        found = datetime.fromtimestamp(2000, UTC)  # unused so far
        assert await objects.put(chunks(b"one")) == stored  # somebody is about to name it in a row
        assert not await objects.remove(stored.key, put_before=found)
        assert path.read_bytes() == b"one"


async def test_what_is_put_twice_within_a_tick_of_the_file_systems_clock_is_not_taken_back_by_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utime = os.utime

    def between_ticks(path: Path, times: None = None, *, ns: tuple[int, int] | None = None) -> None:
        now = path.stat()
        utime(path, times, ns=ns or (now.st_atime_ns, now.st_mtime_ns))

    async with open_local(tmp_path) as objects:
        monkeypatch.setattr(os, "utime", between_ticks)
        first = await objects.put(chunks(b"one"))
        again = await objects.put(chunks(b"one"))
        await objects.take_back(first)
        assert await objects.size(again.key) == 3


async def test_what_somebody_else_has_laid_between_objects_is_passed_over(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        stored = await objects.put(chunks(b"one"))
        (tmp_path / "sha256" / ".DS_Store").write_bytes(b"a desktop's")
        (tmp_path / "sha256" / "lost+found").mkdir()  # a file system's
        assert [each.key async for page in objects.kept() for each in page] == [stored.key]


async def test_puts_and_removals_of_the_same_bytes_never_leave_a_put_without_its_bytes(tmp_path: Path) -> None:
    """A put that was answered finds its object, whatever was removed at the same moment."""
    async with open_local(tmp_path) as objects:
        key = (await objects.put(chunks(b"one"))).key
        done = trio.Event()

        async def remove() -> None:
            while not done.is_set():
                await objects.remove(key, put_before=datetime.now(UTC) - timedelta(hours=1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove)
            for _ in range(100):
                with suppress(FileNotFoundError):
                    os.utime(path_of(tmp_path, key), (1000.0, 1000.0))  # long unused
                await objects.put(chunks(b"one"))
                assert await objects.size(key) == 3
            done.set()


async def test_a_sweep_removes_what_dead_processes_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    (tmp_path / "drafts" / "dead").mkdir(parents=True)
    async with open_local(tmp_path) as objects, open_local(tmp_path) as other:
        (tmp_path / "drafts" / "died since").mkdir()
        tap = Tap(before=40)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.put, tap)
            await tap.dry.wait()
            assert await objects.sweep(datetime.now(UTC)) == 1
            assert len(files_under(tmp_path / "drafts")) == 1
            nursery.cancel_scope.cancel()


async def test_a_reader_that_stands_still_holds_no_descriptor(tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        key = (await objects.put(chunks(bytes(4 * CHUNK_BYTES)))).key
        before = psutil.Process().num_fds()
        async with objects.read(key) as reading:
            assert await anext(reading)
            assert psutil.Process().num_fds() == before
