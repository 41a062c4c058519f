"""Stripe Connect: transfers and what each answer means, accounts, onboarding links, balances, webhooks.

The queue owns retries, timeouts and idempotency keys, so the client's own are switched off. An answer is classified
here and decided upon in ``domain/attempts``. Source: docs.stripe.com/api (errors, idempotent requests, transfers,
accounts, account links, balance) and docs.stripe.com/webhooks.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

import stripe
import trio

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
from veza.domain.connect import AccountNotMade, AccountState, Balance, ConnectAccount, ProviderEvent
from veza.domain.errors import Invalid, Unauthenticated, Unavailable
from veza.domain.ledger import ListedTransfer
from veza.domain.payouts import Claim
from veza.domain.recovery import ReversalClaim
from veza.gateways.stripe_http import StripeHttp

stripe.enable_telemetry = False  # it names this machine to Stripe, and keeps a file in the home directory for it

PAGE: Final = 100  # the most Stripe lists at once
TOLERANCE_SECONDS: Final = 300  # how old a webhook's signature may be; Stripe's own figure

# Answers that say no more than "not now": nothing was begun.
NOT_NOW: Final = frozenset({409, 429})
# A 403 about the one account it names; any other says that our key may not do what we do.
NO_ACCESS: Final = "account_invalid"
NO_FUNDS: Final = frozenset({"balance_insufficient", "insufficient_funds"})
NOT_ON_BOARD: Final = frozenset({"insufficient_capabilities_for_transfer", "transfers_not_allowed"})


class Stripe:
    """One platform's Stripe. ``timeout`` bounds each request as a whole, in seconds; ``currency`` is the platform's."""

    def __init__(self, client: stripe.StripeClient, *, timeout: float, currency: str) -> None:
        self._client = client
        self._timeout = timeout
        self._currency = currency

    @classmethod
    @asynccontextmanager
    async def open(cls, secret_key: str, *, base: str, timeout: float, currency: str) -> AsyncIterator[Stripe]:
        """A client with its own connections, closed on leaving."""
        http = StripeHttp(timeout)
        client = stripe.StripeClient(secret_key, base_addresses={"api": base}, http_client=http, max_network_retries=0)
        try:
            yield cls(client, timeout=timeout, currency=currency)
        finally:
            with trio.move_on_after(1, shield=True):  # closing says goodbye to idle connections: a second is ample
                await http.close_async()

    # -- transfers --------------------------------------------------------------------------------------------------

    async def transfer(self, claim: Claim) -> Outcome:
        """Ask for a transfer under its key. Whatever Stripe or the network does is an outcome."""
        transfer, destination = claim.transfer, claim.destination
        if destination is None:
            return NotOnboarded("the seller has no account to transfer to")
        try:
            with trio.fail_after(self._timeout):
                made = await self._client.v1.transfers.create_async(
                    {
                        "amount": transfer.payable_cents,
                        "currency": transfer.currency.lower(),
                        "destination": destination,
                        "transfer_group": str(transfer.id),
                        "metadata": {"transfer_id": str(transfer.id), "order_id": str(transfer.order_id)},
                    },
                    {"idempotency_key": transfer.idempotency_key},
                )
        except trio.TooSlowError:
            return Unclear("timeout", f"no answer within {self._timeout:g} s")
        except stripe.StripeError as error:
            return classify(error)
        return Paid(made.id) if _agrees(_listed(made), claim) else Mismatch(made.id)

    async def look(self, claim: Claim) -> Outcome:
        """List what Stripe has of a transfer, and adopt what agrees with it."""
        try:
            found = await self._list({"transfer_group": str(claim.transfer.id)})
        except trio.TooSlowError:
            return Unclear("timeout", f"no answer within {self._timeout:g} s")
        except stripe.StripeError as error:
            # A refused listing says nothing of the transfer, whatever its status.
            outcome = classify(error)
            return outcome if isinstance(outcome, Unauthorized) else Unclear(_code(error), _message(error))
        named = [each for each in found if each.transfer_id == str(claim.transfer.id)]
        agreeing = [each for each in named if _agrees(each, claim)]
        if agreeing:
            return Paid(agreeing[-1].external_ref)  # the oldest: a second one is an error the ledger's check will find
        return Mismatch(named[0].external_ref) if named else Absent()

    async def transfers_to(self, destination: str) -> Sequence[ListedTransfer]:
        """All transfers to an account, newest first. Raises Unavailable."""
        async with self._available():
            return await self._list({"destination": destination})

    # -- reversals --------------------------------------------------------------------------------------------------

    async def reverse(self, claim: ReversalClaim) -> Outcome:
        """Ask for what a transfer brought back, under the reversal's own key. As `transfer`."""
        reversal = claim.reversal
        try:
            with trio.fail_after(self._timeout):
                made = await self._client.v1.transfers.reversals.create_async(
                    reversal.transfer_ref,
                    {
                        "amount": reversal.amount_cents,
                        "metadata": {"share_id": str(reversal.share_id), "order_id": str(reversal.order_id)},
                    },
                    {"idempotency_key": reversal.idempotency_key},
                )
        except trio.TooSlowError:
            return Unclear("timeout", f"no answer within {self._timeout:g} s")
        except stripe.StripeError as error:
            return classify(error)
        return Paid(made.id) if made.amount == reversal.amount_cents else Mismatch(made.id)

    async def look_for_reversal(self, claim: ReversalClaim) -> Outcome:
        """List the reversals of a transfer, and adopt the one that is ours."""
        reversal = claim.reversal
        try:
            found = await self._list_reversals(reversal.transfer_ref)
        except trio.TooSlowError:
            return Unclear("timeout", f"no answer within {self._timeout:g} s")
        except stripe.StripeError as error:
            outcome = classify(error)
            return outcome if isinstance(outcome, Unauthorized) else Unclear(_code(error), _message(error))
        own = [each for each in found if getattr(each.metadata, "share_id", None) == str(reversal.share_id)]
        agreeing = [each for each in own if each.amount == reversal.amount_cents]
        if agreeing:
            return Paid(agreeing[-1].id)
        return Mismatch(own[0].id) if own else Absent()

    async def _list_reversals(self, transfer_ref: str) -> list[stripe.TransferReversal]:
        """Every page of a transfer's reversals, each within the timeout."""
        found: list[stripe.TransferReversal] = []
        while True:
            query: stripe.params.TransferReversalListParams = {"limit": PAGE}
            if found:
                query["starting_after"] = found[-1].id
            with trio.fail_after(self._timeout):
                page = await self._client.v1.transfers.reversals.list_async(transfer_ref, query)
            found += page.data
            if not page.has_more or not page.data:
                return found

    async def _list(self, params: dict[str, str]) -> list[ListedTransfer]:
        """Every page of a listing, each within the timeout."""
        found: list[ListedTransfer] = []
        after: dict[str, str] = {}
        while True:
            query = cast("stripe.params.TransferListParams", {"limit": PAGE, **params, **after})
            with trio.fail_after(self._timeout):
                page = await self._client.v1.transfers.list_async(query)
            found += map(_listed, page.data)
            if not page.has_more or not page.data:
                return found
            after = {"starting_after": page.data[-1].id}

    # -- accounts ---------------------------------------------------------------------------------------------------

    async def open_account(self, wish: ConnectAccount) -> str:
        """The id of a user's account, made unless its key was used before.

        What is sent depends on nothing but the user, or Stripe would refuse the key the second time. Raises
        Unavailable, and AccountNotMade when this key will never lead to an account.
        """
        try:
            async with self._available():
                account = await self._client.v1.accounts.create_async(
                    {
                        "type": "express",
                        "capabilities": {"transfers": {"requested": True}},
                        "metadata": {"user_id": str(wish.user_id)},
                    },
                    {"idempotency_key": wish.idempotency_key},
                )
        except Unavailable as away:
            if isinstance(away.__cause__, stripe.StripeError) and isinstance(
                classify(away.__cause__), StoredError | Refused
            ):
                raise AccountNotMade(str(away)) from away
            raise
        return account.id

    async def account(self, account_id: str) -> AccountState:
        """What Stripe says of an account now; one that is gone, or ours no longer, can take nothing.

        Raises Unavailable.
        """
        try:
            async with self._available():
                account = await self._client.v1.accounts.retrieve_async(account_id)
        except Unavailable as away:
            if isinstance(away.__cause__, stripe.StripeError) and away.__cause__.http_status in (403, 404):
                return AccountState(transfers_active=False, details_submitted=False)
            raise
        active = getattr(account.capabilities, "transfers", None) == "active"
        return AccountState(transfers_active=active, details_submitted=bool(account.details_submitted))

    async def onboarding_link(self, account_id: str, *, return_url: str, refresh_url: str) -> str:
        """A link for the seller's browser. It works once and for minutes only, so it is never kept.

        Raises Unavailable.
        """
        async with self._available():
            link = await self._client.v1.account_links.create_async(
                {
                    "account": account_id,
                    "type": "account_onboarding",
                    "return_url": return_url,
                    "refresh_url": refresh_url,
                }
            )
        return link.url

    async def balance(self, account_id: str) -> Balance:
        """An account's balance in the platform's currency. Raises Unavailable."""
        async with self._available():
            balance = await self._client.v1.balance.retrieve_async(options={"stripe_account": account_id})
        ours = self._currency.lower()
        return Balance(
            available=sum(each.amount for each in balance.available if each.currency == ours),
            pending=sum(each.amount for each in balance.pending if each.currency == ours),
        )

    @asynccontextmanager
    async def _available(self) -> AsyncIterator[None]:
        """Turns whatever goes wrong at Stripe into Unavailable, the error itself as its cause."""
        try:
            with trio.fail_after(self._timeout):
                yield
        except (stripe.StripeError, trio.TooSlowError) as error:
            raise Unavailable("The payout provider can't be reached right now.", code="provider_unavailable") from error


def classify(error: stripe.StripeError) -> Outcome:
    """What an error says of the request it answers (the table of the payout design)."""
    status, code, message = error.http_status, _code(error), _message(error)
    if status is None or error.error is None:
        return Unclear(code, message)  # the network, or something on the way that isn't Stripe
    if status == 401 or (status == 403 and code != NO_ACCESS):
        return Unauthorized(message)
    if isinstance(error, stripe.IdempotencyError):
        return StoredError("idempotency_error", message)  # our key asked for something else once, with what end?
    if status >= 500 and _replayed(error):
        return StoredError(code, message)
    if status in NOT_NOW or not 400 <= status < 500:
        return Unclear(code, message)
    if code in NO_FUNDS:
        return NoFunds(message, _replayed(error))
    if code in NOT_ON_BOARD:
        return NotOnboarded(message, _replayed(error))
    return Refused(code, message, _replayed(error))


def verify_event(body: bytes, signature: str | None, secrets: Sequence[str]) -> ProviderEvent:
    """A webhook's event, if any of the secrets signed it lately. Raises Unauthenticated, and Invalid if it is none."""
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE_SECONDS)
        except (stripe.SignatureVerificationError, UnicodeDecodeError, TypeError):  # the last: a header not in ASCII
            continue
        return _event(body)
    raise Unauthenticated("The signature does not match the body.", code="bad_signature")


def _event(body: bytes) -> ProviderEvent:
    names: tuple[object, ...] = ()
    try:
        event = json.loads(body)
        names = event["id"], event["type"], event.get("account"), event["data"]["object"].get("id")
    except (ValueError, LookupError, AttributeError, TypeError):
        pass  # told below
    match names:
        case (str(event_id), str(kind), str() | None as account, str() | None as subject):
            if "\0" not in f"{event_id}{kind}{account}{subject}":  # which PostgreSQL can't store
                return ProviderEvent(event_id, kind, account, subject)
    raise Invalid("This is not an event.")


def _agrees(listed: ListedTransfer, claim: Claim) -> bool:
    ours = claim.transfer
    return (listed.amount_cents, listed.currency, listed.destination, listed.transfer_id) == (
        ours.payable_cents,
        ours.currency,
        claim.destination,
        str(ours.id),
    )


def _listed(transfer: stripe.Transfer) -> ListedTransfer:
    destination = transfer.destination
    return ListedTransfer(
        external_ref=transfer.id,
        transfer_id=getattr(transfer.metadata, "transfer_id", None),
        destination=destination if isinstance(destination, str) else "" if destination is None else destination.id,
        amount_cents=transfer.amount,
        reversed_cents=transfer.amount_reversed,
        currency=transfer.currency.upper(),
    )


def _replayed(error: stripe.StripeError) -> bool:
    return {name.lower(): text for name, text in (error.headers or {}).items()}.get("idempotent-replayed") == "true"


def _code(error: stripe.StripeError) -> str:
    """Stripe's code, which its client leaves out of ``error.code`` for some statuses; else the status itself."""
    named = error.error.code if error.error is not None else None
    if error.http_status is None:
        return named or error.code or "network"
    return named or error.code or (f"http_{error.http_status}" if error.http_status >= 300 else "unreadable_answer")


def _message(error: stripe.StripeError) -> str:
    told = error.user_message or type(error).__name__
    return told[:500].replace("\0", "")  # a garbled answer may carry a whole page, and PostgreSQL takes no NUL
