"""Objects in a bucket: what its server and the network between do to us."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

import pytest
import structlog
import trio

from tests.buckets import S3, now, open_bucket
from tests.gateways.objects.test_objects import Source, put, read
from veza.domain.errors import Unavailable
from veza.gateways.objects import CHUNK_BYTES
from veza.gateways.objects.s3 import PART_BYTES, READ_SECONDS, Bucket, S3Objects, part_bytes

CONTENT = os.urandom(4 * CHUNK_BYTES)


class Line:
    """A line to the server that is cut after so many bytes of an answer, each connection's as the list says; or that
    passes nothing on any more then."""

    def __init__(self, server: str, cuts: list[int], *, hangs: bool) -> None:
        self.port = urlsplit(server).port or 0
        self.cuts = cuts
        self.hangs = hangs
        self.connections = 0

    async def serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        left = self.cuts.pop(0) if self.cuts else 1 << 40
        async with client, await trio.open_tcp_stream("127.0.0.1", self.port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, client, server)
            async for data in server:
                await client.send_all(data[:left])
                left -= len(data)
                if left <= 0:
                    break
            if self.hangs:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    async for data in source:
        await sink.send_all(data)


@asynccontextmanager
async def behind_a_line(
    s3: S3, bucket: Bucket, cuts: list[int], *, hangs: bool = False
) -> AsyncIterator[tuple[S3Objects, Line]]:
    line = Line(s3.url, cuts, hangs=hangs)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, line.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with open_bucket(replace(bucket, endpoint_url=f"http://127.0.0.1:{port}")) as objects:
            yield objects, line
        nursery.cancel_scope.cancel()


async def test_the_same_bytes_put_twice_are_two_objects(s3: S3) -> None:
    async with open_bucket(s3.bucket()) as objects:
        assert await put(objects, b"one") != await put(objects, b"one")


async def test_a_folder_of_local_objects_can_be_copied_into_a_bucket_as_it_is(s3: S3) -> None:
    bucket = s3.bucket()
    key = "ab" + "0" * 62
    s3.client().put_object(Bucket=bucket.name, Key=f"objects/ab/{key}", Body=b"copied")
    async with open_bucket(bucket) as objects:
        assert await read(objects, key) == b"copied"


async def test_reading_goes_on_where_a_connection_broke(s3: S3) -> None:
    bucket = s3.bucket()
    async with open_bucket(bucket) as straight:
        key = await put(straight, CONTENT)
    async with behind_a_line(s3, bucket, [CHUNK_BYTES + 1000, 2 * CHUNK_BYTES]) as (objects, line):
        assert await read(objects, key, 0, len(CONTENT)) == CONTENT
        assert line.connections == 3


async def test_a_line_that_breaks_before_a_byte_every_time_is_told_of(s3: S3) -> None:
    bucket = s3.bucket()
    async with open_bucket(bucket) as straight:
        key = await put(straight, CONTENT)
    async with behind_a_line(s3, bucket, [300] * 20) as (objects, _):
        with pytest.raises(Unavailable) as told:
            await read(objects, key, 0, len(CONTENT))
    assert told.value.code == "storage_unavailable"


async def test_leaving_a_read_that_hangs_holds_up_nobody(s3: S3) -> None:
    """The bucket falls silent midway, and the reader leaves: the loop must not wait for the thread that reads."""
    bucket = s3.bucket()
    async with open_bucket(bucket) as straight:
        key = await put(straight, CONTENT)
    async with behind_a_line(s3, bucket, [2 * CHUNK_BYTES], hangs=True) as (objects, _):
        began = time.monotonic()
        with trio.move_on_after(0.5) as left:
            await read(objects, key, 0, len(CONTENT))
        assert left.cancelled_caught
        assert time.monotonic() - began < READ_SECONDS / 4


async def test_a_part_that_is_lost_on_the_way_is_sent_again(s3: S3) -> None:
    content = os.urandom(PART_BYTES + 1000)
    async with behind_a_line(s3, s3.bucket(), [400]) as (objects, _):  # enough for one answer
        assert await read(objects, await put(objects, content)) == content


async def test_a_bucket_that_can_not_be_reached_is_told_as_what_may_pass(s3: S3) -> None:
    async with open_bucket(replace(s3.bucket(), endpoint_url="http://127.0.0.1:9")) as objects:
        for call in (partial(objects.size, "0" * 64), objects.check, partial(objects.put, Source(b"one"))):
            with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable):
                await call()
            assert lines[0]["event"] == "s3_unreachable"


async def test_a_bucket_that_is_not_there_is_an_error_of_ours_and_no_missing_object(s3: S3) -> None:
    async with open_bucket(replace(s3.bucket(), name="another")) as objects:
        for call in (partial(objects.put, Source(b"one")), objects.check):
            with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable):
                await call()
            assert (lines[0]["event"], lines[0]["log_level"]) == ("s3_refused", "error")


async def test_what_a_killed_process_was_putting_is_swept_up_once_it_is_old(s3: S3) -> None:
    bucket = s3.bucket()
    s3.client().create_multipart_upload(Bucket=bucket.name, Key=f"objects/00/{'0' * 64}")
    async with open_bucket(bucket) as objects:
        assert await objects.sweep(datetime(2010, 1, 1, tzinfo=UTC)) == 0  # moto says of each that it began in 2010
        assert await objects.sweep(now()) == 1
        assert await objects.sweep(now()) == 0


async def test_a_link_is_good_for_a_week_at_most_since_s3_signs_no_other(s3: S3) -> None:
    async with open_bucket(s3.bucket()) as objects:
        until = now() + timedelta(days=8)
        link = await objects.link(await put(objects, b"one"), filename="a", content_type="a/b", until=until)
    assert "X-Amz-Expires=604800" in link


def test_ten_thousand_parts_which_is_as_many_as_there_may_be_hold_more_than_any_archive() -> None:
    assert sum(part_bytes(number) for number in range(10_000)) > 400 * 1024**3
    assert part_bytes(0) == PART_BYTES
