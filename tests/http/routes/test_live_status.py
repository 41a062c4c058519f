"""The status of a stream: the same for everyone, 304 while nothing changes, and no work of the framework's on air."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.http.desk import refusal
from tests.http.routes.on_air import OnAir, open_on_air
from tests.shop import data
from veza.domain.live import SessionEnd, StreamState
from veza.store.bridge import Database


@pytest.fixture
async def air(db: Database) -> AsyncIterator[OnAir]:
    with trio.fail_after(30):
        async with open_on_air(db) as opened:
            yield opened


def path(stream_id: UUID) -> str:
    return f"/live/streams/{stream_id}/status"


@pytest.fixture
async def live(air: OnAir) -> UUID:
    """A stream that is live."""
    return await air.live(await air.desk.sign_up())


async def ask(air: OnAir, stream_id: UUID, method: str = "GET", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await air.desk.http.request(method, path(stream_id), headers=sent)


async def test_what_is_on_air_is_told_with_a_tag_and_for_how_long_it_may_be_kept(air: OnAir, live: UUID) -> None:
    answer = await ask(air, live)
    told = data(answer)
    assert told == {
        "state": "live",
        "is_live": True,
        "health": "good",
        "viewer_count": told["viewer_count"],
        "version": told["version"],
        "poll_after_ms": 5000,
    }
    assert answer.headers["ETag"] == f'W/"{live}.{told["version"]}"'
    assert answer.headers["Cache-Control"] == "public, max-age=2"
    assert answer.headers["Content-Type"] == "application/json"
    assert "X-Request-ID" in answer.headers


async def test_who_asks_with_a_privacy_signal_is_told_so_and_no_cache_mixes_the_two(air: OnAir, live: UUID) -> None:
    heard, unasked = await ask(air, live, Sec_GPC="1"), await ask(air, live)
    unchanged = await ask(air, live, Sec_GPC="1", If_None_Match=heard.headers["ETag"])
    assert unchanged.status_code == 304
    assert [each.headers.get("GPC") for each in (heard, unasked, unchanged)] == ["1", None, "1"]
    assert {each.headers["Vary"] for each in (heard, unasked, unchanged)} == {"Sec-GPC"}


@pytest.mark.parametrize("form", ["{tag}", "{strong}", '"other", {tag}', "*", '{tag} , W/"x"'])
async def test_who_has_it_is_told_that_it_still_is(air: OnAir, live: UUID, form: str) -> None:
    tag = (await ask(air, live)).headers["ETag"]
    answer = await ask(air, live, If_None_Match=form.format(tag=tag, strong=tag.removeprefix("W/")))
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    assert answer.headers["Cache-Control"] == "public, max-age=2"


@pytest.mark.parametrize("tag", ['W/"other"', "", "nonsense", '"'])
async def test_who_has_something_else_gets_all_of_it(air: OnAir, live: UUID, tag: str) -> None:
    assert (await ask(air, live, If_None_Match=tag)).status_code == 200


async def test_a_change_of_state_is_another_version_at_once(air: OnAir, live: UUID) -> None:
    first = await ask(air, live)
    air.station.server.hang_up(live)
    await air.until(live, StreamState.RECONNECTING)
    answer = await ask(air, live, If_None_Match=first.headers["ETag"])
    assert answer.status_code == 200
    assert data(answer)["version"] > data(first)["version"]
    assert data(answer)["poll_after_ms"] == 2000


async def test_the_head_alone_has_no_body(air: OnAir, live: UUID) -> None:
    whole, head = await ask(air, live), await ask(air, live, "HEAD")
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", whole.headers["ETag"])
    assert head.headers["Content-Length"] == str(len(whole.content))


async def test_on_air_and_off_air_answer_alike(air: OnAir, live: UUID) -> None:
    on_air = await ask(air, live)
    await air.station.end(SessionEnd.FINISHED, live)
    await air.until(live, None)
    ended = await ask(air, live)
    assert (data(ended)["state"], data(ended)["health"], data(ended)["poll_after_ms"]) == ("ended", "none", 15000)
    assert data(ended)["version"] > data(on_air)["version"]
    assert ended.headers.keys() == on_air.headers.keys()
    again = await ask(air, live, If_None_Match=ended.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")


async def test_a_stream_that_was_never_live_is_offline_and_an_unknown_one_is_not_there(air: OnAir) -> None:
    stream_id = await air.stream(await air.desk.sign_up())
    assert data(await ask(air, stream_id))["state"] == "offline"
    assert refusal(await ask(air, uuid4())) == (404, "not_found")
    assert (await air.desk.http.get("/live/streams/nonsense/status")).status_code == 404


async def test_other_methods_are_refused_on_air_too(air: OnAir, live: UUID) -> None:
    assert refusal(await ask(air, live, "DELETE")) == (405, "method_not_allowed")


async def test_who_is_signed_in_is_told_the_same_as_everyone(air: OnAir, live: UUID) -> None:
    owner = await air.desk.sign_up("Bob")
    signed = await ask(air, live, Authorization=f"Bearer {owner.access}")
    assert signed.headers["Cache-Control"] == "public, max-age=2"
    assert data(signed)["version"] == data(await ask(air, live))["version"]


async def test_distinct_pollers_are_viewers(air: OnAir, live: UUID) -> None:
    for agent in ("one", "two", "two", "three"):
        await ask(air, live, User_Agent=agent)
    assert air.station.live.viewers(live) == 3


async def test_a_request_for_a_status_is_logged_by_its_route_like_any_other(air: OnAir, live: UUID) -> None:
    await ask(air, live)
    assert air.desk.logged("request")[-1]["route"] == "/api/v1/live/streams/<uuid:stream_id>/status"
