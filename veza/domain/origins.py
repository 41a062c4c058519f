"""Origins: where a page comes from, as its browser says it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
"""A name as it is looked up, so that one in another script is `xn--...`, or an address."""


def is_web_origin(text: str) -> bool:
    """Whether it is an origin as browsers write them (RFC 6454, section 6.2): a scheme, a host, perhaps a port."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    bracketed = f"[{host}]" if ":" in host else host
    written = f"{parts.scheme}://{bracketed}" + ("" if port is None else f":{port}")
    return usual is not None and HOST.fullmatch(host) is not None and port != usual and written == text
