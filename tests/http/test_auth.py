"""Who is asking: found anew at each request, in the database, from an access token and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from quart import Blueprint, Response
from quart_schema import validate_request

from tests.http.desk import Desk, open_desk, refusal, signed
from veza.http.auth import admin_only, by, caller, caller_if_any, login_optional, login_required
from veza.http.envelope import Body
from veza.http.tokens import ACCESS_LIFETIME
from veza.store.bridge import Database


class TitleBody(Body):
    title: str


def rooms() -> Blueprint:
    routes = Blueprint("rooms", __name__)

    @routes.get("/members")
    @login_required
    async def members() -> dict[str, object]:
        who = by()
        return {"user": str(who.user_id), "request_id": who.request_id, "address": who.address}

    @routes.post("/members")
    @login_required
    @validate_request(TitleBody)
    async def post_members(data: TitleBody) -> dict[str, object]:
        return {"title": data.title, "session": str(caller().session_id)}

    @routes.get("/office")
    @admin_only
    async def office() -> dict[str, object]:
        return {"user": str(caller().id)}

    @routes.get("/lobby")
    @login_optional
    async def lobby() -> dict[str, object]:
        found = caller_if_any()
        return {"user": found and str(found.id)}

    @routes.get("/street")
    async def street() -> Response:
        try:
            caller()
        except LookupError:
            return Response("nobody was asked")
        return Response("somebody")

    return routes


@pytest.fixture
async def desk(db: Database) -> AsyncIterator[Desk]:
    async with open_desk(db, rooms()) as opened:
        yield opened


async def test_an_access_token_lets_its_user_in_and_the_route_knows_who_it_is(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        answer = await desk.get("/test/members", ann.access)
        assert answer.json() == {
            "user": str(ann.id),
            "request_id": answer.headers["x-request-id"],
            "address": "127.0.0.1",
        }


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_scheme_is_read_in_any_case(desk: Desk, scheme: str) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        answer = await desk.http.get("/test/members", headers={"Authorization": f"{scheme} {ann.access}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "Token x"])
async def test_without_a_bearer_token_a_member_is_asked_for_one(desk: Desk, header: str | None) -> None:
    with trio.fail_after(10):
        headers = {} if header is None else {"Authorization": header}
        answer = await desk.http.get("/test/members", headers=headers)
        assert refusal(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("room", ["members", "office", "lobby"])
async def test_a_token_that_does_not_hold_opens_no_door_not_even_an_open_one(desk: Desk, room: str) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert refusal(await desk.get(f"/test/{room}", ann.refresh)) == (401, "invalid_token")
        assert refusal(await desk.get(f"/test/{room}", ann.access + "x")) == (401, "invalid_token")
        desk.clock.move(ACCESS_LIFETIME)
        assert refusal(await desk.get(f"/test/{room}", ann.access)) == (401, "token_expired")


async def test_the_token_of_an_ended_session_is_refused_at_once(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert await desk.is_in(ann.access)
        await desk.http.post("/auth/logout", headers=signed(ann.access))
        assert refusal(await desk.get("/test/members", ann.access)) == (401, "session_over")


async def test_the_token_of_a_user_who_is_gone_is_refused(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        async with desk.db.transaction() as tx:
            await tx.execute("DELETE FROM users")
        assert refusal(await desk.get("/test/members", ann.access)) == (401, "session_over")


async def test_a_promotion_and_a_demotion_act_at_the_next_request(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        for role, status in (("user", 403), ("admin", 200), ("user", 403)):
            async with desk.db.transaction() as tx:
                await tx.execute("UPDATE users SET role = $1", role)
            assert (await desk.get("/test/office", ann.access)).status_code == status


async def test_the_admins_office_tells_strangers_to_sign_in_and_users_to_stay_out(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert refusal(await desk.http.get("/test/office")) == (401, "unauthenticated")
        assert refusal(await desk.get("/test/office", ann.access)) == (403, "forbidden")


async def test_an_open_room_knows_who_comes_in_if_they_say(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert (await desk.http.get("/test/lobby")).json() == {"user": None}
        assert (await desk.get("/test/lobby", ann.access)).json() == {"user": str(ann.id)}


async def test_a_route_that_asks_nobody_has_no_caller(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert (await desk.get("/test/street", ann.access)).text == "nobody was asked"


async def test_a_stranger_is_refused_before_their_body_is_looked_at(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert refusal(await desk.http.post("/test/members", json={})) == (401, "unauthenticated")
        answer = await desk.http.post("/test/members", json={}, headers=signed(ann.access))
        assert refusal(answer) == (400, "invalid")


async def test_the_access_log_names_the_user(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        await desk.get("/test/members", ann.access)
        await desk.http.get("/test/lobby")
        while len(desk.logged("request")) < 3:
            await trio.lowlevel.checkpoint()
        told = {line["route"]: line["user"] for line in desk.logged("request")}
        assert told == {
            "/api/v1/auth/register": str(ann.id),
            "/api/v1/test/members": str(ann.id),
            "/api/v1/test/lobby": None,
        }


async def test_the_api_document_says_which_routes_need_a_token(desk: Desk) -> None:
    with trio.fail_after(10):
        paths = (await desk.http.get(f"{desk.url}/openapi.json")).raise_for_status().json()["paths"]
        assert paths["/api/v1/test/members"]["get"]["security"] == [{"bearer": []}]
        assert paths["/api/v1/test/office"]["get"]["security"] == [{"bearer": ["admin"]}]
        assert paths["/api/v1/test/lobby"]["get"]["security"] == [{}, {"bearer": []}]
