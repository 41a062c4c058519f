"""The webhook senders: signatures, retries of identical bytes, survival."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
import stripe
import trio

from tests.sandbox.running import STRIPE_WARNING, Running, pay_out, receiving, running_sandbox

pytestmark = pytest.mark.filterwarnings(STRIPE_WARNING)

PAYMENT = {"amount": 2999, "currency": "EUR", "payment_id": "pay_0000000000000000000000000a"}


async def paid_payment(sandbox: Running) -> None:
    async with sandbox.hyperswitch_client() as client:
        assert (await client.post("/payments", json=PAYMENT)).status_code == 200
    await sandbox.hyperswitch_control.call("POST", f"payments/{PAYMENT['payment_id']}/pay")


async def test_stripes_events_are_signed_as_its_own_package_verifies(sandbox: Running) -> None:
    async with receiving() as receiver:
        await sandbox.stripe_control.call("POST", "webhooks", {"url": receiver.url})
        client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
        made = await pay_out(client, account, key="k:0")
        await client.v1.transfers.update_async(made.id, {"metadata": {"note": "x"}})
        await client.v1.transfers.reversals.create_async(made.id, {"amount": 1})
        await sandbox.stripe_control.call("POST", "balance", {"currency": "eur", "available": 5})
        received = await receiver.wait_for(4)
    secret = sandbox.config.stripe_webhook_secret
    events = [stripe.Webhook.construct_event(got.body, got.headers["stripe-signature"], secret) for got in received]
    by_type = {event.type: event for event in events}
    assert set(by_type) == {"transfer.created", "transfer.updated", "transfer.reversed", "balance.available"}
    assert by_type["transfer.created"].data.object["id"] == made.id
    request = by_type["transfer.created"].request
    assert request is not None
    assert request.idempotency_key == "k:0"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(received[0].body, received[0].headers["stripe-signature"], "whsec_other")


async def test_hyperswitchs_events_are_signed_over_the_exact_bytes(sandbox: Running) -> None:
    async with receiving() as receiver:
        await sandbox.hyperswitch_control.call("POST", "webhooks", {"url": receiver.url})
        await paid_payment(sandbox)
        (got,) = await receiver.wait_for(1)
    key = sandbox.config.hyperswitch_webhook_secret.encode()
    assert got.headers["x-webhook-signature-512"] == hmac.new(key, got.body, hashlib.sha512).hexdigest()
    event = json.loads(got.body)
    assert event["event_type"] == "payment_succeeded"
    assert event["content"]["type"] == "payment_details"
    assert event["content"]["object"]["payment_id"] == PAYMENT["payment_id"]


async def test_a_refused_delivery_is_retried_with_identical_bytes(sandbox: Running) -> None:
    async with receiving([500, 503, 301]) as receiver:
        await sandbox.hyperswitch_control.call("POST", "webhooks", {"url": receiver.url})
        await paid_payment(sandbox)
        received = await receiver.wait_for(4)
        assert len({(got.body, got.headers["x-webhook-signature-512"]) for got in received}) == 1
        with trio.fail_after(5):
            while not (await sandbox.hyperswitch_control.deliveries())[0]["delivered"]:
                await trio.lowlevel.checkpoint()
        (delivery,) = await sandbox.hyperswitch_control.deliveries()
    assert (delivery["attempts"], delivery["pending"]) == (4, False)


async def test_a_delivery_is_given_up_when_its_day_is_over(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path, webhook_retry_for=0.0) as sandbox, receiving([500, 500]) as receiver:
        await sandbox.hyperswitch_control.call("POST", "webhooks", {"url": receiver.url})
        await paid_payment(sandbox)
        with trio.fail_after(5):
            while (await sandbox.hyperswitch_control.deliveries())[0]["pending"]:
                await trio.lowlevel.checkpoint()
        (delivery,) = await sandbox.hyperswitch_control.deliveries()
        assert (delivery["attempts"], delivery["delivered"], len(receiver.got)) == (1, False, 1)


async def test_a_delivery_can_be_sent_again_and_the_sender_paused(sandbox: Running) -> None:
    control = sandbox.hyperswitch_control
    async with receiving() as receiver:
        await control.call("POST", "webhooks", {"url": receiver.url, "paused": True})
        await paid_payment(sandbox)
        (delivery,) = await control.deliveries()
        assert (delivery["pending"], receiver.got) == (True, [])
        await control.call("POST", "webhooks", {"paused": False})
        await receiver.wait_for(1)
        await control.call("POST", f"webhooks/{delivery['id']}/resend")
        first, second = await receiver.wait_for(2)
    assert first.body == second.body == delivery["body"].encode()


async def test_an_undelivered_event_survives_a_restart(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as sandbox:
        await paid_payment(sandbox)
        (before,) = await sandbox.hyperswitch_control.deliveries()
    async with receiving() as receiver, running_sandbox(tmp_path, hyperswitch_webhook_url=receiver.url):
        (got,) = await receiver.wait_for(1)
    assert got.body == before["body"].encode()
