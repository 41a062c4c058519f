"""Gear: what may be said of an item and of its repairs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from veza.domain.errors import Conflict, Invalid
from veza.domain.gear import (
    MAX_GEAR,
    MAX_REPAIRS,
    Gear,
    GearChanges,
    GearStatus,
    Repair,
    blank,
    change,
    check_new_repair,
    check_repair,
    check_room,
    fold_category,
    words_of_gear,
)

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
OWNER, ITEM = UUID(int=1), UUID(int=2)


def an_item() -> Gear:
    changes = GearChanges(name="Juno-106", purchase_price_cents=89900, currency="EUR")
    return change(blank(OWNER, id=ITEM, now=NOON), changes, NOON)


def test_an_item_is_active_and_of_the_rest_nothing_is_known() -> None:
    item = change(blank(OWNER, id=ITEM, now=NOON), GearChanges(name="Juno-106"), NOON)
    assert item.status is GearStatus.ACTIVE
    assert {name for name, value in vars(item).items() if value is None} == GearChanges.__optional_keys__ - {
        "name",
        "status",
    }


def test_a_change_leaves_the_rest_and_null_takes_away() -> None:
    sold = change(an_item(), GearChanges(status=GearStatus.SOLD, notes="To Bea"), LATER)
    assert sold == replace(an_item(), status=GearStatus.SOLD, notes="To Bea", updated_at=LATER)
    assert change(sold, GearChanges(notes=None), LATER).notes is None
    assert change(sold, GearChanges(notes="To Bea"), LATER + timedelta(hours=1)) is sold


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (GearChanges(name=" \u200b"), "name"),
        (GearChanges(name="a\nb"), "name"),
        (GearChanges(name="a\u202eb"), "name"),
        (GearChanges(currency=None), "currency"),
        (GearChanges(purchase_price_cents=None), "purchase_price_cents"),
        (GearChanges(purchase_date=date(2026, 2, 25)), "purchase_date"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(changes: GearChanges, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        change(an_item(), changes, LATER)
    assert refused.value.field == field


def test_a_price_and_its_currency_change_together() -> None:
    item = change(an_item(), GearChanges(purchase_price_cents=None, currency=None), LATER)
    assert (item.purchase_price_cents, item.currency) == (None, None)
    item = change(item, GearChanges(purchase_price_cents=0, currency="JPY"), LATER)
    assert (item.purchase_price_cents, item.currency) == (0, "JPY")


def a_repair(day: date, cents: int | None = 8500, currency: str | None = "EUR") -> Repair:
    return Repair(UUID(int=3), ITEM, day, "New voice chips", cents, currency, None, NOON)


def test_a_repair_is_of_today_at_the_latest_wherever_that_is() -> None:
    for day in (date(1984, 1, 1), date(2026, 2, 23), date(2026, 2, 24)):
        check_repair(a_repair(day), NOON)
    with pytest.raises(Invalid):
        check_repair(a_repair(date(2026, 2, 25)), NOON)


def test_a_cost_needs_a_currency_and_may_be_nothing_or_unknown() -> None:
    for cents, currency in ((0, "EUR"), (None, None)):
        check_repair(a_repair(NOON.date(), cents, currency), NOON)
    for cents, currency in ((0, None), (None, "EUR")):
        with pytest.raises(Invalid):
            check_repair(a_repair(NOON.date(), cents, currency), NOON)


def test_there_is_an_end_to_gear_and_to_repairs() -> None:
    check_room(MAX_GEAR - 1)
    check_new_repair(MAX_REPAIRS - 1)
    with pytest.raises(Conflict):
        check_room(MAX_GEAR)
    with pytest.raises(Conflict):
        check_new_repair(MAX_REPAIRS)


def test_an_item_is_found_by_its_names_and_numbers_folded() -> None:
    item = replace(an_item(), brand="Röland", serial_number="SN-4711", notes="secret")
    assert words_of_gear(item) == ["juno", "106", "roland", "sn", "4711"]
    assert (fold_category("Drum  Machine"), fold_category(None)) == ("drum machine", None)
