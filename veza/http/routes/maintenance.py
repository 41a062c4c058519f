"""Maintenance, as admins switch it. What it does to requests is `veza.http.maintenance`'s."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field
from quart import Blueprint
from quart_schema import validate_request, validate_response

from veza.actors import maintenance
from veza.domain.errors import Invalid
from veza.domain.maintenance import UNSENT, MaintenanceChange, check_message
from veza.http.auth import admin_only, by
from veza.http.envelope import Body, Envelope, Out
from veza.http.fields import Moment
from veza.http.parts import parts

api = Blueprint("maintenance", __name__)


def _message(message: str | None) -> str | None:
    try:
        return None if message is None else check_message(message)
    except Invalid as refusal:
        raise ValueError(str(refusal)) from None


class MaintenanceOut(Out):
    """``message`` is shown to whoever is turned away, ``expected_end`` tells them when to come back."""

    enabled: bool
    message: str | None
    expected_end: datetime | None
    updated_at: datetime | None


class MaintenanceBody(Body):
    """What is unsent stays as it is, null takes it away; when it is switched off both go. ``updated_at`` is ignored."""

    enabled: bool
    message: Annotated[str | None, AfterValidator(_message), Field(description="One line for everybody.")] = None
    expected_end: Moment | None = None
    updated_at: object = None

    @property
    def change(self) -> MaintenanceChange:
        sent = self.model_fields_set
        return MaintenanceChange(
            self.enabled,
            self.message if "message" in sent else UNSENT,
            self.expected_end if "expected_end" in sent else UNSENT,
        )


@api.get("/admin/maintenance")
@admin_only
@validate_response(Envelope[MaintenanceOut])
async def get_maintenance() -> Envelope[MaintenanceOut]:
    """Whether maintenance is on, as this process goes by it."""
    return Envelope[MaintenanceOut](data=MaintenanceOut.of(parts().maintenance()))


@api.put("/admin/maintenance")
@admin_only
@validate_request(MaintenanceBody)
@validate_response(Envelope[MaintenanceOut])
async def put_maintenance(data: MaintenanceBody) -> Envelope[MaintenanceOut]:
    """Switch maintenance on or off, in every process within a second; audited.

    While it is on, everyone but an admin gets 503 `maintenance` everywhere but on probes, webhooks and hooks; requests
    under way finish. An `expected_end` that is over is refused, unless it is the one that stands.
    """
    after = await maintenance.switch(parts().refs.maintenance, data.change, by())
    return Envelope[MaintenanceOut](data=MaintenanceOut.of(after))
