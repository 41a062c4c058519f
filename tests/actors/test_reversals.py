"""The reversals worker over a store and a provider in memory: every outcome, every crash, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.fakes import LAUNCH, Bug, database_time
from tests.actors.queue_fakes import FakeReversals, FakeTransfers
from veza.actors.queue import AT_ONCE, PROBE_SECONDS, BellRef, Leases, Progress, Ring, ring
from veza.actors.reversals import Reverser
from veza.domain.attempts import (
    Absent,
    Done,
    Mismatch,
    NoFunds,
    Outcome,
    Paid,
    Refused,
    RetryPolicy,
    StoredError,
    Unauthorized,
    Unclear,
)
from veza.domain.recovery import Owe, Stuck
from veza.supervisors import Supervisor, one_for_one, permanent, running

ONE = UUID(int=1)
RING = Ring()
LEASES = Leases()
UNCLEAR = Unclear("timeout", "no answer")


def worker(store: FakeReversals, provider: FakeTransfers, *, automatic: bool = True) -> Reverser:
    return Reverser(store, provider, RetryPolicy(automatic=automatic), LEASES, Random(7))


@asynccontextmanager
async def working(
    store: FakeReversals, provider: FakeTransfers, *, automatic: bool = True
) -> AsyncIterator[tuple[BellRef, Supervisor]]:
    child = permanent("reversals", lambda: worker(store, provider, automatic=automatic))
    tree = one_for_one("money", child)
    with trio.fail_after(60 * 86400):
        async with running(tree, clock=database_time, random=Random(1)):
            yield child.ref, tree


def view(ref: BellRef) -> Progress:
    assert ref.snapshot is not None
    return ref.snapshot


async def test_what_is_due_is_had_back(autojump_clock: MockClock) -> None:
    store = FakeReversals.of(1)
    async with working(store, FakeTransfers()) as (ref, _):
        await store.until_ended(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert view(ref) == Progress(done=1)
    assert store.ended == {ONE: Done("trr_1")}


@pytest.mark.parametrize("no", [NoFunds("low"), Refused("resource_missing", "no such transfer")], ids=lambda no: no)
async def test_a_definitive_no_leaves_a_debt_and_is_asked_for_once(no: Outcome, autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(1), FakeTransfers({ONE: [no] * 9})
    async with working(store, provider) as (ref, _):
        await store.until_ended(ONE)
        await trio.sleep(4 * 3600)
        assert view(ref) == Progress(given_up=1)
    assert isinstance(store.ended[ONE], Owe)
    assert provider.steps(ONE) == [("reverse", 0)]


async def test_days_without_an_answer_end_in_nothing_but_asking_again(autojump_clock: MockClock) -> None:
    """More often than a transfer is tried. Under one key while it holds; then the provider is asked what it has."""
    store, provider = FakeReversals.of(1), FakeTransfers({ONE: [UNCLEAR] * 15})
    async with working(store, provider):
        await store.until_ended(ONE)
    assert trio.current_time() > 86400
    assert store.ended == {ONE: Done("trr_1")}
    steps = provider.steps(ONE)
    young = sum(when < 23 * 3600 for when in provider.times(ONE))
    assert young < len(steps) == 16
    assert steps == [("reverse", 0)] * young + [("look", 0)] * (16 - young)


async def test_with_retries_off_a_reversal_is_tried_again_all_the_same(autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(1), FakeTransfers({ONE: [UNCLEAR, UNCLEAR]})
    async with working(store, provider, automatic=False):
        await store.until_ended(ONE)
    assert store.ended == {ONE: Done("trr_1")}


async def test_a_no_that_proves_nothing_is_looked_into_before_it_is_a_debt(autojump_clock: MockClock) -> None:
    """Said before the provider looks at the key, after a call whose answer was lost."""
    store = FakeReversals.of(1)
    provider = FakeTransfers({ONE: [UNCLEAR, NoFunds("low"), Absent(), Absent(), NoFunds("low")]})
    async with working(store, provider):
        await store.until_ended(ONE)
    assert provider.steps(ONE) == [("reverse", 0), ("reverse", 0), ("look", 0), ("look", 0), ("reverse", 1)]
    *_, first, second, _ = provider.times(ONE)
    assert second - first >= 600
    assert isinstance(store.ended[ONE], Owe)


async def test_a_look_adopts_what_the_lost_answer_was_about(autojump_clock: MockClock) -> None:
    store = FakeReversals.of(1)
    provider = FakeTransfers({ONE: [UNCLEAR, StoredError("http_500", "x"), UNCLEAR, Paid("trr_found")]})
    async with working(store, provider):
        await store.until_ended(ONE)
    assert store.ended == {ONE: Done("trr_found")}
    assert provider.steps(ONE) == [("reverse", 0), ("reverse", 0), ("look", 0), ("look", 0)]


async def test_what_the_provider_has_otherwise_is_touched_no_more(autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(1), FakeTransfers({ONE: [Mismatch("trr_x")]})
    old = replace(store.rows[ONE], key_used_at=LAUNCH - timedelta(hours=23))
    store.rows[ONE] = old
    async with working(store, provider) as (ref, _):
        await store.until_ended(ONE)
        await trio.sleep(4 * 3600)
        assert view(ref) == Progress(given_up=1)
    assert isinstance(store.ended[ONE], Stuck)
    assert provider.steps(ONE) == [("look", 0)]


async def test_a_ring_brings_the_round_forward(autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(1), FakeTransfers()
    later = store.due.pop(ONE)
    async with working(store, provider) as (ref, _):
        await trio.sleep(0.5)
        store.due[ONE] = later
        ring(ref)
        await store.until_ended(ONE)
        assert trio.current_time() < 1


async def test_a_refused_key_stops_the_claiming_and_a_rare_probe_ends_it(autojump_clock: MockClock) -> None:
    store = FakeReversals.of(40)
    provider = FakeTransfers({UUID(int=number): [Unauthorized("bad key")] for number in range(1, 17)})
    async with working(store, provider) as (ref, _):
        await store.until(lambda: view(ref).stopped_because is not None and not store.claims)
        assert len(provider.asked) == AT_ONCE, "those that waited for their turn were given back"
        await trio.sleep(PROBE_SECONDS / 2)
        assert len(provider.asked) == AT_ONCE
        await store.until(lambda: len(store.ended) == 40)
        assert view(ref).stopped_because is None
        assert view(ref).given_back >= AT_ONCE
    assert trio.current_time() >= PROBE_SECONDS
    assert {row.attempts for row in store.rows.values()} == {1}, "what the key did is not counted"


@pytest.mark.parametrize("where", WHERE)
async def test_every_reversal_is_done_once_across_a_crash(where: str, autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(40), FakeTransfers()
    await assert_recovers(where, lambda: worker(store, provider), RING)
    async with working(store, provider):
        await store.until(lambda: len(store.ended) == 40)
    assert {(row.attempts, row.key_epoch) for row in store.rows.values()} == {(1, 0)}


async def test_a_call_that_crashes_costs_no_other_a_try_and_is_asked_for_under_its_key(
    autojump_clock: MockClock,
) -> None:
    store, provider = FakeReversals.of(32), FakeTransfers({ONE: [Bug] * 3})
    async with working(store, provider):
        await store.until(lambda: len(store.ended) == 31)
        assert trio.current_time() < 60, "what was in hand beside it was given back at once"
        await store.until_ended(ONE)
    assert {row.attempts for row in store.rows.values() if row.share_id != ONE} == {1}
    assert provider.steps(ONE) == [("reverse", 0)] * 4


async def test_a_stop_lets_calls_come_back_and_gives_the_rest_back(autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(32), FakeTransfers(seconds=2)
    async with working(store, provider):
        await trio.sleep(1)
    assert store.claims == {}
    assert (len(store.ended), len(store.due)) == (16, 16)


async def test_a_stop_does_not_wait_for_a_call_that_hangs(autojump_clock: MockClock) -> None:
    store, provider = FakeReversals.of(1), FakeTransfers(seconds=20)
    async with working(store, provider):
        await trio.sleep(1)
    assert trio.current_time() < 6
    assert (store.claims, store.rows[ONE].attempts, store.rows[ONE].key_epoch) == ({}, 0, 0)
