"""Files go out whole or in ranges, under their conditions, with a name that cannot break the header."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.buckets import links, open_local
from tests.http.conftest import Serve, Serving
from veza.gateways.objects import Objects, unreachable
from veza.gateways.objects.headers import content_disposition
from veza.gateways.objects.local import LocalObjects

DATA = bytes(range(256)) * 4096  # 1 MiB: several of the reader's buffers


@pytest.fixture
async def served(serve: Serve, objects: Objects) -> Serving:
    """An app that serves a file: from a disk, and from a bucket."""
    serving: Serving = await serve(objects=objects)
    serving.stage.key = (await objects.put(chunks())).key
    return serving


def etag(served: Serving) -> str:
    return f'"{served.stage.key}"'


async def chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(DATA), 100_000):
        yield DATA[start : start + 100_000]


async def test_a_file_is_sent_whole(served: Serving) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file")
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == etag(served)
    assert answer.headers["last-modified"] == "Mon, 23 Feb 2026 12:00:00 GMT"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-300099", 100, 300_100),
        ("bytes=1048000-", 1_048_000, len(DATA)),
        ("bytes=-500", len(DATA) - 500, len(DATA)),
        ("bytes=1048000-9999999", 1_048_000, len(DATA)),
    ],
)
async def test_a_range_is_sent_as_asked(served: Serving, wanted: str, start: int, end: int) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file", headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["content-length"] == str(end - start)


async def test_a_range_outside_the_file_is_416_with_its_size(served: Serving) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file", headers={"Range": "bytes=2000000-"})
    assert answer.status_code == 416
    assert answer.json()["code"] == "range_not_satisfiable"
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("wanted", ["bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=0-1,5-6", f"bytes=0-{'9' * 5000}"])
async def test_a_range_we_do_not_understand_is_ignored(served: Serving, wanted: str) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file", headers={"Range": wanted})
    assert answer.status_code == 200
    assert answer.content == DATA


@pytest.mark.parametrize(("validator", "status"), [('"{key}"', 206), ('"other"', 200)])
async def test_a_resumed_download_of_a_changed_file_starts_over(served: Serving, validator: str, status: int) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(
                "/file", headers={"Range": "bytes=10-19", "If-Range": validator.format(key=served.stage.key)}
            )
    assert answer.status_code == status
    assert answer.content == (DATA[10:20] if status == 206 else DATA)


@pytest.mark.parametrize(
    "since", ["yesterday", "Sun, 06 Nov 999999999999999999 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +99999999999999"]
)
async def test_a_date_that_is_none_is_no_condition(served: Serving, since: str) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file", headers={"If-Modified-Since": since})
    assert answer.status_code == 200


async def test_a_file_the_client_has_is_not_sent_again(served: Serving) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file", headers={"If-None-Match": etag(served)})
    assert answer.status_code == 304
    assert "content-type" not in answer.headers
    assert answer.content == b""
    assert answer.headers["etag"] == etag(served)


@pytest.mark.parametrize(("tags", "status"), [("*", 200), ('"{key}"', 200), ('"a", "{key}"', 200), ('"other"', 412)])
async def test_a_file_is_sent_only_to_who_wants_this_version_of_it(served: Serving, tags: str, status: int) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            assert (
                await client.get("/file", headers={"If-Match": tags.format(key=served.stage.key)})
            ).status_code == status


@pytest.mark.parametrize("wanted", [{}, {"Range": "bytes=10-19"}, {"Range": "bytes=2000000-"}])
async def test_head_tells_the_size_and_sends_nothing(served: Serving, wanted: dict[str, str]) -> None:
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.head("/file", headers=wanted)
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.content == b""


@pytest.mark.parametrize("path", ["endless", "events"])
async def test_head_of_what_never_ends_is_answered_at_once(serve: Serve, path: str) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with served.client() as client:
            assert (await client.head(f"/{path}")).status_code == 200


async def test_a_file_that_can_not_be_opened_is_told_before_anything_is_sent(serve: Serve, tmp_path: Path) -> None:
    async with open_local(tmp_path) as objects:
        served = await serve(objects=objects)
        served.stage.key = key = (await objects.put(chunks())).key
        path = tmp_path / "sha256" / key[:2] / key
        path.unlink()
        path.mkdir()  # it is there, and no file
        with trio.fail_after(10):
            async with served.client() as client:
                answer = await client.get("/file")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")


async def test_an_odd_content_type_of_an_uploader_is_not_passed_on(served: Serving) -> None:
    served.stage.file_type = "text/html\r\nSet-Cookie: a=b"
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file")
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_a_file_that_is_gone_is_a_surprise_and_not_a_404(served: Serving) -> None:
    served.stage.key = "0" * 64
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/file")
    assert answer.status_code == 500


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.wav", "attachment; filename=\"a.wav\"; filename*=UTF-8''a.wav"),
        ("Träck 1.wav", "attachment; filename=\"Tr_ck 1.wav\"; filename*=UTF-8''Tr%C3%A4ck%201.wav"),
        ('a"; evil="b\r\n', "attachment; filename=\"a_; evil=_b__\"; filename*=UTF-8''a%22%3B%20evil%3D%22b__"),
        ("../x", "attachment; filename=\".._x\"; filename*=UTF-8''.._x"),
        ("", "attachment; filename=\"download\"; filename*=UTF-8''download"),
    ],
)
def test_a_name_cannot_break_out_of_its_header(name: str, header: str) -> None:
    assert content_disposition("attachment", name) == header


class Away(LocalObjects):
    """A store that can't be reached once the size of something was asked for; or midway."""

    midway = False

    @asynccontextmanager
    async def read(self, key: str, begin: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        if not self.midway:
            raise unreachable()
        async with super().read(key, begin, end) as whole:
            yield self._some(whole)

    async def _some(self, whole: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield await anext(whole)
        raise unreachable()


async def test_a_store_that_is_away_when_it_is_read_is_told_as_what_may_pass(serve: Serve, tmp_path: Path) -> None:
    async with Away.open(tmp_path, links()) as objects:
        served = await serve(objects=objects)
        served.stage.key = (await objects.put(chunks())).key
        with trio.fail_after(10):
            async with served.client() as client:
                answer = await client.get("/file")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")


async def test_a_store_that_goes_away_midway_cuts_the_download_short_and_is_no_surprise(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Away, "midway", True)
    async with Away.open(tmp_path, links()) as objects:
        served = await serve(objects=objects)
        served.stage.key = (await objects.put(chunks())).key
        with trio.fail_after(10):
            async with served.client() as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get("/file")
        await served.logged(1)
    told = [line for line in served.lines if line["event"] in ("answer_cut_short", "request_failed")]
    assert [(line["event"], line["log_level"]) for line in told] == [("answer_cut_short", "warning")]
