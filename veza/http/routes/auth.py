"""Signing up, in, on and out, and the devices one is signed in on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from pydantic import SecretStr, ValidationError
from quart import Blueprint, request
from quart_schema import document_request, security_scheme, validate_querystring, validate_request, validate_response
from werkzeug.exceptions import HTTPException
from werkzeug.http import dump_cookie

from veza.domain.accounts import (
    SESSION_LIFETIME,
    Refresh,
    Role,
    Session,
    SessionEnd,
    User,
    begin_session,
)
from veza.domain.errors import NotFound, Refusal, Unauthenticated, Unavailable
from veza.domain.flags import Flag
from veza.domain.maintenance import under_maintenance
from veza.gateways.passwords import Verdict
from veza.http.auth import bearer, caller, login_required
from veza.http.edge import trace
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.fields import Email, NewPassword, Username
from veza.http.guesses import signing_in
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.privacy import heed
from veza.http.refusals import OF_THE_SIGNED_IN, refuses
from veza.http.tokens import ACCESS_LIFETIME, Claims, TokenType
from veza.store.sessions import Refreshed

COOKIE: Final = "refresh_token"
COOKIE_PATH: Final = "/api/v1/auth"  # it travels only to where it is used

log = structlog.get_logger()

api = Blueprint("auth", __name__)


class RegisterBody(Body):
    username: Username
    email: Email
    password: NewPassword


class LoginBody(Body):
    email: Email
    password: SecretStr


class RefreshBody(Body):
    """Without a token here the one in the cookie counts."""

    refresh_token: SecretStr | None = None


class NameOut(Out):
    id: UUID
    username: str
    email: str


class SignedInOut(Out):
    user: NameOut
    access_token: str
    refresh_token: str
    expires_in: int


class SignedOutOut(Out):
    logged_out: bool = True


class SessionOut(Out):
    """``last_used_at`` is when its refresh token last was: an access token, good for an hour, does not move it."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str | None
    address: str | None
    current: bool


class SessionsOut(Out):
    sessions: list[SessionOut]
    total: int


SignedIn = tuple[Envelope[SignedInOut], int, dict[str, str]]


@api.post("/auth/register")
@validate_request(RegisterBody)
@validate_response(Envelope[SignedInOut], 201)
@refuses("username_taken", "email_taken", "feature_disabled", "overloaded")
async def register(data: RegisterBody) -> SignedIn:
    """Open an account and sign in."""
    parts().flags().check(Flag.REGISTRATION)
    hashed = await parts().passwords.hash(data.password.get_secret_value())
    now = parts().clock()
    user = User(parts().new_id(), data.username, data.email, Role.USER, created_at=now, updated_at=now)
    session = _begin(user)
    return await _signed_in(await parts().accounts.register(user, hashed, session), session, 201)


@api.post("/auth/login")
@validate_request(LoginBody)
@validate_response(Envelope[SignedInOut])
@refuses("invalid_credentials", "banned", "too_many_attempts", "maintenance")
async def login(data: LoginBody) -> SignedIn:
    """Sign in with email and password.

    An unknown email and a wrong password are told alike, and `banned` only once the password is checked. Wrong ones are
    counted for an address, and for an account by who is unknown to it; a device that is or was signed in, by the token
    in its bearer or its cookie, counts for itself. During maintenance admins alone come in.
    """
    user, session = await sign_in(data.email, data.password.get_secret_value(), _let_in, request.cookies.get(COOKIE))
    return await _signed_in(user, session)


@api.post("/auth/refresh")
@security_scheme([{}, {"refresh_cookie": []}])
@validate_request(RefreshBody)
@validate_response(Envelope[SignedInOut])
@refuses(*OF_THE_SIGNED_IN, "banned", "maintenance")
async def refresh(data: RefreshBody) -> SignedIn:
    """Get a new pair of tokens for the refresh token of the body or the cookie.

    Each is good once; a second use ends the session. Each is good for a week, and none longer than 30 days after the
    password was given: then it is asked for again. During maintenance an admin's is taken; the others' stay good, and
    are to be shown again when it is over. `banned` is for who was signed in when they were banned.
    """
    token = data.refresh_token.get_secret_value() if data.refresh_token else request.cookies.get(COOKIE)
    if not token:
        raise Unauthenticated("Send a refresh token, in the body or as the cookie.")
    claims = parts().tokens.read(token, TokenType.REFRESH)
    trace().user_id = claims.user_id
    if parts().maintenance().enabled:
        _let_in(await parts().sessions.user_of(claims.session_id, claims.user_id, parts().clock()))
    outcome = await parts().sessions.refresh(
        claims.session_id,
        claims.user_id,
        claims.token_id,
        new_id=parts().new_id,
        now=parts().clock(),
        grace=timedelta(seconds=parts().settings.refresh_grace_seconds),
    )
    if isinstance(outcome, Refreshed):
        return await _signed_in(outcome.user, outcome.session)
    if outcome is Refresh.REUSED:
        log.warning("refresh_token_reused", user=str(claims.user_id), session=str(claims.session_id))
    raise Unauthenticated("This session is over; sign in again.", code="session_over")


@api.post("/auth/logout")
@security_scheme([{}, {"bearer": []}, {"refresh_cookie": []}])
@document_request(RefreshBody)
@validate_response(Envelope[SignedOutOut])
async def logout() -> tuple[Envelope[SignedOutOut], int, dict[str, str]]:
    """Sign out.

    The session ends of each token sent: the bearer, the body's and the cookie's. Without any it is as well.
    """
    now = parts().clock()
    for user_id, session_id in {(claims.user_id, claims.session_id) for claims in await _all_shown()}:
        trace().user_id = user_id
        await parts().sessions.end(user_id, SessionEnd.LOGOUT, now, only=session_id)
    return Envelope[SignedOutOut](data=SignedOutOut()), 200, refresh_cookie("")


@api.get("/auth/sessions")
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[SessionsOut])
async def list_sessions(query_args: Paging) -> Envelope[SessionsOut]:
    """The devices the caller is signed in on, the latest used first."""
    found, total = await parts().sessions.page(
        caller().id, parts().clock(), limit=query_args.limit, offset=query_args.offset
    )
    return Envelope[SessionsOut](data=SessionsOut(sessions=list(map(_session, found)), total=total))


@api.get("/auth/sessions/<uuid:session_id>")
@login_required
@validate_response(Envelope[SessionOut])
async def get_session(session_id: UUID) -> Envelope[SessionOut]:
    """One of the devices the caller is signed in on."""
    found = await parts().sessions.get(session_id, caller().id, parts().clock())
    if found is None:
        raise NotFound("There is no such session.")
    return Envelope[SessionOut](data=_session(found))


@api.delete("/auth/sessions")
@login_required
@validate_response(Envelope[DeletedOut])
async def end_sessions() -> tuple[Envelope[DeletedOut], int, dict[str, str]]:
    """Sign out everywhere, here included."""
    await parts().sessions.end(caller().id, SessionEnd.ENDED_BY_USER, parts().clock())
    return Envelope[DeletedOut](data=DeletedOut()), 200, refresh_cookie("")


@api.delete("/auth/sessions/<uuid:session_id>")
@login_required
@validate_response(Envelope[DeletedOut])
async def end_session(session_id: UUID) -> Envelope[DeletedOut]:
    """Sign one device out; its tokens are refused from then on."""
    if not await parts().sessions.end(caller().id, SessionEnd.ENDED_BY_USER, parts().clock(), only=session_id):
        raise NotFound("There is no such session.")
    return Envelope[DeletedOut](data=DeletedOut())


async def sign_in(
    email: str, password: str, let_in: Callable[[User], None], device: str | None
) -> tuple[User, Session]:
    """A new session for who gives the right password and is ``let_in``, which is asked only then.

    ``device`` is a token of an earlier session, by which the account may know it. Raises Unauthenticated,
    TooManyAttempts, Banned, Unavailable, and whatever ``let_in`` does.
    """
    for _ in range(2):  # the hash may change between verifying it and signing in, once: it is renewed or replaced
        found = await parts().accounts.credentials(email)
        async with signing_in(email, found.user if found else None, device):
            verdict = await parts().passwords.verify(password, found.password_hash if found else None)
            if found is None or verdict is Verdict.WRONG:
                raise Unauthenticated("The email or the password is wrong.", code="invalid_credentials")
        let_in(found.user)
        rehashed = await parts().passwords.hash(password) if verdict is Verdict.STALE else None
        session = _begin(found.user)
        if await parts().accounts.sign_in(found, session, rehashed=rehashed):
            return found.user, session
    raise Unavailable("The password is being changed; try again.")


def _let_in(user: User | None) -> None:
    """Raises UnderMaintenance for who is no admin, while it is on. What becomes of nobody, others say."""
    maintenance = parts().maintenance()
    if maintenance.enabled and user is not None and user.role is not Role.ADMIN:
        raise under_maintenance(maintenance, parts().clock())


def _begin(user: User) -> Session:
    return begin_session(
        user.id,
        parts().new_id,
        parts().clock(),
        user_agent=request.headers.get("User-Agent"),
        address=request.remote_addr,
    )


async def _signed_in(user: User, session: Session, status: int = 200) -> SignedIn:
    trace().user_id = user.id
    await heed(user, parts())
    token = parts().tokens.refresh(session)
    out = SignedInOut(
        user=NameOut.of(user),
        access_token=parts().tokens.access(session),
        refresh_token=token,
        expires_in=int(ACCESS_LIFETIME.total_seconds()),
    )
    return Envelope[SignedInOut](data=out), status, refresh_cookie(token)


def _session(session: Session) -> SessionOut:
    return SessionOut.of(session, current=session.id == caller().session_id)


def refresh_cookie(token: str) -> dict[str, str]:
    """The refresh cookie; an empty one takes it away."""
    cookie = dump_cookie(
        COOKIE,
        token,
        max_age=SESSION_LIFETIME if token else 0,
        path=COOKIE_PATH,
        secure=parts().settings.secure_cookies,
        httponly=True,
        samesite="Strict",
    )
    return {"Set-Cookie": cookie}


async def _all_shown() -> list[Claims]:
    """What every token of the request says that we signed, be it expired; the others count for nothing."""
    shown = [(bearer(), TokenType.ACCESS), (request.cookies.get(COOKIE), TokenType.REFRESH)]
    with suppress(HTTPException, Refusal, ValidationError):
        body = RefreshBody.model_validate(await request.get_json())
        if body.refresh_token:
            shown.append((body.refresh_token.get_secret_value(), TokenType.REFRESH))
    claims: list[Claims] = []
    for token, kind in shown:
        with suppress(Unauthenticated):
            claims.append(parts().tokens.read(token or "", kind, expired=True))
    return claims
