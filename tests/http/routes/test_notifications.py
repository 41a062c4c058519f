"""Notifications over HTTP: listed and read by whom they are for, and told as they come to be to whoever listens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import trio

from tests.events import Events, listening
from tests.http.desk import Desk, Pair, open_desk, refusal, signed
from tests.shop import data
from veza.actors.notifier import OF_ONE_USER, Notifier, NotifierRef
from veza.domain.ids import utc_now
from veza.domain.notifications import News, NotificationKind
from veza.http import events
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable
from veza.store.notifications import Notifications, notify
from veza.store.sessions import Sessions
from veza.supervisors import one_for_one, permanent, running

PATH = "/notifications"
STREAM = f"{PATH}/stream"
TICKET = f"{PATH}/stream-ticket"


@dataclass
class Hall:
    desk: Desk
    db: Database
    ref: NotifierRef

    async def tell(self, user: Pair, title: str = "Ready", **more: Any) -> None:
        news = News(NotificationKind.EXPORT_READY, title, data=more)
        async with self.db.transaction() as tx:
            await notify(tx, uuid4(), user.id, news)

    def listening(
        self, user: Pair | None, query: str = "", last: str | None = None
    ) -> AbstractAsyncContextManager[Events]:
        headers = {} if user is None else signed(user.access)
        if last is not None:
            headers["Last-Event-ID"] = last
        return listening(f"{self.desk.url}/api/v1{STREAM}{query}", headers)

    async def ticket(self, user: Pair) -> str:
        made = await self.desk.http.post(TICKET, headers=signed(user.access))
        assert made.status_code == 201
        ticket: str = data(made)["ticket"]
        return ticket


@pytest.fixture
async def hall(db: Database) -> AsyncIterator[Hall]:
    rows = Notifications(db)
    child = permanent("notifier", lambda: Notifier(rows))
    async with running(one_for_one("veza", child), clock=utc_now, random=Random(1)):
        more = {"notifications": rows, "refs": SimpleNamespace(notifier=child.ref)}
        async with open_desk(db, more=more) as desk:
            yield Hall(desk, db, child.ref)


async def test_ones_own_are_listed_with_how_many_are_unread(hall: Hall) -> None:
    ann, bob = await hall.desk.sign_up("Ann"), await hall.desk.sign_up("Bob")
    await hall.tell(ann, "one", export_id="1")
    await hall.tell(ann, "two")
    listed = data(await hall.desk.get(PATH, ann.access))
    assert [each["title"] for each in listed["notifications"]] == ["two", "one"]
    assert (listed["total"], listed["unread_count"]) == (2, 2)
    oldest = listed["notifications"][1]
    assert (oldest["kind"], oldest["data"], oldest["read"]) == ("export_ready", {"export_id": "1"}, False)
    assert data(await hall.desk.get(PATH, bob.access))["notifications"] == []


async def test_reading_one_and_reading_all(hall: Hall) -> None:
    ann, bob = await hall.desk.sign_up("Ann"), await hall.desk.sign_up("Bob")
    for title in ("one", "two", "three"):
        await hall.tell(ann, title)
    newest = data(await hall.desk.get(PATH, ann.access))["notifications"][0]
    path = f"{PATH}/{newest['id']}/read"
    assert refusal(await hall.desk.put(path, bob.access, {})) == (404, "not_found")
    assert data(await hall.desk.put(path, ann.access, {}))["read"] is True
    assert data(await hall.desk.get(f"{PATH}/unread-count", ann.access)) == {"unread_count": 2}
    unread = data(await hall.desk.get(f"{PATH}?unread=true", ann.access))
    assert [each["title"] for each in unread["notifications"]] == ["two", "one"]
    assert data(await hall.desk.put(f"{PATH}/read-all", ann.access, {})) == {"read": 2}
    assert data(await hall.desk.get(f"{PATH}/unread-count", ann.access)) == {"unread_count": 0}


@pytest.mark.parametrize("path", [PATH, f"{PATH}/unread-count", STREAM])
async def test_strangers_are_told_nothing(hall: Hall, path: str) -> None:
    assert (await hall.desk.http.get(path)).status_code == 401


@pytest.mark.parametrize("query", ["limit=0", "unread=maybe", "offset=-1"])
async def test_a_list_that_makes_no_sense_is_refused(hall: Hall, query: str) -> None:
    ann = await hall.desk.sign_up("Ann")
    assert refusal(await hall.desk.get(f"{PATH}?{query}", ann.access)) == (400, "invalid")


async def test_who_listens_is_told_as_it_comes_to_be(hall: Hall) -> None:
    ann, bob = await hall.desk.sign_up("Ann"), await hall.desk.sign_up("Bob")
    await hall.tell(ann, "before")
    async with hall.listening(ann) as one, hall.listening(ann) as two:
        for events in (one, two):
            ready = await events.next()
            assert (ready["event"], json.loads(ready["data"])) == ("ready", {"unread_count": 1})
        assert one.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert one.headers["Cache-Control"] == "no-store"
        await hall.tell(bob, "not hers")
        await hall.tell(ann, "now")
        assert [(await events.notification())["title"] for events in (one, two)] == ["now", "now"]


async def test_who_comes_back_with_the_last_id_misses_nothing(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    for title in ("one", "two", "three"):
        await hall.tell(ann, title)
    async with hall.listening(ann, last="1") as events:
        assert (await events.next())["id"] == "1"
        assert [(await events.notification())["number"] for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("last", ["nonsense", "-1", "99999", "9" * 50, "²"])
async def test_a_last_id_that_makes_no_sense_begins_with_what_is_new(hall: Hall, last: str) -> None:
    ann = await hall.desk.sign_up("Ann")
    await hall.tell(ann, "old")
    async with hall.listening(ann, f"?last_event_id={quote(last)}") as events:
        assert (await events.next())["id"] == "1"
        await hall.tell(ann, "new")
        assert (await events.notification())["title"] == "new"


async def test_a_browser_comes_in_by_a_ticket_once(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    ticket = await hall.ticket(ann)
    async with hall.listening(None, f"?ticket={ticket}") as events:
        await events.next()
        await hall.tell(ann, "now")
        assert (await events.notification())["title"] == "now"
    async with hall.listening(None, f"?ticket={ticket}") as again:
        assert await again.refusal() == (401, "ticket_invalid")
    async with hall.listening(None, "?ticket=nonsense") as nonsense:
        assert await nonsense.refusal() == (401, "ticket_invalid")


async def test_a_ticket_of_a_session_that_is_over_lets_nobody_in(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    ticket = await hall.ticket(ann)
    await hall.desk.http.post("/auth/logout", headers=signed(ann.access))
    async with hall.listening(None, f"?ticket={ticket}") as events:
        assert await events.refusal() == (401, "ticket_invalid")


async def test_no_ticket_is_in_the_log(hall: Hall) -> None:
    ticket = await hall.ticket(await hall.desk.sign_up("Ann"))
    async with hall.listening(None, f"?ticket={ticket}") as events:
        await events.next()
    assert ticket not in json.dumps([dict(line) for line in hall.desk.lines], default=str)


async def test_more_connections_than_one_may_have_are_refused(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    async with trio.open_nursery() as nursery:
        opened, hold = trio.open_memory_channel[None](0), trio.Event()

        async def listen() -> None:
            async with hall.listening(ann) as events:
                await events.next()
                await opened[0].send(None)
                await hold.wait()

        for _ in range(OF_ONE_USER):
            nursery.start_soon(listen)
        with trio.fail_after(20):
            for _ in range(OF_ONE_USER):
                await opened[1].receive()
        async with hall.listening(ann) as refused:
            assert await refused.refusal() == (429, "too_many_requests")
            assert int(refused.headers["Retry-After"]) > 0
        hold.set()


async def test_a_stream_ends_when_the_process_leaves(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    async with hall.listening(ann) as events:
        await events.next()
        hall.desk.parts.stopping.set()
        with pytest.raises(EOFError):
            await events.next()


# -- a connection that goes on -----------------------------------------------------------------------------------------


@pytest.fixture
def quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)


async def beats(page: Events, many: int) -> None:
    """Wait for so many heartbeats. Fails if the stream ends."""
    with trio.fail_after(20):
        while many:
            line = await page.line()
            assert line is not None
            many -= line == ":"


@pytest.mark.usefixtures("quick_heart")
async def test_a_connection_goes_on_over_heartbeats_and_still_hears(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    async with hall.listening(ann) as page:
        await page.next()
        await beats(page, 3)
        await hall.tell(ann, "Still there")
        assert (await page.notification())["title"] == "Still there"
        await beats(page, 3)
    assert not hall.desk.logged("request_failed")


@pytest.mark.usefixtures("quick_heart")
async def test_a_connection_ends_in_order_once_its_session_is_over(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    async with hall.listening(ann) as page:
        await page.next()
        await beats(page, 1)
        (await hall.desk.http.post("/auth/logout", headers=signed(ann.access))).raise_for_status()
        with pytest.raises(EOFError):
            await page.next()
    assert not hall.desk.logged("request_failed")


async def test_a_connection_that_never_falls_silent_ends_as_well_once_its_session_is_over(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell_on_and_on() -> None:
        while True:
            await hall.tell(ann)

    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.5)  # some fifty notifications
    ann = await hall.desk.sign_up("Ann")
    with trio.fail_after(10):
        async with hall.listening(ann) as page, trio.open_nursery() as nursery:
            await page.next()
            nursery.start_soon(tell_on_and_on)
            await page.notification()
            (await hall.desk.http.post("/auth/logout", headers=signed(ann.access))).raise_for_status()
            while await page.line() is not None:
                pass
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("quick_heart")
async def test_a_connection_goes_on_while_nobody_knows_whether_its_session_is_over(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    ann = await hall.desk.sign_up("Ann")
    async with hall.listening(ann) as page:
        await page.next()
        monkeypatch.setattr(Sessions, "user_of", away)
        await beats(page, 3)


async def test_asking_for_its_head_alone_takes_no_place_and_no_ticket(hall: Hall) -> None:
    ann = await hall.desk.sign_up("Ann")
    ticket = await hall.ticket(ann)
    for _ in range(OF_ONE_USER + 1):
        head = await hall.desk.http.head(f"{STREAM}?ticket={ticket}")
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    async with hall.listening(None, f"?ticket={ticket}") as page:
        assert (await page.next())["event"] == "ready"
