"""Connect: a seller's account at the payout provider, from the wish to have one until transfers may reach it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

VERIFYING = timedelta(hours=1)  # the provider is examining what the seller sent; its event may get lost
REFUSED_AGAIN = timedelta(minutes=10)
# The provider refused a transfer to an account that it had called active. It is asked again no sooner than this, so
# that the two can't chase each other: released, refused, held, released.


class AccountNotMade(Exception):  # noqa: N818 - an expected no, not a fault
    """The provider keeps a no under the key that an account was asked for with: only another key can help."""


@dataclass(frozen=True)
class ConnectAccount:
    """A user's account. ``account_id`` is null while it is wished for but not known to exist."""

    user_id: UUID
    account_id: str | None
    key_epoch: int
    transfers_active: bool
    details_submitted: bool

    @property
    def idempotency_key(self) -> str:
        """Derived from the user, so that asking for the account twice makes it once."""
        return f"account:{self.user_id}:{self.key_epoch}"


@dataclass(frozen=True)
class AccountState:
    """What the provider says of an account now."""

    transfers_active: bool
    details_submitted: bool


@dataclass(frozen=True)
class Balance:
    """A seller's balance at the provider, in minor units of the platform's currency."""

    available: int
    pending: int


@dataclass(frozen=True)
class ProviderEvent:
    """A verified webhook. ``account`` is the connected account it came from; null when it is the platform's own."""

    id: str
    type: str
    account: str | None
    subject: str | None


def next_check(state: AccountState) -> timedelta | None:
    """How long until an account is fetched again without an event asking for it; null: not before one does."""
    if state.details_submitted and not state.transfers_active:
        return VERIFYING
    return None
