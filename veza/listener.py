"""The listener: Hypercorn's protocol on connections of our own keeping, and how serving ends.

The composition root calls ``listen`` and, at SIGTERM, follows the order of docs/runtime-semantics.md: ``parts.leaving``
is set (not ready; answers close their connections), after two seconds ``shutdown`` (streams end, accepting stops,
requests whose head was read drain), and ``listen`` returns when the last of them is done or the drain's time is over.

Hypercorn's own serving is replaced for three things its connections do at that moment: they close themselves under a
request whose head has just been read, they shield each send without end, so that one client that stopped reading holds
the process for ever, and connections the kernel had already taken for us are reset. While at it, an answer's head goes
out with its body in one packet, and waiting for the next request takes a deadline instead of a task.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import h11
import structlog
import trio
from hypercorn.config import Config, Sockets
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent
from hypercorn.utils import parse_socket_addr, wrap_app

from veza.domain.ids import NewId
from veza.http.envelope import error_json

DRAIN_SECONDS = 12.0
"""Longer than a request's deadline, so that no handler is cut; what is cut is a download, which can be resumed."""

LAST_CALL_SECONDS = 1.0
"""A connection without a request stays open this long after accepting has stopped: its request may be on the way."""

STALL_SECONDS = 30.0
"""How long a client may take nothing of what we send: longer than a mobile hand-over. Then the kernel drops it."""

KEEP_ALIVE_SECONDS = 65.0  # longer than a usual balancer's 60, so that it is the balancer who closes first
MAX_CONNECTIONS = 768  # of the usual 1,024 descriptors: files and the database need some as well
HEAD_BYTES = 32 * 1024  # a request's line and headers, cookies included
BACKLOG = 1024  # connections the kernel holds while we accept; what is beyond our seats is shed, not dropped

LINGER_SECONDS = 1.0
"""For a client to read why it was refused: closing at once on what it has sent would reset the connection."""

REFUSALS = {
    HTTPStatus.BAD_REQUEST: "This is not HTTP/1.1.",
    HTTPStatus.REQUEST_TIMEOUT: "The request's head took too long to arrive.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"The request's head may have at most {HEAD_BYTES} bytes.",
    HTTPStatus.NOT_IMPLEMENTED: "This transfer coding is not understood.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many connections are open; try again.",
}
"""What is answered here, for want of a request that the app could be asked."""

log = structlog.get_logger()


class CannotListen(Exception):  # noqa: N818 - named for what the operator learns
    """The address can't be had: it is taken, not ours or not allowed."""


class ListenerConfig(Config):
    """Hypercorn's configuration for one plain HTTP listener behind a balancer that speaks TLS."""

    accesslog = None  # the edge writes that line
    include_server_header = False
    h11_max_incomplete_size = HEAD_BYTES
    read_timeout = None  # it would kill slow handlers and event streams
    backlog = BACKLOG
    alpn_protocols = ["http/1.1"]  # noqa: RUF012 - declared so there

    def __init__(self, host: str, port: int, *, new_id: NewId, stall_seconds: float) -> None:
        self.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
        self.errorlog = logging.getLogger("hypercorn.error")
        self.keep_alive_timeout = KEEP_ALIVE_SECONDS  # also bounds how long a head may take to arrive
        self.new_id = new_id
        self._stall_seconds = stall_seconds

    def create_sockets(self) -> Sockets:
        """The listening sockets, whose connections inherit the time a client may stall (TCP_USER_TIMEOUT, tcp(7))."""
        sockets = super().create_sockets()
        for sock in sockets.insecure_sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._stall_seconds * 1000))
            sock.listen(self.backlog)
        return sockets


@dataclass
class Drain:
    """Shared by all connections: who is there, whether the time for sending is over, and the sends under way."""

    clients: set[Client] = field(default_factory=set)
    over: bool = False
    sending: set[trio.CancelScope] = field(default_factory=set)

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
    """HTTP/1.1 alone, with an answer's head held until its first bytes of body (as ASGI allows)."""

    config: ListenerConfig
    ended = False  # nothing more comes from the client
    late = False  # and that because its head was waited for in vain
    _held = b""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Switch to no other protocol: an offered upgrade may be ignored (RFC 9110, 7.8). HTTP/2 is the balancer's."""

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

    def __init__(self, app: AppWrapper, config: Config, context: WorkerContext, drain: Drain, stream: Any) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)
        self._drain = drain
        self._reading = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._head_by = math.inf

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
                self._await_head(self.config.keep_alive_timeout)
                if self.context.terminated.is_set():
                    self.last_call()
                await self._read_data()
        except OSError:  # it was gone before we looked at it
            pass
        finally:
            self._drain.clients.discard(self)
            await self._close()

    def last_call(self) -> None:
        """The listener stops: a connection that is between requests has not much longer to begin one."""
        if self._head_by < math.inf:
            self._await_head(LAST_CALL_SECONDS)

    def _await_head(self, seconds: float) -> None:
        """The next request's head must be there within so many seconds, however it trickles in."""
        # Ending the wait for it, rather than closing: if bytes have come in this very turn of the loop, the
        # cancellation comes too late and the request is served.
        self._head_by = self._waiting.deadline = trio.current_time() + seconds

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self._await_head(self.config.keep_alive_timeout if event.idle else math.inf)
            return
        if isinstance(event, Refused):
            await linger(self.stream)
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            self._reading.cancel()  # the reader may be waiting for its turn, which no one gives it any more
            return
        async with self.send_lock:
            try:
                # Most answers fit the kernel's buffer, and then there is nothing to wait for.
                if rest := event.data[self._send_now(event.data) :]:
                    await self._send_all(rest)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())

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

    async def _send_all(self, data: bytes) -> None:
        """Send, whatever cancels the handler: half a chunk would break the framing. Only the drain's end cuts it."""
        with trio.CancelScope(shield=True) as scope:
            if self._drain.over:
                scope.cancel()
            self._drain.sending.add(scope)
            try:
                await self.stream.send_all(data)
            finally:
                self._drain.sending.discard(scope)

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
                    return os.read(self._handle(), MAX_RECV)
        return b""


Connect = Callable[[trio.SocketStream], Awaitable[None]]


async def listen(
    app: Any,
    host: str,
    port: int,
    *,
    new_id: NewId,
    shutdown: trio.Event,
    drain_seconds: float = DRAIN_SECONDS,
    stall_seconds: float = STALL_SECONDS,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI app until ``shutdown`` is set and what was in hand is done, at most ``drain_seconds`` later.

    Reports its base URL once it accepts; port 0 takes a free one. ``new_id`` names what is refused before the app could
    name it. There is no lifespan: the composition root has one.
    Raises CannotListen.
    """
    config = ListenerConfig(host, port, new_id=new_id, stall_seconds=stall_seconds)
    context, drain = WorkerContext(None), Drain()
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")

    async def connect(stream: trio.SocketStream) -> None:
        if len(drain.clients) < max_connections:
            await Client(wrapped, config, context, drain, stream).run()
        else:
            await _turn_away(stream, new_id)

    try:
        [sock] = config.create_sockets().insecure_sockets
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from error
    async with trio.open_nursery() as ending:
        async with trio.open_nursery() as clients:
            with sock.dup() as queue:  # a second handle: the kernel's queue lives on when the first is closed
                async with trio.open_nursery() as accepting:
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                    accepting.start_soon(partial(trio.serve_listeners, connect, [listener], handler_nursery=clients))
                    task_status.started(_url(sock))
                    await _wait(shutdown, drain)
                    accepting.cancel_scope.cancel()
                _take_queued(queue, connect, clients)
            await context.terminated.set()
            for client in drain.clients:
                client.last_call()
            clients.cancel_scope.deadline = trio.current_time() + drain_seconds
            ending.start_soon(drain.end_at, clients.cancel_scope.deadline)
        ending.cancel_scope.cancel()


async def _wait(shutdown: trio.Event, drain: Drain) -> None:
    try:
        await shutdown.wait()
    except trio.Cancelled:
        drain.end()  # whoever cancels us does not wait for sends
        raise


async def _turn_away(stream: trio.SocketStream, new_id: NewId) -> None:
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(refusal(HTTPStatus.SERVICE_UNAVAILABLE, new_id))
        await linger(stream)


def refusal(status: HTTPStatus, new_id: NewId) -> bytes:
    """An answer in its envelope, logged: the edge will not see it."""
    request_id = str(new_id())
    full = status is HTTPStatus.SERVICE_UNAVAILABLE
    code = "overloaded" if full else status.phrase.lower().replace(" ", "_")
    body = error_json(error=REFUSALS.get(status, REFUSALS[HTTPStatus.BAD_REQUEST]), code=code, request_id=request_id)
    head = (
        f"HTTP/1.1 {status.value} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n" + ("retry-after: 1\r\n" if full else "") + "\r\n"
    )
    log.warning("refused", status=status.value, code=code, request_id=request_id)
    return head.encode() + body


async def linger(stream: Any) -> None:
    """Say no more, and drop what still comes until the other end has closed too, or had time to."""
    gone = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
    with suppress(*gone), trio.move_on_after(LINGER_SECONDS):
        await stream.send_eof()
        async for _ in stream:
            pass


def _take_queued(queue: socket.socket, connect: Connect, clients: trio.Nursery) -> None:
    """Serve the connections that the kernel has taken for us already: closing the socket resets them."""
    with suppress(BlockingIOError):
        while True:
            accepted, _ = queue.accept()
            clients.start_soon(connect, trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
