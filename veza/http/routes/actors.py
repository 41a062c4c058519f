"""The operator's view of the supervision tree, and their hand on it.

What is shown was published: nothing here asks an actor, so it works while one is stuck, its mailbox full, or the
database away. What is done is written to the audit first; with no database nothing is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import to_jsonable_python
from quart import Blueprint, request
from quart_schema import validate_querystring, validate_request, validate_response
from werkzeug.exceptions import PreconditionRequired
from werkzeug.http import parse_etags

from veza.actors.core import ActorView, State, SupervisorView
from veza.domain.errors import PreconditionFailed
from veza.domain.operations import REASON_LENGTH, Action, check_reason
from veza.http.auth import admin_only, by, lately_admin
from veza.http.document import takes_headers
from veza.http.envelope import Body, Envelope, Out
from veza.http.fields import checked
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses

ACTORS: Final = "/admin/actors"
ONE: Final = f"{ACTORS}/<path:path>"

CHILDREN: Final = 1000  # of a dynamic supervisor, shown at once: a page of them is a second's work for a browser

INCARNATION: Final = re.compile(r"[0-9]{1,9}")  # nothing is restarted oftener

api = Blueprint("actors", __name__)


class RestartsOut(Out):
    """``in_window`` is what counts against ``limit``; ``next_backoff_s`` is null while none is under way."""

    total: int
    in_window: int
    limit: int
    next_backoff_s: float | None


class CrashOut(Out):
    """Redacted of values: ``traceback`` has places only, the outermost first."""

    at: datetime
    error_type: str
    traceback: list[str]
    message_type: str | None


class MailboxOut(Out):
    depth: int
    capacity: int
    high_water: int
    oldest_age_ms: float
    refused: int
    expired: int


class CurrentOut(Out):
    """The message in hand: its type, never its contents."""

    message_type: str
    running_ms: float


class PercentilesOut(Out):
    p50: float
    p99: float


class ActorOut(Out):
    """``kind`` is its class. Rates and times are of the last minute or two. ``snapshot`` is what it last published."""

    path: str
    kind: str
    state: State
    incarnation: int
    uptime_s: float
    restarts: RestartsOut
    mailbox: MailboxOut
    current: CurrentOut | None
    rate_1m: float
    handle_ms: PercentilesOut | None
    wait_ms: PercentilesOut | None
    last_crash: CrashOut | None
    paused_because: str | None
    snapshot: Annotated[Any, BeforeValidator(to_jsonable_python)]


class SupervisorOut(Out):
    """``kind`` is its strategy. A dynamic one has a ``limit``, and has given up ``gave_up`` children so far; beyond a
    thousand of its children the rest are ``hidden`` here, and listed with all actors."""

    path: str
    kind: str
    state: State
    incarnation: int
    uptime_s: float
    restarts: RestartsOut
    last_crash: CrashOut | None
    limit: int | None
    gave_up: int
    hidden: int
    children: list[ActorOut | SupervisorOut]


class TreeOut(Out):
    tree: SupervisorOut


class ActorsOut(Out):
    actors: list[ActorOut]
    total: int


class ActorSort(StrEnum):
    """The highest first."""

    MAILBOX_DEPTH = "mailbox_depth"
    OLDEST_AGE = "oldest_age"
    RESTARTS = "restarts"
    P99 = "p99"


HIGHEST: Final[dict[ActorSort, Callable[[ActorView], float]]] = {
    ActorSort.MAILBOX_DEPTH: lambda actor: actor.mailbox.depth,
    ActorSort.OLDEST_AGE: lambda actor: actor.mailbox.oldest_age_ms,
    ActorSort.RESTARTS: lambda actor: actor.restarts.total,
    ActorSort.P99: lambda actor: actor.handle_ms.p99 if actor.handle_ms else -inf,
}


class ActorsQuery(Paging):
    kind: str | None = None
    state: State | None = None
    sort: ActorSort | None = Field(None, description="By default in the order in which they are started.")


class ReasonBody(Body):
    """For the audit; a pause is shown with it too."""

    reason: Annotated[
        str, AfterValidator(checked(check_reason)), Field(description=f"A line of 1 to {REASON_LENGTH} characters.")
    ]


@api.get(f"{ACTORS}/tree")
@lately_admin
@validate_response(Envelope[TreeOut])
async def tree() -> Envelope[TreeOut]:
    """The whole supervision tree of the process that answers, as it stands now."""
    return Envelope[TreeOut](data=TreeOut(tree=SupervisorOut.of(parts().tree(most=CHILDREN))))


@api.get(ACTORS)
@lately_admin
@validate_querystring(ActorsQuery)
@validate_response(Envelope[ActorsOut])
async def get_actors(query_args: ActorsQuery) -> Envelope[ActorsOut]:
    """The actors of the process that answers, without their supervisors."""
    wanted = query_args
    found = [
        node
        for node in await parts().control.actors()
        if wanted.kind in (None, node.kind) and wanted.state in (None, node.state)
    ]
    if wanted.sort is not None:
        found.sort(key=HIGHEST[wanted.sort], reverse=True)
    shown = [ActorOut.of(actor) for actor in wanted.of(found)]
    return Envelope[ActorsOut](data=ActorsOut(actors=shown, total=len(found)))


@api.get(ONE)
@lately_admin
@validate_response(Envelope[ActorOut | SupervisorOut])
async def get_actor(path: str) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    """One actor, or a supervisor with what it minds. The ETag is the incarnation, as actions want it."""
    return _shown(path)


meaning = takes_headers(if_match='The incarnation that is meant, quoted, as in the ETag: `"3"`. Required.')


@api.post(f"{ONE}/restart")
@admin_only
@meaning
@validate_request(ReasonBody)
@validate_response(Envelope[ActorOut | SupervisorOut])
@refuses("precondition_required", "precondition_failed")
async def restart(path: str, data: ReasonBody) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    """Restart an actor, as its supervisor's strategy has it; audited.

    The message in hand is cut. What waits is kept.
    """
    return await _act(Action.RESTART, path, data.reason)


@api.post(f"{ONE}/pause")
@admin_only
@meaning
@validate_request(ReasonBody)
@validate_response(Envelope[ActorOut | SupervisorOut])
@refuses("precondition_required", "precondition_failed")
async def pause(path: str, data: ReasonBody) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    """Pause an actor; audited. It serves nothing more after the message in hand, also once it is restarted."""
    return await _act(Action.PAUSE, path, data.reason)


@api.post(f"{ONE}/resume")
@admin_only
@meaning
@validate_request(ReasonBody)
@validate_response(Envelope[ActorOut | SupervisorOut])
@refuses("precondition_required", "precondition_failed")
async def resume(path: str, data: ReasonBody) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    """End an actor's pause or drain; audited."""
    return await _act(Action.RESUME, path, data.reason)


@api.post(f"{ONE}/drain")
@admin_only
@meaning
@validate_request(ReasonBody)
@validate_response(Envelope[ActorOut | SupervisorOut])
@refuses("precondition_required", "precondition_failed")
async def drain(path: str, data: ReasonBody) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    """Drain an actor; audited. It takes nothing new and serves what waits."""
    return await _act(Action.DRAIN, path, data.reason)


async def _act(
    action: Action, path: str, reason: str
) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    await act(action, path, _meant(), reason)
    return _shown(path)


async def act(action: Action, path: str, incarnation: int, reason: str) -> None:
    """Written down, then done, by one operator after the other. One that crashes in that very instant is left alone;
    the entry stands.

    Raises NotFound, and PreconditionFailed for another incarnation, or one that is being restarted already.
    """
    control = parts().control
    async with control.turn:
        control.check(action, path, incarnation)
        details = {"reason": reason, "incarnation": incarnation}
        await parts().audit.record(parts().new_id(), by(), f"actor.{action}", f"actors/{path}", details)
        control.act(action, path, incarnation, because=reason)


def _meant() -> int:
    """The incarnation that If-Match names. Raises PreconditionRequired without one, PreconditionFailed for none."""
    header = request.headers.get("If-Match")
    if header is None:
        raise PreconditionRequired("Say in If-Match which incarnation is meant, quoted: it may be another by now.")
    named = parse_etags(header).as_set()
    if len(named) != 1 or not INCARNATION.fullmatch(digits := named.pop() or ""):  # None stands for an empty tag
        raise PreconditionFailed('If-Match names one incarnation, quoted, such as "3".')
    return int(digits)


def _shown(path: str) -> tuple[Envelope[ActorOut | SupervisorOut], int, dict[str, str]]:
    node = parts().control.see(path, most=CHILDREN)
    out = SupervisorOut.of(node) if isinstance(node, SupervisorView) else ActorOut.of(node)
    return Envelope[ActorOut | SupervisorOut](data=out), 200, {"ETag": f'"{node.incarnation}"'}
