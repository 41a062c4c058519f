"""The life of a session as a table, who is let in, and what pollers are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from veza.domain.errors import Forbidden
from veza.domain.ingest import Publisher
from veza.domain.live import (
    FIGURES_A_CHANGE,
    NEXT,
    ON_AIR,
    POLL_AFTER_MS,
    Event,
    Health,
    Permission,
    StreamSession,
    StreamState,
    admit,
    status,
)
from veza.domain.stream_keys import KeyClaim

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)
SHOW = UUID(int=1)
CLAIM = KeyClaim(SHOW, 3)
ENCODER = Publisher("nginx-rtmp", "7")


def let_in(permission: Permission, before: StreamSession | None = None) -> StreamSession:
    return admit(permission, CLAIM, ENCODER, before, id=UUID(int=2), now=NOW)


def test_nothing_leads_out_of_the_end_and_nothing_to_where_no_session_was() -> None:
    assert all(before not in (StreamState.ENDED, StreamState.OFFLINE) for before, _ in NEXT)
    assert StreamState.OFFLINE not in NEXT.values()


def test_every_state_that_is_on_air_can_lose_its_publisher_but_the_one_that_has() -> None:
    for state in ON_AIR - {StreamState.RECONNECTING}:
        assert NEXT[state, Event.VANISHED] is StreamState.RECONNECTING
        assert NEXT[state, Event.INGEST_LOST] is StreamState.RECONNECTING


def test_only_the_grace_ends_a_session_by_itself() -> None:
    ends = [step for step, after in NEXT.items() if after is StreamState.ENDED]
    assert ends == [(StreamState.RECONNECTING, Event.OVERDUE)]


def test_a_first_encoder_begins_a_session_after_every_change_so_far() -> None:
    session = let_in(Permission(3, 41, True))
    assert (session.id, session.state, session.changes) == (UUID(int=2), StreamState.STARTING, 42)
    assert (session.reconnects, session.live_at, session.key_version) == (0, None, 3)


def test_one_that_comes_back_goes_on_with_its_session() -> None:
    first = replace(
        let_in(Permission(3, 0, True)),
        live_at=NOW,
        state=StreamState.RECONNECTING,
        ready=True,
        changes=9,
        key_version=2,
    )
    again = let_in(Permission(3, 5, True), first)
    assert (again.id, again.live_at, again.reconnects, again.changes) == (first.id, NOW, 1, 10)
    assert (again.ready, again.key_version) == (False, 3)


@pytest.mark.parametrize("current", [2, 4, None])
def test_a_key_of_another_version_or_of_no_stream_lets_nobody_in(current: int | None) -> None:
    with pytest.raises(Forbidden) as refused:
        let_in(Permission(current, 0, True))
    assert refused.value.code == "key_revoked"


def test_switched_off_a_session_may_be_come_back_to_and_none_begun() -> None:
    first = replace(let_in(Permission(3, 0, True)), state=StreamState.RECONNECTING)
    assert let_in(Permission(3, 0, False), first).id == first.id
    with pytest.raises(Forbidden) as refused:
        let_in(Permission(3, 0, False))
    assert refused.value.code == "feature_disabled"


def test_who_is_banned_is_not_let_in_to_an_open_session_either() -> None:
    first = replace(let_in(Permission(3, 0)), state=StreamState.RECONNECTING)
    for before in (None, first):
        with pytest.raises(Forbidden) as refused:
            let_in(Permission(3, 0, banned=True), before)
        assert refused.value.code == "banned"


@pytest.mark.parametrize(
    ("state", "is_live", "health", "poll_after_ms"),
    [
        (StreamState.OFFLINE, False, Health.NONE, 15_000),
        (StreamState.STARTING, False, Health.POOR, 1_000),
        (StreamState.LIVE, True, Health.GOOD, 5_000),
        (StreamState.STALLED, True, Health.POOR, 2_000),
        (StreamState.RECONNECTING, True, Health.POOR, 2_000),
        (StreamState.ENDED, False, Health.NONE, 15_000),
    ],
)
def test_what_pollers_are_told_of_each_state(
    state: StreamState, is_live: bool, health: Health, poll_after_ms: int
) -> None:
    told = status(state, changes=1)
    assert (told.is_live, told.health, told.poll_after_ms) == (is_live, health, poll_after_ms)


def test_every_state_says_when_to_ask_again() -> None:
    assert POLL_AFTER_MS.keys() == set(StreamState)


def test_a_change_of_state_makes_a_later_version_than_any_figures_before() -> None:
    before = status(StreamState.LIVE, changes=1, figures=10 * FIGURES_A_CHANGE)
    assert status(StreamState.STALLED, changes=2).version > before.version


def test_health_is_unknown_while_the_ingest_server_is_silent_and_none_when_off_air() -> None:
    assert status(StreamState.LIVE, changes=1, ingest_known=False).health is Health.UNKNOWN
    assert status(StreamState.ENDED, changes=1, ingest_known=False).health is Health.NONE
