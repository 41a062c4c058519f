"""Bans: who may not take part, until when and why, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from veza.domain.accounts import User, check_may_lose_admin
from veza.domain.errors import Conflict, Forbidden, Invalid
from veza.domain.notifications import News, NotificationKind

REASON_LENGTH: Final = 500  # a few sentences, which are told to whoever is banned


@dataclass(frozen=True)
class Ban:
    """``until`` is null for a lasting one. ``reason`` is told to who is banned; empty where nothing is told."""

    at: datetime | None
    until: datetime | None
    reason: str


@dataclass(frozen=True)
class Standing:
    """An account as admins see it: who it is, and the ban that stands at the moment, if one does."""

    user: User
    ban: Ban | None


class Banned(Forbidden):
    """Somebody who is who they say, and may not come in."""

    code = "banned"

    def __init__(self, ban: Ban) -> None:
        super().__init__(" ".join([_sentence(ban.until), *_reason(ban.reason)]))
        self.ban = ban


def check_may_ban(user: User, *, by: UUID | None, last_admin: bool, until: datetime | None, now: datetime) -> None:
    """Raises Conflict for who must not be banned by them, Invalid for a ban that would be over already."""
    check_may_lose_admin(user, by=by, last_admin=last_admin)
    if until is not None and until <= now:
        raise Invalid("A ban ends in the future.", field="until")


def check_may_lift(ban: Ban | None) -> None:
    """Raises Conflict where there is nothing to lift."""
    if ban is None:
        raise Conflict("This account is not banned.", code="not_banned")


def ban_news(ban: Ban) -> News:
    """What is told to who is banned: to be read once they are back, for until then they don't come in."""
    data = {"until": None if ban.until is None else zulu(ban.until), "reason": ban.reason}
    until = "" if ban.until is None else f" until {zulu(ban.until)}"
    return News(NotificationKind.ACCOUNT_BANNED, f"Your account was banned{until}", ban.reason, data)


def lift_news() -> News:
    """What is told to who was banned, when an admin lifts it."""
    return News(NotificationKind.BAN_LIFTED, "Your account is no longer banned", "What you sell is on sale again.")


def zulu(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reason(reason: str) -> list[str]:
    return [f"The reason: {reason}{'' if reason.endswith(('.', '!', '?')) else '.'}"] if reason else []


def _sentence(until: datetime | None) -> str:
    return "This account is banned." if until is None else f"This account is banned until {zulu(until)}."
