"""One deadline a request: it ends handlers, and neither downloads nor what said that it takes longer."""

from __future__ import annotations

import trio

from tests.http.conftest import Serve


async def test_a_handler_past_its_deadline_is_answered_503_and_cancelled(serve: Serve) -> None:
    served = await serve(deadline_seconds=0.05)
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/hold")
        await served.stage.left.wait()
        [line] = await served.logged(1)
    assert answer.status_code == 503
    assert answer.json()["code"] == "deadline_exceeded"
    assert answer.headers["retry-after"] == "1"
    assert (line["status"], line["outcome"]) == (503, "answered")


async def test_a_route_may_have_a_deadline_of_its_own_and_begin_it_anew(serve: Serve) -> None:
    served = await serve(deadline_seconds=0.01)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, served.client() as client:

            async def let_go_later() -> None:
                await served.stage.entered.wait()
                await trio.sleep(0.2)  # past the route's own deadline, had it not been renewed
                served.stage.release.set()

            nursery.start_soon(let_go_later)
            answer = await client.get("/patient")
    assert (answer.status_code, answer.text) == (200, "patient")


async def test_sending_an_answer_is_not_cut_by_the_deadline(serve: Serve) -> None:
    served = await serve(deadline_seconds=0.05)
    with trio.fail_after(10):
        async with await served.connect() as stream:
            await stream.send_all(b"GET /api/v1/stage/endless HTTP/1.1\r\nHost: veza\r\n\r\n")
            began = trio.current_time()
            while trio.current_time() - began < 0.3:
                assert await stream.receive_some()
