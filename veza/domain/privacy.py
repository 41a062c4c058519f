"""What people have said of the sale and the sharing of what is held about them, and who may be given any of it.

Veza sells nothing, and shares nothing beyond what an order, a payout, a file or a stream takes. `may_share` is where
that is decided: whoever would give a person's data to somebody outside asks it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from veza.domain.errors import Conflict


class Source(StrEnum):
    """Who set a preference: the person, or the signal that their browser sends (Global Privacy Control)."""

    USER = "user"
    SIGNAL = "signal"


@dataclass(frozen=True)
class Preference:
    """What stands for a person. Nobody who said nothing has opted out; `source` and `updated_at` are then null."""

    do_not_sell: bool = False
    source: Source | None = None
    updated_at: datetime | None = None


class Basis(StrEnum):
    """Why somebody outside is given data of a person's."""

    SERVICE = "service"
    """They do for us, and on our terms, what the person asked for: no sale, and no sharing, by the CCPA's words
    (California Civil Code, section 1798.140(e) and (ag))."""
    SALE = "sale"
    """They get it for ends of their own, whatever they give for it."""


@dataclass(frozen=True)
class Recipient:
    """Somebody outside who gets data about people; ``gateway`` is the module of `veza.gateways` that speaks to them."""

    name: str
    gateway: str
    gets: str
    purpose: str
    basis: Basis


RECIPIENTS: Final = (
    Recipient(
        "Hyperswitch, and the payment provider behind it",
        "hyperswitch",
        "the order's and the buyer's ids and the total; the buyer gives the card to them, never to us",
        "to take and give back the buyer's money",
        Basis.SERVICE,
    ),
    Recipient(
        "Stripe",
        "stripe",
        "the seller's and the orders' ids, and what is paid out; sellers tell them who they are, not us",
        "to pay sellers",
        Basis.SERVICE,
    ),
    Recipient(
        "The storage of files",
        "objects",
        "the bytes of uploaded files and of exports, under names that tell nothing; of what is fetched by a link to it,"
        " the file's name and type and the network address of who fetches it",
        "to keep files; only where the operator has set up a bucket",
        Basis.SERVICE,
    ),
    Recipient(
        "The counter of requests",
        "limits",
        "ids of users, hashes of what was typed to sign in, and network addresses, for as long as a limit lasts",
        "to hold limits in several processes together; only where the operator has set up their own Redis",
        Basis.SERVICE,
    ),
    Recipient(
        "The ingest server",
        "ingest",
        "sound and picture of live streams, and the network addresses of who sends and watches them",
        "to take in and play live streams; the operator's own server",
        Basis.SERVICE,
    ),
)
"""Everybody outside who is given anything. A test holds the gateways to this list."""


def may_share(recipient: Recipient, *, signal: bool, preference: Preference) -> bool:
    """Whether a person's data may go to somebody outside.

    ``signal`` is the request's (`trace().do_not_sell`); where there is no request the stored preference is all.
    """
    return recipient.basis is Basis.SERVICE or not (signal or preference.do_not_sell)


def is_news(preference_set: bool, *, signal: bool) -> bool:
    """Whether a request's signal says what is not stored yet. One that is not sent takes nothing back."""
    return signal and not preference_set


def check_choice(do_not_sell: bool, *, signal: bool) -> None:
    """Raises Conflict where somebody would allow what the signal sent along forbids: the next request would undo it."""
    if signal and not do_not_sell:
        raise Conflict("Your browser says not to sell or share (Sec-GPC: 1); switch that off first.", code="gpc_signal")
