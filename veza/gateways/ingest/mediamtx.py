"""MediaMTX as an ingest server: its control API, and its request whether somebody may publish.

Paths, fields and statuses: bluenviron/mediamtx, api/openapi.yaml and docs/2-features/06-authentication.md. It renames
nothing: a path's name is the stream's public id, and the key comes beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from veza.domain.ingest import Attempt, Audio, Seen, StatPage, Video
from veza.gateways.ingest import IngestAway
from veza.gateways.ingest.exchange import answering, ask, ask_ok, check_ok, http_client, lists_media

BOOT: Final = "-"  # its connections are numbered with random UUIDs, so no run of it has another's
PAGE_ITEMS: Final = 1000  # some 500 KB, read in a few milliseconds
PAGE_BYTES: Final = 16 * 1024 * 1024  # a path lists its readers; there are none on one that only feeds HLS
MOST_PAGES: Final = 100
HOOK_BYTES: Final = 16 * 1024  # the publisher's URL is in it; a longer one is no encoder's
QUERY_FIELDS: Final = 16
KEY_FIELDS: Final = ("key", "pass", "token")  # the server takes the last two from the query by itself, if it is RTMP

KICKS: Final = {"rtmpConn": "rtmpconns", "rtmpsConn": "rtmpsconns"}
"""The sources that are encoders over RTMP, and the part of the API that drops each."""

VIDEO: Final = frozenset({"AV1", "VP9", "VP8", "H265", "H264", "MPEG-4 Video", "MPEG-1/2 Video", "M-JPEG"})
AUDIO: Final = frozenset(
    {"Opus", "FLAC", "Vorbis", "MPEG-4 Audio", "MPEG-4 Audio LATM", "MPEG-1/2 Audio"}
    | {"AC3", "Speex", "G726", "G722", "G711", "LPCM"}
)
USUAL_NAMES: Final = {"MPEG-4 Audio": "AAC", "MPEG-1/2 Audio": "MP3"}  # the same codec has one name on every server

M = TypeVar("M", bound=BaseModel)
Count = Annotated[int, Field(ge=0)]


class _Source(BaseModel):
    type: str
    id: str


class _Path(BaseModel):
    """``bytesReceived`` is what older servers call ``inboundBytes``."""

    model_config = ConfigDict(extra="ignore")

    name: str
    source: _Source | None = None
    inboundBytes: Count | None = None  # noqa: N815 - the API's own names
    bytesReceived: Count | None = None  # noqa: N815
    tracks: list[str] = []

    def seen(self) -> Seen | None:
        """What an encoder publishes there; None where none does. Raises IngestAway for one without its figures."""
        if self.source is None or self.source.type not in KICKS:
            return None
        bytes_in = self.bytesReceived if self.inboundBytes is None else self.inboundBytes
        if bytes_in is None or not self.source.id:
            raise IngestAway("a path without its figures")
        video, audio = _codec(self.tracks, VIDEO), _codec(self.tracks, AUDIO)
        return Seen(
            self.source.id,
            bytes_in,
            video=None if video is None else Video(video),
            audio=None if audio is None else Audio(audio),
        )


class _PathList(BaseModel):
    pageCount: Count  # noqa: N815
    items: list[_Path]


class MediaMtx:
    """A client of its API. A call ends within ``timeout`` seconds, all of its pages included."""

    def __init__(self, client: httpx.AsyncClient, *, api_url: str, hls_base_url: str, timeout: float) -> None:
        self._client = client
        self._api_url = api_url.rstrip("/")
        self._hls_base_url = hls_base_url.rstrip("/")
        self._timeout = timeout

    @classmethod
    @asynccontextmanager
    async def open(cls, *, api_url: str, hls_base_url: str, timeout: float) -> AsyncIterator[MediaMtx]:
        """Connections are kept for as long as the block runs."""
        async with http_client() as client:
            yield cls(client, api_url=api_url, hls_base_url=hls_base_url, timeout=timeout)

    @property
    def name(self) -> str:
        return "mediamtx"

    async def sample(self) -> StatPage:
        """See `Ingest.sample`.

        Its pages are of moments a little apart: a path that others move to another page meanwhile is missed by one
        sample, and there by the next.
        """
        streams: dict[UUID, Seen] = {}
        with answering(self._timeout):
            for page in range(MOST_PAGES):
                listed = await self._page(page)
                for path in listed.items:
                    if (stream_id := _public_id(path.name)) is not None and (seen := path.seen()) is not None:
                        streams[stream_id] = seen
                if page + 1 >= listed.pageCount:
                    return StatPage(BOOT, streams)
        raise IngestAway(f"more than {MOST_PAGES * PAGE_ITEMS} paths")

    async def _page(self, page: int) -> _PathList:
        url = f"{self._api_url}/v3/paths/list?itemsPerPage={PAGE_ITEMS}&page={page}"
        return _read(_PathList, await ask_ok(self._client, "GET", url, PAGE_BYTES))

    async def kick(self, stream_id: UUID) -> int:
        with answering(self._timeout):
            status, body = await ask(self._client, "GET", f"{self._api_url}/v3/paths/get/{stream_id}")
            if status == httpx.codes.NOT_FOUND:
                return 0
            check_ok(status)
            source = _read(_Path, body).source
            return 0 if source is None or source.type not in KICKS else await self._kick(source)

    async def _kick(self, source: _Source) -> int:
        connection = _uuid(source.id)
        if connection is None:
            raise IngestAway("a connection whose id is none")
        url = f"{self._api_url}/v3/{KICKS[source.type]}/kick/{connection}"
        status, _ = await ask(self._client, "POST", url)
        if status == httpx.codes.NOT_FOUND:
            return 0
        check_ok(status)
        return 1

    async def has_playlist(self, stream_id: UUID) -> bool:
        """See `Ingest.has_playlist`. Without its query, newer servers first redirect to the same with it."""
        url = f"{self._hls_base_url}/{stream_id}/index.m3u8?cookieCheck=1"
        return await lists_media(self._client, url, self._timeout)


@dataclass(frozen=True)
class MediaMtxRequest:
    """What the server asks leave for. ``stream_id`` is null for a path that is no public id.

    ``attempt`` is there for who wants to publish over RTMP and shows a key; whether the key is of that stream is not
    told here.
    """

    action: str
    stream_id: UUID | None
    attempt: Attempt | None


class MediaMtxAuth(BaseModel):
    """What MediaMTX asks. The stream key is the ``password``, the ``token``, or in the ``query``."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    action: Annotated[str, Field(min_length=1)]
    path: str = ""
    protocol: str = ""
    id: str | None = None
    ip: str = ""
    password: str | None = None
    token: str | None = None
    query: str | None = None


def read_auth(body: bytes) -> MediaMtxRequest:
    """What the server's HTTP authentication asks. Raises ValueError for what can't be that."""
    if len(body) > HOOK_BYTES:
        raise ValueError("the request is too long")
    try:
        auth = MediaMtxAuth.model_validate_json(body)
    except ValidationError:
        raise ValueError("the request is not of the form that is documented") from None  # the error holds the key
    return MediaMtxRequest(auth.action, _public_id(auth.path), _attempt(auth))


def _attempt(auth: MediaMtxAuth) -> Attempt | None:
    key = auth.password or auth.token or _key_in(auth.query or "")
    if auth.action != "publish" or auth.protocol != "rtmp" or not (key and auth.id and auth.ip):
        return None
    return Attempt(key, auth.id, auth.ip)


def _key_in(query: str) -> str | None:
    try:
        fields = parse_qsl(query, max_num_fields=QUERY_FIELDS, errors="strict")
    except ValueError:
        raise ValueError("the query is no list of fields, or too long a one") from None  # the error may hold the key
    return next((value for name, value in fields if name in KEY_FIELDS), None)


def _read(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise IngestAway("an answer that is not of the form that is documented") from error


def _codec(tracks: Sequence[str], kind: frozenset[str]) -> str | None:
    found = next((track for track in tracks if track in kind), None)
    return None if found is None else USUAL_NAMES.get(found, found)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _public_id(name: str) -> UUID | None:
    """Only as it is written in the addresses we hand out, or one stream would have several paths."""
    found = _uuid(name)
    return found if str(found) == name else None
