"""What sellers see of what they sold: their part of each order, sums of a period, and a table of their transfers."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Sequence
from io import StringIO

import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import ORDERS, Json, Shop, data

NO_REFUND = {"refunded_cents": 0, "fee_refunded_cents": 0}
ONE_REFUND = {"refunded_cents": 2999, "fee_refunded_cents": 300}


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(40):
        yield Shop(house)


async def four(shop: Shop) -> list[Account]:
    """Two sellers and two buyers."""
    return [await shop.house.sign_up(name) for name in ("ann", "eve", "bob", "cat")]


def dated(shop: Shop, order: Json, moment: str) -> None:
    shop.run("UPDATE orders SET paid_at = %s WHERE id = %s", moment, order["id"])


async def test_a_seller_sees_their_own_lines_of_paid_orders_the_latest_first(shop: Shop) -> None:
    ann, eve, bob, cat = await four(shop)
    track, pack, other = [await shop.on_sale(*of) for of in ((ann,), (ann,), (eve,))]
    first = await shop.bought(bob, track, other)
    await shop.ordered(bob, track)  # not paid
    second = await shop.bought(cat, pack)
    latest, mixed = (found := data(await shop.house.get("/sell/orders", ann)))["orders"]
    assert found["total"] == 2
    assert (latest["order_id"], latest["buyer"]) == (second["id"], "cat")
    [line] = mixed["items"]
    assert mixed == {
        "order_id": first["id"],
        "status": "paid",
        "buyer": "bob",
        "currency": "EUR",
        "gross_cents": 2999,
        "fee_cents": 300,
        "refunded_cents": 0,
        "fee_refunded_cents": 0,
        "net_cents": 2699,
        "items": [
            {
                "id": first["items"][0]["id"],
                "product_id": track["id"],
                "title": "A track",
                "quantity": 1,
                "unit_price_cents": 2999,
                "total_cents": 2999,
                "refunded_cents": 0,
            }
        ],
        "paid_at": mixed["paid_at"],
    }
    assert line["product_id"] != other["id"]
    page = data(await shop.house.get("/sell/orders?limit=1&offset=1", ann))
    assert ([each["order_id"] for each in page["orders"]], page["total"]) == ([first["id"]], 2)
    assert data(await shop.house.get("/sell/orders", bob)) == {"orders": [], "total": 0}


async def test_a_free_line_is_a_sale_of_nothing(shop: Shop) -> None:
    ann, _, bob, _ = await four(shop)
    await shop.ordered(bob, await shop.on_sale(ann, price_cents=0))
    [sale] = data(await shop.house.get("/sell/orders", ann))["orders"]
    assert (sale["gross_cents"], sale["fee_cents"], sale["net_cents"]) == (0, 0, 0)
    stats = data(await shop.house.get("/sell/stats", ann))
    assert (stats["orders"], stats["gross_cents"], stats["by_day"], stats["by_product"]) == (0, 0, [], [])


async def test_the_sales_of_a_period_add_up_by_day_and_by_product(shop: Shop) -> None:
    ann, eve, bob, cat = await four(shop)
    track, pack, other = (
        await shop.on_sale(ann),
        await shop.on_sale(ann, title="A pack", price_cents=1000),
        await shop.on_sale(eve),
    )
    first = await shop.bought(bob, track, other)
    dated(shop, first, "2026-02-21T23:30:00Z")
    dated(shop, await shop.bought(cat, track, pack), "2026-02-22T00:30:00+01:00")  # the same day in UTC
    dated(shop, await shop.bought(cat, pack), "2026-02-23T12:00:00Z")
    dated(shop, await shop.bought(bob, pack), "2026-02-24T00:00:00Z")  # no more of this period
    data(await shop.house.post(f"{ORDERS}/{first['id']}/refund", ann, json={"reason": "It hums."}))  # her own line
    await shop.until_status(bob, first, "partially_refunded")
    shop.run("UPDATE refunds SET completed_at = '2026-02-23T13:00:00Z'")  # counted when it went back
    stats = data(await shop.house.get("/sell/stats?from=2026-02-01&to=2026-02-24", ann))
    assert stats == {
        "since": "2026-02-01T00:00:00Z",
        "until": "2026-02-24T00:00:00Z",
        "currency": "EUR",
        "orders": 3,
        "gross_cents": 2999 + 3999 + 1000,
        "fee_cents": 300 + 400 + 100,
        "refunded_cents": 2999,
        "fee_refunded_cents": 300,
        "net_cents": 3599 + 900,
        "by_day": [
            {"day": "2026-02-21", "orders": 2, "gross_cents": 6998, "fee_cents": 700, "net_cents": 6298} | NO_REFUND,
            {"day": "2026-02-23", "orders": 1, "gross_cents": 1000, "fee_cents": 100, "net_cents": -1799} | ONE_REFUND,
        ],
        "by_product": [
            {"product_id": track["id"], "title": "A track", "quantity": 2, "gross_cents": 5998, "refunded_cents": 2999},
            {"product_id": pack["id"], "title": "A pack", "quantity": 2, "gross_cents": 2000, "refunded_cents": 0},
        ],
    }
    [sale] = [each for each in data(await shop.house.get("/sell/orders", ann))["orders"] if each["refunded_cents"]]
    assert (sale["order_id"], sale["net_cents"], sale["items"][0]["refunded_cents"]) == (first["id"], 0, 2999)
    recent = data(await shop.house.get("/sell/stats", ann))
    assert (recent["orders"], recent["by_product"]) == (0, [])  # all of this is months ago


SENSELESS: Sequence[str] = [
    "from=2026-02-22&to=2026-02-22",
    "from=2026-02-23&to=2026-02-22",
    "from=2024-02-22&to=2026-02-22",
    "from=soon",
]


async def test_a_period_that_makes_no_sense_is_refused(house: House, subtests: pytest.Subtests) -> None:
    ann = await house.sign_up("ann")
    for query in SENSELESS:
        with subtests.test(repr(query)):
            assert refusal(await house.get(f"/sell/stats?{query}", ann)) == (400, "invalid")


async def test_the_table_has_every_transfer_of_the_seller_and_of_nobody_else(shop: Shop) -> None:
    ann, eve, bob, _ = await four(shop)
    for _ in range(3):
        await shop.bought(bob, await shop.on_sale(ann), await shop.on_sale(eve))
    answer = await shop.house.get("/sell/transfers.csv", ann)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="transfers.csv"'
    assert answer.headers["cache-control"] == "private, no-store"
    shown = data(await shop.house.get("/sell/transfers", ann))["transfers"]
    assert [each.pop("withholdings") for each in shown] == [[], [], []]  # a table has no room for lists
    rows = list(csv.DictReader(StringIO(answer.text)))
    as_text = [{name: "" if cell is None else str(cell) for name, cell in each.items()} for each in shown]
    assert rows == as_text
    assert len(rows) == 3
    nobody = await shop.house.get("/sell/transfers.csv", bob)
    assert nobody.text.splitlines() == answer.text.splitlines()[:1]


async def test_a_long_table_is_read_in_pages(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veza.http.routes.sales.TABLE_PAGE", 2)
    ann, _, bob, _ = await four(shop)
    track = await shop.on_sale(ann)
    for _ in range(5):
        await shop.bought(bob, track)
    rows = list(csv.DictReader(StringIO((await shop.house.get("/sell/transfers.csv", ann)).text)))
    assert len({row["id"] for row in rows}) == len(rows) == 5


@pytest.mark.parametrize("path", ["/sell/orders", "/sell/stats", "/sell/transfers.csv"])
async def test_sales_are_for_the_signed_in(house: House, path: str) -> None:
    assert refusal(await house.get(path)) == (401, "unauthenticated")
