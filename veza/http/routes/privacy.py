"""Privacy: what one has said of selling and sharing one's data, who is given any of it, and what we heed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from quart import Blueprint, Response
from quart_schema import hide, validate_request, validate_response

from veza.domain.privacy import RECIPIENTS, Preference, Source, check_choice, may_share
from veza.http.auth import caller, login_required
from veza.http.document import takes_headers
from veza.http.edge import trace
from veza.http.envelope import Body, Envelope, Out
from veza.http.parts import parts
from veza.http.refusals import refuses

api = Blueprint("privacy", __name__)
pages = Blueprint("gpc", __name__)

SUPPORT: Final = b'{"gpc":true,"lastUpdate":"2026-11-29"}'
"""Since when we say that we heed the signal, as its specification then read. Another date is another statement."""

SUPPORT_KEPT: Final = "public, max-age=86400"

heeds_signal = takes_headers(
    sec_gpc="`1`: do not sell or share (Global Privacy Control). Every other route hears it as well."
)


class RecipientOut(Out):
    """``gets`` is what they are given, and ``purpose`` what for."""

    name: str
    gets: str
    purpose: str


class PrivacyOut(Out):
    """``do_not_sell`` is what holds for the caller now: what is stored for them, or the request's own signal.

    ``source`` is whose word is stored, the `user`'s or their browser's `signal`, since ``updated_at``; both are null
    while nobody said anything. ``gpc`` is whether this request brought the signal (`Sec-GPC: 1`). ``shared_with`` are
    all who may be given anything about the caller.
    """

    do_not_sell: bool
    source: Source | None
    updated_at: datetime | None
    gpc: bool
    shared_with: list[RecipientOut]


class OptOutBody(Body):
    do_not_sell: bool


@api.get("/users/me/privacy")
@login_required
@heeds_signal
@validate_response(Envelope[PrivacyOut])
async def get_privacy() -> Envelope[PrivacyOut]:
    """What stands for the caller, and with whom their data may be shared."""
    return _shown(await parts().privacy.get(caller().id))


@api.post("/users/me/privacy/opt-out")
@login_required
@heeds_signal
@validate_request(OptOutBody)
@validate_response(Envelope[PrivacyOut])
@refuses("gpc_signal")
async def opt_out(data: OptOutBody) -> Envelope[PrivacyOut]:
    """Opt out of any sale or sharing of one's data, or with `false` take that back.

    The same again changes nothing.
    """
    check_choice(data.do_not_sell, signal=trace().do_not_sell)
    return _shown(await parts().privacy.choose(caller().id, data.do_not_sell, parts().clock()))


@pages.get("/.well-known/gpc.json")
@hide
async def get_support() -> Response:
    """That we heed the signal (Global Privacy Control, section on the support resource)."""
    return Response(SUPPORT, content_type="application/json", headers={"Cache-Control": SUPPORT_KEPT})


def _shown(preference: Preference) -> Envelope[PrivacyOut]:
    signal = trace().do_not_sell
    shared = [each for each in RECIPIENTS if may_share(each, signal=signal, preference=preference)]
    return Envelope[PrivacyOut](
        data=PrivacyOut.of(
            preference,
            do_not_sell=signal or preference.do_not_sell,
            gpc=signal,
            shared_with=list(map(RecipientOut.of, shared)),
        )
    )
