"""Maintenance in a running house: switched by admins, audited, kept over a restart, told to every process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio

from tests.events import listening
from tests.house import Account, House, running_house
from tests.http.desk import refusal
from tests.shop import data
from veza.domain.notifications import News, NotificationKind
from veza.store.bridge import Database
from veza.store.notifications import notify

PATH = "/admin/maintenance"
CLOSED = (503, "maintenance")
WORDS = {"enabled": True, "message": "Back at one.", "expected_end": "2100-01-01T13:00:00Z"}


@pytest.fixture
async def venue(house: House) -> AsyncIterator[House]:
    with trio.fail_after(30):
        yield house


async def switch(house: House, admin: Account, **body: Any) -> Any:
    return data(await house.put(PATH, admin, json=body))


async def test_it_is_off_and_says_so(venue: House) -> None:
    seen = data(await venue.get(PATH, await venue.admin()))
    assert seen == {"enabled": False, "message": None, "expected_end": None, "updated_at": seen["updated_at"]}


async def test_switched_on_it_turns_away_at_once_and_off_it_lets_in_at_once(venue: House) -> None:
    admin, ann = await venue.admin(), await venue.sign_up("ann")
    for _ in range(5):
        on = await switch(venue, admin, **WORDS)
        assert on == WORDS | {"updated_at": on["updated_at"]}
        answer = await venue.get("/users/me", ann)
        assert refusal(answer) == CLOSED
        assert (answer.json()["error"], answer.headers["retry-after"]) == ("Back at one.", "3600")
        assert data(await venue.get("/users/me", admin))["id"] == admin.id
        off = await switch(venue, admin, enabled=False)
        assert (off["enabled"], off["message"], off["expected_end"]) == (False, None, None)
        assert (await venue.get("/users/me", ann)).status_code == 200


async def test_what_is_not_sent_stays_and_what_was_fetched_can_be_sent_back(venue: House) -> None:
    admin = await venue.admin()
    await switch(venue, admin, **WORDS)
    assert (await switch(venue, admin, enabled=True))["message"] == "Back at one."
    fetched = data(await venue.get(PATH, admin))
    again = await switch(venue, admin, **fetched)
    assert again == fetched | {"updated_at": again["updated_at"]}
    assert (await switch(venue, admin, enabled=True, message=None))["message"] is None
    assert (await switch(venue, admin, enabled=True, expected_end="2100-02-23T12:00:00+02:00"))["expected_end"] == (
        "2100-02-23T10:00:00Z"
    )


SENSELESS: Sequence[tuple[Any, str]] = [
    ({}, "enabled"),
    ({"message": "Back at one."}, "enabled"),
    ({"enabled": "yes"}, "enabled"),
    ({"enabled": True, "message": "x" * 501}, "message"),
    ({"enabled": True, "message": "one\ntwo"}, "message"),
    ({"enabled": True, "message": 7}, "message"),
    ({"enabled": True, "expected_end": "soon"}, "expected_end"),
    ({"enabled": True, "expected_end": 1771848000}, "expected_end"),
    ({"enabled": True, "expected_end": "2026-02-23T12:00:00Z"}, "expected_end"),
    ({"enabled": True, "expected_end": "0001-01-01"}, "expected_end"),
    ({"enabled": True, "until": "2026-02-23T12:00:00Z"}, "until"),
]


async def test_what_makes_no_sense_is_refused_and_changes_nothing(venue: House, subtests: pytest.Subtests) -> None:
    admin = await venue.admin()
    for body, field in SENSELESS:
        with subtests.test(repr((body, field))):
            answer = await venue.put(PATH, admin, json=body)
            assert refusal(answer) == (400, "invalid")
            assert field in {each["field"] for each in answer.json()["details"]}
            assert not data(await venue.get(PATH, admin))["enabled"]


async def test_only_admins_see_and_switch_it_also_while_it_is_on(venue: House) -> None:
    admin, ann = await venue.admin(), await venue.sign_up("ann")
    for _ in range(2):
        for by, told in ((None, (401, "unauthenticated")), (ann, (403, "forbidden"))):
            assert refusal(await venue.get(PATH, by)) == told
            assert refusal(await venue.put(PATH, by, json={"enabled": False})) == told
        await switch(venue, admin, enabled=True)


async def test_each_switch_is_audited_with_who_did_it(venue: House) -> None:
    admin = await venue.admin()
    await venue.put(PATH, admin, json=WORDS, headers={"X-Request-ID": "req-7"})
    await switch(venue, admin, enabled=False)
    with psycopg.connect(venue.dsn) as connection:
        rows = connection.execute(
            "SELECT actor_id::text, resource, request_id, details->>'enabled', details->>'message' FROM audit_entries"
            " WHERE action = 'maintenance.switch' ORDER BY id"
        ).fetchall()
    assert rows[0] == (admin.id, "maintenance", "req-7", "true", "Back at one.")
    assert (rows[1][0], rows[1][3:]) == (admin.id, ("false", None))
    assert len(rows) == 2


async def test_webhooks_are_taken_and_money_goes_on_meanwhile(venue: House) -> None:
    admin = await venue.admin()
    await switch(venue, admin, enabled=True)
    for path in ("/webhooks/stripe", "/webhooks/hyperswitch"):
        assert (await venue.post(path, content=b"{}")).status_code == 401  # for want of a signature, not of a door
    assert (await venue.get("/readyz")).status_code == 200
    assert (await venue.http.get(f"{venue.url}/healthz")).status_code == 200


async def test_a_stream_of_events_that_is_open_goes_on_until_its_client_comes_back(venue: House) -> None:
    admin, ann = await venue.admin(), await venue.sign_up("ann")
    address, headers = f"{venue.url}/api/v1/notifications/stream", {"Authorization": f"Bearer {ann.token}"}
    async with listening(address, headers) as events:
        assert (await events.next())["event"] == "ready"
        await switch(venue, admin, enabled=True)
        async with Database.open(venue.dsn, size=1) as database, database.transaction() as tx:
            await notify(tx, UUID(int=7), UUID(ann.id), News(NotificationKind.EXPORT_READY, "Ready"))
        assert (await events.notification())["title"] == "Ready"
    assert refusal(await venue.get("/notifications/stream", ann)) == CLOSED


async def test_it_survives_a_restart_and_nobody_is_locked_out(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with running_house(dsn, tmp_path / "one") as house:
            ann = await house.sign_up("ann")
            await switch(house, await house.admin(), **WORDS)
        async with running_house(dsn, tmp_path / "two") as house:
            assert refusal(await house.get("/users/me", ann)) == CLOSED
            admin = await house.admin()
            assert data(await house.get(PATH, admin))["message"] == "Back at one."
            await switch(house, admin, enabled=False)
            assert (await house.get("/users/me", ann)).status_code == 200
