"""SIGTERM as a platform sends it, to a whole process under load: guarantee 10 seen from outside."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import trio

from tests.house import free_port
from tests.processes import SECRETS, Program, answering, production, program, veza

pytestmark = pytest.mark.slow

PLAN_SECONDS = 25.0  # what platforms give from SIGTERM to SIGKILL, and what the process promises
CLIENTS = 24
BUSY = 4 * CLIENTS  # writes acknowledged by when each client has written
BODY_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="t.wav"\r\nContent-Type: audio/wav\r\n\r\n'
BODY_END = b"\r\n--b--\r\n"
FILE_BYTES = 24 << 20  # more than the kernel's buffers of both ends hold, so that a stalled reader stalls the sender


@dataclass
class Served:
    """A `veza serve` of its own in production, its first admin signed in."""

    started: Program
    dsn: str
    url: str
    port: int
    token: str = ""
    answered: dict[str, int] = field(default_factory=dict)  # by request id: each had its whole answer
    titles: set[str] = field(default_factory=set)  # acknowledged products
    busy: trio.Event = field(default_factory=trio.Event)  # set once every client is at it

    async def sign_in(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            body = {"email": "admin@veza.example", "password": SECRETS["ADMIN_PASSWORD"]}
            answer = (await client.post("/auth/login", json=body)).raise_for_status()
            self.token = answer.json()["data"]["access_token"]

    async def product(self, client: httpx.AsyncClient, title: str, **fields: object) -> str:
        """A new product's id, once its making is acknowledged."""
        headers = bearer(self.token) | {"X-Request-ID": title}
        body = {"title": title, "price_cents": 999, **fields}
        answer = await client.post("/marketplace/products", json=body, headers=headers)
        self.answered[title] = answer.status_code
        self.titles.add(answer.raise_for_status().json()["data"]["title"])
        if len(self.titles) == BUSY:
            self.busy.set()
        made: str = answer.json()["data"]["id"]
        return made

    async def write_until_it_has_left(self, name: int) -> None:
        """Product after product on one connection after the other, until no new connection is accepted."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PLAN_SECONDS) as client:
            for number in count():
                try:
                    await self.product(client, f"track-{name}-{number}")
                except httpx.ConnectError:
                    return
                except httpx.TransportError:  # not accepted, or a request was lost: its log tells which
                    continue

    async def connected(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def refuses_connections(self) -> None:
        while True:
            try:
                stream = await self.connected()
            except OSError:
                return
            await stream.aclose()
            await trio.sleep(0.05)  # the other process's socket can't be waited for

    def stored(self, sql: str) -> set[object]:
        with psycopg.connect(self.dsn) as connection:
            return {row[0] for row in connection.execute(sql.encode())}

    def assert_left_in_order(self) -> None:
        """Told, not ready, the requests to their end, only then the actors."""
        said = [line["event"] for line in map(json.loads, self.started.lines)]
        steps = [event for event in said if event in ("leaving", "drained", "left")]
        assert steps == ["leaving", "drained", "left"]
        assert said.index("signal") < said.index("leaving")
        assert "request" not in said[said.index("drained") :]


@asynccontextmanager
async def served(dsn: str, tmp_path: Path) -> AsyncIterator[Served]:
    port = free_port()
    environment = production(dsn, tmp_path, PORT=port)
    async with program(*veza("serve"), environment=environment, cwd=tmp_path) as started:
        await answering(f"http://127.0.0.1:{port}/healthz", started)
        running = Served(started, dsn, f"http://127.0.0.1:{port}/api/v1", port)
        await running.sign_in()
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def download_path(running: Served, client: httpx.AsyncClient) -> tuple[str, str]:
    """The path of a big file that someone got for nothing, and their token."""
    product = await running.product(client, "gift", price_cents=0)
    path = f"/marketplace/products/{product}"
    files = {"file": ("t.wav", bytes(FILE_BYTES), "audio/wav")}
    (await client.post(f"{path}/files", files=files, headers=bearer(running.token))).raise_for_status()
    (await client.put(path, json={"status": "published"}, headers=bearer(running.token))).raise_for_status()
    body = {"username": "buyer", "email": "buyer@veza.example", "password": "correct-horse-1"}
    signed_up = (await client.post("/auth/register", json=body)).raise_for_status()
    token = signed_up.json()["data"]["access_token"]
    items = {"items": [{"product_id": product, "quantity": 1}]}
    order = (await client.post("/marketplace/orders", json=items, headers=bearer(token))).raise_for_status()
    orders = f"/marketplace/orders/{order.json()['data']['id']}/downloads"
    [file] = (await client.get(orders, headers=bearer(token))).raise_for_status().json()["data"]["downloads"]
    return urlsplit(file["url"]).path, token


def upload_head(running: Served, product: str, length: int) -> bytes:
    return (
        f"POST /api/v1/marketplace/products/{product}/files HTTP/1.1\r\nHost: veza\r\nAuthorization: Bearer"
        f" {running.token}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def test_sigterm_under_load_loses_no_accepted_request(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(90):
        async with served(dsn, tmp_path) as running:
            async with httpx.AsyncClient(base_url=running.url, timeout=20) as client:
                product = await running.product(client, "upload")
            async with await running.connected() as slow, trio.open_nursery() as clients:
                # A slow upload holds the drain, so that it can be seen from outside.
                await slow.send_all(upload_head(running, product, len(BODY_HEAD) + 5 + len(BODY_END)) + BODY_HEAD)
                for name in range(CLIENTS):
                    clients.start_soon(running.write_until_it_has_left, name)
                await running.busy.wait()
                running.started.terminate()
                told = trio.current_time()
                await running.refuses_connections()
                assert running.started.process.returncode is None
                await slow.send_all(b"bytes" + BODY_END)
                uploaded = b"".join([chunk async for chunk in slow])
            assert await running.started.ended() == 0
            assert trio.current_time() - told < PLAN_SECONDS
    assert uploaded.startswith(b"HTTP/1.1 201 ")
    seen = {line["request_id"]: line for line in running.started.logged("request")}
    writes = {name: line["status"] for name, line in seen.items() if name in running.answered or "track-" in name}
    assert writes == running.answered  # what reached the app was answered, and the client has the whole answer
    assert set(running.answered.values()) == {201}
    assert {line["outcome"] for line in seen.values()} == {"answered"}
    assert running.stored("SELECT title FROM products") == running.titles
    assert running.stored("SELECT size_bytes FROM product_files") == {5}
    running.assert_left_in_order()


async def test_neither_an_idle_connection_nor_more_signals_hold_or_hurry_the_leaving(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with served(dsn, tmp_path) as running, await running.connected() as idle:
            await idle.send_all(b"GET /healthz HTTP/1.1\r\nHost: veza\r\n\r\n")
            assert (await idle.receive_some()).startswith(b"HTTP/1.1 200 ")
            told = trio.current_time()
            running.started.terminate()
            await running.started.line('"leaving"')
            async with await running.connected() as late:  # nobody is refused yet, but sent away
                await late.send_all(b"GET /readyz HTTP/1.1\r\nHost: veza\r\n\r\n")
                answer = b"".join([chunk async for chunk in late])
            running.started.process.send_signal(signal.SIGINT)
            running.started.terminate()
            assert await idle.receive_some() == b""
            assert await running.started.ended() == 0
            # Two seconds of notice and one of last call, the actors have nothing in hand: the rest is the machine's.
            assert 2 < trio.current_time() - told < 12
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert [line["name"] for line in running.started.logged("signal")] == ["SIGTERM", "SIGINT", "SIGTERM"]
    running.assert_left_in_order()


async def test_a_stalled_reader_does_not_hold_it_past_the_plan(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(90):
        async with served(dsn, tmp_path) as running:
            async with httpx.AsyncClient(base_url=running.url, timeout=20) as client:
                path, token = await download_path(running, client)
            with socket.socket() as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                raw.setblocking(False)
                stalled = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
                await stalled.socket.connect(("127.0.0.1", running.port))
                head = f"GET {path} HTTP/1.1\r\nHost: veza\r\nAuthorization: Bearer {token}\r\n\r\n"
                await stalled.send_all(head.encode())
                assert (await stalled.receive_some()).startswith(b"HTTP/1.1 200 ")  # and then no byte more
                told = trio.current_time()
                running.started.terminate()
                assert await running.started.ended() == 0
                assert trio.current_time() - told < PLAN_SECONDS
    [cut] = [line for line in running.started.logged("request") if line["outcome"] == "cut"]
    assert cut["route"].endswith("/downloads/<uuid:file_id>")
    running.assert_left_in_order()
