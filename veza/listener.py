"""The listener: it accepts connections, and sees that none of what was accepted is lost when serving ends.

The composition root calls ``listen`` and, at SIGTERM, follows the order of docs/runtime-semantics.md: ``parts.leaving``
is set (not ready; answers close their connections), after two seconds ``shutdown`` (streams end, accepting stops,
requests whose head was read drain), and ``listen`` returns when the last of them is done or the drain's time is over.
Connections the kernel had already taken for us then are served as well; closing the socket would reset them.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
import trio
from hypercorn.config import Sockets
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from veza.connection import Client, ConnectionConfig, Drain, linger, refusal
from veza.domain.ids import NewId

DRAIN_SECONDS = 12.0
"""Longer than a request's deadline, so that no handler is cut; what is cut is a download, which can be resumed."""

STALL_SECONDS = 30.0
"""How long a client may take nothing of what we send: longer than a mobile hand-over. Then the kernel drops it."""

MAX_CONNECTIONS = 768  # of the usual 1,024 descriptors: files and the database need some as well
MAX_TURNED_AWAY = 64  # told why, at a time; the rest are dropped without a word, or they would take those descriptors
BACKLOG = 1024  # connections the kernel holds while we accept; what is beyond our seats is shed, not dropped

log = structlog.get_logger()


class CannotListen(Exception):  # noqa: N818 - named for what the operator learns
    """The address can't be had: it is taken, not ours or not allowed."""


class ListenerConfig(ConnectionConfig):
    """One plain HTTP listener behind a balancer that speaks TLS."""

    backlog = BACKLOG

    def __init__(self, host: str, port: int, *, new_id: NewId, stall_seconds: float) -> None:
        self.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
        self.errorlog = logging.getLogger("hypercorn.error")
        self.new_id = new_id
        self.stall_seconds = stall_seconds

    def create_sockets(self) -> Sockets:
        """The listening sockets, whose connections inherit the time a client may stall (TCP_USER_TIMEOUT, tcp(7))."""
        sockets = super().create_sockets()
        for sock in sockets.insecure_sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.stall_seconds * 1000))
            sock.listen(self.backlog)
        return sockets


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
    turning_away = trio.CapacityLimiter(MAX_TURNED_AWAY)
    config = ListenerConfig(host, port, new_id=new_id, stall_seconds=stall_seconds)
    context, drain = WorkerContext(None), Drain()
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")

    async def connect(stream: trio.SocketStream) -> None:
        try:
            if len(drain.clients) < max_connections or drain.make_room():
                await Client(wrapped, config, context, drain, stream).run()
            else:
                await _turn_away(stream, turning_away, new_id)
        except* Exception as failed:  # a bug, which one connection shows and the others must not suffer from
            log.error("connection_failed", exc_info=failed)

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


async def _turn_away(stream: trio.SocketStream, told: trio.CapacityLimiter, new_id: NewId) -> None:
    """Say why, to as many at a time as ``told`` has room for, and close."""
    async with stream:
        if told.available_tokens:
            async with told:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(refusal(HTTPStatus.SERVICE_UNAVAILABLE, new_id))
                await linger(stream)


def _take_queued(queue: socket.socket, connect: Connect, clients: trio.Nursery) -> None:
    """Serve the connections that the kernel has taken for us already: closing the socket resets them."""
    with suppress(BlockingIOError):
        while True:
            accepted, _ = queue.accept()
            clients.start_soon(connect, trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
