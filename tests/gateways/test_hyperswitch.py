"""The Hyperswitch client against the sandbox over HTTP, and the signatures of events."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import pytest
import trio

from tests.sandbox.running import HYPERSWITCH_KEY, Running, running_sandbox
from veza.domain.ids import IdMint
from veza.domain.payments import (
    Answer,
    Declined,
    DueOrder,
    KeyRefused,
    NoAnswer,
    NoSuchPayment,
    OrderStatus,
    Payment,
    PaymentStatus,
    payment_id_of,
)
from veza.gateways.hyperswitch import Hyperswitch
from veza.gateways.hyperswitch_events import is_signed, read_event

TIMEOUT = 2.0
mint = IdMint(lambda: datetime.now(UTC), Random(1))


def an_order(cents: int = 2999, currency: str = "EUR") -> DueOrder:
    order_id = mint()
    return DueOrder(
        id=order_id,
        buyer_id=mint(),
        status=OrderStatus.PENDING,
        total_cents=cents,
        currency=currency,
        payment_id=payment_id_of(order_id),
        opened=False,
        seconds_left=1800.0,
        asked=0,
    )


@dataclass(frozen=True)
class Shop:
    sandbox: Running
    hyperswitch: Hyperswitch

    async def act(self, order: DueOrder, action: str, **options: object) -> None:
        await self.sandbox.hyperswitch_control.call("POST", f"payments/{order.payment_id}/{action}", options)

    async def opened(self) -> DueOrder:
        order = an_order()
        assert isinstance(await self.hyperswitch.open_payment(order), Payment)
        return order


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        async with running_sandbox(tmp_path) as sandbox, client(sandbox) as hyperswitch:
            yield Shop(sandbox, hyperswitch)


def client(
    sandbox: Running, key: str = HYPERSWITCH_KEY, timeout: float = TIMEOUT
) -> AbstractAsyncContextManager[Hyperswitch]:
    return Hyperswitch.open(sandbox.hyperswitch_url, key, timeout=timeout, return_url="https://veza.example/paid")


async def test_a_payment_is_opened_with_the_orders_price_and_a_secret_for_its_buyer(shop: Shop) -> None:
    order = an_order()
    payment = await shop.hyperswitch.open_payment(order)
    assert isinstance(payment, Payment)
    assert (payment.payment_id, payment.amount_cents, payment.currency) == (order.payment_id, 2999, "EUR")
    assert payment.status is PaymentStatus.REQUIRES_PAYMENT_METHOD
    assert payment.client_secret


async def test_opening_a_payment_twice_finds_the_first(shop: Shop) -> None:
    order = an_order()
    first = await shop.hyperswitch.open_payment(order)
    assert await shop.hyperswitch.open_payment(order) == first
    assert isinstance(first, Payment)


@pytest.mark.parametrize("kind", ["commit_then_drop", "500_committed", "garbage"])
async def test_a_payment_that_was_made_although_the_answer_was_lost_is_found(shop: Shop, kind: str) -> None:
    order = an_order()
    await shop.sandbox.hyperswitch_control.fault(kind, method="POST", path="/payments")
    assert isinstance(await shop.hyperswitch.open_payment(order), NoAnswer)
    found = await shop.hyperswitch.open_payment(order)
    assert isinstance(found, Payment)
    assert found.client_secret


@pytest.mark.parametrize("kind", ["drop_before", "429", "500", "503"])
async def test_what_says_to_ask_again_is_no_answer(shop: Shop, kind: str) -> None:
    order = await shop.opened()
    await shop.sandbox.hyperswitch_control.fault(kind, times=2)
    assert isinstance(await shop.hyperswitch.retrieve(order.payment_id), NoAnswer)
    assert isinstance(await shop.hyperswitch.open_payment(an_order()), NoAnswer)
    assert isinstance(await shop.hyperswitch.retrieve(order.payment_id), Payment)


async def test_a_call_that_hangs_ends_with_its_timeout(shop: Shop) -> None:
    await shop.sandbox.hyperswitch_control.fault("hang_before")
    async with client(shop.sandbox, timeout=0.2) as impatient:
        began = trio.current_time()
        assert await impatient.open_payment(an_order()) == NoAnswer("not within 0.2 s")
        assert trio.current_time() - began < TIMEOUT


async def test_a_provider_that_is_not_there_is_no_answer() -> None:
    async with Hyperswitch.open("http://127.0.0.1:9", "key", timeout=TIMEOUT, return_url="") as nobody:
        assert await nobody.retrieve("pay_1") == NoAnswer("ConnectError")


async def test_a_key_that_is_not_taken_is_told_apart(shop: Shop) -> None:
    async with client(shop.sandbox, key="wrong") as stranger:
        assert isinstance(await stranger.open_payment(an_order()), KeyRefused)
        assert isinstance(await stranger.retrieve("pay_1"), KeyRefused)


async def test_a_definitive_no_says_why(shop: Shop) -> None:
    refused = await shop.hyperswitch.open_payment(an_order(currency="euro"))
    assert isinstance(refused, Declined)
    assert refused.code == "IR_05"
    assert refused.message


async def test_a_payment_nobody_made_is_missing(shop: Shop) -> None:
    assert await shop.hyperswitch.retrieve(an_order().payment_id) == NoSuchPayment()


async def test_retrieving_asks_the_connector_what_no_event_told(shop: Shop) -> None:
    order = await shop.opened()
    await shop.act(order, "pay", noticed=False)
    payment = await shop.hyperswitch.retrieve(order.payment_id)
    assert isinstance(payment, Payment)
    assert payment.status is PaymentStatus.SUCCEEDED


async def test_what_was_received_counts_and_not_what_was_asked_for(shop: Shop) -> None:
    order = await shop.opened()
    await shop.act(order, "pay", amount=1000, currency="USD")
    payment = await shop.hyperswitch.retrieve(order.payment_id)
    assert isinstance(payment, Payment)
    assert (payment.amount_cents, payment.currency) == (1000, "USD")


async def test_cancelling_ends_a_payment_unless_it_was_paid(shop: Shop) -> None:
    def status(answer: Answer) -> PaymentStatus | None:
        return answer.status if isinstance(answer, Payment) else None

    unpaid, paid = await shop.opened(), await shop.opened()
    await shop.act(paid, "pay", noticed=False)
    assert status(await shop.hyperswitch.cancel(unpaid.payment_id)) is PaymentStatus.CANCELLED
    assert status(await shop.hyperswitch.cancel(unpaid.payment_id)) is PaymentStatus.CANCELLED
    assert status(await shop.hyperswitch.cancel(paid.payment_id)) is PaymentStatus.SUCCEEDED
    assert await shop.hyperswitch.cancel(an_order().payment_id) == NoSuchPayment()


async def test_a_payment_that_waits_for_its_buyer_can_be_expired_and_no_other(shop: Shop) -> None:
    waiting, paid, processing = await shop.opened(), await shop.opened(), await shop.opened()
    await shop.act(paid, "pay", noticed=False)
    await shop.act(processing, "process")
    for order, status in (
        (waiting, PaymentStatus.CANCELLED),
        (paid, PaymentStatus.SUCCEEDED),
        (processing, PaymentStatus.PROCESSING),
    ):
        answer = await shop.hyperswitch.expire(order.payment_id)
        assert isinstance(answer, Payment)
        assert answer.status is status
    assert await shop.hyperswitch.expire(an_order().payment_id) == NoSuchPayment()
    await shop.sandbox.hyperswitch_control.fault("500")
    assert isinstance(await shop.hyperswitch.expire(paid.payment_id), NoAnswer)


@pytest.mark.parametrize(("left", "asked_for"), [(1799.6, 1800), (1.0, 60), (1e9, 7_890_000)])
async def test_a_buyer_may_pay_as_long_as_the_order_stands(shop: Shop, left: float, asked_for: int) -> None:
    order = replace(an_order(), seconds_left=left)
    assert isinstance(await shop.hyperswitch.open_payment(order), Payment)
    async with shop.sandbox.hyperswitch_client() as provider:
        seen = (await provider.get(f"/payments/{order.payment_id}")).raise_for_status().json()
    begun, ends = (datetime.fromisoformat(seen[name]) for name in ("created", "expires_on"))
    assert round((ends - begun).total_seconds()) == asked_for


def answering(status: int, body: object) -> Hyperswitch:
    """A provider that says one thing, for what the sandbox never says."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    return Hyperswitch(httpx.AsyncClient(transport=transport, base_url="http://provider"), timeout=1, return_url="")


PAYMENT = {"payment_id": "pay_1", "status": "succeeded", "amount": 2999, "currency": "EUR"}


async def test_a_status_newer_than_our_list_is_unknown_and_not_a_fault() -> None:
    payment = await answering(200, PAYMENT | {"status": "on_the_moon"}).retrieve("pay_1")
    assert isinstance(payment, Payment)
    assert payment.status is PaymentStatus.UNKNOWN


async def test_less_received_than_asked_for_is_what_counts() -> None:
    payment = await answering(200, PAYMENT | {"amount_received": 2000}).retrieve("pay_1")
    assert isinstance(payment, Payment)
    assert payment.amount_cents == 2000


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, PAYMENT | {"payment_id": "pay_2"}),
        (200, {"payment_id": "pay_1"}),
        (200, PAYMENT | {"client_secret": "a\0"}),
        (400, {"error": {"type": "invalid_request", "code": "IR_06", "message": "a\0"}}),
        (200, b"\xff"),
        (302, {}),
        (404, b"<html>a proxy's</html>"),
        (400, {"detail": "a proxy's"}),
    ],
)
async def test_an_answer_that_is_not_the_providers_own_is_no_answer(status: int, body: object) -> None:
    assert isinstance(await answering(status, body).retrieve("pay_1"), NoAnswer)


# -- events ------------------------------------------------------------------------------------------------------------

BODY = b'{"event_id":"evt_1","event_type":"payment_succeeded"}'
PROVIDERS, OWN = "X-Webhook-Signature-512", "X-Hyperswitch-Signature"


def mac(name: str, key: str = "new", body: bytes = BODY) -> str:
    return hmac.new(key.encode(), body, name).hexdigest()


@pytest.mark.parametrize(
    ("header", "hashed"), [(PROVIDERS, "sha512"), (OWN, "sha512"), (OWN, "sha256")], ids=lambda value: value
)
def test_an_event_signed_under_any_of_the_secrets_is_believed(header: str, hashed: str) -> None:
    for secret in ("old", "new"):
        assert is_signed(BODY, {header: mac(hashed, secret)}, ["old", "new"])
        assert is_signed(BODY, {header: mac(hashed, secret).upper()}, ["old", "new"])


@pytest.mark.parametrize("header", [PROVIDERS, OWN])
@pytest.mark.parametrize(
    "signature",
    [
        "",
        "0" * 64,
        "0" * 128,
        "é" * 128,
        mac("sha512", "somebody else's"),
        mac("sha512", body=BODY + b" "),
        mac("sha512")[:-1],
        mac("sha512") + "0",
        hashlib.sha512(BODY).hexdigest(),
    ],
)
def test_a_forged_event_is_not_believed(header: str, signature: str) -> None:
    assert not is_signed(BODY, {header: signature}, ["old", "new"])


def test_an_event_without_a_signature_or_without_a_secret_to_check_it_is_not_believed() -> None:
    assert not is_signed(BODY, {}, ["new"])
    assert not is_signed(BODY, {PROVIDERS: mac("sha512")}, [])
    assert not is_signed(BODY, {PROVIDERS: mac("sha512", "")}, [""])
    assert not is_signed(BODY, {PROVIDERS: mac("sha256")}, ["new"]), "the provider signs with SHA-512 alone"
    assert not is_signed(BODY, {"X-Other": mac("sha512")}, ["new"])


def test_one_true_signature_among_false_ones_is_enough() -> None:
    assert is_signed(BODY, {PROVIDERS: "0" * 128, OWN: mac("sha256")}, ["new"])


@pytest.mark.parametrize(
    ("body", "event_type", "payment_id"),
    [
        (
            {"event_type": "payment_succeeded", "content": {"object": {"payment_id": "pay_1"}}},
            "payment_succeeded",
            "pay_1",
        ),
        ({"event": "payment.succeeded", "payment_id": "pay_1"}, "payment_succeeded", "pay_1"),
        ({"event": "payment.succeeded", "data": {"payment_id": "pay_1"}}, "payment_succeeded", "pay_1"),
        ({"event": "refund.succeeded", "data": []}, "refund_succeeded", None),
        ({"event": 7, "payment_id": ["pay_1"], "content": "text"}, "unknown", None),
        ({"event": "a\0b", "payment_id": "a\0b"}, "unknown", None),
        ({"event": "e" * 300, "payment_id": "p" * 300}, "unknown", None),
    ],
)
def test_an_event_is_read_in_either_shape(body: dict[str, object], event_type: str, payment_id: str | None) -> None:
    raw = json.dumps(body).encode()
    event = read_event(raw)
    assert (event.event_type, event.payment_id) == (event_type, payment_id)
    assert event.event_id == f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_an_event_has_its_senders_id_where_there_is_one() -> None:
    assert read_event(BODY).event_id == "evt_1"


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"{", b"\xff"])
def test_what_is_no_json_object_is_no_event(body: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        read_event(body)
