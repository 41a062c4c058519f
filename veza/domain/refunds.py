"""Refunds: what of an order may be given back, who decides, and whose part it is.

A refund is one row. A buyer who keeps something asks for one, and its seller or an admin decides; every other one is to
be done at once. It is done by asking the payment provider until it says so (`veza.domain.refund_attempts`). What it
takes from each seller is their share (`veza.domain.recovery` says how that comes back).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.errors import Conflict, Forbidden, Invalid
from veza.domain.orders import Earning
from veza.domain.payments import OrderStatus

MAX_REFUNDS: Final = 100  # as many as an order has lines; each is a call to the provider, and perhaps a credit note


class RefundStatus(StrEnum):
    REQUESTED = "requested"
    DECLINED = "declined"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Origin(StrEnum):
    """Who wants the money given back."""

    BUYER = "buyer"
    SELLER = "seller"
    ADMIN = "admin"
    PLATFORM = "platform"  # a payment that came when its order could not be honoured any more
    DISPUTE = "dispute"  # the buyer's bank took it back: nothing is left to ask the provider for


@dataclass(frozen=True)
class RefundItem:
    """A refund's part of an order's line. ``quantity`` is null where an amount was asked for, not pieces."""

    order_item_id: UUID
    seller_id: UUID
    amount_cents: int
    quantity: int | None


@dataclass(frozen=True)
class Refund:
    """What is given back of an order, or asked to be; ``amount_cents`` in minor units of ``currency``."""

    id: UUID
    order_id: UUID
    origin: Origin
    requested_by: UUID | None
    status: RefundStatus
    reason: str
    details: str
    amount_cents: int
    currency: str
    items: tuple[RefundItem, ...]
    failure_code: str | None
    failure_message: str | None
    credit_note_number: str | None
    created_at: datetime
    decided_at: datetime | None
    decision_reason: str
    completed_at: datetime | None
    buyer_id: UUID
    shares: Mapping[UUID, SellersShare]

    def part_of(self, seller_id: UUID) -> Refund:
        """The same as a seller may see it: their own lines and what these add up to.

        What the buyer wrote is told where it can be about nobody else.
        """
        own = tuple(item for item in self.items if item.seller_id == seller_id)
        details = self.details if own == self.items else ""
        return replace(self, items=own, amount_cents=sum(item.amount_cents for item in own), details=details)


class RecoveryStatus(StrEnum):
    """How far a seller's share is on its way back (`veza.domain.recovery`)."""

    OPEN = "open"  # the buyer does not have the money back yet
    WAITING = "waiting"  # the order's transfer is being tried: whether it was sent is not known yet
    REVERSING = "reversing"
    OWED = "owed"
    SETTLED = "settled"
    VOID = "void"  # the refund came to nothing


@dataclass(frozen=True)
class SellersShare:
    """What a refund costs one of its sellers, and how it came back from them. Amounts are minor units.

    ``fee_cents`` the platform gave back of its fee; ``left_cents`` of the rest did not come back yet, or are owed.
    """

    status: RecoveryStatus
    net_cents: int
    fee_cents: int
    withheld_cents: int
    reversed_cents: int

    @property
    def left_cents(self) -> int:
        return self.net_cents - self.withheld_cents - self.reversed_cents


def refund_id_of(refund_id: UUID) -> str:
    """The provider's id of a refund: derived, so that asking twice gives back once. Made as a payment's id is."""
    digits = refund_id.hex
    return "ref_" + digits[:12] + digits[13:16] + digits[-11:]


# -- what may be given back --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line of a paid order. ``taken_cents`` is given back already or about to be, ``taken_pieces`` piece by piece.

    ``asked_cents`` is what undecided requests want of it. ``downloaded``: the buyer took files of its seller.
    """

    item_id: UUID
    seller_id: UUID
    quantity: int
    unit_price_cents: int
    total_cents: int
    taken_cents: int
    taken_pieces: int
    asked_cents: int
    downloaded: bool

    @property
    def left_cents(self) -> int:
        return self.total_cents - self.taken_cents


@dataclass(frozen=True)
class Sold:
    """An order as far as giving it back goes. ``refunds`` counts those it has, of whatever status."""

    id: UUID
    buyer_id: UUID
    status: OrderStatus
    currency: str
    paid_at: datetime | None
    lines: tuple[Line, ...]
    refunds: int = 0


@dataclass(frozen=True)
class Asker:
    """Whoever wants a refund, or decides one."""

    user_id: UUID
    is_admin: bool


@dataclass(frozen=True)
class Whole:
    """All that is left of the lines that the asker may give back."""


@dataclass(frozen=True)
class Pieces:
    """So many pieces of each line, by the line's id."""

    of: Mapping[UUID, int]


@dataclass(frozen=True)
class Amount:
    """Minor units, split over what is left of the lines that the asker may give back."""

    cents: int


Wish = Whole | Pieces | Amount


@dataclass(frozen=True)
class Draft:
    """A refund to be written down."""

    origin: Origin
    status: RefundStatus
    items: tuple[RefundItem, ...]

    @property
    def amount_cents(self) -> int:
        return sum(item.amount_cents for item in self.items)


REFUNDABLE: Final = frozenset({OrderStatus.PAID, OrderStatus.PARTIALLY_REFUNDED})


def draft(sold: Sold, asker: Asker, wish: Wish, now: datetime, window: timedelta) -> list[Draft]:
    """The refunds that a wish makes: one to be done at once, and a request to each seller who has to agree.

    ``window`` is how long after paying a buyer may ask. Raises Conflict for what the order's state does not allow or
    what is more than is left, Forbidden for other sellers' lines, Invalid for lines that are not the order's.
    """
    origin = origin_of(sold, asker)
    check_refundable(sold)
    if origin is Origin.BUYER and sold.refunds >= MAX_REFUNDS:
        raise Conflict(f"{MAX_REFUNDS} refunds of one order are enough.", code="too_many_refunds")
    if origin is Origin.BUYER and sold.paid_at is not None and now - sold.paid_at > window:
        raise Conflict(f"A refund can be asked for within {window.days} days.", code="refund_window_over")
    lines = _lines_for(sold, asker, origin)
    items = _items(sold, lines, wish)
    if not items:
        if any(line.asked_cents for line in sold.lines):
            raise Conflict("What is left of this order is asked for already.", code="already_requested")
        raise Conflict("Nothing of this order is left to be refunded.", code="nothing_to_refund")
    if origin is not Origin.BUYER:
        return [Draft(origin, RefundStatus.PENDING, items)]
    asked = {item for item in items if _must_be_asked_for(item, lines)}
    at_once = tuple(item for item in items if item not in asked)
    drafts = [Draft(origin, RefundStatus.PENDING, at_once)] if at_once else []
    for seller in sorted({item.seller_id for item in asked}):
        of_seller = tuple(item for item in items if item in asked and item.seller_id == seller)
        drafts.append(Draft(origin, RefundStatus.REQUESTED, of_seller))
    return drafts


def _must_be_asked_for(item: RefundItem, lines: Sequence[Line]) -> bool:
    """Whether a buyer keeps something that its seller has a say about.

    They do when they have the files. And they do with an amount that leaves a rest of the line, however small: as long
    as there is one, the line is theirs.
    """
    line = next(line for line in lines if line.item_id == item.order_item_id)
    return line.downloaded or (item.quantity is None and item.amount_cents < line.left_cents)


def origin_of(sold: Sold, asker: Asker) -> Origin:
    """In what capacity somebody who may know of the order asks."""
    if asker.user_id == sold.buyer_id:
        return Origin.BUYER
    if any(line.seller_id == asker.user_id for line in sold.lines):
        return Origin.SELLER
    return Origin.ADMIN


def may_know(sold: Sold, asker: Asker) -> bool:
    """Whether the order's refunds are any of the asker's business."""
    return asker.is_admin or origin_of(sold, asker) is not Origin.ADMIN


def check_refundable(sold: Sold) -> None:
    """Raises Conflict for an order that nothing can be given back of now."""
    if sold.status is OrderStatus.DISPUTED:
        raise Conflict("The buyer's bank disputes this payment; what it decides is done.", code="disputed")
    if sold.status is OrderStatus.REFUNDED:
        raise Conflict("This order is refunded already.", code="nothing_to_refund")
    if sold.status not in REFUNDABLE:
        raise Conflict(f"This order is {sold.status}; only what is paid can be refunded.", code="not_paid")


def _lines_for(sold: Sold, asker: Asker, origin: Origin) -> tuple[Line, ...]:
    """What the asker may give back. For a buyer, what they asked for already counts as gone."""
    match origin:
        case Origin.SELLER:
            return tuple(line for line in sold.lines if line.seller_id == asker.user_id)
        case Origin.BUYER:
            return tuple(replace(line, taken_cents=line.taken_cents + line.asked_cents) for line in sold.lines)
        case _:
            return sold.lines


def _items(sold: Sold, lines: Sequence[Line], wish: Wish) -> tuple[RefundItem, ...]:
    match wish:
        case Whole():
            return tuple(
                RefundItem(line.item_id, line.seller_id, line.left_cents, None) for line in lines if line.left_cents > 0
            )
        case Pieces(of):
            own = {line.item_id: line for line in lines}
            for item_id in of:
                if item_id not in own:
                    _refuse_line(sold, item_id)
            return tuple(_pieces(own[item_id], pieces) for item_id, pieces in of.items())
        case Amount(cents):
            return split(cents, lines)


def _refuse_line(sold: Sold, item_id: UUID) -> None:
    if any(line.item_id == item_id for line in sold.lines):
        raise Forbidden("A seller refunds their own lines.", field="items")
    raise Invalid("This order has no such line.", field="items")


def _pieces(line: Line, pieces: int) -> RefundItem:
    amount = line.unit_price_cents * pieces
    if pieces > line.quantity - line.taken_pieces or amount > line.left_cents:
        raise Conflict("That is more than is left of a line.", code="exceeds_refundable", field="items")
    if amount == 0:
        raise Conflict("A line that was free has nothing to give back.", code="nothing_to_refund", field="items")
    return RefundItem(line.item_id, line.seller_id, amount, pieces)


def split(cents: int, lines: Sequence[Line]) -> tuple[RefundItem, ...]:
    """An amount over what is left of the lines, in proportion, the odd cents by largest remainder.

    Raises Conflict for more than is left. No line gives more than it has: its exact part is no more than what is left
    of it, and rounding up goes no further than the next whole cent.
    """
    left = sum(line.left_cents for line in lines)
    if cents > left:
        raise Conflict(f"At most {left} can be refunded.", code="exceeds_refundable", field="amount_cents")
    parts = {line.item_id: divmod(cents * line.left_cents, left) for line in lines if line.left_cents}
    odd = cents - sum(whole for whole, _ in parts.values())
    rounded_up = sorted(parts, key=lambda item_id: -parts[item_id][1])[:odd]
    return tuple(
        RefundItem(line.item_id, line.seller_id, amount, None)
        for line in lines
        if line.item_id in parts and (amount := parts[line.item_id][0] + (line.item_id in rounded_up))
    )


def check_may_decide(refund: Refund, asker: Asker) -> None:
    """Raises Forbidden for who is neither its seller nor an admin, Conflict for what is decided already."""
    if not asker.is_admin and any(item.seller_id != asker.user_id for item in refund.items):
        raise Forbidden("The seller of what is to be refunded decides, or an admin.")
    if refund.status is not RefundStatus.REQUESTED:
        raise Conflict(f"This refund is {refund.status}; there is nothing to decide.", code="not_requested")


def check_still_left(sold: Sold, refund: Refund) -> None:
    """Raises Conflict when what was asked for is not all there any more."""
    check_refundable(sold)
    left = {line.item_id: line.left_cents for line in sold.lines}
    if any(item.amount_cents > left[item.order_item_id] for item in refund.items):
        raise Conflict("Some of what was asked for was refunded meanwhile.", code="exceeds_refundable")


# -- whose it is -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What of a seller's earning was given back before, or is about to be: of the gross amount, and of the fee."""

    gross_cents: int = 0
    fee_cents: int = 0


@dataclass(frozen=True)
class Share:
    """A seller's part of a refund: ``gross_cents`` go to the buyer, ``fee_cents`` of them out of the platform's fee."""

    seller_id: UUID
    gross_cents: int
    fee_cents: int

    @property
    def net_cents(self) -> int:
        return self.gross_cents - self.fee_cents


def shares(items: Iterable[RefundItem], earnings: Iterable[Earning], before: Mapping[UUID, Given]) -> list[Share]:
    """Each seller's share of a refund, in the order of the sellers' ids.

    The fee goes back cumulatively: F x refunded so far / T, rounded half up, less what went back before. So a whole
    refund in parts returns the whole fee to the cent, which rounding each part alone does not.
    """
    gross: dict[UUID, int] = {}
    for item in items:
        gross[item.seller_id] = gross.get(item.seller_id, 0) + item.amount_cents
    of = {earning.seller_id: earning for earning in earnings}
    return [_share(of[seller], cents, before.get(seller, Given())) for seller, cents in sorted(gross.items())]


def _share(earning: Earning, gross_cents: int, before: Given) -> Share:
    total = earning.gross_cents
    by_now = (2 * earning.fee_cents * (before.gross_cents + gross_cents) + total) // (2 * total)
    # Where an earlier refund failed after this one was reckoned, a cent may be ahead: never below nothing for it.
    return Share(earning.seller_id, gross_cents, min(max(by_now - before.fee_cents, 0), gross_cents))


def order_status(total_cents: int, returned_cents: int, *, disputed: bool) -> OrderStatus:
    """What a paid order is, by what of it went back to the buyer."""
    if disputed:
        return OrderStatus.DISPUTED
    if returned_cents >= total_cents:
        return OrderStatus.REFUNDED
    return OrderStatus.PARTIALLY_REFUNDED if returned_cents else OrderStatus.PAID
