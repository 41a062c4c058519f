"""Gear and its repairs: what people own, theirs alone. Its documents are in `gear_documents`."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Final, cast
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.domain.gear import (
    CATEGORY_LENGTH,
    LINE_LENGTH,
    MAX_COST_CENTS,
    NAME_LENGTH,
    SEARCH_LENGTH,
    TEXT_LENGTH,
    Gear,
    GearChanges,
    GearListing,
    GearStatus,
    Kept,
    Repair,
    blank,
    change,
    check_repair,
)
from veza.http.auth import caller, login_required
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses

api = Blueprint("gear", __name__)

GEAR: Final = "/inventory/gear"
ITEM: Final = f"{GEAR}/<uuid:gear_id>"
REPAIRS: Final = f"{ITEM}/repairs"

DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _day(value: object) -> date:
    if isinstance(value, str) and DAY.fullmatch(value):
        with suppress(ValueError):  # the thirtieth of February
            return date.fromisoformat(value)
    raise ValueError("This is not a date (2026-02-15).")


def _or_none(text: str | None) -> str | None:
    return text or None


def _unknown() -> None:
    return None


Day = Annotated[date, BeforeValidator(_day)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=NAME_LENGTH)]
Cost = Annotated[int, Field(ge=0, le=MAX_COST_CENTS)]
Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]

# What may be left empty, which says as much as null.
Line = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=LINE_LENGTH)] | None, AfterValidator(_or_none)
]
Category = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=CATEGORY_LENGTH)] | None,
    AfterValidator(_or_none),
]
Notes = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=TEXT_LENGTH)] | None, AfterValidator(_or_none)
]


# -- what is shown ----------------------------------------------------------------------------------------------------


class RepairTotalOut(Out):
    """``total_cents`` is in minor units of ``currency``."""

    currency: str
    total_cents: int


class GearOut(Out):
    """What is not known of it is null. ``purchase_price_cents`` is in minor units of ``currency``.

    ``repairs_total`` is what its repairs have cost, as far as that is known, for each currency apart.
    """

    id: UUID
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
    documents_count: int
    repairs_count: int
    repairs_total: tuple[RepairTotalOut, ...]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of_kept(cls, kept: Kept) -> GearOut:
        return cls.model_validate(vars(kept.item) | vars(kept))


class GearListOut(Out):
    gear: list[GearOut]
    total: int


class RepairOut(Out):
    """``cost_cents`` is in minor units of ``currency``; both are null for a cost nobody knows."""

    id: UUID
    gear_id: UUID
    repair_date: date
    description: str
    cost_cents: int | None
    currency: str | None
    provider: str | None
    created_at: datetime


class RepairsOut(Out):
    """``repairs_total`` is of all repairs of the item, whatever page this is."""

    repairs: list[RepairOut]
    total: int
    repairs_total: tuple[RepairTotalOut, ...]


# -- what is sent -----------------------------------------------------------------------------------------------------


class ListQuery(Paging):
    status: GearStatus | None = None
    category: str | None = Field(None, max_length=CATEGORY_LENGTH)
    search: str | None = Field(None, max_length=SEARCH_LENGTH)

    def listing(self) -> GearListing:
        return GearListing(self.status, (self.category or "").strip() or None, (self.search or "").strip() or None)


class GearFields(Body):
    # The factories make values that are never read, as only what was sent is; unlike defaults they are in no schema.
    category: Category = Field(default_factory=_unknown)
    brand: Line = Field(default_factory=_unknown)
    model: Line = Field(default_factory=_unknown)
    serial_number: Line = Field(default_factory=_unknown)
    purchase_date: Day | None = Field(default_factory=_unknown)
    purchase_price_cents: Cost | None = Field(default_factory=_unknown)
    currency: Currency | None = Field(default_factory=_unknown)
    warranty_expires_on: Day | None = Field(default_factory=_unknown)
    status: GearStatus = Field(default_factory=lambda: GearStatus.ACTIVE)
    notes: Notes = Field(default_factory=_unknown)

    def changes(self) -> GearChanges:
        writable = GearChanges.__optional_keys__
        return cast(GearChanges, {name: getattr(self, name) for name in self.model_fields_set & writable})


class NewGearBody(GearFields):
    """A price needs its ``currency`` (ISO 4217), a currency a price."""

    name: Name


class GearBody(GearFields):
    """Changes what is sent; null takes away what may be unknown. The rest of a fetched item is ignored."""

    name: Name = Field(default_factory=str)
    id: object = None
    documents_count: object = None
    repairs_count: object = None
    repairs_total: object = None
    created_at: object = None
    updated_at: object = None


class NewRepairBody(Body):
    """A cost needs its ``currency`` (ISO 4217), a currency a cost. Leave both out for one that nobody knows."""

    repair_date: Day
    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TEXT_LENGTH)]
    cost_cents: Cost | None = None
    currency: Currency | None = None
    provider: Line = None


# -- items ------------------------------------------------------------------------------------------------------------


@api.post(GEAR)
@login_required
@validate_request(NewGearBody)
@validate_response(Envelope[GearOut], 201)
@refuses("too_much_gear")
async def post_gear(data: NewGearBody) -> tuple[Envelope[GearOut], int]:
    """Keep an item in one's inventory, which nobody else sees. It holds at most a thousand."""
    now = parts().clock()
    item = change(blank(caller().user.id, id=parts().new_id(), now=now), data.changes(), now)
    await parts().gear.add(item)
    return _answer(Kept(item)), 201


@api.get(GEAR)
@login_required
@validate_querystring(ListQuery)
@validate_response(Envelope[GearListOut])
async def list_gear(query_args: ListQuery) -> Envelope[GearListOut]:
    """One's own gear, the newest first.

    `search` finds items by words of their name, brand, model and serial number, or the beginnings of such; `category`
    is compared without regard to case.
    """
    found, total = await parts().gear.page(
        caller().user.id, query_args.listing(), limit=query_args.limit, offset=query_args.offset
    )
    return Envelope[GearListOut](data=GearListOut(gear=list(map(GearOut.of_kept, found)), total=total))


@api.get(ITEM)
@login_required
@validate_response(Envelope[GearOut])
async def get_gear(gear_id: UUID) -> Envelope[GearOut]:
    """One item of one's own gear."""
    return _answer(await parts().gear.get(caller().user.id, gear_id))


@api.put(ITEM)
@login_required
@validate_request(GearBody)
@validate_response(Envelope[GearOut])
async def put_gear(gear_id: UUID, data: GearBody) -> Envelope[GearOut]:
    """Change what is sent of one's own item, and leave the rest."""
    now = parts().clock()

    def decide(item: Gear) -> Gear:
        return change(item, data.changes(), now)

    return _answer(await parts().gear.change(caller().user.id, gear_id, decide))


@api.delete(ITEM)
@login_required
@validate_response(Envelope[DeletedOut])
async def delete_gear(gear_id: UUID) -> Envelope[DeletedOut]:
    """Delete one's own item, its documents and what is kept of its repairs."""
    await parts().gear.remove(caller().user.id, gear_id)
    return Envelope[DeletedOut](data=DeletedOut())


# -- repairs ----------------------------------------------------------------------------------------------------------


@api.post(REPAIRS)
@login_required
@validate_request(NewRepairBody)
@validate_response(Envelope[RepairOut], 201)
@refuses("too_many_repairs")
async def post_repair(gear_id: UUID, data: NewRepairBody) -> tuple[Envelope[RepairOut], int]:
    """Record a repair of one's own item. One that was free has a cost of 0; an item has at most five hundred."""
    now = parts().clock()
    repair = Repair(id=parts().new_id(), gear_id=gear_id, **dict(data), created_at=now)
    check_repair(repair, now)
    await parts().gear.add_repair(caller().user.id, repair)
    return Envelope[RepairOut](data=RepairOut.of(repair)), 201


@api.get(REPAIRS)
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[RepairsOut])
async def list_repairs(gear_id: UUID, query_args: Paging) -> Envelope[RepairsOut]:
    """The repairs of one's own item, the latest first, and what they have cost all together."""
    found, kept = await parts().gear.repairs(
        caller().user.id, gear_id, limit=query_args.limit, offset=query_args.offset
    )
    repairs, totals = list(map(RepairOut.of, found)), tuple(map(RepairTotalOut.of, kept.repairs_total))
    return Envelope[RepairsOut](data=RepairsOut(repairs=repairs, total=kept.repairs_count, repairs_total=totals))


@api.delete(f"{REPAIRS}/<uuid:repair_id>")
@login_required
@validate_response(Envelope[DeletedOut])
async def delete_repair(gear_id: UUID, repair_id: UUID) -> Envelope[DeletedOut]:
    """Delete the record of a repair."""
    await parts().gear.remove_repair(caller().user.id, gear_id, repair_id)
    return Envelope[DeletedOut](data=DeletedOut())


def _answer(kept: Kept) -> Envelope[GearOut]:
    return Envelope[GearOut](data=GearOut.of_kept(kept))
