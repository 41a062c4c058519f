"""A storm of events: duplicated, out of order, forged, all at once. Each order is paid once, and the books agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import trio

from tests.house import Account, House
from tests.shop import Json, Shop, data, event, own_event
from veza.compose import open_stripe
from veza.store.bridge import Database
from veza.store.ledger import Ledger

STORM = 200
AT_ONCE = 32  # a provider that catches up after an outage; fewer than the edge has seats, so that none is turned away
KINDS = ("processing", "failed", "succeeded", "cancelled", "requires_capture")
PAID_ORDERS, UNPAID_ORDERS = 8, 2


@dataclass(frozen=True)
class Delivery:
    body: bytes
    headers: dict[str, str]
    forged: bool


def genuine(shop: Shop, order: Json) -> list[Delivery]:
    """Seven events of an order, in both shapes and under each signature."""
    payment_id = order["payment"]["payment_id"]
    theirs = [event(payment_id, f"evt_{payment_id}_{kind}", f"payment_{kind}", kind) for kind in KINDS]
    ours = [own_event(payment_id), own_event(payment_id, "payment.failed")]
    signed = [Delivery(body, {"X-Webhook-Signature-512": shop.signature(body)}, forged=False) for body in theirs]
    return [
        *signed,
        *(
            Delivery(body, {"X-Hyperswitch-Signature": shop.signature(body, mac)}, forged=False)
            for body, mac in zip(ours, ("sha256", "sha512"), strict=True)
        ),
    ]


def forged(shop: Shop, order: Json) -> list[Delivery]:
    """Five more that nobody who has the key signed."""
    payment_id = order["payment"]["payment_id"]
    body = event(payment_id, f"evt_{payment_id}_forged")
    return [
        Delivery(body, {"X-Nothing": "1"}, forged=True),
        Delivery(body, {"X-Webhook-Signature-512": "0" * 128}, forged=True),
        Delivery(body, {"X-Webhook-Signature-512": shop.signature(body + b" ")}, forged=True),
        Delivery(own_event(payment_id), {"X-Hyperswitch-Signature": "a" * 64}, forged=True),
        Delivery(body, {"X-Webhook-Signature-512": shop.signature(body, "sha256")}, forged=True),
    ]


def storm(shop: Shop, paid: list[Json], unpaid: list[Json], random: Random) -> list[Delivery]:
    """All of them, the genuine ones of paid orders repeated until there are enough, in no order at all."""
    everything = [each for order in [*paid, *unpaid] for each in (*genuine(shop, order), *forged(shop, order))]
    again = [each for order in paid for each in genuine(shop, order)]
    everything += random.choices(again, k=STORM - len(everything))
    random.shuffle(everything)
    return everything


async def connected(shop: Shop, name: str) -> tuple[Account, str]:
    """A seller who can be paid out, and their account at the provider."""
    seller = await shop.house.sign_up(name)
    account = await shop.house.sandbox.stripe_control.account()
    shop.run(
        "INSERT INTO connect_accounts (user_id, account_id, transfers_active) VALUES (%s, %s, true)", seller.id, account
    )
    return seller, account


async def send_all(shop: Shop, deliveries: list[Delivery]) -> Counter[tuple[bool, int]]:
    """How often each status was the answer to genuine and to forged ones."""
    answers: Counter[tuple[bool, int]] = Counter()
    seats = trio.CapacityLimiter(AT_ONCE)

    async def send(delivery: Delivery) -> None:
        async with seats:
            answer = await shop.deliver(delivery.body, **delivery.headers)
        answers[delivery.forged, answer.status_code] += 1

    async with trio.open_nursery() as nursery:
        for delivery in deliveries:
            nursery.start_soon(send, delivery)
    return answers


async def test_a_storm_of_events_pays_each_order_once_and_forged_ones_do_nothing(house: House) -> None:
    with trio.fail_after(60):
        shop, random = Shop(house), Random(11)
        (one, _), (other, _) = await connected(shop, "ann"), await connected(shop, "carl")
        buyer = await house.sign_up("bob")
        products = [await shop.on_sale(one), await shop.on_sale(other, price_cents=1001)]
        orders = [await shop.ordered(buyer, *products) for _ in range(PAID_ORDERS + UNPAID_ORDERS)]
        paid, unpaid = orders[:PAID_ORDERS], orders[PAID_ORDERS:]
        deliveries = storm(shop, paid, unpaid, random)
        false_ones = sum(delivery.forged for delivery in deliveries)

        async def pay_all() -> None:
            for order in paid:
                await shop.pay(order, webhook=False)

        async with trio.open_nursery() as nursery:  # some events come before there is anything to learn
            nursery.start_soon(pay_all)
            answers = await send_all(shop, deliveries)
        assert answers == {(False, 200): STORM - false_ones, (True, 401): false_ones}
        assert await send_all(shop, [each for order in paid for each in settling(shop, order)]) == {
            (False, 200): PAID_ORDERS
        }
        for order in paid:
            await shop.until_status(buyer, order, "paid")
        for order in unpaid:
            assert data(await house.get(f"/marketplace/orders/{order['id']}", buyer))["status"] == "pending"
        await until_paid_out(shop)
        await assert_paid_once(shop, paid)


def settling(shop: Shop, order: Json) -> list[Delivery]:
    """The last word on an order: those of the storm may all have come before it was paid."""
    payment_id = order["payment"]["payment_id"]
    body = event(payment_id, f"evt_{payment_id}_last")
    return [Delivery(body, {"X-Webhook-Signature-512": shop.signature(body)}, forged=False)]


async def until_paid_out(shop: Shop) -> None:
    while shop.run("SELECT FROM transfers WHERE status <> 'completed'"):  # noqa: ASYNC110 - only the rows tell
        await trio.sleep(0.05)


async def assert_paid_once(shop: Shop, paid: list[Json]) -> None:
    ids = sorted(order["id"] for order in paid)
    captured = shop.run("SELECT order_id::text, count(*) FROM journals WHERE kind = 'capture' GROUP BY 1 ORDER BY 1")
    assert captured == [(order_id, 1) for order_id in ids]
    owed = shop.run("SELECT order_id::text, count(*), sum(amount_cents)::int FROM transfers GROUP BY 1 ORDER BY 1")
    assert owed == [(order_id, 2, 2699 + 901) for order_id in ids]
    assert len(shop.run("SELECT DISTINCT order_id, seller_id FROM transfers")) == 2 * len(paid)
    forged_ones = shop.run("SELECT FROM provider_events WHERE event_id LIKE '%%_forged'")
    assert forged_ones == []
    async with Database.open(shop.house.dsn, size=1) as db, open_stripe(shop.house.settings) as stripe:
        assert await Ledger(db).verify(stripe) == []
    made = await shop.house.sandbox.stripe_control.requests(method="POST", path="/v1/transfers")
    assert len(made) == 2 * len(paid)
