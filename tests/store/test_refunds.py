"""Refunds' rows: asked for within what is left, done once under a claim, given up without a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
import trio

from tests.store.refunding import LEASE, NONE, WINDOW, Till
from tests.store.selling import Market, key
from veza.domain.audit import By
from veza.domain.errors import Conflict, NotFound
from veza.domain.orders import Order
from veza.domain.payments import payment_id_of
from veza.domain.refund_attempts import (
    AskAgain,
    Fail,
    RefundClaim,
    Succeed,
)
from veza.domain.refunds import (
    Amount,
    Asker,
    Pieces,
    Refund,
    RefundStatus,
    Whole,
    Wish,
    refund_id_of,
)
from veza.store.bridge import Database
from veza.store.refunds import Refunds

LATER = timedelta(hours=1)
FAIL = Fail("refund_failed", "The bank said no")


@pytest.fixture
async def till(db: Database) -> AsyncIterator[Till]:
    """Whatever a test does at it, the books hold in the end."""
    open_till = await Till.open(db)
    yield open_till
    await open_till.assert_balanced()


async def order_of(till: Till, transfer_id: UUID) -> tuple[str, int]:
    """The order's status, and what is gone of its line."""
    row = await till.db.fetchrow(
        "SELECT o.status, i.refunded_cents FROM transfers t JOIN orders o ON o.id = t.order_id"
        " JOIN order_items i ON i.order_id = o.id WHERE t.id = $1",
        transfer_id,
    )
    assert row is not None
    return row["status"], row["refunded_cents"]


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_what_is_asked_for_is_gone_from_its_line_and_its_transfer_stands_still(till: Till) -> None:
    transfer_id = await till.sale()
    refund = await till.ask(transfer_id, 1000)
    assert (refund.status, refund.amount_cents) == (RefundStatus.PENDING, 1000)
    assert await order_of(till, transfer_id) == ("paid", 1000)
    assert (await till.row("transfers", transfer_id))["open_refunds"] == 1
    assert await till.payouts.claim(5, LEASE, retries=True) == []
    assert await till.payouts.next_due_in(retries=True) is None
    await till.sales.change(transfer_id, "status = 'failed', next_retry_at = NULL")
    assert isinstance(await till.payouts.claim_one(transfer_id, LEASE, By(till.admin)), Conflict)
    [share] = await till.db.fetch("SELECT status, gross_cents, fee_cents FROM refund_shares")
    assert tuple(share) == ("open", 1000, 100)


async def test_no_more_is_given_back_than_is_left_even_before_the_first_is_done(till: Till) -> None:
    transfer_id = await till.sale()
    await till.ask(transfer_id, 2000)
    with pytest.raises(Conflict, match="At most 999"):
        await till.ask(transfer_id, 1000)
    assert (await till.ask(transfer_id)).amount_cents == 999
    with pytest.raises(Conflict, match="Nothing"):
        await till.ask(transfer_id)
    assert (await till.row("transfers", transfer_id))["open_refunds"] == 2


async def test_twenty_at_once_take_no_more_than_there_is(till: Till) -> None:
    transfer_id = await till.paid_out()
    made, refused = list[Refund](), list[Conflict]()

    async def ask() -> None:
        try:
            made.append(await till.ask(transfer_id, 400))
        except Conflict as refusal:
            refused.append(refusal)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert (len(made), len(refused)) == (7, 13)
        made.append(await till.ask(transfer_id))
        claims = await till.queue.claim(20, LEASE)
        async with trio.open_nursery() as nursery:
            for claim in claims:
                nursery.start_soon(till.queue.record, claim, Succeed())
    assert await order_of(till, transfer_id) == ("refunded", 2999)
    row = await till.db.fetchrow("SELECT sum(fee_cents) AS fee, sum(reversing_cents) AS reversing FROM refund_shares")
    assert row is not None
    assert (row["fee"], row["reversing"]) == (300, 2699), "the whole fee went back, to the cent"


async def test_a_request_repeated_under_its_key_refunds_once(till: Till) -> None:
    transfer_id = await till.sale()
    order_id: UUID = await till.db.fetchval("SELECT order_id FROM transfers WHERE id = $1", transfer_id)
    made: list[Refund] = []

    async def ask(wish: Wish, body: bytes = b"one") -> None:
        made.extend(
            await till.refunds.ask(
                order_id,
                Asker(till.admin, is_admin=True),
                wish,
                reason="It hums",
                details="",
                by=By(till.admin),
                now=datetime.now(UTC),
                key=key("refund", body),
            )
        )

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask, Amount(100))
    assert len(made) == 1
    with pytest.raises(Conflict):
        await ask(Amount(200), b"other")
    assert await order_of(till, transfer_id) == ("paid", 100)


async def test_what_is_refused_keeps_its_key_free(till: Till) -> None:
    transfer_id = await till.sale()
    order_id: UUID = await till.db.fetchval("SELECT order_id FROM transfers WHERE id = $1", transfer_id)
    by, asker = By(till.admin), Asker(till.admin, is_admin=True)
    now, named = datetime.now(UTC), key("refund")
    with pytest.raises(Conflict):
        await till.refunds.ask(order_id, asker, Amount(3000), reason="x", details="", by=by, now=now, key=named)
    [made] = await till.refunds.ask(order_id, asker, Amount(2999), reason="x", details="", by=by, now=now, key=named)
    assert made.amount_cents == 2999


async def test_a_stranger_learns_of_no_order(till: Till) -> None:
    transfer_id, stranger = await till.sale(), Asker(await till.seller(), is_admin=False)
    order_id: UUID = await till.db.fetchval("SELECT order_id FROM transfers WHERE id = $1", transfer_id)
    refund = await till.ask(transfer_id, 100)
    for wanted in (order_id, till.sales.new_id()):
        with pytest.raises(NotFound):
            await till.refunds.of_order(wanted, stranger)
    with pytest.raises(NotFound):
        await till.refunds.decline(refund.id, stranger, By(stranger.user_id))


# -- deciding ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A buyer took the files of three pieces at 1000, and asked for all their money back."""

    refunds: Refunds
    order: Order
    seller: Asker
    buyer: Asker
    refund: Refund

    async def approve(self, by: Asker | None = None) -> Refund:
        asker = by or self.seller
        return await self.refunds.approve(self.refund.id, asker, By(asker.user_id))

    async def decline(self, by: Asker | None = None) -> Refund:
        asker = by or self.seller
        return await self.refunds.decline(self.refund.id, asker, By(asker.user_id))

    async def ask(self, by: Asker, wish: Wish) -> list[Refund]:
        return await ask(self.refunds, self.order.id, by, wish)


async def ask(refunds: Refunds, order_id: UUID, by: Asker, wish: Wish) -> list[Refund]:
    now = datetime.now(UTC)
    return await refunds.ask(order_id, by, wish, reason="It hums", details="", by=By(by.user_id), now=now)


@pytest.fixture
async def request_of(till: Till, db: Database) -> Request:
    market = Market.over(db)
    seller, buyer = await market.seller(), await market.user()
    product = await market.product(seller, 1000)
    order = await market.place(buyer, product, quantity=3)
    await market.settle(order)
    taken = (market.new_id(), order.id, await market.file(product), buyer)
    await market.run("INSERT INTO downloads (id, order_id, file_id, user_id) VALUES ($1, $2, $3, $4)", *taken)
    refunds = Refunds(db, market.new_id, WINDOW)
    [refund] = await ask(refunds, order.id, Asker(buyer, is_admin=False), Whole())
    return Request(refunds, order, Asker(seller, is_admin=False), Asker(buyer, is_admin=False), refund)


async def test_a_request_takes_nothing_until_it_is_approved(till: Till, request_of: Request) -> None:
    assert request_of.refund.status is RefundStatus.REQUESTED
    assert await till.queue.claim(5, LEASE) == []
    assert await till.db.fetchval("SELECT refunded_cents FROM order_items") == 0
    assert await till.db.fetchval("SELECT open_refunds FROM transfers") == 0
    with pytest.raises(Conflict, match="asked for already"):
        await request_of.ask(request_of.buyer, Whole())
    assert (await request_of.approve()).status is RefundStatus.PENDING
    assert await till.db.fetchval("SELECT refunded_cents FROM order_items") == 3000
    assert await till.db.fetchval("SELECT open_refunds FROM transfers") == 1
    [claim] = await till.queue.claim(5, LEASE)
    assert (claim.refund_id, claim.payment_id) == (request_of.refund.id, payment_id_of(request_of.order.id))


async def test_of_ten_decisions_at_once_one_stands(till: Till, request_of: Request) -> None:
    decided, refused = list[RefundStatus](), list[Conflict]()

    async def decide(number: int) -> None:
        try:
            done = await (request_of.approve() if number % 2 else request_of.decline())
        except Conflict as refusal:
            refused.append(refusal)
        else:
            decided.append(done.status)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(decide, number)
    assert (len(decided), len(refused)) == (1, 9)
    taken = 3000 if decided == [RefundStatus.PENDING] else 0
    assert await till.db.fetchval("SELECT refunded_cents FROM order_items") == taken


async def test_a_request_for_what_goes_back_otherwise_is_over(till: Till, request_of: Request) -> None:
    [piece] = request_of.order.items
    await request_of.ask(request_of.seller, Pieces({piece.id: 1}))
    before = await till.everything()
    for decide in (request_of.approve, request_of.decline):
        with pytest.raises(Conflict, match="nothing to decide"):
            await decide()
    assert await till.everything() == before
    told = "SELECT status, failure_code, decided_by FROM refunds WHERE id = $1"
    row = await till.db.fetchrow(told, request_of.refund.id)
    assert row is not None
    assert tuple(row.values()) == ("declined", "refunded_otherwise", None)
    [rest] = await request_of.ask(request_of.buyer, Whole())
    assert (rest.status, rest.amount_cents) == (RefundStatus.REQUESTED, 2000)


async def test_pieces_and_amounts_share_what_is_left_of_a_line(request_of: Request) -> None:
    [line] = request_of.order.items
    await request_of.ask(request_of.seller, Pieces({line.id: 2}))
    await request_of.ask(request_of.seller, Amount(1))
    for wish in (Pieces({line.id: 1}), Amount(1000)):
        with pytest.raises(Conflict):
            await request_of.ask(request_of.seller, wish)
    [last] = await request_of.ask(request_of.seller, Whole())
    assert last.amount_cents == 999


async def test_a_seller_sees_their_own_part_of_what_an_admin_gave_back(till: Till, db: Database) -> None:
    market = Market.over(db)
    sellers, buyer = [await market.seller(), await market.seller()], await market.user()
    order = await market.place(buyer, *[await market.product(seller, 1000) for seller in sellers])
    await market.settle(order)
    await ask(till.refunds, order.id, Asker(till.admin, is_admin=True), Amount(1001))
    for seller, cents in zip(sellers, (501, 500), strict=True):
        [own] = await till.refunds.of_order(order.id, Asker(seller, is_admin=False))
        assert (own.amount_cents, [item.seller_id for item in own.items]) == (cents, [seller])
        [listed], total = await till.refunds.page(seller, RefundStatus.PENDING, 10, 0)
        assert (listed, total) == (own, 1)
    [whole] = await till.refunds.of_order(order.id, Asker(buyer, is_admin=False))
    assert (whole.amount_cents, len(whole.items)) == (1001, 2)
    assert await till.refunds.page(sellers[0], RefundStatus.FAILED, 10, 0) == ([], 0)
    assert await till.refunds.page(None, None, 10, 1) == ([], 1)


# -- the queue ---------------------------------------------------------------------------------------------------------


async def test_twenty_claimers_share_what_is_due_and_none_twice(till: Till) -> None:
    expected = sorted([(await till.ask(await till.sale())).id for _ in range(12)])
    got: list[UUID] = []

    async def claim() -> None:
        got.extend(claim.refund_id for claim in await till.queue.claim(1, LEASE))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(claim)
    got.extend(claim.refund_id for claim in await till.queue.claim(12, LEASE))
    assert sorted(got) == expected


async def test_a_lapsed_claim_is_anothers_and_its_record_changes_nothing(till: Till) -> None:
    refund = await till.ask(await till.sale())
    lost = await till.take(refund, NONE)
    rescued = await till.take(refund)
    assert (lost.asked, rescued.asked) == (1, 2)
    assert rescued.reference == lost.reference == refund_id_of(refund.id)
    before = await till.everything()
    for decision in (Succeed(), FAIL, AskAgain(NONE)):
        assert await till.queue.record(lost, decision) is None
    assert await till.everything() == before
    assert await till.queue.record(rescued, Succeed()) is not None


async def test_what_is_recorded_is_recorded_once(till: Till) -> None:
    claim = await till.take(await till.ask(await till.sale()))
    recorded: list[object] = []

    async def record(decision: Succeed | Fail) -> None:
        if (done := await till.queue.record(claim, decision)) is not None:
            recorded.append(done)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(record, FAIL if number % 3 == 2 else Succeed())
    assert len(recorded) == 1
    after = await till.everything()
    await record(Succeed())
    await record(FAIL)
    assert await till.everything() == after


async def test_it_is_asked_about_again_when_its_pause_is_over(till: Till) -> None:
    refund = await till.ask(await till.sale())
    assert await till.finish(refund, AskAgain(LATER)) is not None
    assert await till.queue.claim(5, LEASE) == []
    wait = await till.queue.next_due_in()
    assert wait is not None
    assert 3500 < wait <= 3600
    assert (await till.take(refund)).asked == 2


async def test_what_came_to_no_question_is_not_counted_and_is_due_at_once(till: Till) -> None:
    refund = await till.ask(await till.sale())
    await till.finish(refund, AskAgain(NONE, counted=False))
    [again] = await till.queue.claim(5, LEASE)
    assert (again.refund_id, again.asked) == (refund.id, 1)


async def test_an_event_that_came_meanwhile_outlives_the_claim(till: Till) -> None:
    refund = await till.ask(await till.sale())
    claim = await till.take(refund)
    await till.run("UPDATE refunds SET due_at = now()")  # as an event does
    assert await till.queue.claim(5, LEASE) == [], "it is in hand still"
    assert await till.queue.record(claim, AskAgain(LATER)) is not None
    assert [each.refund_id for each in await till.queue.claim(5, LEASE)] == [refund.id]


async def test_one_that_failed_gives_all_back_and_lets_the_transfer_go(till: Till) -> None:
    transfer_id = await till.sale()
    refund = await till.ask(transfer_id)
    await till.finish(refund, FAIL)
    row = await till.row("refunds", refund.id, "status, failure_code, failure_message, credit_note_number")
    assert tuple(row.values()) == ("failed", FAIL.code, FAIL.message, None)
    assert await order_of(till, transfer_id) == ("paid", 0)
    assert await till.db.fetchval("SELECT status FROM refund_shares") == "void"
    assert await till.transfer(transfer_id) == ("pending", 0, 0)
    await till.pay(await till.in_hand(transfer_id))
    await till.refund(transfer_id)
    assert await order_of(till, transfer_id) == ("refunded", 2999)


async def test_a_failure_beside_another_refund_leaves_the_transfer_standing_still(till: Till) -> None:
    transfer_id = await till.sale()
    first, second = await till.ask(transfer_id, 1000), await till.ask(transfer_id, 500)
    await till.finish(first, FAIL)
    assert await order_of(till, transfer_id) == ("paid", 500)
    assert await till.payouts.claim(5, LEASE, retries=True) == []
    await till.finish(second, Succeed())
    assert await order_of(till, transfer_id) == ("partially_refunded", 500)
    assert await till.transfer(transfer_id) == ("pending", 450, 0)
    assert (await till.in_hand(transfer_id)).transfer.payable_cents == 2249


async def test_a_cent_a_fee_and_a_failure_add_up_in_the_end(till: Till) -> None:
    transfer_id = await till.sale(total=5)  # of which one is the fee
    lost = await till.ask(transfer_id, 3)
    for cents in (1, 1):
        await till.refund(transfer_id, cents)
    await till.finish(lost, FAIL)
    for cents in (1, 1, 1):
        await till.refund(transfer_id, cents)
    given = await till.db.fetchval("SELECT sum(fee_cents) FROM refund_shares WHERE status <> 'void'")
    assert (given, await till.transfer(transfer_id)) == (1, ("reversed", 4, 0))


async def test_a_fee_is_not_given_back_for_what_came_to_nothing(till: Till) -> None:
    transfer_id = await till.sale(total=5)  # of which one is the fee, and goes back with the third cent
    await till.finish(await till.ask(transfer_id, 2), FAIL)
    fees = [(await till.row("refund_shares", await till.refund(transfer_id, 1)))["fee_cents"] for _ in range(3)]
    assert fees == [0, 0, 1]


async def test_credit_notes_are_numbered_without_a_gap_whatever_is_rolled_back(till: Till) -> None:
    refunds = [await till.ask(await till.sale()) for _ in range(12)]
    claims = [await till.take(refund) for refund in refunds]
    await till.run(
        "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.reason = 'undo' AND NEW.credit_note_number IS NOT NULL THEN RAISE 'undone'; END IF;"
        " RETURN NULL; END $$"
    )
    await till.run("CREATE TRIGGER undo AFTER UPDATE ON refunds FOR EACH ROW EXECUTE FUNCTION undo()")
    undone = {refund.id for refund in refunds[::3]}
    await till.run("UPDATE refunds SET reason = 'undo' WHERE id = ANY($1)", undone)

    async def record(claim: RefundClaim) -> None:
        if claim.refund_id in undone:
            with pytest.raises(asyncpg.RaiseError):
                await till.queue.record(claim, Succeed())
        else:
            await till.queue.record(claim, Succeed())

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for claim in claims:
                nursery.start_soon(record, claim)
        await till.run("DROP TRIGGER undo ON refunds")
        for claim in claims[::3]:
            assert await till.queue.record(claim, Succeed()) is not None
    numbers = [row["credit_note_number"] for row in await till.db.fetch("SELECT credit_note_number FROM refunds")]
    year = numbers[0][3:7]
    assert sorted(numbers) == [f"CN-{year}-{number:06}" for number in range(1, 13)]
