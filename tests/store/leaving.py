"""Somebody with something in every place, each text of theirs marked as nobody else's is; and how to look for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import UUID

from tests.people import NOON, cheap_hasher
from tests.sales import Sales
from tests.store.refunding import Till
from tests.store.selling import Market, now
from veza.domain.accounts import Credentials
from veza.domain.addresses import Address
from veza.domain.audit import By
from veza.domain.erasure import Erasure
from veza.domain.ids import IdMint
from veza.domain.invoices import Billing, Issuer
from veza.domain.orders import Order
from veza.domain.vat import parse_vat_rates
from veza.gateways.passwords import Passwords
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.erasure import Erasures
from veza.store.invoices import Invoices

MARK: Final = "qzxv"
ADDRESS: Final = "203.0.113.77"
MARKS: Final = (MARK, ADDRESS, MARK.encode().hex())  # the last as a bytea shows it

ISSUER: Final = Issuer("Veza of the tests", Address((), None, "Example City", "FR"), "FR11123456782", "veza.example")
BILLING: Final = Billing(ISSUER, parse_vat_rates("default=20"))

COLUMNS: Final = """
SELECT table_name AS table, column_name AS column FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name !~ 'yoyo'
AND table_name NOT IN (SELECT relname FROM pg_class WHERE relispartition) ORDER BY 1, ordinal_position
"""
REFERRING: Final = """
SELECT c.conrelid::regclass::text AS table, a.attname AS column FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.confrelid = 'users'::regclass ORDER BY 1, 2
"""

# As the person's: with their id for PERSON, a text of theirs for TEXT, the address they came from for ADDRESS.
BELONGINGS: Final = """
INSERT INTO sessions (id, user_id, refresh_id, expires_at, user_agent, address)
    VALUES (gen_random_uuid(), PERSON, gen_random_uuid(), now() + interval '7 days', TEXT, ADDRESS);
INSERT INTO stream_tickets (hash, user_id, session_id, expires_at)
    SELECT TEXT::bytea, user_id, id, now() FROM sessions WHERE user_id = PERSON;
INSERT INTO idempotency_keys (user_id, route, key, body_sha256, resource_id)
    VALUES (PERSON, 'any', TEXT, TEXT::bytea, gen_random_uuid());
INSERT INTO notification_numbers (user_id, last) VALUES (PERSON, 1);
INSERT INTO notifications (id, user_id, number, kind, title, body, data)
    VALUES (gen_random_uuid(), PERSON, 1, 'warranty_ending', TEXT, TEXT, jsonb_build_object('of', TEXT));
INSERT INTO gear (id, owner_id, name, category, brand, model, serial_number, status, notes, category_key, words,
                  created_at, updated_at)
    VALUES (gen_random_uuid(), PERSON, TEXT, TEXT, TEXT, TEXT, TEXT, 'active', TEXT, TEXT, TEXT, now(), now());
INSERT INTO gear_documents (id, gear_id, type, object_key, filename, content_type, size_bytes, created_at)
    SELECT gen_random_uuid(), id, 'invoice', TEXT, TEXT, TEXT, 4, now() FROM gear WHERE owner_id = PERSON;
INSERT INTO gear_repairs (id, gear_id, repair_date, description, provider, created_at)
    SELECT gen_random_uuid(), id, current_date, TEXT, TEXT, now() FROM gear WHERE owner_id = PERSON;
INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type, created_at,
                         updated_at)
    VALUES (gen_random_uuid(), PERSON, TEXT, TEXT, 2, TEXT, 4, TEXT, now(), now());
INSERT INTO cloud_versions (id, file_id, version, object_key, size_bytes, content_type, created_at)
    SELECT gen_random_uuid(), id, 1, TEXT, 4, TEXT, now() FROM cloud_files WHERE owner_id = PERSON;
INSERT INTO cloud_shares (id, file_id, token_hash, expires_at, created_at)
    SELECT gen_random_uuid(), id, TEXT::bytea, now(), now() FROM cloud_files WHERE owner_id = PERSON;
INSERT INTO streams (id, owner_id, title, description, category, tags, created_at, updated_at)
    VALUES (gen_random_uuid(), PERSON, TEXT, TEXT, TEXT, ARRAY[TEXT], now(), now());
INSERT INTO stream_sessions (id, stream_id, state, holder, key_version, started_at, live_at, ended_at, end_reason,
                             video)
    SELECT gen_random_uuid(), id, 'ended', gen_random_uuid(), 1, now(), now(), now(), 'finished',
        jsonb_build_object('codec', TEXT)
    FROM streams WHERE owner_id = PERSON;
INSERT INTO exports (id, user_id, status, object_key, size_bytes, failure, due_at, finished_at, created_at, expires_at)
    VALUES (gen_random_uuid(), PERSON, 'ready', TEXT, 4, TEXT, NULL, now(), now(), now());
UPDATE users SET ban_reason = TEXT WHERE id = PERSON;
INSERT INTO users (id, username, email, password_hash) VALUES (gen_random_uuid(), 'x-y', 'x-y', '');
INSERT INTO reports (id, reporter_id, subject, content_type, content_id, owner_id, reason)
    SELECT gen_random_uuid(), PERSON, 'user', 'user', id, id, TEXT FROM users WHERE username = 'x-y';
INSERT INTO reports (id, reporter_id, subject, content_type, content_id, owner_id, reason, status, action, note,
                     decided_by, decided_at)
    SELECT gen_random_uuid(), id, 'user', 'user', PERSON, PERSON, TEXT, 'resolved', 'warn', TEXT, PERSON, now()
    FROM users WHERE username = 'x-y';
INSERT INTO audit_entries (id, actor_id, action, resource, address)
    VALUES (gen_random_uuid(), PERSON, 'refund.ask', 'refund', ADDRESS);
"""


@dataclass
class Leaver:
    """A person, and a database in which they are."""

    db: Database
    market: Market
    till: Till
    invoices: Invoices
    erasures: Erasures
    id: UUID

    @classmethod
    async def over(cls, db: Database) -> Leaver:
        market, new_id = Market.over(db), IdMint(now, Random(9))
        invoices = Invoices(db)
        await invoices.begin(BILLING)
        person = market.new_id()
        await market.run(
            "INSERT INTO users (id, username, email, password_hash) VALUES ($1, 'QZXV_Ann', 'qzxv@example.com', $2)",
            person,
            cheap_hasher().hash(f"{MARK}-password-1"),
        )
        return cls(db, market, await Till.open(db, Sales(db)), invoices, Erasures(db, new_id), person)

    @property
    def by(self) -> By:
        return By(self.id, "request", ADDRESS)

    async def credentials(self) -> Credentials:
        found = await Accounts(self.db).credentials_of(self.id)
        assert found is not None
        return found

    async def erase(self, credentials: Credentials | None = None) -> Erasure:
        """As the route does it, once the password is verified."""
        verified = credentials or await self.credentials()
        await self.erasures.write_documents(self.id)
        no_password = Passwords(cheap_hasher()).hash_of_nothing()
        erasure = await self.erasures.erase(verified, no_password, by=self.by, now=NOON)
        assert erasure is not None
        return erasure

    # -- what they have ------------------------------------------------------------------------------------------------

    async def settle_in(self) -> None:
        """Something in every place, with nothing of it under way."""
        of = {"PERSON": f"'{self.id}'::uuid", "TEXT": f"'{MARK} 1'::text", "ADDRESS": f"'{ADDRESS}'"}
        sql = BELONGINGS
        for name, literal in of.items():
            sql = sql.replace(name, literal)
        await self.market.run(sql)
        await self.sell()
        await self.buy()

    async def shelve(self, title: str = f"{MARK} track") -> UUID:
        """A product of theirs on sale, with a cover, a preview and a file."""
        product = await self.market.product(self.id)
        await self.market.run(
            "UPDATE products SET title = $2, description = $3, tags = ARRAY[$3], words = to_tsvector('simple', $3),"
            " cover_key = $4, cover_type = 'image/png', preview_key = $5, preview_type = 'audio/mpeg' WHERE id = $1",
            product,
            title,
            f"{MARK} story",
            f"{MARK} cover",
            f"{MARK} preview",
        )
        file = await self.market.file(product, f"{MARK} object")
        await self.market.run("UPDATE product_files SET filename = $2 WHERE id = $1", file, f"{MARK}.wav")
        return product

    async def sell(self) -> Order:
        """One product that was sold, in part refunded, paid out and rated; one that expired in an order; one unsold."""
        await self.till.sales.connect(self.id, f"acct_{MARK}")
        await self.shelve()
        tried, buyer = await self.shelve(), await self.market.user()
        abandoned = await self.market.place(buyer, tried)
        await self.market.run("UPDATE orders SET status = 'expired', sync_due_at = NULL WHERE id = $1", abandoned.id)
        sold = await self.shelve()
        order = await self.market.place(buyer, sold)
        assert (await self.market.settle(order)).paid
        await self.till.refund(await self.transfer(order), 100)
        await self.pay_out(self.id)
        await self.review(sold, order.id, buyer, "Fine.", f"{MARK}: thank you")
        return order

    async def buy(self, seller: UUID | None = None) -> Order:
        """An order that was paid, downloaded, reviewed, in part refunded and disputed in vain."""
        seller = seller or await self.market.seller()
        product = await self.market.product(seller)
        order = await self.market.place(self.id, product)
        assert (await self.market.settle(order)).paid
        await self.market.run(
            "INSERT INTO downloads (id, order_id, file_id, user_id) VALUES ($1, $2, $1, $3)",
            self.market.new_id(),
            order.id,
            self.id,
        )
        await self.review(product, order.id, self.id, f"{MARK} hums", None)
        await self.till.refund(await self.transfer(order), 500)
        await self.market.run(
            "UPDATE refunds SET requested_by = $2, decided_by = $2, reason = $3, details = $3 WHERE order_id = $1",
            order.id,
            self.id,
            f"{MARK} reason",
        )
        await self.market.run(
            "INSERT INTO disputes (id, order_id, state, closed_at) VALUES ($1, $2, 'won', now())",
            f"dp_{order.id}",
            order.id,
        )
        return order

    async def review(self, product: UUID, order_id: UUID, buyer: UUID, comment: str, response: str | None) -> None:
        await self.market.run(
            "INSERT INTO reviews (id, product_id, order_id, buyer_id, rating, comment, response, responded_at)"
            " VALUES ($1, $2, $3, $4, 4, $5, $6, CASE WHEN $6::text IS NOT NULL THEN now() END)",
            self.market.new_id(),
            product,
            order_id,
            buyer,
            comment,
            response,
        )
        await self.market.run(
            "UPDATE products SET rating_sum = rating_sum + 4, rating_count = rating_count + 1 WHERE id = $1", product
        )

    async def transfer(self, order: Order) -> UUID:
        transfer_id: UUID = await self.db.fetchval("SELECT id FROM transfers WHERE order_id = $1", order.id)
        return transfer_id

    async def pay_out(self, seller: UUID) -> None:
        due = "SELECT id FROM transfers WHERE seller_id = $1 AND status = 'pending' ORDER BY id"
        for row in await self.db.fetch(due, seller):
            await self.till.pay(await self.till.in_hand(row["id"]))

    # -- what is found of them -----------------------------------------------------------------------------------------

    async def marked(self) -> set[str]:
        """Every column, of whatever type, in which a mark of theirs stands."""
        found = set()
        for table, column in await self.db.fetch(COLUMNS):
            where = " OR ".join(f"strpos(lower({column}::text), '{mark}') > 0" for mark in MARKS)
            if await self.db.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE {where})"):  # noqa: S608 - own names
                found.add(f"{table}.{column}")
        return found

    async def referring(self) -> Mapping[str, int]:
        """Of every table that refers to users, how many rows are the person's."""
        counted: dict[str, int] = {}
        for table, column in await self.db.fetch(REFERRING):
            sql = f"SELECT count(*) FROM {table} WHERE {column} = $1"  # noqa: S608 - the catalog's own names
            counted[table] = counted.get(table, 0) + await self.db.fetchval(sql, self.id)
        return counted
