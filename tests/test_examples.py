"""The example client against a running house: its story, and what it does when all is not well."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import httpx
import jwt
import pytest
import trio

from examples.sell_a_track import sell, tour
from examples.veza_client import ApiError, Veza, events, new_key
from tests.house import ADMIN_EMAIL, PASSWORD, House, running_house
from tests.named import ROOT
from veza.domain.limits import parse_limits
from veza.http.tokens import ALGORITHM

T = TypeVar("T")
CART = {"payment_method": "card"}
TRACK = b"RIFF....WAVE" + bytes(range(256))


@dataclass
class Somebody:
    """A client, what it was answered, and how long it waited."""

    veza: Veza
    answers: list[tuple[str, int]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def answered(self, answer: httpx.Response) -> None:
        self.answers.append((f"{answer.request.method} {answer.request.url.path}", answer.status_code))

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        trio.from_thread.run(trio.sleep, min(seconds, 2.0))

    def statuses(self, request: str) -> list[int]:
        return [status for asked, status in self.answers if asked == request]


@contextmanager
def somebody(url: str, name: str = "ann") -> Iterator[Somebody]:
    with Veza(url) as veza:
        found = Somebody(veza)
        veza.sleep = found.wait
        veza.http.event_hooks = {"response": [found.answered]}
        veza.register(name, f"{name}@veza.example", PASSWORD)
        yield found


async def beside(do: Callable[[], T]) -> T:
    """What a program does, in a thread of its own."""
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(do, abandon_on_cancel=True)


async def test_the_story_is_true(house: House) -> None:
    said: list[str] = []
    await beside(partial(tour, house.url, house.sandbox.hyperswitch_url, said.append))
    assert [line.partition(", invoice")[0] for line in said] == [
        "on sale: Night Drive",
        "paid: 2999 EUR",
        "the very bytes",
        "told: Your export is ready",
        "the stream is offline",
    ]


def ended(token: str, key: str) -> str:
    """The same token as it is an hour later."""
    claims = jwt.decode(token, key, [ALGORITHM])
    return jwt.encode(claims | {"exp": claims["iat"] - 1}, key, ALGORITHM)


async def test_a_token_that_has_ended_is_renewed_and_the_request_is_sent_again(house: House) -> None:
    key = house.settings.jwt_secret.get_secret_value()

    def do() -> None:
        with somebody(house.url) as ann:
            ann.veza._access = ended(ann.veza._access, key)
            assert ann.veza.call("GET", "/users/me")["username"] == "ann"
            assert ann.statuses("GET /api/v1/users/me") == [401, 200]
            ann.veza.call("GET", "/users/me")
            assert ann.statuses("POST /api/v1/auth/refresh") == [200]

    await beside(do)


async def test_a_download_goes_on_with_a_new_token(house: House, tmp_path: Path) -> None:
    key = house.settings.jwt_secret.get_secret_value()
    take, copy = tmp_path / "take.wav", tmp_path / "copy.wav"
    take.write_bytes(TRACK)

    def do() -> None:
        with somebody(house.url) as ann:
            kept = ann.veza.call("POST", "/cloud/files", file=take)["id"]
            ann.veza._access = ended(ann.veza._access, key)
            ann.veza.download(f"/cloud/files/{kept}/content", copy)
            assert ann.statuses(f"GET /api/v1/cloud/files/{kept}/content") == [401, 200]
            assert copy.read_bytes() == TRACK
            with pytest.raises(ApiError) as refused:
                ann.veza.download(f"/cloud/files/{new_key()}/content", copy)
            assert (refused.value.status, refused.value.code) == (404, "not_found")

    await beside(do)


async def test_a_session_that_is_over_is_told_once_and_not_asked_for_again(house: House) -> None:
    def do() -> None:
        with somebody(house.url) as ann:
            ann.veza.call("DELETE", "/auth/sessions")
            for _ in range(2):
                with pytest.raises(ApiError) as refused:
                    ann.veza.call("GET", "/users/me")
                assert (refused.value.status, refused.value.code) == (401, "session_over")
            assert ann.statuses("POST /api/v1/auth/refresh") == [401]

    await beside(do)


def on_sale(house: House, tmp_path: Path) -> str:
    track = tmp_path / "track.wav"
    track.write_bytes(TRACK)
    with somebody(house.url, "cyd") as seller:
        return sell(seller.veza, track)


async def test_an_order_that_could_not_be_paid_yet_is_sent_again_under_its_key_and_made_once(
    house: House, tmp_path: Path
) -> None:
    def do() -> None:
        cart = CART | {"items": [{"product_id": product, "quantity": 1}]}
        with somebody(house.url) as ann:
            ann.veza.call("POST", "/marketplace/orders", json=cart, key=new_key())
            assert ann.statuses("POST /api/v1/marketplace/orders") == [503, 503, 201]
            assert ann.waits == [1.0, 1.0]  # as Retry-After says
            assert len(list(ann.veza.listed("/marketplace/orders", "orders"))) == 1

    product = await beside(partial(on_sale, house, tmp_path))
    await house.sandbox.hyperswitch_control.fault("503", times=2, method="POST", path="/payments")
    await beside(do)


async def test_what_could_be_done_twice_is_not_sent_twice(house: House, tmp_path: Path) -> None:
    def do() -> None:
        cart = CART | {"items": [{"product_id": product, "quantity": 1}]}
        with somebody(house.url) as ann:
            with pytest.raises(ApiError) as refused:
                ann.veza.call("POST", "/marketplace/orders", json=cart)
            assert (refused.value.status, refused.value.code) == (503, "payment_unavailable")
            assert refused.value.request_id
            assert ann.waits == []

    product = await beside(partial(on_sale, house, tmp_path))
    await house.sandbox.hyperswitch_control.fault("503", times=2, method="POST", path="/payments")
    await beside(do)


async def test_who_asks_too_often_waits_as_long_as_is_said(dsn: str, tmp_path: Path) -> None:
    def do(url: str) -> None:
        with somebody(url) as ann:
            for _ in range(4):
                ann.veza.call("GET", "/users/me")
            told = ann.statuses("GET /api/v1/users/me")
            assert told.count(200) == 4
            assert told.count(429) == len(ann.waits) > 0
            assert set(ann.waits) == {1.0}

    limits = parse_limits("user=2/2")
    async with running_house(dsn, tmp_path, rate_limit_enabled=True, rate_limits=limits) as house:
        await beside(partial(do, house.url))


async def test_pages_follow_one_another_by_cursor_and_by_offset(house: House) -> None:
    def do() -> None:
        with somebody(house.url) as ann:
            for number in range(5):
                ann.veza.call("POST", "/inventory/gear", json={"name": f"MPC {number}"})
            names = [each["name"] for each in ann.veza.listed("/inventory/gear", "gear", limit=2)]
            assert sorted(names) == [f"MPC {number}" for number in range(5)]
            assert ann.statuses("GET /api/v1/inventory/gear") == [200] * 3
        with Veza(house.url) as admin:
            admin.login(ADMIN_EMAIL, PASSWORD)
            wanted = {"action": "inventory.gear.post", "limit": 2}
            while len(list(admin.by_cursor("/admin/audit", "entries", **wanted))) < 5:
                trio.from_thread.run(trio.sleep, 0.05)  # written within a quarter of a second
            found = [each["id"] for each in admin.by_cursor("/admin/audit", "entries", **wanted)]
            assert len(set(found)) == 5

    await beside(do)


class Cut(httpx.SyncByteStream):
    """What comes of an answer before its connection is lost."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self) -> Iterator[bytes]:
        yield self._text.encode()
        raise httpx.ReadError("lost")


def notification(number: int) -> str:
    return f'id: {number}\nevent: notification\ndata: {{"number": {number}}}\n\n'


def test_who_listens_goes_on_after_the_last_event_they_have() -> None:
    answers = [
        httpx.Response(200, stream=Cut('id: 6\nevent: ready\ndata: {"unread_count": 0}\n\n' + notification(7))),
        httpx.Response(503, headers={"Retry-After": "9"}, json={"code": "overloaded"}),
        httpx.Response(200, stream=Cut(notification(8))),
    ]
    asked: list[str | None] = []
    waits: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        return answers.pop(0)

    with Veza("http://veza.example", sleep=waits.append) as ann:
        ann.http = httpx.Client(base_url="http://veza.example/api/v1", transport=httpx.MockTransport(answer))
        with closing(ann.notifications()) as told:
            assert [each["number"] for each in islice(told, 2)] == [7, 8]
    assert asked == [None, "7", "7"]
    assert waits == [1.0, 9.0]


async def test_a_status_that_is_as_it_was_is_answered_with_304(house: House) -> None:
    def do() -> None:
        with somebody(house.url) as ann:
            show = ann.veza.call("POST", "/live/streams", json={"title": "Night Drive, live"})["id"]
            path = f"GET /api/v1/live/streams/{show}/status"

            def wait(seconds: float) -> None:
                ann.waits.append(seconds)
                if len(ann.waits) == 3:
                    raise TimeoutError

            ann.veza.sleep = wait
            with closing(ann.veza.status(show)) as statuses:
                assert next(statuses)["state"] == "offline"
                with pytest.raises(TimeoutError):
                    next(statuses)
            assert ann.statuses(path) == [200, 304, 304]
            assert ann.waits == [15.0] * 3  # as the status says

    await beside(do)


def test_events_are_told_apart_and_signs_of_life_are_none() -> None:
    lines = [
        "retry: 2000",
        "id: 0",
        "event: ready",
        'data: {"a": 1}',
        "",
        ":",
        "",
        "id: 1",
        "data:b: c",
        "",
        "data: cut",
    ]
    assert list(events(lines)) == [
        {"retry": "2000", "id": "0", "event": "ready", "data": '{"a": 1}'},
        {"id": "1", "data": "b: c"},
    ]


def test_what_the_readme_of_the_examples_runs_is_there() -> None:
    page = ROOT.joinpath("examples", "README.md").read_text()
    named = re.findall(r"\]\(([^)#]+)\)", page)
    assert named
    assert [name for name in named if not ROOT.joinpath("examples", name).exists()] == []
    for module in re.findall(r"-m (examples\.\w+)", page):
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").exists()
