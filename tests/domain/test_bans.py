"""Bans: who must not be banned by whom, and how a ban is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from veza.domain.accounts import Role, User, check_may_lose_admin
from veza.domain.bans import Ban, Banned, ban_news, check_may_ban, check_may_lift, lift_news
from veza.domain.errors import Conflict, Invalid
from veza.domain.notifications import NotificationKind

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
ANN = User(UUID(int=1), "ann", "ann@example.com", Role.USER, NOON, NOON)
ROOT = replace(ANN, id=UUID(int=2), role=Role.ADMIN)


def may_ban(user: User, by: UUID | None, *, last: bool = False, until: datetime | None = None) -> None:
    check_may_ban(user, by=by, last_admin=last, until=until, now=NOON)


def test_an_admin_bans_anyone_else_for_a_time_or_for_good() -> None:
    may_ban(ANN, ROOT.id)
    may_ban(replace(ROOT, id=UUID(int=3)), ROOT.id, until=NOON + timedelta(seconds=1))


def test_nobody_bans_or_demotes_themself_or_the_last_admin() -> None:
    for check in (may_ban, lambda user, by: check_may_lose_admin(user, by=by, last_admin=False)):
        with pytest.raises(Conflict) as own:
            check(ROOT, ROOT.id)
        assert own.value.code == "own_account"
    for by in (ROOT.id, UUID(int=3), None):
        with pytest.raises(Conflict) as last:
            may_ban(ROOT, by, last=True)
        assert last.value.code == "last_admin"


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=1)])
def test_a_ban_ends_in_the_future(ago: timedelta) -> None:
    with pytest.raises(Invalid) as refused:
        may_ban(ANN, ROOT.id, until=NOON - ago)
    assert refused.value.field == "until"


def test_only_a_ban_that_stands_is_lifted() -> None:
    check_may_lift(Ban(NOON, None, ""))
    with pytest.raises(Conflict) as refused:
        check_may_lift(None)
    assert refused.value.code == "not_banned"


@pytest.mark.parametrize(
    ("ban", "told"),
    [
        (Ban(NOON, None, ""), "This account is banned."),
        (Ban(NOON, NOON, ""), "This account is banned until 2026-02-23T12:00:00Z."),
        (Ban(NOON, None, "Spam."), "This account is banned. The reason: Spam."),
        (Ban(NOON, None, "Spam"), "This account is banned. The reason: Spam."),
    ],
)
def test_who_is_banned_is_told_until_when_and_why(ban: Ban, told: str) -> None:
    refusal = Banned(ban)
    assert (str(refusal), refusal.code) == (told, "banned")


def test_the_news_of_a_ban_has_its_end_and_its_reason() -> None:
    lasting, timed = ban_news(Ban(NOON, None, "")), ban_news(Ban(NOON, NOON, "Spam"))
    assert (lasting.title, lasting.body, lasting.data["until"]) == ("Your account was banned", "", None)
    assert (timed.title, timed.body) == ("Your account was banned until 2026-02-23T12:00:00Z", "Spam")
    assert timed.data == {"until": "2026-02-23T12:00:00Z", "reason": "Spam"}
    assert lift_news().kind is NotificationKind.BAN_LIFTED
