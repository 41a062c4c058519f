"""What every answer tells a browser: to believe no guess, embed nothing, tell no other site, and come back by TLS.

An answer that says more of itself keeps what it says; these are for all the others (OWASP's secure headers, and its
cheat sheet on REST).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

Header = tuple[bytes, bytes]

EVERYWHERE: Final[Sequence[Header]] = (
    (b"x-content-type-options", b"nosniff"),
    # JSON is no page: should a browser take it for one, it runs, loads and embeds nothing.
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # What is on another site may ask by CORS if it is let; it may not load our answers as its pictures or scripts.
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
)

BY_TLS_ALONE: Final[Header] = (b"strict-transport-security", b"max-age=31536000")
"""For a year. Not for names below ours: what is there is the operator's to say."""


def security_headers(*, tls: bool) -> tuple[Header, ...]:
    """Of every answer; ``tls`` where the public address is an ``https`` one."""
    return (*EVERYWHERE, BY_TLS_ALONE) if tls else tuple(EVERYWHERE)


def completed(own: Iterable[Header], usual: Iterable[Header]) -> list[Header]:
    """An answer's own headers, and those of the usual ones that it says nothing of."""
    headers = list(own)
    said = {name.lower() for name, _ in headers}
    headers += [each for each in usual if each[0] not in said]
    return headers
