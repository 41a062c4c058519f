"""Stripe's events: who may send them, and what they set going."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Sequence
from uuid import uuid4

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.shop import Shop, data

WEBHOOK = "/webhooks/stripe"


def event(kind: str, subject: str = "", **more: object) -> bytes:
    body = {"id": f"evt_{uuid4().hex}", "object": "event", "type": kind, "data": {"object": {"id": subject}}, **more}
    return json.dumps(body).encode()


async def deliver(house: House, body: bytes, *, secret: str | None = None, age: int = 0) -> httpx.Response:
    """Sign and send: docs.stripe.com/webhooks/signature."""
    key = secret or house.sandbox.config.stripe_webhook_secret
    sent_at = int(time.time()) - age
    signature = hmac.new(key.encode(), f"{sent_at}.".encode() + body, "sha256").hexdigest()
    headers = {"Content-Type": "application/json", "Stripe-Signature": f"t={sent_at},v1={signature}"}
    return await house.post(WEBHOOK, content=body, headers=headers)


async def account_of(house: House, seller: Account) -> str:
    """An account that the provider calls active while we have not looked at it yet."""
    account = await house.sandbox.stripe_control.account()
    run = Shop(house).run
    run("INSERT INTO connect_accounts (user_id, account_id) VALUES (%s, %s)", seller.id, account)
    return account


async def test_an_updated_account_is_fetched_and_its_sellers_shares_are_paid(house: House) -> None:
    shop, ana, bo = Shop(house), await house.sign_up("ana"), await house.sign_up("ben")
    with trio.fail_after(20):
        await shop.bought(bo, await shop.on_sale(ana))
        account = await account_of(house, ana)
        assert data(await deliver(house, event("account.updated", account, account=account))) == {"received": True}
        await house.until("/sell/transfers", ana, lambda seen: seen["transfers"][0]["status"] == "completed")


async def test_funds_that_became_available_release_what_waited_for_them(house: House) -> None:
    shop, ana, bo = Shop(house), await house.sign_up("ana"), await house.sign_up("ben")
    account = await account_of(house, ana)
    with trio.fail_after(20):
        await deliver(house, event("account.updated", account, account=account))
        await house.until("/sell/connect/status", ana, lambda seen: seen["transfers_active"])
        await house.sandbox.stripe_control.fault("balance_insufficient")
        await shop.bought(bo, await shop.on_sale(ana))
        held = await house.until("/sell/transfers", ana, lambda seen: seen["transfers"][0]["status"] == "held")
        assert held["transfers"][0]["hold_reason"] == "awaiting_funds"
        await deliver(house, event("balance.available"))
        await house.until("/sell/transfers", ana, lambda seen: seen["transfers"][0]["status"] == "completed")


async def test_a_repeated_event_is_answered_alike_and_noted_once(house: House) -> None:
    body = event("account.updated", "acct_unknown")
    for _ in range(3):
        assert data(await deliver(house, body)) == {"received": True}
    assert Shop(house).run("SELECT event_type, subject FROM provider_events") == [("account.updated", "acct_unknown")]


async def test_an_event_of_a_kind_we_do_not_know_is_taken(house: House) -> None:
    assert (await deliver(house, event("invoice.created", "in_1"))).status_code == 200


async def test_forged_stale_and_unsigned_events_are_refused_and_change_nothing(house: House) -> None:
    ana = await house.sign_up("ana")
    account = await account_of(house, ana)
    body = event("account.updated", account, account=account)
    answers = [
        await deliver(house, body, secret="whsec_another"),
        await deliver(house, body, age=301),
        await house.post(WEBHOOK, content=body),
        await house.post(WEBHOOK, content=body, headers={"Stripe-Signature": "t=1,v1="}),
        await house.post(WEBHOOK, content=body, headers={"Stripe-Signature": "x"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert Shop(house).run("SELECT count(*) FROM provider_events") == [(0,)]
    assert Shop(house).run("SELECT check_due_at FROM connect_accounts") == [(None,)]


NO_EVENTS: Sequence[bytes] = [b"", b"[]", b"{}", b"null", b'{"id": "evt_1", "type": "x"}', b"\xff"]


async def test_what_is_signed_and_no_event_is_refused(house: House, subtests: pytest.Subtests) -> None:
    for body in NO_EVENTS:
        with subtests.test(repr(body)):
            answer = await deliver(house, body)
            assert answer.status_code in (400, 401)
            assert Shop(house).run("SELECT count(*) FROM provider_events") == [(0,)]


ODD: Sequence[dict[str, object]] = [
    {"id": {"a": 1}},
    {"id": 7},
    {"id": "a\0"},
    {"type": ["x"]},
    {"account": {}},
    {"data": {"object": {"id": 1}}},
]


async def test_an_event_whose_names_are_none_is_refused(house: House, subtests: pytest.Subtests) -> None:
    for odd in ODD:
        with subtests.test(repr(odd)):
            body = json.loads(event("account.updated", "acct_1")) | odd
            answer = await deliver(house, json.dumps(body).encode())
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
            assert Shop(house).run("SELECT count(*) FROM provider_events") == [(0,)]
