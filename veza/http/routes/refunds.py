"""Refunds: asked for by buyers and sellers, decided by sellers and admins, and what became of each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.actors import queue
from veza.domain.orders import MAX_LINES, MAX_QUANTITY, MAX_TOTAL_CENTS
from veza.domain.refunds import (
    Amount,
    Origin,
    Pieces,
    RecoveryStatus,
    Refund,
    RefundStatus,
    Whole,
    Wish,
)
from veza.http.auth import admin_only, asker, by, caller, login_required
from veza.http.document import takes_headers
from veza.http.envelope import Body, Envelope, Out
from veza.http.idempotency import idempotency_key
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.orders import ORDER

REASON_LENGTH = 200
DETAILS_LENGTH = 2000

api = Blueprint("refunds", __name__)


class PiecesBody(Body):
    order_item_id: UUID
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]


class RefundBody(Body):
    """With neither ``items`` nor ``amount_cents`` all that is left; with one of them, that much."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_LENGTH)]
    details: Annotated[str, StringConstraints(strip_whitespace=True, max_length=DETAILS_LENGTH)] = ""
    items: Annotated[list[PiecesBody], Field(min_length=1, max_length=MAX_LINES)] | None = None
    amount_cents: Annotated[int, Field(ge=1, le=MAX_TOTAL_CENTS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> RefundBody:
        if self.items is not None and self.amount_cents is not None:
            raise ValueError("Either `items` or `amount_cents`, not both.")
        if self.items is not None and len({item.order_item_id for item in self.items}) != len(self.items):
            raise ValueError("A line stands in `items` once.")
        return self

    @property
    def wish(self) -> Wish:
        if self.items is not None:
            return Pieces({item.order_item_id: item.quantity for item in self.items})
        return Whole() if self.amount_cents is None else Amount(self.amount_cents)


class DecisionBody(Body):
    """``reason`` is told to the buyer."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=REASON_LENGTH)] = ""


class InitiatedOut(Out):
    message: str


class RefundItemOut(Out):
    """``quantity`` is null where an amount was asked for, not pieces."""

    order_item_id: UUID
    quantity: int | None
    amount_cents: int


class RefundShareOut(Out):
    """What a refund costs its seller, and how it came back from them: withheld from transfers, or reversed.

    ``left_cents`` did not yet, or are ``owed``: then they are taken from what the seller sells next. ``fee_cents`` the
    platform gave back of its fee.
    """

    status: RecoveryStatus
    net_cents: int
    fee_cents: int
    withheld_cents: int
    reversed_cents: int
    left_cents: int


class RefundOut(Out):
    """Amounts are minor units of ``currency``.

    ``requested`` waits for its seller or an admin; ``pending`` is with the payment provider. One that is ``declined``
    with the code ``refunded_otherwise`` was overtaken by another refund of the same lines.
    """

    id: UUID
    order_id: UUID
    status: RefundStatus
    origin: Origin
    reason: str
    details: str
    amount_cents: int
    currency: str
    items: list[RefundItemOut]
    failure_code: str | None
    credit_note_number: str | None
    created_at: datetime
    decided_at: datetime | None
    decision_reason: str
    completed_at: datetime | None


class SellersRefundOut(RefundOut):
    """As its seller sees it: their own lines, and what it costs them. Null until it is decided."""

    share: RefundShareOut | None


class AdminsRefundOut(RefundOut):
    """With those whom it is between."""

    buyer_id: UUID
    seller_ids: list[UUID]
    failure_message: str | None


class SellersRefundsOut(Out):
    refunds: list[SellersRefundOut]
    total: int


class AdminsRefundsOut(Out):
    refunds: list[AdminsRefundOut]
    total: int


class RefundsOut(Out):
    refunds: list[RefundOut]
    total: int


class RefundsQuery(Paging):
    status: RefundStatus | None = None


class AdminsRefundsQuery(RefundsQuery):
    seller_id: UUID | None = None


@api.post(f"{ORDER}/refund")
@login_required
@takes_headers(idempotency_key="Names the request for 24 hours.")
@validate_request(RefundBody)
@validate_response(Envelope[InitiatedOut])
@refuses(
    "forbidden",
    "not_paid",
    "refund_window_over",
    "disputed",
    "nothing_to_refund",
    "exceeds_refundable",
    "already_requested",
    "too_many_refunds",
    "idempotency_key_reused",
)
async def post_refund(order_id: UUID, data: RefundBody) -> Envelope[InitiatedOut]:
    """Have an order, or a part of it, refunded.

    By its buyer for a while, by a seller for their own lines, by an admin. A buyer who keeps something makes a request
    that its seller or an admin decides: of what they downloaded files of, and of an amount that leaves a rest of a
    line. An amount is split over what is left of the lines. An ``Idempotency-Key`` header names the request for 24
    hours: repeating it refunds once.
    """
    await parts().refunds.ask(
        order_id,
        asker(),
        data.wish,
        reason=data.reason,
        details=data.details,
        by=by(),
        now=parts().clock(),
        key=idempotency_key(data, about=order_id),
    )
    queue.ring(parts().refs.refunds)
    return Envelope[InitiatedOut](data=InitiatedOut(message="Refund initiated"))


@api.get(f"{ORDER}/refunds")
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[RefundsOut])
async def get_refunds(order_id: UUID, query_args: Paging) -> Envelope[RefundsOut]:
    """An order's refunds, the oldest first. A seller sees their own part of them."""
    found = await parts().refunds.of_order(order_id, asker())
    return Envelope[RefundsOut](data=RefundsOut(refunds=list(map(_refund, query_args.of(found))), total=len(found)))


@api.get("/sell/refunds")
@login_required
@validate_querystring(RefundsQuery)
@validate_response(Envelope[SellersRefundsOut])
async def get_sellers(query_args: RefundsQuery) -> Envelope[SellersRefundsOut]:
    """The refunds of what the caller sold, their own part of each, the newest first."""
    seller = caller().id
    found, total = await parts().refunds.page(seller, query_args.status, query_args.limit, query_args.offset)
    refunds_ = [SellersRefundOut.of(each, items=_items(each), share=_share(each, seller)) for each in found]
    return Envelope[SellersRefundsOut](data=SellersRefundsOut(refunds=refunds_, total=total))


@api.get("/admin/refunds")
@admin_only
@validate_querystring(AdminsRefundsQuery)
@validate_response(Envelope[AdminsRefundsOut])
async def get_all(query_args: AdminsRefundsQuery) -> Envelope[AdminsRefundsOut]:
    """Everybody's refunds, the newest first."""
    wanted = (query_args.seller_id, query_args.status, query_args.limit, query_args.offset)
    found, total = await parts().refunds.page(*wanted)
    refunds_ = [AdminsRefundOut.of(each, items=_items(each), seller_ids=_sellers(each)) for each in found]
    return Envelope[AdminsRefundsOut](data=AdminsRefundsOut(refunds=refunds_, total=total))


@api.post("/sell/refunds/<uuid:refund_id>/approve")
@login_required
@validate_response(Envelope[RefundOut])
@refuses("forbidden", "not_requested", "disputed", "exceeds_refundable", "not_paid", "nothing_to_refund")
async def approve(refund_id: UUID) -> Envelope[RefundOut]:
    """Have a refund done that a buyer asks for. By the seller of what it is about, or by an admin."""
    refund = await parts().refunds.approve(refund_id, asker(), by())
    queue.ring(parts().refs.refunds)
    return Envelope[RefundOut](data=_refund(refund))


@api.post("/sell/refunds/<uuid:refund_id>/decline")
@login_required
@validate_request(DecisionBody)
@validate_response(Envelope[RefundOut])
@refuses("forbidden", "not_requested")
async def decline(refund_id: UUID, data: DecisionBody) -> Envelope[RefundOut]:
    """Refuse a refund that a buyer asks for. By the seller of what it is about, or by an admin."""
    return Envelope[RefundOut](data=_refund(await parts().refunds.decline(refund_id, asker(), by(), data.reason)))


def _refund(refund: Refund) -> RefundOut:
    return RefundOut.of(refund, items=_items(refund))


def _items(refund: Refund) -> list[RefundItemOut]:
    return [RefundItemOut.of(item) for item in refund.items]


def _share(refund: Refund, seller_id: UUID) -> RefundShareOut | None:
    share = refund.shares.get(seller_id)
    return None if share is None else RefundShareOut.of(share)


def _sellers(refund: Refund) -> list[UUID]:
    return sorted({item.seller_id for item in refund.items})
