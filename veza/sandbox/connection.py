"""A Quart-Trio app that can close a connection without an answer.

ASGI has no word for it, and an app that raises before its response makes Hypercorn answer 500. Under Hypercorn the
`send` an app is given is a bound method: behind it stand its HTTP stream, its protocol and its TCP server, and the
last holds trio's socket stream. Closing that one is a real close: the client reads the end of the connection where
it expected a status line. Under a server built otherwise we fall back to declaring more content than is sent, which
ends in a protocol error for the client as well, though after a status line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio
from quart_trio import QuartTrio

from veza.routing import Route

DROP_HEADER = b"x-sandbox-drop"  # our own signal from a view to the outermost layer; it never leaves the process

# ASGI's own types live in Hypercorn, which only the top floor imports.
Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]


class SandboxApp(QuartTrio):
    url_rule_class: Any = Route

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            send = OneAnswer(send)
        await super().asgi_app(scope, receive, send)


class OneAnswer:
    """Passes an answer on, or closes the connection where a view asked for that."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._dropped = False

    async def __call__(self, event: Event) -> None:
        if event["type"] == "http.response.start" and any(name == DROP_HEADER for name, _ in event["headers"]):
            self._dropped = True
            await hang_up(self._send)
        if self._dropped:
            return
        if event["type"] == "http.response.body" and not event.get("more_body"):
            # The client's hanging up cancels the sender; unshielded, Hypercorn would leave the connection open.
            with trio.CancelScope(shield=True):
                await self._send(event)
            return
        await self._send(event)


async def hang_up(send: Send) -> None:
    stream = socket_behind(send)
    with trio.CancelScope(shield=True):
        if stream is not None:
            await stream.aclose()
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})


def socket_behind(send: Send) -> trio.SocketStream | None:
    """The connection's socket, found along the chain of objects whose bound `send` methods were handed down."""
    holder: object = getattr(send, "__self__", None)
    while holder is not None:
        stream = getattr(holder, "stream", None)
        if isinstance(stream, trio.SocketStream):
            return stream
        holder = getattr(getattr(holder, "send", None), "__self__", None)
    return None
