"""Reviews and the averages they add up to: a review and its product's sums change in one transaction or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import asyncpg

from veza.domain.errors import Conflict, NotFound
from veza.domain.reviews import Buyer, Purchase, Review
from veza.store.bridge import Database, Record, Transaction

REVIEW: Final = """
SELECT r.id, r.product_id, r.order_id, r.buyer_id, u.username, r.rating, r.comment, r.response, r.responded_at,
       EXISTS (
           SELECT FROM order_items i WHERE i.order_id = r.order_id AND i.product_id = r.product_id
           AND (o.status = 'refunded' OR i.gone)
       ) AS refunded, r.created_at, r.updated_at
FROM reviews r JOIN users u ON u.id = r.buyer_id JOIN orders o ON o.id = r.order_id
"""

PAGE: Final = f"{REVIEW} WHERE r.product_id = $1 ORDER BY r.created_at DESC, r.id DESC LIMIT $2 OFFSET $3"

ONE: Final = f"{REVIEW} WHERE r.id = $1 AND r.product_id = $2"

# What was bought and not wholly given back, the latest first.
PURCHASES: Final = """
SELECT o.id AS order_id, r.id IS NOT NULL AS reviewed
FROM orders o LEFT JOIN reviews r ON r.order_id = o.id AND r.product_id = $1
WHERE o.buyer_id = $2 AND o.paid_at IS NOT NULL AND o.status <> 'refunded'
  AND EXISTS (SELECT FROM order_items i WHERE i.order_id = o.id AND i.product_id = $1
              AND NOT i.gone)
ORDER BY o.paid_at DESC, o.id DESC
"""

INSERT: Final = """
INSERT INTO reviews (id, product_id, order_id, buyer_id, rating, comment, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
"""

UPDATE: Final = """
UPDATE reviews SET rating = $2, comment = $3, response = $4, responded_at = $5, updated_at = $6 WHERE id = $1
"""

# Sums, not averages: they stay exact whoever writes at the same time.
RATE: Final = "UPDATE products SET rating_sum = rating_sum + $2, rating_count = rating_count + $3 WHERE id = $1"


class Reviews:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, review_id: UUID) -> Review:
        """A review of whichever product. Raises NotFound."""
        row = await self._db.fetchrow(f"{REVIEW} WHERE r.id = $1", review_id)
        if row is None:
            raise _no_review()
        return _review(row)

    async def page(self, product_id: UUID, *, limit: int, offset: int) -> tuple[list[Review], int]:
        """A product's reviews, the newest first, and how many there are."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(PAGE, product_id, limit, offset)
            total: int = await moment.fetchval("SELECT rating_count FROM products WHERE id = $1", product_id) or 0
        return [_review(row) for row in rows], total

    async def purchases(self, product_id: UUID, buyer_id: UUID) -> list[Purchase]:
        """The buyer's orders of a product by which it may be reviewed, the latest first."""
        return [Purchase(**dict(row)) for row in await self._db.fetch(PURCHASES, product_id, buyer_id)]

    async def add(self, review: Review) -> None:
        """Write a new review and count it. Raises Conflict if the product was reviewed by that order meanwhile."""
        r = review
        try:
            async with self._db.transaction() as tx:
                await tx.execute(INSERT, r.id, r.product_id, r.order_id, r.buyer_id, r.rating, r.comment, r.created_at)
                await tx.execute(RATE, r.product_id, r.rating, 1)
        except asyncpg.UniqueViolationError:
            raise Conflict("You have reviewed this already.", code="already_reviewed") from None

    async def change(self, product_id: UUID, review_id: UUID, decide: Callable[[Review], Review]) -> Review:
        """Write what ``decide`` makes of the review, and return that. Raises NotFound, and what ``decide`` raises."""
        async with self._db.transaction() as tx:
            before = await _lock(tx, product_id, review_id)
            after = decide(before)
            if after != before:
                a = after
                await tx.execute(UPDATE, a.id, a.rating, a.comment, a.response, a.responded_at, a.updated_at)
            if after.rating != before.rating:
                await tx.execute(RATE, product_id, after.rating - before.rating, 0)
        return after

    async def remove(self, product_id: UUID, review_id: UUID, allow: Callable[[Review], None]) -> None:
        """Delete the review and count it no longer. Raises NotFound, and what ``allow`` raises."""
        async with self._db.transaction() as tx:
            review = await _lock(tx, product_id, review_id)
            allow(review)
            await tx.execute("DELETE FROM reviews WHERE id = $1", review_id)
            await tx.execute(RATE, product_id, -review.rating, -1)


async def _lock(tx: Transaction, product_id: UUID, review_id: UUID) -> Review:
    row = await tx.fetchrow(f"{ONE} FOR UPDATE OF r", review_id, product_id)
    if row is None:
        raise _no_review()
    return _review(row)


def _no_review() -> NotFound:
    return NotFound("There is no such review.")


def _review(row: Record) -> Review:
    values = dict(row)
    buyer = Buyer(values.pop("buyer_id"), values.pop("username"))
    return Review(buyer=buyer, **values)
