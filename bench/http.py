"""``GET /health`` through all of our HTTP room against a bare Quart-Trio app on the same Hypercorn.

Each server is a process of its own, kept busy. What is compared is answers for each second of the server's own CPU
time: with a core to itself that is its throughput, and it wavers less with what else the machine is doing. Our access
log is written as it always is, to /dev/null.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from bench.load import answers
from bench.measure import Measure, interleaved

AIM = 0.95
ROUNDS = 7
SECONDS = 1.5
CONNECTIONS = 16  # enough to keep one process busy, far below our seats

OURS = """
import sys
from datetime import UTC, datetime
from random import Random
import trio
from veza import logs
from veza.domain.ids import system_mint
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.listener import listen

async def main():
    logs.configure(log_format="json", out=open("/dev/null", "w", buffering=1))
    app = create_app()
    app.bind(Parts.only(clock=lambda: datetime.now(UTC), new_id=system_mint(), checks={}, root_alive=lambda: True,
                   config=ConfigSummary(True, True, 0.1, True)))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: listen(
            app, "127.0.0.1", 0, new_id=system_mint(), shutdown=trio.Event(), task_status=task_status))
        print(url, flush=True)

trio.run(main)
"""

BARE = """
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio

app = QuartTrio("bare")

@app.get("/api/v1/health")
async def health():
    return {"success": True, "data": {"status": "ok"}}

async def main():
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        [url] = await nursery.start(lambda task_status: serve(app, config, task_status=task_status))
        print(url, flush=True)

trio.run(main)
"""


@dataclass(frozen=True)
class Server:
    port: int
    process: psutil.Popen

    def ask(self, line: str) -> str:
        """Write a line to the server and read the one it answers with."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return str(self.process.stdout.readline())

    def answers_per_cpu_second(self, seconds: float = SECONDS) -> float:
        before = self._cpu()
        count = answers(self.port, "/api/v1/health", connections=CONNECTIONS, seconds=seconds)
        return count / (self._cpu() - before)

    def _cpu(self) -> float:
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


@contextmanager
def server(source: str) -> Iterator[Server]:
    """Run a server in a process of its own."""
    pipe = subprocess.PIPE
    process = psutil.Popen([sys.executable, "-c", source], stdin=pipe, stdout=pipe, text=True)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline().strip().rpartition(":")[2]), process)
    finally:
        process.kill()
        process.wait()


@contextmanager
def a_core_each(ours: Server) -> Iterator[None]:
    """The server's loop has a core to itself, and they who ask share another: they would be on other machines."""
    me, cores = psutil.Process(), psutil.Process().cpu_affinity()
    ours.process.cpu_affinity(cores[:1])
    me.cpu_affinity(cores[1:2] or cores)
    try:
        yield
    finally:
        me.cpu_affinity(cores)


def run() -> list[Measure]:
    """The benchmark of this module."""
    with server(OURS) as ours, server(BARE) as bare:
        found = interleaved(ours.answers_per_cpu_second, bare.answers_per_cpu_second, ROUNDS)
    return [
        Measure(
            name="GET /health against bare Quart-Trio",
            value=found.ratio,
            unit="x",
            aim=f">= {AIM}",
            met=found.ratio >= AIM,
            aa_spread=found.aa_spread,
            detail=f"{found.a:,.0f} against {found.b:,.0f} a CPU second, {CONNECTIONS} connections",
        )
    ]
