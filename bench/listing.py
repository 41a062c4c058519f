"""``GET /marketplace/products`` by Veza on Hypercorn against the same on FastAPI, uvicorn and asyncpg.Pool.

The peer is written as its users write it: the same statement, the same pydantic models for the query string and for
the answer, an access log. Both are processes of their own over one PostgreSQL and kept busy on keep-alive connections;
as in `bench.http` what is compared is answers for each second of the server's own CPU time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import asyncpg
import httpx
import psutil
import psycopg
import trio
import uvicorn
from fastapi import FastAPI, Query

from bench.load import answers
from bench.measure import Measure, interleaved
from veza import logs
from veza.domain.ids import system_mint
from veza.http.app import create_app
from veza.http.envelope import Envelope
from veza.http.parts import ConfigSummary, Parts
from veza.http.routes.products import ListQuery, ProductOut, ProductsOut
from veza.listener import listen
from veza.store.bridge import Database
from veza.store.catalog import Catalog, gather_query, product_in, walk_query
from veza.store.embedded import embedded_dsn
from veza.store.migrate import migrate

AIM: Final = 1.0
PATH: Final = "/api/v1/marketplace/products"
QUERIES: Final = {"the newest 20": "", "a search": "?search=some7&sort=price_asc"}
PRODUCTS: Final = 4_000  # enough that a page is found by an index and not by reading the table
ROUNDS: Final = 7
SECONDS: Final = 1.5
CLIENTS: Final = 16  # enough to keep one process busy, far below our seats
CONNECTIONS: Final = 10  # to the database, as `Database.open`'s own default

SEED: Final = """
INSERT INTO users (id, username, email, password_hash)
SELECT gen_random_uuid(), 'seller' || n, 'seller' || n || '@veza.example', '' FROM generate_series(1, 100) AS n;
INSERT INTO products (id, seller_id, title, description, product_type, price_cents, currency, tags, status, created_at,
                      words)
SELECT gen_random_uuid(), s.ids[1 + n % 100], 'Title ' || n, repeat('What it sounds like. ', 10), 'track', n % 5000,
       'EUR', ARRAY['synthwave', 'tag' || n % 200], 'published', now() - n * interval '1 minute',
       array_to_tsvector(ARRAY['title', 'some' || n % 50])
FROM generate_series(1, {many}) AS n, (SELECT array_agg(id) AS ids FROM users) AS s;
VACUUM ANALYZE users, products;
"""


def run() -> list[Measure]:
    """The benchmark of this module, a line for each query."""
    with tempfile.TemporaryDirectory(prefix="veza-bench-") as directory, embedded_dsn(Path(directory)) as dsn:
        seed(dsn, PRODUCTS)
        with server("veza", dsn) as ours, server("peer", dsn) as peer:
            for query in QUERIES.values():
                assert ours.says(PATH + query) == peer.says(PATH + query)
            return [_measure(ours, peer, name, query) for name, query in QUERIES.items()]


def _measure(ours: Server, peer: Server, name: str, query: str) -> Measure:
    a, b = (partial(server.answers_per_cpu_second, PATH + query) for server in (ours, peer))
    found = interleaved(a, b, ROUNDS)
    return Measure(
        name=f"listing against FastAPI, {name}",
        value=found.ratio,
        unit="x",
        aim=f">= {AIM}",
        met=found.ratio >= AIM,
        aa_spread=found.aa_spread,
        detail=f"{found.a:,.0f} against {found.b:,.0f} a CPU second, {CLIENTS} connections",
    )


@dataclass(frozen=True)
class Server:
    port: int
    process: psutil.Process

    def answers_per_cpu_second(self, path: str) -> float:
        before = self._cpu()
        count = answers(self.port, path, connections=CLIENTS, seconds=SECONDS)
        return count / (self._cpu() - before)

    def says(self, path: str) -> object:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}").raise_for_status().json()

    def _cpu(self) -> float:
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


def seed(dsn: str, many: int) -> None:
    """So many published products of a hundred sellers, in an empty database."""
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in filter(str.strip, SEED.replace("{many}", str(many)).split(";")):
            connection.execute(statement.encode())


@contextmanager
def server(side: str, dsn: str) -> Iterator[Server]:
    """Run one side in a process of its own, which says its port first."""
    process = subprocess.Popen([sys.executable, "-m", "bench.listing", side, dsn], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()


# -- the two sides -----------------------------------------------------------------------------------------------------


async def veza(dsn: str) -> None:
    with open("/dev/null", "w", buffering=1) as nowhere:  # noqa: ASYNC230 - it never waits
        logs.configure(log_format="json", out=nowhere)
        app, new_id = create_app(), system_mint()
        async with Database.open(dsn, size=CONNECTIONS) as database, trio.open_nursery() as nursery:
            app.bind(
                Parts.only(
                    clock=lambda: datetime.now(UTC),
                    new_id=new_id,
                    config=ConfigSummary(True, True, 0.1, True),
                    checks={},
                    root_alive=lambda: True,
                    catalog=Catalog(database),
                )
            )
            url: str = await nursery.start(partial(listen, app, "127.0.0.1", 0, new_id=new_id, shutdown=trio.Event()))
            print(url.rpartition(":")[2], flush=True)


async def peer(dsn: str) -> None:
    pools: list[asyncpg.Pool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
            pools.append(pool)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get(PATH)
    async def list_products(query: Annotated[ListQuery, Query()]) -> Envelope[ProductsOut]:
        listing = query.listing()
        way = walk_query if listing.search is None else gather_query
        sql, args = way(listing, query.limit, query.offset)
        rows = await pools[0].fetch(sql, *args)
        products = [
            ProductOut.of(product_in(row), cover_url=None, preview_url=None) for row in rows if row["id"] is not None
        ]
        total = max(rows[0]["counted"] or 0, query.offset + len(products))
        return Envelope[ProductsOut](data=ProductsOut(products=products, total=total))

    access = logging.getLogger("uvicorn.access")
    access.setLevel(logging.INFO)
    access.addHandler(logging.FileHandler("/dev/null"))
    access.propagate = False
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1], flush=True)
        await uvicorn.Server(uvicorn.Config(app, log_config=None)).serve(sockets=[listening])


if __name__ == "__main__":
    side, at = sys.argv[1:]
    trio.run(veza, at) if side == "veza" else asyncio.run(peer(at))
