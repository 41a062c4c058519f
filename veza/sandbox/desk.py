"""The desk every provider request passes: log, authorise, meet a fault, execute, answer.

A request that has begun is executed in the sandbox's own nursery, not in the client's: a client that hangs up
while it hangs cuts nothing off, exactly as at a real provider. Only its answer is lost.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio
from quart import Response, request
from quart_trio import QuartTrio

from veza.sandbox.connection import DROP_HEADER
from veza.sandbox.faults import DROPS, REFUND_OUTCOMES, REFUSALS, TRANSIENT, Fault, FaultScript
from veza.sandbox.store import Json, Object, Store, to_json

LOGGED_REQUESTS = 10_000  # a long test's worth; older ones are forgotten, never counted wrong silently


@dataclass(frozen=True)
class Call:
    """One request, its body already parsed into `params` (form or JSON) and its query into `query`."""

    method: str
    path: str
    params: Object
    query: Mapping[str, str]
    key: str | None = None
    account: str | None = None
    body: bytes = b""
    request_id: str = ""
    base_url: str = ""  # where this stand-in is reached, for the links it hands out
    trusted: bool = True  # authorised by the secret key, not merely by a client secret
    outcome: str | None = None  # a scripted outcome the endpoint is to come to


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @classmethod
    def json(cls, value: Json, status: int = 200, **headers: str) -> Reply:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, to_json(value).encode(), named)


class Refused(Exception):  # noqa: N818 - an answer on its way, not a fault
    """An endpoint's refusal. `begun` tells whether the endpoint had begun, so that its answer is stored."""

    def __init__(self, reply: Reply, *, begun: bool = True) -> None:
        super().__init__(reply.status)
        self.reply = reply
        self.begun = begun


Endpoint = Callable[[Call, str], Reply]


class Provider(ABC):
    """What differs between the two: how requests are read, authorised, refused and made idempotent."""

    def __init__(self, store: Store, kinds: set[str]) -> None:
        self.store = store
        self.faults = FaultScript(kinds)

    @abstractmethod
    def parse(self, method: str, path: str, body: bytes, query: Mapping[str, str], headers: Mapping[str, str]) -> Call:
        """Raises Refused (not begun) on a body that can't be read or a key that isn't ours."""

    @abstractmethod
    def scripted(self, kind: str, call: Call) -> Reply:
        """The answer of a fault of that kind."""

    @abstractmethod
    def execute(self, call: Call, endpoint: Endpoint, subject: str, fault: Fault | None) -> Reply:
        """Run the endpoint in one transaction, with its idempotency record and its events."""

    def replays(self, call: Call) -> bool:
        """Whether an answer is already stored under the call's key."""
        return False

    def claim(self, call: Call) -> Reply | None:
        """Take the call's idempotency key for as long as it is being worked on, or answer at once."""
        return None

    def free(self, call: Call) -> None:  # noqa: B027  one of the two providers has no keys
        """Give the key back."""


@dataclass
class Logged:
    method: str
    path: str
    idempotency_key: str | None
    params: Object
    at: float
    status: int | str = "in progress"
    fault: str | None = None

    def view(self) -> Object:
        return {
            "method": self.method,
            "path": self.path,
            "idempotency_key": self.idempotency_key,
            "params": self.params,
            "at": self.at,
            "status": self.status,
            "fault": self.fault,
        }


@dataclass(frozen=True)
class Drop:
    """No answer: the connection is to be closed."""


class Desk:
    def __init__(self, app: QuartTrio, provider: Provider, rang: Callable[[], None]) -> None:
        self._app = app
        self._provider = provider
        self._rang = rang  # wakes the webhook sender
        self.log: deque[Logged] = deque(maxlen=LOGGED_REQUESTS)

    def view(self, endpoint: Endpoint) -> Callable[..., Awaitable[Response]]:
        async def handle(subject: str = "") -> Response:
            return await self._serve(endpoint, subject)

        return handle

    async def _serve(self, endpoint: Endpoint, subject: str) -> Response:
        body = await request.body
        headers = {name.lower(): value for name, value in request.headers.items()}
        line = Logged(request.method, request.path, headers.get("idempotency-key"), {}, time.time())
        self.log.append(line)
        try:
            call = self._provider.parse(request.method, request.path, body, request.args.to_dict(), headers)
        except Refused as refused:
            line.status = refused.reply.status
            return respond(refused.reply)
        line.params = call.params
        fault = self._provider.faults.take(
            call.method, call.path, call.key, call.params, replayed=self._provider.replays(call)
        )
        line.fault = None if fault is None else fault.kind
        done, answer = trio.Event(), list[Reply | Drop]()
        self._app.nursery.start_soon(self._perform, call, endpoint, subject, fault, answer, done, line)
        await done.wait()
        return respond(answer[0] if answer else Drop())

    async def _perform(
        self,
        call: Call,
        endpoint: Endpoint,
        subject: str,
        fault: Fault | None,
        answer: list[Reply | Drop],
        done: trio.Event,
        line: Logged,
    ) -> None:
        try:
            answer.append(await self._work(call, endpoint, subject, fault))
        except Exception:  # a bug of ours must look like a provider's, not kill the whole sandbox
            self._app.logger.exception("sandbox endpoint failed")
            answer.append(self._provider.scripted("500", call))
        finally:
            reply = answer[0] if answer else Drop()
            line.status = "dropped" if isinstance(reply, Drop) else reply.status
            self._rang()
            done.set()

    async def _work(self, call: Call, endpoint: Endpoint, subject: str, fault: Fault | None) -> Reply | Drop:
        kind = None if fault is None else fault.kind
        if kind == "drop_before":
            return Drop()
        if kind in TRANSIENT:
            return self._provider.scripted(kind, call)
        early = self._provider.claim(call)
        if early is None:
            try:
                if fault is not None and kind in ("hang_before", "slow") and not await fault.hold():
                    return Drop()
                effect = fault if kind in REFUSALS | REFUND_OUTCOMES else None
                early = self._provider.execute(call, endpoint, subject, effect)
                self._rang()
            finally:
                self._provider.free(call)
        if fault is not None and kind == "hang_after":
            await fault.hold()
        if kind in DROPS:
            return Drop()
        return self._provider.scripted(kind, call) if kind == "garbage" else early


def respond(reply: Reply | Drop) -> Response:
    if isinstance(reply, Drop):
        return Response("", status=200, headers={DROP_HEADER.decode(): "1"})
    return Response(reply.body, status=reply.status, headers=dict(reply.headers), content_type=reply.content_type)


def new_id(prefix: str, length: int = 24) -> str:
    """A fresh identifier in the providers' style: a prefix and letters and digits."""
    return prefix + secrets.token_hex(length)[:length]
