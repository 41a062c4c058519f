"""Accounts: who may sign in, under what name, and what a good password is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from uuid import UUID

from email_validator import EmailNotValidError, validate_email

from veza.domain.errors import Conflict, Invalid
from veza.domain.ids import NewId

USERNAME = re.compile(r"[A-Za-z0-9_-]{3,30}", re.ASCII)
PASSWORD_LENGTH = range(8, 129)
EMAIL_LENGTH = 254  # RFC 5321, section 4.5.3.1.3: a path is at most 256 octets, its brackets included
SESSION_LIFETIME = timedelta(days=7)  # since its refresh token was last used
SESSION_LONGEST = timedelta(days=30)  # since the password was given (NIST SP 800-63B-3, section 4.1.3)
USER_AGENT_LENGTH = 256  # enough to recognise a device by; browsers send some 120


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True)
class User:
    id: UUID
    username: str
    email: str
    role: Role
    created_at: datetime
    updated_at: datetime
    do_not_sell: bool = False
    """What is stored of it; see `veza.domain.privacy`."""


@dataclass(frozen=True)
class Credentials:
    """A user and what their password is checked against."""

    user: User
    password_hash: str = field(repr=False)


class SessionEnd(StrEnum):
    """Why a session is over."""

    LOGOUT = "logout"
    REUSED = "reused"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason, not a secret
    ENDED_BY_USER = "ended_by_user"
    BANNED = "banned"
    ERASED = "erased"


@dataclass(frozen=True)
class Session:
    """One signed-in device: the family of refresh tokens that a login began."""

    id: UUID
    user_id: UUID
    refresh_id: UUID
    """The one refresh token that is good now."""
    created_at: datetime
    last_used_at: datetime
    """When its refresh token was, or it began. What is done by an access token, within its hour, does not move it."""
    expires_at: datetime
    user_agent: str | None
    address: str | None


def check_username(username: str) -> str:
    """The username as given. Raises Invalid unless it is 3 to 30 of ``[A-Za-z0-9_-]``."""
    if not USERNAME.fullmatch(username):
        raise Invalid("The username must be 3 to 30 letters, digits, underscores or hyphens.", field="username")
    return username


def check_email(email: str) -> str:
    """The form an address is kept and compared in: normalized and case-folded. Raises Invalid unless it is one.

    Its syntax is checked (RFC 5321, 5322 and their internationalized forms), and that its domain is a public one or of
    ``.test``; nothing is looked up.
    """
    if len(email) > EMAIL_LENGTH:  # before anything that takes its time over a long one
        raise Invalid(f"The email may have at most {EMAIL_LENGTH} characters.", field="email")
    try:
        told = validate_email(email.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise Invalid(f"The email is not valid. {error}", field="email") from None
    return told.normalized.casefold()


def check_password(password: str, *, field: str = "password") -> str:
    """The password as given. Raises Invalid unless it has 8 to 128 characters, a letter, and a digit or symbol."""
    if len(password) not in PASSWORD_LENGTH:
        raise Invalid("The password must be 8 to 128 characters long.", field=field)
    if not any(map(str.isalpha, password)) or all(map(str.isalpha, password)):
        raise Invalid("The password must have a letter and a digit or symbol.", field=field)
    return password


def check_may_lose_admin(user: User, *, by: UUID | None, last_admin: bool) -> None:
    """Raises Conflict where nobody would be left who may undo it, or where somebody would do it to themself.

    ``by`` is who wants to; null is the command line. ``last_admin``: nobody else is an admin who may sign in.
    """
    if last_admin:
        raise Conflict("This is the last admin: make somebody else one first.", code="last_admin")
    if user.id == by:
        raise Conflict("This is your own account: ask another admin.", code="own_account")


def session_expiry(began_at: datetime, used_at: datetime) -> datetime:
    """When a session is over unless it is used again; however often it is used, in the end a password is asked for."""
    return min(used_at + SESSION_LIFETIME, began_at + SESSION_LONGEST)


def begin_session(
    user_id: UUID, new_id: NewId, now: datetime, *, user_agent: str | None = None, address: str | None = None
) -> Session:
    """A session as a login begins it."""
    return Session(
        id=new_id(),
        user_id=user_id,
        refresh_id=new_id(),
        created_at=now,
        last_used_at=now,
        expires_at=session_expiry(now, now),
        user_agent=user_agent[:USER_AGENT_LENGTH] if user_agent else None,
        address=address,
    )


class Refresh(Enum):
    """What a refresh token that was shown to us calls for."""

    ROTATE = auto()
    """It is the good one: give the next."""
    REPEAT = auto()
    """It was good a moment ago and its answer may have been lost: give the same next one again."""
    REUSED = auto()
    """It was good once: somebody has a copy. Nobody in the family can be trusted."""
    OVER = auto()
    """Its session is over."""


@dataclass(frozen=True)
class Family:
    """What the tokens of one session are judged by."""

    session: Session
    previous_id: UUID | None
    """The refresh token before the good one."""
    rotated_at: datetime
    ended: bool


def judge_refresh(family: Family, shown: UUID, now: datetime, grace: timedelta) -> Refresh:
    """What to do about the refresh token ``shown``, which names this family. Without a grace there is no repeating."""
    if family.ended or now >= family.session.expires_at:
        return Refresh.OVER
    if shown == family.session.refresh_id:
        return Refresh.ROTATE
    if shown == family.previous_id and now - family.rotated_at < grace:
        return Refresh.REPEAT
    return Refresh.REUSED
