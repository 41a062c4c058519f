"""The actor runtime against bare trio and pykka, and what an actor weighs."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from logging import CRITICAL
from random import Random
from threading import Barrier
from time import perf_counter

import psutil
import pykka
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from bench.measure import Measure, interleaved
from veza.actors.core import Actor, Ask, Mailbox, Ref, Refuse, Tell
from veza.supervisors import dynamic, one_for_one, permanent, running

ASKERS = 32
ASKS = 400  # an asker a run: a third of a second, long against the scheduler's noise
ROUNDS = 9
ACTORS = 10_000
MESSAGES = 1_000
CHANCE = Random(1)
PATIENCE_S = 60.0  # a deadline that is set and never met


@dataclass(frozen=True, slots=True)
class Echo(Ask[int]):
    number: int


@dataclass(frozen=True, slots=True)
class Note(Tell):
    number: int


class Echoer(Actor[Echo | Note, int]):
    mailbox = Mailbox(64, full=Refuse, why="twice the askers: nothing is refused here")

    async def handle(self, message: Echo | Note) -> int | None:
        return message.number


def timed(main: Callable[[], object]) -> float:
    """Asks a second of one run."""
    gc.collect()
    began = perf_counter()
    main()
    return ASKERS * ASKS / (perf_counter() - began)


async def through_the_runtime() -> None:
    child = permanent("echo", Echoer)

    async def asker(ref: Ref[Echo | Note, int]) -> None:
        for number in range(ASKS):
            with trio.fail_after(PATIENCE_S):
                assert await ref.ask(Echo(number)) == number

    async with (
        running(one_for_one("bench", child), clock=clock, random=CHANCE),
        trio.open_nursery() as nursery,
    ):
        for _ in range(ASKERS):
            nursery.start_soon(asker, child.ref)


async def through_bare_trio() -> None:
    send, inbox = trio.open_memory_channel[tuple[int, trio.MemorySendChannel[int]]](64)

    async def server() -> None:
        async for number, reply in inbox:
            reply.send_nowait(number)

    async def asker() -> None:
        for number in range(ASKS):
            with trio.fail_after(PATIENCE_S):
                reply, answer = trio.open_memory_channel[int](1)
                await send.send((number, reply))
                assert await answer.receive() == number

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server)
        async with trio.open_nursery() as askers:
            for _ in range(ASKERS):
                askers.start_soon(asker)
        send.close()


async def under_one_deadline() -> None:
    """As `through_the_runtime`, the deadline set once around an asker's asks, as the edge does for a request."""
    child = permanent("echo", Echoer)

    async def asker(ref: Ref[Echo | Note, int]) -> None:
        with trio.fail_after(PATIENCE_S):
            for number in range(ASKS):
                assert await ref.ask(Echo(number)) == number

    async with (
        running(one_for_one("bench", child), clock=clock, random=CHANCE),
        trio.open_nursery() as nursery,
    ):
        for _ in range(ASKERS):
            nursery.start_soon(asker, child.ref)


class PykkaEchoer(pykka.ThreadingActor):
    def on_receive(self, message: int) -> int:
        return message


def through_pykka() -> None:
    echo = PykkaEchoer.start()
    together = Barrier(ASKERS)  # or the first threads are done before the last have started

    def asker(_: int) -> None:
        together.wait()
        for number in range(ASKS):
            assert echo.ask(number, timeout=PATIENCE_S) == number

    with ThreadPoolExecutor(ASKERS) as pool:
        list(pool.map(asker, range(ASKERS)))
    echo.stop()


def resident_kb() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1024


async def weigh_actors() -> float:
    """Kilobytes an actor of a dynamic supervisor takes after its messages."""

    def echoer(_: int) -> Echoer:
        return Echoer()

    flock = dynamic("flock", echoer, limit=ACTORS)
    async with running(one_for_one("bench", flock), clock=clock, random=CHANCE):
        before = resident_kb()
        refs = [flock.start(key) for key in range(ACTORS)]
        await wait_all_tasks_blocked()
        batch = Echoer.mailbox.capacity
        for begun in range(0, MESSAGES, batch):
            for ref in refs:
                for number in range(begun, min(begun + batch, MESSAGES)):
                    assert ref.tell(Note(number))
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
        return (resident_kb() - before) / ACTORS


async def weigh_tasks() -> float:
    """Kilobytes a parked task takes, with no channel and nothing of its own."""
    before = resident_kb()
    async with trio.open_nursery() as nursery:
        for _ in range(ACTORS):
            nursery.start_soon(trio.sleep_forever)
        await wait_all_tasks_blocked()
        weight = (resident_kb() - before) / ACTORS
        nursery.cancel_scope.cancel()
    return weight


def weight(of: str) -> float:
    """Weigh in a process of its own: what another run left behind must not be reused unseen."""
    code = f"import trio, bench.actors as b; b.hush(); print(trio.run(b.{of}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ran.stdout)


def hush() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))


def clock() -> datetime:
    return datetime.now(UTC)


def run() -> list[Measure]:
    hush()
    ours = partial(timed, partial(trio.run, through_the_runtime))
    shared = partial(timed, partial(trio.run, under_one_deadline))
    bare = partial(timed, partial(trio.run, through_bare_trio))
    threads = partial(timed, through_pykka)
    return [
        _ratio("ask / bare trio, a deadline each", ours, bare, 0.8, "trio"),
        _ratio("ask / pykka, a deadline each", ours, threads, 4.0, "pykka"),
        _ratio("ask / pykka, one deadline an asker", shared, threads, None, "pykka"),
        _weight(),
    ]


def _ratio(name: str, a: Callable[[], float], b: Callable[[], float], aim: float | None, peer: str) -> Measure:
    found = interleaved(a, b, ROUNDS)
    detail = f"{found.a:,.0f} asks/s against {peer}'s {found.b:,.0f}; {ASKERS} askers, {found.rounds} rounds"
    met = None if aim is None else found.ratio >= aim
    return Measure(name, found.ratio, "x", "" if aim is None else f">= {aim:g}x", met, found.aa_spread, detail)


def _weight() -> Measure:
    actors, tasks = [weight("weigh_actors") for _ in range(2)], weight("weigh_tasks")
    over = max(actors) - tasks
    detail = f"{max(actors):.2f} KB against a parked task's {tasks:.2f}; {ACTORS:,} actors, {MESSAGES:,} messages each"
    spread = abs(actors[0] / actors[1] - 1)
    return Measure("memory of an actor over a task", over, "KB", "<= 8 KB", over <= 8, spread, detail)
