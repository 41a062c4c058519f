"""The console's cookies: for ``/console`` alone, kept from scripts and from other sites' pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from quart import request
from werkzeug.datastructures import MultiDict
from werkzeug.http import dump_cookie

from veza.http.parts import Parts, parts

PATH: Final = "/console"
GONE: Final = timedelta(0)


def given(name: str, parts: Parts, cookies: MultiDict[str, str] | None = None) -> Sequence[str]:
    """All of the name that came along: a site at a name below ours, or beside it, may have planted one in front."""
    return (request.cookies if cookies is None else cookies).getlist(_full(name, parts))


def cookie(name: str, value: str, lifetime: timedelta) -> str:
    """A ``Set-Cookie``; one without a lifetime takes it away."""
    return dump_cookie(
        _full(name, parts()),
        value,
        max_age=lifetime,
        path=PATH,
        secure=parts().settings.secure_cookies,
        httponly=True,
        samesite="Strict",
    )


def _full(name: str, parts: Parts) -> str:
    """With the prefix that has browsers insist on TLS, where there is TLS (RFC 6265bis, section 4.1.3.1)."""
    return f"__Secure-{name}" if parts.settings.secure_cookies else name
