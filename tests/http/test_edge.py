"""What holds for every request, whatever becomes of its handler: its name, its one line, its seat, its connection."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.http.conftest import Serve, until
from tests.stalls import heard
from veza.http import edge
from veza.http.parts import CheckResult
from veza.loop_watch import watched

PLAIN = b"GET /api/v1/health HTTP/1.1\r\nHost: veza\r\n"
HELD = b"GET /api/v1/stage/hold HTTP/1.1\r\nHost: veza\r\n\r\n"


@pytest.mark.parametrize("request_id", ["abc-123", "a" * 128, "trace:1.2_3"])
async def test_a_sane_request_id_is_echoed_and_logged(serve: Serve, request_id: str) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/raise/conflict", headers={"X-Request-ID": request_id})
        [line] = await served.logged(1)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == line["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a" * 129, "two words", "a\tb", "<script>"])
async def test_an_odd_request_id_is_replaced(serve: Serve, request_id: str) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/raise/conflict", headers={"X-Request-ID": request_id})
    assert len(answer.headers["x-request-id"]) == 36


async def test_a_request_is_logged_once_with_its_template_and_never_its_path(serve: Serve) -> None:
    served = await serve()
    thing = "0195a000-0000-7000-8000-000000000001"
    with trio.fail_after(10):
        async with served.client() as client:
            await client.get(f"/things/{thing}?token=abc")
        [line] = await served.logged(1)
    assert line["method"] == "GET"
    assert line["route"] == "/api/v1/stage/things/<uuid:thing_id>"
    assert line["status"] == 200
    assert line["outcome"] == "answered"
    assert line["user"] == thing
    assert line["bytes"] == 36
    assert line["duration_ms"] >= 0
    assert "abc" not in str(dict(line))


async def test_a_hang_up_cancels_the_handler_and_is_logged_once(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with await served.connect() as stream:
            await stream.send_all(HELD)
            await served.stage.entered.wait()
        await served.stage.left.wait()
        [line] = await served.logged(1)
        async with served.client() as client:
            await client.get("/pages")
        await served.logged(2)
    assert (line["status"], line["outcome"]) == (None, "cut")
    assert line["route"] == "/api/v1/stage/hold"
    assert len(served.requests) == len(served.seen) == 2
    assert served.app.edge.seats.taken == 0


@pytest.mark.parametrize(
    "head",
    [PLAIN + b"Connection: close\r\n\r\n", b"GET /api/v1/health HTTP/1.0\r\n\r\n", b"GET /api/v1/x HTTP/1.0\r\n\r\n"],
)
async def test_a_finished_connection_is_closed(serve: Serve, head: bytes) -> None:
    served = await serve()
    for _ in range(20):
        with trio.fail_after(5):
            answer = await served.exchange(head)
        assert answer.startswith(b"HTTP/1.1 ")


async def test_a_connection_that_ended_leaves_no_task_behind(serve: Serve) -> None:
    served = await serve()

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    await wait_all_tasks_blocked()
    before = tasks()
    with trio.fail_after(5):  # far less than an idle connection is kept
        for head in (PLAIN + b"Connection: close\r\n\r\n", b"GET /api/v1/health HTTP/1.0\r\n\r\n"):
            await served.exchange(head)
        async with await served.connect() as stream:
            await stream.send_all(PLAIN + b"\r\n")
            await stream.receive_some()
        async with await served.connect():
            pass
        await until(lambda: tasks() == before)


async def test_a_connection_is_kept_for_the_next_request(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with await served.connect() as stream:
            for _ in range(3):
                await stream.send_all(PLAIN + b"\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += await stream.receive_some()
                assert b"onnection: close" not in answer


async def test_too_many_in_flight_are_shed_and_probes_and_webhooks_are_not(serve: Serve) -> None:
    served = await serve(max_in_flight=1)
    with trio.fail_after(10):
        async with await served.connect() as holder, served.client() as client:
            await holder.send_all(HELD)
            await served.stage.entered.wait()
            shed = await client.post("/echo", content=b"x" * 2_000_000)
            probes = [
                await client.get(f"{served.base_url}{path}") for path in ("/api/v1/health", "/healthz", "/readyz")
            ]
            hook = await client.post(f"{served.base_url}/api/v1/webhooks/unknown")
            served.stage.release.set()
            await holder.receive_some()
            after = await client.get("/pages")
    assert shed.status_code == 503
    assert shed.json()["code"] == "overloaded"
    assert shed.headers["retry-after"] == "1"
    assert [probe.status_code for probe in probes] == [200, 200, 200]
    assert hook.status_code == 404
    assert after.status_code == 200


async def test_a_full_house_has_room_for_a_few_operators(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "RESERVED", 1)
    served = await serve(max_in_flight=1)
    with trio.fail_after(10):
        async with await served.connect() as holder, served.client() as client:
            await holder.send_all(HELD)
            await served.stage.entered.wait()
            console = await client.get(f"{served.base_url}/console")
            listed = await client.get(f"{served.base_url}/api/v1/admin/none")
            style = await client.get(f"{served.base_url}/static/console.css")
            others = await client.get("/pages")
            monkeypatch.setattr(edge, "RESERVED", 0)
            too_many = await client.get(f"{served.base_url}/console/none")
            api = await client.get(f"{served.base_url}/api/v1/admin/none")
            served.stage.release.set()
            await holder.receive_some()
    assert (console.status_code, listed.status_code, style.status_code, others.status_code) == (303, 404, 200, 503)
    assert (too_many.status_code, api.status_code) == (503, 503)
    assert too_many.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Too many requests are in hand; try again.</h1>" in too_many.text
    assert "default-src 'none'" in too_many.headers["content-security-policy"]
    assert too_many.headers["cache-control"] == "no-store"
    assert api.json()["code"] == "overloaded"
    assert (too_many.headers["retry-after"], api.headers["retry-after"]) == ("1", "1")


@pytest.mark.parametrize(
    "target",
    [
        b"http://veza.example/healthz",
        b"HTTP://veza.example:80/healthz?a=b://c",
        b"//api/v1/health",
        b"///healthz",
        b"http://veza.example//healthz",
    ],
)
async def test_a_target_is_judged_by_the_path_that_it_reaches(serve: Serve, target: bytes) -> None:
    served = await serve(max_in_flight=1)
    with trio.fail_after(10):
        async with await served.connect() as holder:
            await holder.send_all(HELD)
            await served.stage.entered.wait()
            probe = await served.exchange(b"GET " + target + b" HTTP/1.1\r\nHost: veza\r\nConnection: close\r\n\r\n")
            served.stage.release.set()
    assert probe.startswith(b"HTTP/1.1 200 ")


async def test_whoever_waits_for_its_clients_bytes_holds_no_seat(serve: Serve) -> None:
    served = await serve(max_in_flight=1)
    head = (
        b"POST /api/v1/stage/echo HTTP/1.1\r\nHost: veza\r\n"
        b"Content-Type: application/json\r\nContent-Length: 40\r\n\r\n"
    )
    with trio.fail_after(10):
        async with await served.connect() as slow, served.client() as client:
            await slow.send_all(head + b"{")
            while (await client.get("/pages")).status_code != 200:
                pass  # until the slow one's handler has come to wait
            for _ in range(5):
                assert (await client.get("/pages")).status_code == 200
            await slow.send_all(b'"title": "Dawn", "price_cents": 2999}  ')
            answer = await slow.receive_some()
    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_no_type_is_guessed_by_a_browser(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/pages")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


async def test_an_error_outside_the_app_has_the_envelope_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = await serve()

    async def broken(*_: object) -> None:
        raise RuntimeError("the framework itself")

    monkeypatch.setattr(served.app, "handle_request", broken)
    with trio.fail_after(10):
        answer = await served.exchange(
            PLAIN + b"X-Request-ID: one\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000
        )
        [line] = await served.logged(1)
    assert b" 500 " in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"] == "one"
    assert line["status"] == 500


async def test_a_request_that_keeps_the_event_loop_is_named_by_its_route_and_id(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = heard(monkeypatch)

    async def keeps_the_loop() -> CheckResult:
        log.block_until_told()
        return CheckResult("ok")

    served = await serve(checks={"database": keeps_the_loop})
    async with watched(served.app.parts.pulse), served.client() as client:
        url = f"{served.base_url}/api/v1/health/deep?token=of-theirs"
        await client.get(url, headers={"X-Request-ID": "of-the-test"})
        over = await log.until("event_loop_goes_on")
    assert (over["method"], over["route"], over["request_id"]) == ("GET", "/api/v1/health/deep", "of-the-test")
    assert "of-theirs" not in str(log.lines)
