"""A real HTTP server on loopback that answers as it is told to, whole or not, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext

import trio

DATE = "Tue, 24 Nov 2026 21:17:49 GMT"
HANG = b""  # says nothing, and keeps the connection


def answer(body: bytes, status: str = "200 OK", *, date: str | None = DATE, length: bool = True) -> bytes:
    """A whole answer. Without its length, its end is where the connection is closed."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"Date: {date}"] if date is not None else []
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class ScriptedServer:
    """``answers``: by method and target (``GET /stat``), the bytes that are sent. What is not there is not found."""

    url: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    tls: SSLContext | None = None

    async def serve(self, connection: trio.SocketStream) -> None:
        self.connections += 1
        stream = trio.SSLStream(connection, self.tls, server_side=True) if self.tls else connection
        with suppress(trio.BrokenResourceError):  # a client that has read enough
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    if not (piece := await stream.receive_some()):
                        return
                    head += piece
                asked = head.split(b" HTTP/", 1)[0].decode()
                self.asked.append(asked)
                sent = self.answers.get(asked, answer(b"", "404 Not Found"))
                if sent == HANG:
                    await trio.sleep_forever()
                await stream.send_all(sent)


@asynccontextmanager
async def scripted_server(tls: SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """One for as long as the block runs, over TLS where it is given what to show."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    server = ScriptedServer(f"{'https' if tls else 'http'}://127.0.0.1:{port}", tls=tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
