"""The payouts worker over a store and a provider in memory: every outcome, every crash, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.fakes import Bug, FakeStore, FakeStripe, database_time, new_transfer
from veza.actors import payouts, queue
from veza.actors.core import ActorCrashed, DeadlineExceeded, State
from veza.actors.payouts import Payer, PayoutsRef
from veza.actors.queue import AT_ONCE, POLL_SECONDS, PROBE_SECONDS, Leases, Progress, Ring
from veza.domain.attempts import (
    Absent,
    Mismatch,
    NoFunds,
    NotOnboarded,
    Paid,
    Refused,
    RetryPolicy,
    StoredError,
    Unauthorized,
    Unclear,
)
from veza.domain.audit import By
from veza.domain.errors import Conflict, NotFound, Unavailable
from veza.domain.payouts import HoldReason, TransferStatus
from veza.supervisors import Supervisor, control, one_for_one, permanent, running

ADMIN = By(UUID(int=9))
ONE = UUID(int=1)
RING: payouts.Messages = Ring()
POLICY, LEASES = RetryPolicy(), Leases()
NO_ANSWER = Unclear("timeout", "no answer")
COMPLETED, FAILED, HELD = TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.HELD


@asynccontextmanager
async def working(
    store: FakeStore, stripe: FakeStripe, policy: RetryPolicy = POLICY, leases: Leases = LEASES
) -> AsyncIterator[tuple[PayoutsRef, Supervisor]]:
    child = permanent("payouts", lambda: Payer(store, stripe, policy, leases, Random(7)))
    tree = one_for_one("money", child)
    with trio.fail_after(30 * 86400):
        async with running(tree, clock=database_time, random=Random(1)):
            yield child.ref, tree


def view(ref: PayoutsRef) -> Progress:
    assert ref.snapshot is not None
    return ref.snapshot


# -- outcomes ----------------------------------------------------------------------------------------------------------


async def test_what_is_due_is_paid(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe()
    async with working(store, stripe) as (ref, _):
        await store.until_all(COMPLETED)
        await trio.testing.wait_all_tasks_blocked()
        assert view(ref) == Progress(done=1)


async def test_a_retry_comes_when_it_is_due_and_not_before(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [NO_ANSWER, NO_ANSWER]})
    async with working(store, stripe):
        await store.until_all(COMPLETED)
    first, second, third = [when for *_, when in stripe.asked]
    assert 13.5 <= second - first <= 17
    assert 27 <= third - second <= 34
    assert {epoch for _, _, epoch, _ in stripe.asked} == {0}


async def test_it_is_given_up_after_twelve_tries_and_stays_so(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [NO_ANSWER] * 50})
    async with working(store, stripe):
        await store.until(lambda: store.rows[ONE].status is FAILED and store.rows[ONE].next_retry_at is None)
        await trio.sleep(86400)
    assert len(stripe.asked) == 12
    assert store.rows[ONE].failure_code == "timeout"


async def test_what_is_due_to_a_banned_seller_is_held_and_paid_when_the_ban_is_over(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe()
    store.banned.add(store.rows[ONE].seller_id)
    async with working(store, stripe):
        await store.until(lambda: store.rows[ONE].hold_reason is HoldReason.BANNED)
        await trio.sleep(600)
        assert stripe.asked == []
        store.banned.clear()
        began = trio.current_time()
        await store.until_all(COMPLETED)
        assert trio.current_time() - began <= POLL_SECONDS


async def test_a_stored_error_is_looked_into_twice_before_a_new_key_asks(autojump_clock: MockClock) -> None:
    stripe = FakeStripe({ONE: [NO_ANSWER, StoredError("http_500", "x")]}, {ONE: [Absent(), Absent()]})
    store = FakeStore.of([new_transfer(1)])
    async with working(store, stripe):
        await store.until_all(COMPLETED)
    assert stripe.steps(ONE) == [("transfer", 0), ("transfer", 0), ("look", 0), ("look", 0), ("transfer", 1)]
    first_look, second_look = [when for step, *_, when in stripe.asked if step == "look"]
    assert second_look - first_look >= 600


async def test_a_look_adopts_what_is_there(autojump_clock: MockClock) -> None:
    stripe = FakeStripe({ONE: [StoredError("http_500", "x")]}, {ONE: [NO_ANSWER, Paid("tr_found")]})
    store = FakeStore.of([new_transfer(1)])
    async with working(store, stripe):
        await store.until_all(COMPLETED)
    assert store.rows[ONE].external_ref == "tr_found"
    assert stripe.steps(ONE) == [("transfer", 0), ("look", 0), ("look", 0)]


async def test_a_key_that_got_old_is_looked_up_first(autojump_clock: MockClock) -> None:
    old = new_transfer(1, key_used_at=database_time() - timedelta(hours=23))
    store, stripe = FakeStore.of([old]), FakeStripe(looks={ONE: [Mismatch("tr_x")]})
    async with working(store, stripe):
        await store.until(lambda: store.rows[ONE].status is FAILED)
        assert stripe.steps(ONE) == [("look", 0)]
        assert store.rows[ONE].next_retry_at is None


async def test_missing_funds_are_asked_about_hourly_and_never_given_up(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [NoFunds("low")] * 30})
    async with working(store, stripe):
        await store.until(lambda: store.rows[ONE].hold_reason is HoldReason.AWAITING_FUNDS)
        await store.until_all(COMPLETED)
    assert trio.current_time() >= 30 * 3600
    assert stripe.steps(ONE)[-1] == ("transfer", 30), "each probe asks a new question"


async def test_a_seller_not_on_board_waits_without_being_asked_about(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [NotOnboarded("inactive")]})
    async with working(store, stripe):
        await store.until_all(HELD)
        await trio.sleep(86400)
    assert len(stripe.asked) == 1


async def test_with_retries_off_a_failure_waits_for_an_admin(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [NO_ANSWER]})
    async with working(store, stripe, RetryPolicy(automatic=False)) as (ref, _):
        await store.until_all(FAILED)
        await trio.sleep(86400)
        assert len(stripe.asked) == 1
        assert (await payouts.retry(ref, ONE, ADMIN)).status is COMPLETED


# -- side by side ------------------------------------------------------------------------------------------------------


async def test_calls_go_out_side_by_side_up_to_the_limit_and_without_a_gap(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 161)]), FakeStripe()
    async with working(store, stripe):
        await store.until_all(COMPLETED)
    assert stripe.most_out == AT_ONCE
    assert trio.current_time() == pytest.approx(160 / AT_ONCE * 0.25, abs=0.01)
    assert len(store.claimed_with) <= 160 / AT_ONCE + 2, "claims come in batches"


async def test_a_slow_transfer_holds_up_no_other(autojump_clock: MockClock) -> None:
    async def slow(claim: object) -> None:
        if stripe.asked[-1][1] == ONE:
            await trio.sleep(19)

    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 33)]), FakeStripe(hook=slow)
    async with working(store, stripe):
        await store.until(lambda: sum(each.status is COMPLETED for each in store.rows.values()) == 31)
        assert trio.current_time() < 2
        await store.until_all(COMPLETED)


async def test_a_ring_brings_the_round_forward(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore(), FakeStripe()
    async with working(store, stripe) as (ref, _):
        await trio.sleep(0.5)
        store.rows[ONE] = new_transfer(1)
        queue.ring(ref)
        await store.until_all(COMPLETED)
        assert trio.current_time() < 1


async def test_a_lost_ring_costs_ten_seconds_at_most(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore(), FakeStripe()
    async with working(store, stripe):
        await trio.sleep(0.5)
        store.rows[ONE] = new_transfer(1)
        await store.until_all(COMPLETED)
        assert trio.current_time() < 10.5


async def test_what_slipped_past_the_onboarding_is_released_by_the_way(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore(to_release=3), FakeStripe()
    async with working(store, stripe):
        await trio.sleep(11)
    assert store.to_release == 0


async def test_a_database_that_goes_away_crashes_nothing(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe()
    store.away, store.records_away = 3, 2
    async with working(store, stripe) as (_, tree):
        await store.until_all(COMPLETED)
        assert tree.view().children[0].restarts.total == 0
    assert len(stripe.asked) == 1, "an answer that can't be written yet is not asked for again"


# -- leases ------------------------------------------------------------------------------------------------------------


async def test_nothing_is_called_for_on_a_lease_too_short_for_its_answer(autojump_clock: MockClock) -> None:
    async def hang(claim: object) -> None:
        await trio.sleep(275)  # sixteen calls that take nearly the whole lease keep the others waiting

    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 18)]), FakeStripe(hook=hang)
    async with working(store, stripe):
        await store.until(lambda: sum(each.status is COMPLETED for each in store.rows.values()) == 16)
        stripe.hook = None
        await store.until_all(COMPLETED)
    *_, last = stripe.asked
    assert last[1] == UUID(int=17)
    assert stripe.steps(UUID(int=17)) == [("transfer", 0)], "it was given back, then called for on a fresh lease"
    assert store.rows[UUID(int=17)].attempts == 1


async def test_an_answer_that_comes_after_the_lease_changes_nothing(autojump_clock: MockClock) -> None:
    async def stopped(claim: object) -> None:
        if len(stripe.asked) == 1:
            await trio.sleep(400)  # as a stopped process would: the lease passes while the call is out

    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe({ONE: [Paid("tr_1"), NoFunds("late")]}, hook=stopped)
    async with working(store, stripe):
        await store.until_all(COMPLETED)
        await trio.sleep(200)
    assert stripe.steps(ONE) == [("transfer", 0), ("transfer", 0)], "the rescue asks under the same key"
    assert store.rows[ONE].status is COMPLETED


# -- by hand -----------------------------------------------------------------------------------------------------------


async def test_a_retry_by_hand_answers_with_what_came_of_it(autojump_clock: MockClock) -> None:
    dead = new_transfer(1, status=FAILED, next_retry_at=None, attempts=12)
    store, stripe = FakeStore.of([dead]), FakeStripe({ONE: [Refused("resource_missing", "no such account")]})
    async with working(store, stripe) as (ref, _):
        assert (await payouts.retry(ref, ONE, ADMIN)).failure_code == "resource_missing"
        assert (await payouts.retry(ref, ONE, ADMIN)).status is COMPLETED
        with pytest.raises(Conflict):
            await payouts.retry(ref, ONE, ADMIN)
        with pytest.raises(NotFound):
            await payouts.retry(ref, UUID(int=77), ADMIN)


async def test_two_retries_at_once_call_once(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1, status=FAILED, next_retry_at=None)]), FakeStripe()
    outcomes: list[object] = []

    async def click(ref: PayoutsRef) -> None:
        try:
            outcomes.append((await payouts.retry(ref, ONE, ADMIN)).status)
        except Conflict:
            outcomes.append("refused")

    async with working(store, stripe) as (ref, _), trio.open_nursery() as nursery:
        nursery.start_soon(click, ref)
        nursery.start_soon(click, ref)
    assert sorted(map(str, outcomes)) == ["completed", "refused"]
    assert len(stripe.asked) == 1


async def test_an_admin_who_leaves_cuts_nothing_off(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1, status=FAILED, next_retry_at=None)]), FakeStripe(seconds=5)
    async with working(store, stripe) as (ref, _):
        with trio.move_on_after(1), pytest.raises(DeadlineExceeded):
            await payouts.retry(ref, ONE, ADMIN)
        await store.until_all(COMPLETED)


async def test_more_clicks_than_hands_are_told_to_come_back(autojump_clock: MockClock) -> None:
    rows = [new_transfer(number, status=FAILED, next_retry_at=None) for number in range(1, 9)]
    store, stripe = FakeStore.of(rows), FakeStripe()
    refused = 0

    async def click(ref: PayoutsRef, transfer_id: UUID) -> None:
        nonlocal refused
        try:
            await payouts.retry(ref, transfer_id, ADMIN)
        except Unavailable:
            refused += 1

    async with working(store, stripe) as (ref, _), trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(click, ref, row.id)
    assert refused == 4
    assert len(stripe.asked) == 4


# -- a refused key -----------------------------------------------------------------------------------------------------


async def test_a_refused_key_stops_the_claiming_and_a_rare_probe_ends_it(autojump_clock: MockClock) -> None:
    rows = [new_transfer(number) for number in range(1, 101)]
    store = FakeStore.of(rows)
    stripe = FakeStripe({row.id: [Unauthorized("bad key")] * (1 if row.id.int <= 16 else 0) for row in rows})
    async with working(store, stripe) as (ref, _):
        await store.until(lambda: view(ref).stopped_because is not None and not store.claims)
        assert len(stripe.asked) == AT_ONCE, "those that waited for their turn were given back"
        await trio.sleep(PROBE_SECONDS / 2)
        assert len(stripe.asked) == AT_ONCE
        await store.until_all(COMPLETED)
        assert view(ref).stopped_because is None
        assert view(ref).given_back >= AT_ONCE
    assert trio.current_time() >= PROBE_SECONDS
    assert {row.attempts for row in store.rows.values()} == {1}, "what the key did is not counted"


async def test_a_retry_by_hand_finds_out_that_the_key_is_good_again(autojump_clock: MockClock) -> None:
    failed = new_transfer(2, status=FAILED, next_retry_at=None)
    store = FakeStore.of([new_transfer(1), failed])
    stripe = FakeStripe({ONE: [Unauthorized("bad key")]})
    async with working(store, stripe) as (ref, _):
        await store.until(lambda: view(ref).stopped_because is not None)
        assert (await payouts.retry(ref, failed.id, ADMIN)).status is COMPLETED
        await store.until_all(COMPLETED)
    assert trio.current_time() < PROBE_SECONDS


async def test_a_pause_begins_no_new_call(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 65)]), FakeStripe()
    async with working(store, stripe) as (_, tree):
        await store.until(lambda: any(each.status is COMPLETED for each in store.rows.values()))
        control.pause(tree, "money/payouts", 1, because="the books are being checked")
        called = len(stripe.asked)
        await store.until(lambda: not store.claims)
        await trio.sleep(3600)
        assert len(stripe.asked) == called < 64
        control.resume(tree, "money/payouts", 1)
        await store.until_all(COMPLETED)


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
async def test_it_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 20)]), FakeStripe()
    await assert_recovers(where, lambda: Payer(store, stripe, POLICY, LEASES, Random(7)), RING)


@pytest.mark.parametrize("where", WHERE)
async def test_every_transfer_is_paid_once_across_a_crash(where: str, autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 40)]), FakeStripe()
    await assert_recovers(where, lambda: Payer(store, stripe, POLICY, LEASES, Random(7)), RING)
    async with working(store, stripe):
        await store.until_all(COMPLETED)
    assert {epoch for _, _, epoch, _ in stripe.asked} == {0}
    assert {row.attempts for row in store.rows.values()} == {1}


async def test_a_poisoned_transfer_costs_no_other_a_try_and_goes_dead_in_the_end(autojump_clock: MockClock) -> None:
    store = FakeStore.of([new_transfer(number) for number in range(1, 33)])
    stripe = FakeStripe({ONE: [Bug] * 20})
    async with working(store, stripe):
        await store.until(lambda: sum(each.status is COMPLETED for each in store.rows.values()) == 31)
        assert trio.current_time() < 60, "what was in hand beside it was given back at once"
        await store.until(lambda: store.rows[ONE].failure_code == "exhausted")
    assert {row.attempts for row in store.rows.values() if row.id != ONE} == {1}
    assert len(stripe.steps(ONE)) == 12


async def test_a_poisoned_retry_fails_its_asker_and_spares_the_next(autojump_clock: MockClock) -> None:
    rows = [new_transfer(number, status=FAILED, next_retry_at=None) for number in (1, 2)]
    store, stripe = FakeStore.of(rows), FakeStripe({ONE: [Bug]})
    async with working(store, stripe) as (ref, tree):
        with pytest.raises(ActorCrashed):
            await payouts.retry(ref, ONE, ADMIN)
        await tree.wait("money/payouts", State.RUNNING, incarnation=2)
        assert (await payouts.retry(ref, UUID(int=2), ADMIN)).status is COMPLETED
        await store.until_all(COMPLETED)  # the poisoned one too: its claim lapsed, and the script was over


async def test_a_stop_lets_calls_come_back_and_gives_the_rest_back(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(number) for number in range(1, 33)]), FakeStripe(seconds=2)
    async with working(store, stripe):
        await trio.sleep(1)
    assert store.claims == {}
    assert sum(row.status is COMPLETED for row in store.rows.values()) == 16
    assert sum(row.status is TransferStatus.PENDING for row in store.rows.values()) == 16


async def test_a_stop_does_not_wait_for_a_call_that_hangs(autojump_clock: MockClock) -> None:
    store, stripe = FakeStore.of([new_transfer(1)]), FakeStripe(seconds=20)
    async with working(store, stripe):
        await trio.sleep(1)
    assert trio.current_time() < 6
    assert store.rows[ONE].status is TransferStatus.PENDING
    assert (store.rows[ONE].attempts, store.rows[ONE].key_epoch) == (0, 0)
