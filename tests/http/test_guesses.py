"""Guessing at a password over HTTP: how soon it is slowed down, and that nobody can be locked out by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
import trio

from tests.http.desk import PASSWORD, Desk, Pair, open_desk, refusal, signed
from tests.people import cheap_hasher
from veza.domain.guesses import ACCOUNT, AGAIN, DEVICE, LINK, PAIR, SITE
from veza.domain.limits import Limit, Limits
from veza.gateways.limits.memory import InMemory
from veza.gateways.passwords import Passwords
from veza.store.bridge import Database
from veza.store.cloud import CloudRows

HOME, AWAY = "192.0.2.1", "198.51.100.1"
WRONG = "wrong-horse-1"
SLOWED = (429, "too_many_attempts")
WIDE = Limits(
    address=Limit("address", 10_000, 1),
    user=Limit("user", 10_000, 1),
    login=Limit("login", 10_000, 1),
    register=Limit("register", 10_000, 1),
)


@dataclass
class Counted:
    """A desk where requests are not limited and wrong passwords are, by a clock that can be moved."""

    desk: Desk
    now: float = 0.0
    seen: list[int] = field(default_factory=list)

    async def login(self, name: str, password: str, at: str, **headers: str) -> httpx.Response:
        body = {"email": f"{name}@example.com", "password": password}
        answer = await self.desk.http.post("/auth/login", json=body, headers={"X-Forwarded-For": at, **headers})
        self.seen.append(answer.status_code)
        return answer

    async def sign_up(self, name: str, at: str = HOME) -> Pair:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        return Pair.of(await self.desk.http.post("/auth/register", json=body, headers={"X-Forwarded-For": at}))

    async def use_up_the_strangers(self, name: str) -> None:
        """Wrong passwords for one account from everywhere, until nobody unknown is heard any more."""
        for number in range(ACCOUNT.quota):
            answer = await self.login(name, WRONG, f"203.0.113.{number}")
            assert answer.status_code == 401
        assert refusal(await self.login(name, WRONG, "203.0.113.250")) == SLOWED


@pytest.fixture
async def counted(db: Database) -> AsyncIterator[Counted]:
    clock: Callable[[], float] = lambda: house.now  # noqa: E731 - it looks at what is made below
    async with open_desk(
        db,
        passwords=Passwords(cheap_hasher()),
        more={"meter": InMemory(clock=clock), "cloud": CloudRows(db)},
        trusted_proxies=[ip_network("127.0.0.1/32")],
        limits=WIDE,
    ) as desk:
        house = Counted(desk)
        with trio.fail_after(60):
            yield house


async def test_one_who_guesses_at_an_account_is_heard_ten_times_and_then_slowly(counted: Counted) -> None:
    await counted.sign_up("Ann")
    for _ in range(PAIR.quota):
        assert refusal(await counted.login("Ann", WRONG, AWAY)) == (401, "invalid_credentials")
    answer = await counted.login("Ann", PASSWORD, AWAY)
    assert refusal(answer) == SLOWED  # be it right
    wait = int(answer.headers["retry-after"])
    assert wait == PAIR.interval
    counted.now += wait
    assert (await counted.login("Ann", PASSWORD, AWAY)).status_code == 200
    [line] = counted.desk.logged("guessing_slowed")
    assert line["limit"] == PAIR.name


async def test_an_account_that_does_not_exist_is_told_of_just_the_same(counted: Counted) -> None:
    await counted.sign_up("Ann")
    told: dict[str, list[tuple[int, Any, str | None]]] = {}
    for name in ("Ann", "Nobody"):
        answers = [await counted.login(name, WRONG, AWAY) for _ in range(PAIR.quota + 2)]
        told[name] = [(each.status_code, each.json()["error"], each.headers.get("retry-after")) for each in answers]
    assert told["Ann"] == told["Nobody"]
    assert told["Ann"][-1][0] == 429


async def test_a_right_password_counts_against_nobody(counted: Counted) -> None:
    await counted.sign_up("Ann")
    for _ in range(PAIR.quota * 3):
        assert (await counted.login("Ann", PASSWORD, AWAY)).status_code == 200


async def test_strangers_cannot_lock_out_who_was_here_before(counted: Counted) -> None:
    await counted.sign_up("Ann", at=HOME)
    await counted.use_up_the_strangers("Ann")
    assert (await counted.login("Ann", PASSWORD, HOME)).status_code == 200


async def test_a_device_that_is_signed_in_passes_wherever_it_is_and_has_its_own_guesses(counted: Counted) -> None:
    ann = await counted.sign_up("Ann", at=HOME)
    await counted.use_up_the_strangers("Ann")
    assert refusal(await counted.login("Ann", PASSWORD, AWAY)) == SLOWED
    for shown in (signed(ann.access), {"Cookie": f"refresh_token={ann.refresh}"}):
        assert (await counted.login("Ann", PASSWORD, AWAY, **shown)).status_code == 200
    for number in range(DEVICE.quota):  # whoever stole it has no more guesses than its owner, from however many places
        assert (await counted.login("Ann", WRONG, f"198.51.100.{number}", **signed(ann.access))).status_code == 401
    assert refusal(await counted.login("Ann", PASSWORD, "198.51.100.99", **signed(ann.access))) == SLOWED


async def test_who_signed_out_is_still_known_and_who_was_put_out_is_not(counted: Counted) -> None:
    ann = await counted.sign_up("Ann", at=HOME)
    bob = await counted.sign_up("Bob", at=HOME)
    await counted.desk.http.post("/auth/logout", headers=signed(ann.access))
    await counted.desk.http.delete("/auth/sessions", headers=signed(bob.access))
    for name in ("Ann", "Bob"):
        await counted.use_up_the_strangers(name)
    assert (await counted.login("Ann", PASSWORD, HOME)).status_code == 200
    assert refusal(await counted.login("Bob", PASSWORD, HOME, **signed(bob.access))) == SLOWED


async def test_anothers_device_and_a_forged_token_open_nothing(counted: Counted) -> None:
    await counted.sign_up("Ann", at=HOME)
    bob = await counted.sign_up("Bob", at=HOME)
    await counted.use_up_the_strangers("Ann")
    assert refusal(await counted.login("Ann", PASSWORD, AWAY, **signed(bob.access))) == SLOWED
    assert refusal(await counted.login("Ann", PASSWORD, AWAY, **signed("forged"))) == SLOWED


async def test_one_address_that_tries_many_accounts_is_slowed_and_the_others_are_not(counted: Counted) -> None:
    await counted.sign_up("Ann", at=HOME)
    for number in range(SITE.quota):
        assert (await counted.login(f"Somebody{number}", WRONG, AWAY)).status_code == 401
    assert refusal(await counted.login("Ann", PASSWORD, AWAY)) == SLOWED
    assert (await counted.login("Ann", PASSWORD, "198.51.100.2")).status_code == 200


async def test_sixty_at_once_are_heard_no_oftener(counted: Counted) -> None:
    await counted.sign_up("Ann")
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(counted.login, "Ann", WRONG, AWAY)
    assert counted.seen.count(401) == PAIR.quota
    assert counted.seen.count(429) == 50


async def test_the_password_that_is_asked_for_again_is_heard_ten_times_in_a_session(counted: Counted) -> None:
    ann = await counted.sign_up("Ann")
    other = Pair.of(await counted.login("Ann", PASSWORD, HOME))
    change = {"current_password": WRONG, "new_password": "another-horse-1"}
    for _ in range(AGAIN.quota):
        assert (await counted.desk.put("/users/me/password", ann.access, change)).status_code == 401
    right = change | {"current_password": PASSWORD}
    assert refusal(await counted.desk.put("/users/me/password", ann.access, right)) == SLOWED
    erased = await counted.desk.http.request(
        "DELETE", "/users/me", headers=signed(ann.access), json={"password": PASSWORD}
    )
    assert refusal(erased) == SLOWED
    assert (await counted.desk.put("/users/me/password", other.access, right)).status_code == 200


async def test_links_are_tried_so_often_and_no_oftener(counted: Counted) -> None:
    async def show(at: str) -> httpx.Response:
        return await counted.desk.http.get("/cloud/shared/no-such-link", headers={"X-Forwarded-For": at})

    for _ in range(LINK.quota):
        assert (await show(AWAY)).status_code == 404
    assert refusal(await show(AWAY)) == SLOWED
    assert (await show(HOME)).status_code == 404


async def test_who_was_turned_away_for_want_of_room_has_lost_no_attempt(counted: Counted) -> None:
    await counted.sign_up("Ann")
    passwords = counted.desk.parts.passwords
    passwords.waiting = 0
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(counted.login, "Ann", WRONG, AWAY)
    passwords.waiting = 64
    heard = counted.seen.count(401)
    assert counted.seen.count(503) > 0
    for _ in range(PAIR.quota - heard):
        assert (await counted.login("Ann", WRONG, AWAY)).status_code == 401
    assert refusal(await counted.login("Ann", WRONG, AWAY)) == SLOWED
