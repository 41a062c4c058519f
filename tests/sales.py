"""Sales as settlement leaves them, made straight in the database: a paid order, its capture, a transfer that is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from uuid import UUID

from veza.domain.ids import Clock, IdMint
from veza.domain.ledger import capture
from veza.domain.orders import Earning, fee_cents
from veza.store.bridge import Database, Transaction
from veza.store.ledger import book, open_accounts
from veza.store.numbers import take_invoice_number

START = datetime(2026, 2, 23, 12, tzinfo=UTC)


def ticking() -> Clock:
    """A clock that shows a millisecond more each time: what is made later has the greater id."""
    ticks = count()
    return lambda: START + timedelta(milliseconds=next(ticks))


@dataclass
class Sales:
    """Makes sellers, buyers and what they sold. Fees are ten percent."""

    db: Database
    new_id: IdMint = field(default_factory=lambda: IdMint(ticking(), Random(5)))

    async def user(self) -> UUID:
        user_id = self.new_id()
        async with self.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO users (id, username, email, password_hash) VALUES ($1, $2, $2, '')", user_id, user_id.hex
            )
        return user_id

    async def seller(self, account_id: str | None = None, *, active: bool = True) -> UUID:
        """A seller, with an account if one is named."""
        seller_id = await self.user()
        if account_id is not None:
            await self.connect(seller_id, account_id, active=active)
        return seller_id

    async def connect(self, seller_id: UUID, account_id: str, *, active: bool = True) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO connect_accounts (user_id, account_id, transfers_active) VALUES ($1, $2, $3)",
                seller_id,
                account_id,
                active,
            )

    async def sale(self, seller_id: UUID, total: int = 2999, *, held: str | None = None) -> UUID:
        """A paid order of one line; answers its seller's transfer, due at once unless it is ``held``."""
        buyer_id, order_id, transfer_id = await self.user(), self.new_id(), self.new_id()
        fee = fee_cents(total, 1000)
        async with self.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO orders (id, buyer_id, status, currency, total_cents, paid_at, expires_at, payment_id,"
                " invoice_number) VALUES ($1, $2, 'paid', 'EUR', $3, now(), now(), $4, $5)",
                order_id,
                buyer_id,
                total,
                f"pay_{order_id.hex[-26:]}",
                await take_invoice_number(tx),
            )
            await self._line(tx, order_id, seller_id, total)
            await tx.execute(
                "INSERT INTO earnings (order_id, seller_id, gross_cents, fee_cents, fee_bp)"
                " VALUES ($1, $2, $3, $4, 1000)",
                order_id,
                seller_id,
                total,
                fee,
            )
            await open_accounts(tx, [seller_id], "EUR")
            entries = capture(total, [Earning(seller_id, total, fee, 1000)])
            await book(tx, "capture", f"hyperswitch:{order_id}", order_id, entries, "EUR")
            await tx.execute(
                "INSERT INTO transfers (id, order_id, seller_id, amount_cents, platform_fee_cents, currency, status,"
                " hold_reason, next_retry_at) VALUES ($1, $2, $3, $4, $5, 'EUR', $6, $7, $8)",
                transfer_id,
                order_id,
                seller_id,
                total - fee,
                fee,
                "held" if held else "pending",
                held,
                None if held else datetime(2026, 1, 1, tzinfo=UTC),
            )
        return transfer_id

    async def _line(self, tx: Transaction, order_id: UUID, seller_id: UUID, cents: int) -> None:
        """The order's one line, of a product of its own."""
        line_id, product_id = self.new_id(), self.new_id()
        await tx.execute(
            "INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status)"
            " VALUES ($1, $2, 'A track', 'track', $3, 'EUR', 'published')",
            product_id,
            seller_id,
            cents,
        )
        await tx.execute(
            "INSERT INTO order_items (id, order_id, position, product_id, seller_id, title, quantity, unit_price_cents,"
            " total_cents, product_type) VALUES ($1, $2, 0, $3, $4, 'A track', 1, $5, $5, 'track')",
            line_id,
            order_id,
            product_id,
            seller_id,
            cents,
        )

    async def change(self, transfer_id: UUID, what: str) -> None:
        """Set a transfer's columns to SQL."""
        async with self.db.transaction() as tx:
            sql = f"UPDATE transfers SET {what} WHERE id = $1"  # noqa: S608 - the test's own words
            assert await tx.execute(sql, transfer_id) == "UPDATE 1"
