"""What a username, an address and a password may be, and what a refresh token calls for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from veza.domain.accounts import (
    SESSION_LIFETIME,
    SESSION_LONGEST,
    USER_AGENT_LENGTH,
    Credentials,
    Family,
    Refresh,
    Role,
    User,
    begin_session,
    check_email,
    check_password,
    check_username,
    judge_refresh,
    session_expiry,
)
from veza.domain.errors import Invalid
from veza.domain.ids import IdMint

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)
mint = IdMint(lambda: NOON, Random(5))
NOBODY = UUID(int=0)


@pytest.mark.parametrize("username", ["abc", "A_b-9", "x" * 30, "---"])
def test_a_username_is_kept_as_it_was_typed(username: str) -> None:
    assert check_username(username) == username


@pytest.mark.parametrize("username", ["", "ab", "x" * 31, "a b c", "jürgen", "a.b.c", "abc\n", "αβγ"])
def test_a_username_of_other_characters_or_length_is_refused(username: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_username(username)
    assert refused.value.field == "username"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("john@example.com", "john@example.com"),
        (" John.Doe@Example.COM ", "john.doe@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("me@xn--bcher-kva.example", "me@bücher.example"),
        ("me@BÜCHER.example", "me@bücher.example"),
        ("seller@veza.test", "seller@veza.test"),
    ],
)
def test_an_address_is_kept_in_one_form_whatever_way_it_is_typed(typed: str, kept: str) -> None:
    assert check_email(typed) == kept
    assert check_email(kept) == kept


@pytest.mark.parametrize(
    "email",
    [
        "",
        "john",
        "@example.com",
        "john@",
        "john@example",
        "a b@example.com",
        "j@exa mple.com",
        "Jo <j@example.com>",
        "x" * 250 + "@example.com",
        "a" * 1_000_000 + "@example.com",
        "a@" + "x." * 130 + "com",
        "a..b@example.com",
        "a@localhost",
        "a@[127.0.0.1]",
    ],
)
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_email(email)
    assert refused.value.field == "email"


@pytest.mark.parametrize("password", ["abcdefg1", "abcdefg!", "ąćęłńóśź12", "a" * 127 + " ", "1234567a"])
def test_a_password_with_a_letter_and_something_else_is_taken(password: str) -> None:
    assert check_password(password) == password


@pytest.mark.parametrize("password", ["", "abcdef1", "a1" * 65, "abcdefgh", "12345678", "!!!!!!!!"])
def test_a_password_too_short_too_long_or_of_one_kind_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_password(password, field="new_password")
    assert refused.value.field == "new_password"
    assert not password or password not in str(refused.value)


def test_a_session_lasts_a_week_and_remembers_its_device_in_brief() -> None:
    session = begin_session(NOBODY, mint, NOON, user_agent="x" * 5000, address="192.0.2.1")
    assert session.expires_at - NOON == SESSION_LIFETIME == timedelta(days=7)
    assert session.user_agent == "x" * USER_AGENT_LENGTH
    assert session.id != session.refresh_id


def test_however_often_it_is_used_a_session_is_over_a_month_after_the_password_was_given() -> None:
    assert session_expiry(NOON, NOON + timedelta(days=20)) == NOON + timedelta(days=27)
    assert session_expiry(NOON, NOON + timedelta(days=29)) == NOON + SESSION_LONGEST == NOON + timedelta(days=30)


def test_credentials_do_not_show_their_hash() -> None:
    user = User(NOBODY, "ann", "ann@example.com", Role.USER, NOON, NOON)
    assert "argon2" not in repr(Credentials(user, "$argon2id$..."))


def family(*, ended: bool = False) -> Family:
    session = begin_session(NOBODY, mint, NOON)
    return Family(session, previous_id=mint(), rotated_at=NOON, ended=ended)


NO_GRACE = timedelta(0)
GRACE = timedelta(seconds=10)


def test_the_good_refresh_token_is_rotated() -> None:
    ours = family()
    assert judge_refresh(ours, ours.session.refresh_id, NOON, NO_GRACE) is Refresh.ROTATE


def test_a_used_refresh_token_betrays_its_family() -> None:
    ours = family()
    assert ours.previous_id is not None
    assert judge_refresh(ours, ours.previous_id, NOON, NO_GRACE) is Refresh.REUSED
    assert judge_refresh(ours, mint(), NOON, GRACE) is Refresh.REUSED


def test_the_token_before_may_be_shown_again_while_the_grace_lasts() -> None:
    ours = family()
    assert ours.previous_id is not None
    just = NOON + GRACE - timedelta(microseconds=1)
    assert judge_refresh(ours, ours.previous_id, just, GRACE) is Refresh.REPEAT
    assert judge_refresh(ours, ours.previous_id, NOON + GRACE, GRACE) is Refresh.REUSED


@pytest.mark.parametrize("grace", [NO_GRACE, GRACE])
def test_nothing_is_had_for_any_token_of_a_session_that_is_over(grace: timedelta) -> None:
    ended, old = family(ended=True), family()
    late = old.session.expires_at
    for gone, now in ((ended, NOON), (old, late), (replace(ended, previous_id=None), late)):
        for shown in (gone.session.refresh_id, gone.previous_id or mint(), mint()):
            assert judge_refresh(gone, shown, now, grace) is Refresh.OVER
