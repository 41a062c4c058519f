"""What invoices and credit notes say: as it was on the day of the sale, and as it was said first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
import trio

from tests.store.selling import LEASE, Market, now
from veza.domain.addresses import Address
from veza.domain.audit import By
from veza.domain.errors import Conflict, Forbidden, NotFound
from veza.domain.invoices import FREE, Billing, Buyer, CreditNote, Issuer
from veza.domain.orders import Order
from veza.domain.refund_attempts import Succeed
from veza.domain.refunds import (
    Amount,
    Asker,
    Pieces,
    Wish,
)
from veza.domain.vat import VatRates, parse_vat_rates
from veza.store.bridge import Database
from veza.store.invoices import Invoices
from veza.store.refund_queue import RefundQueue
from veza.store.refunds import Refunds

ISSUER = Issuer("Veza of the tests", Address((), None, "Example City", "FR"), "FR11123456782", "veza.example")
BILLING = Billing(ISSUER, parse_vat_rates("default=20,course=5.5"))
LATER = Billing(replace(ISSUER, name="Veza, moved"), VatRates(2500))


@dataclass
class Office:
    """A market whose sales are invoiced."""

    market: Market
    invoices: Invoices
    seller: UUID
    buyer: Asker

    async def sold(self, cents: int = 999, quantity: int = 1) -> Order:
        product = await self.market.product(self.seller, cents)
        order = await self.market.place(self.buyer.user_id, product, quantity=quantity)
        if order.payment is not None:
            assert (await self.market.settle(order)).paid
        return order

    async def refunded(self, order: Order, wish: Wish) -> UUID:
        """A refund that was paid back."""
        refunds, queue = Refunds(self.market.db, self.market.new_id, timedelta(days=14)), RefundQueue(self.market.db)
        by = By(self.buyer.user_id, "request", "192.0.2.7")
        [refund] = await refunds.ask(
            order.id, Asker(self.seller, is_admin=False), wish, reason="It hums.", details="", by=by, now=now()
        )
        [claim] = await queue.claim(10, LEASE)
        assert await queue.record(claim, Succeed())
        return refund.id


@pytest.fixture
async def office(db: Database) -> AsyncIterator[Office]:
    with trio.fail_after(30):
        market, invoices = Market.over(db), Invoices(db)
        assert await invoices.begin(BILLING)
        yield Office(market, invoices, await market.seller(), Asker(await market.user(), is_admin=False))


async def test_a_sale_keeps_the_issuer_and_the_rates_of_its_day(office: Office) -> None:
    before = await office.sold()
    assert await office.invoices.begin(LATER)
    after = await office.sold()
    assert not await office.invoices.begin(LATER)
    old, new = [await office.invoices.invoice(order.id, office.buyer) for order in (before, after)]
    assert (old.issuer, [line.vat_bp for line in old.lines]) == (ISSUER, [2000])
    assert (new.issuer, [line.vat_bp for line in new.lines]) == (LATER.issuer, [2500])
    assert await office.market.db.fetchval("SELECT count(*) FROM billings") == 2


async def test_what_was_paid_before_anything_was_written_down_has_the_first_that_was(office: Office) -> None:
    order = await office.sold()
    await office.market.run("UPDATE orders SET paid_at = now() - interval '1 year'")
    await office.invoices.begin(LATER)
    assert (await office.invoices.invoice(order.id, office.buyer)).issuer == ISSUER


async def test_whatever_changes_afterwards_a_document_stays_as_it_was_first_made(office: Office) -> None:
    order = await office.sold()
    refund = await office.refunded(order, Amount(500))
    first = await office.invoices.invoice(order.id, office.buyer)
    note = await office.invoices.credit_note(order.id, refund, office.buyer)
    assert (first.lines[0].description, first.lines[0].seller, first.buyer) == (
        "A track",
        "user0",
        Buyer("user1", "user1@veza.example"),
    )
    await office.market.run("UPDATE users SET username = 'x' || username, email = 'x' || email")
    await office.market.run("UPDATE products SET title = 'Another', product_type = 'course'")
    await office.invoices.begin(LATER)
    assert await office.invoices.invoice(order.id, office.buyer) == first
    assert await office.invoices.credit_note(order.id, refund, office.buyer) == note
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await office.market.run("UPDATE invoice_documents SET document = '{}'")


async def test_a_credit_note_says_what_its_invoice_said_even_if_nobody_had_asked_for_that(office: Office) -> None:
    order = await office.sold()
    refund = await office.refunded(order, Amount(500))
    note = await office.invoices.credit_note(order.id, refund, office.buyer)
    await office.market.run("UPDATE users SET username = 'x' || username")
    invoice = await office.invoices.invoice(order.id, office.buyer)
    assert (note.buyer, note.issuer, note.lines[0].seller) == (invoice.buyer, invoice.issuer, invoice.lines[0].seller)


async def test_of_many_who_ask_first_all_read_the_same(office: Office) -> None:
    order, read = await office.sold(), list[object]()

    async def ask() -> None:
        read.append(await office.invoices.invoice(order.id, office.buyer))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert len(read) == 20
    assert all(each == read[0] for each in read)
    assert await office.market.db.fetchval("SELECT count(*) FROM invoice_documents") == 1


async def test_credit_notes_count_on_in_the_order_of_their_numbers_whichever_is_asked_for_first(
    office: Office,
) -> None:
    order = await office.sold(cents=333, quantity=3)
    piece = Pieces({order.items[0].id: 1})
    refunds = [await office.refunded(order, wish) for wish in (piece, piece, Amount(300), Amount(33))]
    notes = dict[UUID, CreditNote]()
    for refund in reversed(refunds):
        notes[refund] = await office.invoices.credit_note(order.id, refund, office.buyer)
    invoice = await office.invoices.invoice(order.id, office.buyer)
    made = [notes[refund] for refund in refunds]
    assert [note.number[-6:] for note in made] == ["000001", "000002", "000003", "000004"]
    assert [note.credited_before for note in made] == [{}, {2000: 333}, {2000: 666}, {2000: 966}]
    assert [(note.lines[0].quantity, note.totals.gross_cents) for note in made] == [
        (1, 333),
        (1, 333),
        (1, 300),
        (1, 33),
    ]
    assert sum(note.totals.vat_cents for note in made) == invoice.totals.vat_cents == 166


async def test_what_was_free_has_an_invoice_of_nothing(office: Office) -> None:
    order = await office.sold(cents=0)
    invoice = await office.invoices.invoice(order.id, office.buyer)
    assert (invoice.number, invoice.totals.gross_cents, invoice.payment_reference) == (order.invoice_number, 0, FREE)


async def test_documents_are_the_buyers_and_an_admins_and_there_are_none_before_the_money_moved(
    office: Office,
) -> None:
    order, other = await office.sold(), await office.sold()
    refund = await office.refunded(order, Amount(500))
    pending = await office.market.place(office.buyer.user_id, await office.market.product(office.seller))
    [asked] = await Refunds(office.market.db, office.market.new_id, timedelta(days=14)).ask(
        order.id, office.buyer, Amount(1), reason="-", details="", by=By(None, "request", None), now=now()
    )
    seller, stranger = Asker(office.seller, is_admin=False), Asker(await office.market.user(), is_admin=False)
    admin = Asker(await office.market.user(), is_admin=True)
    find = office.invoices
    assert await find.invoice(order.id, admin) == await find.invoice(order.id, office.buyer)
    assert await find.credit_note(order.id, refund, admin)
    for asker, refusal in ((seller, Forbidden), (stranger, NotFound)):
        with pytest.raises(refusal):
            await find.invoice(order.id, asker)
        with pytest.raises(refusal):
            await find.credit_note(order.id, refund, asker)
    with pytest.raises(NotFound, match="order"):
        await find.invoice(refund, admin)
    with pytest.raises(NotFound, match="refund"):
        await find.credit_note(other.id, refund, office.buyer)
    with pytest.raises(Conflict) as unpaid:
        await find.invoice(pending.id, office.buyer)
    with pytest.raises(Conflict) as underway:
        await find.credit_note(order.id, asked.id, office.buyer)
    assert (unpaid.value.code, underway.value.code) == ("not_paid", "no_credit_note")
