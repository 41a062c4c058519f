"""Disputes' rows: what is learnt of one is written once, no event is lost beside it, and nothing asks too much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
import trio

from tests.store.refunding import LEASE, NONE, Till
from veza.domain.attempts import (
    Absent,
    Look,
    Retry,
    RetryPolicy,
    Unclear,
    next_step,
)
from veza.domain.disputes import (
    Become,
    DisputeClaim,
    DisputeState,
    Forget,
)
from veza.domain.refund_attempts import AskAgain
from veza.store.bridge import Database
from veza.store.disputes import Disputes
from veza.store.payments import Payments

OPENED = Become(DisputeState.OPEN, "dispute_opened", 2999, timedelta(minutes=1))
LOST = Become(DisputeState.LOST, "dispute_lost", 2999, None)
WON = Become(DisputeState.WON, "dispute_won", 2999, None)


@dataclass
class Bank:
    """A buyer's bank, and a paid order's transfer."""

    till: Till
    disputes: Disputes
    transfer_id: UUID

    async def event(self, dispute_id: str = "dp_1") -> None:
        payment_id = await self.till.db.fetchval("SELECT payment_id FROM orders")
        event_id = self.till.sales.new_id().hex
        await Payments(self.till.db).receive(event_id, "dispute_opened", payment_id, None, dispute_id)

    async def take(self) -> DisputeClaim:
        await self.till.run("UPDATE disputes SET due_at = '2025-01-01', claimed_until = NULL")
        [claim] = await self.disputes.claim(5, LEASE)
        return claim

    async def says(self, decision: Become | Forget | AskAgain) -> int:
        recorded = await self.disputes.record(await self.take(), decision)
        assert recorded is not None
        return recorded.taken_cents

    async def due(self) -> bool:
        due: bool = await self.till.db.fetchval("SELECT due_at <= now() FROM disputes")
        return bool(due)


@pytest.fixture
async def bank(db: Database) -> Bank:
    till = await Till.open(db)
    bank = Bank(till, Disputes(db, till.sales.new_id, NONE), await till.sale())
    await bank.event()
    return bank


async def test_a_claim_is_exclusive_and_what_is_recorded_twice_is_recorded_once(bank: Bank) -> None:
    claim = await bank.take()
    assert await bank.disputes.claim(5, LEASE) == []
    assert await bank.disputes.record(claim, LOST) is not None
    assert await bank.disputes.record(claim, LOST) is None
    assert await bank.till.transfer(bank.transfer_id) == ("reversed", 2699, 0)
    await bank.till.assert_balanced()


async def test_what_was_lost_is_not_undone_and_a_smaller_loss_takes_nothing_back(bank: Bank) -> None:
    assert await bank.says(LOST) == 2999
    for later in (WON, OPENED, Become(DisputeState.LOST, "dispute_lost", 1, None)):
        assert await bank.says(later) == 0
        row = await bank.till.db.fetchrow("SELECT state, taken_cents FROM disputes")
        assert row is not None
        assert tuple(row.values()) == ("lost", 2999)
    await bank.till.assert_balanced()


async def test_one_won_and_opened_again_holds_again(bank: Bank) -> None:
    for decision, status in ((OPENED, "held"), (WON, "pending"), (OPENED, "held"), (WON, "pending")):
        await bank.says(decision)
        assert (await bank.till.transfer(bank.transfer_id))[0] == status


async def test_of_two_disputes_both_must_be_decided(bank: Bank) -> None:
    await bank.says(OPENED)
    await bank.till.run("UPDATE disputes SET due_at = NULL")
    await bank.event("dp_2")
    [claim] = await bank.disputes.claim(5, LEASE)
    await bank.disputes.record(claim, OPENED)
    await bank.till.run("UPDATE disputes SET due_at = now() WHERE id = 'dp_1'")
    [claim] = await bank.disputes.claim(5, LEASE)
    await bank.disputes.record(claim, WON)
    assert (await bank.till.transfer(bank.transfer_id))[0] == "held"


async def test_an_event_that_comes_while_one_is_recorded_is_not_lost(bank: Bank) -> None:
    claim = await bank.take()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, bank.till.db.transaction() as tx:
            await tx.execute("SELECT FROM orders FOR UPDATE")
            nursery.start_soon(bank.disputes.record, claim, WON)
            waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')"
            while not await bank.till.db.fetchval(waits):  # noqa: ASYNC110 - until it stands at the order's lock
                await trio.sleep(0.01)
            await bank.event()
    assert await bank.due()


async def test_an_event_brings_back_what_was_decided_or_forgotten(bank: Bank) -> None:
    for decision in (WON, Forget(), LOST):
        await bank.says(decision)
        assert not await bank.due()
        await bank.event()
        assert await bank.due()


async def test_what_is_in_somebodys_hand_is_not_waited_for_in_a_hurry(bank: Bank) -> None:
    await bank.take()
    await bank.event()
    assert await bank.disputes.next_due_in() is None


async def test_what_is_to_come_back_is_looked_for_before_it_is_sent(bank: Bank) -> None:
    """Its first try came to no answer: whether it went out is not known, and by now it need not go."""
    till = bank.till
    await till.tried(bank.transfer_id, Unclear("timeout", ""), Retry(None, "timeout", ""))
    await bank.says(LOST)
    claim = await till.in_hand(bank.transfer_id)
    assert next_step(claim.transfer, claim.claimed_at, RetryPolicy()) == Look()
    nothing = Retry(claim.claimed_at, "outcome_unknown", "no such transfer", counted=False, new_key=True)
    assert await till.payouts.record(claim, Absent(), nothing) is not None
    assert await till.transfer(bank.transfer_id) == ("reversed", 2699, 0)
    assert await till.payouts.claim(5, LEASE, retries=True) == []
    await till.assert_balanced()
