"""Gear as rows: its owner's alone, never more than there may be, and counted right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Unpack
from uuid import UUID

import pytest
import trio

from tests.sales import START, Sales
from veza.domain.documents import MAX_DOCUMENTS, Document, DocumentType
from veza.domain.errors import Conflict, Invalid, NotFound
from veza.domain.gear import (
    MAX_GEAR,
    MAX_REPAIRS,
    Gear,
    GearChanges,
    GearListing,
    GearStatus,
    Kept,
    Repair,
    Total,
    blank,
    change,
)
from veza.store.bridge import Database
from veza.store.gear import GearRows


@dataclass
class Studio:
    """A database, and what a test keeps in it."""

    db: Database
    sales: Sales = field(init=False)
    rows: GearRows = field(init=False)

    def __post_init__(self) -> None:
        self.sales, self.rows = Sales(self.db), GearRows(self.db)

    def new(self, owner: UUID, **changes: Unpack[GearChanges]) -> Gear:
        given = GearChanges(name="Juno-106")
        given.update(changes)
        return change(blank(owner, id=self.sales.new_id(), now=START), given, START)

    async def added(self, owner: UUID, **changes: Unpack[GearChanges]) -> Gear:
        item = self.new(owner, **changes)
        await self.rows.add(item)
        return item

    def document(self, item: Gear) -> Document:
        new_id = self.sales.new_id()
        return Document(new_id, item.id, DocumentType.MANUAL, new_id.hex * 2, "m.pdf", "application/pdf", 4, START)

    def repair(
        self, item: Gear, day: int = 1, cents: int | None = 8500, currency: str | None = "EUR", what: str = "Keys"
    ) -> Repair:
        return Repair(self.sales.new_id(), item.id, date(2026, 2, day), what, cents, currency, None, START)

    async def count(self, table: str) -> int:
        found: int = await self.db.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - the test's own words
        return found


@pytest.fixture
def studio(db: Database) -> Studio:
    return Studio(db)


async def test_an_item_is_read_as_it_was_written_and_by_its_owner_alone(studio: Studio) -> None:
    ann, bob = await studio.sales.user(), await studio.sales.user()
    item = await studio.added(
        ann,
        category="Synth",
        brand="Roland",
        model="106",
        serial_number="1",
        purchase_date=date(2020, 2, 29),
        purchase_price_cents=10**12 - 1,
        currency="IDR",
        warranty_expires_on=date(9999, 12, 31),
        status=GearStatus.BROKEN,
        notes="Voice 3",
    )
    assert await studio.rows.get(ann, item.id) == Kept(item)
    for owner, gear_id in ((bob, item.id), (ann, studio.sales.new_id())):
        with pytest.raises(NotFound):
            await studio.rows.get(owner, gear_id)
    assert await studio.rows.page(bob, GearListing(), limit=9) == ([], 0)


async def test_what_is_kept_of_an_item_is_counted_by_currency(studio: Studio) -> None:
    ann = await studio.sales.user()
    item, other = await studio.added(ann), await studio.added(ann)
    for cents, currency in ((8500, "EUR"), (0, "EUR"), (1000, "JPY"), (None, None), (500, "EUR")):
        await studio.rows.add_repair(ann, studio.repair(item, cents=cents, currency=currency))
    await studio.rows.add_document(ann, studio.document(item))
    kept = Kept(item, 1, 5, (Total("EUR", 9000), Total("JPY", 1000)))
    assert await studio.rows.get(ann, item.id) == kept
    assert await studio.rows.page(ann, GearListing(), limit=9) == ([Kept(other), kept], 2)
    assert await studio.rows.change(ann, item.id, lambda before: before) == kept


async def test_filters_and_words_narrow_the_list(studio: Studio) -> None:
    ann = await studio.sales.user()
    juno = await studio.added(ann, name="Juno", brand="Roland", category="Synth", serial_number="SN-47_11")
    mic = await studio.added(ann, name="Mikrofón", brand="Neumann", category="Mics", status=GearStatus.SOLD)
    case = await studio.added(ann, name="100% case", category="SYNTH")

    async def listed(
        search: str | None = None, category: str | None = None, status: GearStatus | None = None
    ) -> list[Gear]:
        found, total = await studio.rows.page(ann, GearListing(status, category, search), limit=9)
        assert total == len(found)
        return [kept.item for kept in found]

    assert await listed() == [case, mic, juno]
    assert await listed(status=GearStatus.SOLD) == [mic]
    assert await listed(category="synth") == [case, juno]
    assert await listed(category="syn") == []
    assert await listed(search="mikrofon NEU") == [mic]
    assert await listed(search="47") == [juno]
    assert await listed(search="rol jun") == [juno]
    assert await listed(search="oland") == []
    assert await listed(search="100 _ %") == [case]
    assert await listed(search="%") == []
    assert await listed(search="juno", category="synth", status=GearStatus.ACTIVE) == [juno]
    assert await studio.rows.page(ann, GearListing(), limit=1, offset=1) == ([Kept(mic)], 3)


async def test_a_changed_item_is_found_by_what_it_is_now(studio: Studio) -> None:
    ann = await studio.sales.user()
    item = await studio.added(ann, category="Synth")
    changed = (await studio.rows.change(ann, item.id, lambda i: replace(i, name="Jupiter", category="Keys"))).item
    assert await studio.rows.get(ann, item.id) == Kept(changed)
    assert await studio.rows.page(ann, GearListing(search="jup", category="keys"), limit=9) == ([Kept(changed)], 1)
    assert await studio.rows.page(ann, GearListing(search="juno"), limit=9) == ([], 0)


async def test_a_refusal_changes_nothing(studio: Studio) -> None:
    ann = await studio.sales.user()
    item = await studio.added(ann)

    def refuse(_: Gear) -> Gear:
        raise Invalid("no")

    with pytest.raises(Invalid):
        await studio.rows.change(ann, item.id, refuse)
    assert await studio.rows.get(ann, item.id) == Kept(item)


async def test_nothing_is_done_to_anothers_item(studio: Studio) -> None:
    ann, bob = await studio.sales.user(), await studio.sales.user()
    item = await studio.added(ann)
    document, repair = studio.document(item), studio.repair(item)
    await studio.rows.add_document(ann, document)
    await studio.rows.add_repair(ann, repair)
    rows = studio.rows
    tries: list[Callable[[], Awaitable[object]]] = [
        lambda: rows.change(bob, item.id, lambda i: replace(i, name="Mine")),
        lambda: rows.remove(bob, item.id),
        lambda: rows.documents(bob, item.id),
        lambda: rows.document(bob, item.id, document.id),
        lambda: rows.add_document(bob, studio.document(item)),
        lambda: rows.remove_document(bob, item.id, document.id),
        lambda: rows.repairs(bob, item.id, limit=9),
        lambda: rows.add_repair(bob, studio.repair(item)),
        lambda: rows.remove_repair(bob, item.id, repair.id),
    ]
    for attempt in tries:
        with pytest.raises(NotFound):
            await attempt()
    assert await rows.get(ann, item.id) == Kept(item, 1, 1, (Total("EUR", 8500),))


async def test_what_belongs_to_another_item_of_ones_own_is_not_found_under_this_one(studio: Studio) -> None:
    ann = await studio.sales.user()
    item, other = await studio.added(ann), await studio.added(ann)
    document, repair = studio.document(item), studio.repair(item)
    await studio.rows.add_document(ann, document)
    await studio.rows.add_repair(ann, repair)
    with pytest.raises(NotFound):
        await studio.rows.document(ann, other.id, document.id)
    with pytest.raises(NotFound):
        await studio.rows.remove_document(ann, other.id, document.id)
    with pytest.raises(NotFound):
        await studio.rows.remove_repair(ann, other.id, repair.id)
    await studio.rows.remove_document(ann, item.id, document.id)
    await studio.rows.remove_repair(ann, item.id, repair.id)
    assert await studio.rows.get(ann, item.id) == Kept(item)


async def test_deleting_an_item_takes_its_documents_and_repairs_along(studio: Studio) -> None:
    ann = await studio.sales.user()
    item, other = await studio.added(ann), await studio.added(ann)
    for each in (item, other):
        await studio.rows.add_document(ann, studio.document(each))
        await studio.rows.add_repair(ann, studio.repair(each))
    await studio.rows.remove(ann, item.id)
    with pytest.raises(NotFound):
        await studio.rows.remove(ann, item.id)
    assert [await studio.count(table) for table in ("gear", "gear_documents", "gear_repairs")] == [1, 1, 1]


async def test_repairs_come_by_their_day_the_latest_first(studio: Studio) -> None:
    ann = await studio.sales.user()
    item = await studio.added(ann)
    second, third, first, third_too = [studio.repair(item, day) for day in (2, 3, 1, 3)]
    for repair in (second, third, first, third_too):
        await studio.rows.add_repair(ann, repair)
    kept = Kept(item, 0, 4, (Total("EUR", 34000),))
    assert await studio.rows.repairs(ann, item.id, limit=9) == ([third_too, third, second, first], kept)
    assert await studio.rows.repairs(ann, item.id, limit=2, offset=1) == ([third, second], kept)


async def test_of_many_that_come_at_once_no_more_are_written_than_there_is_room_for(studio: Studio) -> None:
    ann, bob = await studio.sales.user(), await studio.sales.user()
    item = await studio.added(ann)
    refused: list[str] = []

    async def attempt(write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
        except Conflict as conflict:
            refused.append(conflict.code)

    async def fill(table: str, columns: str, values: str, many: int, parent: UUID) -> None:
        async with studio.db.transaction() as tx:
            await tx.execute(
                f"INSERT INTO {table} (id, created_at, {columns})"  # noqa: S608 - the test's own words
                f" SELECT gen_random_uuid(), now(), {values} FROM generate_series(1, $2::int)",
                parent,
                many,
            )

    await fill("gear", "owner_id, name, status, words, updated_at", "$1, 'x', 'active', '', now()", MAX_GEAR - 3, ann)
    columns = "gear_id, type, object_key, filename, content_type, size_bytes"
    await fill("gear_documents", columns, "$1, 'other', '', 'x', 'x', 1", MAX_DOCUMENTS - 2, item.id)
    await fill("gear_repairs", "gear_id, repair_date, description", "$1, now(), 'x'", MAX_REPAIRS - 2, item.id)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(attempt, lambda: studio.rows.add(studio.new(ann)))
                nursery.start_soon(attempt, lambda: studio.rows.add_document(ann, studio.document(item)))
                nursery.start_soon(attempt, lambda: studio.rows.add_repair(ann, studio.repair(item)))
    assert sorted(refused) == ["too_many_documents"] * 4 + ["too_many_repairs"] * 4 + ["too_much_gear"] * 4
    assert [await studio.count(table) for table in ("gear", "gear_documents", "gear_repairs")] == [1000, 50, 500]
    await studio.added(bob)
