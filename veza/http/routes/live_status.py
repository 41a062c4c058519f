"""The status of a stream, which every player and encoder asks for every few seconds: mostly answered 304.

What is on air is answered by `Desk`, before the framework: from what the session's actor published, without a message
or a query. What is not on air has its status in its row, and is asked for less often.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from uuid import UUID

from quart import Blueprint, Response, request
from quart_schema import document_response
from werkzeug.http import parse_etags

from veza.domain.live import Health, Status, StreamState
from veza.domain.streams import no_stream
from veza.http.document import API, takes_headers
from veza.http.edge import ASGIApp, Receive, Scope, Send, trace
from veza.http.envelope import Envelope, Out
from veza.http.parts import Parts, parts

ROUTE: Final = "/live/streams/<uuid:stream_id>/status"
POLLED: Final = re.compile(
    (API + ROUTE).replace("<uuid:stream_id>", "([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
)
CACHED: Final = "public, max-age=2"  # as often as the ingest server is looked at
READ: Final = ("GET", "HEAD")

api = Blueprint("live_status", __name__)


class StreamStatusOut(Out):
    """``viewer_count`` is approximate: the distinct pollers of the last minute.

    ``version`` goes up with each change; ``poll_after_ms`` says when to ask again.
    """

    state: StreamState
    is_live: bool
    health: Health
    viewer_count: int
    version: int
    poll_after_ms: int


@api.get(ROUTE)
@takes_headers(if_none_match="The ETag of the status one has: 304 while it is still that.")
@document_response(Envelope[StreamStatusOut])
async def get_status(stream_id: UUID) -> Response:
    """Whether a stream is on air, and how it is: the same for everyone. 304 while nothing has changed."""
    status = parts().refs.live.status(stream_id) or await parts().sessions_on_air.status(stream_id)
    if status is None:
        raise no_stream()
    code, headers, body = answer(status, stream_id, request.headers.get("If-None-Match"))
    return Response(body, status=code, headers=dict(headers))


def answer(status: Status, stream_id: UUID, if_none_match: str | None) -> tuple[int, Sequence[tuple[str, str]], bytes]:
    """The status line's number, the headers and the body; the body is only made if it is wanted."""
    etag = f'W/"{stream_id}.{status.version}"'
    headers = [("ETag", etag), ("Cache-Control", CACHED)]
    if if_none_match is not None and (if_none_match == etag or parse_etags(if_none_match).contains_weak(etag[3:-1])):
        return HTTPStatus.NOT_MODIFIED, headers, b""
    body = Envelope[StreamStatusOut](data=StreamStatusOut.of(status)).model_dump_json().encode()
    return HTTPStatus.OK, [*headers, ("Content-Type", "application/json")], body


class Desk:
    """Answers for what is on air, and counts who asks; everything else goes on to the app."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = POLLED.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] in READ else None
        if path is None:
            return await self._app(scope, receive, send)
        stream_id, live = UUID(path[1]), self._parts.refs.live
        status = live.status(stream_id)
        if status is None:
            return await self._app(scope, receive, send)
        trace().route = API + ROUTE
        given = {name: value for name, value in scope["headers"] if name in (b"if-none-match", b"user-agent")}
        # Hashed by this process alone, with a secret of its own: who it was can't be told from the number.
        live.watched(stream_id, hash((scope["client"][0], given.get(b"user-agent"))))
        asked = given.get(b"if-none-match")
        code, headers, body = answer(status, stream_id, None if asked is None else asked.decode("latin-1"))
        told = [(name.lower().encode(), value.encode()) for name, value in headers]
        if code != HTTPStatus.NOT_MODIFIED:
            told.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": int(code), "headers": told})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        return None
