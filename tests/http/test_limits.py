"""How often one may ask, as clients meet it: headers, 429, who counts as whom, and who is never counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.http.conftest import NOON, until
from tests.http.described import Described
from tests.http.desk import Desk, open_desk, refusal, signed
from veza.domain.ids import IdMint
from veza.domain.limits import Limit, Limits
from veza.domain.maintenance import Maintenance
from veza.gateways.limits.memory import InMemory
from veza.http.app import create_app
from veza.http.edge import Edge, Receive, Scope, Send
from veza.http.limits import PATIENCE_SECONDS, Line, is_limited
from veza.store.bridge import Database

TIGHT = Limits(
    address=Limit("address", 3, 60),
    user=Limit("user", 4, 60),
    login=Limit("login", 2, 60),
    register=Limit("register", 2, 600),
    upload=Limit("upload", 1, 60),
    status=Limit("status", 3, 60),
)
WIDE = Limit("address", 1000, 60)
PROXY: dict[str, Any] = {"trusted_proxies": [ip_network("127.0.0.1/32")]}


@asynccontextmanager
async def limited(db: Database, limits: Limits = TIGHT, **more: Any) -> AsyncIterator[Desk]:
    """Time stands still, however long the machine takes."""
    async with open_desk(db, limits=limits, more={"meter": InMemory(clock=lambda: 1000.0)}, **more) as desk:
        yield desk


def replaced(**limits: Limit) -> Limits:
    return Limits(**{**vars(TIGHT), **limits})


async def look(desk: Desk, **headers: str) -> httpx.Response:
    return await desk.http.get("/nothing-here", headers=headers)


async def test_every_answer_says_how_its_asker_stands(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db) as desk:
            answers = [await look(desk) for _ in range(3)]
    assert [each.headers["ratelimit-policy"] for each in answers] == ['"address";q=3;w=60'] * 3
    assert [each.headers["ratelimit"] for each in answers] == [f'"address";r={left};t=20' for left in (2, 1, 0)]


async def test_who_asks_too_often_is_told_when_to_come_back_in_the_envelope(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db) as desk:
            answer = [await look(desk) for _ in range(4)][-1]
            await until(lambda: len(desk.logged("request")) == 4)
            line = desk.logged("request")[-1]
    assert refusal(answer) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "20"
    assert answer.headers["ratelimit"] == '"address";r=0;t=20'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert (line["status"], line["route"]) == (429, None)


async def test_an_address_is_who_is_behind_a_proxy_we_trust_and_an_ipv6_site_is_one(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db, **PROXY) as desk:
            for _ in range(3):
                await look(desk, **{"X-Forwarded-For": "2001:db8:0:1::1"})
            same = await look(desk, **{"X-Forwarded-For": "2001:db8:0:1:ffff::2"})
            other = await look(desk, **{"X-Forwarded-For": "2001:db8:0:2::1"})
    assert (same.status_code, other.status_code) == (429, 404)


async def test_what_a_client_writes_of_its_address_frees_nobody(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db) as desk:
            answers = [await look(desk, **{"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(4)]
    assert [each.status_code for each in answers] == [404, 404, 404, 429]


async def test_who_is_signed_in_counts_for_themselves_wherever_they_are(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db, replaced(register=Limit("register", 9, 60)), **PROXY) as desk:
            ann, bob = await desk.sign_up("Ann"), await desk.sign_up("Bob")
            told = [
                (await look(desk, **signed(ann.access), **{"X-Forwarded-For": f"192.0.2.{number}"})).status_code
                for number in range(5)
            ]
            assert told == [404] * 4 + [429]
            assert (await look(desk, **signed(bob.access))).headers["ratelimit"].startswith('"user";r=3')
            forged = await look(desk, Authorization="Bearer forged", **{"X-Forwarded-For": "192.0.2.1"})
            assert forged.headers["ratelimit"].startswith('"address";r=2')


async def test_signing_in_and_up_have_limits_of_their_own(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db, replaced(address=WIDE)) as desk:
            assert [(await desk.register(f"Ann{number}")).status_code for number in range(3)] == [201, 201, 429]
            assert [(await desk.login("Ann0")).status_code for _ in range(2)] == [200, 200]
            refused = await desk.http.post("/auth/login/", json={})
            assert refusal(refused) == (429, "rate_limited")
            slashed = await desk.http.post(f"{desk.http.base_url.join('/')}/api/v1/auth/login", json={})
            assert refusal(slashed) == (429, "rate_limited")
            assert '"login";r=0' in refused.headers["ratelimit"]
            assert (await look(desk)).status_code == 404


async def test_files_have_a_limit_of_their_own(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db, replaced(user=Limit("user", 100, 60))) as desk:
            ann = await desk.sign_up()
            sent = [
                await desk.http.post("/nothing-here", files={"file": b"x"}, headers=signed(ann.access))
                for _ in range(2)
            ]
            assert [each.status_code for each in sent] == [404, 429]
            shouted = {"Content-Type": "Multipart/Form-Data; boundary=x", **signed(ann.access)}
            assert refusal(await desk.http.post("/nothing-here", headers=shouted)) == (429, "rate_limited")
            assert (await desk.http.post("/nothing-here", json={}, headers=signed(ann.access))).status_code == 404


async def test_a_streams_status_is_counted_apart_and_says_nothing_that_a_cache_would_keep(db: Database) -> None:
    async with limited(db) as desk:
        path = f"/live/streams/{uuid4()}/status"
        with trio.fail_after(10):
            for _ in range(3):
                answer = await desk.http.get(path)
                assert answer.status_code != 429
                assert "ratelimit" not in answer.headers
            assert refusal(await desk.http.get(path)) == (429, "rate_limited")
            assert (await look(desk)).headers["ratelimit"].startswith('"address";r=2')


async def test_who_asks_too_often_is_turned_away_in_front_of_maintenance(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db) as desk:
            desk.board.maintenance = Maintenance(True, "Back at one.")
            told = [(await look(desk)).status_code for _ in range(4)]
    assert told == [503, 503, 503, 429]


async def test_a_person_at_a_page_is_told_on_a_page(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db) as desk:
            for _ in range(3):
                await look(desk)
            answer = await desk.http.get(f"{desk.url}/watch/{uuid4()}")
    assert answer.status_code == 429
    assert answer.headers["content-type"].startswith("text/html")
    assert "You ask too often" in answer.text


@dataclass
class House:
    """An edge around a handler that works until it may stop, and one for those who asked too often."""

    finish: trio.Event = field(default_factory=trio.Event)
    line: Line = field(default_factory=Line)
    told: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._edge = Edge(self._handle, new_id=IdMint(lambda: NOON, Random(1)), max_in_flight=9, leaving=trio.Event())

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            await self.finish.wait()
        else:
            await self.line.stand()
            self.told.append(trio.current_time())

    async def ask(self, path: str) -> None:
        async def nothing(_message: Any = None) -> Any:
            """Neither end says anything here."""

        await self._edge(
            {"type": "http", "method": "GET", "path": path, "headers": [], "client": None}, nothing, nothing
        )

    async def ask_later(self, path: str) -> None:
        """As one whose request is still being read."""
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        await self.ask(path)


async def test_who_asked_too_often_is_told_when_nobody_else_is_worked_for(autojump_clock: MockClock) -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.ask, "/work")
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(house.ask, "/over")
        await wait_all_tasks_blocked()
        assert house.told == []
        house.finish.set()
        await wait_all_tasks_blocked()
        assert house.told == [trio.current_time()] * 3


async def test_who_comes_as_the_house_empties_goes_before_who_asked_too_often(autojump_clock: MockClock) -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.ask, "/work")
        await wait_all_tasks_blocked()
        nursery.start_soon(house.ask, "/over")
        await wait_all_tasks_blocked()
        house.finish.set()
        house.finish = trio.Event()
        nursery.start_soon(house.ask_later, "/work")
        await wait_all_tasks_blocked()
        assert house.told == []
        house.finish.set()
        await wait_all_tasks_blocked()
        assert len(house.told) == 1


async def test_nobody_stands_in_line_for_longer_than_patience_lasts(autojump_clock: MockClock) -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for path in ("/work", "/over", "/over", "/over"):
            nursery.start_soon(house.ask, path)
        await until(lambda: len(house.told) == 3)
        house.finish.set()
    assert house.told == [pytest.approx(began + PATIENCE_SECONDS, abs=0.01)] * 3


NEVER = ("/health", "/health/deep", "/healthz", "/readyz", "/metrics")


async def test_probes_webhooks_and_hooks_are_never_counted(db: Database) -> None:
    with trio.fail_after(10):
        async with limited(db) as desk:
            for _ in range(6):
                for path in ("/api/v1/health", "/health", "/api/v1/healthz"):
                    answer = await desk.http.get(desk.url + path)
                    assert answer.status_code == 200
                    assert "ratelimit" not in answer.headers
            assert (await look(desk)).headers["ratelimit"].startswith('"address";r=2')


def test_only_probes_metrics_webhooks_and_hooks_are_free() -> None:
    free = {rule.rule for rule in create_app().url_map.iter_rules() if not is_limited(rule.rule)}
    assert free == {
        *(prefix + path for prefix in ("", "/api/v1") for path in NEVER),
        "/api/v1/webhooks/hyperswitch",
        "/api/v1/webhooks/stripe",
        "/api/v1/hooks/rtmp/<token>/publish",
        "/api/v1/hooks/rtmp/<token>/publish_done",
        "/api/v1/hooks/mediamtx/<token>/auth",
    }


async def test_nobody_is_limited_where_nothing_counts(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db, limits=TIGHT) as desk:
            answers = [await look(desk) for _ in range(6)]
    assert {each.status_code for each in answers} == {404}
    assert "ratelimit" not in answers[0].headers


async def test_the_document_tells_of_the_limits(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db) as desk:
            document: dict[str, Any] = (await desk.http.get(f"{desk.url}/openapi.json")).json()
    for path in ("/auth/login", "/cloud/files", "/live/streams/{stream_id}/status"):
        for operation in document["paths"][f"/api/v1{path}"].values():
            told = Described(document).resolved(operation["responses"]["429"])
            assert set(told["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert "429" not in document["paths"]["/api/v1/webhooks/stripe"]["post"]["responses"]


async def test_a_flood_of_logins_reaches_no_password_and_keeps_no_other_route_from_answering(db: Database) -> None:
    """How long that takes is a benchmark's to say (bench/limits.py)."""
    seen: Counter[int] = Counter()

    async def attack(desk: Desk) -> None:
        for number in range(50):
            body = {"email": f"somebody{number}@example.com", "password": "wrong-horse-1"}
            seen[(await desk.http.post("/auth/login", json=body)).status_code] += 1

    with trio.fail_after(60):
        meter = InMemory()
        limits = replaced(address=WIDE, login=Limit("login", 5, 3600))
        async with open_desk(db, limits=limits, more={"meter": meter}) as desk:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(attack, desk)
                for _ in range(20):
                    assert (await desk.http.get("/health")).status_code == 200
            assert desk.parts.passwords.load.waiting == 0
    assert seen == {401: 5, 429: 495}
    assert len(meter) < 20
