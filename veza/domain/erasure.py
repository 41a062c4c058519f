"""Erasure: whether an account may go now, what goes with it, and what the platform has to keep, and why.

It may not go while money is under way: due, held, disputed or owed. The law has it kept what was bought and sold; so an
account becomes an empty one, which the books go on referring to, and everything else that tells of its person goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.accounts import Role, User
from veza.domain.errors import Conflict

NAME: Final = "erased.user"  # nobody can have it: a username has no dot
NOWHERE: Final = "erased.invalid"  # a domain that does not exist, and never will (RFC 2606, section 2)


class Obstacle(StrEnum):
    """What stands in an erasure's way; the values are the refusals' codes. Told in this order, one at a time."""

    LAST_ADMIN = "last_admin"
    ORDERS_PENDING = "orders_pending"
    SALES_PENDING = "sales_pending"
    PAYMENTS_UNCLEAR = "payments_unclear"
    REFUNDS_AWAITED = "refunds_awaited"
    REFUNDS_OPEN = "refunds_open"
    DISPUTES_OPEN = "disputes_open"
    PAYOUTS_DUE = "payouts_due"
    PAYOUTS_FAILED = "payouts_failed"
    PAYOUTS_HELD = "payouts_held"
    RECOVERY_OPEN = "recovery_open"
    MONEY_OWED = "money_owed"
    BALANCE_OPEN = "balance_open"


WHAT_TO_DO: Final[Mapping[Obstacle, str]] = {
    Obstacle.LAST_ADMIN: "You are the last admin: make somebody else one first.",
    Obstacle.ORDERS_PENDING: "You have orders that wait for their payment: pay or cancel them first.",
    Obstacle.SALES_PENDING: "Somebody is about to pay for something of yours: archive your products, and try again when"
    " these orders are paid or have expired.",
    Obstacle.PAYMENTS_UNCLEAR: "A payment of yours is being looked into: ask support, and try again when that is over.",
    Obstacle.REFUNDS_AWAITED: "You are to be given money back: try again when your refunds are decided and done, or ask"
    " support to decide.",
    Obstacle.REFUNDS_OPEN: "Buyers of yours wait for refunds: decide on those that ask for it, and try again when they"
    " are done.",
    Obstacle.DISPUTES_OPEN: "A payment for an order of yours is disputed: try again when the bank has decided.",
    Obstacle.PAYOUTS_DUE: "You are to be paid for what you sold: try again when your payouts have arrived.",
    Obstacle.PAYOUTS_FAILED: "A payout to you has failed: ask support to have it tried again first.",
    Obstacle.PAYOUTS_HELD: "A payout to you is held: finish setting up your payout account, or ask support what it"
    " waits for.",
    Obstacle.RECOVERY_OPEN: "What was refunded of your sales is just being taken back: try again when that is done.",
    Obstacle.MONEY_OWED: "You owe what was refunded of your sales: ask support how to settle it first.",
    Obstacle.BALANCE_OPEN: "Your account with us is not balanced: ask support to look into it first.",
}


class Gone(StrEnum):
    """What an erasure takes away, as its answer names it."""

    IDENTITY = "username, email address and password"
    SESSIONS = "sessions"
    TICKETS = "notification stream tickets"
    KEYS = "idempotency keys"
    NOTIFICATIONS = "notifications"
    FILES = "cloud files"
    VERSIONS = "snapshots of cloud files"
    SHARES = "links to cloud files"
    GEAR = "gear"
    DOCUMENTS = "documents of gear"
    REPAIRS = "repairs of gear"
    STREAMS = "streams"
    BROADCASTS = "broadcasts of streams"
    EXPORTS = "exports"
    PRODUCTS = "products that nobody ordered"
    DELIVERABLES = "files of products that nobody has a right to"
    TEXTS = "texts and covers of products that nobody has a right to"
    PREVIEWS = "previews of products"
    COMMENTS = "comments of reviews"
    RESPONSES = "responses to reviews"
    REMARKS = "remarks on refunds"
    REPORTS = "reports that you made"
    REPORTED = "reports of you and what is yours"


class Kept(StrEnum):
    """What stays, as the answer names it."""

    ACCOUNT = "an empty account"
    ORDERS = "orders"
    SALES = "sales"
    INVOICES = "invoices and credit notes"
    REFUNDS = "refunds"
    DISPUTES = "disputes"
    PAYOUTS = "payouts"
    PAYOUT_ACCOUNT = "payout account"
    DOWNLOADS = "downloads"
    PRODUCTS = "products that were sold"
    RATINGS = "ratings"
    BYTES = "bytes of erased files"
    AUDIT = "audit entries"


WHY: Final[Mapping[Kept, str]] = {
    Kept.ACCOUNT: "What else is kept refers to it. It has no name, no address and no password, and nobody can sign in.",
    Kept.ORDERS: "The law has the platform keep its books: what you ordered, when, and what it cost.",
    Kept.SALES: "The law has the platform keep its books: what was bought of you, when, and what you earned by it.",
    Kept.INVOICES: "The law has them kept as they were issued, with the names and addresses of that day.",
    Kept.REFUNDS: "They belong to the books, with the reasons that stand on their credit notes.",
    Kept.DISPUTES: "They belong to the books.",
    Kept.PAYOUTS: "They belong to the books, with the number of your account at the payout provider.",
    Kept.PAYOUT_ACCOUNT: "What is refunded of your sales after today is had back from it: its number at the provider.",
    Kept.DOWNLOADS: "That files of an order were taken, and when, matters if it is refunded or disputed later.",
    Kept.PRODUCTS: "Those who bought them keep them, with their title, description, cover and files; they are not for"
    " sale any more, and do not name you.",
    Kept.RATINGS: "The stars that you gave are part of a product's average; your words are gone.",
    Kept.BYTES: "Nothing leads to them any more but a link to a bucket that was handed out before, until it expires."
    " They are removed when no backup that can be restored names them: after a day, unless this platform is set up"
    " otherwise.",
    Kept.AUDIT: "What was done about money and accounts, by which account and from which network address, stays"
    " provable until the entries are pruned.",
}


OF_FILES: Final = frozenset(
    {
        Gone.FILES,
        Gone.VERSIONS,
        Gone.DOCUMENTS,
        Gone.EXPORTS,
        Gone.PRODUCTS,
        Gone.DELIVERABLES,
        Gone.TEXTS,
        Gone.PREVIEWS,
    }
)
"""What may have named bytes."""


@dataclass(frozen=True)
class Erasure:
    """What went with an account, and how much of each; and what of it stays."""

    gone: Mapping[Gone, int]
    kept: tuple[Kept, ...]


def refusals(counted: Mapping[Obstacle, int]) -> list[Conflict]:
    """Why an account may not be erased yet, and what its owner can do about each; none if it may."""
    return [Conflict(WHAT_TO_DO[each], code=each.value) for each in Obstacle if counted[each]]


def check_may_erase(counted: Mapping[Obstacle, int]) -> None:
    """Raises Conflict, the first of the refusals."""
    for refusal in refusals(counted):
        raise refusal


def empty_account(user: User, now: datetime) -> User:
    """What an account becomes: its id, and nothing that tells whose it was."""
    return User(user.id, NAME, address_of_nobody(user.id), Role.USER, user.created_at, now)


def address_of_nobody(user_id: UUID) -> str:
    """An address for each id, which nobody can register or be written to under."""
    return f"{user_id}@{NOWHERE}"
