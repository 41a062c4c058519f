"""What of each request goes into the audit: every one that may change something and reached a route.

Never a body, a query, a header or a path: an entry has the route's words and the ids in it, and nothing else of what
was sent. Admin mutations are not written here; each is written in its own transaction, by whoever makes it.
"""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Final

from veza.actors.audit import Outbox
from veza.domain.audit import Entry, Param, Segment, action_of, resource_of
from veza.domain.ids import Clock, NewId
from veza.http.document import API
from veza.http.doors import turn_away
from veza.http.edge import NEVER_SHED, ASGIApp, Receive, Scope, Send, Trace, trace
from veza.http.errors import RETRY_AFTER_SECONDS, Answer
from veza.http.limits import CONSOLE_LOGIN
from veza.http.maintenance import SIGNING_IN

CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})

SKIPPED: Final = (
    *(prefix + path for prefix in ("", API) for path in ("/health", "/metrics", "/swagger")),
    f"{API}/admin/",
    f"{API}/hooks/",
    *(f"/console/{page}/" for page in ("actors", "payouts", "moderation", "users", "switches")),
)
"""What begins so gets no entry: what the reference names, what the console does in its stead, and the ingest server's
hooks, which no person sends."""

FULL: Final = Answer(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "overloaded",
    "What is done can't be written down just now; try again.",
    headers={"Retry-After": RETRY_AFTER_SECONDS},
)

PARAM: Final = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")  # as werkzeug writes them: <uuid:file_id>


def is_audited(method: str, path: str) -> bool:
    return method in CHANGING and not path.startswith(SKIPPED)


class Recorder:
    """Stands before the app, inside the edge. Lets in what has a place for its entry, and leaves the entry there as
    soon as the request is over, however that came about."""

    def __init__(self, app: ASGIApp, outbox: Outbox, new_id: NewId, clock: Clock) -> None:
        self._app = app
        self._outbox = outbox
        self._new_id = new_id
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_audited(scope["method"], scope["path"]):
            current = trace()
            current.place = self._outbox.reserve()
            if not current.place and not _comes_in_all_the_same(scope["path"]):
                await turn_away(FULL, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def observe(self, finished: Trace) -> None:
        """Called by the edge when all is over; cheap, and waits for nothing."""
        if finished.place is None:
            return
        if finished.place:
            self._outbox.release()
        if finished.route is not None:
            self._outbox.add(self._entry(finished, finished.route))

    def _entry(self, finished: Trace, route: str) -> Entry:
        path = segments(route)
        return Entry(
            self._new_id(),
            self._clock(),
            finished.user_id,
            action_of(finished.method, path),
            resource_of(path, finished.values, finished.user_id),
            finished.method,
            finished.status,
            finished.request_id,
            finished.address,
        )


def _comes_in_all_the_same(path: str) -> bool:
    """Money's callers: while the database is away they are told so, and come again. And whoever signs in: it takes an
    admin to resume a keeper that is paused."""
    return path.startswith(NEVER_SHED) or path.rstrip("/") in (*SIGNING_IN, CONSOLE_LOGIN)


@cache
def segments(route: str) -> tuple[Segment, ...]:
    """A route's path below the API's, cut up. There are as many as there are routes."""
    return tuple(_segment(each) for each in route.removeprefix(API).strip("/").split("/"))


def _segment(text: str) -> Segment:
    found = PARAM.fullmatch(text)
    return Param(found[1]) if found else text
