"""Maintenance before everything else: who gets through which door, with what, while it is on and while it is off."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
import trio
from quart import Blueprint
from werkzeug.routing import Rule

from tests.http.conftest import until
from tests.http.desk import PASSWORD, Desk, open_desk, refusal, signed
from tests.people import NOON
from veza.domain.accounts import Role, SessionEnd, begin_session
from veza.domain.maintenance import MESSAGE, Maintenance
from veza.http.app import create_app
from veza.http.maintenance import is_open
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable
from veza.store.sessions import Sessions, open_session

ON = Maintenance(True, "Back at one.", NOON + timedelta(minutes=30))

HEALTH = ("/health", "/health/deep", "/healthz", "/readyz")
OPEN = {
    *HEALTH,
    *(f"/api/v1{path}" for path in HEALTH),
    "/metrics",
    "/api/v1/metrics",
    "/api/v1/webhooks/hyperswitch",
    "/api/v1/webhooks/stripe",
    "/api/v1/hooks/rtmp/<token>/publish",
    "/api/v1/hooks/rtmp/<token>/publish_done",
    "/api/v1/hooks/mediamtx/<token>/auth",
    "/api/v1/auth/login",
    "/api/v1/auth/refresh",
    "/static/<path:name>",
}
"""Beside what admins have to themselves. What is not here is closed, whatever it is."""

WHO = ("nobody", "user", "admin")
SAMPLES = {"uuid": str(UUID(int=7)), "int": "1", "string": "x", "path": "a/b.css"}


def is_listed(template: str) -> bool:
    return template in OPEN or template.startswith(("/api/v1/admin/", "/console"))


def every_route() -> Iterator[tuple[str, str, str]]:
    """Method, template and a path of each route of the app."""
    for rule in sorted(create_app().url_map.iter_rules(), key=lambda rule: rule.rule):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, rule.rule, path_of(rule)


def path_of(rule: Rule) -> str:
    return re.sub(r"<(?:(\w+)[^:<>]*:)?[^<>]+>", lambda found: SAMPLES[found[1] or "string"], rule.rule)


@dataclass
class Door:
    """``user`` and ``admin`` are accounts; each request comes by a session of its own, which it may end."""

    desk: Desk
    user: UUID
    admin: UUID
    held: trio.Event
    let_go: trio.Event

    async def token(self, who: str) -> str:
        user_id = self.user if who == "user" else self.admin
        session = begin_session(user_id, self.desk.parts.new_id, self.desk.clock())
        async with self.desk.db.transaction() as tx:
            await open_session(tx, session)
        return self.desk.parts.tokens.access(session)

    async def knock(self, method: str, path: str, who: str = "nobody", **more: Any) -> httpx.Response:
        headers = {} if who == "nobody" else signed(await self.token(who))
        return await self.call(method, path, headers, **more)

    async def call(self, method: str, path: str, headers: dict[str, str], **more: Any) -> httpx.Response:
        """Paths from the root on."""
        url = f"{self.desk.url}{path}"
        return await self.desk.http.request(method, url, headers=headers, **more)

    async def reach(self, method: str, path: str, who: str) -> tuple[httpx.Response, bytes]:
        """The answer to a request, and as much of its body as comes: a route that lacks its parts may break it off."""
        headers, body = {} if who == "nobody" else signed(await self.token(who)), b""
        async with self.desk.http.stream(method, f"{self.desk.url}{path}", headers=headers) as answer:
            with suppress(httpx.RemoteProtocolError):
                body = await answer.aread()
        return answer, body

    async def route_of(self, answer: httpx.Response) -> str | None:
        """Which route a request reached, by the log."""
        request_id = answer.headers["x-request-id"]

        def lines() -> list[object]:
            return [line for line in self.desk.logged("request") if line["request_id"] == request_id]

        await until(lambda: len(lines()) == 1)
        [line] = [line for line in self.desk.logged("request") if line["request_id"] == request_id]
        route: str | None = line["route"]
        return route

    def close(self, maintenance: Maintenance = ON) -> None:
        self.desk.board.maintenance = maintenance


@pytest.fixture
async def door(db: Database) -> AsyncIterator[Door]:
    stage, held, let_go = Blueprint("stage", __name__), trio.Event(), trio.Event()

    @stage.get("/hold")
    async def hold() -> str:
        held.set()
        await let_go.wait()
        return "done"

    off_air = SimpleNamespace(live=SimpleNamespace(status=lambda stream_id: None))
    with trio.fail_after(60):
        async with open_desk(db, stage, more={"refs": off_air}) as desk:
            user, admin = await desk.sign_up("Ann"), await desk.sign_up("Root")
            await set_role(db, admin.id, Role.ADMIN)
            yield Door(desk, user.id, admin.id, held, let_go)


async def set_role(db: Database, user_id: UUID, role: Role) -> None:
    async with db.transaction() as tx:
        await tx.execute("UPDATE users SET role = $2 WHERE id = $1", user_id, role)


# -- every route -------------------------------------------------------------------------------------------------------


def was_turned_away(body: bytes) -> bool:
    """By an error; the API's document tells of that code too."""
    return body.startswith(b'{"success":false') and b'"maintenance"' in body


@pytest.mark.parametrize("who", WHO)
async def test_while_it_is_off_every_route_is_reached_by_everybody(door: Door, who: str) -> None:
    for method, template, path in every_route():
        answer, body = await door.reach(method, path, who)
        assert await door.route_of(answer) == template, (method, path)
        assert not was_turned_away(body), (method, path)


@pytest.mark.parametrize("who", WHO)
async def test_while_it_is_on_every_route_that_is_not_listed_is_closed_to_all_but_admins(door: Door, who: str) -> None:
    door.close()
    for method, template, path in every_route():
        answer, body = await door.reach(method, path, who)
        reached = await door.route_of(answer)
        if who == "admin" or is_listed(template):
            assert reached == template, (method, path)
            assert not was_turned_away(body), (method, path)
        else:
            assert (reached, answer.status_code) == (None, 503), (method, path)
            assert answer.headers["retry-after"] == "1800"


def test_what_is_listed_is_there() -> None:
    templates = {template for _, template, _ in every_route()}
    assert templates >= OPEN
    assert any(template.startswith("/api/v1/admin/") for template in templates)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/readyz/"),
        ("GET", "/console"),
        ("POST", "/console/sign-in"),
        ("GET", "/static/console.js"),
        ("GET", "/healthzz"),
        ("POST", "/api/v1/admin/anything"),
        ("OPTIONS", "/api/v1/users/me"),
        ("OPTIONS", "/nothing"),
        ("POST", "/api/v1/auth/login/"),
    ],
)
def test_what_is_open_is_open_before_it_is_there(method: str, path: str) -> None:
    assert is_open(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/openapi.json"),
        ("GET", "/api/v1/nothing"),
        ("GET", "/api/v1/admin"),
        ("GET", "/api/v1/administrators"),
        ("GET", "/admin/users"),
        ("GET", "/api/v1/console"),
        ("GET", "/static"),
        ("GET", "/statics/console.js"),
        ("GET", "//health"),
        ("GET", "/readyzz"),
        ("GET", "/metrics/more"),
        ("POST", "/webhooks/stripe"),
        ("GET", "/api/v1/auth/login"),
        ("POST", "/api/v1/auth/login/more"),
        ("POST", "/api/v1/auth/logout"),
        ("GET", "/api/v1/../health"),
        ("GET", "http://veza.example/health"),
    ],
)
def test_what_only_looks_alike_is_closed(method: str, path: str) -> None:
    assert not is_open(method, path)


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/nothing", "/", "/openapi.json"])
async def test_what_is_not_there_is_closed_as_well(door: Door, path: str) -> None:
    door.close()
    assert refusal(await door.knock("GET", path)) == (503, "maintenance")
    assert (await door.knock("GET", path, "admin")).status_code in (200, 404)


async def test_what_is_asked_without_a_method_of_the_route_is_closed_too(door: Door) -> None:
    door.close()
    assert (await door.knock("HEAD", "/api/v1/marketplace/products")).status_code == 503
    assert refusal(await door.knock("PATCH", "/api/v1/marketplace/products")) == (503, "maintenance")
    answer = await door.knock("OPTIONS", "/api/v1/marketplace/products")
    assert answer.status_code == 200
    assert "GET" in answer.headers["allow"]


# -- what is said ------------------------------------------------------------------------------------------------------


async def test_who_is_turned_away_is_told_why_and_when_to_come_back(door: Door) -> None:
    door.close()
    answer = await door.call("GET", "/api/v1/users/me", {"X-Request-ID": "mine"})
    assert answer.json() == {"success": False, "error": "Back at one.", "code": "maintenance", "request_id": "mine"}
    assert answer.headers["retry-after"] == "1800"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == "mine"
    door.close(Maintenance(True))
    answer = await door.knock("GET", "/api/v1/users/me")
    assert answer.json()["error"] == MESSAGE
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize("path", [f"/watch/{UUID(int=7)}", "/watch/nothing"])
async def test_in_a_browser_it_is_a_page_that_needs_nothing_else(door: Door, path: str) -> None:
    door.close(Maintenance(True, "Back <at> one."))
    answer = await door.knock("GET", path)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src data:; img-src data:;")
    assert answer.headers["retry-after"] == "60"
    assert "<h1>Back &lt;at&gt; one.</h1>" in answer.text
    assert set(re.findall(r'(?:src|href)="(\w+:[\w/+]+)', answer.text)) == {"data:text/css", "data:image/svg+xml"}
    assert "/static/" not in answer.text


async def test_a_body_that_is_sent_along_does_not_lose_the_answer(door: Door) -> None:
    door.close()
    answer = await door.knock("POST", "/api/v1/cloud/files", content=b"x" * 2_000_000)
    assert refusal(answer) == (503, "maintenance")


async def test_a_request_under_way_finishes_and_the_next_is_turned_away(door: Door) -> None:
    async with trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await door.knock("GET", "/api/v1/test/hold", "user"))

        nursery.start_soon(ask)
        await door.held.wait()
        door.close()
        assert refusal(await door.knock("GET", "/api/v1/test/hold", "user")) == (503, "maintenance")
        door.let_go.set()
    assert (answers[0].status_code, answers[0].text) == (200, "done")


# -- whose token it is -------------------------------------------------------------------------------------------------


async def test_a_token_that_does_not_hold_is_nobodys(door: Door) -> None:
    root = (await door.desk.login("Root")).json()["data"]
    over = await door.token("admin")
    await Sessions(door.desk.db).end(door.admin, SessionEnd.LOGOUT, door.desk.clock())
    late = await door.token("admin")
    door.close()
    for said in (f"Bearer {root['refresh_token']}", f"Bearer {over}", "Bearer nonsense", "Bearer", f"Basic {late}"):
        answer = await door.call("GET", "/api/v1/users/me", {"Authorization": said})
        assert refusal(answer) == (503, "maintenance")
    assert (await door.call("GET", "/api/v1/users/me", signed(late))).status_code == 200
    assert refusal(await door.call("GET", "/api/v1/users/me", {"Authorization": late})) == (503, "maintenance")
    door.desk.clock.move(timedelta(hours=2))
    assert refusal(await door.call("GET", "/api/v1/users/me", signed(late))) == (503, "maintenance")


async def test_who_was_made_an_admin_passes_at_once_and_who_is_none_any_more_does_not(door: Door) -> None:
    door.close()
    assert (await door.knock("GET", "/api/v1/users/me", "user")).status_code == 503
    await set_role(door.desk.db, door.user, Role.ADMIN)
    assert (await door.knock("GET", "/api/v1/users/me", "user")).status_code == 200
    await set_role(door.desk.db, door.user, Role.USER)
    assert (await door.knock("GET", "/api/v1/users/me", "user")).status_code == 503


async def test_while_nobody_can_say_whose_a_token_is_it_is_nobodys(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    token = await door.token("admin")
    door.close()
    monkeypatch.setattr(door.desk.parts.sessions, "user_of", away)
    assert refusal(await door.call("GET", "/api/v1/users/me", signed(token))) == (503, "maintenance")
    assert (await door.call("GET", "/api/v1/health", signed(token))).status_code == 200


# -- coming in ---------------------------------------------------------------------------------------------------------


async def test_an_admin_signs_in_and_others_are_told_once_their_password_is_checked(door: Door) -> None:
    before = await sessions_of(door, door.user)
    door.close()
    assert refusal(await door.desk.login("Ann", "wrong-horse-1")) == (401, "invalid_credentials")
    assert refusal(await door.desk.login("Nobody")) == (401, "invalid_credentials")
    answer = await door.desk.login("Ann")
    assert refusal(answer) == (503, "maintenance")
    assert (answer.json()["error"], answer.headers["retry-after"]) == ("Back at one.", "1800")
    assert "set-cookie" not in answer.headers
    assert await sessions_of(door, door.user) == before
    token = (await door.desk.login("Root")).raise_for_status().json()["data"]["access_token"]
    assert (await door.desk.get("/users/me", token)).status_code == 200


async def test_an_admins_refresh_token_is_taken_and_anothers_stays_good_for_later(door: Door) -> None:
    user, admin = [(await door.desk.login(name)).json()["data"]["refresh_token"] for name in ("Ann", "Root")]
    door.close()
    answer = await door.desk.refresh(user)
    assert refusal(answer) == (503, "maintenance")
    assert answer.headers["retry-after"] == "1800"
    assert refusal(await door.desk.refresh("nonsense")) == (401, "invalid_token")
    assert (await door.desk.refresh(admin)).status_code == 200
    assert refusal(await door.desk.refresh(admin)) == (401, "session_over")
    door.close(Maintenance())
    assert (await door.desk.refresh(user)).status_code == 200


async def test_nobody_signs_up_meanwhile(door: Door) -> None:
    door.close()
    assert refusal(await door.desk.register("Eve")) == (503, "maintenance")
    assert refusal(await door.desk.login("Eve", PASSWORD)) == (401, "invalid_credentials")


async def sessions_of(door: Door, user_id: UUID) -> int:
    count: int = await door.desk.db.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", user_id)
    return count
