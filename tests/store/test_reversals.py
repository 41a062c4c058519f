"""The queue of reversals: claimed by one, recorded once, and taken up again where a claim has lapsed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import trio

from tests.store.refunding import LEASE, NO_FUNDS, NONE, OWE, Till
from tests.store.test_recovery import LATER, UNCLEAR, given_up_without_an_answer, netted_in_part_and_sent, time_passes
from veza.domain.attempts import (
    Absent,
    Again,
    Done,
    Interrupted,
    Paid,
    Retry,
    StoredError,
)
from veza.domain.audit import By
from veza.domain.payouts import Claim
from veza.domain.recovery import Stuck
from veza.store.bridge import Database


@pytest.fixture
async def till(db: Database) -> AsyncIterator[Till]:
    """Whatever a test does at it, the books hold in the end."""
    open_till = await Till.open(db)
    yield open_till
    await open_till.assert_balanced()


async def test_twenty_claimers_share_the_reversals_and_none_twice(till: Till) -> None:
    expected = sorted([await till.refund(await till.paid_out()) for _ in range(10)])
    got: list[UUID] = []

    async def claim() -> None:
        got.extend(claim.reversal.share_id for claim in await till.reversals.claim(1, LEASE))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(claim)
    got.extend(claim.reversal.share_id for claim in await till.reversals.claim(10, LEASE))
    assert sorted(got) == expected


async def test_a_lapsed_reversal_is_anothers_under_the_same_key_and_its_record_changes_nothing(till: Till) -> None:
    await till.refund(await till.paid_out())
    lost, rescued = await till.reversal(NONE), await till.reversal()
    assert lost.fresh_key
    assert not rescued.fresh_key, "its key's age is reckoned from its first use"
    assert (rescued.reversal.attempts, rescued.reversal.idempotency_key) == (2, lost.reversal.idempotency_key)
    before = await till.everything()
    for outcome, decision in (
        (Paid("trr_1"), Done("trr_1")),
        (NO_FUNDS, OWE),
        (UNCLEAR, Retry(LATER, "timeout", "x")),
        (UNCLEAR, Stuck("x", "x")),
    ):
        assert await till.reversals.record(lost, outcome, decision) is None
    assert await till.everything() == before
    await till.reverse(rescued)


async def test_a_reversal_recorded_twice_is_recorded_once(till: Till) -> None:
    transfer_id = await till.paid_out()
    await till.refund(transfer_id)
    claim = await till.reversal()
    recorded: list[object] = []

    async def record(number: int) -> None:
        outcome, decision = ((Paid("trr_1"), Done("trr_1")), (NO_FUNDS, OWE))[number % 2]
        if (done := await till.reversals.record(claim, outcome, decision)) is not None:
            recorded.append(done)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(record, number)
    assert len(recorded) == 1
    after = await till.everything()
    await record(0)
    await record(1)
    assert await till.everything() == after


async def test_what_netting_left_unsent_is_owed_once_the_rest_came_back(till: Till) -> None:
    seller = await till.seller()
    transfer_id = await netted_in_part_and_sent(till, seller)
    share_id = await till.refund(transfer_id)
    await till.reverse(await till.reversal())
    assert await till.transfer(transfer_id) == ("reversed", 900, 1799)
    assert await till.share(share_id) == ("owed", 0, 1799, 0)
    assert (await till.payouts.waiting(seller)).owed == 900


async def test_what_can_not_be_reversed_is_owed_and_never_asked_for_again(till: Till) -> None:
    seller = await till.seller()
    share_id = await till.debt(seller)
    await time_passes(till)
    assert await till.reversals.claim(5, LEASE) == []
    assert await till.reversals.next_due_in() is None
    assert await till.share(share_id) == ("owed", 0, 0, 0)
    assert (await till.row("refund_shares", share_id))["failure_code"] == "awaiting_funds"
    assert (await till.payouts.waiting(seller)).owed == 900


async def test_parts_of_one_transfer_are_reversed_each_under_its_own_key(till: Till) -> None:
    transfer_id = await till.paid_out()
    shares = [await till.refund(transfer_id, 1000), await till.refund(transfer_id)]
    claims = await till.reversals.claim(5, LEASE)
    assert {claim.reversal.share_id: claim.reversal.amount_cents for claim in claims} == dict(
        zip(shares, (900, 1799), strict=True)
    )
    assert len({claim.reversal.idempotency_key for claim in claims}) == 2
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for claim in claims:
                nursery.start_soon(till.reverse, claim)
    assert await till.transfer(transfer_id) == ("reversed", 0, 2699)


async def test_no_more_is_reversed_than_was_sent_even_while_some_of_it_is_being_reversed(till: Till) -> None:
    transfer_id = await netted_in_part_and_sent(till, await till.seller())  # 1799 of 2699
    first, second = await till.refund(transfer_id, 1000), await till.refund(transfer_id)
    assert await till.share(first) == ("reversing", 0, 0, 900)
    assert await till.share(second) == ("reversing", 0, 0, 899)
    for claim in await till.reversals.claim(5, LEASE):
        await till.reverse(claim)
    assert await till.transfer(transfer_id) == ("reversed", 900, 1799)
    assert await till.share(second) == ("owed", 0, 899, 0)


async def test_a_keys_story_is_kept_from_try_to_try_and_forgotten_with_the_key(till: Till) -> None:
    await till.refund(await till.paid_out())
    first = await till.reversal()
    doubt = Retry(LATER, "x", "x", counted=False, doubtful=True, absent_since=LATER)
    await till.reversals.record(first, StoredError("x", "x"), doubt)
    assert await till.reversals.claim(5, LEASE) == []
    await time_passes(till)
    second = await till.reversal()
    kept = (second.reversal.attempts, second.reversal.doubtful, second.reversal.absent_since)
    assert kept == (1, True, LATER)
    assert second.reversal.key_used_at == first.claimed_at
    await till.reversals.record(second, Interrupted(), Again(second.claimed_at, "interrupted", "x"))
    third = await till.reversal()
    kept = (third.reversal.attempts, third.reversal.doubtful, third.reversal.absent_since)
    assert kept == (1, True, LATER), "what was cut short leaves no trace"
    await till.reversals.record(third, Absent(), Retry(LATER, "x", "x", counted=False, new_key=True))
    await time_passes(till)
    fourth = await till.reversal()
    assert fourth.fresh_key
    assert (fourth.reversal.key_epoch, fourth.reversal.doubtful, fourth.reversal.absent_since) == (1, False, None)


async def test_what_the_provider_has_otherwise_is_left_to_a_person(till: Till) -> None:
    share_id = await till.refund(await till.paid_out())
    await till.reversals.record(await till.reversal(), UNCLEAR, Stuck("transfer_mismatch", "x"))
    assert await till.reversals.next_due_in() is None
    assert await till.share(share_id) == ("reversing", 0, 0, 2699)
    assert (await till.row("refund_shares", share_id))["failure_code"] == "transfer_mismatch"


async def test_an_admin_may_try_what_a_share_waits_for(till: Till) -> None:
    transfer_id = await given_up_without_an_answer(till, await till.seller())
    share_id = await till.refund(transfer_id)
    claim = await till.payouts.claim_one(transfer_id, LEASE, By(till.admin))
    assert isinstance(claim, Claim)
    await till.pay(claim)
    assert (await till.reversal()).reversal.share_id == share_id
