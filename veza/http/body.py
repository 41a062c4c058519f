"""How a request's bytes come in and an answer's go out.

Bytes are taken from the server only as fast as the handler takes them (the framework's own body takes them all), every
reader states its limit, and nothing is believed of a length that was announced: a chunked body is counted as it comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, cast

import trio
from pydantic_core import from_json
from quart.wrappers import Response
from quart.wrappers.response import DataBody
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, RequestTimeout, UnsupportedMediaType
from werkzeug.utils import cached_property
from werkzeug.wrappers import Response as WerkzeugResponse

from veza.domain.errors import Invalid, TooLarge
from veza.http import errors
from veza.http.edge import LINGER_SECONDS, SETTLE_SECONDS, trace, waiting_for_client

SMALL_BODY = 256 * 1024
"""Bytes of a body that is read whole. The largest the API takes is a cart of a hundred lines, some 10 KB; a provider's
event has a few dozen. Anyone may have that much of our memory for as long as they take to send it."""

SMALL_BODY_SECONDS = 5.0  # to send it in, half of a request's deadline: the other half is for the work
QUEUED = 2  # messages of at most 256 KiB between the server and the handler


class PulledBody(TrioBody):
    """A body that is pulled: the handler's reading lets the server read on."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        # Deliberately without super().__init__(), which would make the buffer and events this class replaces.
        self.expected = expected_content_length
        self.complete = False
        self._ended = trio.Event()
        self._whole: bytes | None = None
        self._feed, self._pull = trio.open_memory_channel[bytes](QUEUED)

    async def feed(self, chunk: bytes) -> None:
        """Hand on a chunk, waiting until there is room; dropped if the handler wants no more."""
        if chunk:
            try:
                await self._feed.send(chunk)
            except trio.BrokenResourceError:
                return

    def end(self) -> None:
        """The client has sent everything."""
        self.complete = True
        self._feed.close()
        self._ended.set()

    def abandon(self) -> None:
        """Nobody will read the rest: let it be dropped as it comes."""
        self._pull.close()

    async def ended(self, within: float) -> bool:
        """Whether the client's bytes end within so many seconds."""
        if not self.complete:
            with trio.move_on_after(within):
                await self._ended.wait()
        return self.complete

    def __aiter__(self) -> PulledBody:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._pull.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._read_whole().__await__()

    def clear(self) -> None:
        self._whole = b""

    async def _read_whole(self) -> bytes:
        if self._whole is None:
            if self.expected is not None and self.expected > SMALL_BODY:
                raise TooLarge(f"The body may have at most {SMALL_BODY} bytes.")
            with waiting_for_client(), trio.move_on_after(SMALL_BODY_SECONDS) as scope:
                self._whole = await self._gather()
            if scope.cancelled_caught:
                raise RequestTimeout("The body took too long to arrive.")
        return self._whole or b""

    async def _gather(self) -> bytes:
        gathered = bytearray()
        async for chunk in self:
            gathered += chunk
            if len(gathered) > SMALL_BODY:
                raise TooLarge(f"The body may have at most {SMALL_BODY} bytes.")
        return bytes(gathered)


class VezaRequest(TrioRequest):
    """A request with a pulled body and a strict reading of JSON."""

    body_class = PulledBody
    body: PulledBody
    ask_again: Callable[[], Awaitable[None]] | None = None
    """Whether its sender may still come in, asked when their body is here, if it kept us waiting."""

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """The query, without what the validating extension would take for lists: `x[]` is not `x`, and unknown here."""
        return self.parameter_storage_class(
            (name, value) for name, value in super().args.items(multi=True) if not name.endswith("[]")
        )

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON; nothing at all reads as an empty object, so a bodyless POST needs no Content-Type.

        Raises UnsupportedMediaType for a body of another type, BadRequest for what is not JSON, TooLarge.
        """
        if self._cached_json[False] is not Ellipsis:
            return self._cached_json[False]
        raw = await self.whole()
        if raw and not (force or self.is_json):
            raise UnsupportedMediaType("The body must be JSON (Content-Type: application/json).")
        self._cached_json[False] = value = _read_json(raw) if raw else {}
        return value

    async def whole(self) -> bytes:
        """The body of a sender who may still come in. Raises TooLarge, and what ``ask_again`` does."""
        late = not self.body.complete
        raw = await self.body
        if late and self.ask_again is not None:
            await self.ask_again()
        return raw


def _read_json(raw: bytes) -> object:
    try:
        value: object = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if b"\\u0000" in raw and _holds_nul(value):
        raise Invalid("Text may not contain the NUL character.")  # PostgreSQL cannot store it
    return value


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


class Connection(TrioASGIHTTPConnection):
    """One request's messages in and out. A hang-up cancels the handler; an early answer lets the body run out."""

    async def __call__(self, receive: Any, send: Any) -> None:
        request = cast(VezaRequest, self._create_request_from_scope(send))
        body = request.body
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_in, nursery.cancel_scope, body, receive)
            response = await self.app.handle_request(request)
            await trio.lowlevel.checkpoint_if_cancelled()  # the client hung up under a write that was not to be cut
            body.abandon()
            if not await body.ended(within=SETTLE_SECONDS):
                response.headers["Connection"] = "close"
            try:
                await self._send_answer(send, response, body)
            except Exception as error:
                if trace().status is not None:
                    raise  # what was begun can only be cut short
                await self._send_answer(send, await errors.answer(error), body)
            nursery.cancel_scope.cancel()

    async def _take_in(self, handler: trio.CancelScope, body: PulledBody, receive: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            await body.feed(message.get("body", b""))
            if not message.get("more_body", False):
                body.end()
        handler.cancel()

    async def _send_answer(self, send: Any, response: Response | WerkzeugResponse, body: PulledBody) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
        start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
        if isinstance(response, WerkzeugResponse):
            raise TypeError("a handler answered with a response of another framework")
        last = b""
        if self.scope["method"] == "HEAD":  # nothing of it would be sent, and an endless one never ends
            await send(start)
            await body.ended(within=LINGER_SECONDS)
        elif body.complete and isinstance(response.response, DataBody):
            await send(start)
            last = response.response.data[response.response.begin : response.response.end]  # in one go
        else:
            async with response.response as chunks:
                await send(start)  # not before: a file that can't be opened is an error that can be told
                async for chunk in chunks:
                    data = chunk.encode() if isinstance(chunk, str) else chunk
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await body.ended(within=LINGER_SECONDS)
        await send({"type": "http.response.body", "body": last, "more_body": False})


@dataclass(frozen=True)
class UploadLimits:
    """What an upload may cost us. Only the time spent waiting for the client counts, never that of our own disk."""

    max_bytes: int
    idle_seconds: float = 30.0  # a mobile client changing networks is back by then
    grace_seconds: float = 15.0  # before its average rate is judged
    min_bytes_per_second: float = 4096.0  # below a 2G phone's; slower is holding the connection, not sending


class PacedReader:
    """A large body, chunk by chunk, held to its limits. Raises TooLarge (413) and RequestTimeout (408)."""

    def __init__(self, body: PulledBody, limits: UploadLimits) -> None:
        self._body = body
        self._limits = limits
        self._received = 0
        self._waited = 0.0
        if body.expected is not None and body.expected > limits.max_bytes:
            raise self._too_large()

    def __aiter__(self) -> PacedReader:
        return self

    async def __anext__(self) -> bytes:
        began = trio.current_time()
        with waiting_for_client(), trio.move_on_after(self._limits.idle_seconds) as scope:
            chunk = await anext(self._body)
        if scope.cancelled_caught:
            raise RequestTimeout("The upload stalled.")
        self._waited += trio.current_time() - began
        self._received += len(chunk)
        self._hold_to_limits()
        return chunk

    def _hold_to_limits(self) -> None:
        limits = self._limits
        if self._received > limits.max_bytes:
            raise self._too_large()
        late = self._waited > limits.grace_seconds
        if late and self._received < self._waited * limits.min_bytes_per_second:
            raise RequestTimeout("The upload is too slow.")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"An upload may have at most {self._limits.max_bytes} bytes.")
