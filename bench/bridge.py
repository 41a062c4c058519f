"""The bridge against asyncpg's own pool on plain asyncio, its reset query switched off.

Both run in processes of their own on one database and take turns (`bench.measure.interleaved`). The bridge's turns are
as it is used: pool, fitness check and cleaning rule included.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from bench.measure import Measure, interleaved
from veza.store.embedded import embedded_dsn

AIM: Final = 1.0
CONNECTIONS: Final = 10  # as `Database.open`'s own default
ROUNDS: Final = 19
SECONDS: Final = 0.25  # short turns, many rounds: what else the machine does strikes neighbours alike
QUERIES: Final = {"select 1": "SELECT 1", "20 rows": "SELECT * FROM bench_rows ORDER BY id LIMIT 20"}
TASKS: Final = (1, 32)

Turn = Callable[[str, int], float]


def run() -> list[Measure]:
    """Ratios of queries a second, the bridge's over the peer's; four of them."""
    with (
        tempfile.TemporaryDirectory(prefix="veza-bench-") as directory,
        embedded_dsn(Path(directory)) as dsn,
    ):
        _fill(dsn)
        with _contender("bridge", dsn) as bridge, _contender("peer", dsn) as peer:
            return [_measure(bridge, peer, query, tasks) for query in QUERIES for tasks in TASKS]


def _measure(bridge: Turn, peer: Turn, query: str, tasks: int) -> Measure:
    found = interleaved(partial(bridge, query, tasks), partial(peer, query, tasks), ROUNDS)
    return Measure(
        name=f"bridge against asyncpg.Pool, {query}, {tasks} task{'s' if tasks > 1 else ''}",
        value=found.ratio,
        unit="x",
        aim=f">= {AIM}",
        met=found.ratio >= AIM,
        aa_spread=found.aa_spread,
        detail=f"{found.a:,.0f} against {found.b:,.0f} queries a second",
    )


def _fill(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "CREATE TABLE bench_rows AS SELECT i AS id, 'title ' || i AS title, i * 100 AS price_cents,"
            " now() AS created_at FROM generate_series(1, 1000) AS i"
        )
        connection.execute("ALTER TABLE bench_rows ADD PRIMARY KEY (id)")


@contextmanager
def _contender(side: str, dsn: str) -> Iterator[Turn]:
    """A process that runs a turn for each line it is given and answers with its queries a second."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.bridge", side, dsn],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def turn(query: str, tasks: int) -> float:
            to.write(f"{tasks} {QUERIES[query]}\n")
            to.flush()
            return float(answers.readline())

        yield turn
        to.close()


# -- inside the contenders' processes ------------------------------------------------------------------------------


async def _work(fetch: Callable[[str], Awaitable[Any]], sql: str, until: float, done: list[int]) -> None:
    count = 0
    while time.perf_counter() < until:
        await fetch(sql)
        count += 1
    done.append(count)


def _turns() -> Iterator[tuple[int, str]]:
    for line in sys.stdin:
        tasks, _, sql = line.strip().partition(" ")
        yield int(tasks), sql


def _answer(done: list[int], began: float) -> None:
    print(sum(done) / (time.perf_counter() - began), flush=True)


async def _bridge(dsn: str) -> None:
    import trio

    from veza.store.bridge import Database

    async with Database.open(dsn, size=CONNECTIONS) as db:
        for tasks, sql in _turns():
            done: list[int] = []
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(_work, db.fetch, sql, began + SECONDS, done)
            _answer(done, began)


async def _peer(dsn: str) -> None:
    import asyncpg

    class Unreset(asyncpg.Connection):
        def get_reset_query(self) -> str:
            return ""

    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, connection_class=Unreset) as pool:
        for tasks, sql in _turns():
            done: list[int] = []
            began = time.perf_counter()
            await asyncio.gather(*(_work(pool.fetch, sql, began + SECONDS, done) for _ in range(tasks)))
            _answer(done, began)


def _main(side: str, dsn: str) -> None:
    if side == "bridge":
        import trio

        trio.run(_bridge, dsn)
    else:
        asyncio.run(_peer(dsn))


if __name__ == "__main__":
    _main(*sys.argv[1:])
