"""Payouts: a seller's share of an order on its way to them, one transfer for each (order, seller).

It is attempted under a claim; what an attempt is and what comes of it, `veza.domain.attempts` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from veza.domain.errors import Conflict


class TransferStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    HELD = "held"
    REVERSED = "reversed"


class HoldReason(StrEnum):
    """What caused a hold is what lifts it, and nothing else does."""

    NOT_ONBOARDED = "not_onboarded"
    AWAITING_FUNDS = "awaiting_funds"
    BANNED = "banned"
    DISPUTED = "disputed"
    ADMIN = "admin"
    FLAG = "flag"


@dataclass(frozen=True)
class Transfer:
    """A seller's share of an order on its way to them. Amounts are minor units of ``currency``.

    ``retry_count`` is how often it was tried after the first time. ``attempts`` counts the tries that bring it nearer
    to being given up, the one in hand included. ``failed`` with ``next_retry_at`` will be tried again; without, it
    waits for an admin. ``withheld_cents`` are not sent: they were refunded before, or the seller owed them.
    ``reversed_cents`` came back after. While ``open_refunds`` are under way it is not tried.
    """

    id: UUID
    order_id: UUID
    seller_id: UUID
    amount_cents: int
    platform_fee_cents: int
    currency: str
    status: TransferStatus
    hold_reason: HoldReason | None
    retry_count: int
    attempts: int
    key_epoch: int
    next_retry_at: datetime | None
    key_used_at: datetime | None
    doubtful: bool
    absent_since: datetime | None
    external_ref: str | None
    failure_code: str | None
    failure_message: str | None
    created_at: datetime
    completed_at: datetime | None
    withheld_cents: int = 0
    reversed_cents: int = 0
    open_refunds: int = 0

    @property
    def payable_cents(self) -> int:
        """What is sent. It changes only while the present key was not used."""
        return self.amount_cents - self.withheld_cents

    @property
    def idempotency_key(self) -> str:
        return f"{self.id}:{self.key_epoch}"


@dataclass(frozen=True)
class Claim:
    """A transfer in hand: nobody else calls the provider for it until its lease is over.

    ``destination`` is the account that its present key was first used with, else the seller's; null when they have
    none. ``claimed_at`` is the database's time: what follows is reckoned from it, so that a process whose clock is
    wrong neither tries too early nor believes an old key.
    """

    id: UUID
    transfer: Transfer
    destination: str | None
    claimed_at: datetime

    @property
    def fresh_key(self) -> bool:
        """Whether no attempt before this one can have used the key."""
        return self.transfer.key_used_at in (None, self.claimed_at)


def may_retry(transfer: Transfer) -> bool:
    """Whether an admin may try it now: it failed, or is held for what a try can find to be over.

    Not while a refund of its order is under way, which may leave nothing to send.
    """
    if transfer.open_refunds:
        return False
    if transfer.status is TransferStatus.HELD:
        return transfer.hold_reason in (HoldReason.NOT_ONBOARDED, HoldReason.AWAITING_FUNDS)
    return transfer.status is TransferStatus.FAILED


HOLDABLE = frozenset({TransferStatus.PENDING, TransferStatus.FAILED})
PASSING = frozenset({HoldReason.NOT_ONBOARDED, HoldReason.AWAITING_FUNDS, HoldReason.FLAG, HoldReason.BANNED})
"""Holds that end by themselves: an admin may turn one into their own."""


def check_may_hold(transfer: Transfer) -> None:
    """Raises Conflict for a transfer that an admin can't hold: it is in hand or over, or held for what must lift it."""
    passing = transfer.hold_reason in PASSING
    if transfer.status not in HOLDABLE and not passing:
        told = f"held as {transfer.hold_reason}" if transfer.hold_reason else transfer.status
        raise Conflict(f"A transfer that is {told} can't be held.", code="not_holdable")


def check_may_release(transfer: Transfer) -> None:
    """Raises Conflict for a transfer that no admin holds: what caused a hold is what lifts it."""
    if transfer.hold_reason is not HoldReason.ADMIN:
        raise Conflict("Only what an admin holds is released by one.", code="not_releasable")
