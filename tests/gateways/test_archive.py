"""A ZIP that is written as it goes out: opened by tools of others, cut off, and measured."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import pytest
import trio
import trio.testing

from veza.gateways import archive as module
from veza.gateways.archive import Archive, Entry, write_archive

AT = datetime(2026, 2, 23, 12, 30, 16, tzinfo=UTC)
MEGABYTE = 1024 * 1024
Fill = Callable[[Archive], Awaitable[None]]

UNPACK = ("unzip -q {archive} -d {folder}", "bsdtar -x -f {archive} -C {folder}")  # Info-ZIP's, and libarchive's


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


async def whole(archive: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in archive])


async def zipped(fill: Fill) -> ZipFile:
    return ZipFile(BytesIO(await write_archive(fill, whole)))


CONTENT = {
    "data/users.json": b'{"rows": []}' * 1000,
    "files/cloud/Ünder the sea 🌊.flac": os.urandom(3 * MEGABYTE + 17),
    "files/cloud/日本語.txt": b"",
    "files/gear/a b (00000001)/manual.pdf": b"%PDF",
}


async def everything(archive: Archive) -> None:
    for path, content in CONTENT.items():
        parts = [content[at : at + 256 * 1024] for at in range(0, len(content), 256 * 1024)]
        await archive.add(Entry(path, AT, len(content), packed=path.endswith(".json")), chunks(*parts))


async def test_it_opens_with_everything_in_it() -> None:
    opened = await zipped(everything)
    assert opened.testzip() is None
    assert {name: opened.read(name) for name in opened.namelist()} == CONTENT
    infos = {info.filename: info for info in opened.infolist()}
    kinds = {name: info.compress_type for name, info in infos.items()}
    assert kinds.pop("data/users.json") == ZIP_DEFLATED
    assert set(kinds.values()) == {ZIP_STORED}
    assert {info.date_time for info in infos.values()} == {(2026, 2, 23, 12, 30, 16)}
    assert {info.external_attr >> 16 for info in infos.values()} == {0o100644}
    utf8 = 1 << 11  # APPNOTE, 4.4.4
    assert infos["files/cloud/日本語.txt"].flag_bits & utf8


@pytest.mark.slow
@pytest.mark.parametrize("command", UNPACK, ids=("unzip", "bsdtar"))
async def test_other_peoples_tools_unpack_it(command: str, tmp_path: Path) -> None:
    path, out = tmp_path / "export.zip", tmp_path / "out"
    path.write_bytes(await write_archive(everything, whole))
    out.mkdir()
    words = command.format(archive=path, folder=out).split()
    told = await trio.run_process(
        words, capture_stdout=True, stderr=subprocess.STDOUT, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"}
    )
    assert told.returncode == 0, told.stdout.decode(errors="replace")
    assert {each: (out / each).read_bytes() for each in CONTENT} == CONTENT


async def test_an_entry_says_its_size_in_64_bits_where_it_is_large_or_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGE_BYTES", 100)

    async def fill(archive: Archive) -> None:
        await archive.add(Entry("small", AT, 99), chunks(b"x" * 99))
        await archive.add(Entry("large", AT, 100), chunks(b"x" * 100))
        await archive.add(Entry("unknown", AT), chunks(b"x"))

    opened = await zipped(fill)
    assert {info.filename: info.extract_version for info in opened.infolist()} == {
        "small": 20,
        "large": 45,
        "unknown": 45,
    }
    assert opened.testzip() is None


@pytest.mark.parametrize("year", [1970, 2108])
async def test_a_time_that_the_format_does_not_know_is_its_first(year: int) -> None:
    async def fill(archive: Archive) -> None:
        await archive.add(Entry("x", datetime(year, 1, 1, tzinfo=UTC)), chunks())

    assert (await zipped(fill)).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


# -- cut off ----------------------------------------------------------------------------------------------------------


async def broken() -> AsyncIterator[bytes]:
    yield b"x" * 2 * MEGABYTE
    raise KeyError("planted")


async def cut_in_an_entry(archive: Archive) -> None:
    await everything(archive)
    await archive.add(Entry("x", AT), broken())


async def cut_between_entries(archive: Archive) -> None:
    await everything(archive)
    raise KeyError("planted")


@pytest.mark.parametrize("fill", [cut_in_an_entry, cut_between_entries])
async def test_what_fails_in_filling_fails_in_keeping(fill: Fill) -> None:
    seen: list[bytes] = []

    async def keep(archive: AsyncIterator[bytes]) -> None:
        async for chunk in archive:
            seen.append(chunk)  # noqa: PERF401 - one by one: how far it came is what is looked at
        raise AssertionError("it ended as if it were whole")

    with pytest.raises(KeyError, match="planted"):
        await write_archive(fill, keep)
    with pytest.raises(BadZipFile):
        ZipFile(BytesIO(b"".join(seen)))


async def test_what_fails_in_keeping_ends_the_filling() -> None:
    async def endless(archive: Archive) -> None:
        while True:
            await archive.add(Entry("x", AT), chunks(b"x"))

    async def keep(archive: AsyncIterator[bytes]) -> None:
        await anext(archive)
        raise OSError("planted")

    with trio.fail_after(5), pytest.raises(OSError, match="planted"):
        await write_archive(endless, keep)


async def test_a_cancel_ends_both() -> None:
    ended: list[str] = []

    async def for_ever(archive: Archive) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("filling")

    async def keep(archive: AsyncIterator[bytes]) -> None:
        try:
            await anext(archive)
        finally:
            ended.append("keeping")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_archive, for_ever, keep)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert sorted(ended) == ["filling", "keeping"]


# -- measured ---------------------------------------------------------------------------------------------------------


async def drop(archive: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in archive])


async def zeros(size: int) -> AsyncIterator[bytes]:
    chunk = bytes(256 * 1024)
    for _ in range(size // len(chunk)):
        yield chunk


async def peak_of(fill: Fill) -> int:
    """The most memory that was in use at once for filling an archive, in bytes."""
    tracemalloc.start()
    try:
        await write_archive(fill, drop)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_what_is_held_does_not_grow_with_what_passes_through() -> None:
    async def fill(archive: Archive) -> None:
        await archive.add(Entry("large", AT, 200 * MEGABYTE), zeros(200 * MEGABYTE))

    assert await peak_of(fill) < 8 * MEGABYTE


async def test_of_ten_thousand_files_no_more_is_kept_than_the_directory_needs() -> None:
    async def fill(archive: Archive) -> None:
        for number in range(10_000):
            await archive.add(Entry(f"files/cloud/a take with a name of its own {number}.wav", AT, 4), chunks(b"RIFF"))

    assert await peak_of(fill) < 16 * MEGABYTE
