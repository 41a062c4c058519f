"""Gear: what a creator owns, strictly their own to see, and what keeping it in repair has cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, TypedDict
from uuid import UUID

from veza.domain.catalog import fold_tag, words_of
from veza.domain.errors import Conflict, Invalid, NotFound
from veza.domain.names import check_line
from veza.domain.notifications import News, NotificationKind

NAME_LENGTH: Final = 200
LINE_LENGTH: Final = 200  # a brand, a model, a serial number, a repairer
CATEGORY_LENGTH: Final = 40  # as a stream's
TEXT_LENGTH: Final = 5_000  # notes, and what was repaired
SEARCH_LENGTH: Final = 200
MAX_COST_CENTS: Final = 10**12 - 1
"""Minor units of any currency: a piano has nine digits of them in rupiah. A thousand such costs, which is more repairs
than an item has, still add up to a number that JavaScript holds."""
MAX_GEAR: Final = 1_000  # a rental house has as many; a studio has a hundred
MAX_REPAIRS: Final = 500  # of one item: one a week for ten years
WARNED_DAYS: Final = 30  # before a warranty ends: time to find the papers and send something in
AHEAD: Final = timedelta(days=1)  # where it is tomorrow already, as UTC sees it


class GearStatus(StrEnum):
    ACTIVE = "active"
    SOLD = "sold"
    BROKEN = "broken"
    LOST = "lost"


@dataclass(frozen=True)
class Total:
    """``total_cents`` is in minor units of ``currency``."""

    currency: str
    total_cents: int


@dataclass(frozen=True)
class Gear:
    """Something that somebody owns; what is not known of it is null.

    ``purchase_price_cents`` is in minor units of ``currency``: what they paid, in whatever they paid it in.
    """

    id: UUID
    owner_id: UUID
    name: str
    category: str | None
    brand: str | None
    model: str | None
    serial_number: str | None
    purchase_date: date | None
    purchase_price_cents: int | None
    currency: str | None
    warranty_expires_on: date | None
    status: GearStatus
    notes: str | None
    created_at: datetime
    updated_at: datetime


class GearChanges(TypedDict, total=False):
    """What its owner changes of an item; null takes away what may be unknown."""

    name: str
    category: str | None
    brand: str | None
    model: str | None
    serial_number: str | None
    purchase_date: date | None
    purchase_price_cents: int | None
    currency: str | None
    warranty_expires_on: date | None
    status: GearStatus
    notes: str | None


@dataclass(frozen=True)
class Kept:
    """An item with what is kept about it: how many documents and repairs, and the repairs' costs by currency."""

    item: Gear
    documents_count: int = 0
    repairs_count: int = 0
    repairs_total: tuple[Total, ...] = ()


@dataclass(frozen=True)
class Repair:
    """``cost_cents`` is in minor units of ``currency``; both are null for a cost nobody knows."""

    id: UUID
    gear_id: UUID
    repair_date: date
    description: str
    cost_cents: int | None
    currency: str | None
    provider: str | None
    created_at: datetime


@dataclass(frozen=True)
class GearListing:
    """What an owner asks for of their gear; None asks for nothing in particular."""

    status: GearStatus | None = None
    category: str | None = None
    search: str | None = None


def blank(owner_id: UUID, *, id: UUID, now: datetime) -> Gear:  # noqa: A002
    """An item of which nothing is known yet."""
    return Gear(id, owner_id, "", *(None,) * 8, status=GearStatus.ACTIVE, notes=None, created_at=now, updated_at=now)


def change(item: Gear, changes: GearChanges, now: datetime) -> Gear:
    """The item as changed. Raises Invalid for what makes no sense."""
    changed = replace(item, **changes)
    check_line(changed.name, "name")
    if changed.purchase_date is not None:
        check_past(changed.purchase_date, now, field="purchase_date")
    check_cost(changed.purchase_price_cents, changed.currency, field="purchase_price_cents")
    return item if changed == item else replace(changed, updated_at=now)


def check_past(day: date, now: datetime, *, field: str) -> None:
    """Raises Invalid for a day that has not come anywhere yet."""
    if day > (now + AHEAD).date():
        raise Invalid("This day has not come yet.", field=field)


def check_cost(cents: int | None, currency: str | None, *, field: str) -> None:
    """Raises Invalid for an amount without a currency, and for a currency without an amount."""
    if cents is not None and currency is None:
        raise Invalid("An amount needs its currency.", field="currency")
    if cents is None and currency is not None:
        raise Invalid("A currency needs an amount.", field=field)


def check_repair(repair: Repair, now: datetime) -> None:
    """Raises Invalid for a repair that makes no sense."""
    check_past(repair.repair_date, now, field="repair_date")
    check_cost(repair.cost_cents, repair.currency, field="cost_cents")


def check_room(items: int) -> None:
    """Raises Conflict when somebody has as much gear as one may have."""
    if items >= MAX_GEAR:
        raise Conflict(f"One account has at most {MAX_GEAR} items of gear.", code="too_much_gear")


def check_new_repair(repairs: int) -> None:
    """Raises Conflict when an item has as many repairs as it can have."""
    if repairs >= MAX_REPAIRS:
        raise Conflict(f"One item has at most {MAX_REPAIRS} repairs.", code="too_many_repairs")


def no_gear() -> NotFound:
    """Says the same whether it does not exist or is not the asker's."""
    return NotFound("There is no such item.")


# -- how it is found --------------------------------------------------------------------------------------------------


def fold_category(category: str | None) -> str | None:
    """The form a category is compared in; None for none."""
    return fold_tag(category or "") or None


def words_of_gear(item: Gear) -> list[str]:
    """The words an item is found by."""
    return words_of(" ".join(filter(None, (item.name, item.brand, item.model, item.serial_number))))


def warranty_news(gear_id: UUID, name: str, ends_on: date) -> News:
    """What the owner of something is told when its warranty ends soon."""
    return News(
        NotificationKind.WARRANTY_ENDING,
        f"The warranty of {name} ends on {ends_on.isoformat()}",
        data={"gear_id": str(gear_id), "warranty_expires_on": ends_on.isoformat()},
    )
