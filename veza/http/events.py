"""Server-sent events (WHATWG HTML, section 9.2): a response that goes on until somebody leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Generic, TypeVar

import trio
from quart import Response
from quart.wrappers.response import ResponseBody

T = TypeVar("T")

HEARTBEAT_SECONDS: Final = 15.0  # proxies let go of what is silent for half a minute or more
RETRY_MS: Final = 2_000  # after which a browser comes back, with the id of the last event that it has


def event(data: str, *, event_id: int | None = None, name: str | None = None) -> bytes:
    """One event. ``data`` has no line breaks: JSON has none."""
    lines = [f"id: {event_id}"] if event_id is not None else []
    if name is not None:
        lines.append(f"event: {name}")
    return "\n".join([*lines, f"data: {data}", "", ""]).encode()


class EventStream(ResponseBody, Generic[T]):
    """The events of the channel that ``listen`` opens, which is closed at the end. It ends with the channel, with
    ``ending``, or when ``still`` says so. That is asked at each heartbeat, and as often where events leave no time for
    any, long after the request's context is gone.
    """

    def __init__(
        self,
        listen: Callable[[], trio.MemoryReceiveChannel[T]],
        show: Callable[[T], bytes],
        *,
        first: bytes,
        ending: trio.Event,
        still: Callable[[], Awaitable[bool]],
    ) -> None:
        self._listen = listen
        self._show = show
        self._first: bytes | None = f"retry: {RETRY_MS}\n".encode() + first
        self._ending = ending
        self._still = still
        self._ask_at = 0.0

    async def __aenter__(self) -> EventStream[T]:
        self._source = self._listen()
        self._ask_at = trio.current_time() + HEARTBEAT_SECONDS
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._source.close()

    def __aiter__(self) -> EventStream[T]:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        found: list[T] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_at_the_end, nursery.cancel_scope)
            with trio.move_on_after(HEARTBEAT_SECONDS), suppress(trio.EndOfChannel):
                found.append(await self._source.receive())
                nursery.cancel_scope.cancel()
            heartbeat = not found and self._source.statistics().open_send_channels > 0
            nursery.cancel_scope.cancel()
        if not found and (self._ending.is_set() or not heartbeat):
            raise StopAsyncIteration
        if not await self._goes_on(heartbeat):
            raise StopAsyncIteration
        return self._show(found[0]) if found else b":\n\n"

    async def _goes_on(self, heartbeat: bool) -> bool:
        """What ``still`` says; not asked again for an event that comes within a heartbeat of the last time."""
        if not heartbeat and trio.current_time() < self._ask_at:
            return True
        goes_on = await self._still()
        self._ask_at = trio.current_time() + HEARTBEAT_SECONDS
        return goes_on

    async def _cancel_at_the_end(self, scope: trio.CancelScope) -> None:
        await self._ending.wait()
        scope.cancel()


def event_response(body: ResponseBody | bytes) -> Response:
    response = Response(body, content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would gather events until its buffer is full
    return response
