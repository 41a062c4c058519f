"""Hyperswitch: opening payments and asking what became of them, and telling its events from forged ones.

What it can be expected to answer is a value (`veza.domain.payments.Answer`), never an exception. Paths, fields, codes
and statuses: juspay/hyperswitch, api-reference/v1/openapi_spec_v1.json and
crates/hyperswitch_domain_models/src/errors/api_error_response.rs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx
import trio
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from veza.domain.payments import (
    BUYERS_TURN,
    Answer,
    Declined,
    DueOrder,
    KeyRefused,
    NoAnswer,
    NoSuchPayment,
    Payment,
    PaymentStatus,
)
from veza.gateways.certificates import certificates

DUPLICATE: Final = "HE_01"
SESSION_SECONDS: Final = (60, 7_890_000)  # what it takes for a session's length (its crates/router/src/consts.rs)
CONNECTIONS: Final = 128  # more than the payments actor ever has calls in hand, so that none waits in the client
ASK_AGAIN: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class PaymentBody(BaseModel):
    """The part of a payment that is read here. Amounts are in minor units."""

    model_config = ConfigDict(extra="ignore")

    payment_id: str
    status: str
    amount: int
    amount_received: int | None = None
    currency: str
    client_secret: str | None = None


class _Error(BaseModel):
    code: str = ""
    message: str = ""


class _ErrorBody(BaseModel):
    error: _Error


class Hyperswitch:
    """A client under one API key. A call ends within ``timeout`` seconds, the look after a duplicate included."""

    def __init__(self, client: httpx.AsyncClient, *, timeout: float, return_url: str) -> None:
        self._client = client
        self._timeout = timeout
        self._return_url = return_url

    @classmethod
    @asynccontextmanager
    async def open(cls, base_url: str, api_key: str, *, timeout: float, return_url: str) -> AsyncIterator[Hyperswitch]:
        """Connections are kept for as long as the block runs. ``return_url`` is where a buyer comes back to."""
        async with httpx.AsyncClient(
            verify=certificates(),
            base_url=base_url,
            headers={"api-key": api_key},
            timeout=None,  # noqa: S113 - bounded as a whole below: httpx's own starts anew with each chunk
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=16),
            follow_redirects=False,
        ) as client:
            yield cls(client, timeout=timeout, return_url=return_url)

    async def open_payment(self, order: DueOrder) -> Answer:
        """Have the order's payment made, or find the one an earlier call made: its id is derived from the order's."""
        body = {
            "payment_id": order.payment_id,
            "amount": order.total_cents,
            "currency": order.currency,
            "confirm": False,
            "capture_method": "automatic",
            "customer_id": order.buyer_id.hex,
            "return_url": self._return_url,
            "metadata": {"order_id": str(order.id)},
            "session_expiry": _session_seconds(order.seconds_left),
        }
        with trio.move_on_after(self._timeout):
            answer = await self._call("POST", "/payments", order.payment_id, body)
            if isinstance(answer, Declined) and answer.code == DUPLICATE:
                return await self._retrieve(order.payment_id)
            return answer
        return NoAnswer(f"not within {self._timeout:g} s")

    async def retrieve(self, payment_id: str) -> Answer:
        """What the payment is now; the provider asks its connector again (psync)."""
        with trio.move_on_after(self._timeout):
            return await self._retrieve(payment_id)
        return NoAnswer(f"not within {self._timeout:g} s")

    async def cancel(self, payment_id: str) -> Answer:
        """Let nobody pay it any more. One that is past that is answered as it is."""
        with trio.move_on_after(self._timeout):
            answer = await self._call("POST", f"/payments/{payment_id}/cancel", payment_id, {})
            return await self._retrieve(payment_id) if isinstance(answer, Declined) else answer
        return NoAnswer(f"not within {self._timeout:g} s")

    async def expire(self, payment_id: str) -> Answer:
        """Let nobody pay it any more if it still waits for its buyer; what it is now, one way or the other."""
        with trio.move_on_after(self._timeout):
            answer = await self._retrieve(payment_id)
            if not (isinstance(answer, Payment) and answer.status in BUYERS_TURN):
                return answer
            ended = await self._call("POST", f"/payments/{payment_id}/cancel", payment_id, {})
            return await self._retrieve(payment_id) if isinstance(ended, Declined) else ended
        return NoAnswer(f"not within {self._timeout:g} s")

    async def _retrieve(self, payment_id: str) -> Answer:
        return await self._call("GET", f"/payments/{payment_id}?force_sync=true", payment_id)

    async def _call(self, method: str, path: str, payment_id: str, body: object = None) -> Answer:
        try:
            answer = await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            return NoAnswer(type(error).__name__)
        if b"\\u0000" in answer.content:
            return NoAnswer("an answer with a NUL in it")  # PostgreSQL could not store it
        return _payment(answer, payment_id) if answer.is_success else _refusal(answer)


def _session_seconds(seconds_left: float) -> int:
    """The client secret lives as long as the order can be paid: the provider's own default is a quarter of an hour."""
    shortest, longest = SESSION_SECONDS
    return round(min(max(seconds_left, shortest), longest))


def _payment(answer: httpx.Response, payment_id: str) -> Answer:
    try:
        body = PaymentBody.model_validate_json(answer.content)
    except ValidationError:
        return NoAnswer("an answer that is no payment")
    if body.payment_id != payment_id:
        return NoAnswer("an answer about another payment")
    status = _status(body.status)
    # What was received can be less than what was asked for; until it succeeded, nothing was.
    received = body.amount_received if status is PaymentStatus.SUCCEEDED else None
    amount = body.amount if received is None else received
    return Payment(payment_id, status, amount, body.currency.upper(), body.client_secret)


def _status(word: str) -> PaymentStatus:
    try:
        return PaymentStatus(word)
    except ValueError:
        return PaymentStatus.UNKNOWN


def _refusal(answer: httpx.Response) -> Answer:
    status = answer.status_code
    if status in KEY_REFUSED:
        return KeyRefused(f"HTTP {status}")
    if status in ASK_AGAIN or not 400 <= status < 500:
        return NoAnswer(f"HTTP {status}")
    try:
        error = _ErrorBody.model_validate_json(answer.content).error
    except ValidationError:
        return NoAnswer(f"HTTP {status} that says nothing")  # a proxy's, not the provider's
    if status == HTTPStatus.NOT_FOUND:
        return NoSuchPayment()
    return Declined(error.code, error.message)


# -- events ------------------------------------------------------------------------------------------------------------

SIGNATURE_HEADERS: Final[Mapping[str, Mapping[int, str]]] = {
    "X-Webhook-Signature-512": {128: "sha512"},
    "X-Hyperswitch-Signature": {128: "sha512", 64: "sha256"},  # the API reference's own
}
"""For each header the MAC's hash, by the number of its hexadecimal digits."""

LONGEST: Final = 255  # characters of an id or a type that is kept as it is


@dataclass(frozen=True)
class Event:
    """A verified event. ``event_id`` is the sender's, or the body's hash where it gives none."""

    event_id: str
    event_type: str
    payment_id: str | None


def is_signed(body: bytes, signatures: Mapping[str, str], secrets: Sequence[str]) -> bool:
    """Whether one of ``signatures``, by header, is the MAC of exactly these bytes under one of the secrets.

    Compared in constant time. There is no check of freshness: the provider resends the same bytes for a day.
    """
    return any(
        _matches(signature, body, secrets, digits[len(signature)])
        for header, signature in signatures.items()
        if len(signature) in (digits := SIGNATURE_HEADERS.get(header, {}))
    )


def _matches(signature: str, body: bytes, secrets: Sequence[str], mac: str) -> bool:
    seen = signature.lower().encode()
    wanted = [hmac.new(secret.encode(), body, mac).hexdigest().encode() for secret in secrets if secret]
    return sum(hmac.compare_digest(seen, each) for each in wanted) > 0  # every one: the time tells nothing of which


def read_event(body: bytes) -> Event:
    """What a verified body says. Fields that are missing or not understood count for nothing.

    Raises ValueError for what is no JSON object.
    """
    fields = _OBJECT.validate_json(body)
    event_id = _text(fields.get("event_id")) or f"sha256:{hashlib.sha256(body).hexdigest()}"
    kind = _text(fields.get("event_type")) or _text(fields.get("event")) or "unknown"
    return Event(event_id, kind.replace(".", "_"), _payment_id(fields))


_OBJECT = TypeAdapter(dict[str, object])


def _payment_id(fields: Mapping[str, object]) -> str | None:
    for path in (("payment_id",), ("data", "payment_id"), ("content", "object", "payment_id")):
        value: object = fields
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if (found := _text(value)) is not None:
            return found
    return None


def _text(value: object) -> str | None:
    """Text that a row can hold and an index can find."""
    usable = isinstance(value, str) and 0 < len(value) <= LONGEST and "\0" not in value
    return value if usable and isinstance(value, str) else None
