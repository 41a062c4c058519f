"""The ledger's own examination, as an admin asks for it."""

from __future__ import annotations

from quart import Blueprint
from quart_schema import validate_response

from veza.http.auth import admin_only
from veza.http.deadline import within
from veza.http.envelope import Envelope, Out
from veza.http.parts import parts

VERIFY_SECONDS = 120.0  # the payout provider lists a hundred transfers a call

api = Blueprint("ledger", __name__)


class FindingOut(Out):
    """What breaks an invariant: which, for which row, and how."""

    invariant: str
    subject: str
    detail: str


class VerifiedOut(Out):
    """``provider_asked``: whether the sixth invariant, ours against the payout provider's list, was among them."""

    balanced: bool
    provider_asked: bool
    findings: list[FindingOut]


@api.get("/admin/ledger/verify")
@within(VERIFY_SECONDS)
@admin_only
@validate_response(Envelope[VerifiedOut])
async def verify() -> Envelope[VerifiedOut]:
    """Run the ledger's seven invariants. 503 while the payout provider can't be asked."""
    asked = parts().config.stripe_connect_enabled
    findings = await parts().ledger.verify(parts().stripe if asked else None)
    return Envelope[VerifiedOut](
        data=VerifiedOut(
            balanced=not findings,
            provider_asked=asked,
            findings=[FindingOut.of(finding) for finding in findings],
        )
    )
