"""Disputes, as admins see them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from quart import Blueprint
from quart_schema import validate_querystring, validate_response

from veza.domain.disputes import DisputeState
from veza.http.auth import admin_only
from veza.http.envelope import Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts

api = Blueprint("disputes", __name__)


class DisputeOut(Out):
    """Amounts are minor units of ``currency``. ``status`` is the payment provider's own word.

    ``taken_cents`` were deducted for a lost one: less than its amount where a refund had given back the rest.
    """

    id: str
    order_id: UUID
    buyer_id: UUID
    payment_id: str
    state: DisputeState
    status: str | None
    amount_cents: int | None
    taken_cents: int
    currency: str
    created_at: datetime
    closed_at: datetime | None


class DisputesOut(Out):
    disputes: list[DisputeOut]
    total: int


class DisputesQuery(Paging):
    state: DisputeState | None = None


@api.get("/admin/disputes")
@admin_only
@validate_querystring(DisputesQuery)
@validate_response(Envelope[DisputesOut])
async def get_disputes(query_args: DisputesQuery) -> Envelope[DisputesOut]:
    """The payments that buyers' banks dispute or disputed, the newest first."""
    found, total = await parts().disputes.page(query_args.state, query_args.limit, query_args.offset)
    return Envelope[DisputesOut](data=DisputesOut(disputes=list(map(DisputeOut.of, found)), total=total))
