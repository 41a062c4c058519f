"""Every object the stand-ins emit has only published fields, of the published types, and all that are required.

The lists and their sources are in ``veza/sandbox/schemas``. Stripe's is checked once more against the classes of the
installed `stripe` package, which are made from the same document.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

import veza.sandbox
from tests.sandbox.running import Running
from veza.sandbox import stripe_accounts, stripe_transfers
from veza.sandbox.published import fields

SCHEMAS = Path(veza.sandbox.__file__).parent / "schemas"
STRIPE, HYPERSWITCH = fields("stripe"), fields("hyperswitch")
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
# Published as required and not nullable, but a payment that awaits its method has none; see the file's note.
NULL_ALL_THE_SAME = {"payment_method"}
PAY_ID = "pay_0000000000000000000000000a"


def facts(provider: str, name: str) -> list[str]:
    listed: list[str] = json.loads((SCHEMAS / f"{provider}.json").read_text())[name]
    return listed


def faults_of(value: dict[str, Any], published: dict[str, str]) -> list[str]:
    """What is wrong with an object, in words; nothing if all is as published."""
    wrong = [f"{name} is not a published field" for name in value if name not in published]
    for name, kind in published.items():
        if name not in value:
            if kind.endswith("!"):
                wrong.append(f"{name} is required")
            continue
        given, allowed = value[name], TYPES[kind.rstrip("?!")]
        if given is None:
            if "?" not in kind and name not in NULL_ALL_THE_SAME:
                wrong.append(f"{name} is null")
        elif not isinstance(given, allowed) or (isinstance(given, bool) and bool not in allowed):
            wrong.append(f"{name} is {given!r}, not {kind}")
    return wrong


@pytest.fixture
async def raw(sandbox: Running) -> AsyncIterator[httpx.AsyncClient]:
    """Plain httpx: what is judged is the JSON on the wire, not what a client made of it."""
    headers = {"Authorization": f"Bearer {sandbox.config.stripe_secret_key}"}
    async with httpx.AsyncClient(base_url=sandbox.stripe_url, headers=headers) as client:
        yield client


async def stripe_objects(sandbox: Running, raw: httpx.AsyncClient) -> list[dict[str, Any]]:
    """One of each object and state, as answers and inside events."""
    account = (
        await raw.post("/v1/accounts", data={"type": "express", "capabilities[transfers][requested]": "true"})
    ).json()
    urls = {"refresh_url": "http://a.test", "return_url": "http://b.test", "type": "account_onboarding"}
    link = (await raw.post("/v1/account_links", data={"account": account["id"], **urls})).json()
    await raw.post(link["url"])
    ready = (await raw.get(f"/v1/accounts/{account['id']}")).json()
    form = {"amount": "500", "currency": "eur", "destination": account["id"], "metadata[a]": "b"}
    transfer = (await raw.post("/v1/transfers", data=form)).json()
    reversal = (await raw.post(f"/v1/transfers/{transfer['id']}/reversals", data={"amount": "100"})).json()
    reversed_ = (await raw.get(f"/v1/transfers/{transfer['id']}")).json()
    ours = (await raw.get("/v1/balance")).json()
    theirs = (await raw.get("/v1/balance", headers={"Stripe-Account": account["id"]})).json()
    listed = (await raw.get("/v1/transfers")).json()
    events = [json.loads(delivery["body"]) for delivery in await sandbox.stripe_control.deliveries()]
    assert {event["type"] for event in events} == {"account.updated", "transfer.created", "transfer.reversed"}
    inside = [event["data"]["object"] for event in events]
    return [account, link, ready, transfer, reversal, reversed_, ours, theirs, *listed["data"], *events, *inside]


async def test_every_stripe_object_is_as_published(sandbox: Running, raw: httpx.AsyncClient) -> None:
    objects = await stripe_objects(sandbox, raw)
    seen = {each["object"] for each in objects}
    assert seen == {"account", "account_link", "transfer", "transfer_reversal", "balance", "event"}
    for each in objects:
        assert faults_of(each, STRIPE["objects"][each["object"]]) == []
        for nested, name in (
            (each.get("requirements"), "account_requirements"),
            (each.get("request"), "event_request"),
        ):
            assert nested is None or faults_of(nested, STRIPE["objects"][name]) == []
        for amount in [*each.get("available", []), *each.get("pending", [])]:
            assert faults_of(amount, STRIPE["objects"]["balance_amount"]) == []


async def test_the_stripe_packages_own_classes_know_every_field(sandbox: Running, raw: httpx.AsyncClient) -> None:
    classes: dict[str, type] = {
        "account": stripe.Account,
        "account_link": stripe.AccountLink,
        "transfer": stripe.Transfer,
        "transfer_reversal": stripe.TransferReversal,
        "balance": stripe.Balance,
        "event": stripe.Event,
    }
    for each in await stripe_objects(sandbox, raw):
        assert set(each) <= set(classes[each["object"]].__annotations__), each["object"]


async def test_every_hyperswitch_object_is_as_published(sandbox: Running) -> None:
    card = {"payment_method": "card", "payment_method_data": {"card": {"card_number": "4000000000000002"}}}
    async with sandbox.hyperswitch_client() as client:
        body = {"amount": 500, "currency": "EUR", "payment_id": PAY_ID, "metadata": {"a": "b"}}
        payments = [(await client.post("/payments", json=body)).json()]
        failed = await client.post("/payments", json={"amount": 1, "currency": "EUR", "confirm": True, **card})
        payments.append(failed.json())
        await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/pay")
        refunds = [(await client.post("/refunds", json={"payment_id": PAY_ID, "amount": 200})).json()]
        await sandbox.hyperswitch_control.fault("refund_failed", path="/refunds")
        refunds.append((await client.post("/refunds", json={"payment_id": PAY_ID, "amount": 200})).json())
        opened = await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/dispute", {"amount": 100})
        await sandbox.hyperswitch_control.call("POST", f"disputes/{opened['dispute_id']}/challenge")
        disputes = [opened, (await client.get(f"/disputes/{opened['dispute_id']}")).json()]
        payments.append((await client.get(f"/payments/{PAY_ID}")).json())
    events = [json.loads(each["body"]) for each in await sandbox.hyperswitch_control.deliveries()]
    assert len(events) == 6
    published = HYPERSWITCH["objects"]
    for event in events:
        assert faults_of(event, published["OutgoingWebhook"]) == []
        assert faults_of(event["content"], published["OutgoingWebhookContent"]) == []
        assert event["event_type"] in facts("hyperswitch", "event_types")
        assert event["content"]["type"] in facts("hyperswitch", "content_types")
        listed = {"payment_details": payments, "refund_details": refunds, "dispute_details": disputes}
        listed[event["content"]["type"]].append(event["content"]["object"])
    listed_in_payments = [dispute for payment in payments for dispute in payment["disputes"] or []]
    assert len(listed_in_payments) == 1
    for payment in payments:
        assert faults_of(payment, published["PaymentsResponse"]) == []
        assert payment["status"] in facts("hyperswitch", "payment_statuses")
    for refund in refunds:
        assert faults_of(refund, published["RefundResponse"]) == []
        assert refund["status"] in facts("hyperswitch", "refund_statuses")
    for name, of_kind in (("DisputeResponse", disputes), ("DisputeResponsePaymentsRetrieve", listed_in_payments)):
        for dispute in of_kind:
            assert faults_of(dispute, published[name]) == []
            assert dispute["dispute_status"] in facts("hyperswitch", "dispute_statuses")
            assert dispute["dispute_stage"] in facts("hyperswitch", "dispute_stages")


def test_stripe_requests_accept_exactly_the_published_parameters() -> None:
    accepted = {
        "POST /v1/transfers": stripe_transfers.TRANSFER_FIELDS,
        "POST /v1/transfers/:id/reversals": stripe_transfers.REVERSAL_FIELDS,
        "GET /v1/transfers": stripe_transfers.LIST_FIELDS,
        "POST /v1/accounts": stripe_accounts.ACCOUNT_FIELDS,
        "POST /v1/account_links": stripe_accounts.LINK_FIELDS,
    }
    assert {name: set(STRIPE["requests"][name]) for name in accepted} == {
        name: set(listed) for name, listed in accepted.items()
    }


async def test_stripes_errors_have_published_fields_and_codes(sandbox: Running, raw: httpx.AsyncClient) -> None:
    account = await sandbox.stripe_control.account()
    # The docs leave this one out of the list of codes, yet it is what a transfer to such an account answers.
    undocumented = {"insufficient_capabilities_for_transfer"}
    kinds = ["401", "409", "429", "500", "503", "balance_insufficient", "account_unknown", "account_invalid"]
    for kind in [*kinds, "insufficient_capabilities"]:
        await sandbox.stripe_control.fault(kind)
        form = {"amount": "500", "currency": "eur", "destination": account}
        error = (await raw.post("/v1/transfers", data=form)).json()["error"]
        assert faults_of(error, STRIPE["objects"]["error"]) == []
        assert error.get("code") in {None, *facts("stripe", "error_codes"), *undocumented}


@pytest.mark.parametrize(
    "broken", [{"amount": True}, {"amount": None}, {"colour": "red"}, {"amount": "500"}], ids=lambda value: str(value)
)
def test_the_check_itself_finds_a_wrong_object(broken: dict[str, Any]) -> None:
    published = {"amount": "integer!"}
    assert faults_of({"amount": 500}, published) == []
    assert faults_of({"amount": 500, **broken}, published) != []
    assert faults_of({}, published) == ["amount is required"]
