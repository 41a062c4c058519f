"""The audit as admins read it, and the way of a request to there through the whole house."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import trio

from tests.house import Account, House
from tests.http.desk import Desk, Pair, open_desk, refusal
from tests.people import NOON
from tests.shop import data
from veza.domain.audit import By, Entry, Place
from veza.domain.ids import system_mint
from veza.store import audit
from veza.store.audit import AuditRows
from veza.store.bridge import Database

ANN, BOB = UUID(int=1), UUID(int=2)
AUDIT = "/admin/audit"

new_id = system_mint()


@dataclass
class Reading:
    desk: Desk
    admin: Pair
    rows: AuditRows

    async def read(self, **query: object) -> Any:
        answer = await self.desk.http.get(
            AUDIT,
            params={name: str(value) for name, value in query.items()},
            headers={"Authorization": f"Bearer {self.admin.access}"},
        )
        return data(answer)

    async def refused(self, **query: object) -> tuple[int, str]:
        params = "&".join(f"{name}={value}" for name, value in query.items())
        return refusal(await self.desk.get(f"{AUDIT}?{params}", self.admin.access))

    async def add(self, count: int, **changes: Any) -> list[Entry]:
        """So many entries, a second apart, the newest first."""
        plain = Entry(new_id(), NOON, ANN, "cloud.files.post", "cloud/files", "POST", 201, "request-1", "203.0.113.5")
        added = [replace(plain, id=new_id(), at=NOON - timedelta(seconds=each), **changes) for each in range(count)]
        await self.rows.append(added)
        return added


@pytest.fixture
async def reading(db: Database) -> AsyncIterator[Reading]:
    with trio.fail_after(30):
        rows = AuditRows(db)
        async with open_desk(db, more={"audit": rows}) as desk:
            admin = await desk.sign_up("Root")
            async with db.transaction() as tx:
                await tx.execute("UPDATE users SET role = 'admin' WHERE id = $1", admin.id)
            yield Reading(desk, admin, rows)


async def test_an_entry_is_shown_whole(reading: Reading) -> None:
    [entry] = await reading.add(1)
    assert await reading.read() == {
        "entries": [
            {
                "id": str(entry.id),
                "at": "2026-02-23T12:00:00Z",
                "user_id": str(ANN),
                "action": "cloud.files.post",
                "resource": "cloud/files",
                "method": "POST",
                "status": 201,
                "request_id": "request-1",
                "address": "203.0.113.5",
                "details": {},
            }
        ],
        "next_cursor": None,
    }


async def test_what_was_written_in_its_own_transaction_stands_among_them_with_its_details(reading: Reading) -> None:
    await reading.add(1)
    async with reading.desk.db.transaction() as tx:
        await audit.write(tx, new_id(), By(BOB), "transfer.hold", "transfer:1", {"reason": "fraud"})
    [held, _] = (await reading.read())["entries"]  # now is later than the desk's noon
    assert (held["action"], held["details"], held["method"], held["status"]) == (
        "transfer.hold",
        {"reason": "fraud"},
        None,
        None,
    )


async def test_cursors_lead_through_all_of_it_once(reading: Reading) -> None:
    added = await reading.add(45)
    seen: list[str] = []
    query: dict[str, object] = {}
    for expected in (20, 20, 5):
        page = await reading.read(**query)
        assert len(page["entries"]) == expected
        seen += [each["id"] for each in page["entries"]]
        query = {"cursor": page["next_cursor"]}
    assert seen == [str(entry.id) for entry in added]
    assert page["next_cursor"] is None


async def test_a_page_that_ends_with_the_last_entry_has_no_next(reading: Reading) -> None:
    await reading.add(3)
    assert (await reading.read(limit=3))["next_cursor"] is None
    assert (await reading.read(limit=2))["next_cursor"] is not None


async def test_filters_narrow_it(reading: Reading) -> None:
    await reading.add(2)
    [other] = await reading.add(
        1, user_id=BOB, action="cloud.files.delete", resource="cloud/files/7", method="DELETE", status=404
    )
    [named] = await reading.add(1, request_id="request-9")
    for query in (
        {"user_id": BOB},
        {"action": other.action},
        {"resource": "cloud/files/"},
        {"method": "DELETE"},
        {"status": 404},
    ):
        assert [each["id"] for each in (await reading.read(**query))["entries"]] == [str(other.id)], query
    assert [each["id"] for each in (await reading.read(request_id="request-9"))["entries"]] == [str(named.id)]
    second = NOON - timedelta(seconds=1)
    assert len((await reading.read(until="2026-02-23T12:00:00Z"))["entries"]) == 1
    assert len((await reading.read(since=second.isoformat().replace("+00:00", "Z")))["entries"]) == 4


SENSELESS: Sequence[dict[str, object]] = [
    {"cursor": "x"},
    {"cursor": ""},
    {"cursor": str(Place(NOON, ANN))[:-1]},
    {"cursor": "f" * 32},
    {"limit": 0},
    {"limit": 101},
    {"user_id": "ann"},
    {"method": "SHOUT"},
    {"status": 42},
    {"action": ""},
    {"resource": "x" * 201},
    {"since": "yesterday"},
    {"since": "2026-02-24", "until": "2026-02-23"},
]


async def test_what_makes_no_sense_is_400(reading: Reading, subtests: pytest.Subtests) -> None:
    for query in SENSELESS:
        with subtests.test(repr(query)):
            assert await reading.refused(**query) == (400, "invalid")


async def test_only_admins_read_it(reading: Reading) -> None:
    ann = await reading.desk.sign_up("Ann")
    assert refusal(await reading.desk.get(AUDIT, ann.access)) == (403, "forbidden")
    assert refusal(await reading.desk.http.get(AUDIT)) == (401, "unauthenticated")


# -- through the whole house -------------------------------------------------------------------------------------------


async def audited(house: House, admin: Account, count: int, **query: str) -> list[Any]:
    path = f"{AUDIT}?" + "&".join(f"{name}={value}" for name, value in query.items())
    found = await house.until(path, admin, lambda told: len(told["entries"]) >= count)
    entries: list[Any] = found["entries"]
    return entries


async def test_what_somebody_does_is_in_the_audit_within_a_second(house: House) -> None:
    with trio.fail_after(30):
        ann, admin = await house.sign_up("ann"), await house.admin()
        made = data(await house.post("/inventory/gear", ann, json={"name": "MPC"}))
        with trio.fail_after(1):
            [entry] = await audited(house, admin, 1, user_id=ann.id, action="inventory.gear.post")
        assert entry["status"] == 201
        answer = await house.delete(f"/inventory/gear/{made['id']}", ann, headers={"X-Request-ID": "mine"})
        assert answer.status_code == 200
        [entry] = await audited(house, admin, 1, request_id="mine")
        assert entry["resource"] == f"inventory/gear/{made['id']}"


async def test_what_an_admin_does_is_there_once_written_in_its_own_transaction(house: House) -> None:
    with trio.fail_after(30):
        admin, ann = await house.admin(), await house.sign_up("ann")
        await house.put("/admin/feature-flags/cloud.uploads", admin, json={"enabled": False})
        data(await house.post("/inventory/gear", ann, json={"name": "MPC"}))
        await audited(house, admin, 1, action="inventory.gear.post")  # whatever was done before is there by now
        switched, signed_in = await audited(house, admin, 1, user_id=admin.id)
    assert (switched["action"], switched["details"]) == ("flag.switch", {"enabled": False})
    assert (signed_in["action"], signed_in["resource"]) == ("auth.login.post", "auth/login")
