"""A POST through all of our HTTP room with the audit written, against the same app that writes none.

Each server is a process of its own, kept busy. What is compared is answers for each second of the server's own CPU
time, the writing of batches to a real PostgreSQL included. The route does nothing, so that the audit weighs as much as
it can.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from bench.http import CONNECTIONS, Server, server
from bench.load import answers
from bench.measure import Measure, interleaved
from veza.store.embedded import embedded_dsn
from veza.store.migrate import migrate

AIM = 0.95
ROUNDS = 7
SECONDS = 1.5
PATH = "/api/v1/bench/0195a000-0000-7000-8000-000000000001/plays"

OURS = """
from random import Random
import trio
from quart import Blueprint
from veza import logs
from veza.actors.audit import AuditKeeper, Outbox
from veza.domain.ids import system_mint, utc_now
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, Parts
from veza.listener import listen
from veza.store.audit import AuditRows
from veza.store.bridge import Database
from veza.supervisors import one_for_one, permanent, running

bench = Blueprint("bench", __name__)

@bench.post("/bench/<uuid:thing_id>/plays")
async def play(thing_id):
    return {{"success": True, "data": {{}}}}

async def main(dsn, audited):
    logs.configure(log_format="json", out=open("/dev/null", "w", buffering=1))
    outbox = Outbox()
    app = create_app()
    app.register_blueprint(bench, url_prefix="/api/v1")
    app.bind(Parts.only(clock=utc_now, new_id=system_mint(), checks={{}}, root_alive=lambda: True,
                        config=ConfigSummary(True, True, 0.1, True), **({{"outbox": outbox}} if audited else {{}})))
    async with Database.open(dsn) as db:
        tree = one_for_one("audit", permanent("keeper", lambda: AuditKeeper(AuditRows(db), outbox)))
        async with running(tree, clock=utc_now, random=Random(1)), trio.open_nursery() as nursery:
            url = await nursery.start(lambda task_status: listen(
                app, "127.0.0.1", 0, new_id=system_mint(), shutdown=trio.Event(), task_status=task_status))
            print(url, flush=True)

trio.run(main, {dsn!r}, {audited})
"""


def _answers_per_cpu_second(of: Server) -> float:
    before = sum(of.process.cpu_times()[:2])
    count = answers(of.port, PATH, connections=CONNECTIONS, seconds=SECONDS, method="POST")
    return count / (sum(of.process.cpu_times()[:2]) - before)


def run() -> list[Measure]:
    """The benchmark of this module."""
    with tempfile.TemporaryDirectory(prefix="veza-pg-") as name, embedded_dsn(Path(name)) as dsn:
        migrate(dsn)
        with (
            server(OURS.format(dsn=dsn, audited=True)) as audited,
            server(OURS.format(dsn=dsn, audited=False)) as plain,
        ):
            of = partial(partial, _answers_per_cpu_second)
            found = interleaved(of(audited), of(plain), ROUNDS)
    return [
        Measure(
            name="POST with the audit against without",
            value=found.ratio,
            unit="x",
            aim=f">= {AIM}",
            met=found.ratio >= AIM,
            aa_spread=found.aa_spread,
            detail=f"{found.a:,.0f} against {found.b:,.0f} a CPU second, {CONNECTIONS} connections",
        )
    ]
