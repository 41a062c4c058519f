"""Transfers as admins see them: all of them, why each stands where it does, and another try."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.actors import payouts, queue
from veza.domain.errors import Invalid
from veza.domain.payouts import Transfer, TransferStatus
from veza.http.auth import admin_only, by
from veza.http.deadline import within
from veza.http.envelope import Body, Envelope, Out
from veza.http.fields import Moment
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.sell import SellerTransferOut, shown
from veza.store.payouts import Wanted

REASON_LENGTH = 500
RETRY_SECONDS = 45.0  # a call of the payout provider at its timeout, and recording what came of it

api = Blueprint("transfers", __name__)


class TransferOut(SellerTransferOut):
    """What sellers see of it, and what only admins may."""

    seller_id: UUID
    external_ref: str | None
    failure_message: str | None


class TransferTotalOut(Out):
    """Of ``amount_cents``, what was withheld and never sent, and what came back after."""

    count: int
    amount_cents: int
    withheld_cents: int
    reversed_cents: int


class DebtOut(Out):
    """What a seller owes, in minor units of ``currency``, and of how many refunds."""

    seller_id: UUID
    owed_cents: int
    currency: str
    refunds: int


class DebtsOut(Out):
    debts: list[DebtOut]
    total: int


class TransfersOut(Out):
    """``totals``: of each status, by the same filters but that of the status."""

    transfers: list[TransferOut]
    total: int
    totals: dict[TransferStatus, TransferTotalOut]


class HoldBody(Body):
    """``reason`` is for the audit."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=REASON_LENGTH)] = ""


class TransfersQuery(Paging):
    """``from`` and ``to`` bound the time of creation, the first included, the second not: RFC 3339, or a date (UTC)."""

    status: TransferStatus | None = None
    seller_id: UUID | None = None
    since: Moment | None = Field(None, alias="from")
    until: Moment | None = Field(None, alias="to")


@api.get("/admin/transfers")
@admin_only
@validate_querystring(TransfersQuery)
@validate_response(Envelope[TransfersOut])
async def get_transfers(query_args: TransfersQuery) -> Envelope[TransfersOut]:
    """Everybody's transfers, the newest first."""
    wanted = Wanted(query_args.status, query_args.seller_id, query_args.since, query_args.until)
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise Invalid("`from` is later than `to`.", field="from")
    found, total = await parts().payouts.list(wanted, query_args.limit, query_args.offset)
    totals = await parts().payouts.totals(wanted)
    return Envelope[TransfersOut](
        data=TransfersOut(
            transfers=await shown(TransferOut, found),
            total=total,
            totals={status: TransferTotalOut.of(each) for status, each in totals.items()},
        )
    )


@api.post("/admin/transfers/<uuid:transfer_id>/retry")
@within(RETRY_SECONDS)
@admin_only
@validate_response(Envelope[TransferOut])
@refuses("not_retryable", "feature_disabled")
async def retry(transfer_id: UUID) -> Envelope[TransferOut]:
    """Try a transfer now that failed, or is held as not_onboarded or awaiting_funds; audited.

    Answers with what it has become. The try goes on if the asker hangs up.
    """
    transfer = await payouts.retry(parts().refs.payouts, transfer_id, by())
    return await _one(transfer)


@api.post("/admin/transfers/<uuid:transfer_id>/hold")
@admin_only
@validate_request(HoldBody)
@validate_response(Envelope[TransferOut])
@refuses("not_holdable")
async def hold(transfer_id: UUID, data: HoldBody) -> Envelope[TransferOut]:
    """Keep a transfer from being tried until an admin releases it; audited."""
    return await _one(await parts().payouts.hold(transfer_id, by(), data.reason))


@api.post("/admin/transfers/<uuid:transfer_id>/release")
@admin_only
@validate_response(Envelope[TransferOut])
@refuses("not_releasable")
async def release(transfer_id: UUID) -> Envelope[TransferOut]:
    """Let a transfer go on that an admin holds; audited. What else caused a hold is what lifts it."""
    transfer = await parts().payouts.let_go(transfer_id, by())
    queue.ring(parts().refs.payouts)
    return await _one(transfer)


@api.get("/admin/debts")
@admin_only
@validate_querystring(Paging)
@validate_response(Envelope[DebtsOut])
async def get_debts(query_args: Paging) -> Envelope[DebtsOut]:
    """What sellers owe for refunds of what they had been paid, the most first."""
    found, total = await parts().debts.page(query_args.limit, query_args.offset)
    return Envelope[DebtsOut](data=DebtsOut(debts=list(map(DebtOut.of, found)), total=total))


async def _one(transfer: Transfer) -> Envelope[TransferOut]:
    [seen] = await shown(TransferOut, [transfer])
    return Envelope[TransferOut](data=seen)
