"""The real app behind the real server on a free port, with parts that are as little as they can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
import trio
from quart import Blueprint, Response, request
from quart_schema import validate_querystring, validate_request, validate_response

from tests.sandbox.running import NO_CERTIFICATES
from veza.actors.core import errors as runtime
from veza.domain import errors as domain
from veza.domain.ids import IdMint
from veza.gateways.objects import Objects
from veza.http.app import VezaApp, create_app
from veza.http.body import UploadLimits
from veza.http.deadline import renew, within
from veza.http.downloads import send_object
from veza.http.edge import Trace, trace
from veza.http.envelope import Body, Envelope
from veza.http.paging import Paging
from veza.http.parts import Check, CheckResult, ConfigSummary, HttpSettings, Parts, parts
from veza.http.uploads import receive_file
from veza.listener import listen
from veza.store import errors as store

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
UPLOAD_LIMIT = 8 * 1024 * 1024
LIMITS = UploadLimits(UPLOAD_LIMIT, idle_seconds=0.5, grace_seconds=0.5, min_bytes_per_second=1000)

RAISED: dict[str, Callable[[], Exception]] = {
    "invalid": lambda: domain.Invalid("A title is needed.", field="title"),
    "unauthenticated": lambda: domain.Unauthenticated("Sign in first."),
    "forbidden": lambda: domain.Forbidden("That is not yours."),
    "not_found": lambda: domain.NotFound("No such product."),
    "conflict": lambda: domain.Conflict("It is archived.", code="archived"),
    "too_large": lambda: domain.TooLarge("Too many bytes."),
    "unavailable": lambda: domain.Unavailable("Payments are away."),
    "overloaded": lambda: runtime.Overloaded("/payouts"),
    "deadline_exceeded": lambda: runtime.DeadlineExceeded("/payouts"),
    "crashed": lambda: runtime.ActorCrashed("/payouts"),
    "stopped": lambda: runtime.Stopped("/payouts"),
    "database_unavailable": lambda: store.DatabaseUnavailable("gone"),
    "try_again": lambda: store.TryAgain("deadlock"),
    "outcome_unknown": lambda: store.OutcomeUnknown("commit"),
    "surprise": lambda: RuntimeError("the password is hunter2"),
    "group": lambda: ExceptionGroup("two", [domain.Conflict("It is archived."), domain.Conflict("It is archived.")]),
}


class EchoBody(Body):
    title: str
    price_cents: int
    seller_id: UUID | None = None
    released_at: datetime | None = None


class EchoOut(Body):
    title: str
    price_cents: int
    seller_id: UUID | None
    released_at: datetime | None


class OptionalBody(Body):
    reason: str | None = None


@dataclass
class Stage:
    """What the test routes and the tests tell each other."""

    key: str = ""
    file_type: str = "audio/wav"
    entered: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)
    release: trio.Event = field(default_factory=trio.Event)
    taken: int = 0


def stage_routes(stage: Stage) -> Blueprint:
    routes = Blueprint("stage", __name__)
    add_shapes(routes)
    add_waits(routes, stage)
    add_files(routes, stage)
    return routes


def add_shapes(routes: Blueprint) -> None:
    @routes.post("/echo")
    @validate_request(EchoBody)
    @validate_response(Envelope[EchoOut], 201)
    async def echo(data: EchoBody) -> tuple[Envelope[EchoOut], int]:
        return Envelope[EchoOut](data=EchoOut(**dict(data))), 201

    @routes.post("/optional")
    @validate_request(OptionalBody)
    @validate_response(Envelope[OptionalBody])
    async def optional(data: OptionalBody) -> Envelope[OptionalBody]:
        return Envelope[OptionalBody](data=data)

    @routes.get("/pages")
    @validate_querystring(Paging)
    @validate_response(Envelope[Paging])
    async def pages(query_args: Paging) -> Envelope[Paging]:
        return Envelope[Paging](data=query_args)

    @routes.get("/raise/<kind>")
    async def raising(kind: str) -> Response:
        raise RAISED[kind]()

    @routes.get("/things/<uuid:thing_id>")
    async def thing(thing_id: UUID) -> Response:
        trace().user_id = thing_id
        return Response(str(thing_id))


def add_waits(routes: Blueprint, stage: Stage) -> None:
    @routes.get("/hold")
    async def hold() -> Response:
        stage.entered.set()
        try:
            await stage.release.wait()
        finally:
            stage.left.set()
        return Response("held")

    @routes.get("/patient")
    @within(0.05)
    async def patient() -> Response:
        renew(60)
        stage.entered.set()
        await stage.release.wait()
        return Response("patient")


def add_files(routes: Blueprint, stage: Stage) -> None:
    @routes.post("/upload")
    @within(60)
    async def upload() -> dict[str, Any]:
        incoming = await receive_file(LIMITS)
        async for chunk in incoming:
            stage.taken += len(chunk)
        return {
            "size": incoming.size,
            "filename": incoming.filename,
            "type": incoming.content_type,
            "fields": incoming.fields,
        }

    @routes.get("/file")
    async def file() -> Response:
        return await send_object(stage.key, filename="Träck 1.wav", content_type=stage.file_type, modified=NOON)

    @routes.get("/events")
    async def events() -> Response:
        stopping = parts().stopping

        async def chunks() -> AsyncIterator[bytes]:
            yield b": welcome\n\n"
            await stopping.wait()

        return Response(chunks(), content_type="text/event-stream")

    @routes.get("/address")
    async def address() -> Response:
        return Response(request.remote_addr)

    @routes.get("/endless")
    async def endless() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536

        return Response(chunks())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await trio.sleep(0.001)


@dataclass
class Serving:
    """A served app, and what a test may do with it."""

    app: VezaApp
    stage: Stage
    base_url: str
    lines: Sequence[Any]
    shutdown: trio.Event
    stopped: trio.Event
    seen: list[Trace]

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2])

    @property
    def requests(self) -> list[Any]:
        """The access log so far."""
        return [line for line in self.lines if line["event"] == "request"]

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.base_url + "/api/v1/stage", timeout=10, verify=NO_CERTIFICATES)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, raw: bytes) -> bytes:
        """Send the bytes on a connection of their own and read until the server closes it."""
        async with await self.connect() as stream:
            await stream.send_all(raw)
            return b"".join([chunk async for chunk in stream])

    async def logged(self, count: int) -> list[Any]:
        """The access log once it has so many lines: a line is written after its answer was sent."""
        await until(lambda: len(self.requests) >= count)
        return self.requests

    async def refuses_connections(self) -> None:
        """Wait until accepting has stopped."""
        with suppress(OSError):
            while True:
                await (await self.connect()).aclose()


Serve = Callable[..., Any]


async def well() -> CheckResult:
    return CheckResult("ok")


@pytest.fixture
def lines() -> Iterator[Sequence[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
async def serve(nursery: trio.Nursery, lines: Sequence[Any]) -> Serve:
    """Starts an app; keyword arguments are HttpSettings, checks, and the listener's seconds."""

    async def start(
        *,
        checks: dict[str, Check] | None = None,
        root_alive: Callable[[], bool] = lambda: True,
        drain_seconds: float = 5,
        stall_seconds: float = 5,
        max_connections: int = 100,
        objects: Objects | None = None,
        **settings: Any,
    ) -> Serving:
        app, stage, shutdown, stopped = create_app(), Stage(), trio.Event(), trio.Event()
        app.register_blueprint(stage_routes(stage), url_prefix="/api/v1/stage")
        app.bind(
            Parts.only(
                clock=lambda: NOON,
                new_id=IdMint(lambda: NOON, Random(7)),
                config=ConfigSummary(True, True, 0.1, True),
                checks={"database": well} if checks is None else checks,
                root_alive=root_alive,
                settings=HttpSettings(**settings),
                stopping=shutdown,
                **({} if objects is None else {"objects": objects}),
            )
        )
        seen: list[Trace] = []
        app.edge.observers.append(seen.append)

        async def run(task_status: trio.TaskStatus[str]) -> None:
            await listen(
                app,
                "127.0.0.1",
                0,
                new_id=IdMint(lambda: NOON, Random(8)),
                shutdown=shutdown,
                drain_seconds=drain_seconds,
                stall_seconds=stall_seconds,
                max_connections=max_connections,
                task_status=task_status,
            )
            stopped.set()

        base_url: str = await nursery.start(run)
        return Serving(app, stage, base_url, lines, shutdown, stopped, seen)

    return start
