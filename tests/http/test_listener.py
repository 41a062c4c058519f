"""What a connection may do to us, and what it gets: heads, keep-alive, pipelines, and more clients than we take."""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import suppress

import h11
import pytest
import trio
import trio.testing
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from tests.http.conftest import Serve, Serving, until
from veza.connection import HEAD_BYTES, Client, Drain
from veza.domain.ids import system_mint
from veza.listener import ListenerConfig

PAGES = b"GET /api/v1/stage/pages HTTP/1.1\r\nHost: veza\r\n\r\n"
HELD = b"GET /api/v1/stage/hold HTTP/1.1\r\nHost: veza\r\n\r\n"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections between requests are kept for moments."""
    monkeypatch.setattr("veza.connection.KEEP_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr("veza.connection.FIRST_HEAD_SECONDS", 0.2)


async def receive_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def assert_refused(answer: bytes, status: int, code: str, served: Serving) -> None:
    """Told why in the envelope, by a name that the log knows; and the app was not asked."""
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]) == len(body)
    assert told["code"] == code
    assert told["success"] is False
    [logged] = [line for line in served.lines if line["event"] == "refused"]
    assert (logged["request_id"], logged["code"]) == (told["request_id"], code)
    assert told["request_id"] not in {line["request_id"] for line in served.requests}


@pytest.mark.usefixtures("hasty")
async def test_a_head_that_trickles_in_does_not_hold_its_connection(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with await served.connect() as stream, trio.open_nursery() as nursery:

            async def trickle() -> None:
                await stream.send_all(b"GET /api/v1/stage/pages HTTP/1.1\r\nHost: veza\r\nX: ")
                while True:
                    await trio.sleep(0.02)  # each byte well within the time that the whole head has
                    await stream.send_all(b"x")

            nursery.start_soon(trickle)
            assert_refused(await receive_all(stream), 408, "request_timeout", served)
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("hasty")
async def test_a_connection_nobody_uses_is_closed(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with await served.connect() as silent, await served.connect() as stream:
            await stream.send_all(PAGES)
            answer = await receive_all(stream)
            assert await receive_all(silent) == b""
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("hasty")
async def test_a_handler_may_take_longer_than_a_connection_is_kept(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(HELD)
            await served.stage.entered.wait()
            await trio.sleep(0.5)  # past the time an idle connection has
            served.stage.release.set()
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_a_head_that_is_too_large_is_refused_and_never_reaches_the_app(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(b"GET /api/v1/stage/pages HTTP/1.1\r\nHost: veza\r\nX: ")
            for _ in range(8):
                await stream.send_all(b"x" * HEAD_BYTES)
            assert_refused(await receive_all(stream), 431, "request_header_fields_too_large", served)
        after = await served.exchange(PAGES.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await served.logged(1)
    assert after.startswith(b"HTTP/1.1 200 ")
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"one two\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_and_closed(serve: Serve, raw: bytes) -> None:
    served = await serve()
    with trio.fail_after(5):
        answer = await served.exchange(raw)
    assert_refused(answer, 400, "bad_request", served)


@pytest.mark.parametrize(
    "both",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_a_body_of_doubtful_length_is_refused(serve: Serve, both: bytes) -> None:
    """Or a proxy and we might see two different requests in it."""
    served = await serve()
    with trio.fail_after(5):
        answer = await served.exchange(b"POST /api/v1/stage/optional HTTP/1.1\r\nHost: veza\r\n" + both)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert not served.requests


@pytest.mark.parametrize("body", [b"zz\r\n", b"2\r\n{}XXXX", b"-1\r\n\r\n"])
async def test_a_body_that_breaks_its_framing_is_refused_and_its_handler_hears_of_it(serve: Serve, body: bytes) -> None:
    served = await serve()
    head = b"POST /api/v1/stage/optional HTTP/1.1\r\nHost: veza\r\nTransfer-Encoding: chunked\r\n\r\n"
    with trio.fail_after(3):  # less than a body has to arrive
        answer = await served.exchange(head + body)
        [line] = await served.logged(1)
    assert_refused(answer, 400, "bad_request", served)
    assert line["outcome"] == "cut"


async def test_more_requests_than_we_take_connections_are_told_so(serve: Serve) -> None:
    served = await serve(max_connections=1)
    with trio.fail_after(5):
        async with await served.connect() as busy:
            await busy.send_all(HELD)
            await served.stage.entered.wait()
            refused = await served.exchange(PAGES)
            served.stage.release.set()
            assert (await busy.receive_some()).startswith(b"HTTP/1.1 200 ")
    assert b"retry-after: 1\r\n" in refused
    assert_refused(refused, 503, "overloaded", served)


async def test_whoever_idles_longest_makes_room_for_who_comes(serve: Serve) -> None:
    served = await serve(max_connections=2)
    with trio.fail_after(5):
        async with await served.connect() as silent, await served.connect() as kept:
            for stream in (kept, await served.connect()):  # the second takes the place of the one that never spoke
                await stream.send_all(PAGES)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert await receive_all(silent) == b""
            await kept.send_all(PAGES)
            assert (await kept.receive_some()).startswith(b"HTTP/1.1 200 ")
            await stream.aclose()


async def test_where_nobody_idles_whoever_takes_longest_over_what_they_are_sent_makes_room(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.connection.PATIENCE_SECONDS", 0.2)
    served = await serve(max_connections=1)
    with trio.fail_after(10):
        async with await served.connect() as stalled:
            await stalled.send_all(PAGES.replace(b"pages", b"endless"))
            await stalled.receive_some()  # nothing more is read
            answer = b""
            while not answer.startswith(b"HTTP/1.1 200 "):  # refused while that one has not taken too long yet
                answer = await served.exchange(PAGES.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


async def test_those_turned_away_take_no_more_than_their_share_of_descriptors(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.listener.MAX_TURNED_AWAY", 2)
    served = await serve(max_connections=1)
    with trio.fail_after(5):
        async with await served.connect() as busy:
            await busy.send_all(HELD)
            await served.stage.entered.wait()
            async with await served.connect() as one, await served.connect() as two:
                for told in (one, two):
                    assert (await told.receive_some()).startswith(b"HTTP/1.1 503 ")
                async with await served.connect() as third:
                    with suppress(trio.BrokenResourceError):
                        assert await receive_all(third) == b""
            served.stage.release.set()
            assert (await busy.receive_some()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_an_offered_websocket_is_ignored_whatever_follows(serve: Serve, seconds: float) -> None:
    served = await serve()
    shaken = PAGES.replace(
        b"\r\n\r\n",
        b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    with trio.fail_after(10):
        for _ in range(20):
            async with await served.connect() as stream:
                await stream.send_all(shaken)
                await trio.sleep(seconds)  # into the answering
                await stream.send_all(b"\x81\x85abcdefghi")
                with suppress(trio.BrokenResourceError):
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert (await served.exchange(PAGES.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).endswith(b"}")


async def test_clients_that_reset_in_the_middle_of_a_pipeline_give_their_places_back(serve: Serve) -> None:
    served = await serve(max_connections=3)
    endless = PAGES.replace(b"pages", b"endless")
    with trio.fail_after(10):
        for _ in range(20):
            async with await served.connect() as stream:
                await stream.send_all(endless + endless)
                await stream.receive_some()
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answer = b""
        while not answer.startswith(b"HTTP/1.1 200 "):  # refused while the last of them is being dropped
            answer = await served.exchange(PAGES.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


async def test_what_breaks_one_connection_is_logged_and_spares_the_others(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(request: h11.Request) -> None:
        if request.target == b"/broken":
            raise RuntimeError("planted")

    monkeypatch.setattr("veza.connection.wrong_with", breaks)
    served = await serve()
    with trio.fail_after(5):
        async with await served.connect() as other:
            assert await served.exchange(b"GET /broken HTTP/1.1\r\nHost: veza\r\n\r\n") == b""
            await other.send_all(PAGES)
            assert (await other.receive_some()).startswith(b"HTTP/1.1 200 ")
    assert [line["event"] for line in served.lines if line["log_level"] == "error"] == ["connection_failed"]


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"get /api/v1/health HTTP/1.1\r\nHost: veza", 400, "bad_request"),
        (b"GET ?foo HTTP/1.1\r\nHost: veza", 400, "bad_request"),
        (b"GET http://[::1/api HTTP/1.1\r\nHost: veza", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a..b", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 300, 400, "bad_request"),
        (b"GET / HTTP/9.9\r\nHost: veza", 505, "http_version_not_supported"),
        (b"POST / HTTP/1.1\r\nHost: veza\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400, "bad_request"),
    ],
)
async def test_a_head_that_leaves_doubt_is_refused(serve: Serve, head: bytes, status: int, code: str) -> None:
    served = await serve()
    with trio.fail_after(5):
        assert_refused(await served.exchange(head + b"\r\n\r\n"), status, code, served)
    assert not served.requests


async def test_pipelined_requests_are_answered_in_their_order(serve: Serve) -> None:
    served = await serve()
    thing = b"0195a000-0000-7000-8000-00000000000%d"
    requests = [b"GET /api/v1/stage/things/" + thing % n + b" HTTP/1.1\r\nHost: veza\r\n\r\n" for n in range(5)]
    answer = b""
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(b"".join(requests))
            while answer.count(b"HTTP/1.1 200") < 5 or not answer.endswith(thing % 4):
                answer += await stream.receive_some()
    places = [answer.index(thing % n) for n in range(5)]
    assert places == sorted(places)


async def test_a_client_that_asks_before_sending_is_told_to_go_on(serve: Serve) -> None:
    served = await serve()
    head = (
        b"POST /api/v1/stage/echo HTTP/1.1\r\nHost: veza\r\nContent-Type: application/json\r\n"
        b"Content-Length: 36\r\nExpect: 100-continue\r\n\r\n"
    )
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(head)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(b'{"title": "Dawn", "price_cents": 29}')
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 201 ")


async def test_head_answers_without_a_body_and_the_connection_goes_on(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(PAGES.replace(b"GET", b"HEAD") + PAGES)
            answer = b""
            while answer.count(b"\r\n\r\n") < 2 or not answer.endswith(b"}"):
                answer += await stream.receive_some()
    first, _, rest = answer.partition(b"\r\n\r\n")
    second, _, body = rest.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: %d\r\n" % len(body) in first


async def test_http_2_in_the_clear_is_not_spoken(serve: Serve) -> None:
    served = await serve()
    upgrade = PAGES.replace(
        b"\r\n\r\n",
        b"\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    with trio.fail_after(5):
        assert (await served.exchange(upgrade)).startswith(b"HTTP/1.1 200 ")
        assert (await served.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).startswith(b"HTTP/1.1 505 ")


async def test_a_client_that_vanishes_midway_frees_its_place(serve: Serve) -> None:
    served = await serve(max_connections=1)
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(HELD)
            await served.stage.entered.wait()
        await served.stage.left.wait()
        await until(lambda: len(served.requests) == 1)
        while not (await served.exchange(PAGES.replace(b"1.1", b"1.0"))).startswith(b"HTTP/1.1 200 "):
            pass
    assert served.requests[0]["outcome"] == "cut"


async def connection() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a connection, ours first."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        theirs = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return await listener.accept(), theirs


@pytest.mark.parametrize("_turn", range(16))  # the loop shuffles whom it wakes first
async def test_a_closed_connection_does_not_read_what_another_was_sent(_turn: int) -> None:
    async def app(*_: object) -> None:
        raise AssertionError("no request was sent")

    config = ListenerConfig("127.0.0.1", 0, new_id=system_mint(), stall_seconds=1)
    here, there = await connection()
    bell, ringer = await connection()
    other, sender = socket.socketpair()
    number = here.socket.fileno()
    sender.send(PAGES)
    with trio.fail_after(5), other, sender:
        async with there, bell, ringer, trio.open_nursery() as nursery:
            client = Client(wrap_app(app, 0, "asgi"), config, WorkerContext(None), Drain(), here)

            async def hand_its_number_on() -> None:
                await bell.receive_some()
                here.socket.close()
                os.dup2(other.fileno(), number)  # as accepting does, which takes the lowest that is free

            nursery.start_soon(client.run)
            nursery.start_soon(hand_its_number_on)
            await trio.testing.wait_all_tasks_blocked()
            os.write(there.socket.fileno(), b"!")  # both before the loop looks
            os.write(ringer.socket.fileno(), b"!")
        os.close(number)
        assert other.recv(len(PAGES), socket.MSG_DONTWAIT) == PAGES
