"""A ban seen from outside: two whole processes on one database, a real ingest server, and whoever is banned on air."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import trio

from tests.conftest import Server, server_directory
from tests.e2e.live_station import PASSWORD, Creator, Station, open_station
from tests.events import Events, listening
from tests.http.desk import refusal, signed
from tests.shop import data

pytestmark = [pytest.mark.slow, pytest.mark.alone]

WITHIN = 2.0  # seconds, from the answer of one process to the other having acted on it
ADMIN = {"email": "admin@veza.example", "password": PASSWORD}


@pytest.fixture(scope="module")
def station(postgres: Server) -> Iterator[Station]:
    name = postgres.create()
    settings = {"ADMIN_EMAIL": ADMIN["email"], "ADMIN_PASSWORD": ADMIN["password"]}
    with server_directory() as directory, open_station(postgres.named(name), directory, **settings) as opened:
        yield opened
    postgres.drop(name)


def stream_of_events(http: httpx.AsyncClient, creator: Creator) -> tuple[str, dict[str, str]]:
    return f"{http.base_url}notifications/stream", signed(creator.token)


async def hung_up(events: Events) -> None:
    """Until the connection ends, its last word being of the ban."""
    assert (await events.notification())["kind"] == "account_banned"
    with pytest.raises(EOFError):
        await events.next()


@pytest.mark.parametrize("by", ["the process that holds it all", "the other process"])
async def test_a_ban_in_one_process_ends_sessions_connections_and_the_show_in_every_one(
    station: Station, by: str
) -> None:
    """The encoder's hooks go to the first process, which holds the session on air."""
    with trio.fail_after(120):
        async with station.beside() as other, station.creator() as creator:
            admin = data(await other.post("/auth/login", json=ADMIN))["access_token"]
            me = data(await other.get("/users/me", headers=signed(creator.token)))
            encoder = creator.publish()
            await creator.until("live")
            here, there = stream_of_events(creator.http, creator), stream_of_events(other, creator)
            async with listening(*here) as one, listening(*there) as two:
                assert (await one.next())["event"] == (await two.next())["event"] == "ready"
                bans = other if by.startswith("the other") else creator.http
                path = f"/admin/users/{me['id']}"
                body = {"reason": "Not your music."}
                assert data(await bans.post(f"{path}/ban", json=body, headers=signed(admin)))["banned"]
                began = trio.current_time()
                for http in (creator.http, other):
                    answer = await http.get("/users/me", headers=signed(creator.token))
                    assert refusal(answer) == (401, "session_over")
                await hung_up(one)
                await hung_up(two)
                assert await encoder.ended() != 0
                took = trio.current_time() - began
            assert took < WITHIN
            assert (await creator.until("ended"))["is_live"] is False
            for http in (creator.http, other):
                sign_in = {"email": me["email"], "password": PASSWORD}
                assert refusal(await http.post("/auth/login", json=sign_in)) == (403, "banned")
                assert creator.stream_id not in [
                    each["id"] for each in data(await http.get("/live/streams"))["streams"]
                ]
            assert await creator.publish().ended() != 0
            assert not data(await bans.post(f"{path}/unban", headers=signed(admin)))["banned"]
            creator.publish()
            await creator.until("live")
