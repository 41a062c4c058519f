"""Files on their way out: ranges, conditions, and nothing that a browser could take for ours (RFC 9110).

Neither the framework's file body nor its range arithmetic is used: it reads in two thread hops a chunk, leaves the file
open when cancelled while opening it, and gets ranges at a file's end wrong.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from types import TracebackType
from typing import Literal

from quart import Response, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable
from werkzeug.http import http_date, parse_date, parse_etags
from werkzeug.sansio.http import is_resource_modified

from veza.gateways.objects import Objects
from veza.gateways.objects.headers import PRIVATE, UNKNOWN_TYPE, content_disposition, media_type
from veza.http.parts import parts

ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")  # no file is longer than such a number


async def send_object(
    key: str,
    *,
    filename: str,
    content_type: str = UNKNOWN_TYPE,
    modified: datetime | None = None,
    disposition: Literal["attachment", "inline"] = "attachment",
) -> Response:
    """An object, whole or the one range that was asked for; 304, 412 and 416 as conditions say.

    Its key is a strong validator of its bytes. Raises ObjectMissing if our own record names what is gone: a surprise,
    not a refusal.
    """
    objects = parts().objects
    size = await objects.size(key)
    headers = {
        "ETag": f'"{key}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": PRIVATE,
    }
    if modified is not None:
        headers["Last-Modified"] = http_date(modified)
    if client_has_it(headers):
        return unchanged(headers)
    headers["Content-Disposition"] = content_disposition(disposition, filename)
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox"  # it is somebody's upload
    headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # a shop on another site shows covers and plays previews
    part = _part_asked_for(headers, size)
    begin, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    body = b"" if request.method == "HEAD" else ObjectSlice(objects, key, begin, end)
    response = Response(body, 206 if part else 200, headers, content_type=media_type(content_type))
    response.content_length = end - begin
    return response


def send_owned_bytes(content: bytes, *, filename: str, content_type: str) -> Response:
    """What we made ourselves, whole, to be kept as a file; 304 and 412 as conditions say."""
    headers = {"ETag": f'"{sha256(content).hexdigest()}"', "Cache-Control": PRIVATE}
    if client_has_it(headers):
        return unchanged(headers)
    headers["Content-Disposition"] = content_disposition("attachment", filename)
    response = Response(b"" if request.method == "HEAD" else content, 200, headers, content_type=content_type)
    response.content_length = len(content)
    return response


class ObjectSlice(ResponseBody):
    """The bytes of an object from ``begin`` up to ``end``."""

    def __init__(self, objects: Objects, key: str, begin: int, end: int) -> None:
        self._read = objects.read(key, begin, end)

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return await self._read.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._read.__aexit__(exc_type, exc, tb)


def unchanged(headers: Mapping[str, str]) -> Response:
    """304: what the client has is what there is."""
    unchanged = Response(b"", status=304, headers=dict(headers))
    del unchanged.headers["Content-Type"]  # the framework's guess, of no bytes
    return unchanged


def client_has_it(validators: Mapping[str, str]) -> bool:
    """Whether 304 is the answer. Raises PreconditionFailed where If-Match names another version."""
    asked = request.headers
    wanted = parse_etags(asked.get("If-Match"))
    if wanted and not wanted.contains_raw(validators["ETag"]):
        raise PreconditionFailed
    return not is_resource_modified(
        http_if_none_match=asked.get("If-None-Match"),
        http_if_modified_since=_date_in(asked.get("If-Modified-Since")),
        etag=validators["ETag"],
        last_modified=validators.get("Last-Modified"),
    )


def _date_in(sent: str | None) -> str | None:
    """What was sent, if it is a date: what is none counts as unsent (RFC 9110, 13.1.3)."""
    with suppress(OverflowError):  # the library's, for years and zones that no clock knows; what else is none it skips
        parse_date(sent)
        return sent
    return None


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
