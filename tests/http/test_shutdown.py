"""How serving ends: what was begun is finished, and neither idle connections nor a stalled client hold it."""

from __future__ import annotations

import socket
from contextlib import suppress

import httpx
import pytest
import trio

from tests.http.conftest import Serve, until

HELD = b"GET /api/v1/stage/hold HTTP/1.1\r\nHost: veza\r\n\r\n"
ENDLESS = b"GET /api/v1/stage/endless HTTP/1.1\r\nHost: veza\r\n\r\n"


async def test_a_request_in_hand_is_finished_and_then_serving_ends(serve: Serve) -> None:
    served = await serve(drain_seconds=10)
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(HELD)
            await served.stage.entered.wait()
            served.shutdown.set()
            await served.refuses_connections()
            served.stage.release.set()
            answer = b"".join([chunk async for chunk in stream])
        await served.stopped.wait()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"held")


async def test_an_event_stream_ends_with_the_serving_and_does_not_hold_it(serve: Serve) -> None:
    served = await serve(drain_seconds=10)
    with trio.fail_after(2):
        async with await served.connect() as stream:
            await stream.send_all(b"GET /api/v1/stage/events HTTP/1.1\r\nHost: veza\r\n\r\n")
            answer = await stream.receive_some()
            served.shutdown.set()
            answer += b"".join([chunk async for chunk in stream])
        await served.stopped.wait()
        [line] = await served.logged(1)
    assert b": welcome" in answer
    assert answer.endswith(b"0\r\n\r\n")  # ended, not cut
    assert line["outcome"] == "answered"


async def test_idle_connections_do_not_hold_the_drain(serve: Serve) -> None:
    served = await serve(drain_seconds=10)
    with trio.fail_after(2):
        async with served.client() as client:
            await client.get("/pages")
            served.shutdown.set()
            await served.stopped.wait()


async def test_a_process_that_leaves_closes_each_connection_with_its_answer(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(5):
        async with served.client() as client:
            before = await client.get("/pages")
            served.app.parts.leaving.set()
            after = await client.get("/pages")
            fresh = await client.get("/pages")
    assert [a.headers.get("connection") for a in (before, after, fresh)] == [None, "close", "close"]


async def test_what_the_drain_has_no_time_for_is_cut_and_logged(serve: Serve) -> None:
    served = await serve(drain_seconds=0.1)
    with trio.fail_after(5):
        async with await served.connect() as stream:
            await stream.send_all(HELD)
            await served.stage.entered.wait()
            served.shutdown.set()
            await served.stopped.wait()
        [line] = await served.logged(1)
    assert served.stage.left.is_set()
    assert (line["status"], line["outcome"]) == (None, "cut")


@pytest.mark.parametrize("stall_seconds", [0.5, 60])
async def test_a_client_that_stopped_reading_does_not_stop_the_shutdown(serve: Serve, stall_seconds: float) -> None:
    served = await serve(drain_seconds=0.2, stall_seconds=stall_seconds)
    with trio.fail_after(10):
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            stalled = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
            await stalled.socket.connect(("127.0.0.1", served.port))
            await stalled.send_all(ENDLESS)
            await stalled.receive_some()  # the stream has begun; nothing more is read
            served.shutdown.set()
            await served.stopped.wait()
        [line] = await served.logged(1)
    assert line["outcome"] == "cut"


async def test_a_client_that_stopped_reading_is_dropped_while_we_serve(serve: Serve) -> None:
    served = await serve(stall_seconds=0.5)
    with trio.fail_after(10):
        async with await served.connect() as stalled:
            await stalled.send_all(ENDLESS)
            await stalled.receive_some()
            [line] = await served.logged(1)
    assert line["outcome"] == "cut"


async def test_a_client_that_takes_next_to_nothing_is_dropped_while_we_serve(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.connection.SLOWEST", 1 << 30)
    served = await serve(stall_seconds=0.5)
    with trio.fail_after(20):
        async with await served.connect() as slow:
            await slow.send_all(ENDLESS)
            with suppress(trio.BrokenResourceError):
                while True:
                    await trio.sleep(0.05)
                    if not await slow.receive_some(1000):
                        break
            [line] = await served.logged(1)
    assert line["outcome"] == "cut"


async def test_a_request_on_its_way_when_accepting_stops_is_answered(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with await served.connect() as silent, await served.connect() as late:
            served.shutdown.set()
            await served.refuses_connections()
            await late.send_all(b"GET /api/v1/health HTTP/1.1\r\nHost: veza\r\n\r\n")
            answer = b"".join([chunk async for chunk in late])
            assert await silent.receive_some() == b""
        await served.stopped.wait()
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_under_load_each_request_that_was_begun_is_answered(serve: Serve) -> None:
    served = await serve(drain_seconds=5)
    answers: list[int] = []

    async def ask() -> None:
        with suppress(httpx.RemoteProtocolError, httpx.ConnectError, httpx.ReadError):  # it has left
            async with served.client() as client:
                while True:
                    answers.append((await client.get("/pages")).status_code)

    with trio.fail_after(10):
        async with trio.open_nursery() as clients:
            for _ in range(8):
                clients.start_soon(ask)
            await until(lambda: len(answers) >= 50)
            served.shutdown.set()
        await served.stopped.wait()
    assert set(answers) == {200}
    assert len(answers) == len(served.requests)  # what reached the app was answered, and its answer arrived
