"""What holds of every store: objects are wholly there or not at all, and read back as they were put."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest
import trio

from tests.sandbox.running import NO_CERTIFICATES
from veza.gateways.objects import CHUNK_BYTES, ObjectMissing, Objects
from veza.gateways.objects.s3 import PART_BYTES, S3Objects

SIZES = (0, 1, CHUNK_BYTES, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 17)
NOBODY = "0" * 64


class Source:
    """So many bytes in chunks of 64 KiB, and then the end, an error, or nothing ever."""

    def __init__(self, content: bytes, then: Exception | None = None, *, hang: bool = False) -> None:
        self._content = content
        self._at = 0
        self._then = then
        self._hang = hang
        self.dry = trio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._at < len(self._content):
            self._at += 65536
            return self._content[self._at - 65536 : self._at]
        self.dry.set()
        if self._hang:
            await trio.sleep_forever()
        raise self._then or StopAsyncIteration


async def put(objects: Objects, content: bytes) -> str:
    stored = await objects.put(Source(content))
    assert stored.size_bytes == len(content)
    return stored.key


async def read(objects: Objects, key: str, begin: int = 0, end: int | None = None) -> bytes:
    async with objects.read(key, begin, end) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def keys(objects: Objects) -> list[str]:
    async with aclosing(objects.kept()) as pages:
        return [each.key async for page in pages for each in page]


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_read_as_it_was(objects: Objects, size: int) -> None:
    content = os.urandom(size)
    key = await put(objects, content)
    assert await objects.size(key) == size
    assert await read(objects, key) == content


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (0, 1), (5, 5), (5, 300_005), (999_999, None), (1_000_000, None)])
async def test_a_part_is_read_as_asked(objects: Objects, begin: int, end: int | None) -> None:
    content = os.urandom(1_000_000)
    assert await read(objects, await put(objects, content), begin, end) == content[begin:end]


@pytest.mark.parametrize(("begin", "end"), [(0, 11), (11, None), (20, 30), (5, 3)])
async def test_a_part_that_is_not_there_is_no_part(objects: Objects, begin: int, end: int | None) -> None:
    key = await put(objects, b"ten bytes.")
    with pytest.raises(EOFError):
        await read(objects, key, begin, end)


async def test_what_is_not_there_is_missing(objects: Objects) -> None:
    with pytest.raises(ObjectMissing):
        await objects.size(NOBODY)
    for begin, end in ((0, None), (0, 10), (5, 5)):
        with pytest.raises(ObjectMissing):
            await read(objects, NOBODY, begin, end)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
async def test_what_is_no_key_names_nothing(objects: Objects, key: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        await objects.size(key)
    with pytest.raises(ValueError, match="hex"):
        await read(objects, key)
    with pytest.raises(ValueError, match="hex"):
        await objects.link(key, filename="a", content_type="a/b", until=datetime.now(UTC))
    with pytest.raises(ValueError, match="hex"):
        await objects.remove(key, put_before=datetime.now(UTC))


@pytest.mark.parametrize("before", [0, 100, PART_BYTES + 100_000])
async def test_what_the_source_raises_passes_through_and_nothing_is_kept(objects: Objects, before: int) -> None:
    with pytest.raises(ZeroDivisionError):
        await objects.put(Source(bytes(before), ZeroDivisionError()))
    assert await keys(objects) == []
    assert await objects.sweep(datetime.now(UTC) + timedelta(days=1)) == 0


async def test_a_put_that_is_cancelled_leaves_nothing(objects: Objects) -> None:
    source = Source(bytes(PART_BYTES + 100_000), hang=True)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(objects.put, source)
            await source.dry.wait()
            nursery.cancel_scope.cancel()
    assert await keys(objects) == []
    assert await objects.sweep(datetime.now(UTC) + timedelta(days=1)) == 0


async def test_a_reader_that_goes_away_midway_holds_nothing(objects: Objects) -> None:
    key = await put(objects, bytes(4 * CHUNK_BYTES))
    files = psutil.Process().num_fds()
    for _ in range(50):
        async with objects.read(key) as chunks:
            assert await anext(chunks)
    assert psutil.Process().num_fds() <= files + 5  # connections are kept for the next call


async def test_everything_that_is_kept_is_told_with_when_it_was_put(objects: Objects) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 tells whole seconds
    put_keys = [await put(objects, bytes([number])) for number in range(5)]
    async with aclosing(objects.kept()) as pages:
        kept = [each async for page in pages for each in page]
    assert sorted(each.key for each in kept) == sorted(put_keys)
    assert all(before <= each.put_at <= datetime.now(UTC) for each in kept)


async def test_what_is_removed_is_gone_and_may_be_removed_again(objects: Objects) -> None:
    key, other = await put(objects, b"one"), await put(objects, b"two")
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await objects.remove(key, put_before=later)
    assert await objects.remove(key, put_before=later)
    assert await keys(objects) == [other]
    with pytest.raises(ObjectMissing):
        await objects.size(key)


async def test_what_was_just_put_can_be_taken_back(objects: Objects) -> None:
    stored = await objects.put(Source(b"refused"))
    await objects.take_back(stored)
    await objects.take_back(stored)
    assert await keys(objects) == []


async def test_taking_back_spares_what_was_there_before_and_what_was_put_again_since(objects: Objects) -> None:
    before = await objects.put(Source(b"before"))
    await objects.take_back(await objects.put(Source(b"before")))
    assert await read(objects, before.key) == b"before"
    first = await objects.put(Source(b"again"))
    again = await objects.put(Source(b"again"))
    await objects.take_back(first)
    assert await read(objects, again.key) == b"again"


async def test_a_store_that_is_there_is_well(objects: Objects) -> None:
    await objects.check()


async def test_a_link_says_until_when_and_as_what_the_object_is_fetched(objects: Objects) -> None:
    key = await put(objects, b"RIFF and more")
    until = datetime.now(UTC) + timedelta(hours=1)
    link = await objects.link(key, filename='Träck "1".wav', content_type="audio/wav", until=until)
    assert link.startswith(("https://veza.example/api/v1/objects/", "http://127.0.0.1:"))
    if isinstance(objects, S3Objects):  # a local object's is fetched from an app: see tests/http/routes/test_objects.py
        async with httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
            answer = await client.get(link, headers={"Range": "bytes=0-3"})
            assert (answer.status_code, answer.content) == (206, b"RIFF")
            assert answer.headers["content-type"] == "audio/wav"
            assert "filename*=UTF-8''Tr%C3%A4ck%20%221%22.wav" in answer.headers["content-disposition"]
            assert "X-Amz-Expires=3599" in link or "X-Amz-Expires=3600" in link


async def test_memory_stays_flat_while_a_large_object_comes_in_and_goes_out(objects: Objects) -> None:
    await put(objects, bytes(2 * PART_BYTES))
    before = psutil.Process().memory_info().rss
    stored = await objects.put(Zeros(2048))
    assert stored.size_bytes == 128 * 1024 * 1024
    async with objects.read(stored.key) as chunks:
        assert sum([len(chunk) async for chunk in chunks]) == stored.size_bytes
    assert psutil.Process().memory_info().rss - before < 2 * PART_BYTES


class Zeros:
    def __init__(self, times: int) -> None:
        self.left = times

    def __aiter__(self) -> Zeros:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        await trio.lowlevel.checkpoint()
        return bytes(65536)
