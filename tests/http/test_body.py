"""Bodies come in no faster than they are taken, and no further than their limit, whatever length they announced."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import psutil
import pytest
import trio

from tests.http.conftest import UPLOAD_LIMIT, Serve, Serving
from veza.http.body import SMALL_BODY
from veza.http.uploads import base_name

JSON_HEAD = b"POST /api/v1/stage/echo HTTP/1.1\r\nHost: veza\r\nContent-Type: application/json\r\n"
UPLOAD_HEAD = (
    b"POST /api/v1/stage/upload HTTP/1.1\r\nHost: veza\r\nContent-Type: multipart/form-data; boundary=cut\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FILE_HEAD = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def upload(served: Serving, pieces: AsyncGenerator[bytes, None]) -> tuple[bytes, int]:
    """What the server answers to a chunked upload, and how many bytes it let us send."""
    sent = 0
    async with await served.connect() as stream:
        await stream.send_all(UPLOAD_HEAD)
        try:
            async for piece in pieces:
                await stream.send_all(chunked(piece))
                sent += len(piece)
            await stream.send_all(b"0\r\n\r\n")
        except trio.BrokenResourceError:
            pass  # refused meanwhile: the answer is there to be read
        finally:
            await pieces.aclose()
        return await whole_answer(stream), sent


async def whole_answer(stream: trio.SocketStream) -> bytes:
    """A JSON answer, up to the brace that ends it."""
    answer = b""
    while not answer.rstrip().endswith(b"}"):
        received = await stream.receive_some()
        assert received, answer
        answer += received
    return answer


async def many(count: int, size: int = 65536) -> AsyncGenerator[bytes, None]:
    yield FILE_HEAD
    piece = b"x" * size
    for _ in range(count):
        yield piece


async def test_a_chunked_upload_past_its_limit_is_refused_and_never_held_in_memory(serve: Serve) -> None:
    served = await serve()
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    with trio.fail_after(30):
        answer, _ = await upload(served, many(1 << 14))  # a gigabyte at a limit of 8 MiB
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"onnection: close" in answer
    assert b'"code":"too_large"' in answer
    assert served.stage.taken <= UPLOAD_LIMIT
    assert process.memory_info().rss - before < 24 * 1024 * 1024


async def test_an_upload_that_announces_too_much_is_refused_before_it_is_read(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/upload", files={"file": ("a.wav", b"x" * (2 * UPLOAD_LIMIT))})
    assert answer.status_code == 413
    assert served.stage.taken == 0


async def test_a_handler_that_does_not_read_holds_its_client_back(serve: Serve) -> None:
    served = await serve()
    sent = 0
    with trio.fail_after(10):
        async with await served.connect() as stream:
            await stream.send_all(
                b"GET /api/v1/stage/hold HTTP/1.1\r\nHost: veza\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await served.stage.entered.wait()
            with trio.move_on_after(0.5) as scope:  # long for a loopback that takes a gigabyte a second
                while sent < 64 * 1024 * 1024:
                    await stream.send_all(chunked(b"x" * 65536))
                    sent += 65536
            assert scope.cancelled_caught
            served.stage.release.set()
    assert sent < 32 * 1024 * 1024  # what the kernel's buffers and our few messages hold


async def test_an_upload_streams_its_file_and_keeps_the_fields_around_it(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post(
                "/upload",
                data={"type": "invoice", "note": "grüße"},
                files={"file": ("../../Träck\\1.wav", b"RIFF" * 500_000, "audio/wav")},
            )
    assert answer.json() == {
        "size": 2_000_000,
        "filename": "1.wav",
        "type": "audio/wav",
        "fields": {"type": "invoice", "note": "grüße"},
    }


async def test_fields_after_the_file_are_read_too(serve: Serve) -> None:
    served = await serve()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield FILE_HEAD + b"RI"
        yield b'FF\r\n--cut\r\nContent-Disposition: form-data; name="type"\r\n\r\nman'
        yield b"ual\r\n--cut--\r\n"

    with trio.fail_after(10):
        answer, _ = await upload(served, pieces())
    assert b'"size":4' in answer
    assert b'{"type":"manual"}' in answer


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'--cut\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n--cut--\r\n', 400, b"invalid"),
        (FILE_HEAD + b"x\r\n" + FILE_HEAD + b"y\r\n--cut--\r\n", 400, b"invalid"),
        (FILE_HEAD + b"x", 400, b"bad_request"),
        (b"no multipart at all", 400, b"bad_request"),
        (b'--cut\r\nContent-Disposition: form-data; name="note"\r\n\r\n' + b"x" * 100_000, 413, b"too_large"),
        (b'--cut\r\nContent-Disposition: form-data; name="n"\r\n\r\nx\r\n' * 20 + FILE_HEAD, 400, b"invalid"),
        (b"--cut\r\nX: " + b"x" * 100_000, 400, b"bad_request"),
    ],
)
async def test_a_malformed_form_is_refused(serve: Serve, body: bytes, status: int, code: bytes) -> None:
    served = await serve()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body

    with trio.fail_after(10):
        answer, _ = await upload(served, pieces())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'"code":"%s"' % code in answer


async def test_an_upload_that_is_not_multipart_is_415(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/upload", json={"file": "x"})
    assert answer.status_code == 415


async def test_an_upload_that_stalls_is_cut(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with await served.connect() as stream:
            await stream.send_all(UPLOAD_HEAD + chunked(FILE_HEAD + b"RIFF"))
            answer = await whole_answer(stream)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer


async def test_an_upload_that_trickles_is_cut_though_it_never_stalls(serve: Serve) -> None:
    served = await serve()

    async def trickle() -> AsyncGenerator[bytes, None]:
        yield FILE_HEAD
        while True:
            await trio.sleep(0.1)  # well within the idle time, far below the rate
            yield b"x"

    with trio.fail_after(10):
        answer, sent = await upload(served, trickle())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert sent < 1000


@pytest.mark.parametrize("chunks", [True, False])
async def test_a_json_body_past_its_limit_is_413_chunked_or_not(serve: Serve, chunks: bool) -> None:
    served = await serve()
    body = b'{"title": "' + b"x" * (SMALL_BODY + 1) + b'"}'

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body

    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post(
                "/echo", content=pieces() if chunks else body, headers={"Content-Type": "application/json"}
            )
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


async def test_a_body_that_does_not_arrive_is_408(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veza.http.body.SMALL_BODY_SECONDS", 0.1)
    served = await serve()
    with trio.fail_after(10):
        async with await served.connect() as stream:
            await stream.send_all(JSON_HEAD + b"Content-Length: 40\r\n\r\n{")
            answer = await whole_answer(stream)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"onnection: close" in answer


async def test_a_small_body_nobody_read_does_not_cost_the_connection(serve: Serve) -> None:
    served = await serve()
    head = b"POST /api/v1/nowhere HTTP/1.1\r\nHost: veza\r\nContent-Length: 5\r\n\r\nhello"
    with trio.fail_after(10):
        async with await served.connect() as stream:
            for _ in range(3):
                await stream.send_all(head)
                answer = await whole_answer(stream)
                assert answer.startswith(b"HTTP/1.1 404 ")
                assert b"onnection: close" not in answer


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.wav", "a.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\a.wav", "a.wav"),
        ("a\r\nb\0.wav", "ab.wav"),
        ("..", ""),
        ("", ""),
    ],
)
def test_a_file_name_loses_its_folders_and_control_characters(given: str, kept: str) -> None:
    assert base_name(given) == kept
