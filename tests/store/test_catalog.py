"""The catalog over real PostgreSQL: what is found, how little is read for it, and what races come to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio

from tests.conftest import Server
from veza.domain.accounts import Role, User
from veza.domain.catalog import (
    MAX_FILES,
    Changes,
    Listing,
    Page,
    Product,
    ProductFile,
    ProductStatus,
    ProductType,
    Sort,
    change,
    check_owner,
    offer,
)
from veza.domain.errors import Conflict, Forbidden, NotFound
from veza.domain.ids import IdMint
from veza.store.bridge import Database, Record
from veza.store.catalog import COUNT_LIMIT, Catalog, gather_query, walk_query
from veza.store.numbers import take_invoice_number

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
DRAFT, PUBLISHED, ARCHIVED = ProductStatus

mint = IdMint(lambda: NOON, Random(11))


def anyone(product: Product) -> None:
    """Allows everything."""


@dataclass
class Shop:
    """A catalog with one seller, whose products are a minute apart in age."""

    db: Database
    catalog: Catalog
    seller: User
    minutes: int = 0

    async def put(self, status: ProductStatus = PUBLISHED, seller: User | None = None, **fields: Any) -> Product:
        self.minutes += 1
        made = offer(
            seller or self.seller,
            Changes(**{"title": "Untitled", **fields}),
            id=mint(),
            currency="EUR",
            now=NOON + timedelta(minutes=self.minutes),
        )
        await self.catalog.add(replace(made, status=status))
        return replace(made, status=status)

    async def file(self, product: Product, name: str = "track.wav") -> ProductFile:
        file = ProductFile(mint(), product.id, "ab" * 32, name, "audio/wav", 7, NOON)
        await self.catalog.add_file(file, anyone)
        return file

    async def user(self, name: str) -> User:
        user = User(mint(), name, f"{name}@veza.example", Role.USER, NOON, NOON)
        async with self.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO users (id, username, email, password_hash) VALUES ($1, $2, $3, '')",
                user.id,
                name,
                user.email,
            )
        return user

    async def order(self, product: Product, status: str, buyer: User | None = None) -> None:
        order_id, is_paid = mint(), status in ("paid", "refunded")
        async with self.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO orders (id, buyer_id, status, currency, total_cents, paid_at, expires_at, invoice_number)"
                " VALUES ($1, $2, $3, 'EUR', 0, $4, now(), $5)",
                order_id,
                (buyer or self.seller).id,
                status,
                NOON if is_paid else None,
                await take_invoice_number(tx) if is_paid else None,
            )
            await tx.execute(
                "INSERT INTO order_items (id, order_id, position, product_id, seller_id, title, quantity,"
                " unit_price_cents, total_cents, product_type) VALUES ($1, $2, 1, $3, $4, '', 1, 0, 0, 'track')",
                mint(),
                order_id,
                product.id,
                product.seller.id,
            )

    async def titles(self, limit: int = 100, offset: int = 0, **listing: Any) -> list[str]:
        page = await self.catalog.page(Listing(**listing), limit=limit, offset=offset)
        return [product.title for product in page.products]


@pytest.fixture
async def shop(db: Database) -> Shop:
    shop = Shop(db, Catalog(db), User(UUID(int=1), "", "", Role.USER, NOON, NOON))
    shop.seller = await shop.user("seller")
    return shop


# -- one product ------------------------------------------------------------------------------------------------------


async def test_a_product_is_read_as_it_was_written(shop: Shop) -> None:
    made = await shop.put(
        status=DRAFT,
        title="Night Drive",
        description="dark",
        product_type=ProductType.BEAT,
        price_cents=1999,
        tags=("a", "b"),
    )
    assert await shop.catalog.get(made.id) == made


async def test_a_product_that_does_not_exist_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound):
        await shop.catalog.get(mint())
    with pytest.raises(NotFound):
        await shop.catalog.change(mint(), lambda product, _: product)
    with pytest.raises(NotFound):
        await shop.catalog.remove(mint(), anyone)


async def test_a_rating_is_the_mean_to_two_decimals(shop: Shop) -> None:
    made = await shop.put()
    async with shop.db.transaction() as tx:
        await tx.execute("UPDATE products SET rating_sum = 14, rating_count = 3")
    rating = (await shop.catalog.get(made.id)).rating
    assert (rating.average, rating.count) == (4.67, 3)


async def test_a_change_is_written_and_found_by_its_new_words(shop: Shop) -> None:
    made = await shop.put(title="Night Drive", tags=("techno",))

    def rename(product: Product, deliverables: int) -> Product:
        assert (product, deliverables) == (made, 0)
        return change(product, Changes(title="Dawn", tags=()), deliverables=0, currency="EUR", now=NOON)

    renamed = await shop.catalog.change(made.id, rename)
    assert await shop.catalog.get(made.id) == renamed
    assert renamed.title == "Dawn"
    assert await shop.titles(search="dawn") == ["Dawn"]
    assert await shop.titles(search="night") == await shop.titles(search="techno") == []


async def test_a_refused_change_changes_nothing(shop: Shop) -> None:
    made = await shop.put(status=DRAFT)

    def publish(product: Product, deliverables: int) -> Product:
        return change(product, Changes(status=PUBLISHED), deliverables=deliverables, currency="EUR", now=NOON)

    with pytest.raises(Conflict):
        await shop.catalog.change(made.id, publish)
    assert await shop.catalog.get(made.id) == made
    await shop.file(made)
    assert (await shop.catalog.change(made.id, publish)).status is PUBLISHED


async def test_a_product_nobody_ordered_is_deleted_with_its_files(shop: Shop) -> None:
    made = await shop.put()
    await shop.file(made)
    await shop.catalog.remove(made.id, anyone)
    with pytest.raises(NotFound):
        await shop.catalog.get(made.id)
    assert await shop.catalog.files_of(made.id) == []


@pytest.mark.parametrize("status", ["pending", "paid", "expired", "refunded"])
async def test_a_product_that_was_ordered_is_archived_and_keeps_its_files(shop: Shop, status: str) -> None:
    made = await shop.put()
    file = await shop.file(made)
    await shop.order(made, status)
    await shop.catalog.remove(made.id, anyone)
    assert (await shop.catalog.get(made.id)).status is ARCHIVED
    assert await shop.catalog.files_of(made.id) == [file]


async def test_who_may_not_deletes_nothing(shop: Shop) -> None:
    made, stranger = await shop.put(), await shop.user("stranger")

    def allow(product: Product) -> None:
        check_owner(product, stranger)

    file = await shop.file(made)
    with pytest.raises(Forbidden):
        await shop.catalog.remove(made.id, allow)
    with pytest.raises(Forbidden):
        await shop.catalog.add_file(replace(file, id=mint()), allow)
    with pytest.raises(Forbidden):
        await shop.catalog.remove_file(made.id, file.id, allow)
    assert await shop.catalog.get(made.id) == made
    assert await shop.catalog.files_of(made.id) == [file]


async def test_who_paid_has_bought_even_if_refunded_and_who_has_not_paid_has_not(shop: Shop) -> None:
    made, other = await shop.put(), await shop.put()
    for status, bought in (("pending", False), ("expired", False), ("paid", True), ("refunded", True)):
        buyer = await shop.user(f"buyer-{status}")
        await shop.order(made, status, buyer)
        assert await shop.catalog.was_bought_by(made.id, buyer.id) is bought
        assert not await shop.catalog.was_bought_by(other.id, buyer.id)


# -- deliverables -----------------------------------------------------------------------------------------------------


async def test_files_are_listed_in_the_order_they_came(shop: Shop) -> None:
    made = await shop.put()
    files = [await shop.file(made, f"{n}.wav") for n in range(5)]
    assert await shop.catalog.files_of(made.id) == sorted(files, key=lambda file: file.id)


async def test_the_last_file_of_a_published_product_stays(shop: Shop) -> None:
    made = await shop.put()
    first, second = await shop.file(made), await shop.file(made)
    await shop.catalog.remove_file(made.id, first.id, anyone)
    with pytest.raises(Conflict):
        await shop.catalog.remove_file(made.id, second.id, anyone)
    assert await shop.catalog.files_of(made.id) == [second]


@pytest.mark.parametrize(
    ("status", "kept"), [("pending", True), ("paid", True), ("refunded", True), ("expired", False), ("failed", False)]
)
async def test_a_file_stays_for_those_who_paid_or_are_about_to(shop: Shop, status: str, kept: bool) -> None:
    made = await shop.put()
    first = await shop.file(made)
    await shop.file(made)
    await shop.order(made, status)
    if kept:
        with pytest.raises(Conflict):
            await shop.catalog.remove_file(made.id, first.id, anyone)
    else:
        await shop.catalog.remove_file(made.id, first.id, anyone)


async def test_a_file_of_another_product_is_not_found(shop: Shop) -> None:
    made, other = await shop.put(), await shop.put()
    file = await shop.file(other)
    with pytest.raises(NotFound):
        await shop.catalog.remove_file(made.id, file.id, anyone)
    with pytest.raises(NotFound):
        await shop.catalog.add_file(replace(file, id=mint(), product_id=mint()), anyone)


async def test_a_product_takes_no_more_files_than_its_limit(shop: Shop) -> None:
    made = await shop.put()
    async with shop.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO product_files SELECT gen_random_uuid(), $1, 'k', 'f', 't', 1, now()"
            " FROM generate_series(2, $2::int)",
            made.id,
            MAX_FILES,
        )
    await shop.file(made)
    with pytest.raises(Conflict):
        await shop.file(made)


# -- races ------------------------------------------------------------------------------------------------------------


async def both(*calls: Callable[[], Any]) -> list[type[Exception] | None]:
    """Run at the same time; what each came to."""
    ends: list[type[Exception] | None] = [None] * len(calls)

    async def run(index: int) -> None:
        try:
            await calls[index]()
        except (Conflict, NotFound) as refused:
            ends[index] = type(refused)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for index in range(len(calls)):
                nursery.start_soon(run, index)
    return ends


async def test_publishing_races_with_removing_the_last_file_and_one_of_them_loses(shop: Shop) -> None:
    def publish(product: Product, deliverables: int) -> Product:
        return change(product, Changes(status=PUBLISHED), deliverables=deliverables, currency="EUR", now=NOON)

    for _ in range(25):
        made = await shop.put(status=DRAFT)
        file = await shop.file(made)
        ends = await both(
            partial(shop.catalog.change, made.id, publish),
            partial(shop.catalog.remove_file, made.id, file.id, anyone),
        )
        assert sorted(map(str, ends)) == ["<class 'veza.domain.errors.Conflict'>", "None"]
        published = (await shop.catalog.get(made.id)).status is PUBLISHED
        assert published == bool(await shop.catalog.files_of(made.id))


async def test_two_removals_never_take_both_files_of_a_published_product(shop: Shop) -> None:
    for _ in range(25):
        made = await shop.put()
        first, second = await shop.file(made), await shop.file(made)
        ends = await both(
            partial(shop.catalog.remove_file, made.id, first.id, anyone),
            partial(shop.catalog.remove_file, made.id, second.id, anyone),
        )
        assert ends.count(Conflict) == 1
        assert len(await shop.catalog.files_of(made.id)) == 1


async def test_a_deletion_waits_for_an_order_being_placed_and_then_archives(shop: Shop) -> None:
    made = await shop.put()
    placed = trio.Event()

    async def order() -> None:
        async with shop.db.transaction() as tx:
            await tx.execute("SELECT FROM products WHERE id = $1 FOR SHARE", made.id)
            placed.set()
            await wait_for_a_waiter(shop.db)
            order_id = mint()
            await tx.execute(
                "INSERT INTO orders (id, buyer_id, status, currency, total_cents, expires_at)"
                " VALUES ($1, $2, 'pending', 'EUR', 0, now())",
                order_id,
                shop.seller.id,
            )
            await tx.execute(
                "INSERT INTO order_items (id, order_id, position, product_id, seller_id, title, quantity,"
                " unit_price_cents, total_cents, product_type) VALUES ($1, $2, 1, $3, $4, '', 1, 0, 0, 'track')",
                mint(),
                order_id,
                made.id,
                shop.seller.id,
            )

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(order)
            await placed.wait()
            await shop.catalog.remove(made.id, anyone)
    assert (await shop.catalog.get(made.id)).status is ARCHIVED


async def wait_for_a_waiter(db: Database) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await db.fetch(waiting):  # noqa: ASYNC110 - it happens in the server, which does not tell us
        await trio.sleep(0.002)


# -- listings ---------------------------------------------------------------------------------------------------------


async def test_what_is_not_published_is_in_no_public_list(shop: Shop) -> None:
    for status in ProductStatus:
        await shop.put(status=status, title=f"{status} song", tags=("t",))
    for listing in ({}, {"search": "song"}, {"tag": "t"}, {"seller_id": shop.seller.id}, {"max_price": 9}):
        assert await shop.titles(**listing) == ["published song"]


async def test_a_seller_lists_their_own_by_status(shop: Shop) -> None:
    for status in ProductStatus:
        await shop.put(status=status, title=status)
    await shop.put(seller=await shop.user("other"), title="another's")
    own: dict[str, Any] = {"seller_id": shop.seller.id}
    assert await shop.titles(**own, status=DRAFT) == ["draft"]
    assert await shop.titles(**own, status=ARCHIVED) == ["archived"]
    assert await shop.titles(**own, status=None) == ["archived", "published", "draft"]
    assert await shop.titles(**own, status=None, search="draft") == ["draft"]


async def test_every_sort_is_total(shop: Shop) -> None:
    for title, price, rated, count, sold in (
        ("a", 300, 10, 2, 5),
        ("b", 100, 15, 3, 9),
        ("c", 200, 0, 0, 9),
        ("d", 200, 4, 1, 0),
    ):
        made = await shop.put(title=title, price_cents=price)
        async with shop.db.transaction() as tx:
            await tx.execute(
                "UPDATE products SET rating_sum = $2, rating_count = $3, sold_count = $4 WHERE id = $1",
                made.id,
                rated,
                count,
                sold,
            )
    ids = {product.title: product.id for product in (await shop.catalog.page(Listing(), limit=10)).products}
    tied = sorted("cd", key=lambda title: ids[title])
    assert await shop.titles(sort=Sort.NEWEST) == ["d", "c", "b", "a"]
    assert await shop.titles(sort=Sort.OLDEST) == ["a", "b", "c", "d"]
    assert await shop.titles(sort=Sort.PRICE_ASC) == ["b", *tied, "a"]
    assert await shop.titles(sort=Sort.PRICE_DESC) == ["a", *reversed(tied), "b"]
    assert await shop.titles(sort=Sort.RATING) == ["b", "a", "d", "c"]
    assert (await shop.titles(sort=Sort.POPULAR))[2:] == ["a", "d"]


async def test_filters_narrow_the_list_together(shop: Shop) -> None:
    await shop.put(title="one", price_cents=100, tags=("Deep House",), product_type=ProductType.TRACK)
    await shop.put(title="two", price_cents=200, tags=("deep house", "808"), product_type=ProductType.BEAT)
    await shop.put(title="three", price_cents=300, product_type=ProductType.BEAT)
    assert await shop.titles(tag=" DEEP house") == ["two", "one"]
    assert await shop.titles(product_type=ProductType.BEAT) == ["three", "two"]
    assert await shop.titles(min_price=200) == ["three", "two"]
    assert await shop.titles(max_price=200) == ["two", "one"]
    assert await shop.titles(min_price=200, max_price=200) == ["two"]
    assert await shop.titles(tag="deep house", product_type=ProductType.BEAT, min_price=1, search="tw") == ["two"]
    assert await shop.titles(seller_id=mint()) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("night", True),
        ("NIGHT dri", True),
        ("drive night", True),
        ("nig drive", False),  # only the last word may be unfinished
        ("zuri", True),
        ("ZÜRICH", True),
        ("dc", True),
        ("AC/DC", True),
        ("808", True),
        ("night day", False),
        ("'night' | 'day'", False),
        ("!day", False),
        ("night:*", True),
        ("night'); DROP TABLE products; --", False),
        ("' \\ & | ! ( ) <-> :*", False),
    ],
)
async def test_a_search_finds_all_its_words_and_takes_no_operators(shop: Shop, search: str, found: bool) -> None:
    await shop.put(title="Night Drive (AC/DC remix)", description="Made in Zürich", tags=("808",))
    await shop.put(title="Something else")
    assert await shop.titles(search=search) == (["Night Drive (AC/DC remix)"] if found else [])


async def test_pages_follow_one_another_and_the_total_is_theirs_together(shop: Shop) -> None:
    for number in range(7):
        await shop.put(title=str(number), price_cents=1)
    for listing in (Listing(), Listing(max_price=1), Listing(sort=Sort.PRICE_DESC)):
        pages = [await shop.catalog.page(listing, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
        assert [len(page.products) for page in pages] == [3, 3, 1, 0]
        assert [page.total for page in pages] == [7] * 4
        assert len({product.id for page in pages for product in page.products}) == 7
    assert await shop.catalog.page(Listing(search="nothing"), limit=3) == Page((), 0)


# -- a large catalog --------------------------------------------------------------------------------------------------

SEED = """
SET synchronous_commit = on;
INSERT INTO users (id, username, email, password_hash)
SELECT gen_random_uuid(), 'u' || n, 'u' || n, '' FROM generate_series(1, 400) AS n;
INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, tags, status, created_at, words,
                      sold_count, rating_sum, rating_count)
SELECT gen_random_uuid(), s.ids[1 + n % 400], 'Title ' || n,
       CASE WHEN n % 5000 = 0 THEN 'course' ELSE (ARRAY['track', 'album', 'beat'])[1 + n % 3] END,
       n % 9973, 'EUR', ARRAY['all', 'tag' || n % 2000], CASE WHEN n % 10 = 0 THEN 'draft' ELSE 'published' END,
       now() - n * interval '1 minute', array_to_tsvector(ARRAY['title', 'some' || n % 50, 'rare' || n / 4]),
       n % 101, n % 40, n % 11
FROM generate_series(1, 40000) AS n, (SELECT array_agg(id) AS ids FROM users) AS s;
VACUUM ANALYZE users, products;
"""


@pytest.fixture(scope="module")
def large_dsn(postgres: Server) -> Iterator[str]:
    """Forty thousand products, vacuumed as a table in use is (that needs commits that are on the disk)."""
    name = postgres.create()
    with psycopg.connect(postgres.named(name), autocommit=True) as connection:
        for statement in filter(str.strip, SEED.split(";")):
            connection.execute(statement.encode())
    yield postgres.named(name)
    postgres.drop(name)


@pytest.fixture
async def large(large_dsn: str) -> AsyncIterator[Database]:
    async with Database.open(large_dsn, size=1) as db:
        yield db


def read_by(plan: dict[str, Any]) -> Iterable[tuple[str, float]]:
    """Each node that reads products, by its kind, and how many it looked at."""
    if plan.get("Relation Name") == "products":
        looked_at = sum(plan.get(key, 0) for key in ("Actual Rows", "Rows Removed by Filter"))
        yield plan["Node Type"], looked_at * plan["Actual Loops"]
    for inner in plan.get("Plans", ()):
        yield from read_by(inner)


FILTERS: dict[str, dict[str, Any]] = {
    "everything": {},
    "a word most have": {"search": "title"},
    "a word some have": {"search": "some7"},
    "a word few have": {"search": "rare9999"},
    "a beginning few have": {"search": "rare777"},
    "no such word": {"search": "absent"},
    "a tag all have": {"tag": "all"},
    "a tag few have": {"tag": "tag1999"},
    "a type many are": {"product_type": ProductType.BEAT},
    "a type few are": {"product_type": ProductType.COURSE},
    "few prices": {"min_price": 9970, "max_price": 9972},
    "most prices": {"min_price": 100},
    "no price": {"min_price": 10_000},
    "several": {"search": "title", "tag": "tag77", "product_type": ProductType.TRACK, "max_price": 9000},
}


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("name", FILTERS)
async def test_no_listing_scans_a_large_table(large: Database, name: str, sort: Sort) -> None:
    for offset in (0, 200):
        for query in await queries_of(large, Listing(**FILTERS[name], sort=sort), offset):
            read = await explain(large, *query)
            assert sum(looked_at for _, looked_at in read) < 1.2 * COUNT_LIMIT
            if name != "a tag all have":  # the way to COUNT_LIMIT of what all have is the table, and it ends there
                assert "Seq Scan" not in dict(read)


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("name", [name for name in FILTERS if name.endswith(("few have", "few are", "few prices"))])
async def test_what_is_rare_is_found_without_looking_at_much_else(large: Database, name: str, sort: Sort) -> None:
    for query in await queries_of(large, Listing(**FILTERS[name], sort=sort), 0):
        assert sum(looked_at for _, looked_at in await explain(large, *query)) < 250


@pytest.mark.parametrize("status", [DRAFT, None])
async def test_a_sellers_shelf_is_read_by_itself(large: Database, status: ProductStatus | None) -> None:
    seller = await large.fetchval("SELECT id FROM users LIMIT 1")
    for listing in (Listing(seller_id=seller, status=status), Listing(seller_id=seller, status=status, search="title")):
        for query in await queries_of(large, listing, 0):
            assert sum(looked_at for _, looked_at in await explain(large, *query)) < 500


async def test_totals_leave_out_what_banned_sellers_have_and_no_listing_scans_for_that(large: Database) -> None:
    ban = "UPDATE users SET banned_until = $1 WHERE id IN (SELECT id FROM users ORDER BY id LIMIT 40)"
    async with large.transaction() as tx:
        await tx.execute(ban, datetime.now(UTC) + timedelta(hours=1))
    try:
        for filters in FILTERS.values():
            listing = Listing(**filters)
            page = await Catalog(large).page(listing, limit=20)
            sql, args = gather_query(replace(listing, status=None), 40_000, 0)
            matching = await large.fetch(sql.replace(f"LIMIT {COUNT_LIMIT} + 1", ""), *args)
            banned = {row["id"] for row in await large.fetch("SELECT id FROM users WHERE banned_until > now()")}
            rows = [row for row in matching if row["status"] == "published" and row["seller_id"] not in banned]
            assert page.total == min(len(rows), COUNT_LIMIT), filters
            for query in await queries_of(large, listing, 0):
                assert "Seq Scan" not in dict(await explain(large, *query)) or "tag" in filters, filters
    finally:
        async with large.transaction() as tx:
            await tx.execute(ban, None)


class Overheard(Database):
    """Notes what is asked."""

    def __init__(self, db: Database) -> None:
        self.__dict__ = db.__dict__
        self.asked: list[tuple[str, list[object]]] = []

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        self.asked.append((sql, list(args)))
        return await super().fetch(sql, *args)

    async def fetch_planned(self, sql: str, *args: object) -> list[Record]:
        self.asked.append((sql, list(args)))
        return await super().fetch_planned(sql, *args)


async def queries_of(db: Database, listing: Listing, offset: int) -> list[tuple[str, list[object]]]:
    """What the catalog asks of the server for a page, and with what arguments."""
    overheard = Overheard(db)
    await Catalog(overheard).page(listing, limit=20, offset=offset)
    return overheard.asked


async def explain(db: Database, sql: str, args: list[object]) -> list[tuple[str, float]]:
    rows = await db.fetch_planned(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args)
    return list(read_by(json.loads(rows[0][0])[0]["Plan"]))


async def test_a_total_is_counted_so_far_and_no_farther(large: Database) -> None:
    catalog = Catalog(large)
    for listing in (Listing(), Listing(search="title"), Listing(tag="all")):
        assert (await catalog.page(listing, limit=20)).total == COUNT_LIMIT
        assert (await catalog.page(listing, limit=20, offset=20_000)).total == 20_020
        assert await catalog.page(listing, limit=20, offset=40_000) == Page((), COUNT_LIMIT)
    assert (await catalog.page(Listing(search="some7"), limit=20)).total == 800
    assert await catalog.page(Listing(search="some7"), limit=20, offset=800) == Page((), 800)


async def test_both_ways_to_a_page_lead_to_the_same_one(large: Database) -> None:
    for sort in Sort:
        listing = Listing(search="some7", sort=sort)
        for offset in (0, 40):
            walked = await large.fetch_planned(*flat(walk_query(listing, 20, offset)))
            gathered = await large.fetch_planned(*flat(gather_query(listing, 20, offset)))
            assert list(map(tuple, walked)) == list(map(tuple, gathered))


def flat(query: tuple[str, list[object]]) -> tuple[Any, ...]:
    return (query[0], *query[1])


async def test_a_page_that_is_not_full_is_not_counted(large: Database) -> None:
    [query] = await queries_of(large, Listing(min_price=9970, max_price=9970), 0)
    assert sum(looked_at for _, looked_at in await explain(large, *query)) <= 2 * 4  # found, then fetched by id


async def test_what_has_arguments_is_planned_for_them_and_the_rest_is_kept(large: Database) -> None:
    catalog = Catalog(large)
    for _ in range(8):
        await catalog.page(Listing(), limit=20)
        await catalog.page(Listing(max_price=7), limit=20)
    kept = await large.fetch("SELECT statement FROM pg_prepared_statements WHERE statement LIKE $1", "%WITH page AS%")
    assert len(kept) == 1
    assert "$1" not in kept[0]["statement"]
