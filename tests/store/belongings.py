"""People who have something in every table: what is theirs bears their name, what nobody may see the word SECRET."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from veza.domain.addresses import Address
from veza.domain.ids import NewId
from veza.domain.invoices import Buyer, Credited, CreditNote, Invoice, InvoiceLine, Issuer, credit_note
from veza.store.bridge import Database, Transaction
from veza.store.invoices import CREDIT_NOTE, INVOICE

AT = datetime(2026, 2, 23, 12, 30, 15, 250_000, tzinfo=UTC)
ISSUER = Issuer("Veza of the tests", Address((), None, "Example City", "FR"), None, "veza.example")


@dataclass(frozen=True)
class Person:
    name: str
    id: UUID
    product: UUID
    account: UUID
    """In the ledger."""


@dataclass(frozen=True)
class Trade:
    """``buyer`` bought ``seller``'s product."""

    order: UUID
    line: UUID
    refund: UUID
    transfer: UUID
    review: UUID
    number: int


@dataclass
class Belongings:
    db: Database
    new_id: NewId
    numbers: int = 0

    async def person(self, name: str) -> Person:
        """One with an account, works and things."""
        who = Person(name, self.new_id(), self.new_id(), self.new_id())
        async with self.db.transaction() as tx:
            await self._account(tx, who)
            await self._work(tx, who)
            await self._things(tx, who)
        return who

    async def trade(self, buyer: Person, seller: Person) -> Trade:
        """A sale with all that can come of one."""
        self.numbers += 1
        made = Trade(self.new_id(), self.new_id(), self.new_id(), self.new_id(), self.new_id(), self.numbers)
        async with self.db.transaction() as tx:
            await self._sale(tx, made, buyer, seller)
            await self._payout(tx, made, seller)
            await self._refund(tx, made, buyer, seller)
        return made

    async def _account(self, tx: Transaction, who: Person) -> None:
        session = self.new_id()
        await tx.execute(
            "INSERT INTO users (id, username, email, password_hash, created_at, updated_at, banned_at, banned_until,"
            " ban_reason) VALUES ($1, $2, $2 || '@x', 'SECRET', $3, $3, '2001-01-01', '2001-01-02', $2)",
            who.id,
            who.name,
            AT,
        )
        await tx.execute(
            "INSERT INTO sessions (id, user_id, refresh_id, previous_id, expires_at, user_agent, address)"
            " VALUES ($1, $2, gen_random_uuid(), gen_random_uuid(), $3, $4, '192.0.2.1')",
            session,
            who.id,
            AT,
            who.name,
        )
        await tx.execute(
            "INSERT INTO notifications (id, user_id, number, kind, title, body, data)"
            " VALUES ($1, $2, 1, 'export_ready', $3, $3,"
            " jsonb_build_object('download_url', 'SECRET', 'export_id', $3::text))",
            self.new_id(),
            who.id,
            who.name,
        )
        await tx.execute("INSERT INTO notification_numbers (user_id, last) VALUES ($1, 1)", who.id)
        await self._reports(tx, who)
        await tx.execute(
            "INSERT INTO stream_tickets (hash, user_id, session_id, expires_at) VALUES ($1, $2, $3, $4)",
            who.id.bytes,
            who.id,
            session,
            AT,
        )
        await tx.execute("INSERT INTO exports (id, user_id, created_at) VALUES ($1, $2, $3)", self.new_id(), who.id, AT)
        await tx.execute(
            "INSERT INTO idempotency_keys (user_id, route, key, body_sha256, resource_id)"
            " VALUES ($1, 'orders', $2, 'SECRET'::bytea, gen_random_uuid())",
            who.id,
            who.name,
        )
        await tx.execute(
            "INSERT INTO audit_entries (id, actor_id, action, resource, details)"
            " VALUES ($1, $2, 'transfer.retry', $3, '{\"of\": \"SECRET\"}')",
            self.new_id(),
            who.id,
            who.name,
        )
        await tx.execute(
            "INSERT INTO connect_accounts (user_id, account_id) VALUES ($1, $2)", who.id, f"acct_{who.name}"
        )
        await tx.execute(
            "INSERT INTO ledger_accounts (id, kind, owner, currency) VALUES ($1, 'seller', $2, 'EUR')",
            who.account,
            who.id,
        )

    async def _reports(self, tx: Transaction, who: Person) -> None:
        """One that they made of somebody, and one that somebody made of them."""
        other = self.new_id()
        await tx.execute(
            "INSERT INTO users (id, username, email, password_hash) VALUES ($1, $2, $2, 'SECRET')",
            other,
            f"SECRET of {who.id}",
        )
        for reporter, owner, words in ((who.id, other, who.name), (other, who.id, "SECRET")):
            await tx.execute(
                "INSERT INTO reports (id, reporter_id, subject, content_type, content_id, owner_id, reason, status,"
                " action, note, decided_by, decided_at)"
                " VALUES ($1, $2, 'product', 'track', gen_random_uuid(), $3, $4, 'resolved', 'warn', $5, $2, $6)",
                self.new_id(),
                reporter,
                owner,
                words,
                who.name if owner == who.id else "SECRET",
                AT,
            )

    async def _work(self, tx: Transaction, who: Person) -> None:
        await tx.execute(
            "INSERT INTO products (id, seller_id, title, description, product_type, price_cents, currency, tags,"
            " status, cover_key, cover_type, preview_key, preview_type)"
            " VALUES ($1, $2, $3, $3, 'track', 100, 'EUR', ARRAY[$3], 'published', $4, 'image/png', $4, 'audio/mpeg')",
            who.product,
            who.id,
            who.name,
            "SECRET",
        )
        await tx.execute(
            "INSERT INTO product_files (id, product_id, object_key, filename, content_type, size_bytes)"
            " VALUES ($1, $2, 'SECRET', $3, 'audio/wav', 4)",
            self.new_id(),
            who.product,
            f"{who.name}.wav",
        )
        stream = self.new_id()
        await tx.execute(
            "INSERT INTO streams (id, owner_id, title, description, tags, created_at, updated_at)"
            " VALUES ($1, $2, $3, $3, '{}', $4, $4)",
            stream,
            who.id,
            who.name,
            AT,
        )
        await tx.execute(
            "INSERT INTO stream_sessions (id, stream_id, state, holder, client_id, key_version, started_at, ended_at,"
            " end_reason, video) VALUES ($1, $2, 'ended', gen_random_uuid(), 'SECRET', 1, $3, $3, 'finished', $4)",
            self.new_id(),
            stream,
            AT,
            '{"codec": "H264"}',
        )

    async def _things(self, tx: Transaction, who: Person) -> None:
        file, gear = self.new_id(), self.new_id()
        await tx.execute(
            "INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type,"
            " created_at, updated_at) VALUES ($1, $2, $3, 'SECRET', 2, 'SECRET', 4, 'audio/wav', $4, $4)",
            file,
            who.id,
            f"{who.name}.wav",
            AT,
        )
        await tx.execute(
            "INSERT INTO cloud_versions (id, file_id, version, object_key, size_bytes, content_type, created_at)"
            " VALUES ($1, $2, 1, 'SECRET before', 4, 'audio/wav', $3)",
            self.new_id(),
            file,
            AT,
        )
        await tx.execute(
            "INSERT INTO cloud_shares (id, file_id, token_hash, expires_at, created_at) VALUES ($1, $2, $3, $4, $4)",
            self.new_id(),
            file,
            file.bytes,
            AT,
        )
        await tx.execute(
            "INSERT INTO gear (id, owner_id, name, status, words, purchase_date, created_at, updated_at)"
            " VALUES ($1, $2, $3, 'active', 'SECRET', '2025-12-24', $4, $4)",
            gear,
            who.id,
            who.name,
            AT,
        )
        await tx.execute(
            "INSERT INTO gear_documents (id, gear_id, type, object_key, filename, content_type, size_bytes, created_at)"
            " VALUES ($1, $2, 'manual', 'SECRET', $3, 'application/pdf', 4, $4)",
            self.new_id(),
            gear,
            f"{who.name}.pdf",
            AT,
        )
        await tx.execute(
            "INSERT INTO gear_repairs (id, gear_id, repair_date, description, created_at)"
            " VALUES ($1, $2, '2026-01-02', $3, $4)",
            self.new_id(),
            gear,
            who.name,
            AT,
        )

    async def _sale(self, tx: Transaction, made: Trade, buyer: Person, seller: Person) -> None:
        await tx.execute(
            "INSERT INTO orders (id, buyer_id, status, currency, total_cents, paid_at, expires_at, payment_id,"
            " client_secret, payment_note, invoice_number) VALUES ($1, $2, 'paid', 'EUR', 100, $3, $3, $4, 'SECRET',"
            " $5, $6)",
            made.order,
            buyer.id,
            AT,
            f"pay_{made.number}",
            f"note for {buyer.name}",
            f"2026-{made.number:06}",
        )
        await tx.execute(
            "INSERT INTO order_items (id, order_id, position, product_id, seller_id, title, quantity, unit_price_cents,"
            " total_cents, product_type) VALUES ($1, $2, 0, $3, $4, 'Sold', 1, 100, 100, 'track')",
            made.line,
            made.order,
            seller.product,
            seller.id,
        )
        await tx.execute(
            "INSERT INTO invoice_documents (number, document) VALUES ($1, $2)",
            f"2026-{made.number:06}",
            INVOICE.dump_json(_invoice(made, buyer)).decode(),
        )
        await tx.execute(
            "INSERT INTO downloads (id, order_id, file_id, user_id) VALUES ($1, $2, gen_random_uuid(), $3)",
            self.new_id(),
            made.order,
            buyer.id,
        )
        await tx.execute(
            "INSERT INTO reviews (id, product_id, order_id, buyer_id, rating, comment, response, responded_at)"
            " VALUES ($1, $2, $3, $4, 4, $5, 'Thanks', $6)",
            made.review,
            seller.product,
            made.order,
            buyer.id,
            f"says {buyer.name}",
            AT,
        )
        await tx.execute(
            "INSERT INTO disputes (id, order_id, state, amount_cents) VALUES ($1, $2, 'open', 100)",
            f"dp_{buyer.name}_{made.number}",
            made.order,
        )

    async def _payout(self, tx: Transaction, made: Trade, seller: Person) -> None:
        await tx.execute(
            "INSERT INTO earnings (order_id, seller_id, gross_cents, fee_cents, fee_bp) VALUES ($1, $2, 100, 10, 1000)",
            made.order,
            seller.id,
        )
        await tx.execute(
            "INSERT INTO transfers (id, order_id, seller_id, amount_cents, platform_fee_cents, currency, status,"
            " failure_message, next_retry_at) VALUES ($1, $2, $3, 90, 10, 'EUR', 'failed', $4, $5)",
            made.transfer,
            made.order,
            seller.id,
            "SECRET: no such account",
            AT,
        )
        await tx.execute(
            "INSERT INTO transfer_attempts (claim_id, transfer_id, idempotency_key, outcome, message)"
            " VALUES (gen_random_uuid(), $1, 'SECRET', $2, 'SECRET')",
            made.transfer,
            "Paid",
        )
        journal = self.new_id()
        await tx.execute(
            "INSERT INTO ledger_accounts (kind, currency) VALUES ('clearing', 'EUR') ON CONFLICT DO NOTHING"
        )
        await tx.execute(
            "INSERT INTO journals (id, kind, external_ref, order_id) VALUES ($1, 'capture', $2, $3)",
            journal,
            f"hyperswitch:{seller.name}:{made.number}",
            made.order,
        )
        for account, cents in ((seller.account, -100), (None, 100)):
            await tx.execute(
                "INSERT INTO entries (journal_id, account_id, amount_cents, currency)"
                " SELECT $1, coalesce($2, id), $3, 'EUR' FROM ledger_accounts WHERE kind = 'clearing'",
                journal,
                account,
                cents,
            )

    async def _refund(self, tx: Transaction, made: Trade, buyer: Person, seller: Person) -> None:
        share = self.new_id()
        await tx.execute(
            "INSERT INTO refunds (id, order_id, origin, requested_by, status, reason, details, amount_cents, currency,"
            " reference, decided_by, decided_at, completed_at, credit_note_number, failure_message) VALUES ($1, $2,"
            " 'buyer', $3, 'succeeded', 'other', 'please', 50, 'EUR', $4, $5, $6, $6, $7, 'SECRET')",
            made.refund,
            made.order,
            buyer.id,
            f"SECRET {made.number}",
            seller.id,
            AT,
            f"CN-2026-{made.number:06}",
        )
        await tx.execute(
            "INSERT INTO invoice_documents (number, document) VALUES ($1, $2)",
            f"CN-2026-{made.number:06}",
            CREDIT_NOTE.dump_json(_credit_note(made, buyer)).decode(),
        )
        await tx.execute(
            "INSERT INTO refund_items (refund_id, order_item_id, amount_cents) VALUES ($1, $2, 50)",
            made.refund,
            made.line,
        )
        await tx.execute(
            "INSERT INTO refund_shares (id, refund_id, order_id, seller_id, currency, gross_cents, fee_cents,"
            " withheld_cents, status) VALUES ($1, $2, $3, $4, 'EUR', 50, 5, 45, 'settled')",
            share,
            made.refund,
            made.order,
            seller.id,
        )
        await tx.execute(
            "INSERT INTO withholdings (share_id, transfer_id, amount_cents) VALUES ($1, $2, 45)", share, made.transfer
        )


def _invoice(made: Trade, buyer: Person) -> Invoice:
    return Invoice(
        number=f"2026-{made.number:06}",
        issued_at=AT,
        currency="EUR",
        issuer=ISSUER,
        buyer=Buyer(buyer.name, f"{buyer.name}@x"),
        lines=(InvoiceLine("Sold", "the seller", 1, 100, 0),),
        order_id=str(made.order),
        settled_at=AT,
        payment_reference=f"pay_{made.number}",
    )


def _credit_note(made: Trade, buyer: Person) -> CreditNote:
    invoice = _invoice(made, buyer)
    part = Credited(invoice.lines[0], 50, None)
    return credit_note(
        invoice,
        f"CN-2026-{made.number:06}",
        [part],
        [],
        issued_at=AT,
        payment_reference=f"re_{made.number}",
        reason="other",
    )
