"""Selling: where a seller's money is, and the account at the payout provider that it goes to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from quart import Blueprint, Response
from quart_schema import document_response, validate_querystring, validate_response

from veza.actors import onboarding
from veza.domain.connect import Balance, ConnectAccount
from veza.domain.errors import Unavailable
from veza.domain.payouts import HoldReason, Transfer, TransferStatus
from veza.http.auth import caller, login_required
from veza.http.deadline import within
from veza.http.envelope import Elsewhere, Envelope, Out, Query
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.store.payouts import Wanted

PROVIDER_SECONDS = 25.0  # two calls of the payout provider at their usual pace, or one at its timeout

api = Blueprint("sell", __name__)


class BalanceOut(Out):
    """In minor units of ``currency``.

    ``available`` and ``pending`` are at the payout provider, nothing without an account. On their way there are
    ``due``, the next of it at ``due_at``, and ``held``, of which each transfer tells the reason. ``owed`` is by the
    seller, for refunds of what they had been paid: it is taken from what they sell next.
    """

    connected: bool
    available: int
    pending: int
    due: int
    due_at: datetime | None
    held: int
    owed: int
    currency: str


class WithholdingOut(Out):
    """``refund`` of the transfer's own order, or a ``debt`` that the refund of another order left."""

    amount_cents: int
    reason: Literal["refund", "debt"]
    refund_id: UUID
    order_id: UUID


class TransferRowOut(Out):
    """``failed`` with ``next_retry_at`` will be tried again; without, it waits for an admin.

    Amounts are minor units of ``currency``. Of ``amount_cents``, ``withheld_cents`` are not sent: they were refunded
    before, or owed by the seller. ``reversed_cents`` came back after a refund.
    """

    id: UUID
    order_id: UUID
    amount_cents: int
    withheld_cents: int
    reversed_cents: int
    platform_fee_cents: int
    currency: str
    status: TransferStatus
    hold_reason: HoldReason | None
    failure_code: str | None
    retry_count: int
    next_retry_at: datetime | None
    created_at: datetime
    completed_at: datetime | None


class SellerTransferOut(TransferRowOut):
    """``withholdings`` add up to ``withheld_cents``: for which refund each part of it was not sent."""

    withholdings: list[WithholdingOut]


class SellerTransfersOut(Out):
    transfers: list[SellerTransferOut]
    total: int


class SellerTransfersQuery(Paging):
    status: TransferStatus | None = None


class OnboardOut(Out):
    onboarding_url: str


class ConnectOut(Out):
    """``transfers_active``: payouts can arrive. ``details_submitted``: the seller answered what the provider asks."""

    connected: bool
    transfers_active: bool
    details_submitted: bool


class StateQuery(Query):
    state: str


# -- money -------------------------------------------------------------------------------------------------------------


@api.get("/sell/balance")
@within(PROVIDER_SECONDS)
@login_required
@validate_response(Envelope[BalanceOut])
@refuses("provider_unavailable")
async def get_balance() -> Envelope[BalanceOut]:
    """The caller's balance at the payout provider, and what is on its way there."""
    account = await parts().connect.find(caller().id)
    account_id = account and account.account_id
    balance = await parts().stripe.balance(account_id) if account_id else Balance(0, 0)
    waiting = await parts().payouts.waiting(caller().id)
    return Envelope[BalanceOut](
        data=BalanceOut(
            connected=account_id is not None,
            available=balance.available,
            pending=balance.pending,
            due=waiting.due,
            due_at=waiting.due_at,
            held=waiting.held,
            owed=waiting.owed,
            currency=parts().settings.currency,
        )
    )


@api.get("/sell/transfers")
@login_required
@validate_querystring(SellerTransfersQuery)
@validate_response(Envelope[SellerTransfersOut])
async def get_transfers(query_args: SellerTransfersQuery) -> Envelope[SellerTransfersOut]:
    """The caller's shares of what they sold, the newest first. Each with where it stands, and why."""
    wanted = Wanted(seller_id=caller().id, status=query_args.status)
    found, total = await parts().payouts.list(wanted, query_args.limit, query_args.offset)
    transfers = await shown(SellerTransferOut, found)
    return Envelope[SellerTransfersOut](data=SellerTransfersOut(transfers=transfers, total=total))


T = TypeVar("T", bound=SellerTransferOut)


async def shown(kind: type[T], transfers: Sequence[Transfer]) -> list[T]:
    """Transfers with what was withheld of them."""
    taken = await parts().debts.withholdings([each.id for each in transfers])
    return [kind.of(each, withholdings=[WithholdingOut.of(part) for part in taken[each.id]]) for each in transfers]


# -- the account -------------------------------------------------------------------------------------------------------


@api.post("/sell/connect/onboard")
@within(PROVIDER_SECONDS)
@login_required
@validate_response(Envelope[OnboardOut])
@refuses("provider_unavailable", "provider_refused", "payouts_not_configured")
async def onboard() -> Envelope[OnboardOut]:
    """Get a link to the payout provider's own pages, to be paid. It works once, and soon expires."""
    return Envelope[OnboardOut](data=OnboardOut(onboarding_url=await _link(caller().id)))


@api.get("/sell/connect/status")
@login_required
@validate_response(Envelope[ConnectOut])
async def get_status() -> Envelope[ConnectOut]:
    """Whether the caller can be paid."""
    return Envelope[ConnectOut](data=_connect(await parts().connect.find(caller().id)))


@api.get("/sell/connect/return")
@validate_querystring(StateQuery)
@validate_response(Envelope[ConnectOut])
@refuses("invalid_state", "state_expired")
async def come_back(query_args: StateQuery) -> Envelope[ConnectOut]:
    """Come back from the payout provider's pages.

    The account is fetched now rather than with an event. What is answered may be as it was before;
    `/sell/connect/status` follows.
    """
    user_id = parts().selling.states.read(query_args.state)
    await parts().connect.check_soon(user_id)
    onboarding.ring(parts().refs.onboarding)
    return Envelope[ConnectOut](data=_connect(await parts().connect.find(user_id)))


@api.get("/sell/connect/refresh")
@within(PROVIDER_SECONDS)
@validate_querystring(StateQuery)
@document_response(Elsewhere, 303)
@refuses("invalid_state", "state_expired", "provider_unavailable", "provider_refused", "payouts_not_configured")
async def go_again(query_args: StateQuery) -> Response:
    """Go back to the payout provider's pages by a fresh link. The one before was used up or over."""
    link = await _link(parts().selling.states.read(query_args.state))
    return Response("", 303, headers={"Location": link, "Cache-Control": "no-store"})


def _connect(account: ConnectAccount | None) -> ConnectOut:
    if account is None or account.account_id is None:
        return ConnectOut(connected=False, transfers_active=False, details_submitted=False)
    return ConnectOut.of(account, connected=True)


async def _link(user_id: UUID) -> str:
    if not parts().selling.configured:
        raise Unavailable("Payouts are not set up here.", code="payouts_not_configured")
    account_id = await onboarding.open_account(parts().refs.onboarding, user_id)
    query = urlencode({"state": parts().selling.states.sign(user_id)})
    pages = f"{parts().settings.base_url}/api/v1/sell/connect"
    return await parts().stripe.onboarding_link(
        account_id, return_url=f"{pages}/return?{query}", refresh_url=f"{pages}/refresh?{query}"
    )
