"""Payouts: claims the transfers that are due, asks the provider for them side by side, and records what came of each.

A queue of rows (`veza.actors.queue`), and beside it the tries that admins ask for, under the same claims.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final, Protocol
from uuid import UUID

import structlog
import trio

from veza.actors.core import Ask, Coalesce, Later, Mailbox, Ref
from veza.actors.queue import AT_ONCE, Answered, Heard, Held, Leases, Progress, QueueWorker, Ring, Silent
from veza.domain.attempts import (
    Again,
    Call,
    Dead,
    Decision,
    Done,
    Exhausted,
    GiveUp,
    Hold,
    Interrupted,
    Look,
    NotOnboarded,
    Outcome,
    Retry,
    RetryPolicy,
    Unauthorized,
    Unclear,
    after_attempt,
    next_step,
)
from veza.domain.audit import By
from veza.domain.errors import Refusal, Unavailable
from veza.domain.flags import Flag, Flags, feature_disabled
from veza.domain.payments import KeyRefused
from veza.domain.payouts import Claim, HoldReason, Transfer
from veza.store.errors import StoreError
from veza.store.payouts import Moved

log = structlog.get_logger()

SORTED: Final = 1000  # transfers held, or released, in one statement of some 20 ms
BY_HAND: Final = 4  # tries that admins asked for, beside the worker's: people click one at a time


class Store(Protocol):
    """The rows. Every method raises StoreError."""

    async def claim(self, limit: int, lease: timedelta, *, retries: bool) -> list[Claim]: ...
    async def claim_one(self, transfer_id: UUID, lease: timedelta, by: By) -> Claim | Refusal: ...
    async def record(self, claim: Claim, outcome: Outcome, decision: Decision) -> Transfer | None: ...
    async def next_due_in(self, *, retries: bool) -> float | None: ...
    async def release_onboarded(self) -> int: ...
    async def hold_switched_off(self, limit: int, *, retries: bool) -> int: ...
    async def release_switched_on(self, limit: int) -> int: ...
    async def heed_bans(self, limit: int) -> Moved: ...


class Provider(Protocol):
    """Whoever moves the money. Whatever happens is an outcome; an exception is a bug of ours."""

    async def transfer(self, claim: Claim) -> Outcome: ...
    async def look(self, claim: Claim) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class RetryTransfer(Ask["Transfer | Refusal"]):
    transfer_id: UUID
    by: By


Messages = Ring | RetryTransfer
PayoutsRef = Ref[Messages, Progress]


async def retry(ref: PayoutsRef, transfer_id: UUID, by: By) -> Transfer:
    """Try a failed or held transfer now; answers with what it has become.

    Raises NotFound, Conflict (not in a state to be tried), Unavailable, and what an ask raises. The try goes on when
    the asker has gone.
    """
    answer = await ref.ask(RetryTransfer(transfer_id, by))
    if isinstance(answer, Refusal):
        raise answer
    return answer


class Payer(QueueWorker[Messages, Claim, Outcome, Decision, Transfer]):
    mailbox = Mailbox(16, full=Coalesce, why="rings fold into one; an admin's click beyond sixteen is better refused")
    queue = "payouts"

    def __init__(
        self,
        store: Store,
        provider: Provider,
        policy: RetryPolicy,
        leases: Leases,
        random: Random,
        at_once: int = AT_ONCE,
        flags: Callable[[], Flags] = Flags,
    ) -> None:
        """``flags``: how they stand at the moment, as this process knows."""
        super().__init__(leases, at_once)
        self._store = store
        self._provider = provider
        self._policy = policy
        self._random = random
        self._flags = flags
        self._was_off = False
        self._by_hand = 0

    async def handle(self, message: Messages) -> object:
        match message:
            case Ring():
                self.ring()
                return None
            case RetryTransfer() if self._off:
                return feature_disabled(Flag.PAYOUTS)
            case RetryTransfer(transfer_id, by):
                if self._by_hand >= BY_HAND:
                    return Unavailable("Other transfers are being retried by hand just now; try again in a moment.")
                self._by_hand += 1
                return Later(self._retry, transfer_id, by)

    async def _retry(self, transfer_id: UUID, by: By) -> Transfer | Refusal:
        """One transfer that an admin asked for. It takes the claim that the worker takes, so both can't try at once."""
        since = trio.current_time()
        try:
            claim = await self._store.claim_one(transfer_id, timedelta(seconds=self._leases.claim), by)
            if isinstance(claim, Refusal):
                return claim
            recorded = await self.attempt(Held(claim, since), self.step)
        except Refusal as refused:
            return refused
        except StoreError as away:
            log.warning("queue_store_away", queue=self.queue, error=str(away))
            recorded = None
        finally:
            self._by_hand -= 1
        return recorded or Unavailable("The outcome could not be recorded yet; it will be. Look again in a moment.")

    # -- the queue --------------------------------------------------------------------------------------------------

    @property
    def _off(self) -> bool:
        return not self._flags().is_on(Flag.PAYOUTS)

    async def claim(self, limit: int, lease: timedelta) -> list[Claim]:
        """Nothing while paying out is switched off: what falls due is held, and released when it is on again."""
        if self._off:
            self._was_off = True
            await self._hold()
            return []
        if self._was_off:
            await self._release()
            self._was_off = False
        return await self._store.claim(limit, lease, retries=self._policy.automatic)

    async def next_due_in(self) -> float | None:
        return None if self._off else await self._store.next_due_in(retries=self._policy.automatic)

    async def heal(self) -> None:
        """Release what slipped past its seller's coming on board (see the store), or past the switch; go by who is
        banned, and who is no longer."""
        if released := await self._store.release_onboarded():
            log.info("transfers_released", count=released)
        await self._release()
        await self._heed_bans()

    async def _hold(self) -> None:
        while held := await self._store.hold_switched_off(SORTED, retries=self._policy.automatic):
            log.info("transfers_held_switched_off", count=held)

    async def _release(self) -> None:
        while released := await self._store.release_switched_on(SORTED):
            log.info("transfers_released_switched_on", count=released)

    async def _heed_bans(self) -> None:
        while (moved := await self._store.heed_bans(SORTED)) != Moved():
            log.info("transfers_moved_by_bans", held=moved.held, released=moved.released)

    def question(self, claim: Claim) -> Callable[[Claim], Awaitable[Outcome]] | Outcome:
        if self._off:
            return self.interrupted  # it was claimed before: given back, as if it had not been
        match next_step(claim.transfer, claim.claimed_at, self._policy):
            case GiveUp():
                return Exhausted()
            case Look():
                return self._provider.look
            case Call():
                return self._provider.transfer

    @property
    def interrupted(self) -> Outcome:
        return Interrupted()

    def decide(self, claim: Claim, outcome: Outcome, now: datetime) -> Decision:
        return after_attempt(claim, outcome, now, self._policy, self._random.random())

    async def record(self, claim: Claim, outcome: Outcome, decision: Decision) -> Transfer | None:
        return await self._store.record(claim, outcome, decision)

    def hear(self, outcome: Outcome) -> Heard:
        match outcome:
            case Unauthorized(message):
                return KeyRefused(message)
            case Unclear() | Interrupted() | Exhausted() | NotOnboarded():
                return Silent()
            case _:
                return Answered()

    def tell(self, recorded: Transfer, decision: Decision) -> None:
        told = log.bind(transfer_id=str(recorded.id), order_id=str(recorded.order_id), attempts=recorded.attempts)
        match decision:
            case Done(external_ref):
                self.count(done=1)
                told.info("transfer_paid", external_ref=external_ref, amount_cents=recorded.amount_cents)
            case Retry(code=code, at=at):
                self.count(retried=1)
                told.info("transfer_to_retry", code=code, at=at)
            case Again(code=code):
                self.count(given_back=1)
                told.info("transfer_given_back", code=code)
            case Hold(why=HoldReason.AWAITING_FUNDS):
                self.count(held=1)
                told.warning("transfer_awaits_funds", amount_cents=recorded.amount_cents, currency=recorded.currency)
            case Hold(why=why):
                self.count(held=1)
                told.info("transfer_held", why=why.value)
            case Dead(code=code, message=message):
                self.count(given_up=1)
                told.error("transfer_given_up", code=code, message=message)
        if recorded.next_retry_at is not None:
            self.ring()  # it may be the next to fall due
