"""A desk with a cloud behind it: real rows, real objects on disk, and a quota small enough to be filled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import trio

from tests.buckets import SECRET
from tests.http.desk import Desk, Pair, open_desk, signed
from tests.people import People
from tests.shop import Json, data
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects
from veza.store.bridge import Database
from veza.store.cloud import CloudRows
from veza.store.orphans import Orphans

FILES = "/cloud/files"
QUOTA = 1000
VERSIONS = 3

Part = tuple[str, tuple[str | None, bytes, str] | tuple[str | None, bytes]]


@dataclass
class Locker:
    desk: Desk
    folder: Path

    async def call(self, method: str, path: str, by: Pair | None = None, **rest: Any) -> httpx.Response:
        headers = {**rest.pop("headers", {}), **(signed(by.access) if by is not None else {})}
        return await self.desk.http.request(method, path, headers=headers, **rest)

    async def get(self, path: str, by: Pair | None = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return await self.call("GET", path, by, headers=dict(headers or {}))

    async def upload(
        self, by: Pair | None, content: bytes = b"RIFF", name: str = "take.wav", claim: str = "audio/wav"
    ) -> httpx.Response:
        self.desk.clock.move(timedelta(milliseconds=1))  # what comes later is newer
        return await self.call("POST", FILES, by, files={"file": (name, content, claim)})

    async def send(self, by: Pair, parts: Sequence[Part]) -> httpx.Response:
        return await self.call("POST", FILES, by, files=parts)

    async def replace(self, by: Pair | None, file_id: str, content: bytes) -> httpx.Response:
        return await self.call("PUT", f"{FILES}/{file_id}/content", by, files={"file": ("x", content, "audio/flac")})

    async def announce(self, by: Pair, method: str, path: str, length: int) -> str:
        """The answer to an upload of which the head alone is sent."""
        async with self.uploading(by, method, path, length) as stream:
            return await answer_on(stream)

    @asynccontextmanager
    async def uploading(
        self, by: Pair, method: str, path: str, length: int, begun: bytes | None = None
    ) -> AsyncIterator[trio.SocketStream]:
        """An upload that says how long it is, with so much of its file sent; without any, its head alone."""
        head = (
            f"{method} /api/v1{path} HTTP/1.1",
            "Host: veza",
            *(f"{name}: {value}" for name, value in signed(by.access).items()),
            "Content-Type: multipart/form-data; boundary=b",
            f"Content-Length: {length}",
            "Connection: close",
            "\r\n",
        )
        form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        url = httpx.URL(self.desk.url)
        async with await trio.open_tcp_stream(url.host, url.port or 80) as stream:
            await stream.send_all("\r\n".join(head).encode() + (b"" if begun is None else form + begun))
            yield stream

    async def kept(self, by: Pair, content: bytes = b"RIFF", name: str = "take.wav") -> Json:
        made: Json = data(await self.upload(by, content, name))
        return made

    async def content(self, by: Pair, file: Json) -> bytes:
        return (await self.get(f"{FILES}/{file['id']}/content", by)).raise_for_status().content

    async def used(self, by: Pair) -> tuple[int, int, int]:
        """Bytes, files and snapshots."""
        usage = data(await self.get("/cloud/usage", by))
        assert usage["quota_bytes"] == QUOTA
        return usage["used_bytes"], usage["files"], usage["versions"]

    def objects(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@asynccontextmanager
async def open_locker(db: Database, folder: Path, **settings: Any) -> AsyncIterator[Locker]:
    limits: dict[str, Any] = {
        "cloud_quota_bytes": QUOTA,
        "cloud_versions_max": VERSIONS,
        "base_url": "https://veza.example",
    }
    people = People()
    links = Links(SECRET, limits["base_url"], people.clock)
    async with LocalObjects.open(folder, links) as objects:
        more = {"cloud": CloudRows(db), "objects": objects, "links": links, "orphans": Orphans(db)}
        async with open_desk(db, more=more, people=people, **limits | settings) as desk:
            yield Locker(desk, folder)


async def answer_on(stream: trio.SocketStream) -> str:
    """All that comes until the other side closes."""
    return b"".join([chunk async for chunk in stream]).decode()


def nobody() -> UUID:
    """An id that is no file's."""
    return UUID(int=7)
