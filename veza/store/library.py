"""What paying for orders opened: files to download, and everything somebody ever bought."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from veza.domain.catalog import ProductFile, ProductType, Seller
from veza.domain.errors import Conflict, NotFound
from veza.domain.ids import NewId
from veza.domain.orders import ENTITLING, Bought, check_entitled
from veza.store.bridge import Database, Record
from veza.store.orders import Orders

LIBRARY = """
WITH bought AS (
    SELECT DISTINCT ON (i.product_id) i.product_id, o.id AS order_id, o.paid_at, i.licence_key,
        i.quantity - (
            SELECT coalesce(sum(part.quantity), 0) FROM refund_items part JOIN refunds r ON r.id = part.refund_id
            WHERE part.order_item_id = i.id AND r.status IN ('pending', 'succeeded')
        ) AS quantity
    FROM orders o JOIN order_items i ON i.order_id = o.id
    WHERE o.buyer_id = $1 AND o.status = ANY($2::text[]) AND NOT i.gone
    ORDER BY i.product_id, o.paid_at, o.id
)
SELECT b.product_id, b.order_id, b.paid_at, b.licence_key, b.quantity, p.title, p.product_type, p.seller_id, u.username
FROM bought b JOIN products p ON p.id = b.product_id JOIN users u ON u.id = p.seller_id
ORDER BY b.paid_at DESC, b.product_id LIMIT $3 OFFSET $4
"""

HOW_MANY = """
SELECT count(DISTINCT i.product_id) FROM orders o JOIN order_items i ON i.order_id = o.id
WHERE o.buyer_id = $1 AND o.status = ANY($2::text[]) AND NOT i.gone
"""

FILES = """
SELECT f.id, f.product_id, f.object_key, f.filename, f.content_type, f.size_bytes, f.created_at
FROM product_files f WHERE f.product_id = ANY($1::uuid[]) ORDER BY f.product_id, f.created_at, f.id
"""

FILE_OF_ORDER = """
SELECT f.id, f.product_id, f.object_key, f.filename, f.content_type, f.size_bytes, f.created_at
FROM product_files f WHERE f.id = $2 AND f.product_id IN (
    SELECT product_id FROM order_items
    WHERE order_id = $1 AND NOT gone
)
"""


JUST_NOTED = """
SELECT EXISTS (SELECT FROM downloads
               WHERE order_id = $1 AND file_id = $2 AND user_id = $3 AND created_at > now() - interval '1 hour')
"""

NOTE = "INSERT INTO downloads (id, order_id, file_id, user_id) VALUES ($1, $2, $3, $4)"


class Library:
    """Files are the product's present ones: a seller who mends a file mends it for those who bought it too."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._orders = Orders(db)

    async def deliverables(self, order_id: UUID, buyer_id: UUID) -> list[ProductFile]:
        """What the buyer of a paid order may download. Raises NotFound, and Conflict while it is not paid."""
        order = await self._orders.get(order_id, buyer_id)
        check_entitled(order)
        rows = await self._db.fetch(FILES, [item.product_id for item in order.items if order.entitles_to(item)])
        return [file_of(row) for row in rows]

    async def deliverable(self, order_id: UUID, file_id: UUID, buyer_id: UUID) -> ProductFile:
        """One file of a paid order. Raises as `deliverables`, and NotFound for a file that is not in it."""
        check_entitled(await self._orders.get(order_id, buyer_id))
        row = await self._db.fetchrow(FILE_OF_ORDER, order_id, file_id)
        if row is None:
            raise NotFound("This order has no such file.")
        return file_of(row)

    async def record_download(self, order_id: UUID, file_id: UUID, buyer_id: UUID, *, new_id: NewId) -> None:
        """Note that the buyer took a file, or a part of it: from then on a refund is somebody's decision.

        Once an hour is enough: a player that seeks asks for hundreds of parts. Raises Conflict when a refund has taken
        the right to it meanwhile: nothing is downloaded that nobody knows was.
        """
        if not await self._db.fetchval(JUST_NOTED, order_id, file_id, buyer_id):
            async with self._db.transaction() as tx:
                await tx.execute("SELECT FROM orders WHERE id = $1 FOR SHARE", order_id)
                if await tx.fetchrow(FILE_OF_ORDER, order_id, file_id) is None:
                    raise Conflict("This was refunded.", code="refunded")
                await tx.execute(NOTE, new_id(), order_id, file_id, buyer_id)

    async def page(self, buyer_id: UUID, *, limit: int, offset: int) -> tuple[list[Bought], int]:
        """A page of what somebody bought and may still download, the latest first, and how much there is."""
        async with self._db.snapshot() as seen:
            rows = await seen.fetch(LIBRARY, buyer_id, list(ENTITLING), limit, offset)
            files = await seen.fetch(FILES, [row["product_id"] for row in rows])
            total: int = await seen.fetchval(HOW_MANY, buyer_id, list(ENTITLING))
        return [_bought(row, files) for row in rows], total


def file_of(row: Record) -> ProductFile:
    return ProductFile(
        id=row["id"],
        product_id=row["product_id"],
        object_key=row["object_key"],
        filename=row["filename"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
    )


def _bought(row: Record, files: Sequence[Record]) -> Bought:
    return Bought(
        product_id=row["product_id"],
        title=row["title"],
        product_type=ProductType(row["product_type"]),
        seller=Seller(row["seller_id"], row["username"]),
        order_id=row["order_id"],
        purchased_at=row["paid_at"],
        licence_key=row["licence_key"],
        quantity=row["quantity"],
        files=tuple(file_of(file) for file in files if file["product_id"] == row["product_id"]),
    )
