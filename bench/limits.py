"""A thousand attempts to sign in a second, from one address, against ``GET /health`` meanwhile.

The server is a process of its own with all that stands before the framework; the flood is one as well, bounded in its
connections and its rate, and comes at random. What is compared is how long the slowest of a hundred looks at the health
takes, with the flood and without. The server's memory is looked at before and after. The server has a core to itself,
and those who ask share another.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from bench.http import Server, a_core_each, server
from bench.load import latencies
from bench.measure import Measure

AIM = 3.0
GROWTH_MB = 8.0
ROUNDS = 5
LOOKS = 2000
RATE = 1000
CONNECTIONS = 64  # those who are told late come as often all the same

OURS = """
import gc
from datetime import UTC, datetime
import trio
from veza import logs
from veza.domain.ids import system_mint
from veza.gateways.limits.memory import InMemory
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.listener import listen
from veza.serve import YOUNG_OBJECTS

async def main():
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    logs.configure(log_format="json", out=open("/dev/null", "w", buffering=1))
    app = create_app()
    app.bind(Parts.only(clock=lambda: datetime.now(UTC), new_id=system_mint(), checks={}, root_alive=lambda: True,
                        config=ConfigSummary(True, True, 0.1, True), meter=InMemory()))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: listen(
            app, "127.0.0.1", 0, new_id=system_mint(), shutdown=trio.Event(), task_status=task_status))
        print(url, flush=True)

trio.run(main)
"""

FLOOD = f"""
import os
import sys
from random import Random
from time import perf_counter
import trio
from bench.load import Connection

BODY = b'{{"email": "nobody@veza.example", "password": "not-theirs-1"}}'
REQUEST = (b"POST /api/v1/auth/login HTTP/1.1\\r\\nHost: bench\\r\\nContent-Type: application/json\\r\\n"
           b"Content-Length: %d\\r\\n\\r\\n" % len(BODY)) + BODY
asked, random = 0, Random(1)
os.nice(10)

async def one(port, every):
    global asked
    connection, due = Connection(port, REQUEST), perf_counter()
    while True:
        await connection.ask()
        asked += 1
        # At random, as those come who do not know of each other. What was missed is made good for a second, no longer.
        due = max(due + random.expovariate(1 / every), perf_counter() - 1)
        await trio.sleep(max(due - perf_counter(), 0))

async def tell():
    while True:
        await trio.sleep(1)
        print(asked, flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        for _ in range({CONNECTIONS}):
            nursery.start_soon(one, int(sys.argv[1]), {CONNECTIONS} / {RATE})
        nursery.start_soon(tell)

trio.run(main)
"""


@contextmanager
def flooded(port: int) -> Iterator[subprocess.Popen[str]]:
    """A flood for as long as the block runs; it has gone on for a second when that begins."""
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert flood.stdout is not None
        assert flood.stdout.readline()
        yield flood
    finally:
        flood.kill()
        flood.wait()


def run() -> list[Measure]:
    """The benchmark of this module."""
    idle: list[float] = []
    busy: list[float] = []
    rates: list[int] = []
    with server(OURS) as ours, a_core_each(ours):
        _slowest(ours)
        with flooded(ours.port):
            _slowest(ours)
        before = _megabytes(ours)
        for _ in range(ROUNDS):
            idle.append(_slowest(ours))
            with flooded(ours.port) as flood:
                assert flood.stdout is not None
                busy.append(_slowest(ours))
                seconds = [int(flood.stdout.readline()) for _ in range(2)]
                rates.append(seconds[1] - seconds[0])
        grown = _megabytes(ours) - before
    ratio = median(busy) / median(idle)
    return [
        Measure(
            name="p99 of GET /health under 1,000 logins a second against idle",
            value=ratio,
            unit="x",
            aim=f"<= {AIM}",
            met=ratio <= AIM,
            aa_spread=max(idle) / min(idle) - 1,
            detail=f"{median(busy) * 1e3:.2f} against {median(idle) * 1e3:.2f} ms, {median(rates):,.0f} a second came",
        ),
        Measure(
            name="memory that the flood took",
            value=grown,
            unit="MB",
            aim=f"<= {GROWTH_MB}",
            met=grown <= GROWTH_MB,
            aa_spread=None,
            detail=f"{ROUNDS} floods after one to warm up",
        ),
    ]


def _slowest(of: Server) -> float:
    """Seconds of the 99th percentile."""
    taken = sorted(latencies(of.port, "/api/v1/health", count=LOOKS))
    return taken[int(0.99 * (len(taken) - 1))]


def _megabytes(of: Server) -> float:
    return float(of.process.memory_info().rss) / 1e6
