"""Transfers' rows while paying out is switched off: held as they fall due, released when it is on, whoever is late."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
import trio

from tests.people import until_blocked
from tests.sales import Sales
from veza.domain.attempts import Done, Paid
from veza.domain.audit import By
from veza.domain.errors import Conflict
from veza.domain.flags import Flag
from veza.domain.payouts import HoldReason, TransferStatus
from veza.store.bridge import Database
from veza.store.flags import FlagRows
from veza.store.ledger import Ledger
from veza.store.payouts import Payouts

LEASE = timedelta(seconds=300)
ADMIN = By(UUID(int=9))
HELD, PENDING = TransferStatus.HELD, TransferStatus.PENDING


@pytest.fixture
def sales(db: Database) -> Sales:
    return Sales(db)


@pytest.fixture
def payouts(db: Database, sales: Sales) -> Payouts:
    return Payouts(db, sales.new_id)


@pytest.fixture
def flags(db: Database, sales: Sales) -> FlagRows:
    return FlagRows(db, sales.new_id)


async def due(sales: Sales) -> UUID:
    return await sales.sale(await sales.seller(f"acct_{sales.new_id().hex}"))


async def standing(payouts: Payouts, transfer_id: UUID) -> tuple[TransferStatus, HoldReason | None, bool]:
    found = await payouts.get(transfer_id)
    return found.status, found.hold_reason, found.next_retry_at is not None


async def test_nothing_is_claimed_whatever_the_process_was_told(
    sales: Sales, payouts: Payouts, flags: FlagRows
) -> None:
    lapsing = await due(sales)
    await payouts.claim(1, timedelta(0), retries=True)
    waiting = await due(sales)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    assert await payouts.claim(10, LEASE, retries=True) == []
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    claimed = await payouts.claim(10, LEASE, retries=True)
    assert {each.transfer.id for each in claimed} == {lapsing, waiting}


async def test_what_is_due_is_held_and_due_again_when_it_is_on(
    db: Database, sales: Sales, payouts: Payouts, flags: FlagRows
) -> None:
    transfer_id = await due(sales)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    assert await payouts.hold_switched_off(10, retries=True) == 1
    assert await standing(payouts, transfer_id) == (HELD, HoldReason.FLAG, False)
    assert await payouts.release_switched_on(10) == 0
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    assert await payouts.hold_switched_off(10, retries=True) == 0
    assert await payouts.release_switched_on(10) == 1
    assert await standing(payouts, transfer_id) == (PENDING, None, True)
    [claim] = await payouts.claim(10, LEASE, retries=True)
    assert await payouts.record(claim, Paid("tr_1"), Done("tr_1")) is not None
    assert await Ledger(db).verify(None) == []


@pytest.mark.parametrize(
    "what",
    [
        "next_retry_at = now() + interval '1 minute'",
        "status = 'failed', next_retry_at = NULL",
        "status = 'held', hold_reason = 'awaiting_funds'",
        "status = 'held', hold_reason = 'admin', next_retry_at = NULL",
        "status = 'held', hold_reason = 'not_onboarded', next_retry_at = NULL",
        "open_refunds = 1",
    ],
)
async def test_what_is_not_due_or_held_already_stays_as_it_is(
    sales: Sales, payouts: Payouts, flags: FlagRows, what: str
) -> None:
    transfer_id = await due(sales)
    await sales.change(transfer_id, what)
    before = await payouts.get(transfer_id)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    assert await payouts.hold_switched_off(10, retries=True) == 0
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    assert await payouts.release_switched_on(10) == 0
    assert await payouts.get(transfer_id) == before


async def test_with_retries_off_what_failed_is_not_brought_back_by_the_switch(
    sales: Sales, payouts: Payouts, flags: FlagRows
) -> None:
    transfer_id = await due(sales)
    await sales.change(transfer_id, "status = 'failed'")
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    assert await payouts.hold_switched_off(10, retries=False) == 0
    assert await payouts.hold_switched_off(10, retries=True) == 1


async def test_what_is_known_and_doubted_of_its_key_is_kept(sales: Sales, payouts: Payouts, flags: FlagRows) -> None:
    transfer_id = await due(sales)
    await sales.change(
        transfer_id,
        "status = 'failed', attempts = 3, retry_count = 2, key_epoch = 1, key_used_at = now(), doubtful = true,"
        " absent_since = now(), destination = 'acct_1', failure_code = 'timeout'",
    )
    before = await payouts.get(transfer_id)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    await payouts.hold_switched_off(10, retries=True)
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    await payouts.release_switched_on(10)
    after = await payouts.get(transfer_id)
    for name in ("attempts", "retry_count", "key_epoch", "key_used_at", "doubtful", "absent_since", "failure_code"):
        assert getattr(after, name) == getattr(before, name), name
    assert await standing(payouts, transfer_id) == (PENDING, None, True)


async def test_what_is_disputed_meanwhile_is_held_for_that_when_it_is_on(
    sales: Sales, payouts: Payouts, flags: FlagRows
) -> None:
    transfer_id = await due(sales)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    await payouts.hold_switched_off(10, retries=True)
    await sales.change(transfer_id, "disputed = true")
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    assert await payouts.release_switched_on(10) == 1
    assert await standing(payouts, transfer_id) == (HELD, HoldReason.DISPUTED, False)


async def test_an_admin_may_keep_one_that_the_switch_holds_and_cannot_let_it_go(
    sales: Sales, payouts: Payouts, flags: FlagRows
) -> None:
    kept, other = await due(sales), await due(sales)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    await payouts.hold_switched_off(10, retries=True)
    with pytest.raises(Conflict):
        await payouts.let_go(other, ADMIN)
    assert (await payouts.hold(kept, ADMIN, "odd")).hold_reason is HoldReason.ADMIN
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    assert await payouts.release_switched_on(10) == 1
    assert await standing(payouts, kept) == (HELD, HoldReason.ADMIN, False)
    assert await standing(payouts, other) == (PENDING, None, True)


async def test_many_are_held_and_released_in_turns(sales: Sales, payouts: Payouts, flags: FlagRows) -> None:
    for _ in range(5):
        await due(sales)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    assert [await payouts.hold_switched_off(2, retries=True) for _ in range(4)] == [2, 2, 1, 0]
    await flags.switch(Flag.PAYOUTS, True, ADMIN)
    assert [await payouts.release_switched_on(2) for _ in range(4)] == [2, 2, 1, 0]


async def test_who_holds_and_who_switches_on_go_one_after_the_other(
    db: Database, dsn: str, sales: Sales, payouts: Payouts, flags: FlagRows
) -> None:
    """So that nothing is held any more once it is on, when whoever was told has released what there was."""
    transfer_id = await due(sales)
    await flags.switch(Flag.PAYOUTS, False, ADMIN)
    held: list[int] = []

    async def hold() -> None:
        held.append(await payouts.hold_switched_off(10, retries=True))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            with psycopg.connect(dsn) as other:
                other.execute("UPDATE feature_flags SET enabled = true WHERE name = 'payouts.enabled'")
                nursery.start_soon(hold)
                await until_blocked(db)
    assert held == [0]
    assert await standing(payouts, transfer_id) == (PENDING, None, True)
