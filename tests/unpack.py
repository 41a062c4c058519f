"""An export as its owner gets it: fetched by its link, opened, and looked through."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import httpx

from tests.sandbox.running import NO_CERTIFICATES


@dataclass(frozen=True)
class Unpacked:
    archive: ZipFile

    @classmethod
    def of(cls, content: bytes) -> Unpacked:
        archive = ZipFile(BytesIO(content))
        assert archive.testzip() is None
        return cls(archive)

    @property
    def names(self) -> list[str]:
        return self.archive.namelist()

    @property
    def files(self) -> dict[str, bytes]:
        """The person's own, by path."""
        return {name: self.archive.read(name) for name in self.names if name.startswith("files/")}

    def data(self, table: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.archive.read(f"data/{table}.json"))
        return found

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.data(table)["rows"]
        return rows

    @property
    def page(self) -> str:
        return self.archive.read("index.html").decode()


async def fetch(url: str) -> Unpacked:
    """What an export's link opens, without any token."""
    async with httpx.AsyncClient(timeout=20, verify=NO_CERTIFICATES) as client:
        answer = (await client.get(url)).raise_for_status()
    assert answer.headers["Content-Type"] == "application/zip"
    return Unpacked.of(answer.content)
