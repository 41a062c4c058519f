"""Which requests are written to the audit, and what of them, whatever becomes of their handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import trio
from quart import Blueprint, Response
from quart_schema import validate_querystring

from tests.http.conftest import until
from tests.http.desk import PASSWORD, Desk, open_desk, refusal, signed
from tests.people import People
from veza.actors.audit import Outbox
from veza.domain.audit import Entry
from veza.domain.errors import Conflict, Forbidden, NotFound, TooMany
from veza.http.auth import login_required
from veza.http.paging import Paging
from veza.store.bridge import Database
from veza.store.erasure import Erasures
from veza.store.streams import Streams

THING = "0195a000-0000-7000-8000-000000000001"
REFUSALS = {
    "ok": None,
    "403": Forbidden("That is not yours."),
    "404": NotFound("There is no such thing."),
    "409": Conflict("It is over."),
    "429": TooMany("Too often.", retry_after=1),
    "500": RuntimeError("a surprise"),
}


@dataclass
class Stage:
    """Routes as there are many, and when they are entered and left."""

    entered: trio.Event = field(default_factory=trio.Event)
    release: trio.Event = field(default_factory=trio.Event)

    def routes(self) -> Blueprint:
        api = Blueprint("stage", __name__)

        async def change(thing_id: UUID, kind: str) -> Response:
            if (refused := REFUSALS[kind]) is not None:
                raise refused
            return Response("done")

        api.add_url_rule(
            "/things/<uuid:thing_id>/<kind>",
            view_func=login_required(change),
            methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        )

        @api.post("/hold")
        async def hold() -> Response:
            self.entered.set()
            await self.release.wait()
            return Response("held")

        @api.post("/pages")
        @validate_querystring(Paging)
        async def pages(query_args: Paging) -> Response:
            return Response(str(query_args.limit))

        return api


@dataclass
class Audited:
    desk: Desk
    outbox: Outbox
    stage: Stage

    async def entries(self, count: int) -> Sequence[Entry]:
        """The audit so far, once it has so many: an entry is made after its answer was sent."""
        await until(lambda: self.outbox.waiting >= count)
        return self.outbox.first(self.outbox.waiting)

    def clear(self) -> None:
        self.outbox.done(self.outbox.waiting)


@asynccontextmanager
async def audited(
    db: Database, outbox: Outbox | None = None, more: Mapping[str, object] | None = None, **settings: Any
) -> AsyncIterator[Audited]:
    """A desk whose outbox nobody empties."""
    stage, outbox = Stage(), outbox or Outbox()
    with trio.fail_after(30):
        async with open_desk(db, stage.routes(), more={"outbox": outbox, **(more or {})}, **settings) as desk:
            yield Audited(desk, outbox, stage)


async def test_every_method_that_changes_something_is_written_with_all_that_is_asked_of_it(db: Database) -> None:
    async with audited(db) as it:
        ann = await it.desk.sign_up()
        await it.entries(1)
        it.clear()
        path = f"/test/things/{THING}/ok?q=query-word"
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            headers = signed(ann.access) | {"X-Request-ID": f"request-{method}"}
            answer = await it.desk.http.request(method, path, headers=headers, content=b"body-word")
            assert answer.status_code == 200
        entries = await it.entries(4)
    assert [entry.method for entry in entries] == ["POST", "PUT", "PATCH", "DELETE"]
    assert len({entry.id for entry in entries}) == 4
    for entry in entries:
        assert entry.action == f"test.things.{str(entry.method).lower()}"
        assert entry.resource == f"test/things/{THING}"
        assert (entry.user_id, entry.status, entry.address) == (ann.id, 200, "127.0.0.1")
        assert entry.request_id == f"request-{entry.method}"
        assert entry.at == it.desk.clock()
        for word in ("query-word", "body-word", "ok", ann.access):
            assert word not in str(entry)


async def test_what_only_reads_is_not_written(db: Database) -> None:
    async with audited(db) as it:
        ann = await it.desk.sign_up()
        for method in ("GET", "HEAD", "OPTIONS"):
            await it.desk.http.request(method, f"/test/things/{THING}/ok", headers=signed(ann.access))
        await it.desk.http.post("/test/pages")
        entries = await it.entries(2)
    assert [entry.action for entry in entries] == ["auth.register.post", "test.pages.post"]


@pytest.mark.parametrize("kind", ["403", "404", "409", "429", "500"])
async def test_who_is_refused_is_written_with_the_refusal(db: Database, kind: str) -> None:
    async with audited(db) as it:
        ann = await it.desk.sign_up()
        await it.desk.http.delete(f"/test/things/{THING}/{kind}", headers=signed(ann.access))
        [_, entry] = await it.entries(2)
    assert (entry.status, entry.user_id) == (int(kind), ann.id)


async def test_who_is_not_signed_in_and_what_makes_no_sense_is_written_too(db: Database) -> None:
    async with audited(db) as it:
        await it.desk.http.delete(f"/test/things/{THING}/ok")
        await it.desk.login("Nobody")
        await it.desk.http.post("/test/pages?limit=0")
        entries = await it.entries(3)
    assert [(entry.action, entry.status) for entry in entries] == [
        ("test.things.delete", 401),
        ("auth.login.post", 401),
        ("test.pages.post", 400),
    ]
    assert {entry.user_id for entry in entries} == {None}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/nowhere"),
        ("PATCH", "/test/hold"),
        ("PUT", "/admin/maintenance"),
        ("POST", f"/admin/transfers/{THING}/hold"),
        ("POST", "/hooks/rtmp/a-token-of-the-server/publish"),
        ("POST", "/hooks/mediamtx/a-token-of-the-server/auth"),
        ("POST", "/health"),
        ("POST", "/metrics"),
        ("POST", "/swagger"),
    ],
)
async def test_what_reaches_no_route_and_what_the_reference_skips_is_not_written(
    db: Database, method: str, path: str
) -> None:
    async with audited(db, Outbox(places=1)) as it:
        assert (await it.desk.http.request(method, path)).is_error
        assert (await it.desk.http.post("/test/pages")).status_code == 200  # there is a place for it still
        [entry] = await it.entries(1)
    assert entry.action == "test.pages.post"


async def test_the_providers_of_money_are_written_as_nobody(db: Database) -> None:
    async with audited(db) as it:
        answer = await it.desk.http.post("/webhooks/stripe", content=b"{}")
        [entry] = await it.entries(1)
    assert (entry.action, entry.resource) == ("webhooks.stripe.post", "webhooks/stripe")
    assert (entry.user_id, entry.status) == (None, answer.status_code)


async def test_a_request_whose_client_hangs_up_is_written_without_a_status(db: Database) -> None:
    async with audited(db) as it:
        port = int(it.desk.url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"POST /api/v1/test/hold HTTP/1.1\r\nHost: veza\r\nContent-Length: 0\r\n\r\n")
            await it.stage.entered.wait()
        [entry] = await it.entries(1)
    assert (entry.action, entry.status, entry.method) == ("test.hold.post", None, "POST")


async def test_a_request_that_is_shed_is_not_written(db: Database) -> None:
    async with audited(db, max_in_flight=1) as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.desk.http.post, "/test/hold")
        await it.stage.entered.wait()
        assert refusal(await it.desk.http.post("/test/pages")) == (503, "overloaded")
        it.stage.release.set()
        [entry] = await it.entries(1)
        assert entry.action == "test.hold.post"


async def test_who_finds_no_place_for_an_entry_is_not_let_in_and_whoever_reads_is(db: Database) -> None:
    async with audited(db, Outbox(places=2)) as it, trio.open_nursery() as nursery:
        await it.desk.sign_up()
        await it.entries(1)
        nursery.start_soon(it.desk.http.post, "/test/hold")  # its place is kept while it is under way
        await it.stage.entered.wait()
        shed = await it.desk.http.post("/test/pages")
        assert refusal(shed) == (503, "overloaded")
        assert shed.headers["retry-after"] == "1"
        assert (await it.desk.http.get(f"/test/things/{THING}/ok")).status_code == 401
        hook = await it.desk.http.post("/webhooks/stripe", content=b"{}")  # money is never sent away
        assert hook.json()["code"] != "overloaded"
        assert (await it.desk.login("Ann")).status_code == 200  # an admin may be needed to make place
        await until(lambda: it.outbox.dropped == 2)
        lost = [line["action"] for line in it.desk.logged("audit_entry_dropped")]
        assert lost == ["webhooks.stripe.post", "auth.login.post"]
        it.stage.release.set()
        entries = await it.entries(2)
        assert [entry.action for entry in entries] == ["auth.register.post", "test.hold.post"]
        it.clear()
        assert (await it.desk.http.post("/test/pages")).status_code == 200


async def test_the_erasure_of_an_account_is_the_last_that_is_written_in_its_name(db: Database) -> None:
    more = {"erasures": Erasures(db, People().new_id), "streams": Streams(db)}
    async with audited(db, more=more) as it:
        ann = await it.desk.sign_up()
        body = {"password": PASSWORD}
        gone = await it.desk.http.request("DELETE", "/users/me", headers=signed(ann.access), json=body)
        assert gone.status_code == 200
        await it.desk.http.delete(f"/test/things/{THING}/ok", headers=signed(ann.access))
        [_, erased, after] = await it.entries(3)
    assert (erased.action, erased.user_id, erased.status) == ("users.me.delete", ann.id, 200)
    assert erased.resource == f"users/{ann.id}"
    assert (after.user_id, after.status) == (None, 401)
