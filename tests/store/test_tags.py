"""Tags in use: however products and streams change at once, their counts are those of a recount."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from uuid import UUID

import psycopg
import pytest
import trio

from tests.conftest import Server
from tests.people import until_blocked
from tests.sales import Sales
from veza.domain.catalog import fold_tag
from veza.store import tags as module
from veza.store.bridge import Database
from veza.store.migrate import MIGRATIONS, migrate
from veza.store.tags import Tags

RECOUNT = """
SELECT tag, count(*) AS uses FROM (
    SELECT DISTINCT id, unnest(tags) AS tag FROM products WHERE status = 'published'
    UNION ALL SELECT DISTINCT id, unnest(tags) FROM streams WHERE title <> ''
) AS used GROUP BY tag
"""
INSERT_PRODUCT = """
INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status, tags)
VALUES ($1, $2, 'A track', 'track', 0, 'EUR', $3, $4)
"""
INSERT_STREAM = """
INSERT INTO streams (id, owner_id, title, description, tags, created_at, updated_at)
VALUES ($1, $2, $3, '', $4, now(), now())
"""


async def run(db: Database, sql: str, *args: object) -> None:
    async with db.transaction() as tx:
        await tx.execute(sql, *args)


async def product(db: Database, sales: Sales, *tags: str, status: str = "published") -> UUID:
    product_id = sales.new_id()
    await run(db, INSERT_PRODUCT, product_id, await sales.user(), status, list(tags))
    return product_id


async def stream(db: Database, sales: Sales, title: str, *tags: str) -> UUID:
    stream_id = sales.new_id()
    await run(db, INSERT_STREAM, stream_id, await sales.user(), title, list(tags))
    return stream_id


async def counted(db: Database) -> dict[str, int]:
    return {row["tag"]: row["uses"] for row in await db.fetch("SELECT tag, uses FROM tags")}


async def recounted(db: Database) -> dict[str, int]:
    return {row["tag"]: row["uses"] for row in await db.fetch(RECOUNT)}


# -- counting ----------------------------------------------------------------------------------------------------------


async def test_what_is_published_counts_and_what_is_not_does_not(db: Database) -> None:
    sales = Sales(db)
    track = await product(db, sales, "house", "deep", status="draft")
    assert await counted(db) == {}
    await run(db, "UPDATE products SET status = 'published' WHERE id = $1", track)
    await product(db, sales, "house")
    assert await counted(db) == {"house": 2, "deep": 1}
    await run(db, "UPDATE products SET tags = '{dub,house,dub}', sold_count = 7 WHERE id = $1", track)
    assert await counted(db) == {"house": 2, "dub": 1}
    await run(db, "UPDATE products SET status = 'archived' WHERE id = $1", track)
    assert await counted(db) == {"house": 1}
    await run(db, "DELETE FROM products")
    assert await counted(db) == {}


async def test_streams_with_a_title_count_as_well(db: Database) -> None:
    sales = Sales(db)
    draft = await stream(db, sales, "", "house")
    show = await stream(db, sales, "Sunday", "house", "live")
    await product(db, sales, "house")
    assert await counted(db) == {"house": 2, "live": 1}
    await run(db, "UPDATE streams SET title = 'Monday', tags = '{dub}' WHERE id = $1", draft)
    assert await counted(db) == {"house": 2, "live": 1, "dub": 1}
    await run(db, "DELETE FROM streams WHERE id = $1", show)
    assert await counted(db) == {"house": 1, "dub": 1}
    await run(db, "DELETE FROM users WHERE id = (SELECT owner_id FROM streams)")  # and the stream with them
    assert await counted(db) == {"house": 1}


async def test_what_rolls_back_counts_nothing(db: Database) -> None:
    sales = Sales(db)
    seller = await sales.user()
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.execute(INSERT_PRODUCT, sales.new_id(), seller, "published", ["house"])
            raise ZeroDivisionError
    assert await counted(db) == {}


async def test_the_counts_are_those_of_a_recount_however_many_change_at_once(db: Database) -> None:
    sales, chance = Sales(db), Random(11)
    words = [f"tag{n}" for n in range(12)]  # few, so that all want the same ones
    products = [await product(db, sales, status="draft") for _ in range(8)]
    streams = [await stream(db, sales, "") for _ in range(4)]

    def some() -> list[str]:
        return chance.sample(words, chance.randint(0, 6))  # in any order

    async def change_products(mine: Sequence[UUID]) -> None:
        for _ in range(25):
            status = chance.choice(["draft", "published", "published", "archived"])
            sql = "UPDATE products SET status = $2, tags = $3 WHERE id = $1"
            await run(db, sql, chance.choice(mine), status, some())

    async def change_streams(mine: Sequence[UUID]) -> None:
        for _ in range(25):
            sql = "UPDATE streams SET title = $2, tags = $3 WHERE id = $1"
            await run(db, sql, chance.choice(mine), chance.choice(["", "On"]), some())

    async def come_and_go() -> None:
        for _ in range(15):
            passing = [await product(db, sales, *some()) for _ in range(2)]
            await run(db, "DELETE FROM products WHERE id = ANY($1::uuid[])", passing)  # many rows, one statement

    with trio.fail_after(30):  # a deadlock would be TryAgain, and fail the test
        async with trio.open_nursery() as nursery:
            for mine in (products[:4], products[4:], products[2:6]):
                nursery.start_soon(change_products, mine)
            for some_streams in (streams[:2], streams[2:]):
                nursery.start_soon(change_streams, some_streams)
            for _ in range(2):
                nursery.start_soon(come_and_go)
    assert await counted(db) == await recounted(db)
    assert await counted(db)  # there is something to be wrong about


async def test_who_waits_for_a_tag_that_goes_out_of_use_brings_it_back(db: Database) -> None:
    sales = Sales(db)
    only = await product(db, sales, "house")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, db.transaction() as tx:
            await tx.execute("DELETE FROM products WHERE id = $1", only)
            nursery.start_soon(product, db, sales, "house")
            await until_blocked(db)
    assert await counted(db) == {"house": 1}


@pytest.fixture
def empty(postgres: Server) -> Iterator[str]:
    name = postgres.create(template="template1")
    yield postgres.named(name)
    postgres.drop(name)


def test_what_was_there_before_is_counted(empty: str, tmp_path: Path) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        if path.name < "0018":
            shutil.copy(path, tmp_path)
    migrate(empty, tmp_path)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (id, username, email, password_hash) VALUES (gen_random_uuid(), 'a', '', '')"
        )
        connection.execute(
            "INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status, tags)"
            " SELECT gen_random_uuid(), id, 't', 'track', 0, 'EUR', status, '{house,café}'"
            " FROM users, unnest(ARRAY['draft', 'published', 'published', 'archived']) AS status"
        )
        connection.execute(
            "INSERT INTO streams (id, owner_id, title, description, tags, created_at, updated_at)"
            " SELECT gen_random_uuid(), id, title, '', '{house,live}', now(), now()"
            " FROM users, unnest(ARRAY['', 'Sunday']) AS title"
        )
        migrate(empty)
        found = connection.execute("SELECT tag, key, uses FROM tags ORDER BY tag").fetchall()
    assert found == [("café", "cafe", 2), ("house", "house", 3), ("live", "live", 1)]


# -- finding -----------------------------------------------------------------------------------------------------------


async def suggest(db: Database, beginning: str, limit: int = 10) -> list[str]:
    return await Tags(db).suggest(beginning, limit=limit)


async def test_the_most_used_come_first_then_the_alphabet(db: Database) -> None:
    sales = Sales(db)
    await product(db, sales, "hipster", "hip-hop", "hiphop", "ship", "house")
    await stream(db, sales, "On", "hip-hop")
    assert await suggest(db, "hip") == ["hip-hop", "hiphop", "hipster"]
    assert await suggest(db, "h") == ["hip-hop", "hiphop", "hipster", "house"]
    assert await suggest(db, "h", 2) == ["hip-hop", "hiphop"]
    assert await suggest(db, "hip-") == ["hip-hop"]
    assert await suggest(db, "hipsters") == []
    assert await suggest(db, "%") == await suggest(db, "h_") == await suggest(db, "\\") == []


async def test_accents_are_nothing_to_go_by_on_either_side(db: Database) -> None:
    sales = Sales(db)
    await product(
        db, sales, *map(fold_tag, ("Électro", "Elegie", "ŁÓDŹ techno", "Straße", "œuvre", "cafe\u0301 del mar"))
    )
    for beginning in ("ele", "éle", "E\u0301LE"):
        assert await suggest(db, fold_tag(beginning)) == ["électro", "elegie"]
    assert await suggest(db, fold_tag("Lódz T")) == ["łódź techno"]
    assert await suggest(db, fold_tag("STRASSE")) == ["strasse"]
    assert await suggest(db, "oeuv") == await suggest(db, "œ") == ["œuvre"]
    assert await suggest(db, "café d") == ["cafe\u0301 del mar"]


@pytest.mark.parametrize("marks", ["\u0301", "\u0301\u0301", "\u0301\u0308\u0303"])
async def test_accents_alone_begin_no_tag(db: Database, marks: str) -> None:
    await product(db, Sales(db), "dub", "café")
    assert await Tags(db).suggest(marks, limit=10) == []


async def test_other_scripts_are_found_by_their_letters(db: Database) -> None:
    sales = Sales(db)
    await product(db, sales, "клип", "アニメ", "힙합", "🎹 keys")
    for beginning in ("к", "кли", "клип"):
        assert await suggest(db, beginning) == ["клип"]
    assert await suggest(db, "アニ") == ["アニメ"]
    for beginning in ("히", "힙", "힙하"):  # syllables that are still being typed
        assert await suggest(db, beginning) == ["힙합"]
    assert await suggest(db, "🎹") == ["🎹 keys"]
    assert await suggest(db, "\u0301") == []


@pytest.mark.parametrize("gathered", [300, 3])
async def test_whatever_is_asked_for_the_answer_is_what_sorting_all_gives(
    db: Database, monkeypatch: pytest.MonkeyPatch, gathered: int
) -> None:
    """With few that are gathered, most of what is asked for is walked to."""
    monkeypatch.setattr(module, "GATHERED", gathered)
    monkeypatch.setattr(module, "GATHER", module.GATHER.replace("LIMIT 300 + 1", f"LIMIT {gathered} + 1"))
    sales, chance = Sales(db), Random(5)
    names = sorted({"".join(chance.choices("abé", k=chance.randint(1, 7))) for _ in range(300)})
    for _ in range(40):
        await product(db, sales, *chance.sample(names, 20))
    uses = await counted(db)

    def key(tag: str) -> str:
        return tag.replace("é", "e")

    for _ in range(150):
        beginning, limit = "".join(chance.choices("abé", k=chance.randint(1, 6))), chance.randint(1, 50)
        fitting = sorted((t for t in uses if key(t).startswith(key(beginning))), key=lambda t: (-uses[t], key(t), t))
        assert await suggest(db, beginning, limit) == fitting[:limit]


async def test_no_letter_is_folded_into_another_by_the_servers_locale(db: Database) -> None:
    """What has no marks and is no other form of something stays what it is; ASCII is never made longer or shorter."""
    plain = [chr(n) for n in range(0x21, 0x3000) if chr(n).islower() or chr(n).isdecimal() or n < 0x7F]
    plain = [c for c in plain if unicodedata.normalize("NFKD", c) == c == c.casefold() and c not in "đøłıæœ"]
    rows = await db.fetch("SELECT c, tag_key(c) AS key FROM unnest($1::text[]) AS c", plain)
    assert [row["c"] for row in rows if row["key"] != row["c"]] == []


async def test_a_tag_that_comes_apart_into_much_still_fits_its_indexes(db: Database) -> None:
    widest = "\ufdfa" * 40  # one letter that stands for a sentence of eighteen
    await product(db, Sales(db), widest)
    assert await suggest(db, "\ufdfa") == [widest]
