"""One's own account, its password, and what others may see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.http.desk import PASSWORD, Desk, Pair, open_desk, refusal
from tests.people import until_blocked
from veza.store.bridge import Database

NEW = "another-horse-2"


@pytest.fixture
async def desk(db: Database) -> AsyncIterator[Desk]:
    async with open_desk(db) as opened:
        yield opened


async def test_ones_own_account_is_told_whole_and_without_its_hash(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert (await desk.get("/users/me", ann.access)).json() == {
            "success": True,
            "data": {
                "id": str(ann.id),
                "username": "Ann",
                "email": "ann@example.com",
                "role": "user",
                "created_at": "2026-02-23T12:00:00Z",
                "updated_at": "2026-02-23T12:00:00Z",
            },
        }


async def test_of_another_everyone_may_know_the_name_and_no_more(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        assert (await desk.http.get(f"/users/{ann.id}")).json()["data"] == {
            "id": str(ann.id),
            "username": "Ann",
            "created_at": "2026-02-23T12:00:00Z",
        }
        for path in (f"/users/{uuid4()}", "/users/nonsense"):
            assert refusal(await desk.http.get(path)) == (404, "not_found")


async def test_only_what_is_sent_is_changed(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        desk.clock.move(timedelta(minutes=1))
        renamed = (await desk.put("/users/me", ann.access, {"username": "Anna"})).json()["data"]
        assert (renamed["username"], renamed["email"]) == ("Anna", "ann@example.com")
        assert renamed["updated_at"] == "2026-02-23T12:01:00Z"
        moved = (await desk.put("/users/me", ann.access, {"email": "Anna@Example.com"})).json()["data"]
        assert (moved["username"], moved["email"]) == ("Anna", "anna@example.com")
        assert (await desk.get("/users/me", ann.access)).json()["data"] == moved
        assert (await desk.login("anna")).status_code == 200
        assert (await desk.login("ann")).status_code == 401


async def test_a_fetched_account_can_be_sent_back_and_what_is_read_only_stays(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        fetched = (await desk.get("/users/me", ann.access)).json()["data"]
        kept = await desk.put("/users/me", ann.access, fetched)
        assert kept.json()["data"] == fetched
        assert kept.headers["cache-control"] == "private, no-store"
        greedy = {**fetched, "role": "admin", "id": str(uuid4()), "created_at": 12, "updated_at": None}
        assert (await desk.put("/users/me", ann.access, greedy)).json()["data"] == fetched


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nickname": "x"}, "nickname"),
        ({"password": NEW}, "password"),
        ({"username": "a b"}, "username"),
        ({"username": None}, "username"),
        ({"username": ""}, "username"),
        ({"email": "nobody"}, "email"),
        ({"email": 12}, "email"),
    ],
)
async def test_unknown_fields_and_bad_values_are_refused_with_their_names(
    desk: Desk, body: dict[str, object], field: str
) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        answer = await desk.put("/users/me", ann.access, body)
        assert refusal(answer) == (400, "invalid")
        assert [problem["field"] for problem in answer.json()["details"]] == [field]


async def test_what_is_anothers_is_a_conflict_and_ones_own_name_may_change_its_case(desk: Desk) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up("Ann")
        await desk.sign_up("Bob")
        assert refusal(await desk.put("/users/me", ann.access, {"username": "bOB"})) == (409, "username_taken")
        assert refusal(await desk.put("/users/me", ann.access, {"email": "BOB@example.com"})) == (409, "email_taken")
        assert (await desk.put("/users/me", ann.access, {"username": "ANN"})).status_code == 200


async def test_of_two_who_take_one_name_at_once_one_gets_it(desk: Desk) -> None:
    with trio.fail_after(10):
        pairs = [await desk.sign_up("Ann"), await desk.sign_up("Bob")]
        statuses: list[int] = []

        async def rename(pair: Pair, name: str) -> None:
            statuses.append((await desk.put("/users/me", pair.access, {"username": name})).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rename, pairs[0], "Carl")
            nursery.start_soon(rename, pairs[1], "cARL")
        assert sorted(statuses) == [200, 409]


async def change(desk: Desk, token: str, current: str, new: str) -> tuple[int, str | None]:
    body = {"current_password": current, "new_password": new}
    answer = await desk.put("/users/me/password", token, body)
    return answer.status_code, answer.json().get("code")


async def test_a_new_password_needs_the_current_one_and_ends_the_other_sessions(desk: Desk) -> None:
    with trio.fail_after(10):
        here, elsewhere = await desk.sign_up(), Pair.of(await desk.login())
        assert await change(desk, here.access, "wrong-horse-1", NEW) == (401, "invalid_credentials")
        assert await desk.is_in(elsewhere.access)
        assert await change(desk, here.access, PASSWORD, NEW) == (200, None)
        assert await desk.is_in(here.access)
        assert (await desk.refresh(here.refresh)).status_code == 200
        assert not await desk.is_in(elsewhere.access)
        assert refusal(await desk.refresh(elsewhere.refresh)) == (401, "session_over")
        assert (await desk.login("Ann", PASSWORD)).status_code == 401
        assert (await desk.login("Ann", NEW)).status_code == 200


async def test_a_client_that_hangs_up_does_not_cut_a_password_change_in_two(desk: Desk) -> None:
    with trio.fail_after(10):
        here, elsewhere = await desk.sign_up(), Pair.of(await desk.login())
        scope = trio.CancelScope()

        async def change_and_hang_up() -> None:
            with scope:
                await change(desk, here.access, PASSWORD, NEW)

        async with trio.open_nursery() as nursery, desk.db.transaction() as tx:
            await tx.fetch("SELECT 1 FROM sessions FOR UPDATE")  # so that the change gets half way and no further
            nursery.start_soon(change_and_hang_up)
            await until_blocked(desk.db)
            scope.cancel()
            await wait_all_tasks_blocked(cushion=0.05)  # the server has read that its client is gone
        while len(desk.logged("request")) < 3:
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert desk.logged("request")[-1]["outcome"] == "cut"
        assert not await desk.is_in(elsewhere.access)
        assert (await desk.login("Ann", NEW)).status_code == 200


async def test_of_two_changes_of_one_password_at_once_one_holds_and_the_other_is_told(desk: Desk) -> None:
    with trio.fail_after(10):
        ann, elsewhere = await desk.sign_up(), Pair.of(await desk.login())
        told: list[int] = []

        async def one(pair: Pair, new: str) -> None:
            told.append((await change(desk, pair.access, PASSWORD, new))[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, ann, NEW)
            nursery.start_soon(one, elsewhere, "a-third-horse-3")
        assert min(told) == 200
        assert max(told) in (401, 409)  # the loser's session is over, or its current password was wrong by then
        living = await desk.db.fetchval("SELECT count(*) FROM sessions WHERE ended_at IS NULL")
        assert living == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"current_password": PASSWORD, "new_password": "short"}, "new_password"),
        ({"current_password": PASSWORD, "new_password": "onlyletters"}, "new_password"),
        ({"new_password": NEW}, "current_password"),
        ({"current_password": PASSWORD}, "new_password"),
    ],
)
async def test_a_bad_new_password_is_refused_and_changes_nothing(
    desk: Desk, body: dict[str, object], field: str
) -> None:
    with trio.fail_after(10):
        ann = await desk.sign_up()
        answer = await desk.put("/users/me/password", ann.access, body)
        assert refusal(answer) == (400, "invalid")
        assert [problem["field"] for problem in answer.json()["details"]] == [field]
        assert (await desk.login()).status_code == 200


async def test_strangers_have_no_account_of_their_own(desk: Desk) -> None:
    with trio.fail_after(10):
        assert refusal(await desk.http.get("/users/me")) == (401, "unauthenticated")
        assert refusal(await desk.http.put("/users/me", json={})) == (401, "unauthenticated")
        assert refusal(await desk.http.put("/users/me/password", json={})) == (401, "unauthenticated")
