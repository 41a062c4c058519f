"""Hyperswitch's events over HTTP: believed only if signed, and even then only as a reason to ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import ORDERS, WEBHOOK, Json, Shop, data, event, own_event

RECEIVED = {"received": True}
EVENTS = "SELECT event_id, event_type, subject FROM provider_events WHERE provider = 'hyperswitch' ORDER BY received_at"


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        yield Shop(house)


async def an_order(shop: Shop) -> tuple[Account, Json, str]:
    """An order that waits for its payment, with its buyer and the payment's id."""
    seller, buyer = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    order = await shop.ordered(buyer, await shop.on_sale(seller))
    return buyer, order, order["payment"]["payment_id"]


async def status_of(shop: Shop, buyer: Account, order: Json) -> str:
    found: str = data(await shop.house.get(f"{ORDERS}/{order['id']}", buyer))["status"]
    return found


def asked(shop: Shop) -> int:
    """How often orders were in hand."""
    return int(shop.run("SELECT coalesce(sum(sync_count), 0) FROM orders")[0][0])


async def test_the_sandboxs_own_event_pays_the_order(shop: Shop) -> None:
    buyer, order, payment_id = await an_order(shop)
    await shop.pay(order)
    paid = await shop.until_status(buyer, order, "paid")
    assert paid["payment"]["status"] == "succeeded"
    [(_, event_type, subject)] = shop.run(EVENTS)
    assert (event_type, subject) == ("payment_succeeded", payment_id)


@pytest.mark.parametrize(
    ("header", "mac"),
    [
        ("X-Webhook-Signature-512", "sha512"),
        ("X-Hyperswitch-Signature", "sha512"),
        ("X-Hyperswitch-Signature", "sha256"),
    ],
)
@pytest.mark.parametrize("shape", ["the provider's", "the reference's"])
async def test_both_shapes_under_each_signature_bring_the_news(shop: Shop, header: str, mac: str, shape: str) -> None:
    buyer, order, payment_id = await an_order(shop)
    await shop.pay(order, webhook=False)
    body = event(payment_id, "evt_1") if shape == "the provider's" else own_event(payment_id)
    answer = await shop.deliver(body, **{header: shop.signature(body, mac)})
    assert data(answer) == RECEIVED
    await shop.until_status(buyer, order, "paid")


async def test_the_reference_names_the_payment_in_three_places(shop: Shop) -> None:
    bodies: list[Json] = [
        {"payment_id": "pay_0"},
        {"data": {"payment_id": "pay_1"}},
        {"content": {"object": {"payment_id": "pay_2"}}, "unknown": [1, {"deep": None}]},
    ]
    for number, named in enumerate(bodies):
        assert data(await shop.deliver(json.dumps({"event": "payment.succeeded", **named}).encode())) == RECEIVED
        event_id, event_type, subject = shop.run(EVENTS)[-1]
        assert event_id.startswith("sha256:")
        assert (event_type, subject) == ("payment_succeeded", f"pay_{number}")


async def test_what_is_not_signed_is_refused_and_changes_nothing(shop: Shop) -> None:
    buyer, order, payment_id = await an_order(shop)
    await shop.pay(order, webhook=False)
    before = asked(shop)
    body = event(payment_id, "evt_1")
    good = shop.signature(body)
    for headers in (
        {"Nothing": "at all"},
        {"X-Webhook-Signature-512": ""},
        {"X-Webhook-Signature-512": "0" * 128},
        {"X-Webhook-Signature-512": good[:-1]},
        {"X-Webhook-Signature-512": shop.signature(body + b" ")},
        {"X-Webhook-Signature-512": shop.signature(body, "sha256")},
        {"X-Hyperswitch-Signature": shop.signature(b"")},
        {"X-Signature": good},
    ):
        assert refusal(await shop.deliver(body, **headers)) == (401, "bad_signature"), headers
    assert refusal(await shop.deliver(body + b"\n", X_Webhook_Signature_512=good)) == (401, "bad_signature")
    assert (await shop.house.get(WEBHOOK)).status_code == 405
    assert shop.run(EVENTS) == []
    assert asked(shop) == before
    assert await status_of(shop, buyer, order) == "pending"


async def test_the_signature_is_over_the_very_bytes_and_not_over_their_meaning(shop: Shop) -> None:
    buyer, order, payment_id = await an_order(shop)
    await shop.pay(order, webhook=False)
    spaced = json.dumps(json.loads(event(payment_id, "evt_1")), indent=7).encode() + b"\r\n"
    assert data(await shop.deliver(spaced)) == RECEIVED
    await shop.until_status(buyer, order, "paid")


async def test_an_event_says_nothing_that_is_believed(shop: Shop) -> None:
    buyer, order, payment_id = await an_order(shop)
    before = asked(shop)
    assert data(await shop.deliver(event(payment_id, "evt_1"))) == RECEIVED  # it was not paid
    while asked(shop) == before:  # noqa: ASYNC110 - only the row tells
        await trio.sleep(0.02)
    assert await status_of(shop, buyer, order) == "pending"
    await shop.pay(order, webhook=False)
    assert data(await shop.deliver(event(payment_id, "evt_2", "payment_failed", "failed"))) == RECEIVED
    await shop.until_status(buyer, order, "paid")


async def test_an_event_that_comes_again_is_answered_alike_and_asks_nothing(shop: Shop) -> None:
    buyer, order, payment_id = await an_order(shop)
    await shop.pay(order, webhook=False)
    for body in (event(payment_id, "evt_1"), own_event(payment_id)):
        for _ in range(3):
            assert data(await shop.deliver(body)) == RECEIVED
    await shop.until_status(buyer, order, "paid")
    before = asked(shop)
    for body in (event(payment_id, "evt_1"), own_event(payment_id), event(payment_id, "evt_9", "payment_processing")):
        assert data(await shop.deliver(body)) == RECEIVED
    assert await status_of(shop, buyer, order) == "paid"
    assert asked(shop) == before, "a paid order is not asked about again"
    assert len(shop.run(EVENTS)) == 3
    assert shop.run("SELECT (SELECT count(*) FROM journals), (SELECT count(*) FROM transfers)") == [(1, 1)]


async def test_events_that_come_in_the_wrong_order_end_alike(shop: Shop) -> None:
    buyer, order, payment_id = await an_order(shop)
    await shop.pay(order, webhook=False)
    for number, kind in enumerate(("succeeded", "processing", "failed", "cancelled")):
        assert data(await shop.deliver(event(payment_id, f"evt_{number}", f"payment_{kind}", kind))) == RECEIVED
    await shop.until_status(buyer, order, "paid")
    assert shop.run("SELECT (SELECT count(*) FROM journals), (SELECT count(*) FROM transfers)") == [(1, 1)]


async def test_events_about_nothing_here_are_recorded_and_answered(shop: Shop) -> None:
    for body in (
        event("pay_of_somebody_else", "evt_1"),
        json.dumps({"event_id": "evt_2", "event_type": "dispute_opened", "content": None}).encode(),
        json.dumps({"event": "payment.succeeded", "payment_id": 7, "data": "x", "content": {"object": []}}).encode(),
        b"{}",
    ):
        assert data(await shop.deliver(body)) == RECEIVED
    assert [(kind, subject) for _, kind, subject in shop.run(EVENTS)] == [
        ("payment_succeeded", "pay_of_somebody_else"),
        ("dispute_opened", None),
        ("payment_succeeded", None),
        ("unknown", None),
    ]


NO_EVENTS: Sequence[bytes] = [b"", b"[]", b"null", b'{"event":', b"\xff"]


async def test_a_signed_body_that_is_no_event_is_invalid(shop: Shop, subtests: pytest.Subtests) -> None:
    for body in NO_EVENTS:
        with subtests.test(repr(body)):
            assert refusal(await shop.deliver(body)) == (400, "invalid")
            assert shop.run(EVENTS) == []


async def test_a_body_beyond_all_measure_is_refused_unread(shop: Shop) -> None:
    assert (await shop.deliver(bytes(2 * 1024 * 1024))).status_code == 413
