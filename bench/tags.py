"""A tag suggestion at 100,000 tags in use against the barest query for tags that begin so, in the index's own order.

Both on one connection in one process, one at a time. Half of the tags begin with the same five letters, and they are in
use unevenly, as tags are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Final

import psycopg
import trio

from bench.measure import Measure, interleaved
from veza.store.bridge import Database
from veza.store.embedded import embedded_dsn
from veza.store.migrate import migrate
from veza.store.tags import Tags

SHORT: Final = 2.0  # up to three letters the same is done, in another index's order
LONG: Final = 12.0  # sorting three hundred and asking once more is half a millisecond, the bare query a twentieth
TAGS: Final = 100_000
LIMIT: Final = 10
ROUNDS: Final = 7
REQUESTS: Final = 1_000  # a run: ten of them lie beyond its p99
BEGINNINGS: Final = {
    "1 letter of 50,000 tags": ("s", SHORT),
    "2 letters of 50,000": ("sy", SHORT),
    "3 letters of 6": ("f3a", SHORT),
    "5 letters of 50,000": ("synth", LONG),
    "5 letters of 25,000, one with an accent": ("dé su", LONG),
    "6 letters of 3,000": ("synth7", LONG),
    "7 letters of 200": ("synth7a", LONG),
}
PEER: Final = "SELECT tag FROM tags WHERE key >= $1 AND key < $1 || 'z' ORDER BY key LIMIT $2"

# Each tag once, then the lower its number the likelier again: of the first thousand each some ten times.
SEED: Final = """
INSERT INTO users (id, username, email, password_hash) VALUES (gen_random_uuid(), 'seller', 'seller@veza.example', '');
CREATE TEMP TABLE names AS
SELECT n, CASE n % 4 WHEN 0 THEN '' WHEN 1 THEN 'dè sub ' ELSE 'synth' END || substr(md5(n::text), 1, 6) || n AS tag
FROM generate_series(0, {tags} - 1) AS n;
CREATE UNIQUE INDEX ON names (n) INCLUDE (tag);
INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status, tags)
SELECT gen_random_uuid(), (SELECT id FROM users), 'Title', 'track', 100, 'EUR', 'published', array_agg(tag)
FROM names GROUP BY n / 20;
INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status, tags)
SELECT gen_random_uuid(), (SELECT id FROM users), 'Title', 'track', 100, 'EUR', 'published', array_agg(tag)
FROM (SELECT i, ({tags} ^ random())::int AS n FROM generate_series(1, {tags}) AS i) AS drawn JOIN names USING (n)
GROUP BY i / 10;
VACUUM ANALYZE tags;
"""


def run() -> list[Measure]:
    """The benchmark of this module: the p99 for beginnings of several lengths."""
    with tempfile.TemporaryDirectory(prefix="veza-bench-") as directory, embedded_dsn(Path(directory)) as dsn:
        _seed(dsn)
        return trio.run(_measures, dsn)


def _seed(dsn: str) -> None:
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in filter(str.strip, SEED.replace("{tags}", str(TAGS)).split(";")):
            connection.execute(statement.encode())
        assert connection.execute("SELECT count(*) FROM tags").fetchone() == (TAGS,)


async def _measures(dsn: str) -> list[Measure]:
    async with Database.open(dsn, size=1) as db:
        return [await _measure(db, name, *asked) for name, asked in BEGINNINGS.items()]


async def _measure(db: Database, name: str, beginning: str, aim: float) -> Measure:
    def p99(ask: Callable[[], Awaitable[object]]) -> float:
        return trio.from_thread.run(_p99, ask)

    ours = partial(p99, partial(Tags(db).suggest, beginning, limit=LIMIT))
    peer = partial(p99, partial(db.fetch, PEER, beginning, LIMIT))
    found = await trio.to_thread.run_sync(interleaved, ours, peer, ROUNDS)
    return Measure(
        name=f"tag suggestion against a bare query, {name}, p99",
        value=found.ratio,
        unit="x",
        aim=f"<= {aim}",
        met=found.ratio <= aim,
        aa_spread=found.aa_spread,
        detail=f"{found.a * 1000:.2f} against {found.b * 1000:.2f} ms, {TAGS:,} tags",
    )


async def _p99(ask: Callable[[], Awaitable[object]]) -> float:
    taken = []
    for _ in range(REQUESTS):
        began = perf_counter()
        await ask()
        taken.append(perf_counter() - began)
    return quantiles(taken, n=100)[98]
