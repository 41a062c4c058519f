"""Onboarding: opens sellers' accounts at the payout provider, and fetches what became of them.

The provider's events come twice and in any order, so they only make an account due to be fetched; what the fetch says
is written down together with the release of what was held for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog
import trio

from veza.actors import payouts, queue
from veza.actors.core import Actor, Ask, Coalesce, Later, Mailbox, Ref, Tell
from veza.domain.connect import AccountNotMade, AccountState, ConnectAccount
from veza.domain.errors import Refusal, Unavailable
from veza.store.errors import StoreError

log = structlog.get_logger()

AT_ONCE: Final = 8  # fetches side by side: onboardings are rare, and a payout matters more to the provider's rate limit
POLL_SECONDS: Final = 10.0  # finds what another process's webhook made due
LEASE: Final = timedelta(seconds=60)  # longer than a fetch and its record; one that failed is tried again after it


class Store(Protocol):
    """The rows. Every method raises StoreError."""

    async def wish(self, user_id: UUID) -> ConnectAccount: ...
    async def opened(self, user_id: UUID, account_id: str) -> ConnectAccount: ...
    async def ask_anew(self, account: ConnectAccount) -> ConnectAccount: ...
    async def claim_checks(self, limit: int, lease: timedelta) -> Sequence[tuple[ConnectAccount, datetime]]: ...
    async def record(self, user_id: UUID, state: AccountState, mark: datetime | None) -> int: ...
    async def next_check_in(self) -> float | None: ...


class Provider(Protocol):
    """Whoever has the accounts. Both raise Unavailable; the first AccountNotMade too."""

    async def open_account(self, wish: ConnectAccount) -> str: ...
    async def account(self, account_id: str) -> AccountState: ...


@dataclass(frozen=True)
class OnboardingView:
    """What this incarnation has done."""

    opened: int = 0
    checked: int = 0
    unreachable: int = 0


@dataclass(frozen=True, slots=True)
class Ring(Tell):
    """An account may be due."""


@dataclass(frozen=True, slots=True)
class OpenAccount(Ask["ConnectAccount | Refusal"]):
    user_id: UUID


Messages = Ring | OpenAccount
OnboardingRef = Ref[Messages, OnboardingView]


def ring(ref: OnboardingRef) -> None:
    """Have the accounts that are due fetched at once."""
    ref.tell(Ring())


async def open_account(ref: OnboardingRef, user_id: UUID) -> str:
    """The id of the user's account, opened if they have none.

    Raises Unavailable, Unauthenticated for a user who was erased, and what an ask raises.
    """
    answer = await ref.ask(OpenAccount(user_id))
    if isinstance(answer, Refusal):
        raise answer
    if answer.account_id is None:
        raise LookupError(f"an account of {answer.user_id} was opened and is not there")
    return answer.account_id


class Onboarder(Actor[Messages, OnboardingView]):
    mailbox = Mailbox(32, full=Coalesce, why="rings fold into one; sellers open an account once in their lives")

    def __init__(self, store: Store, provider: Provider, payouts_ref: payouts.PayoutsRef) -> None:
        self._store = store
        self._provider = provider
        self._payouts = payouts_ref
        self._bell = trio.Event()
        self._opening: dict[UUID, trio.Lock] = {}
        self._view = OnboardingView()

    async def start(self) -> None:
        self.publish(self._view)
        self.nursery.start_soon(self._work)

    async def handle(self, message: Messages) -> object:
        match message:
            case Ring():
                self._bell.set()
                return None
            case OpenAccount(user_id):
                return Later(self._open, user_id)

    # -- accounts to fetch ------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            self._bell = trio.Event()  # before looking: what rings while a round looks is for the next
            try:
                wait = 0.0 if await self.run_once() == AT_ONCE else await self._store.next_check_in()
            except StoreError as away:
                log.warning("onboarding_store_away", error=str(away))
                wait = 1.0  # a restart of the database takes about that
            with trio.move_on_after(POLL_SECONDS if wait is None else min(max(wait, 0.0), POLL_SECONDS)):
                await self._bell.wait()

    async def run_once(self) -> int:
        """Fetch the accounts that are due, side by side. Answers how many. Raises StoreError."""
        due = await self._store.claim_checks(AT_ONCE, LEASE)
        async with trio.open_nursery() as nursery:
            for account, mark in due:
                nursery.start_soon(self._check, account, mark)
        return len(due)

    async def _check(self, account: ConnectAccount, mark: datetime) -> None:
        if account.account_id is None:
            return
        try:
            state = await self._provider.account(account.account_id)
            released = await self._store.record(account.user_id, state, mark)
        except (Unavailable, StoreError) as away:
            log.warning("account_not_checked", user_id=str(account.user_id), error=str(away))
            self._count(unreachable=1)
            return
        self._count(checked=1)
        log.info("account_checked", user_id=str(account.user_id), active=state.transfers_active, released=released)
        if released:
            queue.ring(self._payouts)

    # -- accounts to open -------------------------------------------------------------------------------------------

    async def _open(self, user_id: UUID) -> ConnectAccount | Refusal:
        """One at a time for each user, or the provider would refuse the second with its key in use."""
        lock = self._opening.setdefault(user_id, trio.Lock())
        try:
            async with lock:
                return await self._open_once(user_id)
        except StoreError as away:
            log.warning("onboarding_store_away", error=str(away))
            return Unavailable("The account could not be opened just now.")
        except Refusal as refusal:
            return refusal
        finally:
            if not lock.statistics().tasks_waiting:
                self._opening.pop(user_id, None)

    async def _open_once(self, user_id: UUID) -> ConnectAccount:
        wish = await self._store.wish(user_id)
        if wish.account_id is not None:
            return wish
        try:
            account_id = await self._provider.open_account(wish)
        except AccountNotMade as no:
            await self._store.ask_anew(wish)
            log.error("account_not_opened", user_id=str(user_id), message=str(no))
            raise Unavailable("The payout provider opened no account; try again.", code="provider_refused") from no
        self._count(opened=1)
        log.info("account_opened", user_id=str(user_id))
        self._bell.set()
        return await self._store.opened(user_id, account_id)

    def _count(self, **more: int) -> None:
        self._view = replace(self._view, **{name: getattr(self._view, name) + by for name, by in more.items()})
        self.publish(self._view)
