"""What the console's forms do: what the API's admin routes do, with the same calls, and as they are audited.

Each is answered by its page, by GET: loading that again does nothing twice.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from quart import Blueprint, Response

from veza.actors import flags, maintenance, payouts, queue
from veza.domain.bans import REASON_LENGTH as BAN_REASON_LENGTH
from veza.domain.flags import flag_named
from veza.domain.maintenance import MaintenanceChange, check_message
from veza.domain.operations import Action, check_reason
from veza.domain.reports import Action as Decision
from veza.domain.reports import check_decision
from veza.http.auth import by
from veza.http.console.entry import PATH, Form, form, operators_only, see, tell
from veza.http.console.pages import address, on_page
from veza.http.deadline import within
from veza.http.fields import Moment, WholeNumber, checked
from veza.http.parts import parts
from veza.http.routes.actors import act
from veza.http.routes.transfers import REASON_LENGTH, RETRY_SECONDS

console = Blueprint("console_actions", __name__)
console.errorhandler(Exception)(tell)


def _utc(value: object) -> object:
    """A moment as browsers' pickers write it, which stands for UTC here."""
    return f"{value}:00Z" if isinstance(value, str) and len(value) == len("2026-02-23T12:00") else value


PickedMoment = Annotated[Moment, BeforeValidator(_utc)]


class ActForm(Form):
    action: Action
    incarnation: WholeNumber
    reason: Annotated[str, AfterValidator(checked(check_reason))]


class HoldForm(Form):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=REASON_LENGTH)] = ""


class DecisionForm(Form):
    action: Decision
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=BAN_REASON_LENGTH)] = ""
    until: PickedMoment | None = None


class MaintenanceForm(Form):
    enabled: Literal["on", "off"]
    message: Annotated[str | None, AfterValidator(lambda text: text and checked(check_message)(text))] = None
    expected_end: PickedMoment | None = Field(None)


class FlagForm(Form):
    enabled: Literal["on", "off"]


@console.post(f"{PATH}/actors/<path:path>")
@operators_only
@on_page("actor", path="path")
async def act_on(path: str) -> Response:
    """Restart, pause, resume or drain the incarnation that the page showed."""
    sent = await form(ActForm)
    await act(sent.action, path, sent.incarnation, sent.reason)
    return see(address("actor", {"path": path}))


@console.post(f"{PATH}/payouts/<uuid:transfer_id>/retry")
@within(RETRY_SECONDS)
@operators_only
@on_page("payout", id="transfer_id")
async def retry(transfer_id: UUID) -> Response:
    """Try a transfer now."""
    await form(Form)
    await payouts.retry(parts().refs.payouts, transfer_id, by())
    return see(f"{PATH}/payouts/{transfer_id}")


@console.post(f"{PATH}/payouts/<uuid:transfer_id>/hold")
@operators_only
@on_page("payout", id="transfer_id")
async def hold(transfer_id: UUID) -> Response:
    """Keep a transfer from being tried."""
    sent = await form(HoldForm)
    await parts().payouts.hold(transfer_id, by(), sent.reason)
    return see(f"{PATH}/payouts/{transfer_id}")


@console.post(f"{PATH}/payouts/<uuid:transfer_id>/release")
@operators_only
@on_page("payout", id="transfer_id")
async def release(transfer_id: UUID) -> Response:
    """Let a transfer go on that an admin held."""
    await form(Form)
    await parts().payouts.let_go(transfer_id, by())
    queue.ring(parts().refs.payouts)
    return see(f"{PATH}/payouts/{transfer_id}")


@console.post(f"{PATH}/moderation/<uuid:report_id>")
@operators_only
@on_page("moderation")
async def decide(report_id: UUID) -> Response:
    """Decide a report."""
    sent = await form(DecisionForm)
    check_decision(sent.action, sent.reason, sent.until)
    await parts().reports.decide(report_id, sent.action, sent.reason, sent.until, by=by(), now=parts().clock())
    return see(f"{PATH}/moderation")


@console.post(f"{PATH}/switches/maintenance")
@operators_only
@on_page("switches")
async def switch_maintenance() -> Response:
    """Close the doors, or open them."""
    sent = await form(MaintenanceForm)
    change = MaintenanceChange(sent.enabled == "on", sent.message, sent.expected_end)
    await maintenance.switch(parts().refs.maintenance, change, by())
    return see(f"{PATH}/switches")


@console.post(f"{PATH}/switches/flags/<name>")
@operators_only
@on_page("switches")
async def switch_flag(name: str) -> Response:
    """Switch a feature on or off."""
    sent = await form(FlagForm)
    await flags.switch(parts().refs.flags, flag_named(name), enabled=sent.enabled == "on", by=by())
    return see(f"{PATH}/switches")
