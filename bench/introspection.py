"""``GET /health`` through all of our HTTP room, requests counted and the event loop watched, against neither.

Each server is a process of its own on a core to itself, kept busy. What is compared is answers for each second of the
server's own CPU time, in which the watch's thread is counted as well. The route does nothing, so that what is measured
weighs as much as it can. What is told of actors, the pool and the audit is read off when somebody asks, and costs a
request nothing. Garbage is collected as seldom as by `veza serve`.

Each turn is a new process's: two of the very same source differ by more (4 to 5 % from one to the next, for as long as
each lives, by where things happen to lie in memory) than what is looked for, so that one pair of servers, asked however
often, says more of the pair than of what it runs.
"""

from __future__ import annotations

from functools import partial

from bench.http import CONNECTIONS, a_core_each, server
from bench.measure import Measure, interleaved

AIM = 5.0  # % of a request's CPU time at most
ROUNDS = 80  # of short turns: processes differ by more than one process does from one second to the next
WARM_SECONDS, SECONDS = 0.4, 0.8

OURS = """
import gc
from contextlib import nullcontext
import trio
from veza import logs
from veza.domain.ids import system_mint, utc_now
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.listener import listen
from veza.loop_watch import watched
from veza.serve import YOUNG_OBJECTS

async def main(seen):
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    logs.configure(log_format="json", out=open("/dev/null", "w", buffering=1))
    app = create_app()
    parts = Parts.only(clock=utc_now, new_id=system_mint(), checks={{}}, root_alive=lambda: True,
                       config=ConfigSummary(True, True, 0.1, True))
    app.bind(parts)
    if not seen:
        app.edge.observers.remove(parts.exposition.requests.observe)
    async with watched(parts.pulse) if seen else nullcontext(), trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: listen(
            app, "127.0.0.1", 0, new_id=system_mint(), shutdown=trio.Event(), task_status=task_status))
        print(url, flush=True)

trio.run(main, {seen})
"""


def run() -> list[Measure]:
    """The benchmark of this module."""
    found = interleaved(partial(_one, seen=True), partial(_one, seen=False), ROUNDS)
    cost, at_most = (100 * (1 - ratio) for ratio in (found.ratio, found.at_least))
    return [
        Measure(
            name="GET /health with metrics and the loop's watch",
            value=at_most,
            unit="% slower at most",
            aim=f"<= {AIM:g} %",
            met=at_most <= AIM,
            aa_spread=found.aa_spread,
            detail=f"{cost:.1f} % in the median; {found.a:,.0f} against {found.b:,.0f} a CPU second, "
            f"{CONNECTIONS} connections",
        )
    ]


def _one(*, seen: bool) -> float:
    """Answers a CPU second, of a new server that is warm."""
    with server(OURS.format(seen=seen)) as ours, a_core_each(ours):
        ours.answers_per_cpu_second(WARM_SECONDS)
        return ours.answers_per_cpu_second(SECONDS)
