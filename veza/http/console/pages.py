"""The console's pages: their addresses, their menu, and how each is served and kept as it stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Final, ParamSpec
from urllib.parse import quote, urlencode
from uuid import UUID

from markupsafe import Markup
from quart import Blueprint, Response, g, request

from veza.actors.lookout import POINTS
from veza.domain.errors import NotFound, Refusal
from veza.http import errors
from veza.http.assets import asset_url
from veza.http.auth import caller, lately_behind
from veza.http.console import looks, notes, tree
from veza.http.console.cookies import PATH
from veza.http.console.entry import form_key, operator, operators_only, page, tell, written
from veza.http.console.regions import Content, Drawing, Forms, Look, Watching, settled
from veza.http.drawing import templates
from veza.http.events import event_response
from veza.http.parts import parts

TREE_SECONDS: Final = 2.0  # a look at a thousand actors takes some 20 ms

P = ParamSpec("P")

console = Blueprint("console_pages", __name__)
console.errorhandler(Exception)(tell)


@dataclass(frozen=True)
class Page:
    """``looking`` is called in the request, and what it returns long after it, with no context."""

    name: str
    title: str
    looking: Callable[[Mapping[str, str]], Look]
    every: float = looks.LIST_SECONDS
    under: str = ""
    """The page that leads to it, where it is none of the menu's."""


PAGES: Final[Mapping[str, Page]] = {
    each.name: each
    for each in (
        Page("overview", "Overview", looks.overview),
        Page("actors", "Actors", tree.actors, TREE_SECONDS),
        Page("actor", "Actor", tree.actor, TREE_SECONDS, under="actors"),
        Page("payouts", "Payouts", looks.payouts),
        Page("payout", "Payout", looks.payout, under="payouts"),
        Page("streams", "Streams", looks.streams),
        Page("exports", "Exports", looks.exports),
        Page("moderation", "Moderation", looks.moderation),
        Page("users", "Users", looks.users, looks.USERS_SECONDS),
        Page("user", "User", looks.user, under="users"),
        Page("switches", "Switches", looks.switches),
        Page("audit", "Audit", looks.audit),
    )
}

MENU: Final = tuple(each for each in PAGES.values() if not each.under)


def address(name: str, args: Mapping[str, str]) -> str:
    """Where a page is found."""
    match name:
        case "overview":
            return PATH
        case "actor":
            return f"{PATH}/actors/{quote(args['path'])}"
        case "payout" | "user":
            return f"{PATH}/{name}s/{args['id']}"
        case _:
            return f"{PATH}/{name}" + (f"?{urlencode(args)}" if args else "")


# -- served ------------------------------------------------------------------------------------------------------------


@console.get(PATH)
@operators_only
async def get_overview() -> Response:
    """What there is to look at."""
    return await _shown("overview", {})


@console.get(f"{PATH}/<name>")
@operators_only
async def get_page(name: str) -> Response:
    """A page of the menu."""
    if name not in {each.name for each in MENU}:
        raise NotFound("There is no such page.")
    return await _shown(name, request.args.to_dict())


@console.get(f"{PATH}/actors/<path:path>")
@operators_only
async def get_actor(path: str) -> Response:
    """One actor, or a supervisor."""
    return await _shown("actor", {"path": path})


@console.get(f"{PATH}/payouts/<uuid:transfer_id>")
@operators_only
async def get_payout(transfer_id: UUID) -> Response:
    """One transfer, with its tries."""
    return await _shown("payout", {"id": str(transfer_id)})


@console.get(f"{PATH}/users/<uuid:user_id>")
@operators_only
async def get_user(user_id: UUID) -> Response:
    """One user, and what can be done about them."""
    return await _shown("user", {"id": str(user_id)})


@console.get(f"{PATH}/live/<name>")
@operators_only
async def get_live(name: str) -> Response:
    """What changes on a page, for as long as it is looked at. 429 where one watches too many."""
    if name not in PAGES:
        raise NotFound("There is no such page.")
    shown, have = PAGES[name], parts()
    cookies = request.cookies.copy()

    async def still() -> None:
        await operator(cookies, have, lately_behind)

    return event_response(
        Watching(
            shown.looking(request.args.to_dict()),
            Drawing(Forms(form_key(), caller().id)),
            shown.every,
            place=have.watches.of(caller().id),
            ending=have.stopping,
            still=still,
        )
    )


async def _shown(name: str, args: Mapping[str, str]) -> Response:
    """The page, and on it the note that was left for it: where the database says nothing, no form could keep words."""
    content = await settled(PAGES[name].looking(args))
    note = None if content is None else notes.left(address(name, args), caller().id)
    if note is None:
        return page(_drawn(name, args, content, Forms(form_key(), caller().id)))
    forms = Forms(form_key(), caller().id, note.form, note.written)
    shown = page(_drawn(name, args, content, forms, says=note.says, undone=note.is_undone))
    notes.take_away(shown)
    return shown


def _drawn(
    name: str,
    args: Mapping[str, str],
    content: Content | None,
    forms: Forms,
    told: errors.Answer | None = None,
    *,
    says: str = "",
    undone: bool = False,
) -> str:
    return (
        templates()
        .get_template(f"console/{name}.html")
        .render(
            asset=asset_url,
            page=PAGES[name],
            menu=MENU,
            args=args,
            regions=defaultdict(Markup, {} if content is None else Drawing(forms).whole(content)),
            away=content is None,
            at=address(name, args),
            live=f"{PATH}/live/{name}" + (f"?{urlencode(args)}" if args else ""),
            forms=forms,
            told=told,
            says=says,
            undone=undone,
            who=caller().user,
            points=POINTS,
        )
    )


# -- a form that is refused --------------------------------------------------------------------------------------------


def on_page(name: str, **named: str) -> Callable[[Callable[P, Awaitable[Response]]], Callable[P, Awaitable[Response]]]:
    """Have a form refused on its page, which says why and keeps what was written. ``named``: the page's arguments, by
    those of the route. It stands above whatever lets the sender in: who is signed out signs in, and is led back.

    A form that is not known to be ours is told of on a page of its own, and nothing of it is kept.
    """

    def wrap(view: Callable[P, Awaitable[Response]]) -> Callable[P, Awaitable[Response]]:
        @wraps(view)
        async def tried(*args: P.args, **kwargs: P.kwargs) -> Response:
            asked = {ours: str(kwargs[theirs]) for ours, theirs in named.items()}
            g.back = address(name, asked)
            try:
                return await view(*args, **kwargs)
            except Exception as error:
                shown = await _refused(name, asked, error)
                if shown is None:
                    raise
                return shown

        return tried

    return wrap


async def _refused(name: str, args: Mapping[str, str], error: Exception) -> Response | None:
    """The page with the error on it; None where there is no such page, or the database does not say."""
    fields = written()
    if fields is None:
        return None
    try:
        content = await settled(PAGES[name].looking(args))
    except Refusal:
        return None
    if content is None:
        return None
    await errors.answer(error)
    told = errors.describe(error)
    forms = Forms(form_key(), caller().id, request.path, fields, {each.field: each.message for each in told.details})
    return page(_drawn(name, args, content, forms, told), told.status, told.headers)
