"""Turning a request away in front of the app: in the envelope, or on a page where a person would look at it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from veza.http import errors
from veza.http.assets import ROOT, assets
from veza.http.drawing import templates
from veza.http.edge import Page, Receive, Scope, Send, answer, trace
from veza.http.envelope import error_json

PAGES: Final = ("/watch/", "/console", "/swagger", f"{ROOT}/")
"""What a person looks at in a browser, and is told so on a page."""

NOT_KEPT: Final = (b"cache-control", b"no-store")
POLICY: Final = "default-src 'none'; style-src data:; img-src data:; base-uri 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Told:
    status: int
    sentence: str


async def turn_away(told: errors.Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an error without the app."""
    drawn = page_at(scope["path"], told.status, told.sentence)
    if drawn is None:
        headers = [NOT_KEPT, (b"content-type", b"application/json")]
        body = error_json(error=told.sentence, code=told.code, request_id=trace().request_id)
    else:
        headers, body = drawn
    headers += [(name.lower().encode(), value.encode()) for name, value in told.headers.items()]
    await answer(receive, send, told.status, headers, body)


def page_at(path: str, status: int, sentence: str) -> Page | None:
    """An error as a page, where a person looks at the path."""
    if not path.startswith(PAGES):
        return None
    html, policy = (b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", POLICY.encode())
    return [NOT_KEPT, html, policy], page(status, sentence)


@lru_cache(16)
def page(status: int, sentence: str) -> bytes:
    """The page of an error, with all it needs in itself: nothing else is served. Drawn once, for a crowd is told it."""
    return templates().get_template("error.html").render(asset=_inlined, told=Told(status, sentence)).encode()


@cache
def _inlined(name: str) -> str:
    asset = assets()[name]
    return f"data:{asset.content_type.replace(' ', '')};base64,{b64encode(asset.body).decode()}"
