"""``GET /health`` through all of our HTTP room, requests counted and the event loop watched, against neither.

One process is seen and not seen by turns while it is kept busy, and tells how many answers it gave for each second of
its own CPU time, in which the watch's thread is counted as well. Its loop has a core to itself; the watch's thread goes
where the system puts it, as it does in production. The route does nothing, so that what is measured weighs as much as
it can. What is told of actors, the pool and the audit is read off when somebody asks, and costs a request nothing.
Garbage is collected as seldom as by `veza serve`.

Processes of the very same source differ by 5 % for as long as each lives, by where things happen to lie in memory,
which is as much as what is looked for. So each is compared with itself alone, and what is told is of many.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import sleep

from bench.http import CONNECTIONS, Server, a_core_each, server
from bench.measure import Comparison, Measure, interleaved, lower_bound

AIM = 5.0  # % of a request's CPU time at most
PROCESSES = 16
ROUNDS = 12  # in each
WARM_SECONDS = 1.0
SETTLE_SECONDS, SECONDS = 0.1, 0.4  # of a turn: the watch looks five times in it
LONG_SECONDS = 300  # far longer than a process is asked for

OURS = f"""
import gc, os, time
from contextlib import asynccontextmanager, nullcontext
import trio
from veza import logs
from veza.domain.ids import system_mint, utc_now
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.listener import listen
from veza.loop_watch import watched
from veza.serve import YOUNG_OBJECTS

anywhere = os.sched_getaffinity(0)
answered = 0

def count(_):
    global answered
    answered += 1

@asynccontextmanager
async def seen(observers, parts):
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, anywhere)  # where the watch's thread may be: it goes by who starts it
    observers.append(parts.exposition.requests.observe)
    async with watched(parts.pulse):
        os.sched_setaffinity(0, mine)
        yield
    observers.pop()

async def turn():
    await trio.sleep({SETTLE_SECONDS})
    before, began = answered, time.process_time()
    await trio.sleep({SECONDS})
    return (answered - before) / (time.process_time() - began)

async def main():
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    logs.configure(log_format="json", out=open("/dev/null", "w", buffering=1))
    app = create_app()
    parts = Parts.only(clock=utc_now, new_id=system_mint(), checks={{}}, root_alive=lambda: True,
                       config=ConfigSummary(True, True, 0.1, True))
    app.bind(parts)
    app.edge.observers[:] = [count]
    async with trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: listen(
            app, "127.0.0.1", 0, new_id=system_mint(), shutdown=trio.Event(), task_status=task_status))
        print(url, flush=True)
        async for line in trio.lowlevel.FdStream(os.dup(0)):
            async with seen(app.edge.observers, parts) if line == b"seen\\n" else nullcontext():
                print(await turn(), flush=True)

trio.run(main)
"""


def run() -> list[Measure]:
    """The benchmark of this module."""
    found = [_of_a_process() for _ in range(PROCESSES)]
    ratios = [each.ratio for each in found]
    cost, at_most = (100 * (1 - ratio) for ratio in (median(ratios), lower_bound(ratios)))
    seen, unseen = (median(rates) for rates in zip(*((each.a, each.b) for each in found), strict=True))
    return [
        Measure(
            name="GET /health with metrics and the loop's watch",
            value=at_most,
            unit="% slower at most",
            aim=f"<= {AIM:g} %",
            met=at_most <= AIM,
            aa_spread=median(each.aa_spread for each in found),
            detail=f"{cost:.1f} % in the median; {seen:,.0f} against {unseen:,.0f} a CPU second, "
            f"{CONNECTIONS} connections",
        )
    ]


def _of_a_process() -> Comparison:
    with server(OURS) as ours, a_core_each(ours), kept_busy(ours):
        sleep(WARM_SECONDS)
        return interleaved(partial(_answers, ours, "seen"), partial(_answers, ours, "not seen"), ROUNDS)


def _answers(ours: Server, how: str) -> float:
    """How many it gives for a second of its CPU time."""
    return float(ours.ask(how))


@contextmanager
def kept_busy(ours: Server) -> Iterator[None]:
    """Somebody asks all the time: another process, on the core that we are on."""
    asks = f"answers({ours.port}, '/api/v1/health', connections={CONNECTIONS}, seconds={LONG_SECONDS})"
    process = subprocess.Popen([sys.executable, "-c", f"from bench.load import answers; {asks}"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
