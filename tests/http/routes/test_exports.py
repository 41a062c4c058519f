"""Asking for an export, and looking how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio

from tests.buckets import SECRET
from tests.http.desk import Desk, Pair, open_desk, refusal, signed
from tests.people import People
from tests.shop import Json, data
from veza.actors.queue import Ring
from veza.domain.exports import LEASE, Claim, Dead, Progress, Ready, Retry
from veza.domain.flags import Flag
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects
from veza.store.bridge import Database
from veza.store.exports import ExportRows
from veza.store.orphans import Orphans

DAY = timedelta(days=1)
BASE = "https://veza.example"
EXPORT = "/users/me/export"
EXPORTS = "/users/me/exports"


async def one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


@dataclass
class Bell:
    """Stands for the exporter."""

    rung: list[object] = field(default_factory=list)

    def tell(self, message: object) -> bool:
        self.rung.append(message)
        return True


@dataclass
class Counter:
    """A desk, and the rows behind it as the exporter has them."""

    desk: Desk
    rows: ExportRows
    objects: LocalObjects
    bell: Bell

    async def post(self, by: Pair) -> httpx.Response:
        return await self.desk.http.post(EXPORT, headers=signed(by.access))

    async def asked(self, by: Pair) -> Json:
        answer = await self.post(by)
        assert answer.status_code == 202
        made: Json = data(answer)
        return made

    async def get(self, by: Pair, path: str) -> Json:
        found: Json = data(await self.desk.get(path, by.access))
        return found

    async def claim(self) -> Claim:
        [claim] = await self.rows.claim(1, LEASE)
        return claim

    async def make(self, content: bytes = b"PK") -> None:
        """Make the one that is due, to be fetched for a day."""
        stored = await self.objects.put(one(content))
        ready = Ready(stored.key, stored.size_bytes, self.desk.clock() + DAY)
        assert await self.rows.record(await self.claim(), ready, Progress(1, 1, 2, 2)) is not None


@pytest.fixture
async def counter(db: Database, tmp_path: Path) -> AsyncIterator[Counter]:
    people, bell = People(), Bell()
    links = Links(SECRET, BASE, people.clock)
    rows = ExportRows(db, people.new_id)
    with trio.fail_after(30):
        async with LocalObjects.open(tmp_path, links) as objects:
            more: dict[str, Any] = {
                "exports": rows,
                "objects": objects,
                "links": links,
                "orphans": Orphans(db),
                "refs": SimpleNamespace(exporter=bell),
            }
            async with open_desk(db, more=more, people=people) as desk:
                yield Counter(desk, rows, objects, bell)


async def test_an_export_that_is_asked_for_waits_for_the_exporter_who_is_rung(counter: Counter) -> None:
    ann = await counter.desk.sign_up("Ann")
    asked = await counter.asked(ann)
    assert asked == {
        "id": asked["id"],
        "status": "queued",
        "progress": {"files_done": 0, "files_total": 0, "bytes_done": 0, "bytes_total": 0},
        "size_bytes": None,
        "failure": None,
        "created_at": "2026-02-23T12:00:00Z",
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "download_url": None,
    }
    assert counter.bell.rung == [Ring()]
    assert await counter.get(ann, f"{EXPORTS}/{asked['id']}") == asked


async def test_asked_for_again_it_is_the_same_one(counter: Counter) -> None:
    ann = await counter.desk.sign_up("Ann")
    asked = await counter.asked(ann)
    assert (await counter.asked(ann))["id"] == asked["id"]
    claim = await counter.claim()
    await counter.rows.renew(claim, Progress(1, 2, 10, 20), LEASE)
    again = await counter.asked(ann)
    assert (again["id"], again["status"]) == (asked["id"], "running")
    assert again["progress"] == {"files_done": 1, "files_total": 2, "bytes_done": 10, "bytes_total": 20}


async def test_two_who_post_at_once_for_one_person_get_one_export(counter: Counter) -> None:
    ann, found = await counter.desk.sign_up("Ann"), set[str]()

    async def ask() -> None:
        found.add((await counter.asked(ann))["id"])

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask)
    assert len(found) == 1


async def test_one_that_is_ready_can_be_fetched_by_its_link_until_it_expires(counter: Counter) -> None:
    ann = await counter.desk.sign_up("Ann")
    asked = await counter.asked(ann)
    await counter.make(b"PK and more")
    made = await counter.get(ann, f"{EXPORTS}/{asked['id']}")
    assert (made["status"], made["size_bytes"], made["expires_at"]) == ("ready", 11, "2026-02-24T12:00:00Z")
    path = made["download_url"].removeprefix(f"{BASE}/api/v1")
    fetched = await counter.desk.http.get(path)
    assert (fetched.status_code, fetched.content) == (200, b"PK and more")
    assert fetched.headers["Content-Type"] == "application/zip"
    assert 'filename="veza-export-2026-02-23.zip"' in fetched.headers["Content-Disposition"]
    counter.desk.clock.move(DAY)
    ann = Pair.of(await counter.desk.login("Ann"))
    gone = await counter.get(ann, f"{EXPORTS}/{asked['id']}")
    assert (gone["status"], gone["download_url"]) == ("expired", None)
    assert refusal(await counter.desk.http.get(path)) == (403, "link_expired")


async def test_within_a_day_of_one_that_was_made_another_is_refused_and_one_is_told_when_to_come_again(
    counter: Counter,
) -> None:
    ann = await counter.desk.sign_up("Ann")
    await counter.asked(ann)
    await counter.make()
    counter.desk.clock.move(timedelta(minutes=30))
    answer = await counter.post(ann)
    assert refusal(answer) == (429, "too_many_requests")
    assert answer.headers["Retry-After"] == str(int((DAY - timedelta(minutes=30)).total_seconds()))
    counter.desk.clock.move(DAY)
    ann = Pair.of(await counter.desk.login("Ann"))
    await counter.asked(ann)
    listed = await counter.get(ann, EXPORTS)
    assert (listed["total"], [each["status"] for each in listed["exports"]]) == (2, ["queued", "expired"])


async def test_one_that_failed_says_why_and_does_not_count(counter: Counter) -> None:
    ann = await counter.desk.sign_up("Ann")
    first = await counter.asked(ann)
    await counter.rows.record(await counter.claim(), Retry(counter.desk.clock() + DAY, "file_missing"), Progress())
    waiting = await counter.get(ann, f"{EXPORTS}/{first['id']}")
    assert (waiting["status"], waiting["failure"]) == ("queued", "file_missing")
    await counter.desk.db.fetch("SELECT 1")
    async with counter.desk.db.transaction() as tx:
        await tx.execute("UPDATE exports SET due_at = now()")
    await counter.rows.record(await counter.claim(), Dead("file_missing"), Progress())
    assert (await counter.get(ann, f"{EXPORTS}/{first['id']}"))["status"] == "failed"
    assert (await counter.asked(ann))["id"] != first["id"]


async def test_anothers_is_not_there_and_strangers_are_told_nothing(counter: Counter) -> None:
    ann, bob = await counter.desk.sign_up("Ann"), await counter.desk.sign_up("Bob")
    asked = await counter.asked(ann)
    assert refusal(await counter.desk.get(f"{EXPORTS}/{asked['id']}", bob.access)) == (404, "not_found")
    assert await counter.get(bob, EXPORTS) == {"exports": [], "total": 0}
    for method, path in (("POST", EXPORT), ("GET", EXPORTS), ("GET", f"{EXPORTS}/{asked['id']}")):
        assert refusal(await counter.desk.http.request(method, path)) == (401, "unauthenticated")


async def test_the_list_has_pages_the_newest_first(counter: Counter) -> None:
    ann, made = await counter.desk.sign_up("Ann"), list[str]()
    for _ in range(3):
        made.insert(0, (await counter.asked(ann))["id"])
        await counter.make()
        counter.desk.clock.move(DAY)
        ann = Pair.of(await counter.desk.login("Ann"))
    first, rest = await counter.get(ann, f"{EXPORTS}?limit=2"), await counter.get(ann, f"{EXPORTS}?limit=2&offset=2")
    assert [each["id"] for each in first["exports"] + rest["exports"]] == made
    assert first["total"] == rest["total"] == 3
    assert refusal(await counter.desk.get(f"{EXPORTS}?limit=0", ann.access)) == (400, "invalid")


async def test_none_is_asked_for_while_the_feature_is_switched_off_and_those_there_are_stay(counter: Counter) -> None:
    ann = await counter.desk.sign_up("Ann")
    asked = await counter.asked(ann)
    counter.desk.board.switch_off(Flag.EXPORTS)
    assert refusal(await counter.post(ann)) == (403, "feature_disabled")
    assert (await counter.get(ann, f"{EXPORTS}/{asked['id']}"))["status"] == "queued"
    assert len(counter.bell.rung) == 1
