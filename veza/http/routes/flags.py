"""The feature flags, as admins see and throw them."""

from __future__ import annotations

from datetime import datetime

from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.actors import flags
from veza.domain.flags import DESCRIPTIONS, Switch, flag_named
from veza.http.auth import admin_only, by
from veza.http.envelope import Body, Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts

FLAGS = "/admin/feature-flags"

api = Blueprint("flags", __name__)


class FlagOut(Out):
    """``description`` says what stops when it is off. ``updated_at`` is null for one that nobody has ever thrown."""

    name: str
    enabled: bool
    description: str
    updated_at: datetime | None


class FlagsOut(Out):
    feature_flags: list[FlagOut]
    total: int


class FlagBody(Body):
    """The rest of a fetched flag may be sent along, and is ignored."""

    enabled: bool
    name: object = None
    description: object = None
    updated_at: object = None


@api.get(FLAGS)
@admin_only
@validate_querystring(Paging)
@validate_response(Envelope[FlagsOut])
async def get_flags(query_args: Paging) -> Envelope[FlagsOut]:
    """Every feature flag, and how this process goes by it."""
    shown = list(map(_flag, parts().flags()))
    return Envelope[FlagsOut](data=FlagsOut(feature_flags=query_args.of(shown), total=len(shown)))


@api.put(f"{FLAGS}/<name>")
@admin_only
@validate_request(FlagBody)
@validate_response(Envelope[FlagOut])
async def put_flag(name: str, data: FlagBody) -> Envelope[FlagOut]:
    """Switch a feature on or off, in every process within a second; audited."""
    flag = flag_named(name)
    after = await flags.switch(parts().refs.flags, flag, enabled=data.enabled, by=by())
    return Envelope[FlagOut](data=_flag(after.switch(flag)))


def _flag(switch: Switch) -> FlagOut:
    return FlagOut.of(switch, name=switch.flag, description=DESCRIPTIONS[switch.flag])
