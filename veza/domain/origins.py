"""Origins: where a page comes from, as its browser says it."""

from __future__ import annotations

from urllib.parse import urlsplit


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
    return usual is not None and bool(host) and port != usual and "*" not in host and written == text
