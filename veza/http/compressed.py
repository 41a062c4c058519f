"""Texts of ours that are the same for everyone: compressed for whoever takes that, and unsent to whoever has them."""

from __future__ import annotations

import gzip
from functools import lru_cache
from typing import Final

import trio
from quart import Response, request

from veza.http.downloads import client_has_it, unchanged

WORTH_IT: Final = 1024  # bytes: what is shorter fills a packet or two either way
KEPT: Final = 64  # compressed texts: there are about ten


async def send_text(body: bytes, content_type: str, version: str, cache_control: str) -> Response:
    """A text by its version; 304 and 412 as conditions say. Compressed bytes are another representation (RFC 9110)."""
    small = len(body) > WORTH_IT and request.accept_encodings["gzip"] > 0
    headers = {
        "ETag": f'"{version}-gzip"' if small else f'"{version}"',
        "Cache-Control": cache_control,
        "Vary": "Accept-Encoding",
    }
    if client_has_it(headers):
        return unchanged(headers)
    if small:
        headers["Content-Encoding"] = "gzip"
        body = await trio.to_thread.run_sync(_gzipped, body)  # a tenth of a second for the longest, the first time
    return Response(body, headers=headers, content_type=content_type)


@lru_cache(KEPT)
def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)  # no time in it: every process has the same bytes under an ETag
