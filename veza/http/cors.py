"""Which other sites' pages may ask us (Fetch, section 3.2): exactly those that were named, with their credentials.

A browser asks for permission first where a request could change something. That is answered by the edge, in front of
everything: what comes then may be turned away, and the page can read why, since every answer says that it may.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from veza.http.hardening import Header

METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"

ASKED_WITH: Final = (
    b"Authorization, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    b"Last-Event-ID, Range, Sec-GPC, X-Request-ID"
)
"""The request headers that some route heeds, and a page may not send unasked."""

READ: Final = (
    b"Accept-Ranges, Content-Disposition, Content-Range, Deprecation, ETag, GPC, Link, Location, RateLimit, "
    b"RateLimit-Policy, Retry-After, X-Request-ID"
)
"""The headers of an answer that a page may read beside the usual ones."""

MAX_AGE: Final = b"600"  # seconds that a browser remembers: Chromium takes two hours at most, and a change shows soon

VARY: Final[Header] = (b"vary", b"Origin")


class Cors:
    """Which origins are let in. With none nothing is said, and browsers keep to themselves."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def told(self, headers: Sequence[Header]) -> list[Header]:
        """What an answer to a request with these headers says."""
        if not self._origins:
            return []
        origin = _origin(headers)
        if origin not in self._origins:
            return [VARY]
        return [
            VARY,
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", READ),
        ]

    def permission(self, method: str, headers: Sequence[Header]) -> list[Header] | None:
        """What is answered to who asks for permission, beside ``told``; None if this is no such question."""
        if not self._origins or method != "OPTIONS":
            return None
        if not any(name == b"access-control-request-method" for name, _ in headers):
            return None
        if _origin(headers) not in self._origins:
            return []
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", ASKED_WITH),
            (b"access-control-max-age", MAX_AGE),
        ]


def _origin(headers: Sequence[Header]) -> bytes:
    return next((value for name, value in headers if name == b"origin"), b"")
