"""Turning a request away in front of the app: in the envelope, or on a page where a person would look at it."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from typing import Final

from veza.http import errors
from veza.http.assets import ROOT, assets
from veza.http.drawing import templates
from veza.http.edge import Receive, Scope, Send, answer, trace
from veza.http.envelope import error_json

PAGES: Final = ("/watch/", "/console", "/swagger", f"{ROOT}/")
"""What a person looks at in a browser, and is told so on a page."""

POLICY: Final = "default-src 'none'; style-src data:; img-src data:; base-uri 'none'; frame-ancestors 'none'"


async def turn_away(told: errors.Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an error without the app."""
    headers = [(name.lower().encode(), value.encode()) for name, value in told.headers.items()]
    headers.append((b"cache-control", b"no-store"))
    if scope["path"].startswith(PAGES):
        headers += [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", POLICY.encode())]
        body = page(told)
    else:
        headers.append((b"content-type", b"application/json"))
        body = error_json(error=told.sentence, code=told.code, request_id=trace().request_id)
    await answer(receive, send, told.status, headers, body)


def page(told: errors.Answer) -> bytes:
    """The page of an error, with all it needs in itself: nothing else is served."""
    return templates().get_template("error.html").render(asset=_inlined, told=told).encode()


@cache
def _inlined(name: str) -> str:
    asset = assets()[name]
    return f"data:{asset.content_type.replace(' ', '')};base64,{b64encode(asset.body).decode()}"
