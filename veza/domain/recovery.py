"""Recovery: how a seller's share of a refund comes back from them.

What they were not sent yet is withheld from the order's own transfer. What they were sent is reversed. What can't be
reversed, for they have spent it, is a debt: it is withheld from their next transfers. Nothing here waits or does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.attempts import (
    Again,
    Dead,
    Decision,
    Done,
    Hold,
    Outcome,
    Retry,
    RetryPolicy,
    Step,
    after_try,
    next_step,
)
from veza.domain.payouts import TransferStatus

UNENDING: Final = 1_000_000  # tries: at four a day nobody will live to see the last


@dataclass(frozen=True)
class Sent:
    """An order's transfer to a seller, as far as recovering from it goes. Amounts are minor units.

    ``key_used``: the provider may have been asked for it under its present key. ``reversing_cents`` is being reversed
    for other refunds.
    """

    id: UUID
    status: TransferStatus
    amount_cents: int
    withheld_cents: int
    reversed_cents: int
    reversing_cents: int
    key_used: bool

    @property
    def payable_cents(self) -> int:
        return self.amount_cents - self.withheld_cents

    @property
    def reducible(self) -> bool:
        """Whether it can still become less: over with, or being asked for, it can't."""
        over = {TransferStatus.PROCESSING, TransferStatus.COMPLETED, TransferStatus.REVERSED}
        return self.status not in over and not self.key_used


@dataclass(frozen=True)
class Plan:
    """What becomes of a share: so much withheld now, so much to be reversed, so much owed. All nothing: it waits."""

    withhold: int = 0
    reverse: int = 0
    owe: int = 0


def plan(sent: Sent, cents: int) -> Plan:
    """How ``cents`` come back, by how far the order's own transfer is. What was netted from it is not there to take."""
    if sent.reducible:
        withhold = min(cents, sent.payable_cents)
        return Plan(withhold=withhold, owe=cents - withhold)
    if sent.status in (TransferStatus.COMPLETED, TransferStatus.REVERSED):
        reverse = min(cents, sent.payable_cents - sent.reversed_cents - sent.reversing_cents)
        return Plan(reverse=reverse, owe=cents - reverse)
    return Plan()


def net(debts: Sequence[tuple[UUID, int]], payable: Sequence[tuple[UUID, int]]) -> list[tuple[UUID, UUID, int]]:
    """Debts taken out of transfers that were not sent yet, each in the order given: (share, transfer, cents)."""
    taken: list[tuple[UUID, UUID, int]] = []
    left = dict(payable)
    for share, debt in debts:
        for transfer in left:
            cents = min(debt, left[transfer])
            if cents:
                taken.append((share, transfer, cents))
                left[transfer] -= cents
                debt -= cents
    return taken


@dataclass(frozen=True)
class Withholding:
    """Of a transfer that much was not sent: for a refund of its own order, or for a debt that another's left."""

    amount_cents: int
    reason: str
    refund_id: UUID
    order_id: UUID


@dataclass(frozen=True)
class Debt:
    """What a seller owes: of so many refunds, in minor units of ``currency``."""

    seller_id: UUID
    currency: str
    owed_cents: int
    refunds: int


# -- reversing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reversal:
    """A share to be reversed, with its present key's story (as a transfer's, `veza.domain.payouts.Transfer`).

    ``transfer_ref`` is the provider's transfer that it is taken out of.
    """

    share_id: UUID
    order_id: UUID
    seller_id: UUID
    transfer_ref: str
    amount_cents: int
    currency: str
    attempts: int
    key_epoch: int
    key_used_at: datetime | None
    doubtful: bool
    absent_since: datetime | None

    @property
    def idempotency_key(self) -> str:
        return f"reversal:{self.share_id}:{self.key_epoch}"


@dataclass(frozen=True)
class ReversalClaim:
    """A reversal in hand; as `veza.domain.payouts.Claim`."""

    id: UUID
    reversal: Reversal
    claimed_at: datetime

    @property
    def fresh_key(self) -> bool:
        """Whether no attempt before this one can have used the key."""
        return self.reversal.key_used_at in (None, self.claimed_at)


@dataclass(frozen=True)
class Owe:
    """It can't be reversed: it is a debt from now on, and nothing is asked for any more."""

    code: str
    message: str


@dataclass(frozen=True)
class Stuck:
    """What the provider has is not what we asked for: nothing is tried until a person has looked."""

    code: str
    message: str


ReversalDecision = Done | Again | Retry | Owe | Stuck


def next_reversal(claim: ReversalClaim, policy: RetryPolicy) -> Step:
    """What to do with a reversal just claimed."""
    return next_step(claim.reversal, claim.claimed_at, _unending(policy))


def after_reversal(
    claim: ReversalClaim, outcome: Outcome, now: datetime, policy: RetryPolicy, jitter: float
) -> ReversalDecision:
    """What an outcome means: as for a transfer, but that no reversal is held or given up.

    A definitive no, for lack of balance or for any other reason, leaves a debt at once: asking for ever for what the
    seller spent would be a loop, and what they owe is known. One that proves nothing is looked into first.
    """
    decision: Decision = after_try(claim.reversal, claim.fresh_key, outcome, now, _unending(policy), jitter)
    match decision:
        case Hold(why, message, new_key=True):
            return Owe(why.value, message)
        case Dead(code, message, new_key=True):
            return Owe(code, message)
        case Hold(why, message):
            return Retry(now, why.value, message, counted=False, doubtful=True)
        case Dead(code, message, doubtful=True):
            return Retry(now, code, message, counted=False, doubtful=True)
        case Dead(code, message):
            return Stuck(code, message)
        case Done() | Again() | Retry():
            return decision


def _unending(policy: RetryPolicy) -> RetryPolicy:
    """No admin is asked whether to go on: what is to be had back is owed to the platform, tried or not."""
    return replace(policy, automatic=True, max_attempts=UNENDING)
