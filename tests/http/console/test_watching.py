"""Pages of the console that go on, over a real connection: how many may, what one holds, and how soon one is over."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from tests.house import House
from tests.http.console.test_doors import Desk
from tests.shop import data
from veza.domain.accounts import SessionEnd
from veza.domain.ids import utc_now
from veza.http.console.entry import COOKIE
from veza.http.console.looks import LIST_SECONDS
from veza.http.watches import OF_ONE_ADMIN
from veza.store.bridge import Database
from veza.store.sessions import Sessions


@pytest.fixture
async def desk(house: House, db: Database) -> AsyncIterator[Desk]:
    with trio.fail_after(120):
        yield Desk(house, db, await house.admin(), await house.sign_up("mallory"))


@asynccontextmanager
async def watched(desk: Desk, token: str, page: str = "payouts") -> AsyncIterator[httpx.Response]:
    headers = {"Cookie": f"{COOKIE}={token}"}
    async with desk.house.http.stream("GET", f"{desk.house.url}/console/live/{page}", headers=headers) as answer:
        yield answer


async def until_event(lines: AsyncIterator[str], name: str) -> None:
    """Read on as far as an event of that name. Raises EOFError if there is none."""
    async for line in lines:
        if line == f"event: {name}":
            return
    raise EOFError(name)


async def test_an_admin_watches_as_many_pages_as_stand_on_a_wall_and_no_more(desk: Desk) -> None:
    first, second = desk.tokens.console(await desk.session(desk.admin)), await desk.session(desk.admin)
    async with AsyncExitStack() as pages:
        for _ in range(OF_ONE_ADMIN):
            assert (await pages.enter_async_context(watched(desk, first))).status_code == 200
        async with watched(desk, desk.tokens.console(second)) as refused:
            assert refused.status_code == 429, "another session of theirs has none of its own"
            assert int(refused.headers["retry-after"])
        assert (await desk.ask("GET", "/console/payouts", first)).status_code == 200, "to look once is no watching"
    while True:  # whoever leaves is noticed in a moment
        async with watched(desk, first) as answer:
            if answer.status_code == 200:
                return


async def test_a_page_that_is_open_is_over_as_soon_as_its_session_is_and_at_a_ban_and_a_demotion(desk: Desk) -> None:
    other = await desk.house.sign_up("olga")
    data(await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": "admin"}))
    session = await desk.session(other)

    async def end() -> None:
        await Sessions(desk.db).end(session.user_id, SessionEnd.LOGOUT, utc_now(), only=session.id)

    async def demote() -> None:
        data(await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": "user"}))

    async def ban() -> None:
        await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": "user"})
        data(await desk.house.post(f"/admin/users/{other.id}/ban", desk.admin, json={"reason": "A test."}))

    for cut in (end, demote, ban):
        data(await desk.house.put(f"/admin/users/{other.id}/role", desk.admin, json={"role": "admin"}))
        session = await desk.session(other)
        async with watched(desk, desk.tokens.console(session)) as answer:
            lines = answer.aiter_lines()
            await until_event(lines, "changes")
            await cut()
            cut_at = trio.current_time()
            await until_event(lines, "over")
            assert trio.current_time() - cut_at < LIST_SECONDS + 1.0, cut.__name__
            assert [line async for line in lines if line.startswith("event:")] == [], "and it ends with that"


async def test_a_reader_who_stops_reading_holds_no_seat_no_connection_and_not_the_end(desk: Desk) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    where = urlsplit(desk.house.url)
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    with sock:
        await sock.connect((where.hostname, where.port))
        head = f"GET /console/live/actors HTTP/1.1\r\nHost: {where.netloc}\r\nCookie: {COOKIE}={token}\r\n\r\n"
        await sock.send(head.encode())
        await sock.recv(16)
        for _ in range(2 * 10):  # more than the pool has
            assert (await desk.ask("GET", "/console/payouts", token)).status_code == 200
        with trio.fail_after(10):
            desk.house.leave.set()
            while True:
                try:
                    await desk.house.get("/health")
                except httpx.HTTPError:
                    break
