"""What a seller sold: their lines of the orders that were paid, and what a period of them adds up to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.errors import Invalid
from veza.domain.payments import OrderStatus

USUAL_PERIOD: Final = timedelta(days=30)
LONGEST_PERIOD: Final = timedelta(days=366)  # a year of days is a chart; longer ones are a report's business


@dataclass(frozen=True)
class SoldItem:
    id: UUID
    product_id: UUID
    title: str
    quantity: int
    unit_price_cents: int
    total_cents: int
    refunded_cents: int


@dataclass(frozen=True)
class Sale:
    """A seller's part of a paid order; amounts in minor units of ``currency``.

    ``refunded_cents`` went back to the buyer, ``fee_refunded_cents`` of them out of the platform's fee; ``net`` is what
    is left to the seller. A part that was free has no earning, and nothing of it is anybody's fee.
    """

    order_id: UUID
    status: OrderStatus
    buyer: str
    currency: str
    gross_cents: int
    fee_cents: int
    refunded_cents: int
    fee_refunded_cents: int
    items: tuple[SoldItem, ...]
    paid_at: datetime

    @property
    def net_cents(self) -> int:
        return net(self)


@dataclass(frozen=True)
class Sums:
    """Amounts in minor units of the platform's currency. What was refunded counts when it went back, not when it was
    sold: so the sums of a period that is over never change.
    """

    orders: int
    gross_cents: int
    fee_cents: int
    refunded_cents: int
    fee_refunded_cents: int

    @property
    def net_cents(self) -> int:
        return net(self)


@dataclass(frozen=True)
class DaySums:
    """Of one day in UTC."""

    day: date
    sums: Sums


@dataclass(frozen=True)
class ProductSums:
    """Of one product: its lines, before the fee, which is reckoned for an order as a whole."""

    product_id: UUID
    title: str
    quantity: int
    gross_cents: int
    refunded_cents: int


@dataclass(frozen=True)
class Stats:
    total: Sums
    by_day: tuple[DaySums, ...]
    by_product: tuple[ProductSums, ...]


def net(of: Sale | Sums) -> int:
    """What is left to the seller: the fee of what was refunded went back to them."""
    return of.gross_cents - of.fee_cents - of.refunded_cents + of.fee_refunded_cents


def period(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The period meant: ``since`` is included, ``until`` is not; thirty days to now if nothing is said.

    Raises Invalid for one that is empty or too long.
    """
    end = now if until is None else until
    begin = end - USUAL_PERIOD if since is None else since
    if begin >= end:
        raise Invalid("`from` is not before `to`.", field="from")
    if end - begin > LONGEST_PERIOD:
        raise Invalid(f"A period has at most {LONGEST_PERIOD.days} days.", field="from")
    return begin, end
