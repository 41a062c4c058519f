"""Onboarding over a store and a provider in memory: accounts opened once, fetched when due, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, Once, assert_recovers, plant
from tests.actors.fakes import database_time
from veza.actors import onboarding, payouts
from veza.actors.core import Actor, ActorCrashed, Coalesce, Mailbox
from veza.actors.onboarding import AT_ONCE, LEASE, POLL_SECONDS, Onboarder, OnboardingView, OpenAccount
from veza.actors.queue import Progress
from veza.domain.connect import AccountNotMade, AccountState, ConnectAccount
from veza.domain.errors import Unauthenticated, Unavailable
from veza.store.errors import DatabaseUnavailable
from veza.supervisors import one_for_one, permanent, running
from veza.supervisors.child import Child

ANA, EVE = UUID(int=1), UUID(int=2)
OPEN: onboarding.Messages = OpenAccount(ANA)
ON_BOARD = AccountState(transfers_active=True, details_submitted=True)


@dataclass
class FakeRows:
    """Accounts, and when each is due to be fetched. What an account releases is counted once."""

    accounts: dict[UUID, ConnectAccount] = field(default_factory=dict)
    due: dict[UUID, datetime] = field(default_factory=dict)
    held: dict[UUID, int] = field(default_factory=dict)
    recorded: list[tuple[UUID, float]] = field(default_factory=list)
    away: int = 0
    erased: set[UUID] = field(default_factory=set)
    changed: trio.Condition = field(default_factory=trio.Condition)

    def add(self, user_id: UUID, *, held: int = 0) -> None:
        self.accounts[user_id] = ConnectAccount(user_id, f"acct_{user_id.int}", 0, False, False)
        self.due[user_id] = database_time()
        self.held[user_id] = held

    async def wish(self, user_id: UUID) -> ConnectAccount:
        await self._turn()
        if user_id in self.erased:
            raise Unauthenticated("This session is over; sign in again.", code="session_over")
        return self.accounts.setdefault(user_id, ConnectAccount(user_id, None, 0, False, False))

    async def opened(self, user_id: UUID, account_id: str) -> ConnectAccount:
        await self._turn()
        if self.accounts[user_id].account_id is None:
            self.accounts[user_id] = replace(self.accounts[user_id], account_id=account_id)
            self.due[user_id] = database_time()
        return self.accounts[user_id]

    async def ask_anew(self, account: ConnectAccount) -> ConnectAccount:
        await self._turn()
        self.accounts[account.user_id] = replace(account, key_epoch=account.key_epoch + 1)
        return self.accounts[account.user_id]

    async def claim_checks(self, limit: int, lease: timedelta) -> Sequence[tuple[ConnectAccount, datetime]]:
        await self._turn()
        now = database_time()
        taken = [user_id for user_id, at in self.due.items() if at <= now][:limit]
        self.due |= dict.fromkeys(taken, now + lease)
        return [(self.accounts[user_id], self.due[user_id]) for user_id in taken]

    async def record(self, user_id: UUID, state: AccountState, mark: datetime | None) -> int:
        await self._turn()
        if self.due.get(user_id) == mark:
            del self.due[user_id]
        self.recorded.append((user_id, trio.current_time()))
        async with self.changed:
            self.changed.notify_all()
        return self.held.pop(user_id, 0) if state.transfers_active else 0

    async def next_check_in(self) -> float | None:
        await self._turn()
        return (min(self.due.values()) - database_time()).total_seconds() if self.due else None

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            while not holds():
                await self.changed.wait()

    async def _turn(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("away")


@dataclass
class FakeProvider:
    """Opens an account for each key, and knows their states. ``failures`` are raised first, one a request."""

    state: AccountState = ON_BOARD
    failures: list[Exception] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    out: int = 0
    most_out: int = 0

    async def open_account(self, wish: ConnectAccount) -> str:
        await self._answer(wish.idempotency_key)
        return self.made.setdefault(wish.idempotency_key, f"acct_{wish.user_id.int}_{wish.key_epoch}")

    async def account(self, account_id: str) -> AccountState:
        await self._answer(account_id)
        return self.state

    async def _answer(self, what: str) -> None:
        self.asked.append(what)
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        await trio.sleep(0.25)
        self.out -= 1
        if self.failures:
            raise self.failures.pop(0)


class Bell(Actor[payouts.Messages, Progress]):
    """Stands where the payouts worker does, and counts its rings."""

    mailbox = Mailbox(16, full=Coalesce, why="a handful of rings")

    def __init__(self, rings: list[float]) -> None:
        self.rings = rings

    async def handle(self, message: payouts.Messages) -> object:
        self.rings.append(trio.current_time())
        return None


@dataclass
class Scene:
    rows: FakeRows = field(default_factory=FakeRows)
    provider: FakeProvider = field(default_factory=FakeProvider)
    rings: list[float] = field(default_factory=list)

    def onboarder(self) -> Onboarder:
        return Onboarder(self.rows, self.provider, permanent("payouts", lambda: Bell(self.rings)).ref)

    @asynccontextmanager
    async def working(self, planted: Once | None = None) -> AsyncIterator[Child[onboarding.Messages, OnboardingView]]:
        bell = permanent("payouts", lambda: Bell(self.rings))

        def actor() -> Actor[onboarding.Messages, OnboardingView]:
            made = Onboarder(self.rows, self.provider, bell.ref)
            return made if planted is None else plant(made, planted, [])

        child = permanent("onboarding", actor)
        with trio.fail_after(86400):
            async with running(one_for_one("money", bell, child), clock=database_time, random=Random(1)):
                yield child

    async def until_recorded(self, many: int) -> None:
        await self.rows.until(lambda: len(self.rows.recorded) == many)


# -- fetching ----------------------------------------------------------------------------------------------------------


async def test_an_account_that_is_due_is_fetched_and_what_it_releases_is_rung_for(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.rows.add(ANA, held=2)
    scene.rows.add(EVE)
    async with scene.working() as child:
        await scene.until_recorded(2)
        await trio.testing.wait_all_tasks_blocked()
        assert child.ref.snapshot == OnboardingView(checked=2)
        assert len(scene.rings) == 1, "nothing of the other's was held"


async def test_an_account_not_yet_active_releases_nothing(autojump_clock: MockClock) -> None:
    scene = Scene(provider=FakeProvider(AccountState(transfers_active=False, details_submitted=True)))
    scene.rows.add(ANA, held=2)
    async with scene.working():
        await scene.until_recorded(1)
    assert (scene.rows.held, scene.rings) == ({ANA: 2}, [])


async def test_a_ring_has_it_looked_at_once_and_without_one_it_is_found_by_the_poll(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with scene.working() as child:
        await trio.sleep(3)
        scene.rows.add(ANA)
        onboarding.ring(child.ref)
        await scene.until_recorded(1)
        assert trio.current_time() == pytest.approx(3.25)
        await trio.testing.wait_all_tasks_blocked()
        scene.rows.add(EVE)
        await scene.until_recorded(2)
        assert 1 < trio.current_time() - 3.25 <= POLL_SECONDS + 0.25


async def test_fetches_go_out_side_by_side_up_to_the_limit(autojump_clock: MockClock) -> None:
    scene = Scene()
    for number in range(1, 3 * AT_ONCE + 1):
        scene.rows.add(UUID(int=number))
    async with scene.working():
        await scene.until_recorded(3 * AT_ONCE)
    assert scene.provider.most_out == AT_ONCE
    assert len(set(scene.provider.asked)) == len(scene.provider.asked) == 3 * AT_ONCE


async def test_a_provider_that_is_away_is_asked_again_after_the_lease(autojump_clock: MockClock) -> None:
    scene = Scene(provider=FakeProvider(failures=[Unavailable("away"), Unavailable("away")]))
    scene.rows.add(ANA, held=1)
    async with scene.working() as child:
        await scene.until_recorded(1)
        assert trio.current_time() >= 2 * LEASE.total_seconds()
        assert child.ref.snapshot == OnboardingView(checked=1, unreachable=2)
        assert child.last_crash is None


async def test_a_database_that_is_away_for_a_moment_crashes_nothing(autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.rows.add(ANA)
    scene.rows.away = 3
    async with scene.working() as child:
        await scene.until_recorded(1)
        assert child.last_crash is None


# -- opening -----------------------------------------------------------------------------------------------------------


async def test_an_account_is_opened_once_however_many_ask(autojump_clock: MockClock) -> None:
    scene, opened = Scene(), list[str]()
    async with scene.working() as child:

        async def ask() -> None:
            opened.append(await onboarding.open_account(child.ref, ANA))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        await scene.until_recorded(1)
        assert child.ref.snapshot == OnboardingView(opened=1, checked=1), "what was opened is fetched right away"
    assert set(opened) == {"acct_1_0"}
    assert scene.provider.asked == [f"account:{ANA}:0", "acct_1_0"]


async def test_two_users_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    scene = Scene()
    async with scene.working() as child, trio.open_nursery() as nursery:
        nursery.start_soon(onboarding.open_account, child.ref, ANA)
        nursery.start_soon(onboarding.open_account, child.ref, EVE)
    assert scene.provider.most_out >= 2


async def test_who_was_erased_is_refused_and_no_account_is_asked_for(autojump_clock: MockClock) -> None:
    scene = Scene(FakeRows(erased={ANA}))
    async with scene.working() as child:
        with pytest.raises(Unauthenticated):
            await onboarding.open_account(child.ref, ANA)
        assert child.last_crash is None
    assert scene.provider.asked == []


async def test_a_no_kept_under_the_key_has_the_next_request_use_another(autojump_clock: MockClock) -> None:
    scene = Scene(provider=FakeProvider(failures=[AccountNotMade("no")]))
    async with scene.working() as child:
        with pytest.raises(Unavailable) as told:
            await onboarding.open_account(child.ref, ANA)
        assert told.value.code == "provider_refused"
        assert await onboarding.open_account(child.ref, ANA) == "acct_1_1"


@pytest.mark.parametrize("where", ["the provider", "the database"])
async def test_while_something_is_away_the_asker_is_told_and_asks_again_under_the_same_key(
    where: str, autojump_clock: MockClock
) -> None:
    scene = Scene()
    async with scene.working() as child:
        await trio.testing.wait_all_tasks_blocked()
        scene.rows.away = int(where == "the database")
        scene.provider.failures += [Unavailable("away")] * (where == "the provider")
        with pytest.raises(Unavailable):
            await onboarding.open_account(child.ref, ANA)
        assert await onboarding.open_account(child.ref, ANA) == "acct_1_0"
        assert child.last_crash is None


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", WHERE)
async def test_it_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    scene = Scene()
    await assert_recovers(where, scene.onboarder, OPEN)
    assert list(scene.provider.made) == [f"account:{ANA}:0"]


@pytest.mark.parametrize("where", WHERE)
async def test_a_crash_anywhere_loses_no_account_and_opens_none_twice(where: str, autojump_clock: MockClock) -> None:
    scene = Scene()
    scene.rows.add(EVE, held=1)
    for _ in range(2):  # the second run is after a stop that may have crashed
        async with scene.working(Once(where)) as child:
            try:
                account = await onboarding.open_account(child.ref, ANA)
            except ActorCrashed:
                account = await onboarding.open_account(child.ref, ANA)
            assert account == "acct_1_0"
            await scene.rows.until(lambda: {user_id for user_id, _ in scene.rows.recorded} == {ANA, EVE})
    assert len(scene.provider.made) == 1
    assert (scene.rows.held, scene.rows.due) == ({}, {})
