"""A load client on raw sockets: keep-alive connections that ask for one thing over and over."""

from __future__ import annotations

from time import perf_counter

import trio


class Connection:
    """One connection after another. Only what it needs of HTTP/1.1: a status, a Content-Length, and when to leave."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._stream: trio.SocketStream | None = None

    async def ask(self) -> int:
        """Ask once and read the whole answer; its status. Raises EOFError if the server hangs up midway."""
        if self._stream is None:
            self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        await self._stream.send_all(self._request)
        answer = await self._stream.receive_some(65536)
        while b"\r\n\r\n" not in answer:
            answer += await self._more(self._stream)
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        left = int(fields.get(b"content-length", 0)) - len(body)  # a 304 has none
        while left > 0:
            left -= len(await self._more(self._stream))
        if fields.get(b"connection") == b"close":  # after a thousand requests Hypercorn wants another one
            await self.aclose()
        return int(head[9:12])

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def _more(self, stream: trio.SocketStream) -> bytes:
        received = bytes(await stream.receive_some(65536))
        if not received:
            raise EOFError
        return received


async def _hammer(port: int, path: str, connections: int, seconds: float, method: str) -> int:
    length = "" if method == "GET" else "Content-Length: 0\r\n"
    request = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n{length}\r\n".encode()
    answered = 0
    over = perf_counter() + seconds

    async def one() -> None:
        nonlocal answered
        connection = Connection(port, request)
        while perf_counter() < over:
            status = await connection.ask()
            assert status == 200, status
            answered += 1
        await connection.aclose()

    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(one)
    return answered


async def _one_by_one(port: int, path: str, count: int) -> list[float]:
    connection = Connection(port, f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    taken = []
    for _ in range(count):
        began = perf_counter()
        assert await connection.ask() == 200
        taken.append(perf_counter() - began)
    await connection.aclose()
    return taken


def latencies(port: int, path: str, *, count: int) -> list[float]:
    """Seconds that each of so many answers took, asked for one after the other."""
    return trio.run(_one_by_one, port, path, count)


def answers(port: int, path: str, *, connections: int, seconds: float, method: str = "GET") -> int:
    """How many answers a server on this machine gives to so many connections in this time."""
    return trio.run(_hammer, port, path, connections, seconds, method)
