"""Whom we believe to be who they say they are, over TLS."""

from __future__ import annotations

from functools import cache
from ssl import SSLContext

import httpx


@cache
def certificates() -> SSLContext:
    """The authorities that httpx trusts, read once: a client of its own reads them all again, for some 40 ms."""
    return httpx.create_ssl_context()
