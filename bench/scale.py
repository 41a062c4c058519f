"""``GET /marketplace/products`` over 100,000 products against the same over 1,000: what a page costs as the shop grows.

Two databases of one PostgreSQL, a server each, asked one request at a time.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Final
from urllib.parse import urlsplit

import psycopg

from bench.listing import PATH, seed, server
from bench.load import latencies
from bench.measure import Measure, interleaved
from veza.store.embedded import embedded_dsn

SMALL, LARGE = 1_000, 100_000
AIM: Final = 1.5
QUERIES: Final = {
    "the newest": "",
    "the 5th page by price": "?sort=price_asc&offset=80",
    "a type, the popular": "?product_type=track&sort=popular",
    "a search by price": "?search=some7&sort=price_asc",  # a fiftieth of what there is: 20 products, and 2,000
}
ROUNDS: Final = 5
REQUESTS: Final = 200  # a run: two of them lie beyond its p99


def run() -> list[Measure]:
    """The benchmark of this module: the median and the p99 of each query."""
    with tempfile.TemporaryDirectory(prefix="veza-bench-") as directory, embedded_dsn(Path(directory)) as dsn:
        small, large = (_database(dsn, many) for many in (SMALL, LARGE))
        with server("veza", small) as few, server("veza", large) as many:
            return [
                _measure(few.port, many.port, name, query, percentile)
                for name, query in QUERIES.items()
                for percentile in (50, 99)
            ]


def _database(dsn: str, many: int) -> str:
    name = f"products_{many}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    own = urlsplit(dsn)._replace(path=f"/{name}").geturl()
    seed(own, many)
    return own


def _measure(few: int, many: int, name: str, query: str, percentile: int) -> Measure:
    a, b = (partial(_percentile, port, PATH + query, percentile) for port in (many, few))
    found = interleaved(a, b, ROUNDS)
    return Measure(
        name=f"listing at {LARGE:,} products against {SMALL:,}, {name}, p{percentile}",
        value=found.ratio,
        unit="x",
        aim=f"<= {AIM}",
        met=found.ratio <= AIM,
        aa_spread=found.aa_spread,
        detail=f"{found.a * 1000:.2f} against {found.b * 1000:.2f} ms",
    )


def _percentile(port: int, path: str, percentile: int) -> float:
    return quantiles(latencies(port, path, count=REQUESTS), n=100)[percentile - 1]
