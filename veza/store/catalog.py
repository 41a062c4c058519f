"""Products and their deliverables: found, listed and changed under their row's lock.

A change locks the product, decides on what is there then, and writes; orders lock the products they take. So a
deliverable is never removed while somebody publishes or buys, nor a product deleted while somebody orders it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.catalog import (
    Listing,
    Page,
    Product,
    ProductFile,
    ProductStatus,
    ProductType,
    Rating,
    Seller,
    Sort,
    check_file_removal,
    check_new_file,
    fold_tag,
    no_product,
    words_of,
    words_of_product,
)
from veza.domain.errors import NotFound, Unauthenticated
from veza.domain.media import Media, MediaKind
from veza.store.banned import BANNED
from veza.store.bridge import Database, Record, Transaction

COUNT_LIMIT: Final = 10_000
"""How far a listing is counted: 1 ms of the server's time, and more pages than anyone turns."""

COLUMNS: Final = """
p.id, p.seller_id, u.username, p.title, p.description, p.product_type, p.price_cents, p.currency, p.tags, p.status,
p.rating_average, p.rating_count, p.created_at, p.updated_at, p.cover_key, p.cover_type, p.preview_key, p.preview_type,
u.banned_until > now() IS TRUE AS seller_banned
"""

PRODUCT: Final = f"SELECT {COLUMNS} FROM products p JOIN users u ON u.id = p.seller_id WHERE p.id = $1"

INSERT: Final = """
INSERT INTO products (id, seller_id, title, description, product_type, price_cents, currency, tags, status, words,
                      created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, array_to_tsvector($10), $11, $12)
"""

UPDATE: Final = """
UPDATE products SET title = $2, description = $3, product_type = $4, price_cents = $5, currency = $6, tags = $7,
                    status = $8, words = array_to_tsvector($9), updated_at = $10
WHERE id = $1
"""

SET_MEDIA: Final = {
    kind: f"UPDATE products SET {kind}_key = $2, {kind}_type = $3, updated_at = $4 WHERE id = $1" for kind in MediaKind
}

ARCHIVE: Final = "UPDATE products SET status = 'archived', updated_at = now() WHERE id = $1 AND status <> 'archived'"

ORDERED: Final = "SELECT EXISTS (SELECT FROM order_items WHERE product_id = $1)"

# An order that waits for its payment counts: its buyer was promised what was there when they ordered.
SOLD: Final = """
SELECT EXISTS (SELECT FROM order_items i JOIN orders o ON o.id = i.order_id
               WHERE i.product_id = $1 AND (o.paid_at IS NOT NULL OR o.status = 'pending'))
"""

BOUGHT: Final = """
SELECT EXISTS (SELECT FROM order_items i JOIN orders o ON o.id = i.order_id
               WHERE i.product_id = $1 AND o.buyer_id = $2 AND o.paid_at IS NOT NULL)
"""

FILES: Final = """
SELECT id, product_id, object_key, filename, content_type, size_bytes, created_at
FROM product_files WHERE product_id = $1 ORDER BY created_at, id
"""

# Whether its seller is banned, which then stays so until the transaction is over. It is asked before the product's row
# is locked, as erasing takes the two in this order.
SELLER_BANNED: Final = """
SELECT u.banned_until > now() IS TRUE FROM users u JOIN products p ON p.seller_id = u.id WHERE p.id = $1 FOR SHARE OF u
"""

INSERT_FILE: Final = """
INSERT INTO product_files (id, product_id, object_key, filename, content_type, size_bytes, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

# Each ends in the id, so that pages neither repeat nor miss a product, and each is an index's order.
ORDERS: Final = {
    Sort.NEWEST: "p.created_at DESC, p.id DESC",
    Sort.OLDEST: "p.created_at, p.id",
    Sort.PRICE_ASC: "p.price_cents, p.id",
    Sort.PRICE_DESC: "p.price_cents DESC, p.id DESC",
    Sort.RATING: "p.rating_average DESC NULLS LAST, p.rating_count DESC, p.id DESC",
    Sort.POPULAR: "p.sold_count DESC, p.id DESC",
}

# Two ways to a page. Walking goes along the order's index until the page is full: right where much matches, and where
# the server knows how much does, as it does of prices and types. A page that is neither full nor empty tells the total;
# else it is counted, and only so far (a subquery in a CASE that is not reached is not run). A word or a tag that is
# walked for is known to be common by then, and the server must not guess otherwise: hence COMMON.
WALK: Final = """
WITH page AS (SELECT p.id FROM products p WHERE {conditions} ORDER BY {order} LIMIT {limit} {offset})
SELECT total.counted, {columns}
FROM (SELECT CASE WHEN (SELECT count(*) FROM page) IN (0, {limit}) THEN ({count}) END AS counted) AS total
LEFT JOIN (page JOIN products p USING (id) JOIN users u ON u.id = p.seller_id) ON true
ORDER BY {order}
"""
# What banned sellers published is in no list. It is counted by itself and taken off, for there is little of it: all can
# then be counted along an index that knows no sellers.
COUNT: Final = f"""
SELECT (
    SELECT count(*) FROM (SELECT FROM products p WHERE {{offered}} LIMIT {{count_limit}} + hidden.many) AS counted
) - hidden.many
FROM (SELECT count(*) AS many FROM products p WHERE {{offered}} AND p.seller_id IN ({BANNED})) AS hidden
"""
COUNT_SHELF: Final = "SELECT count(*) FROM (SELECT FROM products p WHERE {offered} LIMIT {count_limit}) AS counted"

# Gathering takes all that match, up to one more than are counted, and sorts them. The server cannot know how rare a
# word or a tag is, and walking for one that hardly any product has would go through all of them.
GATHER: Final = """
WITH hits AS MATERIALIZED (
    SELECT p.id, p.created_at, p.price_cents, p.rating_average, p.rating_count, p.sold_count
    FROM products p WHERE {conditions} LIMIT {count_limit} + 1
), page AS (SELECT p.id FROM hits p ORDER BY {order} LIMIT {limit} {offset})
SELECT total.counted, {columns}
FROM (SELECT count(*) AS counted FROM hits) AS total
LEFT JOIN (page JOIN products p USING (id) JOIN users u ON u.id = p.seller_id) ON true
ORDER BY {order}
"""

# The beginning of a word PostgreSQL takes to be in two products of a hundred, and would sooner fetch and sort all those
# than walk past a few hundred. A CASE it takes to be true of every other one (selfuncs.c, boolvarsel), and no index
# answers it.
COMMON: Final = "CASE WHEN {} THEN true ELSE false END"


class Catalog:
    """The catalog's queries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # -- reading ----------------------------------------------------------------------------------------------------

    async def get(self, product_id: UUID) -> Product:
        """The product, in whatever status. Raises NotFound."""
        row = await self._db.fetchrow(PRODUCT, product_id)
        if row is None:
            raise no_product()
        return product_in(row)

    async def page(self, listing: Listing, *, limit: int, offset: int = 0) -> Page:
        """A part of the listing. ``limit`` stands in the statement's text, so it should be one of few numbers."""
        if listing.search is not None and not words_of(listing.search):
            return Page((), 0)
        if listing.search is not None or listing.tag is not None:
            page = await self._page(gather_query(listing, limit, offset), offset)
            if page.total <= COUNT_LIMIT:
                return page
            return await self._page(walk_query(listing, limit, offset, count=str(COUNT_LIMIT)), offset)
        return await self._page(walk_query(listing, limit, offset), offset)

    async def _page(self, query: tuple[str, list[object]], offset: int) -> Page:
        sql, args = query
        # What a filter's values select decides how to go about it, so what has any is planned for them.
        rows = await (self._db.fetch_planned(sql, *args) if args else self._db.fetch(sql))
        counted = rows[0]["counted"] or 0
        products = tuple(product_in(row) for row in rows if row["id"] is not None)
        return Page(products, max(counted, offset + len(products)) if products else counted)

    async def was_bought_by(self, product_id: UUID, user_id: UUID) -> bool:
        """Whether the user has paid for the product, refunded or not."""
        return bool(await self._db.fetchval(BOUGHT, product_id, user_id))

    async def files_of(self, product_id: UUID) -> list[ProductFile]:
        """The product's deliverables, in the order they came."""
        return list(map(_file_in, await self._db.fetch(FILES, product_id)))

    # -- changing ---------------------------------------------------------------------------------------------------

    async def add(self, product: Product) -> None:
        """Write a new product."""
        p = product
        async with self._db.transaction() as tx:
            await tx.execute(
                INSERT,
                p.id,
                p.seller.id,
                p.title,
                p.description,
                p.product_type.value,
                p.price_cents,
                p.currency,
                list(p.tags),
                p.status.value,
                words_of_product(p),
                p.created_at,
                p.updated_at,
            )

    async def change(self, product_id: UUID, decide: Callable[[Product, int], Product]) -> Product:
        """Write what ``decide`` makes of the product and the number of its deliverables, and return that.

        Raises NotFound, and what ``decide`` raises.
        """
        async with self._db.transaction() as tx:
            before = await _lock(tx, product_id)
            after = decide(before, await _deliverables(tx, product_id))
            if after != before:
                await _update(tx, after)
        return after

    async def set_media(
        self, product_id: UUID, kind: MediaKind, media: Media | None, allow: Callable[[Product], None], *, now: datetime
    ) -> Product:
        """Give the product a cover or a preview, or take it away. Raises NotFound, and what ``allow`` raises."""
        async with self._db.transaction() as tx:
            allow(await _lock(tx, product_id))
            key, content_type = (None, None) if media is None else (media.object_key, media.content_type)
            await tx.execute(SET_MEDIA[kind], product_id, key, content_type, now)
            return await _lock(tx, product_id)

    async def remove(self, product_id: UUID, allow: Callable[[Product], None]) -> None:
        """Delete the product, or archive it if anyone ever ordered it. Raises NotFound, and what ``allow`` raises."""
        async with self._db.transaction() as tx:
            allow(await _lock(tx, product_id))
            if await tx.fetchval(ORDERED, product_id):
                await tx.execute(ARCHIVE, product_id)
            else:
                await tx.execute("DELETE FROM products WHERE id = $1", product_id)

    async def add_file(self, file: ProductFile, allow: Callable[[Product], None]) -> None:
        """Write a new deliverable. Raises NotFound, Conflict when there are too many, and what ``allow`` raises.

        Raises Unauthenticated where its seller was banned while it was on its way: those who bought the product would
        be given it.
        """
        async with self._db.transaction() as tx:
            if await tx.fetchval(SELLER_BANNED, file.product_id):
                raise Unauthenticated("This session is over; sign in again.", code="session_over")
            allow(await _lock(tx, file.product_id))
            check_new_file(await _deliverables(tx, file.product_id))
            f = file
            await tx.execute(
                INSERT_FILE, f.id, f.product_id, f.object_key, f.filename, f.content_type, f.size_bytes, f.created_at
            )

    async def remove_file(self, product_id: UUID, file_id: UUID, allow: Callable[[Product], None]) -> None:
        """Take a deliverable away. Raises NotFound, Conflict (`check_file_removal`), and what ``allow`` raises."""
        async with self._db.transaction() as tx:
            product = await _lock(tx, product_id)
            allow(product)
            files = {file.id for file in map(_file_in, await tx.fetch(FILES, product_id))}
            if file_id not in files:
                raise NotFound("There is no such file.")
            check_file_removal(product, deliverables=len(files), sold=await tx.fetchval(SOLD, product_id))
            await tx.execute("DELETE FROM product_files WHERE id = $1", file_id)


async def _lock(tx: Transaction, product_id: UUID) -> Product:
    row = await tx.fetchrow(f"{PRODUCT} FOR UPDATE OF p", product_id)
    if row is None:
        raise no_product()
    return product_in(row)


async def _deliverables(tx: Transaction, product_id: UUID) -> int:
    count: int = await tx.fetchval("SELECT count(*) FROM product_files WHERE product_id = $1", product_id)
    return count


async def _update(tx: Transaction, product: Product) -> None:
    p = product
    await tx.execute(
        UPDATE,
        p.id,
        p.title,
        p.description,
        p.product_type.value,
        p.price_cents,
        p.currency,
        list(p.tags),
        p.status.value,
        words_of_product(p),
        p.updated_at,
    )


# -- listings ---------------------------------------------------------------------------------------------------------


def walk_query(listing: Listing, limit: int, offset: int, *, count: str | None = None) -> tuple[str, list[object]]:
    """The statement that walks to a page, and its arguments. ``count`` is the SQL that says how many there are."""
    if count is None:
        count = COUNT if listing.status is ProductStatus.PUBLISHED else COUNT_SHELF
    return _query(WALK.replace("{count}", count), listing, limit, offset, rare=False)


def gather_query(listing: Listing, limit: int, offset: int) -> tuple[str, list[object]]:
    """The statement that gathers a page, and its arguments. Its total is above COUNT_LIMIT if it missed something."""
    return _query(GATHER, listing, limit, offset, rare=True)


def _query(template: str, listing: Listing, limit: int, offset: int, *, rare: bool) -> tuple[str, list[object]]:
    """Only ``limit``, which is an int, is put in the text: with an unknown one the server plans for a tenth of all.

    ``rare``: whether what is searched for may be.
    """
    offered, args = _conditions(listing, "{}" if rare else COMMON)
    is_public = listing.status is ProductStatus.PUBLISHED
    if offset:
        args.append(offset)
    sql = template.format(
        columns=COLUMNS,
        conditions=f"{offered} AND p.seller_id NOT IN ({BANNED})" if is_public else offered,
        offered=offered,
        order=ORDERS[listing.sort],
        limit=int(limit),
        offset=f"OFFSET ${len(args)}" if offset else "",
        count_limit=COUNT_LIMIT,
    )
    return sql, args


def _conditions(listing: Listing, sought: str) -> tuple[str, list[object]]:
    sql, args = [], []
    for condition, arg in _filters(listing, sought):
        args.append(arg)
        sql.append(condition.format(f"${len(args)}"))
    if listing.status is not None:
        # Written out, not an argument, so that the server sees that the indexes of what is published apply.
        sql.append(f"p.status = '{listing.status.value}'")
    return " AND ".join(sql) or "true", args


def _filters(listing: Listing, sought: str) -> Iterator[tuple[str, object]]:
    """Each condition, with a place for its argument. ``sought`` is how those on words and tags are put."""
    if listing.search is not None:
        yield sought.format("p.words @@ {}::text::tsquery"), prefix_query(words_of(listing.search))
    if listing.seller_id is not None:
        yield "p.seller_id = {}", listing.seller_id
    if listing.tag is not None:
        yield sought.format("p.tags @> ARRAY[{}::text]"), fold_tag(listing.tag)
    if listing.product_type is not None:
        yield "p.product_type = {}", listing.product_type.value
    if listing.min_price is not None:
        yield "p.price_cents >= {}", listing.min_price
    if listing.max_price is not None:
        yield "p.price_cents <= {}", listing.max_price


def prefix_query(words: list[str]) -> str:
    """All the words, the last one as the beginning of one: it may still be being typed.

    The words are those of `veza.domain.catalog.words_of`, which hold neither quotes nor operators.
    """
    return " & ".join(f"'{word}'" for word in words) + ":*"


# -- rows -------------------------------------------------------------------------------------------------------------


def product_in(row: Record) -> Product:
    """The product in a row of ``COLUMNS``."""
    average = row["rating_average"]
    return Product(
        id=row["id"],
        seller=Seller(row["seller_id"], row["username"]),
        title=row["title"],
        description=row["description"],
        product_type=ProductType(row["product_type"]),
        price_cents=row["price_cents"],
        currency=row["currency"],
        tags=tuple(row["tags"]),
        status=ProductStatus(row["status"]),
        rating=Rating(None if average is None else round(average, 2), row["rating_count"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        cover=_media_in(row["cover_key"], row["cover_type"]),
        preview=_media_in(row["preview_key"], row["preview_type"]),
        seller_banned=row["seller_banned"],
    )


def _media_in(key: str | None, content_type: str | None) -> Media | None:
    return None if key is None or content_type is None else Media(key, content_type)


def _file_in(row: Record) -> ProductFile:
    return ProductFile(**dict(row))
