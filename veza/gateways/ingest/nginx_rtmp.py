"""nginx with the rtmp module as an ingest server. It must run a single worker: a stat page is its worker's alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote_to_bytes, urlencode
from uuid import UUID

import httpx
import trio

from veza.domain.ingest import Attempt, StatPage
from veza.gateways.ingest import IngestAway
from veza.gateways.ingest.exchange import answering, ask_ok, check_ok, http_client, lists_media, pour
from veza.gateways.ingest.nginx_rtmp_stat import StatReader

STAT_BYTES: Final = 64 * 1024 * 1024  # 10,000 streams and what they are relayed to are 20 MB; the rest is for players
HOOK_BYTES: Final = 8192  # the server's limits on the fields (ngx_rtmp_cmd_module.h), each byte escaped, make 4.8 KB
SERVER_FIELDS: Final = 16  # it writes nine, the name being the last; the rest is for what it may come to add
KICKS_AT_ONCE: Final = 4  # thousands at once would have the client's pool sort its queue at each; the rest wait here
BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
NUMBER: Final = re.compile(r"[0-9]{1,20}", re.ASCII)  # a connection's, of 64 bits


class NginxRtmp:
    """A client of its stat and control pages. A call ends within ``timeout`` seconds."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        stat_url: str,
        control_url: str,
        hls_base_url: str,
        application: str,
        timeout: float,
    ) -> None:
        self._client = client
        self._stat_url = stat_url
        self._control_url = control_url.rstrip("/")
        self._hls_base_url = hls_base_url.rstrip("/")
        self._application = application
        self._timeout = timeout
        self._kicks = trio.CapacityLimiter(KICKS_AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, stat_url: str, control_url: str, hls_base_url: str, application: str, timeout: float
    ) -> AsyncIterator[NginxRtmp]:
        """Connections are kept for as long as the block runs. ``application`` is the one that is published to.

        ``stat_url`` is the server's own, with no proxy between: its answer's Date must be the server's.
        """
        async with http_client() as client:
            yield cls(
                client,
                stat_url=stat_url,
                control_url=control_url,
                hls_base_url=hls_base_url,
                application=application,
                timeout=timeout,
            )

    @property
    def name(self) -> str:
        return "nginx-rtmp"

    async def sample(self) -> StatPage:
        """See `Ingest.sample`. The page is read as it comes, so others run between its pieces."""
        reader = StatReader(self._application)
        with answering(self._timeout):
            async with self._client.stream("GET", self._stat_url) as answer:
                check_ok(answer.status_code)
                await pour(answer, reader.feed, STAT_BYTES)
        return reader.close(_server_time(answer.headers))

    async def kick(self, stream_id: UUID) -> int:
        query = urlencode({"app": self._application, "name": str(stream_id)})
        async with self._kicks:
            return await self._drop(query)

    async def _drop(self, query: str) -> int:
        with answering(self._timeout):
            count = await ask_ok(self._client, "GET", f"{self._control_url}/drop/publisher?{query}")
        if count not in (b"0", b"1"):
            raise IngestAway("answered a drop with something else than how many were dropped")
        return int(count)

    async def has_playlist(self, stream_id: UUID) -> bool:
        return await lists_media(self._client, f"{self._hls_base_url}/{stream_id}/index.m3u8", self._timeout)


def _server_time(headers: httpx.Headers) -> int:
    try:
        return int(parsedate_to_datetime(headers["date"]).timestamp())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise IngestAway("a stat page that does not tell the server's time") from error


def read_publish(body: bytes, application: str) -> Attempt:
    """Who wants to publish, as the server's on_publish tells it. Raises ValueError for what can't be that."""
    return _attempt(body, b"publish", application)


def read_publish_done(body: bytes, application: str) -> Attempt:
    """Who publishes no more. Raises ValueError for what can't be that.

    Believe the connection's number, not the key: where the server has no name to tell, it tells none, and what follows
    is the publisher's own. So a session ends only by the number of the connection that it knows.
    """
    return _attempt(body, b"publish_done", application)


def _attempt(body: bytes, call: bytes, application: str) -> Attempt:
    if len(body) > HOOK_BYTES:
        raise ValueError("a hook's body is too long")
    fields = _server_fields(body)
    if fields.get(b"call") != call:
        raise ValueError("a hook of another call")
    if _text(fields, b"app") != application:
        raise ValueError("a hook of another application")
    client_id = _text(fields, b"clientid")
    if not NUMBER.fullmatch(client_id):
        raise ValueError("a hook's clientid is no number")
    return Attempt(_text(fields, b"name"), client_id, _text(fields, b"addr"))


def _server_fields(body: bytes) -> dict[bytes, bytes]:
    """The fields that are the server's, up to the name, each as it stands first.

    After the name the publisher's URL arguments follow as they are, with any field in them. What stands before comes
    from the publisher in part (flashver, tcurl...), but escaped, and so is the name (nginx-rtmp-module 1.2.2:
    ngx_rtmp_netcall_http_format_session, ngx_rtmp_notify_publish_create).
    """
    fields: dict[bytes, bytes] = {}
    for field in body.split(b"&", SERVER_FIELDS)[:SERVER_FIELDS]:
        name, _, value = field.partition(b"=")
        fields.setdefault(name, value)
        if name == b"name":
            break
    return fields


def _text(fields: dict[bytes, bytes], name: bytes) -> str:
    escaped = fields.get(name, b"")
    if BAD_ESCAPE.search(escaped):
        raise ValueError(f"a hook's {name.decode()} is escaped wrongly")
    try:
        value = unquote_to_bytes(escaped).decode()
    except UnicodeDecodeError:
        raise ValueError(f"a hook's {name.decode()} is no text") from None  # the error holds the bytes
    if not value or not value.isprintable():
        raise ValueError(f"a hook's {name.decode()} is missing or not printable")
    return value
