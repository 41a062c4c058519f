"""What no row names is noted and removed a grace later; what is named anywhere never is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
import pytest

from tests.sales import Sales
from veza.domain.guesses import REMEMBERED
from veza.store.bridge import Database
from veza.store.orphans import NAMED, Orphans

NOW: Final = timedelta()
KEYS: Final = [f"{number:064x}" for number in range(20)]

NAMING: Final = {
    "product_files.object_key": """
        INSERT INTO product_files (id, product_id, object_key, filename, content_type, size_bytes)
        VALUES (gen_random_uuid(), $2, $1, 'a', 'a/b', 1)""",
    "products.cover_key": "UPDATE products SET cover_key = $1, cover_type = 'image/png' WHERE id = $2",
    "products.preview_key": "UPDATE products SET preview_key = $1, preview_type = 'audio/mpeg' WHERE id = $2",
    "gear_documents.object_key": """
        INSERT INTO gear_documents (id, gear_id, type, object_key, filename, content_type, size_bytes, created_at)
        VALUES (gen_random_uuid(), $2, 'manual', $1, 'a', 'a/b', 1, now())""",
    "cloud_files.object_key": "UPDATE cloud_files SET object_key = $1 WHERE id = $2",
    "cloud_versions.object_key": """
        INSERT INTO cloud_versions (id, file_id, version, object_key, size_bytes, content_type, created_at)
        VALUES (gen_random_uuid(), $2, 1, $1, 1, 'a/b', now())""",
    "exports.object_key": """
        UPDATE exports SET status = 'ready', due_at = NULL, object_key = $1, finished_at = now(), expires_at = now()
        WHERE id = $2""",
}
"""A way to name a key in each column that holds keys."""

OWNED: Final = {
    "products": "INSERT INTO products (id, seller_id, title, product_type, price_cents, currency)"
    " VALUES ($1, $2, 'a', 'track', 1, 'EUR')",
    "gear": "INSERT INTO gear (id, owner_id, name, status, words, created_at, updated_at)"
    " VALUES ($1, $2, 'a', 'active', '', now(), now())",
    "cloud": "INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type,"
    " created_at, updated_at) VALUES ($1, $2, 'a', '', 1, repeat('f', 64), 1, 'a/b', now(), now())",
    "exports": "INSERT INTO exports (id, user_id, created_at) VALUES ($1, $2, now())",
}
"""What a row that names a key belongs to."""


@dataclass
class Stage:
    db: Database
    sales: Sales
    orphans: Orphans

    async def run(self, statement: str, *values: object) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(statement, *values)

    async def something_of(self, owner: UUID, column: str) -> UUID:
        """The id of what a key is to be named for."""
        kind = next(kind for name, kind in KINDS.items() if column.startswith(name))
        made = self.sales.new_id()
        await self.run(OWNED[kind], made, owner)
        return made


KINDS: Final = {"product": "products", "gear": "gear", "cloud": "cloud", "exports": "exports"}


@pytest.fixture
def stage(db: Database) -> Stage:
    return Stage(db, Sales(db), Orphans(db))


async def test_what_no_row_names_is_noted_once_and_due_after_the_grace(stage: Stage) -> None:
    assert await stage.orphans.note(KEYS[:3]) == 3
    assert await stage.orphans.note(KEYS[:4]) == 1
    assert await stage.orphans.due(timedelta(hours=1), 10) == []
    await stage.run("UPDATE orphans SET since = since - interval '1 hour' WHERE object_key <> $1", KEYS[1])
    assert await stage.orphans.due(timedelta(hours=1), 10) == [KEYS[0], KEYS[2], KEYS[3]]


async def test_what_is_due_is_told_a_part_at_a_time_and_forgotten_once_it_is_gone(stage: Stage) -> None:
    await stage.orphans.note(KEYS)
    assert await stage.orphans.due(NOW, 8) == KEYS[:8]
    assert await stage.orphans.due(NOW, 8, KEYS[7]) == KEYS[8:16]
    await stage.orphans.forget(KEYS[:16])
    assert await stage.orphans.due(NOW, 8) == KEYS[16:]


@pytest.mark.parametrize("column", sorted(NAMING))
async def test_what_a_row_names_is_no_orphan_and_is_one_again_when_none_does(stage: Stage, column: str) -> None:
    ann = await stage.sales.user()
    thing = await stage.something_of(ann, column)
    await stage.orphans.note(KEYS[:2])
    assert not await stage.orphans.is_named(KEYS[0])
    await stage.run(NAMING[column], KEYS[0], thing)
    assert await stage.orphans.is_named(KEYS[0])
    assert await stage.orphans.due(NOW, 10) == [KEYS[1]]  # noted before, named since
    await stage.orphans.note(KEYS[:2])
    assert await stage.orphans.due(NOW, 10) == [KEYS[1]]
    await stage.run(f"DELETE FROM {column.partition('.')[0]}")  # noqa: S608 - one of the names above
    assert not await stage.orphans.is_named(KEYS[0])
    assert await stage.orphans.note(KEYS[:2]) == 1
    assert await stage.orphans.due(NOW, 10) == KEYS[:2]


async def test_every_column_that_holds_keys_is_looked_at(db: Database) -> None:
    rows = await db.fetch(
        "SELECT c.table_name || '.' || c.column_name AS name FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.table_name <> 'orphans'"
        " AND c.column_name IN ('object_key', 'cover_key', 'preview_key')"
    )
    assert {row["name"] for row in rows} == NAMING.keys()
    used = await db.fetch(
        "SELECT table_name || '.' || column_name AS name FROM information_schema.view_column_usage"
        " WHERE view_name = 'object_references' AND column_name LIKE '%\\_key'"
    )
    assert {row["name"] for row in used} == NAMING.keys()


async def test_a_look_for_what_is_named_goes_by_indexes(db: Database) -> None:
    """However many files there are: a page of the store is a thousand looks."""
    async with db.transaction() as tx:
        await tx.execute("SET LOCAL enable_seqscan = off")
        plan = await tx.fetch(
            "EXPLAIN SELECT key FROM unnest($1::text[]) AS key"
            " WHERE NOT EXISTS (SELECT FROM object_references r WHERE r.object_key = key)",
            KEYS,
        )
    assert not [row[0] for row in plan if "Seq Scan" in row[0]]


async def test_rows_that_are_over_are_deleted_and_others_stay(stage: Stage) -> None:
    ann = await stage.sales.user()
    file = await stage.something_of(ann, "cloud_files.object_key")
    for number, left in enumerate((timedelta(hours=1), timedelta(seconds=-1), timedelta(days=-1))):
        await stage.run(
            "INSERT INTO cloud_shares (id, file_id, token_hash, expires_at, created_at)"
            " VALUES (gen_random_uuid(), $1, decode($2, 'hex'), now() + $3::interval, now())",
            file,
            f"0{number}",
            left,
        )
        await stage.run(
            "INSERT INTO idempotency_keys (user_id, route, key, body_sha256, resource_id, created_at)"
            " VALUES ($1, 'a', $2, '', gen_random_uuid(), now() - interval '24 hours' + $3::interval)",
            ann,
            str(number),
            left,
        )
        await stage.run(
            "INSERT INTO sessions (id, user_id, refresh_id, created_at, last_used_at, rotated_at, expires_at)"
            " VALUES (gen_random_uuid(), $1, gen_random_uuid(), now(), now(), now(), now() + $2::interval)",
            ann,
            left - REMEMBERED,
        )
    assert await stage.orphans.prune(1) == 3
    assert await stage.orphans.prune(10) == 3
    assert await stage.orphans.prune(10) == 0
    assert await stage.db.fetchval("SELECT count(*) FROM cloud_shares") == 1
    assert await stage.db.fetchval("SELECT key FROM idempotency_keys") == "0"
    assert (
        await stage.db.fetchval("SELECT count(*) FROM sessions WHERE expires_at > now() - $1::interval", REMEMBERED)
        == 1
    )
    assert await stage.db.fetchval("SELECT count(*) FROM sessions") == 1


def test_whether_an_object_is_named_is_looked_up_and_not_searched_for(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET enable_seqscan = off")  # where there is any other way, it is taken
        question = "SELECT " + NAMED.format(key=f"'{KEYS[0]}'")
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {question}".encode()))
    assert "Seq Scan" not in plan, plan
