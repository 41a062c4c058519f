"""The state a browser carries to the payout provider and back."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
import pytest

from tests.people import People
from veza.domain.errors import Invalid, Unauthenticated
from veza.http.states import LIFETIME, PURPOSE, States
from veza.http.tokens import ALGORITHM, Tokens, TokenType

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)
SECRET = b"s" * 32
USER = UUID(int=7)


def states(at: datetime = NOW, secret: bytes = SECRET) -> States:
    return States(secret, lambda: at)


def test_a_state_names_who_it_was_made_for_until_it_is_over() -> None:
    state = states().sign(USER)
    assert states(NOW + LIFETIME - timedelta(seconds=1)).read(state) == USER
    with pytest.raises(Invalid, match="expired") as refused:
        states(NOW + LIFETIME).read(state)
    assert refused.value.code == "state_expired"


def test_a_state_under_another_secret_is_refused() -> None:
    with pytest.raises(Invalid):
        states(secret=b"t" * 32).read(states().sign(USER))


@pytest.mark.parametrize("state", ["", "x", "a.b.c", "é"])
def test_what_is_no_token_is_no_state(state: str) -> None:
    with pytest.raises(Invalid):
        states().read(state)


def test_no_other_token_of_ours_is_a_state_nor_a_state_another_token() -> None:
    people = People()
    tokens, session = Tokens(SECRET, people.clock, people.new_id), people.session(USER)
    for token in (tokens.access(session), tokens.refresh(session)):
        with pytest.raises(Invalid):
            States(SECRET, people.clock).read(token)
    for kind in TokenType:
        with pytest.raises(Unauthenticated):
            tokens.read(States(SECRET, people.clock).sign(USER), kind)


@pytest.mark.parametrize(
    "claims", [{"exp": 2e9}, {"sub": str(USER)}, {"sub": "x", "exp": 2e9}, {"sub": "x", "exp": "y"}]
)
def test_a_state_that_says_too_little_is_refused(claims: dict[str, object]) -> None:
    key = hmac.digest(SECRET, PURPOSE, "sha256")
    with pytest.raises(Invalid):
        states().read(jwt.encode(claims, key, ALGORITHM))
