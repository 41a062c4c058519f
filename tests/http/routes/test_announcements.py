"""Announcements in a running house: who makes them, who sees them and when, and what a cache may keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import Json, Shop, data

ADMIN = "/admin/announcements"
ACTIVE = "/announcements/active"
HELLO = {"title": "Moving", "content": "We move on Sunday.\nBack on Monday.", "type": "info"}
AUDITED = "SELECT actor_id::text, action, resource FROM audit_entries WHERE action LIKE 'announcement.%' ORDER BY id"


def moment(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@dataclass
class Office:
    house: House
    admin: Account
    ana: Account

    async def announce(self, **other: object) -> Json:
        made: Json = data(await self.house.post(ADMIN, self.admin, json=HELLO | other))
        return made

    async def active(self, query: str = "", **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.house.get(f"{ACTIVE}{query}", headers=sent)

    async def shown(self) -> list[str]:
        return [each["title"] for each in data(await self.active())["announcements"]]


@pytest.fixture
async def office(house: House) -> AsyncIterator[Office]:
    with trio.fail_after(60):
        yield Office(house, await house.admin(), await house.sign_up("ana"))


async def test_what_an_admin_announces_everybody_sees_at_once(office: Office) -> None:
    assert data(await office.active()) == {"announcements": [], "total": 0}
    answer = await office.house.post(ADMIN, office.admin, json=HELLO)
    assert answer.status_code == 201
    made = data(answer)
    assert {name: made[name] for name in HELLO} == HELLO
    assert (made["status"], made["ends_at"], made["starts_at"]) == ("active", None, made["created_at"])
    public = {name: value for name, value in made.items() if name != "status"}
    assert data(await office.active()) == {"announcements": [public], "total": 1}
    assert data(await office.house.get(ADMIN, office.admin)) == {"announcements": [made], "total": 1}


async def test_what_is_deleted_is_gone_at_once_and_a_second_time_is_not_found(office: Office) -> None:
    made, other = await office.announce(), await office.announce(title="Other")
    path = f"{ADMIN}/{made['id']}"
    assert data(await office.house.delete(path, office.admin)) == {"deleted": True}
    assert await office.shown() == ["Other"]
    assert refusal(await office.house.delete(path, office.admin)) == (404, "not_found")
    assert refusal(await office.house.delete(f"{ADMIN}/nothing", office.admin)) == (404, "not_found")
    assert Shop(office.house).run(AUDITED) == [
        (office.admin.id, "announcement.create", f"announcements/{made['id']}"),
        (office.admin.id, "announcement.create", f"announcements/{other['id']}"),
        (office.admin.id, "announcement.delete", f"announcements/{made['id']}"),
    ]


async def test_one_from_the_first_moment_to_the_last_is_shown_like_any_other(office: Office) -> None:
    made = await office.announce(starts_at="0001-01-01T00:00:00Z", ends_at="9999-12-31T23:59:59.9999999Z")
    to_come = await office.announce(starts_at="9999-12-31T23:59:59.999999Z")
    assert (made["status"], to_come["status"]) == ("active", "scheduled")
    assert [each["id"] for each in data(await office.active())["announcements"]] == [made["id"]]
    assert data(await office.house.get(ADMIN, office.admin))["announcements"] == [to_come, made]


async def test_only_admins_see_all_and_make_and_delete(office: Office) -> None:
    made = await office.announce()
    for by, said in ((None, (401, "unauthenticated")), (office.ana, (403, "forbidden"))):
        assert refusal(await office.house.get(ADMIN, by)) == said
        assert refusal(await office.house.post(ADMIN, by, json=HELLO)) == said
        assert refusal(await office.house.delete(f"{ADMIN}/{made['id']}", by)) == said
    assert await office.shown() == ["Moving"]


SENSELESS: Sequence[tuple[dict[str, object], str]] = [
    ({"title": " "}, "title"),
    ({"title": "x" * 201}, "title"),
    ({"title": None}, "title"),
    ({"content": ""}, "content"),
    ({"content": "x" * 5001}, "content"),
    ({"content": 7}, "content"),
    ({"type": "critical"}, "type"),
    ({"type": None}, "type"),
    ({"starts_at": "soon"}, "starts_at"),
    ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
    ({"starts_at": "2100-01-02T00:00:00Z", "ends_at": "2100-01-01T00:00:00Z"}, "ends_at"),
    ({"colour": "red"}, "colour"),
]


async def test_what_makes_no_sense_is_told_by_its_field_and_changes_nothing(
    office: Office, subtests: pytest.Subtests
) -> None:
    for wrong, field in SENSELESS:
        with subtests.test(repr((wrong, field))):
            answer = await office.house.post(ADMIN, office.admin, json=HELLO | wrong)
            assert refusal(answer) == (400, "invalid")
            assert [each["field"] for each in answer.json()["details"]] == [field]
            assert data(await office.house.get(ADMIN, office.admin))["total"] == 0
    for name in HELLO:
        body = {other: value for other, value in HELLO.items() if other != name}
        assert refusal(await office.house.post(ADMIN, office.admin, json=body)) == (400, "invalid")
    assert data(await office.house.get(ADMIN, office.admin))["total"] == 0


async def test_they_come_and_go_by_the_clock_without_a_write(office: Office) -> None:
    await office.announce(title="Soon", starts_at=moment(1.5), ends_at=moment(3))
    await office.announce(title="Later", starts_at="2100-01-01", ends_at="2100-01-02")
    statuses = [each["status"] for each in data(await office.house.get(ADMIN, office.admin))["announcements"]]
    assert statuses == ["scheduled", "scheduled"]
    assert data(await office.active())["announcements"] == []
    await office.house.until(ACTIVE, None, lambda seen: [each["title"] for each in seen["announcements"]] == ["Soon"])
    await office.house.until(ACTIVE, None, lambda seen: seen["total"] == 0)
    statuses = [each["status"] for each in data(await office.house.get(ADMIN, office.admin))["announcements"]]
    assert statuses == ["scheduled", "ended"]


async def test_what_matters_most_comes_first_and_pages_are_cut_from_that(office: Office) -> None:
    for title, kind in (("A", "info"), ("B", "error"), ("C", "warning"), ("D", "info")):
        await office.announce(title=title, type=kind)
    assert await office.shown() == ["B", "C", "D", "A"]
    page = data(await office.active("?limit=2&offset=1"))
    assert ([each["title"] for each in page["announcements"]], page["total"]) == (["C", "D"], 4)
    assert refusal(await office.active("?limit=0")) == (400, "invalid")
    listed = data(await office.house.get(f"{ADMIN}?limit=3", office.admin))
    assert ([each["title"] for each in listed["announcements"]], listed["total"]) == (["D", "C", "B"], 4)


async def test_who_has_the_list_is_told_that_it_still_is(office: Office) -> None:
    await office.announce()
    first = await office.active()
    assert first.headers["Cache-Control"] == "public, max-age=10"
    again = await office.active(If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert again.headers["Cache-Control"] == "public, max-age=10"
    await office.announce(title="Other")
    other = await office.active(If_None_Match=first.headers["ETag"])
    assert other.status_code == 200
    assert other.headers["ETag"] != first.headers["ETag"]


async def test_nothing_is_kept_past_the_moment_at_which_the_list_is_another(office: Office) -> None:
    await office.announce(ends_at=moment(5))
    kept = (await office.active()).headers["Cache-Control"]
    assert kept in {f"public, max-age={seconds}" for seconds in range(5)}


async def test_a_bearer_token_is_not_looked_at(office: Office) -> None:
    await office.announce()
    answer = await office.active(Authorization="Bearer nonsense")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "public, max-age=10")


async def test_visitors_cost_no_query(office: Office) -> None:
    await office.announce()
    with psycopg.connect(office.house.dsn) as connection:
        connection.execute("LOCK TABLE announcements IN ACCESS EXCLUSIVE MODE")
        for _ in range(20):
            assert await office.shown() == ["Moving"]


async def test_in_maintenance_they_are_closed_to_all_but_admins(office: Office) -> None:
    await office.announce()
    data(await office.house.put("/admin/maintenance", office.admin, json={"enabled": True}))
    assert refusal(await office.active()) == (503, "maintenance")
    assert data(await office.house.get(ACTIVE, office.admin))["total"] == 1
    assert (await office.announce(title="Done soon"))["status"] == "active"
