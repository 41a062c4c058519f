"""The front desk alone: the real app behind the real server over a real database, with a clock that can be moved.

What concerns accounts needs no actors and no providers; passwords cost as little here as they can.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import structlog
import trio
from quart import Blueprint

from tests.people import MovingClock, People, cheap_hasher
from tests.sandbox.running import NO_CERTIFICATES
from veza.domain.flags import ALL_ON, Flag, Flags
from veza.domain.maintenance import Maintenance
from veza.gateways.passwords import Passwords
from veza.http.app import create_app
from veza.http.parts import ConfigSummary, HttpSettings, Parts
from veza.http.tokens import Tokens
from veza.listener import listen
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.privacy import PrivacyRows
from veza.store.sessions import Sessions

PASSWORD = "correct-horse-1"
OPEN = Maintenance()


@dataclass
class Pair:
    """What signing in gives."""

    id: UUID
    access: str
    refresh: str

    @classmethod
    def of(cls, answer: httpx.Response) -> Pair:
        data = answer.raise_for_status().json()["data"]
        return cls(UUID(data["user"]["id"]), data["access_token"], data["refresh_token"])


def signed(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and code of an error, whose envelope is looked at as well."""
    told = answer.json()
    assert told["success"] is False
    assert told["error"].endswith(".")
    return answer.status_code, told["code"]


@dataclass
class Board:
    """The switches, as their actors would publish them."""

    flags: Flags = ALL_ON
    maintenance: Maintenance = OPEN

    def switch_off(self, *flags: Flag) -> None:
        """Switch these features off, and all others on."""
        self.flags = Flags(off=frozenset(flags))


@dataclass
class Desk:
    """A served app. Paths are under ``/api/v1``; cookies are sent only where a test says so."""

    url: str
    db: Database
    parts: Parts
    clock: MovingClock
    lines: Sequence[MutableMapping[str, Any]]
    http: httpx.AsyncClient
    board: Board

    async def register(self, name: str = "Ann", **other: object) -> httpx.Response:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, **other}
        return await self.http.post("/auth/register", json=body)

    async def sign_up(self, name: str = "Ann") -> Pair:
        return Pair.of(await self.register(name))

    async def login(self, name: str = "Ann", password: str = PASSWORD) -> httpx.Response:
        return await self.http.post("/auth/login", json={"email": f"{name}@example.com", "password": password})

    async def refresh(self, token: str) -> httpx.Response:
        return await self.http.post("/auth/refresh", json={"refresh_token": token})

    async def get(self, path: str, token: str) -> httpx.Response:
        return await self.http.get(path, headers=signed(token))

    async def put(self, path: str, token: str, body: object) -> httpx.Response:
        return await self.http.put(path, headers=signed(token), json=body)

    async def is_in(self, token: str) -> bool:
        """Whether an access token lets its bearer in."""
        answer = await self.get("/users/me", token)
        assert answer.status_code in (200, 401)
        return answer.status_code == 200

    def logged(self, event: str) -> list[MutableMapping[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


class Forgetful(httpx.Cookies):
    """Keeps no cookie: a test that sends one says so."""

    def extract_cookies(self, response: httpx.Response) -> None:
        return


@asynccontextmanager
async def open_desk(
    db: Database,
    *blueprints: Blueprint,
    passwords: Passwords | None = None,
    more: Mapping[str, object] | None = None,
    people: People | None = None,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A desk over ``db`` with a test's own blueprints beside the app's; keyword arguments are HttpSettings.

    ``more`` are further parts, for routes that need more than an account; ``people`` has the clock they go by.
    """
    people, board = people or People(), Board()
    parts = Parts.only(
        clock=people.clock,
        new_id=people.new_id,
        config=ConfigSummary(True, True, 0.1, True),
        checks={},
        root_alive=lambda: True,
        settings=HttpSettings(**settings),
        accounts=Accounts(db),
        sessions=Sessions(db),
        passwords=passwords or Passwords(cheap_hasher()),
        tokens=Tokens(b"k" * 32, people.clock, people.new_id),
        privacy=PrivacyRows(db),
        flags=lambda: board.flags,
        maintenance=lambda: board.maintenance,
        **(more or {}),
    )
    app, shutdown = create_app(), trio.Event()
    for blueprint in blueprints:
        app.register_blueprint(blueprint, url_prefix="/api/v1/test")
    app.bind(parts)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            serve = partial(listen, app, "127.0.0.1", 0, new_id=people.new_id, shutdown=shutdown, drain_seconds=5)
            url: str = await nursery.start(serve)
            async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=10, verify=NO_CERTIFICATES) as client:
                client._cookies = Forgetful()
                yield Desk(url, db, parts, people.clock, lines, client, board)
            shutdown.set()
