"""The gateway and the real stripe package against the sandbox's Stripe: every answer of the table, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from tests.domain.test_attempts import NOW, TRANSFER
from tests.sandbox.running import STRIPE_KEY, Running, running_sandbox
from veza.domain.attempts import (
    Absent,
    Mismatch,
    NoFunds,
    NotOnboarded,
    Outcome,
    Paid,
    Refused,
    StoredError,
    Unauthorized,
    Unclear,
)
from veza.domain.connect import AccountNotMade, AccountState, Balance, ConnectAccount
from veza.domain.errors import Invalid, Unauthenticated, Unavailable
from veza.domain.payouts import Claim
from veza.gateways.stripe import Stripe, verify_event

TIMEOUT = 0.5  # long against a loopback call, short against a test
TRANSFERS = "/v1/transfers"
WISH = ConnectAccount(TRANSFER.seller_id, None, 0, transfers_active=False, details_submitted=False)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_sandbox(tmp_path) as running:
        yield running


@pytest.fixture
async def stripe(sandbox: Running) -> AsyncIterator[Stripe]:
    async with Stripe.open(STRIPE_KEY, base=sandbox.stripe_url, timeout=TIMEOUT, currency="EUR") as gateway:
        yield gateway


@pytest.fixture
async def claim(sandbox: Running) -> Claim:
    return Claim(TRANSFER.id, TRANSFER, await sandbox.stripe_control.account(), NOW)


def with_key(claim: Claim, epoch: int) -> Claim:
    return replace(claim, transfer=replace(claim.transfer, key_epoch=epoch))


async def made(sandbox: Running) -> int:
    """How many transfers the provider has."""
    listed = await sandbox.stripe_client().v1.transfers.list_async({"limit": 100})
    return len(listed.data)


async def test_a_transfer_is_asked_for_with_everything_it_is_found_by(
    sandbox: Running, stripe: Stripe, claim: Claim
) -> None:
    paid = await stripe.transfer(claim)
    assert isinstance(paid, Paid)
    [sent] = await sandbox.stripe_control.requests(method="POST", path=TRANSFERS)
    assert sent["idempotency_key"] == f"{TRANSFER.id}:0"
    assert sent["params"] == {
        "amount": "2699",
        "currency": "eur",
        "destination": claim.destination,
        "transfer_group": str(TRANSFER.id),
        "metadata": {"transfer_id": str(TRANSFER.id), "order_id": str(TRANSFER.order_id)},
    }


async def test_the_same_key_pays_once(sandbox: Running, stripe: Stripe, claim: Claim) -> None:
    assert await stripe.transfer(claim) == await stripe.transfer(claim)
    assert await made(sandbox) == 1


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("drop_before", Unclear),
        ("commit_then_drop", Unclear),
        ("409", Unclear),
        ("429", Unclear),
        ("503", Unclear),
        ("500", Unclear),
        ("500_committed", Unclear),
        ("garbage", Unclear),
        ("hang_before", Unclear),
        ("hang_after", Unclear),
        ("401", Unauthorized),
        ("balance_insufficient", NoFunds),
        ("insufficient_capabilities", NotOnboarded),
        ("account_unknown", Refused),
        ("account_invalid", Refused),
    ],
)
async def test_each_answer_is_the_outcome_it_stands_for(
    sandbox: Running, stripe: Stripe, claim: Claim, fault: str, outcome: type[Outcome]
) -> None:
    await sandbox.stripe_control.fault(fault, path=TRANSFERS, method="POST")
    with trio.fail_after(5):
        assert isinstance(await stripe.transfer(claim), outcome)


@pytest.mark.parametrize("fault", ["drop_before", "commit_then_drop", "409", "429", "503", "garbage", "hang_after"])
async def test_after_what_was_unclear_the_same_key_pays_exactly_once(
    sandbox: Running, stripe: Stripe, claim: Claim, fault: str
) -> None:
    await sandbox.stripe_control.fault(fault, path=TRANSFERS, method="POST")
    assert isinstance(await stripe.transfer(claim), Unclear)
    assert isinstance(await stripe.transfer(claim), Paid)
    assert await made(sandbox) == 1


@pytest.mark.parametrize(("fault", "found"), [("500", Absent), ("500_committed", Paid)])
async def test_a_stored_error_is_known_by_its_replay_and_settled_by_a_look(
    sandbox: Running, stripe: Stripe, claim: Claim, fault: str, found: type[Outcome]
) -> None:
    await sandbox.stripe_control.fault(fault, path=TRANSFERS, method="POST")
    await stripe.transfer(claim)
    assert isinstance(await stripe.transfer(claim), StoredError)
    assert isinstance(await stripe.look(claim), found)


async def test_a_key_that_asked_for_something_else_is_looked_into_rather_than_left(
    stripe: Stripe, claim: Claim
) -> None:
    await stripe.transfer(claim)
    other = replace(claim, transfer=replace(TRANSFER, amount_cents=1))
    assert isinstance(await stripe.transfer(other), StoredError)
    assert isinstance(await stripe.look(other), Mismatch)


async def test_missing_funds_are_over_with_a_new_key_once_there_are_funds(
    sandbox: Running, stripe: Stripe, claim: Claim
) -> None:
    await sandbox.stripe_control.call("POST", "balance", {"available": 0})
    assert isinstance(await stripe.transfer(claim), NoFunds)
    await sandbox.stripe_control.call("POST", "balance", {"available": 10_000})
    assert isinstance(await stripe.transfer(claim), NoFunds), "the refusal is stored under the old key"
    assert isinstance(await stripe.transfer(with_key(claim, 1)), Paid)


async def test_no_account_is_no_call(sandbox: Running, stripe: Stripe, claim: Claim) -> None:
    assert isinstance(await stripe.transfer(replace(claim, destination=None)), NotOnboarded)
    assert await sandbox.stripe_control.requests(path=TRANSFERS) == []


async def test_a_look_adopts_only_what_agrees_in_everything(sandbox: Running, stripe: Stripe, claim: Claim) -> None:
    other = await sandbox.stripe_control.account()
    assert await stripe.look(claim) == Absent()
    paid = await stripe.transfer(claim)
    assert await stripe.look(claim) == paid
    assert isinstance(await stripe.look(replace(claim, destination=other)), Mismatch)
    for wrong in (replace(TRANSFER, amount_cents=2700), replace(TRANSFER, currency="USD")):
        assert isinstance(await stripe.look(replace(claim, transfer=wrong)), Mismatch)


@pytest.mark.parametrize(
    ("fault", "outcome"), [("503", Unclear), ("429", Unclear), ("hang_before", Unclear), ("401", Unauthorized)]
)
async def test_a_look_that_is_not_answered_finds_nothing_out(
    sandbox: Running, stripe: Stripe, claim: Claim, fault: str, outcome: type[Outcome]
) -> None:
    await sandbox.stripe_control.fault(fault, method="GET", path=TRANSFERS)
    assert isinstance(await stripe.look(claim), outcome)


async def test_a_listing_has_all_its_pages(stripe: Stripe, claim: Claim) -> None:
    for epoch in range(101):
        await stripe.transfer(with_key(claim, epoch))
    assert claim.destination is not None
    listed = await stripe.transfers_to(claim.destination)
    assert len({each.external_ref for each in listed}) == 101
    assert {(each.amount_cents, each.currency, each.transfer_id) for each in listed} == {
        (2699, "EUR", str(TRANSFER.id))
    }


async def test_an_account_is_made_once_for_a_user(stripe: Stripe) -> None:
    first = await stripe.open_account(WISH)
    assert await stripe.open_account(WISH) == first
    assert await stripe.open_account(replace(WISH, key_epoch=1)) != first
    assert await stripe.account(first) == AccountState(transfers_active=False, details_submitted=False)


async def test_an_error_stored_under_the_accounts_key_is_told_from_one_that_passes(
    sandbox: Running, stripe: Stripe
) -> None:
    await sandbox.stripe_control.fault("500", method="POST", path="/v1/accounts")
    with pytest.raises(Unavailable):
        await stripe.open_account(WISH)
    with pytest.raises(AccountNotMade):
        await stripe.open_account(WISH)
    assert await stripe.open_account(replace(WISH, key_epoch=1))


async def test_an_account_is_as_active_as_stripe_says(sandbox: Running, stripe: Stripe) -> None:
    account = await sandbox.stripe_control.account()
    assert (await stripe.account(account)).transfers_active
    await sandbox.stripe_control.call("POST", f"accounts/{account}", {"transfers": "pending"})
    assert await stripe.account(account) == AccountState(transfers_active=False, details_submitted=True)
    await sandbox.stripe_control.call("POST", f"accounts/{account}", {"transfers": "active", "revoked": True})
    assert not (await stripe.account(account)).transfers_active
    await sandbox.stripe_control.fault("503", path="/v1/accounts/:id")
    with pytest.raises(Unavailable):
        await stripe.account(account)


async def test_a_link_leads_to_the_onboarding_and_back(sandbox: Running, stripe: Stripe) -> None:
    account = await sandbox.stripe_control.account(onboarded=False)
    link = await stripe.onboarding_link(account, return_url="https://v.example/back", refresh_url="https://v.example/r")
    assert link.startswith(sandbox.stripe_url)
    assert link != await stripe.onboarding_link(
        account, return_url="https://v.example", refresh_url="https://v.example"
    )


async def test_a_balance_is_the_platforms_currency_of_that_account(
    sandbox: Running, stripe: Stripe, claim: Claim
) -> None:
    assert claim.destination is not None
    for currency, available, pending in (("eur", 12500, 3200), ("usd", 7, 9)):
        balance = {"currency": currency, "available": available, "pending": pending, "account": claim.destination}
        await sandbox.stripe_control.call("POST", "balance", balance)
    assert await stripe.balance(claim.destination) == Balance(12500, 3200)


async def test_its_connections_are_closed_with_it(sandbox: Running, claim: Claim) -> None:
    async with Stripe.open(STRIPE_KEY, base=sandbox.stripe_url, timeout=TIMEOUT, currency="EUR") as gateway:
        await gateway.transfer(claim)
    with pytest.raises(RuntimeError, match="closed"):
        await gateway.transfer(claim)


# -- webhooks ----------------------------------------------------------------------------------------------------------

SECRET = "whsec_1"
EVENT = b'{"id": "evt_1", "type": "account.updated", "account": "acct_1", "data": {"object": {"id": "acct_1"}}}'


def signed(body: bytes, secret: str = SECRET, age: timedelta = timedelta(0)) -> str:
    at = int(time.time() - age.total_seconds())
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def test_a_webhook_signed_by_any_of_our_secrets_is_read() -> None:
    event = verify_event(EVENT, signed(EVENT, "whsec_2"), ["whsec_1", "whsec_2"])
    assert (event.id, event.type, event.account, event.subject) == ("evt_1", "account.updated", "acct_1", "acct_1")


@pytest.mark.parametrize("signature", [None, "", "t=1,v1=", "no such thing", "t=1,v1=\xff"])
def test_a_webhook_without_a_signature_is_refused(signature: str | None) -> None:
    with pytest.raises(Unauthenticated):
        verify_event(EVENT, signature, ["whsec_1"])


def test_a_forged_or_stale_webhook_is_refused() -> None:
    for body, signature in (
        (EVENT, signed(EVENT, "whsec_other")),
        (EVENT, signed(EVENT, age=timedelta(seconds=301))),
        (EVENT + b" ", signed(EVENT)),
        (b"\xff", signed(b"\xff")),
    ):
        with pytest.raises(Unauthenticated):
            verify_event(body, signature, ["whsec_1"])


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": "evt_1", "type": "x", "data": {"object": []}}', b"nope"])
def test_a_signed_webhook_that_is_no_event_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        verify_event(body, signed(body), ["whsec_1"])
