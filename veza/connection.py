"""One connection: Hypercorn's HTTP/1.1 on a socket of our own keeping, and what is refused before it is a request.

Hypercorn's own connections are replaced for what they do when a process leaves: they close themselves under a request
whose head has just been read, and they shield each send without end, so that one client that stopped reading holds the
process for ever. While at it, an answer's head goes out with its body in one packet, and waiting for the next request
takes a deadline instead of a task.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr

from veza.domain.ids import NewId
from veza.http.envelope import error_json
from veza.http.hardening import EVERYWHERE

KEEP_ALIVE_SECONDS = 65.0  # longer than a usual balancer's 60, so that it is the balancer who closes first
FIRST_HEAD_SECONDS = 10.0  # who opens a connection has something to say; the slowest phone has said it by then
HEAD_BYTES = 32 * 1024  # a request's line and headers, cookies included

UPLOAD_BYTES = 256 * 1024
"""Read at once where more comes than MAX_RECV: an upload costs less the fewer pieces it is in. For what is short, room
for so much would cost more than reading it."""

SLOWEST = 4096
"""Bytes a second, beside the time that a client may stall: slower than a 2G phone is holding the connection, not
downloading. The kernel drops who takes nothing at all; this is for who takes next to nothing."""

PATIENCE_SECONDS = 5.0
"""A client that has taken so long over one piece makes room where there is none: other requests are worth more."""

LAST_CALL_SECONDS = 1.0
"""A connection without a request stays open this long after accepting has stopped: its request may be on the way."""

LINGER_SECONDS = 1.0
"""For a client to read why it was refused: closing at once on what it has sent would reset the connection."""

REFUSALS = {
    HTTPStatus.BAD_REQUEST: "This is not a request in HTTP/1.1.",
    HTTPStatus.REQUEST_TIMEOUT: "The request's head took too long to arrive.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"The request's head may have at most {HEAD_BYTES} bytes.",
    HTTPStatus.NOT_IMPLEMENTED: "This transfer coding is not understood.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many connections are open; try again.",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "Only HTTP/1.1 is spoken here.",
}
"""What is answered here, for want of a request that the app could be asked."""

log = structlog.get_logger()


class ConnectionConfig(Config):
    """What Hypercorn's protocol is told. ``new_id`` names the requests that are refused before the app names them."""

    accesslog = None  # the edge writes that line
    include_server_header = False
    h11_max_incomplete_size = HEAD_BYTES
    read_timeout = None  # it would kill slow handlers and event streams
    alpn_protocols = ["http/1.1"]  # noqa: RUF012 - declared so there
    new_id: NewId
    stall_seconds: float


@dataclass
class Drain:
    """Shared by all connections: who is there, whether the time for sending is over, and the sends under way."""

    clients: set[Client] = field(default_factory=set)
    over: bool = False
    sending: set[trio.CancelScope] = field(default_factory=set)

    def make_room(self) -> bool:
        """Let go of somebody, if that is fair: of who has waited longest between requests, since requests come before
        pauses; else of who takes longest over what they are sent."""
        idle = min((each for each in self.clients if each.idle), key=lambda each: each.idle_since, default=None)
        if idle is not None:
            idle.last_call(0)
            return True
        slowest = min(self.clients, key=lambda each: each.sending_since, default=None)
        if slowest is None or slowest.sending_since > trio.current_time() - PATIENCE_SECONDS:
            return False
        slowest.give_up()
        return True

    async def end_at(self, deadline: float) -> None:
        await trio.sleep_until(deadline)
        self.end()

    def end(self) -> None:
        self.over = True
        for scope in self.sending:
            scope.cancel()


class Refused(Event):
    """The connection was told why it is closed; it may read that first."""


class Http1(H11Protocol):
    """HTTP/1.1 alone, with an answer's head held until its first bytes of body (as ASGI allows).

    An offered upgrade is ignored, as it may be (RFC 9110, 7.8): HTTP/2 is the balancer's, and there are no WebSockets.
    """

    config: ConnectionConfig
    ended = False  # nothing more comes from the client
    late = False  # and that because its head was waited for in vain
    _held = b""

    async def _check_protocol(self, event: h11.Request) -> None:
        """There is only this one."""

    async def _create_stream(self, request: h11.Request) -> None:
        wrong = wrong_with(request)
        if wrong is not None:
            await self._send_error_response(wrong)
            await self.send(Closed())
            return
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        try:
            self._held += self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if self._held and not isinstance(event, h11.Response):
            data, self._held = self._held, b""
            await self.send(RawData(data=data))

    async def _send_error_response(self, status_code: int) -> None:
        """What came is no request, or no body of one. Whoever left in the middle of theirs hears nothing any more."""
        if self.stream is None or not self.ended:
            status = HTTPStatus.REQUEST_TIMEOUT if self.late else HTTPStatus(status_code)
            cast(h11.Connection, self.connection).send_failed()  # nothing else is said on this connection
            await self.send(RawData(refusal(status, self.config.new_id)))
            await self._close_stream()
            await self.send(Refused())


class Client(TCPServer):
    """One connection. A request whose head was read is answered, whenever the listener stops."""

    protocol: Any

    def __init__(
        self, app: AppWrapper, config: ConnectionConfig, context: WorkerContext, drain: Drain, stream: Any
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)
        self._stall_seconds = config.stall_seconds
        self._drain = drain
        self._reading = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._head_by = math.inf
        self._at_once = MAX_RECV
        self._sending = trio.CancelScope()
        self.idle_since = 0.0
        self.sending_since = math.inf
        """Since when it has been taking what it is sent now; later than ever while it is sent nothing."""

    async def run(self) -> None:
        self._drain.clients.add(self)
        try:
            sock = self.stream.socket
            client, server = (parse_socket_addr(sock.family, end) for end in (sock.getpeername(), sock.getsockname()))
            async with TaskGroup() as group:
                self.protocol = Http1(
                    self.app,
                    self.config,
                    self.context,
                    group,
                    ConnectionState(self.state),
                    False,  # no TLS
                    client,
                    server,
                    self.protocol_send,
                )
                self._await_head(FIRST_HEAD_SECONDS)
                if self.context.terminated.is_set():
                    self.last_call()
                await self._read_data()
        except OSError:  # it was gone before we looked at it
            pass
        finally:
            self._drain.clients.discard(self)
            await self._close()

    @property
    def idle(self) -> bool:
        """Whether it is between requests, and was not told to go."""
        return trio.current_time() < self._head_by < math.inf

    def last_call(self, seconds: float = LAST_CALL_SECONDS) -> None:
        """A connection that is between requests has not much longer to begin one."""
        if self._head_by < math.inf:
            self._await_head(seconds)

    def _await_head(self, seconds: float) -> None:
        """The next request's head must be there within so many seconds, however it trickles in."""
        # Ending the wait for it, rather than closing: if bytes have come in this very turn of the loop, the
        # cancellation comes too late and the request is served.
        self.idle_since = trio.current_time()
        self._head_by = self._waiting.deadline = self.idle_since + seconds

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._await_head(KEEP_ALIVE_SECONDS if event.idle else math.inf)
            return
        if isinstance(event, Refused):
            await linger(self.stream)
            return
        if not isinstance(event, RawData):
            await self._hang_up()
            return
        async with self.send_lock:
            try:
                # Most answers fit the kernel's buffer, and then there is nothing to wait for.
                if rest := event.data[self._send_now(event.data) :]:
                    await self._send_all(rest)
                return
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # they are gone
        await self._hang_up()

    async def _hang_up(self) -> None:
        """Close, and have everyone here know."""
        try:
            await self._close()
            await self.protocol.handle(Closed())
        finally:
            self._reading.cancel()  # the reader may be waiting for its turn, which no one gives it any more

    def _send_now(self, data: bytes) -> int:
        """How much of it the kernel took at once."""
        try:
            return os.write(self._handle(), data)
        except BlockingIOError:
            return 0

    def _handle(self) -> int:
        """The socket's descriptor, -1 once it is closed (and then the system refuses whatever is asked of it)."""
        handle: int = self.stream.socket.fileno()
        return handle

    def give_up(self) -> None:
        """Send it nothing more."""
        self._sending.cancel()

    async def _send_all(self, data: bytes) -> None:
        """Send, whatever cancels the handler: half a chunk would break the framing. Only the drain's end cuts it.

        Raises BrokenResourceError for a client that takes it too slowly.
        """
        self.sending_since = trio.current_time()
        deadline = self.sending_since + self._stall_seconds + len(data) / SLOWEST
        with trio.CancelScope(shield=True, deadline=deadline) as self._sending:
            if self._drain.over:
                self._sending.cancel()
            self._drain.sending.add(self._sending)
            try:
                await self.stream.send_all(data)
            finally:
                self._drain.sending.discard(self._sending)
                self.sending_since = math.inf
        if self._sending.cancelled_caught and not self._drain.over:
            raise trio.BrokenResourceError

    async def _read_data(self) -> None:
        with self._reading:
            while data := await self._read_some():
                await self.protocol.handle(RawData(data))
            self.protocol.ended, self.protocol.late = True, self._waiting.cancelled_caught
            await self.protocol.handle(RawData(b""))
        await self.protocol.handle(Closed())

    async def _read_some(self) -> bytes:
        """What the client sends next; nothing if it is gone, or has sent no head for too long."""
        # Waiting first: there is hardly ever something yet, and asking the socket for nothing costs more.
        with trio.CancelScope(deadline=self._head_by) as self._waiting, suppress(OSError, trio.ClosedResourceError):
            while self._handle() >= 0:
                await trio.lowlevel.wait_readable(self._handle())
                # Asked for anew: closed since by the handler, its number may already be another connection's.
                with suppress(BlockingIOError):
                    data = os.read(self._handle(), self._at_once)
                    self._at_once = UPLOAD_BYTES if len(data) >= MAX_RECV else MAX_RECV
                    return data
        return b""


def wrong_with(request: h11.Request) -> HTTPStatus | None:
    """Why a request that h11 could read is none that may be answered, if so."""
    headers = dict(iter(request.headers))
    if request.http_version not in (b"1.0", b"1.1"):
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    if {b"content-length", b"transfer-encoding"} <= headers.keys():  # of two lengths, a proxy may believe the other
        return HTTPStatus.BAD_REQUEST
    try:
        target = urlsplit(request.target.decode("ascii"))
        headers.get(b"host", b"").decode("ascii").encode("idna")  # as the framework does, where it is too late
    except ValueError:
        return HTTPStatus.BAD_REQUEST
    known = target.path.startswith("/") or request.target == b"*"
    return None if known and request.method.isupper() else HTTPStatus.BAD_REQUEST


def refusal(status: HTTPStatus, new_id: NewId) -> bytes:
    """An answer in its envelope, logged: the edge will not see it."""
    request_id = str(new_id())
    full = status is HTTPStatus.SERVICE_UNAVAILABLE
    code = "overloaded" if full else status.phrase.lower().replace(" ", "_")
    body = error_json(error=REFUSALS.get(status, REFUSALS[HTTPStatus.BAD_REQUEST]), code=code, request_id=request_id)
    head = (
        f"HTTP/1.1 {status.value} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n" + ("retry-after: 1\r\n" if full else "")
    )
    usual = b"".join(b"%s: %s\r\n" % each for each in EVERYWHERE)
    log.warning("refused", status=status.value, code=code, request_id=request_id)
    return head.encode() + usual + b"\r\n" + body


async def linger(stream: Any) -> None:
    """Say no more, and drop what still comes until the other end has closed too, or had time to."""
    gone = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
    with suppress(*gone), trio.move_on_after(LINGER_SECONDS):
        await stream.send_eof()
        async for _ in stream:
            pass
