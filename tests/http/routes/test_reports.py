"""Reports over HTTP: of everything one can see and that is another's, and what admins decide about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import trio

from tests.house import PASSWORD, Account, House
from tests.http.desk import refusal
from tests.shop import PRODUCTS, Json, Shop, data

REPORTS = "/reports"
QUEUE = "/admin/reports"
NOBODY = "0198a1c0-0000-7000-8000-000000000000"


@dataclass
class Court:
    house: House
    shop: Shop
    admin: Account
    ana: Account
    ben: Account

    async def report(self, by: Account | None, content_type: str, content_id: str, **more: Any) -> httpx.Response:
        body = {"content_type": content_type, "content_id": content_id, "reason": "It is mine.", **more}
        return await self.house.post(REPORTS, by, json=body)

    async def reported(self, by: Account, content_type: str, content_id: str) -> Json:
        made: Json = data(await self.report(by, content_type, content_id))
        return made

    async def resolve(self, report: Json, **body: object) -> httpx.Response:
        return await self.house.post(f"{QUEUE}/{report['id']}/resolve", self.admin, json=body)

    async def queue(self, query: str = "") -> Json:
        found: Json = data(await self.house.get(f"{QUEUE}{query}", self.admin))
        return found

    async def told(self, user: Account) -> list[Json]:
        found: list[Json] = data(await self.house.get("/notifications", user))["notifications"]
        return found


@pytest.fixture
async def court(house: House) -> AsyncIterator[Court]:
    with trio.fail_after(40):
        admin, ana, ben = await house.admin(), await house.sign_up("ana"), await house.sign_up("ben")
        yield Court(house, Shop(house), admin, ana, ben)


async def test_everything_that_one_sees_is_reported_once_and_only_what_is_anothers(court: Court) -> None:
    track = await court.shop.on_sale(court.ana, price_cents=0)
    await court.shop.ordered(court.ben, track)
    review = data(await court.house.post(f"{PRODUCTS}/{track['id']}/reviews", court.ben, json={"rating": 1}))
    show = data(await court.house.post("/live/streams", court.ana, json={"title": "A show"}))
    theirs = [("user", court.ana.id), ("track", track["id"]), ("stream", show["id"])]
    for kind, content_id in theirs:
        answer = await court.report(court.ben, kind, content_id)
        assert (answer.status_code, set(data(answer))) == (
            201,
            {"id", "content_type", "content_id", "reason", "status", "created_at"},
        )
        again = await court.report(court.ben, kind, content_id, reason="Still.")
        assert (again.status_code, data(again)) == (200, data(answer))
        assert refusal(await court.report(court.ana, kind, content_id)) == (409, "own_content")
    assert (await court.report(court.ben, "product", track["id"])).status_code == 200
    assert (await court.report(court.ana, "comment", review["id"])).status_code == 201
    assert (await court.report(court.ana, "review", review["id"])).status_code == 200
    assert refusal(await court.report(court.ben, "comment", review["id"])) == (409, "own_content")
    assert refusal(await court.report(None, "user", court.ana.id)) == (401, "unauthenticated")


KINDS: Sequence[str] = ["user", "track", "comment", "product", "review", "stream"]


async def test_what_is_not_there_or_is_not_ones_to_see_is_not_found(court: Court, subtests: pytest.Subtests) -> None:
    draft = await court.shop.draft(court.ana)
    unnamed = data(await court.house.get("/live/streams/me/key", court.ana))["stream_id"]
    for kind in KINDS:
        with subtests.test(repr(kind)):
            for content_id in (NOBODY, draft["id"], unnamed):
                assert refusal(await court.report(court.ben, kind, content_id)) == (404, "not_found")


SENSELESS: Sequence[tuple[Json, str]] = [
    ({"content_type": "song"}, "content_type"),
    ({"content_id": "7"}, "content_id"),
    ({"reason": "  "}, "reason"),
    ({"reason": "x" * 1001}, "reason"),
    ({"reporter_id": NOBODY}, "reporter_id"),
]


async def test_a_report_that_makes_no_sense_changes_nothing(court: Court, subtests: pytest.Subtests) -> None:
    for body, field in SENSELESS:
        with subtests.test(repr((body, field))):
            sent = {"content_type": "user", "content_id": court.ana.id, "reason": "Spam."} | body
            answer = await court.house.post(REPORTS, court.ben, json=sent)
            assert refusal(answer) == (400, "invalid")
            assert answer.json()["details"][0]["field"] == field
            assert (await court.queue())["total"] == 0


async def test_admins_see_what_waits_with_counts_pages_and_filters(court: Court) -> None:
    track = await court.shop.on_sale(court.ana, title="Night Drive")
    first = await court.reported(court.ben, "track", track["id"])
    second = await court.reported(court.ben, "user", court.ana.id)
    third = await court.reported(court.ana, "user", court.ben.id)
    data(await court.resolve(third, action="dismiss"))
    seen = await court.queue()
    assert [each["id"] for each in seen["reports"]] == [first["id"], second["id"]]
    assert (seen["total"], seen["counts"]) == (2, {"pending": 2, "resolved": 0, "dismissed": 1})
    shown = seen["reports"][0]
    assert (shown["excerpt"], shown["reports_of_it"], shown["action"]) == ("Night Drive", 1, None)
    assert (shown["reporter"]["username"], shown["owner"]["username"]) == ("ben", "ana")
    for query, ids in (
        ("?status=all", [third["id"], second["id"], first["id"]]),
        ("?status=dismissed", [third["id"]]),
        ("?status=resolved", []),
        ("?content_type=product", [first["id"]]),
        ("?status=all&limit=1&offset=1", [second["id"]]),
    ):
        assert [each["id"] for each in (await court.queue(query))["reports"]] == ids, query
    for query in ("status=open", "content_type=song", "limit=0"):
        assert refusal(await court.house.get(f"{QUEUE}?{query}", court.admin)) == (400, "invalid")
    for by, told in ((None, (401, "unauthenticated")), (court.ana, (403, "forbidden"))):
        assert refusal(await court.house.get(QUEUE, by)) == told
        path = f"{QUEUE}/{first['id']}/resolve"
        assert refusal(await court.house.post(path, by, json={"action": "dismiss"})) == told


async def test_each_decision_is_made_once_audited_and_told_to_whom_it_concerns(court: Court) -> None:
    report = await court.reported(court.ben, "user", court.ana.id)
    decided = data(await court.resolve(report, action="warn", reason="Not your music."))
    assert (decided["status"], decided["action"], decided["note"]) == ("resolved", "warn", "Not your music.")
    assert decided["decided_by"] == court.admin.id
    for action in ("resolve", "dismiss", "ban", "warn"):
        assert refusal(await court.resolve(report, action=action)) == (409, "already_decided")
    [warned] = await court.told(court.ana)
    assert (warned["kind"], warned["body"]) == ("account_warned", "Not your music.")
    assert court.ben.id not in repr(warned)
    assert "It is mine." not in repr(warned)
    [reviewed] = await court.told(court.ben)
    assert (reviewed["kind"], reviewed["data"]["report_id"]) == ("report_reviewed", report["id"])
    assert (await court.house.get("/users/me", court.ana)).status_code == 200
    audited = data(await court.house.get("/admin/audit?action=report.resolve", court.admin))["entries"]
    assert [each["resource"] for each in audited] == [f"reports/{report['id']}"]


async def test_a_ban_for_a_report_is_a_ban(court: Court) -> None:
    report = await court.reported(court.ben, "user", court.ana.id)
    data(await court.resolve(report, action="ban", reason="Spam", until="2100-01-01T00:00:00Z"))
    assert refusal(await court.house.get("/users/me", court.ana)) == (401, "session_over")
    answer = await court.house.post("/auth/login", json={"email": "ana@veza.example", "password": PASSWORD})
    assert refusal(answer) == (403, "banned")
    assert answer.json()["details"] == [
        {"field": "until", "message": "2100-01-01T00:00:00Z"},
        {"field": "reason", "message": "Spam"},
    ]


async def test_a_decision_that_is_refused_leaves_the_report_as_it_was(court: Court) -> None:
    report = await court.reported(court.ben, "user", court.ana.id)
    for body in (
        {},
        {"action": "delete"},
        {"action": "dismiss", "reason": "Fine."},
        {"action": "warn", "until": "2100-01-01T00:00:00Z"},
        {"action": "ban", "until": "2001-01-01T00:00:00Z"},
    ):
        assert (await court.resolve(report, **body)).status_code == 400, body
    assert refusal(await court.resolve({"id": NOBODY}, action="dismiss")) == (404, "not_found")
    assert (await court.queue())["counts"] == {"pending": 1, "resolved": 0, "dismissed": 0}
    assert await court.told(court.ben) == []


async def test_a_report_about_an_admin_is_not_theirs_to_decide(court: Court) -> None:
    report = await court.reported(court.ben, "user", court.admin.id)
    for action in ("dismiss", "resolve", "warn", "ban"):
        assert refusal(await court.resolve(report, action=action)) == (409, "own_content")
    assert (await court.queue())["counts"] == {"pending": 1, "resolved": 0, "dismissed": 0}
    assert await court.told(court.ben) == []
    data(await court.house.put(f"/admin/users/{court.ana.id}/role", court.admin, json={"role": "admin"}))
    path = f"{QUEUE}/{report['id']}/resolve"
    decided = data(await court.house.post(path, court.ana, json={"action": "dismiss"}))
    assert (decided["status"], decided["decided_by"]) == ("dismissed", court.ana.id)


async def test_reports_are_in_the_document(court: Court) -> None:
    document = (await court.house.http.get(f"{court.house.url}/openapi.json")).json()
    made = document["paths"]["/api/v1/reports"]["post"]
    assert {"200", "201", "404", "409"} & set(made["responses"]) >= {"200", "201"}
    assert set(document["paths"]["/api/v1/admin/reports"]) == {"get"}
    assert set(document["paths"]["/api/v1/admin/reports/{report_id}/resolve"]) == {"post"}
