"""Multipart uploads, streamed: the part ``file`` chunk by chunk, the small fields beside it, nothing held in memory.

The grammar is RFC 7578's; python-multipart parses it, this module bounds and names what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import cast

import trio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from quart import request
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType

from veza.domain.errors import Invalid, Refusal, TooLarge, Unavailable
from veza.gateways.objects import StoredObject
from veza.http.body import PacedReader, UploadLimits, VezaRequest
from veza.http.parts import parts

FILE_FIELD = "file"
MAX_FIELDS = 16  # forms here have one or two beside the file
MAX_FIELD_BYTES = 16 * 1024
FRAMING_BYTES = 64 * 1024 + MAX_FIELDS * MAX_FIELD_BYTES  # boundaries, part headers and fields around the file
MAX_FILENAME = 255  # what file systems take
TAKE_BACK_SECONDS = 2.0  # more than a disk takes, or a bucket nearby


class Upload:
    """One file on its way in: iterate over it once, to the end. ``fields`` is complete only then.

    Raises TooLarge, Invalid (no or a second ``file``), BadRequest (not multipart) and RequestTimeout (stalled).
    """

    def __init__(self, source: PacedReader, boundary: bytes, max_bytes: int) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.content_type = "application/octet-stream"
        self.size = 0
        self._parts = 0
        self._source = source
        self._max_bytes = max_bytes
        self._chunks: deque[bytes] = deque()
        self._found = self._in_file = self._ended = False
        self._headers: dict[str, str] = {}
        self._header = (bytearray(), bytearray())
        self._field = ""
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def __aiter__(self) -> Upload:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            await self._parse_on()
        return self._chunks.popleft()

    async def find_file(self) -> None:
        """Read on to the head of the part ``file``."""
        try:
            while not self._found:
                await self._parse_on()
        except StopAsyncIteration:
            raise Invalid(f"The file's bytes belong in the field {FILE_FIELD!r}.", field=FILE_FIELD) from None

    async def _parse_on(self) -> None:
        try:
            chunk = await anext(self._source)
        except StopAsyncIteration:
            if not self._ended:
                raise BadRequest("The multipart body ends before its last boundary.") from None
            raise
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise BadRequest("The body is not valid multipart/form-data.") from None

    def _header_end(self) -> None:
        name, value = (bytes(part).decode("latin-1") for part in self._header)  # as bytes: the parser encodes it back
        self._headers[name.lower()] = value
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._field == FILE_FIELD
        if not self._in_file:
            return
        if self._found:
            raise Invalid("One upload takes one file.", field=FILE_FIELD)
        self._found = True
        self.filename = base_name(options.get(b"filename", b"").decode("utf-8", "replace"))
        self.content_type = self._headers.get("content-type", self.content_type)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.size += end - start
            if self.size > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._chunks.append(data[start:end])
        else:
            self._value += data[start:end]
            if len(self._value) > MAX_FIELD_BYTES:
                raise TooLarge(f"A field may have at most {MAX_FIELD_BYTES} bytes.")

    def _part_end(self) -> None:
        if not self._in_file:
            self._parts += 1
            if self._parts > MAX_FIELDS:
                raise Invalid(f"A form takes at most {MAX_FIELDS} fields.")
            if b"\0" in self._value:
                raise Invalid("Text may not contain the NUL character.")  # PostgreSQL cannot store it
            self.fields[self._field] = self._value.decode("utf-8", "replace")
            self._value.clear()
        self._in_file = False

    def _end(self) -> None:
        self._ended = True


@asynccontextmanager
async def keeping(incoming: AsyncIterator[bytes]) -> AsyncIterator[StoredObject]:
    """Put an upload's bytes, for the block to give them a row. Where that is refused, nothing of them is kept."""
    objects = parts().objects
    stored = await objects.put(incoming)
    try:
        yield stored
    except (Refusal, HTTPException):
        with suppress(Unavailable), trio.move_on_after(TAKE_BACK_SECONDS, shield=True):
            await objects.take_back(stored)  # else the janitor does
        raise


def base_name(name: str) -> str:
    """A client's file name without its folders (of any system's kind) and without control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable()).strip()[-MAX_FILENAME:]
    return "" if kept.strip(".") == "" else kept


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"An upload may have at most {max_bytes} bytes.")


async def receive_file(limits: UploadLimits) -> Upload:
    """The upload of the request in hand, read up to where its file begins.

    Give the route a deadline of its own (``deadline.within``). Raises UnsupportedMediaType beside what Upload raises.
    """
    incoming = cast(VezaRequest, request)
    kind, options = parse_options_header(incoming.headers.get("Content-Type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("An upload must be multipart/form-data.")
    framed = replace(limits, max_bytes=limits.max_bytes + FRAMING_BYTES)
    if (incoming.content_length or 0) > framed.max_bytes:
        raise _too_large(limits.max_bytes)
    try:
        upload = Upload(PacedReader(incoming.body, framed), boundary, limits.max_bytes)
    except FormParserError:
        raise BadRequest("The multipart boundary is not valid.") from None
    await upload.find_file()
    return upload
