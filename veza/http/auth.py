"""Who is asking: a bearer token names a session, and the database says whose it is and what they may do, every time.

So a session that was ended, a ban or a promotion acts at the next request, not when a token expires.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Final, ParamSpec, TypeVar, cast
from uuid import UUID

import trio
from quart import g, request
from quart_schema import security_scheme

from veza.domain.accounts import Role, User
from veza.domain.audit import By
from veza.domain.errors import Forbidden, Unauthenticated
from veza.domain.refunds import Asker
from veza.http.body import VezaRequest
from veza.http.edge import trace
from veza.http.parts import Parts, parts
from veza.http.privacy import heed
from veza.http.refusals import OF_A_TOKEN, OF_THE_SIGNED_IN, refuses
from veza.http.tokens import TokenType
from veza.store.errors import StoreError

LOOK_SECONDS: Final = 1.0  # that a database may take over one row, before an operator is shown what there is without it

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Caller:
    """The signed-in user behind the request in hand, and the session they came by."""

    user: User
    session_id: UUID

    @property
    def id(self) -> UUID:
        return self.user.id

    @property
    def is_admin(self) -> bool:
        return self.user.role is Role.ADMIN


def caller() -> Caller:
    """Who is asking, in a route that is ``login_required`` or ``admin_only``. Raises LookupError elsewhere."""
    found = caller_if_any()
    if found is None:
        raise LookupError("caller() in a route that does not ask who is calling")
    return found


def caller_if_any() -> Caller | None:
    """Who is asking, if they said and the route asked (``login_optional``)."""
    return cast("Caller | None", g.get("caller"))


def by() -> By:
    """The caller, as the audit names them: an admin does as one what they do, but for `in_person`."""
    return replace(in_person(), as_admin=caller().is_admin)


def in_person() -> By:
    """The caller, as the audit names them in what everyone may do for themself."""
    return By(caller().id, trace().request_id, request.remote_addr)


def asker() -> Asker:
    """The caller, as refunds and invoices know them."""
    return Asker(caller().id, caller().is_admin)


def login_required(view: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let only the signed-in in; 401 for anyone else. It stands above the validators: strangers are told no schema."""

    @wraps(view)
    async def signed_in(*args: P.args, **kwargs: P.kwargs) -> R:
        await _require()
        _and_once_the_body_is_here(_require)
        return await view(*args, **kwargs)

    return refuses(*OF_THE_SIGNED_IN)(security_scheme([{"bearer": []}])(signed_in))


def admin_only(view: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let only admins in; 401 for strangers, 403 for other users."""

    @wraps(view)
    async def as_admin(*args: P.args, **kwargs: P.kwargs) -> R:
        await _require_admin()
        _and_once_the_body_is_here(_require_admin)
        return await view(*args, **kwargs)

    return _for_admins(as_admin)


def lately_admin(view: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """As `admin_only`, for what must be seen while the database is away: an admin of a moment ago passes then."""

    @wraps(view)
    async def as_admin(*args: P.args, **kwargs: P.kwargs) -> R:
        _checked_admin(await _require_lately())
        return await view(*args, **kwargs)

    return _for_admins(as_admin)


def login_optional(view: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Let everyone in and look who it is; 401 only for a bearer token that does not hold."""

    @wraps(view)
    async def anyone(*args: P.args, **kwargs: P.kwargs) -> R:
        await identify()
        return await view(*args, **kwargs)

    documented: Callable[P, Awaitable[R]] = security_scheme([{}, {"bearer": []}])(anyone)
    return refuses(*OF_A_TOKEN)(documented)


async def identify() -> Caller | None:
    """Who the request's bearer token says is asking; None without one. Raises Unauthenticated if it does not hold.

    Looked up once a request.
    """
    if "caller" not in g:
        token = bearer()
        g.caller = found = None if token is None else await behind(token, parts())
        if found is not None:
            await heed(found.user, parts())
    return caller_if_any()


def bearer() -> str | None:
    """The request's bearer token, unread."""
    return bearer_in(request.headers.get("Authorization", ""))


def bearer_in(authorization: str) -> str | None:
    """The token in ``Authorization: Bearer`` (RFC 6750, section 2.1), unread."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def _require() -> Caller:
    found = await identify()
    if found is None:
        raise Unauthenticated("Sign in first: send an access token (Authorization: Bearer).")
    return found


async def _require_admin() -> Caller:
    return _checked_admin(await _require())


def _checked_admin(found: Caller) -> Caller:
    if not found.is_admin:
        raise Forbidden("Only an admin may do this.")
    return found


def _and_once_the_body_is_here(check: Callable[[], Awaitable[Caller]]) -> None:
    """Have it checked again after a body that took its time: who is put out meanwhile does nothing more by it."""

    async def again() -> None:
        g.pop("caller", None)
        await check()

    cast("VezaRequest", request).ask_again = again


async def _require_lately() -> Caller:
    token = bearer()
    if token is None:
        return await _require()
    found = g.caller = await lately_behind(token, parts())
    return found


async def lately_behind(token: str, parts: Parts, kind: TokenType = TokenType.ACCESS) -> Caller:
    """As `behind`; while the database does not say, an admin of a moment ago is who they were. Raises StoreError."""
    claims = parts.tokens.read(token, kind)
    remembered = parts.lately.recall(claims.session_id, claims.user_id, parts.clock())
    if remembered is None:
        return await behind(token, parts, kind)
    try:
        with trio.fail_after(LOOK_SECONDS):
            return await behind(token, parts, kind)
    except (StoreError, trio.TooSlowError):
        return Caller(remembered, claims.session_id)


async def behind(token: str, parts: Parts, kind: TokenType = TokenType.ACCESS) -> Caller:
    """Whose token of that kind this is. Raises Unauthenticated for one that does not hold."""
    claims = parts.tokens.read(token, kind)
    user = await parts.sessions.user_of(claims.session_id, claims.user_id, parts.clock())
    parts.lately.note(claims.session_id, user, parts.clock())
    if user is None:
        raise Unauthenticated("This session is over; sign in again.", code="session_over")
    trace().user_id = user.id
    return Caller(user, claims.session_id)


def _for_admins(view: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    return refuses(*OF_THE_SIGNED_IN, "forbidden")(security_scheme([{"bearer": [Role.ADMIN.value]}])(view))
