"""Tokens: each is good for one thing, until its time by the clock that was passed in, and nobody else can make one."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest

from tests.people import People
from veza.domain.accounts import SESSION_LIFETIME, Session
from veza.domain.errors import Unauthenticated
from veza.http.tokens import ACCESS_LIFETIME, Tokens, TokenType

KEY = b"k" * 32
ACCESS, REFRESH = TokenType.ACCESS, TokenType.REFRESH


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def tokens(people: People) -> Tokens:
    return Tokens(KEY, people.clock, people.new_id)


@pytest.fixture
def session(people: People) -> Session:
    return people.session(people.new_id())


def refused(tokens: Tokens, token: str, wanted: TokenType = ACCESS) -> str:
    with pytest.raises(Unauthenticated) as told:
        tokens.read(token, wanted)
    assert len(token) < 9 or token not in str(told.value)
    return told.value.code


def claims_of(token: str) -> dict[str, Any]:
    told: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return told


def forged(
    session: Session, key: bytes = KEY, algorithm: str = "HS256", other: Mapping[str, object] | None = None
) -> str:
    """An access token that would be good, but for what is said; a claim of None is left out."""
    claims: dict[str, object] = {
        "type": "access",
        "sub": str(session.user_id),
        "sid": str(session.id),
        "jti": str(session.refresh_id),
        "iat": int(session.created_at.timestamp()),
        "exp": int(session.expires_at.timestamp()),
    }
    kept = {name: value for name, value in (claims | dict(other or {})).items() if value is not None}
    return jwt.encode(kept, key, algorithm)


def test_a_token_says_whose_session_it_names(tokens: Tokens, session: Session) -> None:
    access = tokens.read(tokens.access(session), ACCESS)
    refresh = tokens.read(tokens.refresh(session), REFRESH)
    for claims in (access, refresh):
        assert (claims.user_id, claims.session_id) == (session.user_id, session.id)
    assert refresh.token_id == session.refresh_id
    assert refresh.expires_at == session.expires_at
    assert access.expires_at == session.created_at + ACCESS_LIFETIME


def test_a_token_holds_no_name_address_or_role(tokens: Tokens, session: Session) -> None:
    for token in (tokens.access(session), tokens.refresh(session)):
        assert set(claims_of(token)) == {"type", "sub", "sid", "jti", "iat", "exp"}
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}


def test_what_makes_a_token_is_as_good_as_one(tokens: Tokens, session: Session) -> None:
    assert tokens.read(forged(session), ACCESS).user_id == session.user_id  # so the refusals below mean something


def test_a_refresh_token_is_no_access_token_and_the_other_way_round(tokens: Tokens, session: Session) -> None:
    assert refused(tokens, tokens.refresh(session), ACCESS) == "invalid_token"
    assert refused(tokens, tokens.access(session), REFRESH) == "invalid_token"


def test_a_token_expires_by_the_passed_clock(tokens: Tokens, session: Session, people: People) -> None:
    access, refresh = tokens.access(session), tokens.refresh(session)
    people.clock.move(ACCESS_LIFETIME - timedelta(seconds=1))
    tokens.read(access, ACCESS)
    people.clock.move(timedelta(seconds=1))
    assert refused(tokens, access, ACCESS) == "token_expired"
    people.clock.move(SESSION_LIFETIME - ACCESS_LIFETIME)
    assert refused(tokens, refresh, REFRESH) == "token_expired"


def test_an_expired_token_is_enough_to_sign_out_with_but_a_forged_one_is_not(
    tokens: Tokens, session: Session, people: People
) -> None:
    access = tokens.access(session)
    people.clock.move(timedelta(days=300))
    assert tokens.read(access, ACCESS, expired=True).session_id == session.id
    with pytest.raises(Unauthenticated):
        tokens.read(forged(session, b"x" * 32), ACCESS, expired=True)


def test_a_token_signed_with_another_key_or_algorithm_is_refused(
    tokens: Tokens, session: Session, people: People
) -> None:
    long = Tokens(KEY * 2, people.clock, people.new_id)
    assert refused(tokens, forged(session, b"x" * 32)) == "invalid_token"
    for algorithm in ("HS384", "HS512"):
        assert refused(long, forged(session, KEY * 2, algorithm)) == "invalid_token"
    assert long.read(forged(session, KEY * 2), ACCESS).user_id == session.user_id


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None])
@pytest.mark.parametrize("signed", [True, False])
def test_a_token_that_claims_to_need_no_signature_is_refused(
    tokens: Tokens, session: Session, name: str | None, signed: bool
) -> None:
    _, claims, signature = tokens.access(session).split(".")
    header = part({"alg": name, "typ": "JWT"})
    assert refused(tokens, f"{header}.{claims}.{signature if signed else ''}") == "invalid_token"


def test_a_token_whose_claims_were_changed_is_refused(tokens: Tokens, session: Session) -> None:
    header, _, signature = tokens.refresh(session).split(".")
    claims = claims_of(tokens.refresh(session)) | {"type": "access"}
    assert refused(tokens, f"{header}.{part(claims)}.{signature}") == "invalid_token"


@pytest.mark.parametrize("claim", ["type", "sub", "sid", "jti", "exp"])
@pytest.mark.parametrize("value", [None, "nonsense", [], {}, 1e300])
def test_a_token_of_ours_that_says_less_or_something_else_is_refused(
    tokens: Tokens, session: Session, claim: str, value: object
) -> None:
    assert refused(tokens, forged(session, other={claim: value})) == "invalid_token"


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "null", "é", "x" * 10_000, "eyJhbGciOiJIUzI1NiJ9.e30.", "\0"]
)
def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    assert refused(tokens, token) == "invalid_token"


def test_a_key_shorter_than_the_hash_is_refused_at_the_start(people: People) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Tokens(b"k" * 31, people.clock, people.new_id)
