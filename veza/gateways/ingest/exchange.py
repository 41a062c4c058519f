"""Exchanges with an ingest server: bounded in time and size, and IngestAway for whatever keeps an answer away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import httpx
import trio

from veza.gateways.certificates import certificates
from veza.gateways.ingest import IngestAway

CONNECTIONS: Final = 16  # one poll, and kicks and playlists beside it
ANSWER_BYTES: Final = 1024 * 1024  # a count, a path, a playlist: a playlist of a day of segments is some 500 KB


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    """Connections are kept for as long as the block runs."""
    async with httpx.AsyncClient(
        verify=certificates(),
        headers={"accept-encoding": "identity"},  # so that the bound on an answer's size is one on what becomes of it
        timeout=None,  # noqa: S113 - bounded as a whole below: httpx's own starts anew with each chunk
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        follow_redirects=False,
    ) as client:
        yield client


@contextmanager
def answering(timeout: float) -> Iterator[None]:
    """Bounds what runs inside to ``timeout`` seconds. Raises IngestAway when it takes longer, or nothing answers."""
    try:
        with trio.fail_after(timeout):
            yield
    except trio.TooSlowError as error:
        raise IngestAway(f"no answer within {timeout:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise IngestAway(f"no answer: {type(error).__name__}") from error


async def pour(answer: httpx.Response, into: Callable[[bytes], object], most: int) -> None:
    """Hand on an answer's body as it comes. Raises IngestAway once there are more than ``most`` bytes.

    An IngestAway of ``into`` ends it too. The loop is never left midway: it is several generators deep, and only a
    cancel unwinds each of them at once rather than when it is collected.
    """
    size, away = 0, None
    with trio.CancelScope() as scope:
        async for piece in answer.aiter_raw():
            size += len(piece)
            try:
                if size > most:
                    raise IngestAway(f"an answer of more than {most} bytes")
                into(piece)
            except IngestAway as error:
                away = away or error
                scope.cancel()
    if away is not None:
        raise away


async def ask(client: httpx.AsyncClient, method: str, url: str, most: int = ANSWER_BYTES) -> tuple[int, bytes]:
    """One exchange: the answer's status and its body. To be run inside ``answering``."""
    body = bytearray()
    async with client.stream(method, url) as answer:
        await pour(answer, body.extend, most)
    return answer.status_code, bytes(body)


async def ask_ok(client: httpx.AsyncClient, method: str, url: str, most: int = ANSWER_BYTES) -> bytes:
    """The same, for those answered with 200. Raises IngestAway for another status."""
    status, body = await ask(client, method, url, most)
    check_ok(status)
    return body


def check_ok(status: int) -> None:
    if status != httpx.codes.OK:
        raise IngestAway(f"answered with the status {status}")


async def lists_media(client: httpx.AsyncClient, url: str, timeout: float) -> bool:
    """Whether there is an HLS playlist that names something to play: a line that is no tag and not blank (RFC 8216)."""
    try:
        with answering(timeout):
            lines = (await ask_ok(client, "GET", url)).splitlines()
    except IngestAway:
        return False
    return lines[:1] == [b"#EXTM3U"] and any(line.strip() and not line.startswith(b"#") for line in lines)
