"""Who comes into the console: admins, by a cookie of its own. And what a form must have to be heeded.

The cookie names a session as tokens do; whether that lives, and whose it is, the database says at each request. It is
sent to the console alone, by none of another site's pages (``SameSite=Strict``), and no script reads it. A form has to
carry its session's key besides, and to come from a page of ours as far as the browser tells.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Annotated, Final, ParamSpec, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError
from quart import Blueprint, Response, g, request
from quart_schema import hide
from quart_schema.validation import RequestSchemaValidationError
from werkzeug.datastructures import MultiDict

from veza.domain.accounts import Role, SessionEnd, User
from veza.domain.errors import Forbidden, Invalid, Refusal, Unauthenticated
from veza.http import errors
from veza.http.assets import asset_url
from veza.http.auth import Caller, behind, caller, lately_behind
from veza.http.body import VezaRequest
from veza.http.console import notes
from veza.http.console.cookies import GONE, PATH, cookie, given
from veza.http.console.notes import Note
from veza.http.drawing import templates
from veza.http.edge import trace
from veza.http.fields import Email, Moment
from veza.http.limits import CONSOLE_LOGIN as LOGIN
from veza.http.pages import html_page
from veza.http.parts import Parts, parts
from veza.http.routes.auth import sign_in
from veza.http.tokens import CONSOLE_LIFETIME, Claims, TokenType

COOKIE: Final = "veza_console"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script';"
    " trusted-types veza"
)

COOKIE_LIFETIME: Final = 2 * CONSOLE_LIFETIME  # a session that is over is still named, by who comes back with a form
FIELDS: Final = 32  # more than any form of ours has
LONGEST: Final = 2_000  # characters of an address that signing in leads back to: a filter, pasted
READING: Final = ("GET", "HEAD")

P = ParamSpec("P")
F = TypeVar("F", bound=BaseModel)

console = Blueprint("console", __name__)


class Form(BaseModel):
    """A form's fields: all of them text, and none that is not known. Empty ones were left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _utc(value: object) -> object:
    """A moment as browsers' pickers write it, to the minute or the second, which stands for UTC here."""
    missing = {len("2026-02-23T12:00"): ":00Z", len("2026-02-23T12:00:00"): "Z"}
    return value + missing.get(len(value), "") if isinstance(value, str) else value


PickedMoment = Annotated[Moment, BeforeValidator(_utc)]


class LoginForm(Form):
    email: Email
    password: SecretStr
    next: str = PATH


# -- coming in --------------------------------------------------------------------------------------------------------


def operators_only(view: Callable[P, Awaitable[Response]]) -> Callable[P, Awaitable[Response]]:
    """Let only admins in, by the console's cookie. Who was one a moment ago reads on while the database is away."""

    @wraps(view)
    async def let_in(*args: P.args, **kwargs: P.kwargs) -> Response:
        g.caller = await operator(request.cookies, parts(), lately_behind if _reads() else behind)
        return await view(*args, **kwargs)

    hidden: Callable[P, Awaitable[Response]] = hide(let_in)
    return hidden


async def operator(
    cookies: MultiDict[str, str], parts: Parts, who: Callable[[str, Parts, TokenType], Awaitable[Caller]]
) -> Caller:
    """Whose cookie came along. Raises Unauthenticated, and Forbidden for who is no admin.

    Of several of its name the first that holds counts: a site at a name below ours, or beside it, may plant one that
    does not, and browsers send it in front of ours.
    """
    refused = Unauthenticated("Sign in first.")
    for token in given(COOKIE, parts, cookies):
        try:
            found = await who(token, parts, TokenType.CONSOLE)
        except Unauthenticated as error:
            refused = error
        else:
            _check_admin(found.user)
            return found
    raise refused


def _check_admin(user: User) -> None:
    if user.role is not Role.ADMIN:
        raise Forbidden("The console is for admins only.")


async def form(kind: type[F]) -> F:
    """The form that was sent, of a caller that was let in. Raises Forbidden unless it has their session's key."""
    cast("VezaRequest", request).ask_again = _still_in
    fields = await _fields()
    if not parts().tokens.is_form_key(fields.pop("key", ""), caller().session_id):
        raise Forbidden("This form is of another session; load its page again.", code="foreign_form")
    g.written = fields
    return _read(kind, fields)


def form_key() -> str:
    """What the forms of the caller's pages carry."""
    return parts().tokens.form_key(caller().session_id)


def written() -> Mapping[str, str] | None:
    """What was written in the form that was sent; None unless it is known to be one of ours."""
    fields: Mapping[str, str] | None = g.get("written")
    return fields


async def _still_in() -> None:
    g.caller = await operator(request.cookies, parts(), behind)


async def _fields() -> dict[str, str]:
    """Raises Forbidden for a form of another site's, Invalid for what is no form."""
    _check_origin()
    raw = await cast("VezaRequest", request).whole()
    if raw and request.mimetype != "application/x-www-form-urlencoded":
        raise Invalid("This is not a form.")
    try:
        body = raw.decode()
        pairs = parse_qsl(body, strict_parsing=bool(body), max_num_fields=FIELDS, errors="strict")
    except ValueError:
        raise Invalid("This is not a form.") from None
    if any("\0" in value for _, value in pairs):
        raise Invalid("Text may not contain the NUL character.")
    return dict(pairs)


def _reads() -> bool:
    """Whether the request may change nothing (RFC 9110, section 9.2.1)."""
    return request.method in READING


def _check_origin() -> None:
    """As far as the browser says where a form comes from (Fetch Metadata; ``Origin``, RFC 6454, in older ones)."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or origin in (f"https://{request.host}", f"http://{request.host}")
    if not ours:
        raise Forbidden("This form comes from another site.", code="foreign_form")


def _read(kind: type[F], fields: dict[str, str]) -> F:
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as wrong:
        raise RequestSchemaValidationError(wrong) from None


# -- signing in and out ------------------------------------------------------------------------------------------------


@console.get(LOGIN)
@hide
async def login_page() -> Response:
    """The form to sign in by."""
    note = notes.left(LOGIN, None)
    response = _login(request.args.get("next", PATH), says=note.says if note else "")
    if note is not None:
        notes.take_away(response)
    return response


@console.post(LOGIN)
@hide
async def login() -> Response:
    """Sign in as an admin; slowed down and told as at the API's login. A user who is no admin is told so."""
    fields = await _fields()
    device = next(iter(given(COOKIE, parts())), None)
    try:
        sent = _read(LoginForm, fields)
        user, session = await sign_in(sent.email, sent.password.get_secret_value(), _check_admin, device)
    except (Refusal, RequestSchemaValidationError) as error:
        return _login(fields.get("next", PATH), fields.get("email", ""), errors.describe(error))
    trace().user_id = user.id
    response = see(sent.next if _is_ours(sent.next) else PATH)
    response.headers.add("Set-Cookie", cookie(COOKIE, parts().tokens.console(session), COOKIE_LIFETIME))
    return response


@console.post(f"{PATH}/logout")
@operators_only
async def logout() -> Response:
    """End the session, and take the cookie away."""
    await form(Form)
    await parts().sessions.end(caller().id, SessionEnd.LOGOUT, parts().clock(), only=caller().session_id)
    response = see(LOGIN)
    response.headers.add("Set-Cookie", cookie(COOKIE, "", GONE))
    notes.leave(response, Note(LOGIN, "You have signed out."), None)
    return response


def _login(leads_to: str, email: str = "", refused: errors.Answer | None = None, *, says: str = "") -> Response:
    html = (
        templates()
        .get_template("console/login.html")
        .render(asset=asset_url, next=leads_to, email=email, refused=refused, says=says)
    )
    return page(html) if refused is None else page(html, refused.status, refused.headers)


async def _signed_out(error: Unauthenticated) -> Response:
    """The form to sign in by, for who sent another one and is signed in no more: nothing was done, and after signing in
    they are where they were. What they wrote is there too, if the form is known to be ours.
    """
    back, (ended, fields) = _back(), await _ended()
    response = _login(back, refused=replace(errors.describe(error), sentence=SIGNED_OUT))
    if ended is not None:
        kept = Note(back, f"{UNDONE} What you wrote is still here.", request.path, fields)
        lost = Note(back, f"{UNDONE} What you wrote could not be kept.", request.path)
        if not notes.leave(response, kept, ended.user_id, notes.KEPT_LIFETIME):
            notes.leave(response, lost, ended.user_id, notes.KEPT_LIFETIME)
    return response


SIGNED_OUT: Final = "You are not signed in any more, so nothing was done. Sign in to go on where you were."
UNDONE: Final = "You had been signed out, and nothing was done."


async def _ended() -> tuple[Claims | None, Mapping[str, str]]:
    """The session that is over, of the form that was sent, and what was written in it. None where its key is not that
    of a session which the cookie names: a stranger's words may not stand in a form of ours.
    """
    for token in given(COOKIE, parts()):
        try:
            ended, fields = parts().tokens.read(token, TokenType.CONSOLE, expired=True), await _fields()
        except Refusal:
            continue
        if parts().tokens.is_form_key(fields.pop("key", ""), ended.session_id):
            return ended, fields
    return None, {}


def _is_ours(path: str) -> bool:
    """Whether it leads into the console: no other place is gone to because a link said so."""
    steps = unquote(path.partition("?")[0]).split("/")  # as browsers read them, which go up by those of two dots
    inside = is_of_the_console(path.partition("?")[0]) and ".." not in steps
    return inside and "\\" not in path and path.isprintable() and len(path) <= LONGEST


# -- answers ----------------------------------------------------------------------------------------------------------


def page(html: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A page that runs nothing but our own files, and that nobody keeps."""
    response = html_page(html, POLICY)
    response.status_code = status
    response.headers.extend(dict(headers or {}))
    response.headers["Cache-Control"] = "no-store"
    return response


def see(path: str) -> Response:
    """Go on at a page, by GET."""
    return Response("", status=303, headers={"Location": path, "Cache-Control": "no-store"})


def done(path: str, says: str) -> Response:
    """Go on at a page, by GET, which says what was done."""
    response = see(path)
    notes.leave(response, Note(path, says), caller().id)
    return response


async def tell(error: Exception) -> Response:
    """An error as a page, with the status and the log of any other; who has to sign in is led there."""
    await errors.answer(error)
    if isinstance(error, Unauthenticated):
        asked = request.full_path.rstrip("?")
        if not _reads():
            return await _signed_out(error)
        return see(f"{LOGIN}?{urlencode({'next': asked})}" if asked != PATH else LOGIN)
    return told_on_a_page(errors.describe(error))


def _back() -> str:
    """The page with the form that was sent, or the overview."""
    back: str = g.get("back", PATH)
    return back


def told_on_a_page(told: errors.Answer) -> Response:
    html = (
        templates()
        .get_template("console/error.html")
        .render(asset=asset_url, told=told, login=LOGIN, home=PATH, back=_back(), reads=_reads())
    )
    return page(html, told.status, told.headers)


def is_of_the_console(path: str) -> bool:
    """Whether somebody looks at it in the console, be there such a page or not."""
    return path == PATH or path.startswith(f"{PATH}/")


console.errorhandler(Exception)(tell)
