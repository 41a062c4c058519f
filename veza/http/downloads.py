"""Owned files on their way out: ranges, conditions and a name that cannot break the header (RFC 9110, 6266, 8187).

Neither the framework's file body nor its range arithmetic is used: it reads in two thread hops a chunk, leaves the file
open when cancelled while opening it, and gets ranges at a file's end wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable
from werkzeug.http import http_date, parse_etags
from werkzeug.sansio.http import is_resource_modified

BUFFER_BYTES = 256 * 1024  # a thread hop reads this much: at 8 KiB the hops are nearly all there is to a download
MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}")
UNKNOWN_TYPE = "application/octet-stream"
PRIVATE = "private, no-cache"  # whether one may read it is asked each time
ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # no file is longer than such a number


async def send_owned_file(
    path: Path,
    *,
    filename: str,
    etag: str,
    content_type: str = UNKNOWN_TYPE,
    modified: datetime | None = None,
    disposition: Literal["attachment", "inline"] = "attachment",
) -> Response:
    """The file at a path that we chose, whole or the one range that was asked for; 304, 412 and 416 as conditions say.

    ``etag`` is a strong validator of the bytes, without quotes (their hash). Raises FileNotFoundError if our own record
    names a file that is gone: a surprise, not a refusal.
    """
    size = (await trio.Path(path).stat()).st_size
    headers = {
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": PRIVATE,
    }
    if modified is not None:
        headers["Last-Modified"] = http_date(modified)
    if _client_has_it(headers):
        return _unchanged(headers)
    headers["Content-Disposition"] = content_disposition(disposition, filename)
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox"  # it is somebody's upload
    part = _part_asked_for(headers, size)
    begin, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    body = b"" if request.method == "HEAD" else FileSlice(path, begin, end)
    response = Response(body, 206 if part else 200, headers, content_type=_media_type(content_type))
    response.content_length = end - begin
    return response


def send_owned_bytes(content: bytes, *, filename: str, content_type: str) -> Response:
    """What we made ourselves, whole, to be kept as a file; 304 and 412 as conditions say."""
    headers = {"ETag": f'"{sha256(content).hexdigest()}"', "Cache-Control": PRIVATE}
    if _client_has_it(headers):
        return _unchanged(headers)
    headers["Content-Disposition"] = content_disposition("attachment", filename)
    response = Response(b"" if request.method == "HEAD" else content, 200, headers, content_type=content_type)
    response.content_length = len(content)
    return response


class FileSlice(ResponseBody):
    """The bytes of a file from ``begin`` up to ``end``, read in threads."""

    def __init__(self, path: Path, begin: int, end: int) -> None:
        self._path = path
        self._begin = begin
        self._left = end - begin
        self._file: FileIO | None = None

    async def __aenter__(self) -> FileSlice:
        self._file = await trio.to_thread.run_sync(self._open)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __aiter__(self) -> FileSlice:
        return self

    async def __anext__(self) -> bytes:
        if self._file is None or self._left == 0:
            raise StopAsyncIteration
        chunk: bytes | None = await trio.to_thread.run_sync(self._file.read, min(BUFFER_BYTES, self._left))
        if not chunk:
            raise EOFError(f"{self._path.name} became shorter while it was sent")
        self._left -= len(chunk)
        return chunk

    def _open(self) -> FileIO:
        file = FileIO(self._path)
        file.seek(self._begin)
        return file


def content_disposition(disposition: str, filename: str) -> str:
    """The header for a name of any characters: an ASCII stand-in for old clients, the true one in UTF-8."""
    name = "".join(c if c.isprintable() else "_" for c in filename.replace("/", "_")) or "download"
    plain = re.sub(r"[^A-Za-z0-9 !#$&+.^_`|~()\[\]{},;=@-]", "_", name)
    return f"{disposition}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _unchanged(headers: Mapping[str, str]) -> Response:
    unchanged = Response(b"", status=304, headers=dict(headers))
    del unchanged.headers["Content-Type"]  # the framework's guess, of no bytes
    return unchanged


def _client_has_it(validators: Mapping[str, str]) -> bool:
    """Whether 304 is the answer. Raises PreconditionFailed where If-Match names another version."""
    asked = request.headers
    wanted = parse_etags(asked.get("If-Match"))
    if wanted and not wanted.contains_raw(validators["ETag"]):
        raise PreconditionFailed
    return not is_resource_modified(
        http_if_none_match=asked.get("If-None-Match"),
        http_if_modified_since=asked.get("If-Modified-Since"),
        etag=validators["ETag"],
        last_modified=validators.get("Last-Modified"),
    )


def _part_asked_for(validators: Mapping[str, str], size: int) -> tuple[int, int] | None:
    """The range to send, or None for the whole: what is not one range of bytes may be ignored (RFC 9110, 14.2)."""
    asked = ONE_RANGE.fullmatch(request.headers.get("Range", "")) if request.method == "GET" else None
    still = request.headers.get("If-Range")
    if asked is None or still not in (None, validators["ETag"], validators.get("Last-Modified")):
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < begin:
        return None
    if begin >= size:
        raise RequestedRangeNotSatisfiable(size)
    return begin, end


def _media_type(given: str) -> str:
    return given if MEDIA_TYPE.fullmatch(given) else UNKNOWN_TYPE
