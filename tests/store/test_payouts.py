"""Transfers' rows: claims that exclude each other, records that happen once, in the books and out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import trio

from tests.sales import Sales
from veza.domain.attempts import (
    Absent,
    Again,
    Dead,
    Done,
    Hold,
    Interrupted,
    NoFunds,
    NotOnboarded,
    Paid,
    Refused,
    Retry,
    StoredError,
    Unclear,
)
from veza.domain.audit import By
from veza.domain.errors import Conflict, NotFound
from veza.domain.payouts import Claim, HoldReason, TransferStatus
from veza.store.bridge import Database
from veza.store.payouts import Payouts, Wanted

LEASE = timedelta(seconds=300)
NONE = timedelta(0)
ADMIN = By(UUID(int=9), "req-1", "192.0.2.7")
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def sales(db: Database) -> Sales:
    return Sales(db)


@pytest.fixture
def payouts(db: Database, sales: Sales) -> Payouts:
    return Payouts(db, sales.new_id)


async def due(sales: Sales) -> UUID:
    return await sales.sale(await sales.seller(f"acct_{sales.new_id().hex}"))


async def take(payouts: Payouts, lease: timedelta = LEASE) -> Claim:
    [claim] = await payouts.claim(1, lease, retries=True)
    return claim


async def row(db: Database, transfer_id: UUID) -> Mapping[str, object]:
    found = await db.fetchrow("SELECT * FROM transfers WHERE id = $1", transfer_id)
    assert found is not None
    return dict(found)


async def attempts(db: Database, transfer_id: UUID) -> list[tuple[str, str | None]]:
    rows = await db.fetch(
        "SELECT idempotency_key, outcome FROM transfer_attempts WHERE transfer_id = $1 ORDER BY started_at", transfer_id
    )
    return [(row["idempotency_key"].rpartition(":")[2], row["outcome"]) for row in rows]


async def test_a_claim_takes_what_is_due_and_writes_its_intent(db: Database, sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    claim = await take(payouts)
    assert claim.transfer.id == transfer_id
    assert claim.transfer.status is TransferStatus.PROCESSING
    assert (claim.transfer.attempts, claim.transfer.retry_count) == (1, 0)
    assert claim.destination is not None
    assert claim.transfer.key_used_at == claim.claimed_at
    assert await attempts(db, transfer_id) == [("0", None)]


async def test_twenty_claimers_share_the_rows_and_none_twice(sales: Sales, payouts: Payouts) -> None:
    expected = {await due(sales) for _ in range(30)}
    got: list[UUID] = []

    async def claim() -> None:
        got.extend(claim.transfer.id for claim in await payouts.claim(3, LEASE, retries=True))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(claim)
    got.extend(claim.transfer.id for claim in await payouts.claim(30, LEASE, retries=True))
    assert sorted(got) == sorted(expected)


async def test_the_oldest_of_what_is_due_comes_first(sales: Sales, payouts: Payouts) -> None:
    first, second, third = [await due(sales) for _ in range(3)]
    await sales.change(second, "next_retry_at = now() - interval '400 days'")
    claims = [await take(payouts) for _ in range(3)]
    assert [claim.transfer.id for claim in claims] == [second, first, third]


@pytest.mark.parametrize(
    "what",
    [
        "next_retry_at = now() + interval '1 second'",
        "status = 'failed', next_retry_at = NULL",
        "status = 'held', hold_reason = 'banned'",
        "status = 'held', hold_reason = 'awaiting_funds', next_retry_at = NULL",
        "status = 'completed', external_ref = 'tr_1', next_retry_at = NULL",
    ],
)
async def test_what_is_not_due_is_left_alone(sales: Sales, payouts: Payouts, what: str) -> None:
    await sales.change(await due(sales), what)
    assert await payouts.claim(5, LEASE, retries=True) == []


@pytest.mark.parametrize("what", ["status = 'failed'", "status = 'held', hold_reason = 'awaiting_funds'"])
async def test_with_retries_off_only_first_tries_are_due(sales: Sales, payouts: Payouts, what: str) -> None:
    failed, fresh = await due(sales), await due(sales)
    await sales.change(failed, what)
    claims = await payouts.claim(5, LEASE, retries=False)
    assert [claim.transfer.id for claim in claims] == [fresh]
    assert [claim.transfer.id for claim in await payouts.claim(5, LEASE, retries=True)] == [failed]


async def test_a_lapsed_claim_is_rescued_under_the_same_key(db: Database, sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    lost = await take(payouts, NONE)
    rescued = await take(payouts)
    assert rescued.transfer.id == transfer_id
    assert rescued.id != lost.id
    assert rescued.transfer.idempotency_key == lost.transfer.idempotency_key
    assert rescued.transfer.key_used_at == lost.transfer.key_used_at, "the key's age is reckoned from its first use"
    assert (rescued.transfer.attempts, rescued.transfer.retry_count) == (2, 1)
    assert await payouts.record(lost, Paid("tr_1"), Done("tr_1")) is None, "it is no longer the loser's to record"
    assert (await row(db, transfer_id))["status"] == "processing"
    assert await db.fetchval("SELECT count(*) FROM journals WHERE kind = 'transfer'") == 0


async def test_a_payment_is_booked_with_it_and_once(db: Database, sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    claim = await take(payouts)
    paid = await payouts.record(claim, Paid("tr_1"), Done("tr_1"))
    assert paid is not None
    assert (paid.status, paid.external_ref, paid.failure_code) == (TransferStatus.COMPLETED, "tr_1", None)
    assert paid.completed_at is not None
    assert await payouts.record(claim, Paid("tr_1"), Done("tr_1")) is None
    entries = await db.fetch(
        "SELECT kind, amount_cents FROM entries JOIN ledger_accounts a ON a.id = account_id"
        " WHERE journal_id = (SELECT id FROM journals WHERE external_ref = 'stripe:tr_1') ORDER BY kind"
    )
    assert [tuple(entry) for entry in entries] == [("payouts", -2699), ("seller", 2699)]
    assert await attempts(db, transfer_id) == [("0", "Paid")]


async def test_a_payment_without_its_account_in_the_books_is_not_recorded(
    db: Database, sales: Sales, payouts: Payouts
) -> None:
    transfer_id = await due(sales)
    async with db.transaction() as tx:
        await tx.execute("UPDATE ledger_accounts SET currency = 'USD' WHERE kind = 'seller'")
    claim = await take(payouts)
    with pytest.raises(LookupError, match="not open"):
        await payouts.record(claim, Paid("tr_1"), Done("tr_1"))
    assert (await row(db, transfer_id))["status"] == "processing"


async def test_a_retry_waits_for_its_moment(db: Database, sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    recorded = await payouts.record(await take(payouts), Unclear("timeout", "x"), Retry(LATER, "timeout", "x"))
    assert recorded is not None
    assert (recorded.status, recorded.next_retry_at, recorded.attempts) == (TransferStatus.FAILED, LATER, 1)
    assert (recorded.failure_code, recorded.failure_message) == ("timeout", "x")
    assert await payouts.claim(5, LEASE, retries=True) == []
    await sales.change(transfer_id, "next_retry_at = now()")
    again = await take(payouts)
    assert (again.transfer.attempts, again.transfer.retry_count, again.transfer.key_epoch) == (2, 1, 0)


async def test_a_new_key_forgets_what_was_known_of_the_old(db: Database, sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    decision = Retry(LATER, "x", "x", counted=False, new_key=True)
    recorded = await payouts.record(await take(payouts), Absent(), decision)
    assert recorded is not None
    assert recorded.idempotency_key == f"{transfer_id}:1"
    assert (recorded.key_used_at, recorded.doubtful, recorded.absent_since) == (None, False, None)
    assert (await row(db, transfer_id))["destination"] is None
    assert recorded.attempts == 0, "a look is not counted"


async def test_doubt_is_kept_through_a_dead_end(sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    doubt = Retry(datetime(2026, 1, 1, tzinfo=UTC), "x", "x", doubtful=True, absent_since=LATER)
    await payouts.record(await take(payouts), StoredError("x", "x"), doubt)
    claim = await take(payouts)
    assert (claim.transfer.doubtful, claim.transfer.absent_since) == (True, LATER)
    dead = await payouts.record(claim, Unclear("x", "x"), Dead("x", "x"))
    assert dead is not None
    assert (dead.id, dead.doubtful, dead.absent_since, dead.next_retry_at) == (transfer_id, True, LATER, None)
    refused = await payouts.claim_one(transfer_id, LEASE, ADMIN)
    assert isinstance(refused, Claim)
    gone = await payouts.record(refused, Refused("x", "x"), Dead("x", "x", new_key=True))
    assert gone is not None
    assert (gone.doubtful, gone.absent_since, gone.key_epoch) == (False, None, 1)


async def test_a_claim_given_back_leaves_no_trace(sales: Sales, payouts: Payouts) -> None:
    await due(sales)
    first = await take(payouts)
    back = await payouts.record(first, Interrupted(), Again(first.claimed_at, "interrupted", "x"))
    assert back is not None
    assert (back.status, back.attempts, back.retry_count, back.key_epoch) == (TransferStatus.PENDING, 0, 0, 0)
    again = await take(payouts)
    assert (again.transfer.attempts, again.transfer.retry_count) == (1, 0), "this is the first try still"


async def test_the_account_of_a_used_key_stays_with_it(db: Database, sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    first = await take(payouts, NONE)
    async with db.transaction() as tx:
        await tx.execute("UPDATE connect_accounts SET account_id = 'acct_new'")
    second = await take(payouts)
    assert second.destination == first.destination
    await payouts.record(second, Refused("x", "x"), Dead("x", "x", new_key=True))
    third = await payouts.claim_one(transfer_id, LEASE, ADMIN)
    assert isinstance(third, Claim)
    assert third.destination == "acct_new"


async def test_a_hold_is_not_counted_and_is_probed_when_due(sales: Sales, payouts: Payouts) -> None:
    transfer_id = await due(sales)
    hold = Hold(HoldReason.AWAITING_FUNDS, "low", LATER)
    held = await payouts.record(await take(payouts), NoFunds("low"), hold)
    assert held is not None
    assert (held.status, held.hold_reason, held.next_retry_at) == (TransferStatus.HELD, hold.why, LATER)
    assert (held.attempts, held.key_epoch) == (0, 1)
    await sales.change(transfer_id, "next_retry_at = now()")
    assert (await take(payouts)).transfer.hold_reason is None


async def test_an_account_that_turns_out_unable_is_checked_before_it_is_believed_again(
    db: Database, sales: Sales, payouts: Payouts
) -> None:
    await due(sales)
    hold = Hold(HoldReason.NOT_ONBOARDED, "inactive")
    await payouts.record(await take(payouts), NotOnboarded("inactive"), hold)
    account = await db.fetchrow("SELECT transfers_active, check_due_at > now() AS later FROM connect_accounts")
    assert account is not None
    assert tuple(account) == (False, True)
    assert await payouts.release_onboarded() == 0


async def test_what_slipped_past_its_sellers_coming_on_board_is_released(sales: Sales, payouts: Payouts) -> None:
    on_board, outside = await sales.seller("acct_1"), await sales.seller("acct_2", active=False)
    slipped = await sales.sale(on_board, held="not_onboarded")
    await sales.sale(outside, held="not_onboarded")
    await sales.sale(on_board, held="banned")
    assert await payouts.release_onboarded() == 1
    assert [claim.transfer.id for claim in await payouts.claim(5, LEASE, retries=False)] == [slipped]


async def test_a_release_keeps_the_delay_after_the_sale(db: Database, sales: Sales) -> None:
    await sales.sale(await sales.seller("acct_1"), held="not_onboarded")
    payouts = Payouts(db, sales.new_id, timedelta(days=7))
    assert await payouts.release_onboarded() == 1
    assert await payouts.claim(5, LEASE, retries=True) == []
    wait = await payouts.next_due_in(retries=True)
    assert wait is not None
    assert 6.9 < wait / 86400 <= 7


async def test_the_next_due_is_the_soonest_of_retries_and_lapsing_claims(sales: Sales, payouts: Payouts) -> None:
    assert await payouts.next_due_in(retries=True) is None
    failed = await due(sales)
    await sales.change(failed, "status = 'failed', next_retry_at = now() + interval '50 seconds'")
    soon = await payouts.next_due_in(retries=True)
    assert soon is not None
    assert 40 < soon <= 50
    assert await payouts.next_due_in(retries=False) is None
    await due(sales)
    await take(payouts, timedelta(seconds=20))
    lapsing = await payouts.next_due_in(retries=True)
    assert lapsing is not None
    assert 10 < lapsing <= 20


async def test_an_admins_try_takes_the_same_claim_and_begins_the_count_anew(
    db: Database, sales: Sales, payouts: Payouts
) -> None:
    transfer_id = await due(sales)
    await sales.change(transfer_id, "status = 'failed', next_retry_at = NULL, attempts = 12, tried_at = now()")
    claim = await payouts.claim_one(transfer_id, LEASE, ADMIN)
    assert isinstance(claim, Claim)
    assert (claim.transfer.attempts, claim.transfer.retry_count) == (1, 1)
    assert await payouts.claim(5, LEASE, retries=True) == []
    assert isinstance(await payouts.claim_one(transfer_id, LEASE, ADMIN), Conflict)
    audited = await db.fetch("SELECT actor_id, action, resource, request_id, address FROM audit_entries")
    assert [tuple(entry) for entry in audited] == [
        (ADMIN.user_id, "transfer.retry", f"transfer:{transfer_id}", "req-1", "192.0.2.7")
    ]


@pytest.mark.parametrize(
    "what",
    ["retry_count = 0", "status = 'held', hold_reason = 'banned'", "status = 'completed', external_ref = 'tr_1'"],
)
async def test_what_an_admin_may_not_try_is_refused_unchanged(
    db: Database, sales: Sales, payouts: Payouts, what: str
) -> None:
    transfer_id = await due(sales)
    await sales.change(transfer_id, what)
    before = await row(db, transfer_id)
    assert isinstance(await payouts.claim_one(transfer_id, LEASE, ADMIN), Conflict)
    assert await row(db, transfer_id) == before
    assert await db.fetchval("SELECT count(*) FROM audit_entries") == 0


async def test_an_unknown_transfer_is_not_found(payouts: Payouts) -> None:
    assert isinstance(await payouts.claim_one(UUID(int=1), LEASE, ADMIN), NotFound)
    with pytest.raises(NotFound):
        await payouts.get(UUID(int=1))


async def test_lists_are_filtered_paged_and_newest_first(sales: Sales, payouts: Payouts) -> None:
    seller = await sales.seller("acct_1")
    mine = [await sales.sale(seller) for _ in range(3)]
    failed = await due(sales)
    await sales.change(failed, "status = 'failed', created_at = '2026-01-05T12:00Z'")

    async def found(wanted: Wanted, limit: int = 10, offset: int = 0) -> tuple[list[UUID], int]:
        transfers, total = await payouts.list(wanted, limit, offset)
        return [transfer.id for transfer in transfers], total

    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert await found(Wanted(seller_id=seller)) == (mine[::-1], 3)
    assert await found(Wanted(seller_id=seller), limit=1, offset=1) == ([mine[1]], 3)
    assert await found(Wanted(seller_id=seller), offset=9) == ([], 3)
    assert await found(Wanted(status=TransferStatus.FAILED)) == ([failed], 1)
    assert await found(Wanted(since=noon, until=noon + timedelta(seconds=1))) == ([failed], 1)
    assert await found(Wanted(until=noon)) == ([], 0)
    assert (await found(Wanted()))[1] == 4
