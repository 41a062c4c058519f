"""Reviews as rows: however many are written, changed and taken away at once, the averages are exact."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
import trio

from tests.sales import START, Sales
from veza.domain.errors import Conflict
from veza.domain.reviews import Buyer, Review
from veza.store.bridge import Database
from veza.store.numbers import take_invoice_number
from veza.store.reviews import Reviews


async def a_product(db: Database, sales: Sales) -> UUID:
    product_id, seller = sales.new_id(), await sales.user()
    async with db.transaction() as tx:
        await tx.execute(
            "INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status)"
            " VALUES ($1, $2, 'A track', 'track', 0, 'EUR', 'published')",
            product_id,
            seller,
        )
    return product_id


async def an_order(db: Database, sales: Sales, product_id: UUID) -> tuple[UUID, UUID]:
    """A free order of the product and its buyer."""
    order_id, buyer = sales.new_id(), await sales.user()
    async with db.transaction() as tx:
        await tx.execute(
            "INSERT INTO orders (id, buyer_id, status, currency, total_cents, paid_at, expires_at, invoice_number)"
            " VALUES ($1, $2, 'paid', 'EUR', 0, now(), now(), $3)",
            order_id,
            buyer,
            await take_invoice_number(tx),
        )
        await tx.execute(
            "INSERT INTO order_items (id, order_id, position, product_id, seller_id, title, quantity, unit_price_cents,"
            " total_cents, product_type)"
            " SELECT $1, $2, 0, id, seller_id, title, 1, 0, 0, product_type FROM products WHERE id = $3",
            sales.new_id(),
            order_id,
            product_id,
        )
    return order_id, buyer


async def a_review(db: Database, sales: Sales, product_id: UUID, rating: int) -> Review:
    order_id, buyer = await an_order(db, sales, product_id)
    return Review(
        id=sales.new_id(),
        product_id=product_id,
        order_id=order_id,
        buyer=Buyer(buyer, buyer.hex),
        rating=rating,
        comment="",
        response=None,
        responded_at=None,
        refunded=False,
        created_at=START,
        updated_at=START,
    )


async def test_the_average_is_exact_however_many_write_at_once(db: Database) -> None:
    sales, reviews, chance = Sales(db), Reviews(db), Random(3)
    product_id = await a_product(db, sales)
    written = [await a_review(db, sales, product_id, chance.randint(1, 5)) for _ in range(40)]

    async def live(review: Review, rating: int, stays: bool) -> None:
        await reviews.add(review)
        await reviews.change(product_id, review.id, lambda before: replace(before, rating=rating))
        if not stays:
            await reviews.remove(product_id, review.id, lambda _: None)

    ends = [(review, chance.randint(1, 5), chance.random() < 0.7) for review in written]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(live, *end)
    left = [rating for _, rating, stays in ends if stays]
    sums = await db.fetchrow("SELECT rating_sum, rating_count, rating_average FROM products")
    assert sums is not None
    assert tuple(sums) == (sum(left), len(left), sum(left) / len(left))


async def test_of_many_reviews_of_one_order_at_once_one_is_written(db: Database) -> None:
    sales, reviews = Sales(db), Reviews(db)
    product_id = await a_product(db, sales)
    first = await a_review(db, sales, product_id, 5)
    refused: list[str] = []

    async def write(review: Review) -> None:
        try:
            await reviews.add(review)
        except Conflict as conflict:
            refused.append(conflict.code)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(write, replace(first, id=sales.new_id()))
    assert refused == ["already_reviewed"] * 19
    assert await db.fetchval("SELECT (rating_sum, rating_count) = (5, 1) FROM products")


async def test_a_refusal_changes_nothing(db: Database) -> None:
    sales, reviews = Sales(db), Reviews(db)
    product_id = await a_product(db, sales)
    review = await a_review(db, sales, product_id, 2)
    await reviews.add(review)

    def refuse(_: Review) -> None:
        raise Conflict("no")

    def refuse_the_change(before: Review) -> Review:
        refuse(before)
        return before

    with pytest.raises(Conflict):
        await reviews.change(product_id, review.id, refuse_the_change)
    with pytest.raises(Conflict):
        await reviews.remove(product_id, review.id, refuse)
    [seen], total = await reviews.page(product_id, limit=10, offset=0)
    assert (seen, total) == (review, 1)
