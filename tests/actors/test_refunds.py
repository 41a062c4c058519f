"""The refunds worker over a store and a provider in memory: every outcome, every crash, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.fakes import Bug, database_time
from tests.actors.queue_fakes import FakePayments, FakeRefunds
from veza.actors.queue import AT_ONCE, PROBE_SECONDS, BellRef, Leases, Progress, Ring, ring
from veza.actors.refunds import Refunder
from veza.domain.payments import LONGEST_PAUSE, KeyRefused, NoAnswer
from veza.domain.refund_attempts import (
    FIRST_PAUSE,
    Fail,
    NotReturned,
    Returned,
    Succeed,
    Underway,
)
from veza.supervisors import Supervisor, one_for_one, permanent, running

ONE = UUID(int=1)
RING = Ring()
LEASES = Leases()
UNANSWERED = NoAnswer("ReadTimeout")


@asynccontextmanager
async def working(
    store: FakeRefunds, provider: FakePayments, rung: Callable[[], object] = lambda: None
) -> AsyncIterator[tuple[BellRef, Supervisor]]:
    child = permanent("refunds", lambda: Refunder(store, provider, LEASES, rung))
    tree = one_for_one("money", child)
    with trio.fail_after(30 * 86400):
        async with running(tree, clock=database_time, random=Random(1)):
            yield child.ref, tree


def view(ref: BellRef) -> Progress:
    assert ref.snapshot is not None
    return ref.snapshot


async def test_what_is_due_is_refunded_and_the_sellers_side_is_told(autojump_clock: MockClock) -> None:
    store, provider, rung = FakeRefunds.of(1), FakePayments(), list[float]()
    async with working(store, provider, lambda: rung.append(trio.current_time())) as (ref, _):
        await store.until_ended(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert view(ref) == Progress(done=1)
    assert store.ended == {ONE: Succeed()}
    assert rung == [0.25]


async def test_one_under_way_is_asked_about_until_it_is_done(autojump_clock: MockClock) -> None:
    store, provider, rung = FakeRefunds.of(1), FakePayments({ONE: [Underway(), Underway()]}), list[object]()
    async with working(store, provider, lambda: rung.append(store.ended)) as (ref, _):
        await store.until_ended(ONE)
        await trio.testing.wait_all_tasks_blocked()
        assert (view(ref).retried, view(ref).done) == (2, 1)
    first, second, third = provider.times(ONE)
    assert second - first == pytest.approx(FIRST_PAUSE.total_seconds(), abs=1)
    assert third - second == pytest.approx(2 * FIRST_PAUSE.total_seconds(), abs=1)
    assert len(rung) == 1, "until the buyer has it, nothing is to be had from sellers"


async def test_one_that_failed_frees_what_it_held_up(autojump_clock: MockClock) -> None:
    store, rung = FakeRefunds.of(1), list[int]()
    async with working(store, FakePayments({ONE: [NotReturned("no", "x")]}), lambda: rung.append(1)) as (ref, _):
        await store.until_ended(ONE)
        await trio.sleep(4 * 3600)
        assert view(ref) == Progress(given_up=1)
    assert store.ended == {ONE: Fail("no", "x")}
    assert rung == [1]


async def test_a_day_without_an_answer_ends_in_nothing_but_asking_again(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(1), FakePayments({ONE: [UNANSWERED, Underway()] * 17})
    async with working(store, provider):
        await store.until_ended(ONE)
    assert trio.current_time() > 86400
    assert store.ended == {ONE: Succeed()}
    pauses = [later - sooner for sooner, later in pairwise(provider.times(ONE))]
    assert max(pauses) == pytest.approx(LONGEST_PAUSE.total_seconds(), abs=1)
    assert [asked for _, asked in provider.steps(ONE)] == list(range(1, 36))


async def test_an_event_brings_it_forward(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(1), FakePayments({ONE: [Underway()] * 12})
    async with working(store, provider) as (ref, _):
        await trio.sleep(3 * 3600 + 60)
        store.due[ONE] = database_time()
        before = len(provider.asked)
        provider.script.clear()
        ring(ref)
        await store.until_ended(ONE)
        assert trio.current_time() < 3 * 3600 + 61
        assert len(provider.asked) == before + 1


async def test_calls_go_out_side_by_side_up_to_the_limit(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(64), FakePayments()
    async with working(store, provider):
        await store.until_ended(*[UUID(int=number) for number in range(1, 65)])
    assert provider.most_out == AT_ONCE
    assert trio.current_time() == pytest.approx(64 / AT_ONCE * 0.25, abs=0.01)


async def test_a_refused_key_stops_the_claiming_and_a_rare_probe_ends_it(autojump_clock: MockClock) -> None:
    store = FakeRefunds.of(40)
    provider = FakePayments({UUID(int=number): [KeyRefused("HTTP 401")] for number in range(1, 17)})
    async with working(store, provider) as (ref, _):
        await store.until(lambda: view(ref).stopped_because is not None and not store.claims)
        assert len(provider.asked) == AT_ONCE, "those that waited for their turn were given back"
        await trio.sleep(PROBE_SECONDS / 2)
        assert len(provider.asked) == AT_ONCE
        await store.until(lambda: len(store.ended) == 40)
        assert view(ref).stopped_because is None
    assert set(store.ended.values()) == {Succeed()}
    assert trio.current_time() >= PROBE_SECONDS


async def test_a_database_that_goes_away_has_nothing_asked_twice(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(1), FakePayments()
    store.away, store.records_away = 3, 2
    async with working(store, provider) as (_, tree):
        await store.until_ended(ONE)
        assert tree.view().children[0].restarts.total == 0
    assert len(provider.asked) == 1


async def test_an_answer_that_comes_after_the_lease_changes_nothing(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(1), FakePayments({ONE: [Returned(), NotReturned("late", "x")]}, seconds=400)
    async with working(store, provider):
        await trio.sleep(1)
        provider.seconds = 0.25  # of the rescue, once the first call's lease is over
        await store.until_ended(ONE)
        assert LEASES.claim < trio.current_time() < 400
        await trio.sleep(200)
    assert [asked for _, asked in provider.steps(ONE)] == [1, 2], "the rescue knows that it is the second"
    assert store.ended == {ONE: Succeed()}


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
async def test_every_refund_is_done_once_across_a_crash(where: str, autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(40), FakePayments()
    await assert_recovers(where, lambda: Refunder(store, provider, LEASES, lambda: None), RING)
    async with working(store, provider):
        await store.until(lambda: len(store.ended) == 40)
    assert set(store.asked.values()) == {1}


async def test_a_call_that_crashes_costs_no_other_a_try_and_is_not_lost(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(32), FakePayments({ONE: [Bug] * 5})
    async with working(store, provider):
        await store.until(lambda: len(store.ended) == 31)
        assert trio.current_time() < 60, "what was in hand beside it was given back at once"
        await store.until_ended(ONE)
    assert {store.asked[row] for row in store.asked if row != ONE} == {1}
    pauses = [later - sooner for sooner, later in pairwise(provider.times(ONE))]
    assert pauses == [pytest.approx(LEASES.claim, abs=1)] * 5


async def test_a_stop_lets_calls_come_back_and_gives_the_rest_back(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(32), FakePayments(seconds=2)
    async with working(store, provider):
        await trio.sleep(1)
    assert store.claims == {}
    assert (len(store.ended), len(store.due)) == (16, 16)
    assert {at <= database_time() for at in store.due.values()} == {True}


async def test_a_stop_does_not_wait_for_a_call_that_hangs(autojump_clock: MockClock) -> None:
    store, provider = FakeRefunds.of(1), FakePayments(seconds=20)
    async with working(store, provider):
        await trio.sleep(1)
    assert trio.current_time() < 6
    assert (store.claims, store.asked) == ({}, {ONE: 0})
