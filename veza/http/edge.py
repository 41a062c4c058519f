"""The outermost ASGI layer: what must hold for every request, whatever becomes of its handler.

It names each request, logs it once, sheds what is too much and sees that a finished connection closes. All of it
happens here, and synchronously in ``finally``, because after a hang-up nothing further in is run: the framework cancels
the handler and its hooks with it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import structlog
import trio

from veza.domain.errors import Refusal
from veza.domain.ids import NewId
from veza.http.assets import ROOT
from veza.http.cors import Cors
from veza.http.envelope import error_json
from veza.http.hardening import completed, security_headers
from veza.http.proxies import Networks, client_address

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Page = tuple[list[tuple[bytes, bytes]], bytes]
"""An error as it is told to a person in a browser: its own headers, and its body."""

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # what a proxy's id looks like, and nothing that could forge a log line
API: Final = "/api/v1"
NEVER_SHED = tuple(
    prefix + path for prefix in ("", API) for path in ("/health", "/readyz", "/metrics", "/webhooks/", "/hooks/")
)
"""Probes must tell the truth under load, and money's and live ingest's callers would drop what we refuse."""

OPERATORS = ("/console", f"{API}/admin/", f"{ROOT}/")
RESERVED = 8
"""Seats beyond a full house for those who may have come to see why it is full, with what their pages load: as many as
one page of the console asks for at once, and a second operator's."""

SIGNAL = (b"sec-gpc", b"1")
"""Global Privacy Control (W3C, section 3.3): any other value, or none, says nothing."""

HEEDED = (b"gpc", b"1")
VARY = (b"vary", b"Sec-GPC")
"""In every answer, so that no cache hands one that heeds somebody's signal to who sent none, or the other way."""

RETRY_AFTER = b"1"  # seconds: the queue of a full house drains in about a quarter of one

SETTLE_SECONDS = 0.1
"""An answer waits this long for a body that is still coming: most are on their way, and the connection can be kept."""

LINGER_SECONDS = 1.0
"""A body nobody wants is read away this long before the connection closes. Closing on unread bytes makes the kernel
reset the connection, and the client would never see why it was refused."""

log = structlog.get_logger()


@dataclass(slots=True)
class Trace:
    """What the edge knows of one request; those further in fill in the route and the user."""

    request_id: str
    method: str
    started: float = field(default_factory=perf_counter)
    route: str | None = None
    user_id: UUID | None = None
    status: int | None = None
    sent: int = 0
    finished: bool = False
    seated: bool = False
    deadline: trio.CancelScope | None = None
    address: str | None = None
    do_not_sell: bool = False
    """The request's own signal (``Sec-GPC: 1``). What would share data asks `veza.domain.privacy.may_share` with it."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of the parameters in the route's path."""
    place: bool | None = None
    """Whether a place is kept for its entry in the audit; None if it gets no entry."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What its answer says beside its own headers, whoever makes it."""

    @property
    def seconds(self) -> float:
        """How long it has been under way."""
        return perf_counter() - self.started

    @property
    def outcome(self) -> str:
        """``answered``, or ``cut``: the client hung up, or the drain's time was over."""
        return "answered" if self.finished else "cut"


_current: ContextVar[Trace] = ContextVar("veza_trace")


def trace() -> Trace:
    """The trace of the request in hand. Raises LookupError outside a request."""
    return _current.get()


def trace_in(context: Context) -> Trace | None:
    """The trace of the request that a task works on, by the task's context; of none in particular, None."""
    return context.get(_current)


class Seats:
    """How many requests are being worked on. A soft bound: it decides who comes in, never who must leave."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting = trio.lowlevel.ParkingLot()

    def full_for(self, path: str) -> bool:
        """Whether who asks for this is turned away."""
        if self.taken < self.limit or path.startswith(NEVER_SHED):
            return False
        return self.taken >= self.limit + RESERVED or not path.startswith(OPERATORS)

    def take(self, trace: Trace) -> None:
        if not trace.seated:
            trace.seated = True
            self.taken += 1

    def give_back(self, trace: Trace) -> None:
        if trace.seated:
            trace.seated = False
            self.taken -= 1
            if not self.taken:
                self._waiting.unpark_all()

    async def empty(self) -> None:
        """Wait until nobody is being worked for: a moment's truth."""
        if self.taken:
            await self._waiting.park()


_seats: ContextVar[Seats] = ContextVar("veza_seats")


def seats() -> Seats:
    """Those of the house the request in hand is in. Raises LookupError outside a request."""
    return _seats.get()


@contextmanager
def waiting_for_client() -> Iterator[None]:
    """While a handler waits for its client's bytes it does no work, so it holds no seat: slow clients fill no house."""
    seats, current = _seats.get(), _current.get()
    held = current.seated
    seats.give_back(current)
    try:
        yield
    finally:
        if held:
            seats.take(current)


def no_page(_path: str, _status: int, _sentence: str) -> Page | None:
    """Every error is told in the envelope."""
    return None


class Edge:
    """Wraps the app. ``max_in_flight`` bounds the requests worked on at a time; once ``leaving`` is set every answer
    closes its connection, so that clients move on before the listener does. ``trusted_proxies`` may say whose request
    they pass on. ``cors`` says which other sites' pages may ask, ``tls`` whether the public address is an ``https``
    one. ``page`` draws an error where a person looks at the path. ``observers`` see each finished trace."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        new_id: NewId,
        max_in_flight: int,
        leaving: trio.Event,
        trusted_proxies: Networks = (),
        cors: Cors | None = None,
        tls: bool = False,
        page: Callable[[str, int, str], Page | None] = no_page,
        observers: Iterable[Callable[[Trace], None]] = (),
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._leaving = leaving
        self._trusted_proxies = trusted_proxies
        self._cors = cors or Cors(())
        self._usual = security_headers(tls=tls)
        self._page = page
        self.observers = list(observers)
        self.seats = Seats(max_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = _as_routed(scope["path"])
        trace = Trace(self._request_id(scope), scope["method"], do_not_sell=_says_not_to_sell(scope))
        _current.set(trace)
        _seats.set(self.seats)
        structlog.contextvars.bind_contextvars(request_id=trace.request_id)
        self._look_behind_proxies(scope)
        trace.address = scope["client"][0] if scope["client"] else None
        trace.headers.extend(self._cors.told(scope["headers"]))
        send = self._sender(trace, send)
        try:
            permission = self._cors.permission(scope["method"], scope["headers"])
            if permission is not None:
                await answer(receive, send, HTTPStatus.NO_CONTENT, permission, b"")
            elif self.seats.full_for(scope["path"]):
                await self._answer(scope, receive, send, 503, "overloaded", "Too many requests are in hand; try again.")
            else:
                self.seats.take(trace)
                await self._app(scope, receive, send)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the last one who can answer
            await self._rescue(scope, trace, receive, send, error)
        finally:
            self.seats.give_back(trace)
            self._report(trace)

    def _request_id(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given: str = value.decode("latin-1")
                if SANE_ID.fullmatch(given):
                    return given
                break
        return str(self._new_id())

    def _look_behind_proxies(self, scope: Scope) -> None:
        if self._trusted_proxies:
            peer, port = scope["client"]
            scope["client"] = (client_address(peer, scope["headers"], self._trusted_proxies), port)

    def _sender(self, trace: Trace, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                # What is left is sending, which takes memory of its own but no work.
                self.seats.give_back(trace)
                message["headers"] = completed([*message["headers"], *self._headers(trace)], self._usual)
                await send(message)
            elif message.get("more_body", False):
                trace.sent += len(message.get("body", b""))
                await send(message)
            else:
                trace.sent += len(message.get("body", b""))
                trace.finished = True
                # The server tells the app of the disconnect before it closes the connection, and that cancels this
                # very send: unshielded, a connection that should close stays open for ever.
                with trio.CancelScope(shield=True):
                    await send(message)

        return sending

    def _headers(self, trace: Trace) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", trace.request_id.encode()), VARY, *trace.headers]
        if trace.do_not_sell:
            headers.append(HEEDED)
        if self._leaving.is_set():
            headers.append((b"connection", b"close"))
        return headers

    async def _rescue(
        self,
        scope: Scope,
        trace: Trace,
        receive: Receive,
        send: Send,
        error: Exception | BaseExceptionGroup[BaseException],
    ) -> None:
        """Nothing further in answered for this error: log it, and answer if nothing was said yet."""
        if isinstance(error, BaseExceptionGroup):
            cancelled, others = error.split(trio.Cancelled)
            if others is None:
                raise error
            _log_failure(trace, others)
            if cancelled is not None:
                raise cancelled
        else:
            _log_failure(trace, error)
        if trace.status is None:
            await self._answer(scope, receive, send, 500, "internal", "Something went wrong on our side.")

    async def _answer(self, scope: Scope, receive: Receive, send: Send, status: int, code: str, error: str) -> None:
        """Answer without the app: in the envelope, or on a page where a person looks at it."""
        drawn = self._page(scope["path"], status, error)
        if drawn is None:
            headers = [(b"content-type", b"application/json")]
            body = error_json(error=error, code=code, request_id=trace().request_id)
        else:
            headers, body = drawn
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", RETRY_AFTER))
        await answer(receive, send, status, headers, body)

    def _report(self, trace: Trace) -> None:
        log.info(
            "request",
            method=trace.method,
            route=trace.route,  # the template, never the path: paths hold tokens
            status=trace.status,
            outcome=trace.outcome,
            duration_ms=round(trace.seconds * 1000, 2),
            user=trace.user_id and str(trace.user_id),
            bytes=trace.sent,
            request_id=trace.request_id,
        )
        for observe in self.observers:
            observe(trace)


def _as_routed(path: str) -> str:
    """The path as the router takes it, which reads a target in absolute form (RFC 9112, 3.2.2) and many slashes at the
    beginning as one: whoever judges a request by its path sees the one that it will reach."""
    _, absolute, rest = path.partition("://")
    if absolute and not path.startswith("/"):
        path = f"/{rest.partition('/')[2]}"
    return f"/{path.lstrip('/')}" if path.startswith("//") else path


def _says_not_to_sell(scope: Scope) -> bool:
    return any((name, value) == SIGNAL for name, value in scope["headers"])


def _log_failure(trace: Trace, error: Exception | BaseExceptionGroup[BaseException]) -> None:
    """A surprise with all that is known of it; what was to be expected, where it is too late to say so, in a line."""
    rest = error.split(Refusal)[1] if isinstance(error, BaseExceptionGroup) else error
    if rest is None or isinstance(rest, Refusal):
        log.warning("answer_cut_short", route=trace.route, error=_first_words(error))
    else:
        log.error("request_failed", route=trace.route, exc_info=error)


def _first_words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def answer(receive: Receive, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Answer without the app, once the body is read away: a full queue would hold up the server's side of it."""
    if status != HTTPStatus.NO_CONTENT:  # which may not say how long it is (RFC 9110, section 8.6)
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    with trio.move_on_after(SETTLE_SECONDS) as settling:
        await _read_away(receive)
    if settling.cancelled_caught:
        await _answer_meanwhile(receive, send, status, [*headers, (b"connection", b"close")], body)
    else:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _answer_meanwhile(
    receive: Receive, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Answer somebody who is still sending, and read on for a while, or they would never see it."""
    ended = trio.Event()

    async def read_away() -> None:
        await _read_away(receive)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_away)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        with trio.move_on_after(LINGER_SECONDS):
            await ended.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        nursery.cancel_scope.cancel()


async def _read_away(receive: Receive) -> None:
    """Drop what comes until the request's body is over, or its client gone."""
    while not (message := await receive())["type"].endswith(".disconnect"):
        if not message.get("more_body", False):
            return
