"""Sellers' shares of refunds: withheld from what was not sent, reversed from what was, waited for, owed, and netted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import psycopg
import pytest
import trio

from tests.store.conftest import Onlooker, until
from tests.store.refunding import LEASE, NO_FUNDS, OWE, Till
from tests.store.selling import EVERY, Market, paid
from veza.domain.attempts import (
    Absent,
    Again,
    Dead,
    Decision,
    Hold,
    Interrupted,
    NoFunds,
    NotOnboarded,
    Outcome,
    Refused,
    Retry,
    StoredError,
    Unclear,
)
from veza.domain.payouts import Claim, HoldReason
from veza.domain.refund_attempts import Succeed
from veza.store.bridge import Database

LATER = datetime(2100, 1, 1, tzinfo=UTC)
UNCLEAR = Unclear("timeout", "x")
FOR_FUNDS = Hold(HoldReason.AWAITING_FUNDS, "low", LATER)


@pytest.fixture
async def till(db: Database) -> AsyncIterator[Till]:
    """Whatever a test does at it, the books hold in the end."""
    open_till = await Till.open(db)
    yield open_till
    await open_till.assert_balanced()


async def time_passes(till: Till) -> None:
    """Whatever of the shares waits for a moment waits no longer."""
    await till.run("UPDATE refund_shares SET due_at = now() WHERE due_at IS NOT NULL AND claim_id IS NULL")


# -- by how far the transfer is: what becomes of it when all of its order is refunded ----------------------------------

Given = Callable[[Till, UUID], Awaitable[UUID]]


async def not_tried_yet(till: Till, seller: UUID) -> UUID:
    return await till.sale(seller)


async def not_on_board(till: Till, seller: UUID) -> UUID:
    return await till.sales.sale(seller, held="not_onboarded")


async def refused_for_good(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.tried(transfer_id, Refused("x", "x"), Dead("x", "x", new_key=True))
    return transfer_id


async def without_funds(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.tried(transfer_id, NoFunds("low"), FOR_FUNDS)
    return transfer_id


async def without_funds_and_in_doubt(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.tried(transfer_id, NoFunds("low"), replace(FOR_FUNDS, new_key=False))
    return transfer_id


async def asked_for_without_an_answer(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.tried(transfer_id, UNCLEAR, Retry(LATER, "timeout", "x"))
    return transfer_id


async def given_up_without_an_answer(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.tried(transfer_id, UNCLEAR, Dead("timeout", "x"))
    return transfer_id


async def cut_short(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.tried(transfer_id, Interrupted(), Again(LATER, "interrupted", "x"))
    return transfer_id


async def in_hand(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.in_hand(transfer_id)
    return transfer_id


async def completed(till: Till, seller: UUID) -> UUID:
    return await till.paid_out(seller)


async def netted_in_part(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.debt(seller)  # of 900
    return transfer_id


async def netted_in_part_and_sent(till: Till, seller: UUID) -> UUID:
    transfer_id = await netted_in_part(till, seller)
    await till.pay(await till.in_hand(transfer_id))
    return transfer_id


async def netted_whole(till: Till, seller: UUID) -> UUID:
    transfer_id = await till.sale(seller)
    await till.debt(seller, 2999)
    return transfer_id


# The transfer: status, withheld, reversed. The share: status, withheld, reversed, being reversed.
OUTCOMES: list[tuple[Given, tuple[object, ...], tuple[object, ...]]] = [
    (not_tried_yet, ("reversed", 2699, 0), ("settled", 2699, 0, 0)),
    (not_on_board, ("reversed", 2699, 0), ("settled", 2699, 0, 0)),
    (refused_for_good, ("reversed", 2699, 0), ("settled", 2699, 0, 0)),
    (without_funds, ("reversed", 2699, 0), ("settled", 2699, 0, 0)),
    (without_funds_and_in_doubt, ("held", 0, 0), ("waiting", 0, 0, 0)),
    (asked_for_without_an_answer, ("failed", 0, 0), ("waiting", 0, 0, 0)),
    (given_up_without_an_answer, ("failed", 0, 0), ("waiting", 0, 0, 0)),
    (cut_short, ("pending", 0, 0), ("waiting", 0, 0, 0)),
    (in_hand, ("processing", 0, 0), ("waiting", 0, 0, 0)),
    (completed, ("completed", 0, 0), ("reversing", 0, 0, 2699)),
    (netted_in_part, ("reversed", 2699, 0), ("owed", 1799, 0, 0)),
    (netted_in_part_and_sent, ("completed", 900, 0), ("reversing", 0, 0, 1799)),
    (netted_whole, ("completed", 2699, 0), ("owed", 0, 0, 0)),
]


async def test_a_share_is_taken_back_by_how_far_its_transfer_is(till: Till) -> None:
    for given, transfer, share in OUTCOMES:
        transfer_id = await given(till, await till.seller())
        share_id = await till.refund(transfer_id)
        found = (await till.transfer(transfer_id), await till.share(share_id))
        assert found == (transfer, share), given.__name__
        assert (await till.row("transfers", transfer_id))["open_refunds"] == 0
        claimed = [claim.reversal.share_id for claim in await till.reversals.claim(5, LEASE)]
        assert claimed == ([share_id] if share[0] == "reversing" else []), given.__name__
        await till.assert_balanced()


async def test_a_part_is_withheld_and_the_rest_is_sent(till: Till) -> None:
    transfer_id = await till.sale()
    share_id = await till.refund(transfer_id, 1000)
    assert await till.transfer(transfer_id) == ("pending", 900, 0)
    assert await till.share(share_id) == ("settled", 900, 0, 0)
    claim = await till.in_hand(transfer_id)
    assert claim.transfer.payable_cents == 1799
    await till.pay(claim)
    sent = await till.db.fetchval("SELECT -sum(amount_cents) FROM entries JOIN ledger_accounts a ON a.id = account_id"
                                  " WHERE a.kind = 'payouts'")  # fmt: skip
    assert sent == 1799
    await till.refund(transfer_id)
    assert (await till.reversal()).reversal.amount_cents == 1799


# -- what was waited for -----------------------------------------------------------------------------------------------

NEW_KEY: list[tuple[Outcome, Decision]] = [
    (Absent(), Retry(LATER, "x", "x", counted=False, new_key=True)),
    (Refused("x", "x"), Dead("x", "x", new_key=True)),
    (NoFunds("low"), FOR_FUNDS),
    (NotOnboarded("x"), Hold(HoldReason.NOT_ONBOARDED, "x")),
]
SAME_KEY: list[tuple[Outcome, Decision]] = [
    (UNCLEAR, Retry(LATER, "timeout", "x")),
    (StoredError("x", "x"), Retry(LATER, "x", "x", doubtful=True)),
    (UNCLEAR, Dead("timeout", "x")),
    (Interrupted(), Again(LATER, "interrupted", "x")),
]


async def refunded_in_hand(till: Till, cents: int | None = None) -> tuple[UUID, Claim, UUID]:
    """A transfer in hand, its claim, and the share that waits for what comes of it."""
    transfer_id = await till.sale()
    claim = await till.in_hand(transfer_id)
    share_id = await till.refund(transfer_id, cents)
    assert await till.reversals.claim(5, LEASE) == []
    return transfer_id, claim, share_id


async def test_what_turns_out_to_have_been_sent_is_reversed(till: Till) -> None:
    transfer_id, claim, share_id = await refunded_in_hand(till)
    await till.pay(claim)
    reversal = await till.reversal()
    assert (reversal.reversal.share_id, reversal.reversal.amount_cents) == (share_id, 2699)
    assert reversal.reversal.transfer_ref == f"tr_{transfer_id.hex}"
    await till.reverse(reversal)
    assert await till.transfer(transfer_id) == ("reversed", 0, 2699)
    assert await till.share(share_id) == ("settled", 0, 2699, 0)


async def test_what_turns_out_not_to_have_been_sent_is_withheld(till: Till) -> None:
    for outcome, decision in NEW_KEY:
        transfer_id, claim, share_id = await refunded_in_hand(till)
        await till.payouts.record(claim, outcome, decision)
        assert await till.reversals.claim(5, LEASE) == []
        assert await till.transfer(transfer_id) == ("reversed", 2699, 0), decision
        assert await till.share(share_id) == ("settled", 2699, 0, 0), decision


async def test_what_is_not_known_to_have_been_sent_is_waited_for_still(till: Till) -> None:
    for outcome, decision in SAME_KEY:
        transfer_id, claim, share_id = await refunded_in_hand(till)
        await till.payouts.record(claim, outcome, decision)
        for _ in range(2):
            assert await till.reversals.claim(5, LEASE) == []
            assert await till.share(share_id) == ("waiting", 0, 0, 0), decision
            await time_passes(till)
        await till.sales.change(transfer_id, "status = 'pending'")  # as an admin's try would have it
        await till.pay(await till.in_hand(transfer_id))
        assert (await till.reversal()).reversal.share_id == share_id


async def test_a_part_that_was_waited_for_leaves_the_rest_to_be_sent(till: Till) -> None:
    transfer_id, claim, share_id = await refunded_in_hand(till, 1000)
    await till.payouts.record(claim, *NEW_KEY[0])
    assert await till.reversals.claim(5, LEASE) == []
    assert await till.transfer(transfer_id) == ("failed", 900, 0)
    assert await till.share(share_id) == ("settled", 900, 0, 0)
    assert (await till.in_hand(transfer_id)).transfer.payable_cents == 1799


async def test_a_share_is_left_for_later_while_someone_records_its_transfer(till: Till, dsn: str) -> None:
    transfer_id, claim, share_id = await refunded_in_hand(till)
    await till.pay(claim)
    with psycopg.connect(dsn) as recording, trio.fail_after(5):
        recording.execute("SELECT FROM transfers WHERE id = %s FOR UPDATE", [transfer_id])
        assert await till.reversals.claim(5, LEASE) == []
        assert await till.share(share_id) == ("waiting", 0, 0, 0)
    assert (await till.reversal()).reversal.share_id == share_id


async def test_a_refund_done_while_its_transfer_is_recorded_is_not_waited_for_in_vain(
    till: Till, onlooker: Onlooker, dsn: str
) -> None:
    """The recording began before the share came to wait, and so does not see it."""
    transfer_id = await till.sale()
    sent = await till.in_hand(transfer_id)
    refund = await till.take(await till.ask(transfer_id))

    def waiting(many: int) -> bool:
        [(found,)] = onlooker.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return found == many

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            with psycopg.connect(dsn) as numbering:
                numbering.execute("LOCK TABLE number_series")
                nursery.start_soon(till.queue.record, refund, Succeed())
                await until(partial(waiting, 1))
                nursery.start_soon(till.pay, sent)
                await until(partial(waiting, 2))
                numbering.rollback()
    await time_passes(till)
    assert (await till.reversal()).reversal.amount_cents == 2699


@pytest.mark.parametrize("done", [False, True])
async def test_a_refund_and_the_record_of_its_transfer_wait_for_each_other_one_way_only(
    till: Till, dsn: str, onlooker: Onlooker, done: bool
) -> None:
    """Who records a transfer holds it, and books it for its order; who refunds the order holds that first."""
    transfer_id = await till.sale()
    order_id: UUID = await till.db.fetchval("SELECT order_id FROM transfers WHERE id = $1", transfer_id)
    claim = await till.take(await till.ask(transfer_id, 100)) if done else None
    waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            with psycopg.connect(dsn) as recording:
                recording.execute("SET LOCAL lock_timeout = '200ms'")
                recording.execute("UPDATE transfers SET updated_at = now() WHERE id = %s", [transfer_id])
                if claim is None:
                    nursery.start_soon(till.ask, transfer_id, 100)
                else:
                    nursery.start_soon(till.queue.record, claim, Succeed())
                await until(partial(onlooker.ask, waits))
                booking = "INSERT INTO journals (kind, external_ref, order_id) VALUES ('transfer', 'stripe:tr_1', %s)"
                recording.execute(booking, [order_id])
                recording.rollback()
    assert await till.db.fetchval("SELECT count(*) FROM refund_shares") == 1


# -- debts -------------------------------------------------------------------------------------------------------------


async def test_a_debt_is_taken_from_what_was_not_sent_yet_the_oldest_first(till: Till) -> None:
    seller = await till.seller()
    small, large = await till.sale(seller, 1000), await till.sale(seller)
    other = await till.sale()
    share_id = await till.debt(seller, 2000)
    assert await till.share(share_id) == ("settled", 1800, 0, 0)
    assert await till.transfer(small) == ("completed", 900, 0)
    assert await till.transfer(large) == ("pending", 900, 0)
    assert await till.transfer(other) == ("pending", 0, 0), "another seller's"
    claims = await till.payouts.claim(5, LEASE, retries=True)
    assert {claim.transfer.id: claim.transfer.payable_cents for claim in claims} == {large: 1799, other: 2699}


async def test_a_transfer_netted_whole_is_completed_and_nothing_is_sent(till: Till) -> None:
    seller = await till.seller()
    transfer_id = await till.sale(seller, 1000)
    await till.debt(seller)
    row = await till.row("transfers", transfer_id)
    assert (row["status"], row["external_ref"], row["next_retry_at"]) == ("completed", None, None)
    assert row["completed_at"] is not None
    assert await till.payouts.claim(5, LEASE, retries=True) == []
    assert await till.db.fetchval("SELECT count(*) FROM journals WHERE kind = 'transfer'") == 1, "that of the debt's"
    assert (await till.payouts.waiting(seller)).owed == 0


async def test_what_may_have_been_sent_is_netted_once_it_is_known_not_to_have_been(till: Till) -> None:
    seller = await till.seller()
    await till.debt(seller)
    transfer_id = await till.sale(seller)  # made here without settling, and so not netted
    claim = await till.in_hand(transfer_id)
    await till.debt(seller)
    assert await till.transfer(transfer_id) == ("processing", 0, 0)
    recorded = await till.payouts.record(claim, *NEW_KEY[0])
    assert recorded is not None
    assert recorded.payable_cents == 2699 - 1800
    assert (await till.payouts.waiting(seller)).owed == 0


async def test_what_was_asked_for_without_an_answer_is_not_netted(till: Till) -> None:
    seller = await till.seller()
    transfer_id = await asked_for_without_an_answer(till, seller)
    await till.debt(seller)
    assert await till.transfer(transfer_id) == ("failed", 0, 0), "the same key asks for the same amount"
    assert (await till.payouts.waiting(seller)).owed == 900


async def test_the_oldest_debt_is_netted_first(till: Till) -> None:
    seller = await till.seller()
    transfer_id = await till.sale(seller, 1500)
    claim = await till.in_hand(transfer_id)
    first, second = await till.debt(seller), await till.debt(seller)
    await till.payouts.record(claim, *NEW_KEY[0])
    assert await till.share(first) == ("settled", 900, 0, 0)
    assert await till.share(second) == ("owed", 450, 0, 0)


async def test_debts_are_taken_from_the_sales_that_settle_next_in_part_and_over_several(
    till: Till, db: Database
) -> None:
    market, seller = Market.over(db), await till.seller()
    first, second = await till.debt(seller), await till.debt(seller)
    buyer = await market.user()
    left = []
    for cents in (1500, 1000, 1000):
        await market.settle(await market.place(buyer, await market.product(seller, cents)))
        left.append((await till.payouts.waiting(seller)).owed)
    assert left == [450, 0, 0]
    assert (await till.share(first))[1] == (await till.share(second))[1] == 900
    rows = await db.fetch("SELECT status, withheld_cents FROM transfers WHERE external_ref IS NULL ORDER BY created_at")
    assert [tuple(row) for row in rows] == [("completed", 1350), ("pending", 450), ("pending", 0)]


async def test_no_debt_slips_past_a_sale_that_settles_at_the_same_moment(till: Till, db: Database) -> None:
    market, seller = Market.over(db), await till.seller()
    buyer, product = await market.user(), await market.product(seller, 1000)
    orders = {order.id: order for order in [await market.place(buyer, product) for _ in range(6)]}
    for _ in range(6):
        await till.refund(await till.paid_out(seller, 1000))
    await market.run("UPDATE orders SET sync_due_at = now() WHERE status = 'pending'")
    reversals, claim = await till.reversals.claim(6, LEASE), market.claim()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for due, reversal in zip(await market.payments.claim_due(6, claim, EVERY), reversals, strict=True):
                settle = partial(market.payments.settle, payout_delay=timedelta(0), new_id=market.new_id)
                nursery.start_soon(settle, due, claim.id, paid(orders[due.id]))
                nursery.start_soon(till.reversals.record, reversal, NO_FUNDS, OWE)
    waiting = await till.payouts.waiting(seller)
    assert (waiting.owed, waiting.due) == (0, 0)
