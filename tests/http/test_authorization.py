"""Every route of the running app, called by everyone there is: each answers what the table says, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx
import pytest
import trio

from tests.http.authorization import CLOSED, ON_A_PAGE, Row, rows
from tests.http.calls import Call, Occasion, Who, call_of
from tests.http.described import Described
from tests.http.world import Stale, World, running_world
from tests.shop import data
from veza.http.app import create_app, routes
from veza.http.document import API

DURING_MAINTENANCE = (Who.NOBODY, Who.OWNER, Who.ADMIN)


@cache
def served() -> frozenset[tuple[str, str]]:
    return frozenset(routes(create_app()))


def paths_of(row: Row) -> list[str]:
    """Where a row's route is served: under the API's prefix, at the root, or both."""
    method, path = row.bare.split()
    return [found for found in (API + path, path) if (method, found) in served()]


def succeeds(outcome: str) -> bool:
    return outcome < "400"


@dataclass
class Walk:
    """Goes from row to row, and gathers the answers that are not as the table has them."""

    world: World
    stale: Mapping[Stale, str]
    described: Described
    wrong: list[str] = field(default_factory=list)

    async def call(self, row: Row, who: Who, outcome: str, *, closed: bool = False) -> Call:
        return await call_of(self.world, row.route, Occasion(who, succeeds(outcome), closed))

    async def token(self, who: Who, call: Call) -> str | None:
        """Of a session of its own: a call may end it."""
        world = self.world
        if who is Who.NOBODY:
            return None
        return await world.token(call.by or {Who.ANOTHER: world.zoe, Who.OWNER: world.ana, Who.ADMIN: world.admin}[who])

    async def ask(self, row: Row, path: str, call: Call, token: str | None) -> tuple[httpx.Response, str]:
        """The answer, and what it comes down to: its status, and an error's code."""
        headers = {**call.sent.get("headers", {}), **({} if token is None else {"Authorization": f"Bearer {token}"})}
        url = self.world.house.url + re.sub(r":(\w+)", lambda name: call.ids[name[1]], path)
        method = row.bare.split()[0]
        async with self.world.house.http.stream(method, url, **call.sent | {"headers": headers}) as answer:
            if "event-stream" not in answer.headers["content-type"]:  # that one does not end
                await answer.aread()
                self.hold_against_the_document(row, path, answer)
        self.world.house.http.cookies.clear()  # a token is all that the next one shows
        return answer, outcome_of(answer)

    def hold_against_the_document(self, row: Row, path: str, answer: httpx.Response) -> None:
        if path.startswith(API) or path in self.described.document["paths"]:  # `test_document` says what is in it
            faults = self.described.faults(row.bare.split()[0], path, answer)
            self.wrong += [f"{row.route}, {answer.status_code}: {fault}" for fault in faults]

    def compare(self, row: Row, caller: str, expected: str, found: str) -> None:
        if found != expected:
            self.wrong.append(f"{row.route}: {caller} got {found}, the table says {expected}")

    async def open(self, row: Row, path: str) -> None:
        for kind, stale in self.stale.items():
            expected = row.shown(kind)
            call = await self.call(row, Who.NOBODY, expected)
            self.compare(row, kind, expected, (await self.ask(row, path, call, stale))[1])
        for who, expected in row.cells.items():
            call = await self.call(row, who, expected)
            answer, found = await self.ask(row, path, call, await self.token(who, call))
            self.compare(row, who, expected, found)
            assert ("deprecation" in answer.headers) == (path == row.bare.split()[1] and len(paths_of(row)) > 1)

    async def closed(self) -> None:
        """Everything again under maintenance; what it takes is made before."""
        asked = [
            (row, path, who, await self.call(row, who, row.closed(who), closed=True))
            for row in rows()
            for path in paths_of(row)
            for who in DURING_MAINTENANCE
        ]
        world = self.world
        data(await world.house.put("/admin/maintenance", await world.token(world.admin), json={"enabled": True}))
        for row, path, who, call in asked:
            answer, found = await self.ask(row, path, call, await self.token(who, call))
            self.compare(row, f"{who}, during maintenance,", row.closed(who), found)
            assert ("retry-after" in answer.headers) == (found in (CLOSED, ON_A_PAGE))


def outcome_of(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return str(answer.status_code)
    if answer.headers["content-type"].startswith("text/html"):
        return f"{answer.status_code} page"
    told = answer.json()
    assert (told["success"], told["request_id"]) == (False, answer.headers["x-request-id"])
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return f"{answer.status_code} {told['code']}"


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {(row.bare.split()[0], path) for row in rows() for path in paths_of(row)} == served()
    assert [row.route for row in rows() if not paths_of(row)] == []
    assert [route for route, times in Counter(row.route for row in rows()).items() if times > 1] == []


@pytest.fixture
async def world(dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    with trio.fail_after(600):  # it takes fifteen on a machine that has nothing else to do
        async with running_world(dsn, tmp_path) as made:
            yield made


async def test_everyone_gets_what_the_table_says_of_every_route(world: World) -> None:
    walk = Walk(world, await world.stale(), await Described.by(world.house))
    for row in rows():
        for path in paths_of(row):
            await walk.open(row, path)
    await walk.closed()
    assert not walk.wrong, "\n".join(walk.wrong)
