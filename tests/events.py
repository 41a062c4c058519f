"""A client of server-sent events, which reads its socket itself: a client's library would hold on to its stream."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio

from tests.shop import Json

SECONDS = 20.0  # for anything that is due at once, on a busy machine


@dataclass
class Events:
    """A connection's events, one at a time."""

    status: int
    headers: httpx.Headers
    stream: trio.abc.Stream
    rest: bytearray

    async def line(self) -> str | None:
        """The next line, without its end; None when there are no more."""
        while b"\n" not in self.rest:
            got = await self.stream.receive_some()
            if not got:
                return None
            self.rest += got
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode().rstrip("\r")

    async def next(self) -> Json:
        """The next event's fields. Raises EOFError at the end."""
        found: Json = {}
        with trio.fail_after(SECONDS):
            while (line := await self.line()) is not None:
                if not line and "data" in found:
                    return found
                name, _, value = line.partition(": ")
                if name:
                    found[name] = value
        raise EOFError

    async def notification(self) -> Json:
        event = await self.next()
        assert event["event"] == "notification"
        told: Json = json.loads(event["data"])
        return told | {"number": int(event["id"])}

    async def refusal(self) -> tuple[int, str]:
        with trio.fail_after(SECONDS):
            body = bytes(self.rest) + b"".join([piece async for piece in self.stream])
        return self.status, json.loads(body)["code"]


@asynccontextmanager
async def listening(
    url: str, headers: Mapping[str, str], tls: tuple[ssl.SSLContext, str] | None = None
) -> AsyncIterator[Events]:
    """As HTTP/1.0, whose answers come without chunks. ``tls``: whom to believe, and by what name to ask."""
    at = httpx.URL(url)
    lines = [f"GET {at.raw_path.decode()} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    connection: trio.abc.Stream = await trio.open_tcp_stream(at.host, at.port or 80)
    if tls is not None:
        connection = trio.SSLStream(connection, tls[0], server_hostname=tls[1], https_compatible=True)
    async with connection as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        events = Events(0, httpx.Headers(), stream, bytearray())
        with trio.fail_after(SECONDS):
            events.status = int((await events.line() or "").split()[1])
            while line := await events.line():
                name, _, value = line.partition(": ")
                events.headers[name] = value
        yield events
