"""Payouts: claims the transfers that are due, asks the provider for them side by side, and records what came of each.

The rows are the queue; a ring only says that it is worth looking now. What is in hand when the process dies is found
again once its claim has lapsed; what is in hand when it stops, or crashes over another transfer, is given back at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Final, Protocol
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Ask, Coalesce, Later, Mailbox, Ref, Tell
from veza.actors.core.changes import Changes
from veza.domain.audit import By
from veza.domain.errors import Refusal, Unavailable
from veza.domain.payouts import (
    Again,
    Call,
    Claim,
    Dead,
    Decision,
    Done,
    Exhausted,
    GiveUp,
    Hold,
    HoldReason,
    Interrupted,
    Look,
    NotOnboarded,
    Outcome,
    Retry,
    RetryPolicy,
    Transfer,
    Unauthorized,
    Unclear,
    after_attempt,
    next_step,
)
from veza.store.errors import StoreError

log = structlog.get_logger()

AT_ONCE: Final = 16  # calls side by side: at 250 ms each 64 a second, a tenth of what one process could send
IN_HAND: Final = 3  # times AT_ONCE, at most: being called, waiting for their turn, being recorded
BY_HAND: Final = 4  # tries that admins asked for, beside those: people click one at a time
POLL_SECONDS: Final = 10.0  # finds what another process made due, and what a lost ring was for
PROBE_SECONDS: Final = 300.0  # a refused key is renewed by a person: no need to ask more often than this
BREATH_SECONDS: Final = 0.2  # between two looks at rows that are due but in someone else's hands
RECORD_SECONDS: Final = 10.0  # the longest that recording may take; a lease is longer than a call and this
GIVE_BACK_SECONDS: Final = 2.0  # the same when leaving: a row that isn't given back is found again, only later
STOP_SECONDS: Final = 3.0  # for calls that are out to come back; half of what all actors have together


class Store(Protocol):
    """The rows. Every method raises StoreError."""

    async def claim(self, limit: int, lease: timedelta, *, retries: bool) -> list[Claim]: ...
    async def claim_one(self, transfer_id: UUID, lease: timedelta, by: By) -> Claim | Refusal: ...
    async def record(self, claim: Claim, outcome: Outcome, decision: Decision) -> Transfer | None: ...
    async def next_due_in(self, *, retries: bool) -> float | None: ...
    async def release_onboarded(self) -> int: ...


class Provider(Protocol):
    """Whoever moves the money. Whatever happens is an outcome; an exception is a bug of ours."""

    async def transfer(self, claim: Claim) -> Outcome: ...
    async def look(self, claim: Claim) -> Outcome: ...


@dataclass(frozen=True)
class Leases:
    """How long a claim lasts and how much of that a call may need, in seconds."""

    claim: float = 300.0
    provider_timeout: float = 20.0

    @property
    def needed(self) -> float:
        """What must be left of a claim when its call goes out: its answer is then recorded while it is still ours."""
        return self.provider_timeout + RECORD_SECONDS


@dataclass(frozen=True)
class PayoutsView:
    """What this incarnation is at and has done. ``stopped_because``: no transfer is claimed until it is lifted."""

    in_hand: int = 0
    waiting: int = 0
    calling: int = 0
    paid: int = 0
    retried: int = 0
    held: int = 0
    given_up: int = 0
    stopped_because: str | None = None


@dataclass(frozen=True, slots=True)
class Ring(Tell):
    """Something may be due."""


@dataclass(frozen=True, slots=True)
class RetryTransfer(Ask["Transfer | Refusal"]):
    transfer_id: UUID
    by: By


Messages = Ring | RetryTransfer
PayoutsRef = Ref[Messages, PayoutsView]


def ring(ref: PayoutsRef) -> None:
    """Have the worker look at once for what is due."""
    ref.tell(Ring())


async def retry(ref: PayoutsRef, transfer_id: UUID, by: By) -> Transfer:
    """Try a failed or held transfer now; answers with what it has become.

    Raises NotFound, Conflict (not in a state to be tried), Unavailable, and what an ask raises. The try goes on when
    the asker has gone.
    """
    answer = await ref.ask(RetryTransfer(transfer_id, by))
    if isinstance(answer, Refusal):
        raise answer
    return answer


@dataclass(frozen=True)
class Held:
    """A claim, and when it was asked for by the monotonic clock, from which its lease is reckoned.

    ``probe``: it is tried to find out whether the provider takes our key again.
    """

    claim: Claim
    since: float
    probe: bool = False


@dataclass(frozen=True)
class Round:
    """What a round claimed, of how many it had room for, and in how many seconds the next is due (null: unknown)."""

    claimed: int
    room: int
    next_due_in: float | None = None


class Payer(Actor[Messages, PayoutsView]):
    mailbox = Mailbox(16, full=Coalesce, why="rings fold into one; an admin's click beyond sixteen is better refused")

    def __init__(
        self,
        store: Store,
        provider: Provider,
        policy: RetryPolicy,
        leases: Leases,
        random: Random,
        at_once: int = AT_ONCE,
    ) -> None:
        self._store = store
        self._provider = provider
        self._policy = policy
        self._leases = leases
        self._random = random
        self._slots = trio.CapacityLimiter(at_once)
        self._at_once = at_once
        self._view = PayoutsView()
        self._bell = trio.Event()
        self._more = True
        self._changes = Changes()
        self._by_hand = 0
        self._leaving = False
        self._probe_at = 0.0
        self._heal_at = 0.0

    async def start(self) -> None:
        self._show()
        self.nursery.start_soon(self._work)

    async def handle(self, message: Messages) -> object:
        match message:
            case Ring():
                self._bell.set()
                return None
            case RetryTransfer(transfer_id, by):
                if self._by_hand >= BY_HAND:
                    return Unavailable("Other transfers are being retried by hand just now; try again in a moment.")
                self._by_hand += 1
                return Later(self._retry, transfer_id, by)

    async def stop(self) -> None:
        """Claim nothing more and let what is out come back; what doesn't is given back when its task is cancelled."""
        self._leaving = True
        with trio.move_on_after(STOP_SECONDS):
            await self._changes.until(lambda: self._view.in_hand == 0)

    # -- rounds -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._leaving:
            await self.unpaused()
            self._bell = trio.Event()  # before looking: what rings while a round looks is for the next
            try:
                wait = _until_next(await self.run_once())
            except StoreError as away:
                log.warning("payouts_store_away", error=str(away))
                wait = 1.0  # a restart of the database takes about that
            with trio.move_on_after(wait):
                await self._bell.wait()

    async def run_once(self) -> Round:
        """Claim what there is room for and start on it. Raises StoreError."""
        await self._heal()
        room = self._room()
        if not room:
            self._more = True
            return Round(0, 0)
        since = trio.current_time()
        retries = self._policy.automatic
        claims = await self._store.claim(room, timedelta(seconds=self._leases.claim), retries=retries)
        for claim in claims:
            self._count(in_hand=1, waiting=1)
            probe = self._view.stopped_because is not None
            self.nursery.start_soon(self._in_turn, Held(claim, since, probe))
        self._more = len(claims) == room
        if self._more:
            return Round(len(claims), room, 0.0)
        return Round(len(claims), room, await self._store.next_due_in(retries=retries))

    def _room(self) -> int:
        """How many to claim: a batch for when the present calls are back, no sooner than the last batch is begun.

        Batches keep the claims' share of the statements small; being ahead by one keeps the calls from waiting for it.
        """
        if self._leaving or self._view.waiting or self._view.in_hand >= IN_HAND * self._at_once:
            return 0
        if self._view.stopped_because is None:
            return self._at_once
        if trio.current_time() < self._probe_at or self._view.in_hand:
            return 0
        self._probe_at = trio.current_time() + PROBE_SECONDS
        return 1

    def _look_for_more(self) -> None:
        """Room was made; worth a statement only if the last round left something for want of it."""
        if self._more:
            self._bell.set()

    async def _heal(self) -> None:
        """Release what slipped past its seller's coming on board (see the store)."""
        if trio.current_time() < self._heal_at:
            return
        self._heal_at = trio.current_time() + POLL_SECONDS
        if released := await self._store.release_onboarded():
            log.info("transfers_released", count=released)

    # -- attempts ---------------------------------------------------------------------------------------------------

    async def _in_turn(self, held: Held) -> None:
        """One transfer of the worker's: wait for a slot, call, and record outside of it."""
        try:
            await self._attempt(held, self._take_turn)
        finally:
            self._count(in_hand=-1)
            self._look_for_more()

    async def _take_turn(self, held: Held) -> Outcome:
        async with self._slots:
            self._count(waiting=-1)
            if not self._view.waiting:
                self._look_for_more()  # the last of its batch has begun: room for the next
            if self._leaving or self.paused or (self._view.stopped_because and not held.probe):
                return Interrupted()
            return await self._step(held)

    async def _retry(self, transfer_id: UUID, by: By) -> Transfer | Refusal:
        """One transfer that an admin asked for. It takes the claim that the worker takes, so both can't try at once."""
        since = trio.current_time()
        try:
            claim = await self._store.claim_one(transfer_id, timedelta(seconds=self._leases.claim), by)
            if isinstance(claim, Refusal):
                return claim
            recorded = await self._attempt(Held(claim, since), self._step)
        except StoreError as away:
            log.warning("payouts_store_away", error=str(away))
            recorded = None
        finally:
            self._by_hand -= 1
        return recorded or Unavailable("The outcome could not be recorded yet; it will be. Look again in a moment.")

    async def _attempt(self, held: Held, step: Callable[[Held], Awaitable[Outcome]]) -> Transfer | None:
        """Take the step and record what came of it; null when it could not be recorded, or was by someone else."""
        try:
            outcome = await step(held)
        except Exception:
            raise  # a bug of ours: the row counts as tried when its claim has lapsed, so it can't crash us for ever
        except BaseException:
            # Cancelled, by a stop or by a crash over another transfer, which shall not cost this one a try.
            await self._record(held, Interrupted(), GIVE_BACK_SECONDS)
            raise
        return await self._record(held, outcome, RECORD_SECONDS)

    async def _step(self, held: Held) -> Outcome:
        claim = held.claim
        match next_step(claim.transfer, claim.claimed_at, self._policy):
            case GiveUp():
                return Exhausted()
            case Look():
                ask = self._provider.look
            case Call():
                ask = self._provider.transfer
        if held.since + self._leases.claim - trio.current_time() <= self._leases.needed:
            return Interrupted()  # the process was paused: someone else may have it in hand by the time we are answered
        self._count(calling=1)
        try:
            return await ask(claim)
        finally:
            self._count(calling=-1)

    async def _record(self, held: Held, outcome: Outcome, seconds: float) -> Transfer | None:
        """Decide and write it down, whatever is cancelled around. What can't be written is found again by its claim."""
        claim = held.claim
        now = claim.claimed_at + timedelta(seconds=trio.current_time() - held.since)
        decision = after_attempt(claim, outcome, now, self._policy, self._random.random())
        self._heed(outcome)
        with trio.move_on_after(seconds, shield=True):
            recorded = await self._write(claim, outcome, decision)
            if recorded is not None:
                self._tell(recorded, decision)
                if recorded.next_retry_at is not None:
                    self._bell.set()  # it may be the next to fall due
            return recorded
        return None

    async def _write(self, claim: Claim, outcome: Outcome, decision: Decision) -> Transfer | None:
        while True:
            try:
                return await self._store.record(claim, outcome, decision)
            except StoreError as away:  # writing it twice is writing it once: the claim stands only the first time
                log.warning("transfer_not_recorded_yet", transfer_id=str(claim.transfer.id), error=str(away))
                await trio.sleep(1.0)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def _heed(self, outcome: Outcome) -> None:
        """A refused key stops the claiming; any answer that is about the transfer starts it again."""
        match outcome:
            case Unauthorized(message):
                if self._view.stopped_because is None:
                    log.error("payouts_stopped", reason="the provider refuses our key", message=message)
                    self._probe_at = trio.current_time() + PROBE_SECONDS
                self._view = replace(self._view, stopped_because=f"the provider refuses our key: {message}")
            case Unclear() | Interrupted() | Exhausted() | NotOnboarded():
                return
            case _ if self._view.stopped_because is not None:
                log.info("payouts_resumed")
                self._view = replace(self._view, stopped_because=None)
        self._show()

    def _tell(self, transfer: Transfer, decision: Decision) -> None:
        """Count it and log it; what a person has to act on, as loudly as that."""
        told = log.bind(transfer_id=str(transfer.id), order_id=str(transfer.order_id), attempts=transfer.attempts)
        match decision:
            case Done(external_ref):
                self._count(paid=1)
                told.info("transfer_paid", external_ref=external_ref, amount_cents=transfer.amount_cents)
            case Retry(code=code, at=at):
                self._count(retried=1)
                told.info("transfer_to_retry", code=code, at=at)
            case Again(code=code):
                told.info("transfer_given_back", code=code)
            case Hold(why=HoldReason.AWAITING_FUNDS):
                self._count(held=1)
                told.warning("transfer_awaits_funds", amount_cents=transfer.amount_cents, currency=transfer.currency)
            case Hold(why=why):
                self._count(held=1)
                told.info("transfer_held", why=why.value)
            case Dead(code=code, message=message):
                self._count(given_up=1)
                told.error("transfer_given_up", code=code, message=message)

    def _count(self, **more: int) -> None:
        self._view = replace(self._view, **{name: getattr(self._view, name) + by for name, by in more.items()})
        self._show()

    def _show(self) -> None:
        self.publish(self._view)
        self._changes.notify()


def _until_next(round_: Round) -> float:
    """Seconds to wait after a round, unless it rings before."""
    if round_.room and round_.claimed == round_.room:
        return 0.0
    if round_.next_due_in is None:
        return POLL_SECONDS
    return min(max(round_.next_due_in, BREATH_SECONDS), POLL_SECONDS)
