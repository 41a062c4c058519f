"""Stream keys: each is read as what it was made for, and nothing else is a key."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from veza.domain.stream_keys import KeyClaim, StreamKeys

KEYS = StreamKeys(b"s" * 32)
VERSIONS = st.integers(0, 2**31 - 1)  # as many as a row can count
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
KEY_LENGTH = len("sk_") + 32 + len("_") + 32


@given(st.uuids(), VERSIONS)
def test_a_key_is_read_as_what_it_was_made_for(stream_id: UUID, version: int) -> None:
    assert KEYS.read(KEYS.key(stream_id, version)) == KeyClaim(stream_id, version)


@given(st.uuids(), VERSIONS, st.integers(0, KEY_LENGTH - 1), st.sampled_from(ALPHABET) | st.characters())
def test_a_key_with_any_character_altered_is_none_of_ours(stream_id: UUID, version: int, at: int, other: str) -> None:
    key = KEYS.key(stream_id, version)
    assume(key[at] != other)
    assert KEYS.read(key[:at] + other + key[at + 1 :]) is None


@given(st.uuids(), VERSIONS, st.integers(0, KEY_LENGTH - 1), st.sampled_from(ALPHABET))
def test_a_key_that_is_cut_or_longer_is_none_of_ours(stream_id: UUID, version: int, at: int, more: str) -> None:
    key = KEYS.key(stream_id, version)
    assert len(key) == KEY_LENGTH
    for other in (key[:at], key[:at] + more + key[at:], f"{key}\n", f" {key}", key.upper()):
        assert KEYS.read(other) is None


@given(st.uuids(), VERSIONS, st.binary(min_size=1, max_size=64))
def test_a_key_made_under_another_secret_is_none_of_ours(stream_id: UUID, version: int, secret: bytes) -> None:
    assume(secret.rstrip(b"\0") != b"s" * 32)  # HMAC pads a short secret with zeros
    assert KEYS.read(StreamKeys(secret).key(stream_id, version)) is None


@given(st.uuids(), st.uuids(), VERSIONS, VERSIONS)
def test_no_stream_and_no_version_lends_another_its_key(one: UUID, other: UUID, first: int, second: int) -> None:
    assume((one, first) != (other, second))
    key, of_other = KEYS.key(one, first), KEYS.key(other, second)
    assert key != of_other
    assert KEYS.read(key[:36] + of_other[36:]) is None


@given(st.text() | st.from_regex(r"sk_[a-z2-7]{32}_[a-z2-7]{32}", fullmatch=True))
def test_arbitrary_text_is_no_key_and_no_trouble(text: str) -> None:
    assert KEYS.read(text) is None


def test_no_keys_are_made_without_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        StreamKeys(b"")
