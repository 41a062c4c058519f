"""Users: one's own account, and the little that everyone may know of another's."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import SecretStr
from quart import Blueprint
from quart_schema import validate_request, validate_response

from veza.domain.accounts import Credentials, Role
from veza.domain.errors import Conflict, Unauthenticated
from veza.gateways.passwords import Verdict
from veza.http.auth import caller, login_required
from veza.http.envelope import Body, Envelope, Out
from veza.http.fields import Email, NewPassword, Username
from veza.http.guesses import giving_it_again
from veza.http.parts import parts
from veza.http.refusals import refuses

api = Blueprint("users", __name__)


class MeOut(Out):
    id: UUID
    username: str
    email: str
    role: Role
    created_at: datetime
    updated_at: datetime


class UserOut(Out):
    id: UUID
    username: str
    created_at: datetime


class MeBody(Body):
    """Changes what is sent. The rest of a fetched account may be sent along, and is ignored."""

    username: Username = ""
    email: Email = ""
    id: object = None
    role: object = None
    created_at: object = None
    updated_at: object = None


class PasswordBody(Body):
    current_password: SecretStr
    new_password: NewPassword


class ChangedOut(Out):
    changed: bool = True


@api.get("/users/me")
@login_required
@validate_response(Envelope[MeOut])
async def get_me() -> Envelope[MeOut]:
    """The caller's own account."""
    return Envelope[MeOut](data=MeOut.of(caller().user))


@api.put("/users/me")
@login_required
@validate_request(MeBody)
@validate_response(Envelope[MeOut])
@refuses("username_taken", "email_taken")
async def put_me(data: MeBody) -> Envelope[MeOut]:
    """Change the username or the email.

    `username`, `email`, or both: what is not sent stays.
    """
    user = caller().user
    if data.username not in ("", user.username) or data.email not in ("", user.email):
        user = await parts().accounts.rename(
            user.id, username=data.username or None, email=data.email or None, now=parts().clock()
        )
    return Envelope[MeOut](data=MeOut.of(user))


@api.put("/users/me/password")
@login_required
@validate_request(PasswordBody)
@validate_response(Envelope[ChangedOut])
@refuses("invalid_credentials", "password_changed", "too_many_attempts")
async def put_password(data: PasswordBody) -> Envelope[ChangedOut]:
    """Change the password and end every other session."""
    current = await verified(data.current_password, "current_password")
    hashed = await parts().passwords.hash(data.new_password.get_secret_value())
    keep, now = caller().session_id, parts().clock()
    if not await parts().accounts.change_password(current, hashed, keep=keep, now=now):
        raise Conflict("The password was changed meanwhile.", code="password_changed")
    return Envelope[ChangedOut](data=ChangedOut())


async def verified(password: SecretStr, field: str) -> Credentials:
    """The caller's credentials, their password being right. Raises Unauthenticated, with the body's ``field``, and
    TooManyAttempts."""
    found = await parts().accounts.credentials_of(caller().id)
    async with giving_it_again():
        verdict = await parts().passwords.verify(password.get_secret_value(), found.password_hash if found else None)
        if found is None or verdict is Verdict.WRONG:
            raise Unauthenticated("The current password is wrong.", code="invalid_credentials", field=field)
    return found


@api.get("/users/<uuid:user_id>")
@validate_response(Envelope[UserOut])
async def get_user(user_id: UUID) -> Envelope[UserOut]:
    """What everyone may know of a user."""
    user = await parts().accounts.get(user_id)
    return Envelope[UserOut](data=UserOut.of(user))
