"""Hyperswitch: opening payments, giving them back, and asking what became of either.

What it can be expected to answer is a value (`Answer`, `RefundOutcome`), never an exception. Paths, fields, codes
and statuses: juspay/hyperswitch, api-reference/v1/openapi_spec_v1.json and
crates/hyperswitch_domain_models/src/errors/api_error_response.rs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

import httpx
import trio
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from veza.domain.disputes import DisputeClaim, DisputeOutcome, NoSuchDispute, Seen
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
from veza.domain.refund_attempts import (
    NotReturned,
    RefundClaim,
    RefundOutcome,
    Returned,
    Underway,
)
from veza.gateways.certificates import certificates

Refused = NoSuchPayment | NoAnswer | KeyRefused | Declined

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


class RefundBody(BaseModel):
    """The part of a refund that is read here. The amount is in minor units."""

    model_config = ConfigDict(extra="ignore")

    refund_id: str
    status: str
    amount: int
    currency: str
    error_code: str | None = None
    error_message: str | None = None


class DisputeBody(BaseModel):
    """The part of a dispute that is read here. The amount is in minor units, written as text."""

    model_config = ConfigDict(extra="ignore")

    dispute_id: str
    payment_id: str
    amount: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,14}$")]
    currency: str
    dispute_status: str


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

    async def refund(self, claim: RefundClaim) -> RefundOutcome:
        """Have a refund made, or find what became of the one an earlier call made: its id is derived from the row's.

        A no is believed only when the provider has no such refund: it may be about one that it is making already.
        """
        with trio.move_on_after(self._timeout):
            if claim.asked > 1 and not isinstance(found := await self._find_refund(claim), NoSuchPayment):
                return found
            made = await self._make_refund(claim)
            if isinstance(made, NotReturned) and not isinstance(found := await self._find_refund(claim), NoSuchPayment):
                return found
            return made
        return NoAnswer(f"not within {self._timeout:g} s")

    async def _make_refund(self, claim: RefundClaim) -> RefundOutcome:
        body = {
            "refund_id": claim.reference,
            "payment_id": claim.payment_id,
            "amount": claim.amount_cents,
            "metadata": {"refund_id": str(claim.refund_id)},
        }
        answer = await self._send("POST", "/refunds", body)
        if isinstance(answer, httpx.Response):
            return _refund(answer, claim)
        return NotReturned("no_such_payment", "") if isinstance(answer, NoSuchPayment) else _declined(answer)

    async def _find_refund(self, claim: RefundClaim) -> RefundOutcome | NoSuchPayment:
        answer = await self._send("GET", f"/refunds/{claim.reference}?force_sync=true")
        if isinstance(answer, httpx.Response):
            return _refund(answer, claim)
        if isinstance(answer, Declined):  # a no to looking says nothing of the money
            return NoAnswer(f"{answer.code}: {answer.message}")
        return answer

    async def dispute(self, claim: DisputeClaim) -> DisputeOutcome:
        """What a dispute of a payment is now."""
        with trio.move_on_after(self._timeout):
            answer = await self._send("GET", f"/disputes/{quote(claim.dispute_id, safe='')}")
            if isinstance(answer, httpx.Response):
                return _dispute(answer, claim)
            if isinstance(answer, Declined):
                return NoAnswer(f"{answer.code}: {answer.message}")
            return NoSuchDispute() if isinstance(answer, NoSuchPayment) else answer
        return NoAnswer(f"not within {self._timeout:g} s")

    async def _retrieve(self, payment_id: str) -> Answer:
        return await self._call("GET", f"/payments/{payment_id}?force_sync=true", payment_id)

    async def _call(self, method: str, path: str, payment_id: str, body: object = None) -> Answer:
        answer = await self._send(method, path, body)
        return _payment(answer, payment_id) if isinstance(answer, httpx.Response) else answer

    async def _send(self, method: str, path: str, body: object = None) -> httpx.Response | Refused:
        try:
            answer = await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            return NoAnswer(type(error).__name__)
        if b"\\u0000" in answer.content:
            return NoAnswer("an answer with a NUL in it")  # PostgreSQL could not store it
        return answer if answer.is_success else _refusal(answer)


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


def _refund(answer: httpx.Response, claim: RefundClaim) -> RefundOutcome:
    try:
        body = RefundBody.model_validate_json(answer.content)
    except ValidationError:
        return NoAnswer("an answer that is no refund")
    about = (body.refund_id, body.amount, body.currency.upper())
    if about != (claim.reference, claim.amount_cents, claim.currency):
        return NoAnswer("an answer about another refund")
    match body.status:
        case "succeeded":
            return Returned()
        case "failed":
            return NotReturned(body.error_code or "failed", body.error_message or "")
        case _:  # pending, review, or a word newer than this
            return Underway()


def _dispute(answer: httpx.Response, claim: DisputeClaim) -> DisputeOutcome:
    try:
        body = DisputeBody.model_validate_json(answer.content)
    except ValidationError:
        return NoAnswer("an answer that is no dispute")
    if (body.dispute_id, body.payment_id) != (claim.dispute_id, claim.payment_id):
        return NoAnswer("an answer about another dispute")
    return Seen(body.dispute_status, int(body.amount), body.currency.upper())


def _declined(answer: NoAnswer | KeyRefused | Declined) -> RefundOutcome:
    return NotReturned(answer.code, answer.message) if isinstance(answer, Declined) else answer


def _status(word: str) -> PaymentStatus:
    try:
        return PaymentStatus(word)
    except ValueError:
        return PaymentStatus.UNKNOWN


def _refusal(answer: httpx.Response) -> Refused:
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
