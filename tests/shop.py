"""A shop in a running house: what sellers put on sale, orders for it, and the provider's side of paying them."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from tests.house import Account, House

PRODUCTS = "/marketplace/products"
ORDERS = "/marketplace/orders"
WEBHOOK = "/webhooks/hyperswitch"
BYTES = b"RIFF....WAVE" + bytes(range(256)) * 4

Json = dict[str, Any]


def data(answer: httpx.Response) -> Any:
    """What a success carries."""
    body = answer.raise_for_status().json()
    assert body["success"] is True
    return body["data"]


@dataclass(frozen=True)
class Shop:
    house: House

    # -- selling -------------------------------------------------------------------------------------------------------

    async def draft(self, seller: Account, **fields: object) -> Json:
        body = {"title": "A track", "price_cents": 2999, **fields}
        made: Json = data(await self.house.post(PRODUCTS, seller, json=body))
        return made

    async def upload(
        self, seller: Account, product: Json, content: bytes = BYTES, name: str = "track.wav"
    ) -> httpx.Response:
        files = {"file": (name, content, "audio/wav")}
        return await self.house.post(f"{PRODUCTS}/{product['id']}/files", seller, files=files)

    async def set(self, seller: Account, product: Json, /, **changes: object) -> httpx.Response:
        return await self.house.put(f"{PRODUCTS}/{product['id']}", seller, json=changes)

    async def on_sale(self, seller: Account, **fields: object) -> Json:
        """A published product with one file."""
        product = await self.draft(seller, **fields)
        data(await self.upload(seller, product))
        published: Json = data(await self.set(seller, product, status="published"))
        return published

    # -- buying --------------------------------------------------------------------------------------------------------

    async def order(
        self, buyer: Account, *products: Json, key: str | None = None, quantity: int = 1, **fields: object
    ) -> httpx.Response:
        items = [{"product_id": product["id"], "quantity": quantity} for product in products]
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.house.post(ORDERS, buyer, json={"items": items, **fields}, headers=headers)

    async def ordered(self, buyer: Account, *products: Json, **options: Any) -> Json:
        answer = await self.order(buyer, *products, **options)
        assert answer.status_code == 201, answer.text
        made: Json = data(answer)
        return made

    async def pay(self, order: Json, action: str = "pay", **options: object) -> None:
        """What the payer does at the provider; see `veza.sandbox.hyperswitch` for the options."""
        path = f"payments/{order['payment']['payment_id']}/{action}"
        await self.house.sandbox.hyperswitch_control.call("POST", path, options)

    async def until_status(self, buyer: Account, order: Json, status: str) -> Json:
        found: Json = await self.house.until(f"{ORDERS}/{order['id']}", buyer, lambda seen: seen["status"] == status)
        return found

    async def bought(self, buyer: Account, *products: Json) -> Json:
        """A paid order."""
        order = await self.ordered(buyer, *products)
        await self.pay(order)
        return await self.until_status(buyer, order, "paid")

    def run(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """What only time or an operator does, or only the database shows."""
        with psycopg.connect(self.house.dsn, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    # -- events --------------------------------------------------------------------------------------------------------

    def signature(self, body: bytes, mac: str = "sha512") -> str:
        secret = self.house.sandbox.config.hyperswitch_webhook_secret
        return hmac.new(secret.encode(), body, mac).hexdigest()

    async def deliver(self, body: bytes, **headers: str) -> httpx.Response:
        """Send an event's bytes under ``headers`` (underscores for hyphens), signed as the provider does if none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = sent or {"X-Webhook-Signature-512": self.signature(body)}
        return await self.house.post(WEBHOOK, content=body, headers={"Content-Type": "application/json", **sent})


def event(payment_id: str, event_id: str, event_type: str = "payment_succeeded", status: str = "succeeded") -> bytes:
    """An event in the provider's shape."""
    payment = {"payment_id": payment_id, "status": status, "updated": "2026-02-23T12:00:00.000Z"}
    body = {
        "merchant_id": "merchant_1",
        "event_id": event_id,
        "event_type": event_type,
        "content": {"type": "payment_details", "object": payment},
        "timestamp": "2026-02-23T12:00:00.000Z",
    }
    return json.dumps(body).encode()


def own_event(payment_id: str, name: str = "payment.succeeded", **more: object) -> bytes:
    """An event in the API reference's own shape."""
    return json.dumps({"event": name, "data": {"payment_id": payment_id}, **more}).encode()
