"""What is told of an event loop that serves nobody, and that nothing is told of one that does."""

from __future__ import annotations

import gc
import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, thread_time

import httpx
import pytest
import structlog
import trio

from tests.actors.samples import Add, Counter, Messages, run
from tests.house import House, free_port
from tests.processes import answering, production, program, veza
from tests.stalls import SECONDS, Log, heard
from veza import logs, loop_watch
from veza.actors.core import Pulse
from veza.loop_watch import APART_SECONDS, AT_ONCE, LONG_SECONDS, Telling, watched
from veza.supervisors import one_for_one, permanent


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return heard(monkeypatch)


async def beats(pulse: Pulse, count: int) -> None:
    """Wait for so many more."""
    reached = pulse.last[0] + count
    with trio.fail_after(60):
        while pulse.last[0] < reached:  # noqa: ASYNC110 - it tells nobody when it beats
            await trio.sleep(0.02)


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_a_task_that_blocks_is_told_by_its_place_and_again_when_it_is_over(log: Log) -> None:
    async def sit_on_the_loop(value: str) -> None:
        log.block_until_told()

    pulse = Pulse()
    async with watched(pulse), trio.open_nursery() as nursery:
        nursery.start_soon(sit_on_the_loop, "a value of theirs", name="the one that sits")
        over = await log.until("event_loop_goes_on")
    [stuck] = log.of("event_loop_stuck")
    assert stuck["task"] == over["task"] == "the one that sits"
    assert 100 <= stuck["so_far_ms"] <= over["stalled_ms"]
    assert re.search(r"/tests/test_loop_watch\.py:\d+:sit_on_the_loop$", stuck["places"][0])
    assert any(re.search(r"/stalls\.py:\d+:block_until_told", place) for place in stuck["places"])
    assert "a value of theirs" not in str(log.lines)
    assert (pulse.stuck, pulse.crowded) == (1, 0)
    assert pulse.stalled_seconds >= 0.1
    assert sum(pulse.counts[7:]) >= 1  # a lag over 100 ms was felt by the loop as well


@pytest.mark.parametrize(
    "work",
    [lambda: sum(range(1000)), lambda: re.match(r"(a+)+$", "a" * 20 + "b")],
    ids=["python", "a call that keeps the interpreter"],
)
async def test_a_task_that_computes_is_told(log: Log, work: Callable[[], object]) -> None:
    async def compute() -> None:
        until = perf_counter() + SECONDS
        while not log.lines and perf_counter() < until:
            work()

    async with watched(Pulse()), trio.open_nursery() as nursery:
        nursery.start_soon(compute)
        await log.until("event_loop_goes_on")
    [stuck] = log.of("event_loop_stuck")
    assert stuck["task"].endswith("compute")
    assert any(":compute" in place for place in stuck["places"])


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_it_is_told_to_machines_and_to_people_and_the_watch_goes_on(
    log_format: logs.Format, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure(log_format=log_format, out=written)
    monkeypatch.setattr(loop_watch, "log", structlog.get_logger())
    pulse = Pulse()
    async with watched(pulse):
        for times in (1, 2):
            until = perf_counter() + SECONDS
            while written.getvalue().count("event_loop_stuck") < times and perf_counter() < until:
                sum(range(1000))
            await beats(pulse, 3)
        assert pulse.watched
    assert "test_loop_watch.py:" in written.getvalue()


async def test_it_names_the_actor(log: Log) -> None:
    class Blocker(Counter):
        async def handle(self, message: Messages) -> object:
            log.block_until_told()
            return await super().handle(message)

    child = permanent("blocker", Blocker)
    async with watched(Pulse()), run(one_for_one("veza", child)):
        await child.ref.ask(Add(1))
        over = await log.until("event_loop_goes_on")
    assert over["actor"] == "veza/blocker"


async def test_what_the_garbage_collector_takes_of_it_is_said(log: Log) -> None:
    def takes_long(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            log.block_until_told()

    async with watched(Pulse()):
        gc.callbacks.append(takes_long)  # after the watch's own, as all that a collection does is
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(takes_long)
        over = await log.until("event_loop_goes_on")
    assert over["collecting_ms"] >= 100


async def test_many_tasks_that_take_their_turns_are_told_as_a_crowd(log: Log) -> None:
    async def turn() -> None:
        until = thread_time() + 0.015  # of computing, however little of the machine is left to it
        while thread_time() < until:
            sum(range(100))

    pulse = Pulse()
    async with watched(pulse), trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(turn)
        await log.until("event_loop_goes_on")
    assert [line["event"] for line in log.lines] == ["event_loop_crowded", "event_loop_goes_on"]
    assert (pulse.stuck, pulse.crowded) == (0, 1)


# -- what is not -------------------------------------------------------------------------------------------------------


async def test_of_a_loop_that_has_nothing_to_do_nothing_is_told(log: Log) -> None:
    pulse = Pulse()
    async with watched(pulse):
        await beats(pulse, 50)
    assert log.lines == []


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Threads that want the interpreter all the time."""
    over = threading.Event()

    def want() -> None:
        while not over.is_set():
            sum(range(100))

    threads = [threading.Thread(target=want) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


async def test_of_a_loop_that_waits_for_the_interpreter_nothing_is_told(log: Log) -> None:
    pulse = Pulse()
    with hogs(8):
        async with watched(pulse), trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(answer_now_and_then)
            await beats(pulse, 40)
            nursery.cancel_scope.cancel()
    assert log.lines == []
    assert sum(pulse.counts[7:]) >= 1  # though it was late by more than a tenth of a second


async def answer_now_and_then() -> None:
    while True:
        await trio.sleep(0.001)
        sum(range(1000))


@pytest.mark.slow
async def test_of_a_process_that_was_stopped_nothing_is_told(dsn: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with trio.fail_after(90):
        async with program(*veza("serve"), environment=production(dsn, tmp_path, PORT=port), cwd=tmp_path) as started:
            await answering(f"{url}/healthz", started)
            async with httpx.AsyncClient(base_url=url, timeout=20) as client, trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(ask_for_ever, client)
                for _ in range(5):
                    await client.get("/healthz")
                    started.freeze()
                    await trio.sleep(1.5)  # that time passes meanwhile is the point
                    started.thaw()
                    await client.get("/healthz")
                nursery.cancel_scope.cancel()
            started.terminate()
            assert await started.ended() == 0
    stalls = started.logged("event_loop_goes_on")  # it may have been stuck for a moment, but not while it was stopped
    assert [line for line in stalls if line["stalled_ms"] > 1000] == []
    assert len(started.logged("request")) > 10


async def ask_for_ever(client: httpx.AsyncClient) -> None:
    while True:
        await client.get("/api/v1/marketplace/products")


# -- how often, and until when -----------------------------------------------------------------------------------------


def test_stalls_are_told_a_few_at_once_and_then_one_at_a_time() -> None:
    telling = Telling(100.0)
    assert [telling.may(100.0) for _ in range(AT_ONCE + 2)] == [True] * AT_ONCE + [False] * 2
    assert not telling.may(100.0 + APART_SECONDS / 2)
    assert telling.may(100.0 + APART_SECONDS)
    assert not telling.may(100.0 + APART_SECONDS)
    assert [telling.may(10_000.0) for _ in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]


async def test_what_was_passed_over_is_counted_and_told_after_all_if_it_takes_long(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Telling, "may", lambda _telling, _now: False)

    pulse = Pulse()
    async with watched(pulse):
        for each in (1, 2):
            while pulse.stuck < each:
                sum(range(100))
            await beats(pulse, 3)
        assert log.lines == []
        log.block_until_told()
    [told] = log.of("event_loop_stuck")
    assert told["untold"] == 2
    assert told["so_far_ms"] >= LONG_SECONDS * 1000


async def test_a_watch_that_dies_says_so(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_frame: object) -> None:
        raise LookupError("a bug of the watch")

    monkeypatch.setattr(loop_watch, "look_at", broken)
    pulse = Pulse()
    async with watched(pulse):
        assert pulse.watched
        while not log.lines:
            sum(range(100))
        assert isinstance(log.of("event_loop_watch_died")[0]["exc_info"], LookupError)
        await beats(pulse, 2)
        assert not pulse.watched


async def test_it_ends_with_its_block() -> None:
    pulse = Pulse()
    async with watched(pulse):
        assert "veza-loop-watch" in [thread.name for thread in threading.enumerate()]
    assert not pulse.watched
    assert "veza-loop-watch" not in [thread.name for thread in threading.enumerate()]


async def test_a_house_is_watched_and_says_how_late_it_is(house: House) -> None:
    alive = (await house.get("/healthz")).json()["data"]
    assert alive["status"] == "alive"
    text = (await house.get("/metrics")).text
    assert "veza_event_loop_watched 1.0" in text
    counted = re.search(r"^veza_event_loop_lag_seconds_count (\S+)", text, re.MULTILINE)
    assert counted is not None
    assert float(counted[1]) > 0
