"""The ledger's own examination, as an admin asks for it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from quart import Blueprint
from quart_schema import validate_querystring, validate_response

from veza.actors import reconciler
from veza.http.auth import admin_only, by
from veza.http.deadline import within
from veza.http.envelope import Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses

VERIFY_SECONDS = 120.0  # the payout provider lists a hundred transfers a call

api = Blueprint("ledger", __name__)


class FindingOut(Out):
    """What breaks an invariant: which, for which row, and how.

    ``code`` names the kind: ``invariant_1`` and so on within our own books; against the payout provider's,
    ``missing_at_provider``, ``not_booked``, ``made_twice``, ``unlike``, ``reversal_not_booked`` or
    ``reversal_missing``.
    """

    code: str
    invariant: str
    subject: str
    detail: str


class VerifiedOut(Out):
    """``provider_asked``: whether the sixth invariant, ours against the payout provider's list, was among them."""

    balanced: bool
    provider_asked: bool
    findings: list[FindingOut]


class ReconciliationOut(Out):
    id: UUID
    ran_at: datetime
    balanced: bool
    provider_asked: bool
    findings: list[FindingOut]


class ReconciliationsOut(Out):
    reconciliations: list[ReconciliationOut]
    total: int


@api.get("/admin/ledger/verify")
@within(VERIFY_SECONDS)
@admin_only
@validate_response(Envelope[VerifiedOut])
@refuses("provider_unavailable")
async def verify() -> Envelope[VerifiedOut]:
    """Examine the books: run the ledger's seven invariants."""
    asked = parts().config.stripe_connect_enabled
    findings = await parts().ledger.verify(parts().stripe if asked else None)
    return Envelope[VerifiedOut](
        data=VerifiedOut(
            balanced=not findings,
            provider_asked=asked,
            findings=[FindingOut.of(finding) for finding in findings],
        )
    )


@api.get("/admin/reconciliations")
@admin_only
@validate_querystring(Paging)
@validate_response(Envelope[ReconciliationsOut])
async def get_reconciliations(query_args: Paging) -> Envelope[ReconciliationsOut]:
    """What each daily reconciliation found, and those that were asked for; the latest first."""
    found, total = await parts().reconciliations.page(limit=query_args.limit, offset=query_args.offset)
    shown = list(map(ReconciliationOut.of, found))
    return Envelope[ReconciliationsOut](data=ReconciliationsOut(reconciliations=shown, total=total))


@api.post("/admin/reconciliations")
@within(VERIFY_SECONDS)
@admin_only
@validate_response(Envelope[ReconciliationOut], 201)
@refuses("provider_unavailable")
async def post_reconciliation() -> tuple[Envelope[ReconciliationOut], int]:
    """Examine the books now, as `/admin/ledger/verify` does, and keep what is found; audited."""
    done = await reconciler.reconcile(parts().refs.reconciler, by())
    return Envelope[ReconciliationOut](data=ReconciliationOut.of(done)), 201
