"""The outgoing webhooks: rows first, written with the state change that caused them, then delivered by a task.

A delivery is retried until the receiver answers 2xx, with the provider's kind of backoff, and survives a restart.
The body's bytes are fixed when the row is written, so a retry sends the same bytes. Order is not promised, at the
real providers neither: deliveries that are due go out side by side.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from functools import cache
from sqlite3 import Row
from ssl import SSLContext

import httpx
import trio

from veza.sandbox.store import Object, Store

Signer = Callable[[bytes], Mapping[str, str]]

TIMEOUT = 5.0  # seconds a receiver has to answer; Hyperswitch's client gives up after five
AT_ONCE = 8  # deliveries side by side: enough to reorder them, too few to be a load test
LISTED = 500  # newest deliveries shown by the control API


def stripe_signer(secret: str) -> Signer:
    """`Stripe-Signature: t=<unix time>,v1=<hex HMAC-SHA256 of "t.body">`, made anew at each attempt."""

    def sign(body: bytes) -> Mapping[str, str]:
        now = int(time.time())
        mac = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={now},v1={mac}"}

    return sign


def hyperswitch_signer(secret: str) -> Signer:
    """`X-Webhook-Signature-512`: lowercase hex HMAC-SHA512 of the body under the profile's response hash key."""

    def sign(body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Signature-512": hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()}

    return sign


@cache
def certificates() -> SSLContext:
    """Read once for both stand-ins: it takes some 40 ms."""
    return httpx.create_ssl_context()


class Outbox:
    """Deliveries as rows. `url` and `paused` can be changed while running and outlive a restart."""

    def __init__(self, store: Store, url: str | None, backoff: tuple[float, ...], retry_for: float) -> None:
        self._store = store
        self._configured_url = url
        self._backoff = backoff
        self._retry_for = retry_for
        self._rung = trio.Event()

    @property
    def url(self) -> str | None:
        return self._store.setting("webhook_url") or self._configured_url

    @property
    def paused(self) -> bool:
        return self._store.setting("webhooks_paused") == "1"

    def point_at(self, url: str) -> None:
        self._store.set_setting("webhook_url", url)
        self.ring()

    def pause(self, paused: bool) -> None:
        self._store.set_setting("webhooks_paused", "1" if paused else "0")
        self.ring()

    def ring(self) -> None:
        self._rung.set()
        self._rung = trio.Event()

    def write(self, event_id: str, event_type: str, body: bytes) -> None:
        """Record an event to deliver; to be called inside the transaction of the change it tells of."""
        now = time.time()
        self._store.insert(
            "deliveries",
            {"event_id": event_id, "event_type": event_type, "body": body, "created": now, "next_at": now},
        )

    def resend(self, delivery_id: int) -> bool:
        """Send a delivery once more, delivered or not: the same bytes again."""
        found = self._store.run("update deliveries set next_at = ? where id = ?", time.time(), delivery_id)
        self.ring()
        return found > 0

    def views(self) -> list[Object]:
        rows = self._store.rows("select * from deliveries order by id desc limit ?", LISTED)
        return [view(row) for row in reversed(rows)]

    async def deliver_forever(self, sign: Signer) -> None:
        while self.url is None:
            await self._rung.wait()
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=certificates()) as client:
            while True:
                rung = self._rung
                wait = await self.deliver_due(client, sign)
                with trio.move_on_after(wait):
                    await rung.wait()

    async def deliver_due(self, client: httpx.AsyncClient, sign: Signer) -> float:
        """One round. Answers the seconds until the next delivery is due (infinite if none is)."""
        url = self.url
        if url is None or self.paused:
            return float("inf")
        due = self._store.rows("select * from deliveries where next_at <= ? order by id limit ?", time.time(), AT_ONCE)
        async with trio.open_nursery() as nursery:
            for row in due:
                nursery.start_soon(self._attempt, client, url, sign, row)
        soonest = self._store.row("select min(next_at) as at from deliveries where next_at is not null")
        if soonest is None or soonest["at"] is None:
            return float("inf")
        return max(0.0, float(soonest["at"]) - time.time())

    async def _attempt(self, client: httpx.AsyncClient, url: str, sign: Signer, row: Row) -> None:
        body: bytes = row["body"]
        headers = {"Content-Type": "application/json", **sign(body)}
        try:
            status = (await client.post(url, content=body, headers=headers)).status_code
        except httpx.HTTPError:
            status = 0
        now, attempts = time.time(), int(row["attempts"]) + 1
        delivered = 200 <= status < 300
        pause = self._backoff[min(attempts, len(self._backoff)) - 1]
        given_up = now + pause > float(row["created"]) + self._retry_for
        self._store.run(
            "update deliveries set attempts = ?, last_status = ?, next_at = ?,"
            " delivered_at = coalesce(delivered_at, ?) where id = ?",
            attempts,
            status,
            None if delivered or given_up else now + pause,
            now if delivered else None,
            row["id"],
        )


def view(row: Row) -> Object:
    body: bytes = row["body"]
    return {
        "id": row["id"],
        "event_id": row["event_id"],
        "event_type": row["event_type"],
        "body": body.decode(),
        "attempts": row["attempts"],
        "delivered": row["delivered_at"] is not None,
        "pending": row["next_at"] is not None,
        "last_status": row["last_status"],
    }
