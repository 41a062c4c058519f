"""Connected accounts and the single-use, short-lived links that onboard them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import stripe

from tests.sandbox.running import STRIPE_WARNING, Running, pay_out, receiving, running_sandbox

pytestmark = pytest.mark.filterwarnings(STRIPE_WARNING)

REFRESH, RETURN = "http://127.0.0.1:9/refresh?state=a", "http://127.0.0.1:9/return?state=a"


async def new_account(client: stripe.StripeClient, **capabilities: bool) -> stripe.Account:
    wish = {name: {"requested": requested} for name, requested in capabilities.items()}
    return await client.v1.accounts.create_async(
        {
            "type": "express",
            "country": "DE",
            "email": "seller@example.com",
            "capabilities": {"transfers": {"requested": True}} if wish else {},
            "metadata": {"user_id": "u1"},
        }
    )


async def new_link(client: stripe.StripeClient, account: str) -> stripe.AccountLink:
    return await client.v1.account_links.create_async(
        {"account": account, "refresh_url": REFRESH, "return_url": RETURN, "type": "account_onboarding"}
    )


async def test_an_account_is_not_payable_until_its_link_is_completed(sandbox: Running) -> None:
    client = sandbox.stripe_client()
    account = await new_account(client, transfers=True)
    assert account.capabilities is not None
    assert (account.capabilities.transfers, account.details_submitted) == ("inactive", False)
    link = await new_link(client, account.id)
    assert link.expires_at == link.created + sandbox.config.account_link_seconds
    async with httpx.AsyncClient() as browser:
        page = await browser.get(link.url)
        assert (page.status_code, account.id in page.text) == (200, True)
        done = await browser.post(link.url)
    assert (done.status_code, done.headers["location"]) == (303, RETURN)
    ready = await client.v1.accounts.retrieve_async(account.id)
    assert ready.capabilities is not None
    assert (ready.capabilities.transfers, ready.details_submitted, ready.payouts_enabled) == ("active", True, True)
    assert ready.default_currency == "eur"
    assert (await pay_out(client, account.id)).destination == account.id


async def test_a_used_link_leads_back_to_the_refresh_url(sandbox: Running) -> None:
    client = sandbox.stripe_client()
    link = await new_link(client, (await new_account(client, transfers=True)).id)
    async with httpx.AsyncClient() as browser:
        await browser.post(link.url)
        for again in (await browser.get(link.url), await browser.post(link.url)):
            assert (again.status_code, again.headers["location"]) == (303, REFRESH)
        assert (await browser.get(link.url + "x")).status_code == 404


async def test_an_expired_link_onboards_nobody(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path, account_link_seconds=0) as sandbox:
        client = sandbox.stripe_client()
        account = await new_account(client, transfers=True)
        link = await new_link(client, account.id)
        async with httpx.AsyncClient() as browser:
            late = await browser.post(link.url)
        assert (late.status_code, late.headers["location"]) == (303, REFRESH)
        still = await client.v1.accounts.retrieve_async(account.id)
        assert still.details_submitted is False


async def test_a_capability_nobody_requested_never_becomes_active(sandbox: Running) -> None:
    client = sandbox.stripe_client()
    account = await new_account(client)
    link = await new_link(client, account.id)
    async with httpx.AsyncClient() as browser:
        await browser.post(link.url)
    with pytest.raises(stripe.InvalidRequestError):
        await pay_out(client, account.id)


async def test_a_link_for_nobody_is_refused(sandbox: Running) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await new_link(sandbox.stripe_client(), "acct_nobody")
    assert (refused.value.code, refused.value.param) == ("resource_missing", "account")


async def test_completing_onboarding_sends_account_updated(sandbox: Running) -> None:
    async with receiving() as receiver:
        await sandbox.stripe_control.call("POST", "webhooks", {"url": receiver.url})
        client = sandbox.stripe_client()
        account = await new_account(client, transfers=True)
        link = await new_link(client, account.id)
        async with httpx.AsyncClient() as browser:
            await browser.post(link.url)
        (got,) = await receiver.wait_for(1)
    event = stripe.Webhook.construct_event(
        got.body, got.headers["stripe-signature"], sandbox.config.stripe_webhook_secret
    )
    assert (event.type, event.account) == ("account.updated", account.id)
    assert event.data.object["capabilities"]["transfers"] == "active"
