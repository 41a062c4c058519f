"""``GET /health`` through all of our HTTP room, requests counted and the event loop watched, against neither.

Each server is a process of its own, kept busy. What is compared is answers for each second of the server's own CPU
time, in which the watch's thread is counted as well. The route does nothing, so that what is measured weighs as much as
it can. What is told of actors, the pool and the audit is read off when somebody asks, and costs a request nothing.
Garbage is collected as seldom as by `veza serve`.
"""

from __future__ import annotations

from bench.http import CONNECTIONS, server
from bench.measure import Measure, interleaved

AIM = 5.0  # % of a request's CPU time at most
ROUNDS = 30

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


def run(rounds: int = ROUNDS) -> list[Measure]:
    """The benchmark of this module."""
    with server(OURS.format(seen=True)) as seen, server(OURS.format(seen=False)) as unseen:
        found = interleaved(seen.answers_per_cpu_second, unseen.answers_per_cpu_second, rounds)
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
