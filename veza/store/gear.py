"""Gear as rows, with its documents and repairs. Everything is asked for by its owner: another's is not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from uuid import UUID

from veza.domain.catalog import words_of
from veza.domain.documents import Document, DocumentType, check_new_document, no_document
from veza.domain.errors import NotFound
from veza.domain.gear import (
    Gear,
    GearListing,
    GearStatus,
    Kept,
    Repair,
    Total,
    check_new_repair,
    check_room,
    fold_category,
    no_gear,
    words_of_gear,
)
from veza.store.bridge import Database, Queries, Record

COLUMNS: Final = """
id, owner_id, name, category, brand, model, serial_number, purchase_date, purchase_price_cents, currency,
warranty_expires_on, status, notes, created_at, updated_at
"""
ONE: Final = f"SELECT {COLUMNS} FROM gear WHERE id = $1 AND owner_id = $2"

INSERT: Final = f"""
INSERT INTO gear ({COLUMNS}, category_key, words)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""
UPDATE: Final = """
UPDATE gear SET name = $3, category = $4, brand = $5, model = $6, serial_number = $7, purchase_date = $8,
                purchase_price_cents = $9, currency = $10, warranty_expires_on = $11, status = $12, notes = $13,
                created_at = $14, updated_at = $15, category_key = $16, words = $17
WHERE id = $1 AND owner_id = $2
"""

COUNT_DOCUMENTS: Final = (
    "SELECT gear_id, count(*) AS documents FROM gear_documents WHERE gear_id = ANY($1::uuid[]) GROUP BY gear_id"
)
# The costs by currency, and among them a row without one for what nobody knows the cost of.
SUM_REPAIRS: Final = """
SELECT gear_id, currency, count(*) AS repairs, coalesce(sum(cost_cents), 0)::bigint AS cents
FROM gear_repairs WHERE gear_id = ANY($1::uuid[]) GROUP BY gear_id, currency ORDER BY currency
"""

DOCUMENT: Final = "SELECT id, gear_id, type, object_key, filename, content_type, size_bytes, created_at"
DOCUMENTS: Final = f"{DOCUMENT} FROM gear_documents WHERE gear_id = $1 ORDER BY id DESC"
ONE_DOCUMENT: Final = f"{DOCUMENT} FROM gear_documents WHERE id = $1 AND gear_id = $2"
INSERT_DOCUMENT: Final = """
INSERT INTO gear_documents (id, gear_id, type, object_key, filename, content_type, size_bytes, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

REPAIRS: Final = """
SELECT id, gear_id, repair_date, description, cost_cents, currency, provider, created_at
FROM gear_repairs WHERE gear_id = $1 ORDER BY repair_date DESC, id DESC LIMIT $2 OFFSET $3
"""
INSERT_REPAIR: Final = """
INSERT INTO gear_repairs (id, gear_id, repair_date, description, cost_cents, currency, provider, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


class GearRows:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- items --------------------------------------------------------------------------------------------------------

    async def get(self, owner_id: UUID, gear_id: UUID) -> Kept:
        """The item, with what is kept about it. Raises NotFound."""
        async with self._db.snapshot() as moment:
            [found] = await _with_counts(moment, [await _one(moment, owner_id, gear_id)])
        return found

    async def page(
        self, owner_id: UUID, listing: GearListing, *, limit: int, offset: int = 0
    ) -> tuple[list[Kept], int]:
        """A part of somebody's gear, the newest first, and how much there is."""
        conditions, args = ["owner_id = $1"], [owner_id, *(arg for _, arg in _filters(listing))]
        conditions += [condition.format(f"${place}") for place, (condition, _) in enumerate(_filters(listing), 2)]
        source = f"FROM gear WHERE {' AND '.join(conditions)}"
        order = f"ORDER BY id DESC LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}"  # ids grow with time
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(f"SELECT {COLUMNS} {source} {order}", *args, limit, offset)
            total: int = await moment.fetchval(f"SELECT count(*) {source}", *args)
            return await _with_counts(moment, list(map(_gear, rows))), total

    async def add(self, item: Gear) -> None:
        """Write a new item. Raises Conflict if its owner has as many as one may have."""
        async with self._db.transaction() as tx:
            # One at a time adds to somebody's gear. What only refers to the user does not wait.
            await tx.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", item.owner_id)
            check_room(await tx.fetchval("SELECT count(*) FROM gear WHERE owner_id = $1", item.owner_id))
            await tx.execute(INSERT, *_values(item))

    async def change(self, owner_id: UUID, gear_id: UUID, decide: Callable[[Gear], Gear]) -> Kept:
        """Write what ``decide`` makes of the item, and return that. Raises NotFound, and what ``decide`` raises."""
        async with self._db.transaction() as tx:
            before = await _one(tx, owner_id, gear_id, lock=True)
            after = decide(before)
            if after != before:
                await tx.execute(UPDATE, *_values(after))
            [found] = await _with_counts(tx, [after])
        return found

    async def remove(self, owner_id: UUID, gear_id: UUID) -> None:
        """Delete the item with its documents and repairs. Raises NotFound."""
        async with self._db.transaction() as tx:
            if await tx.execute("DELETE FROM gear WHERE id = $1 AND owner_id = $2", gear_id, owner_id) == "DELETE 0":
                raise no_gear()

    # -- documents ----------------------------------------------------------------------------------------------------

    async def documents(self, owner_id: UUID, gear_id: UUID) -> list[Document]:
        """All documents of an item, the newest first. Raises NotFound."""
        async with self._db.snapshot() as moment:
            await _one(moment, owner_id, gear_id)
            return list(map(_document, await moment.fetch(DOCUMENTS, gear_id)))

    async def document(self, owner_id: UUID, gear_id: UUID, document_id: UUID) -> Document:
        """One document. Raises NotFound."""
        async with self._db.snapshot() as moment:
            await _one(moment, owner_id, gear_id)
            row = await moment.fetchrow(ONE_DOCUMENT, document_id, gear_id)
        if row is None:
            raise no_document()
        return _document(row)

    async def add_document(self, owner_id: UUID, document: Document) -> None:
        """Write a new document. Raises NotFound, and Conflict if its item has as many as it can have."""
        d = document
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, d.gear_id, lock=True)
            check_new_document(await tx.fetchval("SELECT count(*) FROM gear_documents WHERE gear_id = $1", d.gear_id))
            kind, about = d.type.value, (d.object_key, d.filename, d.content_type, d.size_bytes)
            await tx.execute(INSERT_DOCUMENT, d.id, d.gear_id, kind, *about, d.created_at)

    async def remove_document(self, owner_id: UUID, gear_id: UUID, document_id: UUID) -> None:
        """Delete a document. Raises NotFound."""
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, gear_id, lock=True)
            gone = "DELETE FROM gear_documents WHERE id = $1 AND gear_id = $2"
            if await tx.execute(gone, document_id, gear_id) == "DELETE 0":
                raise no_document()

    # -- repairs ------------------------------------------------------------------------------------------------------

    async def repairs(self, owner_id: UUID, gear_id: UUID, *, limit: int, offset: int = 0) -> tuple[list[Repair], Kept]:
        """A part of an item's repairs, the latest first, and the item, which tells of all of them. Raises NotFound."""
        async with self._db.snapshot() as moment:
            [kept] = await _with_counts(moment, [await _one(moment, owner_id, gear_id)])
            rows = await moment.fetch(REPAIRS, gear_id, limit, offset)
        return [Repair(**dict(row)) for row in rows], kept

    async def add_repair(self, owner_id: UUID, repair: Repair) -> None:
        """Write a new repair. Raises NotFound, and Conflict if its item has as many as it can have."""
        r = repair
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, r.gear_id, lock=True)
            check_new_repair(await tx.fetchval("SELECT count(*) FROM gear_repairs WHERE gear_id = $1", r.gear_id))
            about = (r.repair_date, r.description, r.cost_cents, r.currency, r.provider)
            await tx.execute(INSERT_REPAIR, r.id, r.gear_id, *about, r.created_at)

    async def remove_repair(self, owner_id: UUID, gear_id: UUID, repair_id: UUID) -> None:
        """Delete a repair. Raises NotFound."""
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, gear_id, lock=True)
            gone = "DELETE FROM gear_repairs WHERE id = $1 AND gear_id = $2"
            if await tx.execute(gone, repair_id, gear_id) == "DELETE 0":
                raise NotFound("There is no such repair.")


def _filters(listing: GearListing) -> Iterator[tuple[str, object]]:
    """Each condition, with a place for its argument."""
    if listing.status is not None:
        yield "status = {}", listing.status.value
    if listing.category is not None:
        yield "category_key = {}", fold_category(listing.category)
    if listing.search is not None:
        # Each word begins one of the item's. They hold letters and digits alone, so nothing that LIKE would heed.
        yield "words LIKE ALL({}::text[])", [f"% {word}%" for word in words_of(listing.search)] or [""]


async def _one(queries: Queries, owner_id: UUID, gear_id: UUID, *, lock: bool = False) -> Gear:
    row = await queries.fetchrow(f"{ONE} FOR UPDATE" if lock else ONE, gear_id, owner_id)
    if row is None:
        raise no_gear()
    return _gear(row)


async def _with_counts(queries: Queries, items: Sequence[Gear]) -> list[Kept]:
    ids = [item.id for item in items]
    documents = {row["gear_id"]: row["documents"] for row in await queries.fetch(COUNT_DOCUMENTS, ids)}
    repairs, totals = defaultdict[UUID, int](int), defaultdict[UUID, list[Total]](list)
    for row in await queries.fetch(SUM_REPAIRS, ids):
        repairs[row["gear_id"]] += row["repairs"]
        if row["currency"] is not None:
            totals[row["gear_id"]].append(Total(row["currency"], row["cents"]))
    return [Kept(each, documents.get(each.id, 0), repairs[each.id], tuple(totals[each.id])) for each in items]


# -- rows -------------------------------------------------------------------------------------------------------------


def _values(item: Gear) -> tuple[object, ...]:
    """The columns' values, in COLUMNS' order, and those that only serve to find it."""
    values = vars(item) | {"status": item.status.value}
    return *values.values(), fold_category(item.category), f" {' '.join(words_of_gear(item))}"


def _gear(row: Record) -> Gear:
    values = dict(row)
    return Gear(status=GearStatus(values.pop("status")), **values)


def _document(row: Record) -> Document:
    values = dict(row)
    return Document(type=DocumentType(values.pop("type")), **values)
