"""Signing up, in, on and out, over HTTP: the answers' shapes, the refresh tokens' round, the cookie, and the log."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.http.desk import PASSWORD, Desk, Pair, open_desk, refusal, signed
from tests.people import cheap_hasher
from veza.domain.accounts import SESSION_LIFETIME
from veza.gateways.passwords import Passwords
from veza.http.tokens import ACCESS_LIFETIME
from veza.store.bridge import Database


@pytest.fixture
async def desk(db: Database) -> AsyncIterator[Desk]:
    async with open_desk(db) as opened:
        yield opened


def cookie_of(answer: httpx.Response) -> Morsel[str]:
    return SimpleCookie(answer.headers["set-cookie"])["refresh_token"]


def fields_of(answer: httpx.Response) -> set[str]:
    return {problem["field"] for problem in answer.json()["details"]}


async def refresh_by_cookie(desk: Desk, token: str, method: str = "POST") -> httpx.Response:
    headers = {"Cookie": f"refresh_token={token}"}
    return await desk.http.request(method, "/auth/refresh", headers=headers)


# -- signing up and in ----------------------------------------------------------------------------------------------


def check_signed_in(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    told = answer.json()
    assert set(told) == {"success", "data"}
    assert told["success"] is True
    data = told["data"]
    assert set(data) == {"user", "access_token", "refresh_token", "expires_in"}
    assert data["expires_in"] == 3600
    assert set(data["user"]) == {"id", "username", "email"}
    assert (data["user"]["username"], data["user"]["email"]) == ("Ann", "ann@example.com")


async def test_registering_signs_in_and_answers_as_the_reference_says(desk: Desk) -> None:
    with trio.fail_after(10):
        answer = await desk.register("Ann")
        check_signed_in(answer, 201)
        assert await desk.is_in(answer.json()["data"]["access_token"])


async def test_logging_in_answers_in_the_same_shape_in_whatever_case_the_address_is_typed(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        for name in ("ann", "ANN"):
            answer = await desk.login(name)
            check_signed_in(answer, 200)
            assert Pair.of(answer).id == ann.id
            assert await desk.is_in(Pair.of(answer).access)


async def test_a_wrong_password_and_an_unknown_address_are_told_alike(desk: Desk) -> None:
    with trio.fail_after(10):
        await desk.sign_up()
        wrong, unknown = await desk.login("Ann", "wrong-horse-1"), await desk.login("Eve")
        assert refusal(wrong) == refusal(unknown) == (401, "invalid_credentials")
        assert wrong.json()["error"] == unknown.json()["error"]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, {"username", "email", "password"}),
        ({"username": "a b", "email": "nobody", "password": "short"}, {"username", "email", "password"}),
        ({"username": 12, "email": None, "password": ["x"]}, {"username", "email", "password"}),
        ({"username": "ann", "email": "a@example.com", "password": PASSWORD, "role": "admin"}, {"role"}),
    ],
)
async def test_every_fault_of_a_registration_is_told_with_its_field(
    desk: Desk, body: dict[str, object], wrong: set[str]
) -> None:
    with trio.fail_after(10):
        answer = await desk.http.post("/auth/register", json=body)
        assert refusal(answer) == (400, "invalid")
        assert fields_of(answer) == wrong
        assert "short" not in answer.text.replace("too short", "")
        assert await desk.db.fetchval("SELECT count(*) FROM users") == 0


async def test_a_taken_name_or_address_is_a_conflict_in_every_case(desk: Desk) -> None:
    with trio.fail_after(10):
        await desk.register("Ann")
        answer = await desk.register("aNN", email="other@example.com")
        assert refusal(answer) == (409, "username_taken")
        assert fields_of(answer) == {"username"}
        assert refusal(await desk.register("Bob", email="ANN@example.com")) == (409, "email_taken")


async def test_of_those_who_register_one_name_at_once_one_gets_it(desk: Desk) -> None:
    with trio.fail_after(10):
        statuses: list[int] = []

        async def register(name: str, number: int) -> None:
            statuses.append((await desk.register(name, email=f"{number}@example.com")).status_code)

        async with trio.open_nursery() as nursery:
            for number, name in enumerate(["ann", "Ann", "ANN", "anN"]):
                nursery.start_soon(register, name, number)
        assert sorted(statuses) == [201, 409, 409, 409]


async def test_an_old_hash_is_renewed_when_its_user_signs_in_even_twice_at_once(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db, passwords=Passwords(cheap_hasher(time_cost=2))) as old:
            await old.sign_up()
        async with open_desk(db) as new:
            answers: list[int] = []

            async def login() -> None:
                answers.append((await new.login()).status_code)

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(login)
            assert answers == [200] * 4
            assert "t=1," in await db.fetchval("SELECT password_hash FROM users")


class Stuck(Passwords):
    """Lets nobody through until it is let go, and counts who came."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.go = threading.Event()
        self.entered = 0

    async def hash(self, password: str) -> str:
        def work() -> str:
            self.entered += 1
            assert self.go.wait(10)
            return "a hash"

        return await self._in_thread(work)


async def test_when_too_many_sign_up_at_once_the_last_are_sent_away_for_a_moment(db: Database) -> None:
    stuck = Stuck(cheap_hasher(), at_once=1, waiting=1)
    statuses: list[int] = []
    with trio.fail_after(10):
        async with open_desk(db, passwords=stuck) as desk:

            async def register(name: str) -> None:
                statuses.append((await desk.register(name)).status_code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(register, "ann")
                nursery.start_soon(register, "bob")
                while stuck.load.waiting < 1:
                    await trio.lowlevel.checkpoint()
                refused = await desk.register("eve")
                assert refusal(refused) == (503, "overloaded")
                assert "retry-after" in refused.headers
                stuck.go.set()
            assert statuses == [201, 201]


async def test_a_client_that_hangs_up_while_its_password_is_hashed_leaves_no_half_an_account(db: Database) -> None:
    stuck = Stuck(cheap_hasher())
    with trio.fail_after(10):
        async with open_desk(db, passwords=stuck) as desk:
            with trio.CancelScope() as scope:

                async def hang_up() -> None:
                    while stuck.entered == 0:
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hang_up)
                    await desk.register()
            stuck.go.set()
            while not desk.logged("request"):
                await trio.lowlevel.checkpoint()
            assert desk.logged("request")[0]["outcome"] == "cut"
            users, sessions = [await db.fetchval(f"SELECT count(*) FROM {name}") for name in ("users", "sessions")]  # noqa: S608
            assert users == sessions


# -- refreshing -----------------------------------------------------------------------------------------------------


async def test_a_refresh_answers_in_logins_shape_with_a_new_pair_that_works(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        desk.clock.move(timedelta(minutes=1))
        answer = await desk.refresh(ann.refresh)
        check_signed_in(answer, 200)
        new = Pair.of(answer)
        assert len({ann.access, ann.refresh, new.access, new.refresh}) == 4
        assert await desk.is_in(new.access)
        assert await desk.is_in(ann.access)  # its hour is not over, nor is its session
        assert (await desk.refresh(new.refresh)).status_code == 200


async def test_a_reused_refresh_token_is_refused_and_revokes_its_family_but_no_other(desk: Desk) -> None:
    with trio.fail_after(10):
        ann, elsewhere = await desk.sign_up(), Pair.of(await desk.login())
        new = Pair.of(await desk.refresh(ann.refresh))
        assert refusal(await desk.refresh(ann.refresh)) == (401, "session_over")
        assert refusal(await desk.refresh(new.refresh)) == (401, "session_over")
        for token in (ann.access, new.access):
            assert refusal(await desk.get("/users/me", token)) == (401, "session_over")
        assert await desk.is_in(elsewhere.access)
        [warning] = desk.logged("refresh_token_reused")
        assert warning["user"] == str(ann.id)


async def test_of_two_who_refresh_at_once_one_wins_and_the_family_is_revoked(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        answers: list[httpx.Response] = []

        async def refresh() -> None:
            answers.append(await desk.refresh(ann.refresh))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresh)
            nursery.start_soon(refresh)
        won, lost = sorted(answers, key=lambda answer: answer.status_code)
        assert (won.status_code, lost.status_code) == (200, 401)
        assert not await desk.is_in(Pair.of(won).access)


async def test_within_the_grace_a_lost_answer_can_be_had_again(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db, refresh_grace_seconds=10) as desk:
            ann = await desk.sign_up()
            lost, again = [Pair.of(await desk.refresh(ann.refresh)) for _ in range(2)]
            assert await desk.is_in(lost.access)
            assert await desk.is_in(again.access)
            assert (await desk.refresh(again.refresh)).status_code == 200
            desk.clock.move(timedelta(seconds=10))
            assert refusal(await desk.refresh(lost.refresh)) == (401, "session_over")


async def test_an_access_token_refreshes_nothing(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert refusal(await desk.refresh(ann.access)) == (401, "invalid_token")
        assert refusal(await refresh_by_cookie(desk, ann.access)) == (401, "invalid_token")
        assert (await desk.refresh(ann.refresh)).status_code == 200


async def test_a_refresh_token_expires_a_week_after_it_was_given(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        desk.clock.move(SESSION_LIFETIME - timedelta(seconds=1))
        new = Pair.of(await desk.refresh(ann.refresh))
        desk.clock.move(SESSION_LIFETIME)
        assert refusal(await desk.refresh(new.refresh)) == (401, "token_expired")


@pytest.mark.parametrize("sent", [{}, {"json": {}}, {"json": {"refresh_token": None}}, {"json": {"refresh_token": ""}}])
async def test_a_refresh_without_a_token_is_asked_for_one(desk: Desk, sent: dict[str, Any]) -> None:
    with trio.fail_after(10):
        answer = await desk.http.post("/auth/refresh", **sent)
        assert refusal(answer) == (401, "unauthenticated")


async def test_a_refresh_with_something_that_is_no_token_is_refused(desk: Desk) -> None:
    with trio.fail_after(10):
        assert refusal(await desk.refresh("nonsense")) == (401, "invalid_token")
        answer = await desk.http.post("/auth/refresh", json={"refresh_token": 12})
        assert refusal(answer) == (400, "invalid")
        assert refusal(await desk.http.post("/auth/refresh", json={"token": "x"})) == (400, "invalid")


# -- the cookie -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [True, False])
async def test_the_refresh_cookie_is_kept_from_scripts_other_sites_and_other_routes(db: Database, secure: bool) -> None:
    with trio.fail_after(10):
        async with open_desk(db, secure_cookies=secure) as desk:
            registered = await desk.register()
            answers = [registered, await desk.login(), await desk.refresh(Pair.of(registered).refresh)]
            for answer in answers:
                cookie = cookie_of(answer)
                assert cookie.value == Pair.of(answer).refresh
                assert cookie["path"] == "/api/v1/auth"
                assert cookie["samesite"] == "Strict"
                assert cookie["max-age"] == str(7 * 24 * 3600)
                assert cookie["domain"] == ""
                assert bool(cookie["httponly"])
                assert bool(cookie["secure"]) is secure


async def test_a_cookie_refreshes_with_no_body_at_all_and_only_by_post(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        for method in ("GET", "PUT", "DELETE"):
            assert refusal(await refresh_by_cookie(desk, ann.refresh, method)) == (405, "method_not_allowed")
        answer = await refresh_by_cookie(desk, ann.refresh)
        check_signed_in(answer, 200)
        assert cookie_of(answer).value == Pair.of(answer).refresh


async def test_the_bodys_token_counts_before_the_cookies(desk: Desk) -> None:
    with trio.fail_after(10):
        ann, bob = await desk.sign_up("Ann"), await desk.sign_up("Bob")
        answer = await desk.http.post(
            "/auth/refresh",
            json={"refresh_token": bob.refresh},
            headers={"Cookie": f"refresh_token={ann.refresh}"},
        )
        assert Pair.of(answer).id == bob.id


# -- signing out ----------------------------------------------------------------------------------------------------


async def test_a_logout_with_a_bearer_alone_ends_that_session_and_no_other(desk: Desk) -> None:
    with trio.fail_after(10):
        ann, elsewhere = await desk.sign_up(), Pair.of(await desk.login())
        answer = await desk.http.post("/auth/logout", headers=signed(ann.access))
        assert (answer.status_code, answer.json()) == (200, {"success": True, "data": {"logged_out": True}})
        assert not await desk.is_in(ann.access)
        assert refusal(await desk.refresh(ann.refresh)) == (401, "session_over")
        assert await desk.is_in(elsewhere.access)


async def test_a_logout_by_body_or_cookie_ends_the_session_and_takes_the_cookie_away(desk: Desk) -> None:
    with trio.fail_after(10):
        await desk.sign_up()
        for by_cookie in (True, False):
            pair = Pair.of(await desk.login())
            if by_cookie:
                headers = {"Cookie": f"refresh_token={pair.refresh}"}
                answer = await desk.http.post("/auth/logout", headers=headers)
            else:
                answer = await desk.http.post("/auth/logout", json={"refresh_token": pair.refresh})
            assert answer.status_code == 200
            cookie = cookie_of(answer)
            assert (cookie.value, cookie["max-age"], cookie["path"]) == ("", "0", "/api/v1/auth")
            assert not await desk.is_in(pair.access)


async def test_a_logout_with_a_token_that_expired_still_ends_its_session(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        desk.clock.move(ACCESS_LIFETIME)
        await desk.http.post("/auth/logout", headers=signed(ann.access))
        assert refusal(await desk.refresh(ann.refresh)) == (401, "session_over")


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"headers": {"Authorization": "Bearer nonsense"}},
        {"headers": {"Cookie": "refresh_token=nonsense"}},
        {"json": {"refresh_token": "nonsense"}},
        {"json": {"refresh_token": 12, "more": True}},
        {"json": ["a", "list"]},
        {"content": b"{not json", "headers": {"Content-Type": "application/json"}},
        {"content": b"text", "headers": {"Content-Type": "text/plain"}},
    ],
)
async def test_a_logout_is_always_well(desk: Desk, sent: dict[str, Any]) -> None:
    with trio.fail_after(10):
        answer = await desk.http.post("/auth/logout", **sent)
        assert (answer.status_code, answer.json()["success"]) == (200, True)


async def test_a_second_logout_is_as_well_as_the_first(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        for _ in range(2):
            assert (await desk.http.post("/auth/logout", headers=signed(ann.access))).status_code == 200


# -- sessions -------------------------------------------------------------------------------------------------------


async def test_the_sessions_are_listed_with_the_one_in_use_marked(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        desk.clock.move(timedelta(minutes=1))
        headers = {"User-Agent": "a phone"}
        body = {"email": "ann@example.com", "password": PASSWORD}
        await desk.http.post("/auth/login", json=body, headers=headers)
        await desk.sign_up("Bob")
        data = (await desk.get("/auth/sessions", ann.access)).json()["data"]
        assert data["total"] == 2
        phone, here = data["sessions"]
        assert set(phone) == {"id", "created_at", "last_used_at", "expires_at", "user_agent", "address", "current"}
        assert (phone["user_agent"], phone["address"], phone["current"]) == ("a phone", "127.0.0.1", False)
        assert here["current"]
        assert here["created_at"] == "2026-02-23T12:00:00Z"
        one = (await desk.get(f"/auth/sessions/{phone['id']}", ann.access)).json()["data"]
        assert one == phone
        page = (await desk.get("/auth/sessions?limit=1&offset=1", ann.access)).json()["data"]
        assert page == {"sessions": [here], "total": 2}
        assert refusal(await desk.get("/auth/sessions?limit=0", ann.access)) == (400, "invalid")


async def test_a_session_that_is_ended_from_elsewhere_is_refused_at_once(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        desk.clock.move(timedelta(minutes=1))
        lost = Pair.of(await desk.login())
        [phone, _] = (await desk.get("/auth/sessions", ann.access)).json()["data"]["sessions"]
        path = f"/auth/sessions/{phone['id']}"
        answer = await desk.http.delete(path, headers=signed(ann.access))
        assert (answer.status_code, answer.json()["data"]) == (200, {"deleted": True})
        assert not await desk.is_in(lost.access)
        assert refusal(await desk.refresh(lost.refresh)) == (401, "session_over")
        assert await desk.is_in(ann.access)
        assert refusal(await desk.http.delete(path, headers=signed(ann.access))) == (404, "not_found")
        assert refusal(await desk.get(path, ann.access)) == (404, "not_found")


async def test_nobody_sees_or_ends_anothers_session(desk: Desk) -> None:
    with trio.fail_after(10):
        ann, bob = await desk.sign_up("Ann"), await desk.sign_up("Bob")
        [session] = (await desk.get("/auth/sessions", ann.access)).json()["data"]["sessions"]
        for path in (f"/auth/sessions/{session['id']}", f"/auth/sessions/{uuid4()}", "/auth/sessions/nonsense"):
            assert refusal(await desk.get(path, bob.access)) == (404, "not_found")
            assert refusal(await desk.http.delete(path, headers=signed(bob.access))) == (404, "not_found")
        assert await desk.is_in(ann.access)


async def test_signing_out_everywhere_includes_here(desk: Desk) -> None:
    with trio.fail_after(10):
        ann, elsewhere, bob = await desk.sign_up(), Pair.of(await desk.login()), await desk.sign_up("Bob")
        answer = await desk.http.delete("/auth/sessions", headers=signed(ann.access))
        assert answer.json()["data"] == {"deleted": True}
        assert cookie_of(answer).value == ""
        assert [await desk.is_in(pair.access) for pair in (ann, elsewhere, bob)] == [False, False, True]


@pytest.mark.parametrize("path", ["/auth/sessions", f"/auth/sessions/{UUID(int=1)}"])
async def test_sessions_are_for_the_signed_in(desk: Desk, path: str) -> None:
    with trio.fail_after(10):
        for method in ("GET", "DELETE"):
            assert refusal(await desk.http.request(method, path)) == (401, "unauthenticated")


# -- the log --------------------------------------------------------------------------------------------------------


async def test_no_password_token_or_address_reaches_the_log(desk: Desk) -> None:
    with trio.fail_after(10):
        secrets = [PASSWORD, "wrong-horse-1", "another-horse-2", "ann@example.com", "Ann@example.com"]
        ann = await desk.sign_up()
        new = Pair.of(await desk.refresh(ann.refresh))
        await desk.login("Ann", "wrong-horse-1")
        await desk.put("/users/me/password", new.access, {"current_password": "x", "new_password": "another-horse-2"})
        await desk.refresh(ann.refresh)
        await desk.register("Ann")
        await desk.http.post("/auth/logout", headers=signed(new.access))
        while len(desk.logged("request")) < 7:
            await trio.lowlevel.checkpoint()
        logged = json.dumps(desk.lines, default=repr)
        for secret in [*secrets, ann.access, ann.refresh, new.access, new.refresh]:
            assert secret not in logged
        signatures = [token.rpartition(".")[2] for token in (ann.access, ann.refresh, new.access, new.refresh)]
        assert not any(signature in logged for signature in signatures)
