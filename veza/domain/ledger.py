"""The ledger: double entry, append-only. A debit is positive, a credit negative; a journal sums to nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from veza.domain.orders import Earning
from veza.domain.refunds import Share


class AccountKind(StrEnum):
    CLEARING = "clearing"  # what buyers paid and the payment provider holds
    SELLER = "seller"  # what is owed to a seller, one account each
    PLATFORM_FEE = "platform_fee"  # what the platform earned
    PAYOUTS = "payouts"  # what left through the payout provider
    BUYERS = "buyers"  # what came for orders that could not be honoured any more, until it went back


@dataclass(frozen=True)
class Entry:
    """``amount_cents`` is signed, never 0; ``owner`` is the seller of a seller's account."""

    kind: AccountKind
    owner: UUID | None
    amount_cents: int


@dataclass(frozen=True)
class Finding:
    """A row an invariant's query should not have found. ``code`` names the kind of it, for programs."""

    invariant: str
    subject: str
    detail: str
    code: str


@dataclass(frozen=True)
class Reconciliation:
    """What one look through the books found. ``provider_asked``: whether they were held against the provider's too."""

    id: UUID
    ran_at: datetime
    provider_asked: bool
    findings: tuple[Finding, ...]

    @property
    def balanced(self) -> bool:
        return not self.findings


@dataclass(frozen=True)
class BookedTransfer:
    """A transfer as our rows have it. ``settled``: no attempt is under way or still to come.

    ``destination`` is the account that it went to, or would by its present key; null when it never had one.
    ``reversed_cents`` came back, the last of it at ``reversed_at``; ``reversing``: more is being asked for.
    """

    transfer_id: str
    external_ref: str | None
    destination: str | None
    amount_cents: int
    currency: str
    completed_at: datetime | None
    settled: bool
    reversed_cents: int = 0
    reversed_at: datetime | None = None
    reversing: bool = False


@dataclass(frozen=True)
class ListedTransfer:
    """A transfer as the payout provider lists it; amounts in minor units of ``currency``."""

    external_ref: str
    transfer_id: str | None
    destination: str
    amount_cents: int
    reversed_cents: int
    currency: str


def capture(total_cents: int, earnings: Sequence[Earning]) -> tuple[Entry, ...]:
    """A buyer paid: the money is with the provider, each seller is owed their net, the rest is the platform's fee."""
    fee = sum(earning.fee_cents for earning in earnings)
    entries = [Entry(AccountKind.CLEARING, None, total_cents)]
    entries += [Entry(AccountKind.SELLER, e.seller_id, -e.net_cents) for e in earnings]
    entries.append(Entry(AccountKind.PLATFORM_FEE, None, -fee))
    return tuple(entry for entry in entries if entry.amount_cents)


def transfer(seller_id: UUID, amount_cents: int) -> tuple[Entry, ...]:
    """A seller was paid: less is owed to them, and it left through the payout provider."""
    return (
        Entry(AccountKind.SELLER, seller_id, amount_cents),
        Entry(AccountKind.PAYOUTS, None, -amount_cents),
    )


def refund(shares: Sequence[Share]) -> tuple[Entry, ...]:
    """A buyer has money back: less is with the provider, each seller is owed less, and the fee goes back with it."""
    entries = [Entry(AccountKind.CLEARING, None, -sum(share.gross_cents for share in shares))]
    entries += [Entry(AccountKind.SELLER, share.seller_id, share.net_cents) for share in shares]
    entries.append(Entry(AccountKind.PLATFORM_FEE, None, sum(share.fee_cents for share in shares)))
    return tuple(entry for entry in entries if entry.amount_cents)


def reversal(seller_id: UUID, amount_cents: int) -> tuple[Entry, ...]:
    """What a seller was paid came back through the payout provider."""
    return (
        Entry(AccountKind.SELLER, seller_id, -amount_cents),
        Entry(AccountKind.PAYOUTS, None, amount_cents),
    )


def deposit(amount_cents: int) -> tuple[Entry, ...]:
    """A buyer paid for what could not be sold any more: the money is with the provider, and theirs."""
    return (
        Entry(AccountKind.CLEARING, None, amount_cents),
        Entry(AccountKind.BUYERS, None, -amount_cents),
    )


def deposit_returned(amount_cents: int) -> tuple[Entry, ...]:
    """Such a buyer has it back."""
    return (
        Entry(AccountKind.CLEARING, None, -amount_cents),
        Entry(AccountKind.BUYERS, None, amount_cents),
    )


PROVIDER = "6: transfers agree with the provider's"


def compare(
    booked: Iterable[BookedTransfer], listed: Sequence[ListedTransfer], listed_from: datetime
) -> Iterator[Finding]:
    """What differs between our completed transfers and the provider's, one by one, so that no two errors cancel out.

    ``listed`` was asked for at ``listed_from``, before ``booked`` was read. What completed in between may be missing
    from it, and what is still being tried may be there and not yet in our books: neither is an error.
    """
    theirs = {each.external_ref: each for each in listed}
    ours = {each.transfer_id: each for each in booked}
    for each in ours.values():
        if each.completed_at is None or each.external_ref is None:
            continue
        found = theirs.get(each.external_ref)
        if found is None:
            if each.completed_at < listed_from:
                yield _differs("missing_at_provider", each.transfer_id, f"the provider has no {each.external_ref}")
        else:
            yield from _differences(each, found, listed_from)
    for ref, found in theirs.items():
        row = ours.get(found.transfer_id or "")
        if row is None or (row.settled and row.external_ref != ref):
            yield _differs("not_booked", ref, f"the provider sent {found.amount_cents} {found.currency}")
    for transfer_id, times in Counter(each.transfer_id for each in listed if each.transfer_id).items():
        if times > 1:
            yield _differs("made_twice", transfer_id, f"the provider made this transfer {times} times")


def _differences(booked: BookedTransfer, listed: ListedTransfer, listed_from: datetime) -> Iterator[Finding]:
    mine = (booked.amount_cents, booked.currency, booked.destination)
    theirs = (listed.amount_cents, listed.currency, listed.destination)
    if mine != theirs:
        yield _differs("unlike", booked.transfer_id, f"booked as {mine}, the provider has {theirs}")
    moving = booked.reversing or (booked.reversed_at is not None and booked.reversed_at >= listed_from)
    if listed.reversed_cents > booked.reversed_cents and not moving:
        told = f"{listed.reversed_cents} were reversed, {booked.reversed_cents} are booked"
        yield _differs("reversal_not_booked", booked.transfer_id, told)
    if listed.reversed_cents < booked.reversed_cents and not moving:
        told = f"{booked.reversed_cents} are booked as reversed, the provider has {listed.reversed_cents}"
        yield _differs("reversal_missing", booked.transfer_id, told)


def _differs(code: str, subject: str, detail: str) -> Finding:
    return Finding(PROVIDER, subject, detail, code)
