"""Orders over HTTP: placed once, paid through the provider, and what they entitle their buyer to."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.house import Account, House, running_house
from tests.http.desk import refusal
from tests.shop import BYTES, ORDERS, Json, Shop, data


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        yield Shop(house)


@pytest.fixture
async def watchful(dsn: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop whose reconciler looks every second for what is due."""
    with trio.fail_after(30):
        async with running_house(dsn, tmp_path, reconcile_seconds=1) as house:
            yield Shop(house)


async def two(shop: Shop) -> tuple[Account, Account]:
    """A seller and a buyer."""
    return await shop.house.sign_up("ann"), await shop.house.sign_up("bob")


async def order_of(shop: Shop, buyer: Account, order: Json) -> Json:
    found: Json = data(await shop.house.get(f"{ORDERS}/{order['id']}", buyer))
    return found


async def payments_at_the_provider(shop: Shop) -> int:
    opened = await shop.house.sandbox.hyperswitch_control.requests(method="POST", path="/payments")
    return len(opened)


# -- placing -----------------------------------------------------------------------------------------------------------


async def test_an_order_tells_its_buyer_what_they_pay_and_with_what(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track, pack = await shop.on_sale(seller), await shop.on_sale(seller, title="A pack", price_cents=500)
    order = await shop.ordered(buyer, track, pack, quantity=2, payment_method="card", expected_total_cents=6998)
    payment = order["payment"]
    assert UUID(order["id"]).version == 7
    assert order == {
        "id": order["id"],
        "status": "pending",
        "currency": "EUR",
        "total_cents": 6998,
        "items": [
            {
                "id": item["id"],
                "product_id": product["id"],
                "title": product["title"],
                "quantity": 2,
                "unit_price_cents": product["price_cents"],
                "total_cents": 2 * product["price_cents"],
                "refunded_cents": 0,
                "licence_key": None,
            }
            for item, product in zip(order["items"], (track, pack), strict=True)
        ],
        "created_at": order["created_at"],
        "expires_at": order["expires_at"],
        "paid_at": None,
        "invoice_number": None,
        "payment": {
            "provider": "hyperswitch",
            "payment_id": payment["payment_id"],
            "client_secret": payment["client_secret"],
            "status": "requires_payment_method",
            "publishable_key": "pk_snd_test",
        },
    }
    assert payment["client_secret"].startswith(payment["payment_id"])
    assert await order_of(shop, buyer, order) == order
    async with shop.house.sandbox.hyperswitch_client() as provider:
        seen = (await provider.get(f"/payments/{payment['payment_id']}")).json()
    assert (seen["amount"], seen["currency"], seen["metadata"]) == (6998, "EUR", {"order_id": order["id"]})


async def test_the_price_and_the_fee_are_those_of_the_moment_it_was_placed(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    order = await shop.ordered(buyer, track)
    data(await shop.set(seller, track, price_cents=1, title="Renamed"))
    await shop.pay(order)
    paid = await shop.until_status(buyer, order, "paid")
    [line], [frozen] = paid["items"], order["items"]
    assert (paid["total_cents"], line | {"licence_key": None}) == (2999, frozen)
    assert shop.run("SELECT seller_id::text, amount_cents, platform_fee_cents FROM transfers") == [
        (seller.id, 2699, 300)
    ]


async def test_carts_that_make_no_sense_are_refused(shop: Shop) -> None:
    seller, buyer = await two(shop)
    line = {"product_id": (await shop.on_sale(seller))["id"], "quantity": 1}
    wrong: list[Json] = [
        {},
        {"items": []},
        {"items": [{}]},
        {"items": [line, line]},
        {"items": [{**line, "quantity": 0}]},
        {"items": [{**line, "quantity": 1001}]},
        {"items": [{**line, "quantity": "1"}]},
        {"items": [{**line, "product_id": "track"}]},
        {"items": [{**line, "price_cents": 1}]},
        {"items": [line], "total_cents": 1},
        {"items": [line], "expected_total_cents": -1},
        {"items": [line], "payment_method": ""},
        {"items": [line] * 101},
    ]
    for body in wrong:
        assert refusal(await shop.house.post(ORDERS, buyer, json=body)) == (400, "invalid"), body
    sent = {"items": [line]}
    for key in ("", "k" * 256):
        answer = await shop.house.post(ORDERS, buyer, json=sent, headers={"Idempotency-Key": key})
        assert refusal(answer) == (400, "invalid"), key
    assert (await shop.house.post(ORDERS, json=sent)).status_code == 401
    assert data(await shop.house.get(ORDERS, buyer)) == {"orders": [], "total": 0}


async def test_what_is_not_on_sale_ones_own_and_another_total_are_conflicts(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track, draft = await shop.on_sale(seller), await shop.draft(seller)
    archived = await shop.on_sale(seller)
    data(await shop.set(seller, archived, status="archived"))
    for product in (draft, archived, {"id": str(uuid4())}):
        refused = await shop.order(buyer, track, product)
        assert refusal(refused) == (409, "not_on_sale")
        assert [problem["field"] for problem in refused.json()["details"]] == ["items.1.product_id"]
    assert refusal(await shop.order(seller, track)) == (409, "own_product")
    assert refusal(await shop.order(buyer, track, expected_total_cents=2998)) == (409, "total_changed")
    dear = await shop.on_sale(seller, price_cents=99_999_999)
    assert refusal(await shop.order(buyer, dear, quantity=2)) == (400, "invalid")
    assert data(await shop.house.get(ORDERS, buyer))["total"] == 0
    assert await payments_at_the_provider(shop) == 0


async def test_a_free_order_is_paid_at_once_and_moves_no_money(shop: Shop) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller, price_cents=0), expected_total_cents=0, key="free")
    assert (order["status"], order["total_cents"], order["payment"]) == ("paid", 0, None)
    assert (
        await shop.ordered(buyer, {"id": order["items"][0]["product_id"]}, expected_total_cents=0, key="free") == order
    )
    [download] = data(await shop.house.get(f"{ORDERS}/{order['id']}/downloads", buyer))["downloads"]
    assert (await shop.house.get(download["url"], buyer)).content == BYTES
    assert await payments_at_the_provider(shop) == 0
    assert shop.run("SELECT (SELECT count(*) FROM journals) + (SELECT count(*) FROM transfers)") == [(0,)]


async def test_what_is_paid_has_an_invoice_number_and_licence_keys_while_it_entitles_its_buyer(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track, gift = await shop.on_sale(seller), await shop.on_sale(seller, price_cents=0)
    free = await shop.ordered(buyer, gift)
    paid = await shop.bought(buyer, track, gift)
    assert [order["invoice_number"][4:] for order in (free, paid)] == ["-000001", "-000002"]
    keys = [item["licence_key"] for order in (free, paid) for item in order["items"]]
    assert len({UUID(key) for key in keys}) == 3
    assert await order_of(shop, buyer, paid) == paid
    shop.run("UPDATE orders SET status = 'refunded'")
    assert [item["licence_key"] for item in (await order_of(shop, buyer, paid))["items"]] == [None, None]


# -- idempotency keys --------------------------------------------------------------------------------------------------


async def test_a_repeated_request_answers_with_the_first_ones_order(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    first = await shop.ordered(buyer, track, key="one")
    assert await shop.ordered(buyer, track, key="one") == first
    respaced = f'{{ "items": [ {{"quantity": 1, "product_id": "{track["id"]}"}} ] }}'.encode()
    headers = {"Idempotency-Key": "one", "Content-Type": "application/json"}
    assert data(await shop.house.post(ORDERS, buyer, content=respaced, headers=headers)) == first
    await shop.pay(first)
    await shop.until_status(buyer, first, "paid")
    repeated = await shop.ordered(buyer, track, key="one")
    assert (repeated["id"], repeated["status"]) == (first["id"], "paid")
    assert await payments_at_the_provider(shop) == 1
    assert data(await shop.house.get(ORDERS, buyer))["total"] == 1


async def test_a_key_is_for_one_body_and_one_user(shop: Shop) -> None:
    seller, buyer = await two(shop)
    other = await shop.house.sign_up("eve")
    track = await shop.on_sale(seller)
    first = await shop.ordered(buyer, track, key="one")
    assert refusal(await shop.order(buyer, track, key="one", quantity=2)) == (409, "idempotency_key_reused")
    assert (await shop.ordered(other, track, key="one"))["id"] != first["id"]
    assert (await shop.ordered(buyer, track, key="two"))["id"] != first["id"]
    assert (await shop.ordered(buyer, track))["id"] != (await shop.ordered(buyer, track))["id"]


async def test_a_key_is_forgotten_after_a_day(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    first = await shop.ordered(buyer, track, key="one")
    shop.run("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
    assert (await shop.ordered(buyer, track, key="one", quantity=2))["id"] != first["id"]


async def test_of_requests_at_once_under_one_key_one_places_the_order(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    answers: list[httpx.Response] = []

    async def order() -> None:
        answers.append(await shop.order(buyer, track, key="one"))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(order)
    placed = [data(answer)["id"] for answer in answers if answer.status_code == 201]
    assert len(set(placed)) == 1
    others = [refusal(answer) for answer in answers if answer.status_code != 201]
    assert others == [(409, "idempotency_in_flight")] * len(others)
    assert data(await shop.house.get(ORDERS, buyer))["total"] == 1
    assert await payments_at_the_provider(shop) == 1


async def test_a_request_in_flight_holds_its_key_until_its_payment_is_open(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    provider = shop.house.sandbox.hyperswitch_control
    fault = await provider.fault("hang_before", method="POST", path="/payments")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(shop.ordered, buyer, track, key="one"))
        await provider.wait_hanging(fault)
        assert refusal(await shop.order(buyer, track, key="one")) == (409, "idempotency_in_flight")
        await provider.release(fault)
    assert (await shop.ordered(buyer, track, key="one"))["payment"]["client_secret"]


@pytest.mark.parametrize("kind", ["500", "500_committed", "commit_then_drop", "401"])
async def test_a_payment_that_could_not_be_opened_is_opened_by_the_repeat(shop: Shop, kind: str) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    await shop.house.sandbox.hyperswitch_control.fault(kind, method="POST", path="/payments")
    failed = await shop.order(buyer, track, key="one")
    assert refusal(failed) == (503, "payment_unavailable")
    assert int(failed.headers["Retry-After"]) >= 1
    order = await shop.ordered(buyer, track, key="one")
    assert order["payment"]["client_secret"]
    assert [each["id"] for each in data(await shop.house.get(ORDERS, buyer))["orders"]] == [order["id"]]


async def test_a_key_that_the_payment_provider_refuses_is_told_to_whoever_probes(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    await shop.house.sandbox.hyperswitch_control.fault("401", times=None)
    assert refusal(await shop.order(buyer, track)) == (503, "payment_unavailable")
    seen = await shop.house.until("/readyz", None, lambda told: told["checks"]["actors"]["status"] == "degraded")
    assert "payments" in seen["checks"]["actors"]["details"]


# -- who may see them --------------------------------------------------------------------------------------------------


async def test_an_order_and_its_secret_are_its_buyers_alone(shop: Shop) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    path = f"{ORDERS}/{order['id']}"
    admin = await shop.house.admin()
    for reader in (seller, await shop.house.sign_up("eve"), admin):
        if reader is not admin:
            assert refusal(await shop.house.get(path, reader)) == (404, "not_found")
        assert refusal(await shop.house.post(f"{path}/cancel", reader)) == (404, "not_found")
        assert refusal(await shop.house.get(f"{path}/downloads", reader)) == (404, "not_found")
        assert data(await shop.house.get(ORDERS, reader)) == {"orders": [], "total": 0}
    for request in (shop.house.get(path), shop.house.post(f"{path}/cancel"), shop.house.get(ORDERS)):
        assert (await request).status_code == 401
    for missing in (uuid4(), "nonsense"):
        assert refusal(await shop.house.get(f"{ORDERS}/{missing}", buyer)) == (404, "not_found")
    assert (await order_of(shop, buyer, order))["status"] == "pending"
    seen = data(await shop.house.get(path, admin))  # who may decide about it may see it, its secret apart
    assert (seen["id"], seen["payment"]["client_secret"]) == (order["id"], None)


async def test_buyers_list_their_orders_the_newest_first(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track = await shop.on_sale(seller)
    orders = [await shop.ordered(buyer, track) for _ in range(3)]
    await shop.pay(orders[1])
    await shop.until_status(buyer, orders[1], "paid")
    for query, expected in {
        "": [2, 1, 0],
        "limit=1&offset=1": [1],
        "offset=3": [],
        "status=paid": [1],
        "status=pending": [2, 0],
        "status=refunded": [],
    }.items():
        found = data(await shop.house.get(f"{ORDERS}?{query}", buyer))
        assert [order["id"] for order in found["orders"]] == [orders[number]["id"] for number in expected], query
        assert found["total"] == {"status=paid": 1, "status=pending": 2, "status=refunded": 0}.get(query, 3)
    for query in ("limit=0", "limit=101", "offset=-1", "status=sold"):
        assert refusal(await shop.house.get(f"{ORDERS}?{query}", buyer)) == (400, "invalid"), query


# -- how they end ------------------------------------------------------------------------------------------------------


async def test_a_cancelled_order_cannot_be_paid_any_more(shop: Shop) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    path = f"{ORDERS}/{order['id']}/cancel"
    assert data(await shop.house.post(path, buyer))["status"] == "cancelled"
    assert data(await shop.house.post(path, buyer))["status"] == "cancelled", "repeating it is fine"
    async with shop.house.sandbox.hyperswitch_client() as provider:
        seen = (await provider.get(f"/payments/{order['payment']['payment_id']}")).json()
    assert seen["status"] == "cancelled"
    assert refusal(await shop.house.get(f"{ORDERS}/{order['id']}/downloads", buyer)) == (409, "not_paid")


async def test_a_paid_order_cannot_be_cancelled(shop: Shop) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    await shop.pay(order, noticed=False)  # nobody here knows of it yet
    path = f"{ORDERS}/{order['id']}/cancel"
    assert refusal(await shop.house.post(path, buyer)) == (409, "not_cancellable")
    assert (await order_of(shop, buyer, order))["status"] == "paid"
    assert refusal(await shop.house.post(path, buyer)) == (409, "not_cancellable")


async def test_an_order_is_cancelled_only_when_the_provider_says_so(shop: Shop) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    await shop.house.sandbox.hyperswitch_control.fault("503", times=1)
    path = f"{ORDERS}/{order['id']}/cancel"
    assert refusal(await shop.house.post(path, buyer)) == (503, "payment_unavailable")
    assert (await order_of(shop, buyer, order))["status"] == "pending"
    assert data(await shop.house.post(path, buyer))["status"] == "cancelled"


async def test_a_declined_payment_fails_its_order(shop: Shop) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    await shop.pay(order, "fail")
    failed = await shop.until_status(buyer, order, "failed")
    assert failed["payment"]["status"] == "failed"
    assert refusal(await shop.house.get(f"{ORDERS}/{order['id']}/downloads", buyer)) == (409, "not_paid")


async def test_a_payment_no_webhook_told_of_is_found_by_the_reconciler(watchful: Shop) -> None:
    seller, buyer = await two(watchful)
    order = await watchful.ordered(buyer, await watchful.on_sale(seller))
    await watchful.pay(order, noticed=False)
    assert await watchful.house.sandbox.hyperswitch_control.deliveries() == []
    watchful.run("UPDATE orders SET sync_due_at = now()")  # as the clock would have it within the minute
    await watchful.until_status(buyer, order, "paid")
    assert watchful.run("SELECT order_id::text FROM transfers") == [(order["id"],)]


async def test_an_order_whose_request_died_is_opened_by_the_reconciler(watchful: Shop) -> None:
    seller, buyer = await two(watchful)
    await watchful.house.sandbox.hyperswitch_control.fault("500", method="POST", path="/payments")
    assert (await watchful.order(buyer, await watchful.on_sale(seller))).status_code == 503
    [order] = data(await watchful.house.get(ORDERS, buyer))["orders"]
    assert order["payment"]["client_secret"] is None
    watchful.run("UPDATE orders SET sync_due_at = now()")
    opened = await watchful.house.until(
        f"{ORDERS}/{order['id']}", buyer, lambda seen: seen["payment"]["client_secret"] is not None
    )
    await watchful.pay(opened)
    await watchful.until_status(buyer, order, "paid")


async def let_expire(shop: Shop, buyer: Account, order: Json) -> None:
    shop.run("UPDATE orders SET expires_at = now(), sync_due_at = now()")
    await shop.until_status(buyer, order, "expired")


async def until_noted(shop: Shop, order: Json) -> str:
    """What an operator is told of an order, once they are."""
    note = "SELECT payment_note FROM orders WHERE id = %s AND payment_note IS NOT NULL"
    while not (found := shop.run(note, order["id"])):  # noqa: ASYNC110 - only the row tells
        await trio.sleep(0.02)
    return str(found[0][0])


async def test_an_order_nobody_pays_expires_and_its_payment_with_it(watchful: Shop) -> None:
    seller, buyer = await two(watchful)
    order = await watchful.ordered(buyer, await watchful.on_sale(seller))
    await let_expire(watchful, buyer, order)
    async with watchful.house.sandbox.hyperswitch_client() as provider:
        seen = (await provider.get(f"/payments/{order['payment']['payment_id']}")).json()
    assert seen["status"] == "cancelled"
    assert refusal(await watchful.house.post(f"{ORDERS}/{order['id']}/cancel", buyer)) == (409, "not_cancellable")


async def test_a_late_payment_is_honoured_while_all_of_it_is_sold_and_else_left_to_an_operator(watchful: Shop) -> None:
    seller, buyer = await two(watchful)
    track = await watchful.on_sale(seller)
    honoured, refused = await watchful.ordered(buyer, track), await watchful.ordered(buyer, track)
    await let_expire(watchful, buyer, honoured)
    await watchful.until_status(buyer, refused, "expired")
    await watchful.pay(honoured, force=True)
    await watchful.until_status(buyer, honoured, "paid")
    data(await watchful.set(seller, track, status="archived"))
    await watchful.pay(refused, force=True)
    assert "not all of it is on sale" in await until_noted(watchful, refused)
    assert (await order_of(watchful, buyer, refused))["status"] == "expired"
    assert watchful.run("SELECT order_id::text FROM transfers") == [(honoured["id"],)]


@pytest.mark.parametrize("paid", [{"amount": 2998}, {"amount": 3000}, {"currency": "USD"}])
async def test_only_exactly_its_own_amount_and_currency_pay_an_order(shop: Shop, paid: Json) -> None:
    seller, buyer = await two(shop)
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    await shop.pay(order, **paid)
    assert (await until_noted(shop, order)).startswith("captured ")
    cancelling = await shop.house.post(f"{ORDERS}/{order['id']}/cancel", buyer)
    assert refusal(cancelling) == (409, "payment_to_examine")
    assert (await order_of(shop, buyer, order))["status"] == "pending"
    assert shop.run("SELECT (SELECT count(*) FROM journals) + (SELECT count(*) FROM transfers)") == [(0,)]


# -- what was bought ---------------------------------------------------------------------------------------------------


async def a_download(shop: Shop, seller: Account, buyer: Account) -> tuple[Json, str]:
    """A paid order's file, and its path."""
    order = await shop.bought(buyer, await shop.on_sale(seller))
    [file] = data(await shop.house.get(f"{ORDERS}/{order['id']}/downloads", buyer))["downloads"]
    return file, f"{ORDERS}/{order['id']}/downloads/{file['id']}"


async def test_a_paid_order_lists_its_files_and_their_bytes_are_the_sellers(shop: Shop) -> None:
    seller, buyer = await two(shop)
    file, path = await a_download(shop, seller, buyer)
    assert file == {
        "id": file["id"],
        "product_id": file["product_id"],
        "filename": "track.wav",
        "content_type": "audio/wav",
        "size_bytes": len(BYTES),
        "url": f"{shop.house.url}/api/v1{path}",
    }
    answer = await shop.house.get(file["url"], buyer)
    assert (answer.status_code, answer.content) == (200, BYTES)
    assert answer.headers["Content-Type"] == "audio/wav"
    assert answer.headers["Content-Length"] == str(len(BYTES))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{hashlib.sha256(BYTES).hexdigest()}"'
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="track.wav"')
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_ranges_and_conditions_are_honoured(shop: Shop) -> None:
    seller, buyer = await two(shop)
    _, path = await a_download(shop, seller, buyer)
    size, etag = len(BYTES), f'"{hashlib.sha256(BYTES).hexdigest()}"'
    for headers, status, content in (
        ({"Range": "bytes=0-3"}, 206, BYTES[:4]),
        ({"Range": "bytes=4-"}, 206, BYTES[4:]),
        ({"Range": "bytes=-5"}, 206, BYTES[-5:]),
        ({"Range": f"bytes={size - 1}-{size + 99}"}, 206, BYTES[-1:]),
        ({"Range": "bytes=0-3", "If-Range": etag}, 206, BYTES[:4]),
        ({"Range": "bytes=0-3", "If-Range": '"another"'}, 200, BYTES),
        ({"Range": "bytes=3-0"}, 200, BYTES),
        ({"Range": "lines=0-3"}, 200, BYTES),
        ({"If-None-Match": etag}, 304, b""),
        ({"If-None-Match": '"another"'}, 200, BYTES),
        ({"If-Match": etag}, 200, BYTES),
    ):
        answer = await shop.house.get(path, buyer, headers=headers)
        assert (answer.status_code, answer.content) == (status, content), headers
        assert answer.headers["ETag"] == etag
    part = await shop.house.get(path, buyer, headers={"Range": "bytes=-5"})
    assert part.headers["Content-Range"] == f"bytes {size - 5}-{size - 1}/{size}"
    assert part.headers["Content-Length"] == "5"
    beyond = await shop.house.get(path, buyer, headers={"Range": f"bytes={size}-"})
    assert refusal(beyond) == (416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    other = await shop.house.get(path, buyer, headers={"If-Match": '"another"'})
    assert other.status_code == 412


async def test_head_tells_of_a_file_without_sending_or_counting_it(shop: Shop) -> None:
    seller, buyer = await two(shop)
    _, path = await a_download(shop, seller, buyer)
    head = await shop.house.request("HEAD", path, buyer)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(BYTES))
    assert shop.run("SELECT count(*) FROM downloads") == [(0,)]
    for _ in range(3):
        await shop.house.get(path, buyer, headers={"Range": "bytes=0-3"})
    assert shop.run("SELECT user_id::text FROM downloads") == [(buyer.id,)], "once an hour is enough"


async def test_nobody_downloads_what_is_not_theirs_or_not_paid(shop: Shop) -> None:
    seller, buyer = await two(shop)
    _, path = await a_download(shop, seller, buyer)
    for reader in (seller, await shop.house.sign_up("eve"), await shop.house.admin()):
        assert refusal(await shop.house.get(path, reader)) == (404, "not_found")
        assert (await shop.house.request("HEAD", path, reader)).status_code == 404
    assert (await shop.house.get(path)).status_code == 401
    other = await shop.on_sale(seller, title="Another")
    [foreign] = data(await shop.house.get(f"/marketplace/products/{other['id']}/files", seller))["files"]
    for file_id in (foreign["id"], uuid4()):
        elsewhere = f"{path.rpartition('/')[0]}/{file_id}"
        assert refusal(await shop.house.get(elsewhere, buyer)) == (404, "not_found")
    unpaid = await shop.ordered(buyer, other)
    for under in ("downloads", f"downloads/{foreign['id']}"):
        assert refusal(await shop.house.get(f"{ORDERS}/{unpaid['id']}/{under}", buyer)) == (409, "not_paid")


async def test_the_library_holds_each_product_once_the_latest_first(shop: Shop) -> None:
    seller, buyer = await two(shop)
    track, pack = await shop.on_sale(seller), await shop.on_sale(seller, title="A pack", product_type="sample_pack")
    first = await shop.bought(buyer, track)
    second = await shop.bought(buyer, pack, track)
    await shop.ordered(buyer, await shop.on_sale(seller, title="Not paid"))
    library = data(await shop.house.get("/marketplace/library", buyer))
    assert library["total"] == 2
    assert [(each["title"], each["order_id"]) for each in library["library"]] == [
        ("A pack", second["id"]),
        ("A track", first["id"]),
    ]
    entry = library["library"][0]
    assert entry["quantity"] == 1
    keys = {each["licence_key"] for each in library["library"]}
    assert len(keys) == 2
    assert None not in keys
    assert (entry["product_id"], entry["product_type"]) == (pack["id"], "sample_pack")
    assert entry["seller"] == {"id": seller.id, "username": "ann"}
    assert (await shop.house.get(entry["downloads"][0]["url"], buyer)).content == BYTES
    page = data(await shop.house.get("/marketplace/library?limit=1&offset=1", buyer))
    assert [each["title"] for each in page["library"]] == ["A track"]
    assert data(await shop.house.get("/marketplace/library", seller)) == {"library": [], "total": 0}
    assert (await shop.house.get("/marketplace/library")).status_code == 401
