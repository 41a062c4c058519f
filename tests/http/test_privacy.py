"""Global Privacy Control: heard with every request, answered by whatever answers, kept for the signed-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
import trio
from quart import Blueprint

from tests.http.desk import Desk, Pair, open_desk, refusal, signed
from tests.people import NOON
from veza.domain.maintenance import Maintenance
from veza.domain.privacy import RECIPIENTS
from veza.http.app import create_app
from veza.http.deadline import within
from veza.http.edge import trace
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable

GPC = {"Sec-GPC": "1"}
PRIVACY = "/users/me/privacy"
OPT_OUT = f"{PRIVACY}/opt-out"


@pytest.fixture
async def desk(db: Database) -> AsyncIterator[Desk]:
    stage = Blueprint("stage", __name__)

    @stage.get("/heard")
    async def heard() -> str:
        return str(trace().do_not_sell)

    @stage.get("/surprise")
    async def surprise() -> str:
        raise RuntimeError("planted")

    @stage.get("/late")
    @within(0.05)
    async def late() -> str:
        await trio.sleep_forever()
        return "never"

    off_air = SimpleNamespace(live=SimpleNamespace(status=lambda stream_id: None))
    with trio.fail_after(60):
        async with open_desk(db, stage, more={"refs": off_air}) as desk:
            yield desk


@pytest.fixture
async def ann(desk: Desk) -> Pair:
    return await desk.sign_up("Ann")


async def ask(desk: Desk, path: str, headers: Mapping[str, str] = GPC, method: str = "GET") -> httpx.Response:
    """Paths from the root on."""
    return await desk.http.request(method, f"{desk.url}{path}", headers=dict(headers))


async def privacy(desk: Desk, by: Pair, **headers: str) -> dict[str, object]:
    answer = await desk.http.get(PRIVACY, headers=signed(by.access) | headers)
    told: dict[str, object] = answer.raise_for_status().json()["data"]
    return told


async def opt(desk: Desk, by: Pair, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return await desk.http.post(OPT_OUT, headers=signed(by.access) | dict(headers or {}), json=body)


# -- the signal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (["1"], True),
        (["0", "1"], True),
        ([], False),
        (["0"], False),
        (["true"], False),
        (["11"], False),
        (["1, 1"], False),
        ([""], False),
    ],
)
async def test_only_the_value_one_is_a_signal(desk: Desk, sent: list[str], heard: bool) -> None:
    answer = await desk.http.get("/test/heard", headers=[("Sec-GPC", value) for value in sent])
    assert (answer.text, answer.headers.get("GPC")) == (str(heard), "1" if heard else None)


EVERYTHING: Sequence[tuple[str, str, int]] = [
    ("GET", "/api/v1/healthz", 200),
    ("GET", "/healthz", 200),
    ("HEAD", "/healthz", 200),
    ("OPTIONS", "/api/v1/users/me", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/static/watch.css", 200),
    ("GET", "/.well-known/gpc.json", 200),
    ("GET", "/static/nothing.css", 404),
    ("GET", "/nothing", 404),
    ("PATCH", "/api/v1/users/me", 405),
    ("GET", "/api/v1/users/me", 401),
    ("GET", "/api/v1/users/me?x=%00", 400),
    ("GET", "/api/v1/test/surprise", 500),
    ("GET", "/api/v1/test/late", 503),
]


async def test_every_answer_says_that_it_was_heard_and_that_it_depends_on_it(
    desk: Desk, subtests: pytest.Subtests
) -> None:
    for method, path, status in EVERYTHING:
        with subtests.test(repr((method, path, status))):
            for headers, said in ((GPC, "1"), ({}, None)):
                answer = await ask(desk, path, headers, method)
                assert answer.status_code == status
                assert answer.headers.get_list("GPC") == ([said] if said else [])
                assert "Sec-GPC" in answer.headers["Vary"].split(", ")


async def test_who_is_turned_away_is_heard_as_well(desk: Desk) -> None:
    desk.board.maintenance = Maintenance(True)
    for path in ("/api/v1/users/me", "/watch/nothing"):
        answer = await ask(desk, path)
        assert (answer.status_code, answer.headers["GPC"]) == (503, "1")


async def test_an_answer_that_has_not_changed_still_says_what_it_depends_on(desk: Desk) -> None:
    tag = (await ask(desk, "/static/watch.css")).headers["ETag"]
    answer = await ask(desk, "/static/watch.css", {"If-None-Match": tag})
    assert (answer.status_code, answer.headers.get("GPC")) == (304, None)
    assert set(answer.headers["Vary"].split(", ")) == {"Accept-Encoding", "Sec-GPC"}


async def test_the_support_resource_is_as_the_specification_has_it(desk: Desk) -> None:
    answer = await ask(desk, "/.well-known/gpc.json", {})
    assert answer.json() == {"gpc": True, "lastUpdate": "2026-11-29"}
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=86400"


# -- kept for whoever is signed in -------------------------------------------------------------------------------------


async def test_a_signal_is_kept_for_whoever_is_signed_in(desk: Desk, ann: Pair) -> None:
    bob = await desk.sign_up("Bob")
    assert (await privacy(desk, ann))["do_not_sell"] is False
    await ask(desk, "/api/v1/users/me", signed(ann.access) | GPC)
    assert await privacy(desk, ann) == {
        "do_not_sell": True,
        "source": "signal",
        "updated_at": "2026-02-23T12:00:00Z",
        "gpc": False,
        "shared_with": [{"name": each.name, "gets": each.gets, "purpose": each.purpose} for each in RECIPIENTS],
    }
    assert (await privacy(desk, bob))["do_not_sell"] is False


@pytest.mark.parametrize("way", ["register", "login", "refresh"])
async def test_signing_in_with_it_keeps_it(desk: Desk, way: str) -> None:
    body = {"username": "Eve", "email": "Eve@example.com", "password": "correct-horse-1"}
    if way == "register":
        pair = Pair.of(await desk.http.post("/auth/register", json=body, headers=GPC))
    else:
        pair = Pair.of(await desk.register("Eve"))
        sent = {"email": "Eve@example.com", "password": "correct-horse-1"}
        shown = sent if way == "login" else {"refresh_token": pair.refresh}
        pair = Pair.of(await desk.http.post(f"/auth/{way}", json=shown, headers=GPC))
    assert (await privacy(desk, pair))["do_not_sell"] is True


async def test_what_stands_already_is_not_written_again(desk: Desk, ann: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def written(*_: object) -> bool:
        raise AssertionError("it stands already")

    await ask(desk, "/api/v1/users/me", signed(ann.access) | GPC)
    monkeypatch.setattr(desk.parts.privacy, "heed", written)
    desk.clock.move(timedelta(minutes=1))
    for _ in range(3):
        assert (await ask(desk, "/api/v1/users/me", signed(ann.access) | GPC)).status_code == 200
    told = await privacy(desk, ann, **GPC)
    assert (told["updated_at"], told["gpc"]) == (NOON.isoformat().replace("+00:00", "Z"), True)


async def test_a_signal_that_cannot_be_kept_fails_nothing_and_holds_for_its_request(
    desk: Desk, ann: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bool:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(desk.parts.privacy, "heed", away)
        told = await privacy(desk, ann, **GPC)
        assert (told["do_not_sell"], told["source"]) == (True, None)
        assert [line["error"] for line in desk.logged("gpc_signal_not_kept")] == ["DatabaseUnavailable"]
    assert (await privacy(desk, ann, **GPC))["source"] == "signal"


async def test_a_signal_waits_a_moment_for_a_connection_and_no_longer(
    desk: Desk, ann: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> bool:
        await trio.sleep_forever()
        return False

    monkeypatch.setattr(desk.parts.privacy, "heed", full)
    began = trio.current_time()
    assert (await privacy(desk, ann, **GPC))["do_not_sell"] is True
    assert trio.current_time() - began < 5


async def test_a_signal_of_nobody_or_of_a_token_that_does_not_hold_is_kept_for_nobody(desk: Desk, ann: Pair) -> None:
    assert (await ask(desk, f"/api/v1/users/{ann.id}", signed(ann.access) | GPC)).status_code == 200
    assert (await ask(desk, "/api/v1/users/me", signed("nonsense") | GPC)).status_code == 401
    assert await desk.db.fetchval("SELECT count(*) FROM users WHERE do_not_sell") == 0


# -- opting out --------------------------------------------------------------------------------------------------------


async def test_opting_out_is_answered_kept_and_taken_back(desk: Desk, ann: Pair) -> None:
    told = (await opt(desk, ann, {"do_not_sell": True})).raise_for_status().json()["data"]
    assert (told["do_not_sell"], told["source"], told["updated_at"]) == (True, "user", "2026-02-23T12:00:00Z")
    desk.clock.move(timedelta(minutes=5))
    assert (await opt(desk, ann, {"do_not_sell": True})).json()["data"] == told == await privacy(desk, ann)
    back = (await opt(desk, ann, {"do_not_sell": False})).raise_for_status().json()["data"]
    assert (back["do_not_sell"], back["updated_at"]) == (False, "2026-02-23T12:05:00Z")


async def test_taking_it_back_while_the_browser_says_no_is_refused_and_changes_nothing(desk: Desk, ann: Pair) -> None:
    assert refusal(await opt(desk, ann, {"do_not_sell": False}, GPC)) == (409, "gpc_signal")
    assert (await privacy(desk, ann))["source"] == "signal"  # which is what the browser said by it
    assert (await opt(desk, ann, {"do_not_sell": True}, GPC)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{}, [], "yes", {"do_not_sell": "true"}, {"do_not_sell": 1}, {"do_not_sell": None}, {"do_not_sell": True, "x": 1}],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(desk: Desk, ann: Pair, body: object) -> None:
    assert (await opt(desk, ann, body)).status_code == 400
    assert (await privacy(desk, ann))["source"] is None


async def test_a_stranger_has_no_privacy_settings(desk: Desk) -> None:
    assert refusal(await desk.http.get(PRIVACY)) == (401, "unauthenticated")
    assert refusal(await desk.http.post(OPT_OUT, json={"do_not_sell": True})) == (401, "unauthenticated")


def test_both_are_in_the_list_of_routes() -> None:
    paths = {rule.rule for rule in create_app().url_map.iter_rules()}
    assert {f"/api/v1{PRIVACY}", f"/api/v1{OPT_OUT}", "/.well-known/gpc.json"} <= paths
