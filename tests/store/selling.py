"""People and products as rows, for tests of what is sold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from uuid import UUID

from veza.domain.ids import IdMint
from veza.domain.orders import CartLine, IdempotencyKey, Order, Terms
from veza.domain.payments import DueOrder, Payment, PaymentStatus
from veza.store.bridge import Database
from veza.store.orders import Orders
from veza.store.payments import Claim, Payments, Recorded

TERMS = Terms("EUR", 1000, timedelta(minutes=30))
EVERY = timedelta(seconds=60)
LEASE = timedelta(seconds=50)


def now() -> datetime:
    return datetime.now(UTC)


def key(name: str, body: bytes = b"one") -> IdempotencyKey:
    return IdempotencyKey(name, body.ljust(32, b"."))


@dataclass
class Market:
    """A database, and what a test does in it."""

    db: Database
    new_id: IdMint
    names: Iterator[int]

    @classmethod
    def over(cls, db: Database, seed: int = 1) -> Market:
        return cls(db, IdMint(now, Random(seed)), count())

    @property
    def orders(self) -> Orders:
        return Orders(self.db)

    @property
    def payments(self) -> Payments:
        return Payments(self.db)

    async def run(self, sql: str, *args: object) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(sql, *args)

    async def user(self) -> UUID:
        user_id, name = self.new_id(), f"user{next(self.names)}"
        await self.run(
            "INSERT INTO users (id, username, email, password_hash) VALUES ($1, $2, $2 || '@veza.example', '')",
            user_id,
            name,
        )
        return user_id

    async def seller(self, *, active: bool = True) -> UUID:
        seller = await self.user()
        await self.run(
            "INSERT INTO connect_accounts (user_id, account_id, transfers_active) VALUES ($1, $2, $3)",
            seller,
            f"acct_{seller.hex}",
            active,
        )
        return seller

    async def product(
        self, seller: UUID, cents: int = 2999, *, status: str = "published", currency: str = "EUR"
    ) -> UUID:
        product_id = self.new_id()
        await self.run(
            "INSERT INTO products (id, seller_id, title, product_type, price_cents, currency, status)"
            " VALUES ($1, $2, 'A track', 'track', $3, $4, $5)",
            product_id,
            seller,
            cents,
            currency,
            status,
        )
        return product_id

    async def file(self, product_id: UUID, object_key: str = "0" * 64) -> UUID:
        file_id = self.new_id()
        await self.run(
            "INSERT INTO product_files (id, product_id, object_key, filename, content_type, size_bytes)"
            " VALUES ($1, $2, $3, 'track.wav', 'audio/wav', 4)",
            file_id,
            product_id,
            object_key,
        )
        return file_id

    async def place(
        self, buyer: UUID, *products: UUID, named: IdempotencyKey | None = None, quantity: int = 1
    ) -> Order:
        lines = [CartLine(product, quantity) for product in products]
        return (await self.orders.place(buyer, lines, TERMS, key=named, now=now(), new_id=self.new_id)).order

    def claim(self, lease: timedelta = LEASE) -> Claim:
        return Claim(self.new_id(), lease)

    async def take(self, order: Order, claim: Claim) -> DueOrder:
        """The order in hand, whatever its status: as after an event."""
        await self.run("UPDATE orders SET sync_due_at = now() WHERE id = $1", order.id)
        taken: Sequence[DueOrder] = await self.payments.claim_due(100, claim, EVERY)
        return next(due for due in taken if due.id == order.id)

    async def settle(self, order: Order, payment: Payment | None = None) -> Recorded:
        claim = self.claim()
        due = await self.take(order, claim)
        return await self.payments.settle(
            due, claim.id, payment or paid(order), payout_delay=timedelta(0), new_id=self.new_id
        )

    async def status(self, order: Order) -> str:
        value: str = await self.db.fetchval("SELECT status FROM orders WHERE id = $1", order.id)
        return value


def paid(order: Order, status: PaymentStatus = PaymentStatus.SUCCEEDED) -> Payment:
    assert order.payment is not None
    return Payment(order.payment.payment_id, status, order.total_cents, order.currency, "secret")
