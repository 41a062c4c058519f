"""Gear and repairs over HTTP: kept as it was told, by its owner alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import Json, data

GEAR = "/inventory/gear"

FULL = {
    "name": "  Juno-106 ",
    "category": "Synth",
    "brand": "Roland",
    "model": "106",
    "serial_number": "SN 4711",
    "purchase_date": "2020-02-29",
    "purchase_price_cents": 89900,
    "currency": "EUR",
    "warranty_expires_on": "2030-02-28",
    "status": "broken",
    "notes": "Voice 3 hums.",
}
REPAIR = {
    "repair_date": "2026-02-15",
    "description": "New voice chips",
    "cost_cents": 8500,
    "currency": "EUR",
    "provider": "Synth Hospital",
}


@pytest.fixture
async def studio(house: House) -> AsyncIterator[House]:
    with trio.fail_after(30):
        yield house


async def item(studio: House, owner: Account, **fields: object) -> Json:
    answer = await studio.post(GEAR, owner, json={"name": "Juno", **fields})
    assert answer.status_code == 201, answer.text
    made: Json = data(answer)
    return made


def details(answer: Any) -> list[str]:
    assert refusal(answer) == (400, "invalid")
    return [detail["field"] for detail in answer.json().get("details", [])]


# -- items -------------------------------------------------------------------------------------------------------------


async def test_an_item_is_kept_as_it_was_told(studio: House) -> None:
    ann = await studio.sign_up("ann")
    made = await item(studio, ann, **FULL)
    assert UUID(made["id"]).version == 7
    assert made["created_at"].endswith("Z")
    assert made == FULL | {
        "id": made["id"],
        "name": "Juno-106",
        "documents_count": 0,
        "repairs_count": 0,
        "repairs_total": [],
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert data(await studio.get(f"{GEAR}/{made['id']}", ann)) == made
    assert data(await studio.get(GEAR, ann)) == {"gear": [made], "total": 1}


async def test_of_an_item_only_the_name_must_be_known(studio: House) -> None:
    made = await item(studio, await studio.sign_up("ann"), brand=" ", notes="", model=None)
    unknown = FULL.keys() - {"name", "status"}
    assert made["status"] == "active"
    assert {name for name, value in made.items() if value is None} == unknown


SENSELESS: Sequence[tuple[dict[str, object], str]] = [
    ({"name": ""}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "\u200b"}, "name"),
    ({"name": "a\u202eb"}, "name"),
    ({"name": None}, "name"),
    ({"name": 7}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"brand": "x" * 201}, "brand"),
    ({"serial_number": 4711}, "serial_number"),
    ({"category": "x" * 41}, "category"),
    ({"notes": "x" * 5001}, "notes"),
    ({"purchase_date": "2026-02-30"}, "purchase_date"),
    ({"purchase_date": "2026-02-15T00:00:00Z"}, "purchase_date"),
    ({"purchase_date": "15.02.2026"}, "purchase_date"),
    ({"purchase_date": 1771113600}, "purchase_date"),
    ({"purchase_date": "9999-01-01"}, "purchase_date"),
    ({"warranty_expires_on": "0000-01-01"}, "warranty_expires_on"),
    ({"purchase_price_cents": -1, "currency": "EUR"}, "purchase_price_cents"),
    ({"purchase_price_cents": 1.5, "currency": "EUR"}, "purchase_price_cents"),
    ({"purchase_price_cents": "1", "currency": "EUR"}, "purchase_price_cents"),
    ({"purchase_price_cents": True, "currency": "EUR"}, "purchase_price_cents"),
    ({"purchase_price_cents": 10**12, "currency": "EUR"}, "purchase_price_cents"),
    ({"purchase_price_cents": 1}, "currency"),
    ({"currency": "EUR"}, "purchase_price_cents"),
    ({"purchase_price_cents": 1, "currency": "eur"}, "currency"),
    ({"purchase_price_cents": 1, "currency": "EURO"}, "currency"),
    ({"purchase_price_cents": 1, "currency": "EU\n"}, "currency"),
    ({"status": "stolen"}, "status"),
    ({"status": None}, "status"),
    ({"colour": "grey"}, "colour"),
    ({"owner_id": str(uuid4())}, "owner_id"),
]


async def test_what_makes_no_sense_is_refused_with_its_field(house: House, subtests: pytest.Subtests) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        made = await item(house, ann)
        for fields, field in SENSELESS:
            with subtests.test(repr((fields, field))):
                assert details(await house.post(GEAR, ann, json={"name": "Juno", **fields})) == [field]
                if field != "owner_id":
                    assert details(await house.put(f"{GEAR}/{made['id']}", ann, json=fields)) == [field]
                assert data(await house.get(GEAR, ann)) == {"gear": [made], "total": 1}


async def test_a_body_that_is_none_is_refused(studio: House) -> None:
    ann = await studio.sign_up("ann")
    for body in (b"", b"[]", b"null", b'"Juno"', b"{", b'{"name": "a\\u0000b"}', b'{"name": "\\ud800"}', b"\xff"):
        answer = await studio.post(GEAR, ann, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body
    assert (await studio.post(GEAR, ann, content=b"name=Juno")).status_code == 415
    assert data(await studio.get(GEAR, ann))["total"] == 0


async def test_put_changes_what_is_sent_and_takes_a_fetched_item_back(studio: House) -> None:
    ann = await studio.sign_up("ann")
    made = await item(studio, ann, **FULL)
    path = f"{GEAR}/{made['id']}"
    assert data(await studio.put(path, ann, json=made)) == made
    assert data(await studio.put(path, ann, json={})) == made
    sold = data(await studio.put(path, ann, json={"status": "sold", "notes": None, "category": " "}))
    assert sold == made | {"status": "sold", "notes": None, "category": None, "updated_at": sold["updated_at"]}
    assert sold["updated_at"] > made["updated_at"]
    given = data(await studio.put(path, ann, json={"purchase_price_cents": None, "currency": None, "id": 7}))
    assert (given["purchase_price_cents"], given["currency"], given["id"]) == (None, None, made["id"])
    assert data(await studio.get(path, ann)) == given


async def test_the_list_has_the_newest_first_and_is_narrowed(studio: House) -> None:
    ann = await studio.sign_up("ann")
    juno = await item(studio, ann, name="Juno", category="Synth", brand="Roland", serial_number="4711")
    mic = await item(studio, ann, name="Mikrofón", category="Mics", status="sold")
    for query, found in {
        "": [mic, juno],
        "limit=1&offset=1": [juno],
        "status=sold": [mic],
        "category=sYnth": [juno],
        "search=mikrofon": [mic],
        "search=ROL 47": [juno],
        "search=zither": [],
        "search=%25": [],
        "search=%20&category=&colour=grey": [mic, juno],
    }.items():
        answer = data(await studio.get(f"{GEAR}?{query}", ann))
        assert answer["gear"] == found, query
        assert answer["total"] == (2 if "limit" in query else len(found))
    for query in ("limit=0", "limit=101", "offset=-1", "status=stolen", f"search={'x' * 201}", "category=" + "x" * 41):
        assert refusal(await studio.get(f"{GEAR}?{query}", ann)) == (400, "invalid")


async def test_another_persons_gear_is_not_there(studio: House) -> None:
    ann, bob, admin = await studio.sign_up("ann"), await studio.sign_up("bob"), await studio.admin()
    made = await item(studio, ann)
    path = f"{GEAR}/{made['id']}"
    repair = data(await studio.post(f"{path}/repairs", ann, json=REPAIR))
    for stranger in (bob, admin):
        assert data(await studio.get(GEAR, stranger)) == {"gear": [], "total": 0}
        for answer in (
            await studio.get(path, stranger),
            await studio.put(path, stranger, json={"name": "Mine"}),
            await studio.delete(path, stranger),
            await studio.get(f"{path}/repairs", stranger),
            await studio.post(f"{path}/repairs", stranger, json=REPAIR),
            await studio.delete(f"{path}/repairs/{repair['id']}", stranger),
        ):
            assert refusal(answer) == (404, "not_found")
    for method, place in (("GET", GEAR), ("POST", GEAR), ("GET", path), ("PUT", path), ("DELETE", path)):
        assert refusal(await studio.request(method, place)) == (401, "unauthenticated")
    assert data(await studio.get(path, ann))["repairs_count"] == 1
    assert refusal(await studio.get(f"{GEAR}/{uuid4()}", ann)) == (404, "not_found")
    assert refusal(await studio.get(f"{GEAR}/7", ann)) == (404, "not_found")


async def test_a_deleted_item_is_gone(studio: House) -> None:
    ann = await studio.sign_up("ann")
    made = await item(studio, ann)
    path = f"{GEAR}/{made['id']}"
    assert data(await studio.delete(path, ann)) == {"deleted": True}
    assert refusal(await studio.delete(path, ann)) == (404, "not_found")
    assert data(await studio.get(GEAR, ann)) == {"gear": [], "total": 0}


# -- repairs -----------------------------------------------------------------------------------------------------------


async def test_repairs_are_listed_the_latest_first_and_add_up(studio: House) -> None:
    ann = await studio.sign_up("ann")
    path = f"{GEAR}/{(await item(studio, ann))['id']}"
    answer = await studio.post(f"{path}/repairs", ann, json=REPAIR)
    assert answer.status_code == 201
    chips = data(answer)
    assert chips == REPAIR | {"id": chips["id"], "gear_id": path.rpartition("/")[2], "created_at": chips["created_at"]}
    free = {"repair_date": "2026-01-01", "description": "Warranty", "cost_cents": 0, "currency": "EUR"}
    unknown = {"repair_date": "1999-12-31", "description": "By the last owner", "provider": ""}
    abroad = {"repair_date": "2026-02-16", "description": "Keys", "cost_cents": 12000, "currency": "JPY"}
    others = [data(await studio.post(f"{path}/repairs", ann, json=body)) for body in (free, unknown, abroad)]
    assert (others[1]["cost_cents"], others[1]["currency"], others[1]["provider"]) == (None, None, None)
    totals = [{"currency": "EUR", "total_cents": 8500}, {"currency": "JPY", "total_cents": 12000}]
    listed = data(await studio.get(f"{path}/repairs", ann))
    assert listed == {"repairs": [others[2], chips, *others[:2]], "total": 4, "repairs_total": totals}
    page = data(await studio.get(f"{path}/repairs?limit=1&offset=1", ann))
    assert page == {"repairs": [chips], "total": 4, "repairs_total": totals}
    kept = data(await studio.get(path, ann))
    assert (kept["repairs_count"], kept["repairs_total"]) == (4, totals)
    assert data(await studio.delete(f"{path}/repairs/{chips['id']}", ann)) == {"deleted": True}
    assert refusal(await studio.delete(f"{path}/repairs/{chips['id']}", ann)) == (404, "not_found")
    assert data(await studio.get(path, ann))["repairs_total"] == [{"currency": "EUR", "total_cents": 0}, totals[1]]


SENSELESS_REPAIRS: Sequence[tuple[dict[str, object], str]] = [
    ({"repair_date": None}, "repair_date"),
    ({"repair_date": "2026-13-01"}, "repair_date"),
    ({"repair_date": "2026-2-1"}, "repair_date"),
    ({"description": " "}, "description"),
    ({"description": "x" * 5001}, "description"),
    ({"cost_cents": -1}, "cost_cents"),
    ({"cost_cents": 10**12}, "cost_cents"),
    ({"cost_cents": "8500"}, "cost_cents"),
    ({"cost_cents": None}, "cost_cents"),
    ({"currency": None}, "currency"),
    ({"currency": "€"}, "currency"),
    ({"provider": "x" * 201}, "provider"),
    ({"hours": 2}, "hours"),
]


async def test_a_repair_that_makes_no_sense_is_refused_with_its_field(house: House, subtests: pytest.Subtests) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        path = f"{GEAR}/{(await item(house, ann))['id']}/repairs"
        for fields, field in SENSELESS_REPAIRS:
            with subtests.test(repr((fields, field))):
                assert details(await house.post(path, ann, json=REPAIR | fields)) == [field]
                assert data(await house.get(path, ann)) == {"repairs": [], "total": 0, "repairs_total": []}


async def test_a_repair_is_of_no_day_to_come(studio: House) -> None:
    ann = await studio.sign_up("ann")
    path = f"{GEAR}/{(await item(studio, ann))['id']}/repairs"
    today = datetime.now(UTC).date()
    tomorrow = {"repair_date": (today + timedelta(days=1)).isoformat()}  # it has come in Kiribati
    assert (await studio.post(path, ann, json=REPAIR | tomorrow)).status_code == 201
    later = {"repair_date": (today + timedelta(days=3)).isoformat()}
    assert details(await studio.post(path, ann, json=REPAIR | later)) == ["repair_date"]
