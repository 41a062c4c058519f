"""What the console's forms do: what the API's admin routes do, with the same calls, and as they are audited.

Each is answered by its page, by GET: loading that again does nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from quart import Blueprint, Response

from veza.actors import flags, maintenance, payouts, queue
from veza.domain.bans import REASON_LENGTH as BAN_REASON_LENGTH
from veza.domain.bans import zulu
from veza.domain.flags import flag_named
from veza.domain.maintenance import MaintenanceChange, check_message
from veza.domain.operations import Action, check_reason
from veza.domain.reports import Action as Decision
from veza.domain.reports import check_decision
from veza.http.auth import by
from veza.http.console.cookies import PATH
from veza.http.console.entry import Form, PickedMoment, done, form, operators_only, tell
from veza.http.console.pages import address, on_page
from veza.http.deadline import within
from veza.http.fields import WholeNumber, checked
from veza.http.parts import parts
from veza.http.routes.actors import act
from veza.http.routes.transfers import REASON_LENGTH, RETRY_SECONDS

console = Blueprint("console_actions", __name__)
console.errorhandler(Exception)(tell)

ACTED: Final[Mapping[Action, str]] = {
    Action.RESTART: "was restarted.",
    Action.PAUSE: "was paused.",
    Action.RESUME: "was resumed.",
    Action.DRAIN: "takes nothing new any more.",
}
DECIDED: Final[Mapping[Decision, str]] = {
    Decision.DISMISS: "The report was dismissed.",
    Decision.RESOLVE: "The report was resolved.",
    Decision.WARN: "{} was warned, and the report is resolved.",
    Decision.BAN: "{} was banned, and the report is resolved.",
}


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


class BanForm(Form):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=BAN_REASON_LENGTH)] = ""
    until: PickedMoment | None = None


class MaintenanceForm(Form):
    enabled: Literal["on", "off"]
    message: Annotated[str | None, AfterValidator(lambda text: text and checked(check_message)(text))] = None
    expected_end: PickedMoment | None = Field(None)


class FlagForm(Form):
    enabled: Literal["on", "off"]


@console.post(f"{PATH}/actors/<path:path>")
@on_page("actor", path="path")
@operators_only
async def act_on(path: str) -> Response:
    """Restart, pause, resume or drain the incarnation that the page showed."""
    sent = await form(ActForm)
    await act(sent.action, path, sent.incarnation, sent.reason)
    return done(address("actor", {"path": path}), f"{path} {ACTED[sent.action]}")


@console.post(f"{PATH}/payouts/<uuid:transfer_id>/retry")
@within(RETRY_SECONDS)
@on_page("payout", id="transfer_id")
@operators_only
async def retry(transfer_id: UUID) -> Response:
    """Try a transfer now."""
    await form(Form)
    tried = await payouts.retry(parts().refs.payouts, transfer_id, by())
    return done(address("payout", {"id": str(transfer_id)}), f"The transfer was tried, and is {tried.status} now.")


@console.post(f"{PATH}/payouts/<uuid:transfer_id>/hold")
@on_page("payout", id="transfer_id")
@operators_only
async def hold(transfer_id: UUID) -> Response:
    """Keep a transfer from being tried."""
    sent = await form(HoldForm)
    await parts().payouts.hold(transfer_id, by(), sent.reason)
    return done(address("payout", {"id": str(transfer_id)}), "The transfer is held until it is released.")


@console.post(f"{PATH}/payouts/<uuid:transfer_id>/release")
@on_page("payout", id="transfer_id")
@operators_only
async def release(transfer_id: UUID) -> Response:
    """Let a transfer go on that an admin held."""
    await form(Form)
    await parts().payouts.let_go(transfer_id, by())
    queue.ring(parts().refs.payouts)
    return done(address("payout", {"id": str(transfer_id)}), "The transfer was released.")


@console.post(f"{PATH}/moderation/<uuid:report_id>")
@on_page("moderation")
@operators_only
async def decide(report_id: UUID) -> Response:
    """Decide a report."""
    sent = await form(DecisionForm)
    check_decision(sent.action, sent.reason, sent.until)
    seen = await parts().reports.decide(report_id, sent.action, sent.reason, sent.until, by=by(), now=parts().clock())
    return done(address("moderation", {}), DECIDED[sent.action].format(seen.owner.username))


@console.post(f"{PATH}/users/<uuid:user_id>/ban")
@on_page("user", id="user_id")
@operators_only
async def ban(user_id: UUID) -> Response:
    """Ban a user, or one who is banned from now on for this time and reason."""
    sent = await form(BanForm)
    stands = await parts().bans.ban(user_id, sent.until, sent.reason, by=by(), now=parts().clock())
    until = f" until {zulu(sent.until)}" if sent.until else ""
    return done(address("user", {"id": str(user_id)}), f"{stands.user.username} is banned{until}.")


@console.post(f"{PATH}/users/<uuid:user_id>/unban")
@on_page("user", id="user_id")
@operators_only
async def unban(user_id: UUID) -> Response:
    """Let a banned user back in."""
    await form(Form)
    lifted = await parts().bans.lift(user_id, by=by())
    queue.ring(parts().refs.payouts)
    return done(address("user", {"id": str(user_id)}), f"{lifted.user.username} is not banned any more.")


@console.post(f"{PATH}/switches/maintenance")
@on_page("switches")
@operators_only
async def switch_maintenance() -> Response:
    """Close the doors, or open them."""
    sent = await form(MaintenanceForm)
    change = MaintenanceChange(sent.enabled == "on", sent.message, sent.expected_end)
    after = await maintenance.switch(parts().refs.maintenance, change, by())
    says = "Maintenance is on: everyone but admins is turned away." if after.enabled else "Maintenance is off."
    return done(address("switches", {}), says)


@console.post(f"{PATH}/switches/flags/<name>")
@on_page("switches")
@operators_only
async def switch_flag(name: str) -> Response:
    """Switch a feature on or off."""
    sent = await form(FlagForm)
    await flags.switch(parts().refs.flags, flag_named(name), enabled=sent.enabled == "on", by=by())
    return done(address("switches", {}), f"{name} was switched {sent.enabled}.")
