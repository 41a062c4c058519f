"""An HTTP client that costs next to nothing: a library's would take more of the machine than the server does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


async def ask(stream: trio.SocketStream, path: str, head: Sequence[str] = ()) -> Answer:
    """A GET on a kept connection; ``head`` are more header lines. Fails if the connection ends instead of an answer."""
    began = trio.current_time()
    await stream.send_all("\r\n".join((f"GET {path} HTTP/1.1", "Host: veza", *head, "", "")).encode())
    received = b""
    while b"\r\n\r\n" not in received:
        received += await _more(stream)
    told, _, body = received.partition(b"\r\n\r\n")
    first, *rest = told.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in rest)
    while len(body) < int(headers["content-length"]):
        body += await _more(stream)
    return Answer(int(first.split()[1]), headers, body, trio.current_time() - began)


async def _more(stream: trio.SocketStream) -> bytes:
    data = bytes(await stream.receive_some())
    assert data, "the connection was closed under a request"
    return data


def percentile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[int(share * (len(seconds) - 1))]
