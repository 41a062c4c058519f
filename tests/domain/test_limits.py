"""Limits, decided purely: what fits, what remains, and when there is more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.domain.limits import (
    Claim,
    Limit,
    Limits,
    fits,
    given_back,
    judge,
    parse_limits,
    refusal,
    refused,
    site_of,
    taken,
    too_often,
    verdict,
    whole_seconds,
)

TEN = Limit("ten", 10, 60)
NEVER = float("-inf")


def admitted(limit: Limit, arrivals: list[float]) -> list[float]:
    """Of these arrivals, those that are let in."""
    tat, let_in = NEVER, []
    for now in arrivals:
        if fits(limit, tat, now):
            tat = taken(limit, tat, now)
            let_in.append(now)
    return let_in


def test_a_whole_quota_may_come_at_once_and_then_no_more() -> None:
    assert len(admitted(TEN, [100.0] * 25)) == 10


def test_what_was_used_comes_back_evenly() -> None:
    tat = NEVER
    for _ in range(10):
        tat = taken(TEN, tat, 100)
    told = refusal(TEN, tat, 100)
    assert told.remaining == 0
    assert told.more_in == pytest.approx(6)
    assert not fits(TEN, tat, 105.9)
    assert fits(TEN, tat, 106)
    assert not fits(TEN, taken(TEN, tat, 106), 111.9)


def test_what_remains_and_when_there_is_one_more_is_told() -> None:
    tat = taken(TEN, NEVER, 100)
    assert verdict(TEN, tat, 100).remaining == 9
    assert verdict(TEN, tat, 100).more_in == pytest.approx(6)
    assert verdict(TEN, taken(TEN, tat, 103), 103).remaining == 8
    assert verdict(TEN, taken(TEN, tat, 103), 103).more_in == pytest.approx(3)
    assert verdict(TEN, tat, 106).remaining == 10
    assert verdict(TEN, tat, 106).more_in == 0


def test_what_is_given_back_counts_no_more() -> None:
    tat = taken(TEN, taken(TEN, NEVER, 100), 100)
    assert verdict(TEN, given_back(TEN, tat), 100).remaining == 9


@given(
    quota=st.integers(1, 50),
    window=st.integers(1, 600),
    gaps=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=200),
)
def test_in_no_stretch_of_time_is_more_let_in_than_a_quota_and_what_refills(
    quota: int, window: int, gaps: list[float]
) -> None:
    limit, now, arrivals = Limit("any", quota, window), 1000.0, []
    for gap in gaps:
        now += gap
        arrivals.append(now)
    let_in = admitted(limit, arrivals)
    for first, begin in enumerate(let_in):
        for last in range(first, len(let_in)):
            allowed = quota + (let_in[last] - begin) / limit.interval
            assert last - first + 1 <= allowed + 1e-3


@given(st.integers(1, 100), st.integers(1, 3600), st.lists(st.floats(0, 100, allow_nan=False), max_size=50))
def test_who_waits_as_long_as_they_are_told_is_let_in(quota: int, window: int, gaps: list[float]) -> None:
    limit, tat, now = Limit("any", quota, window), NEVER, 1000.0
    for gap in gaps:
        now += gap
        if fits(limit, tat, now):
            tat = taken(limit, tat, now)
            told = verdict(limit, tat, now)
            assert 0 <= told.remaining < quota
        else:
            now += refusal(limit, tat, now).more_in
            assert fits(limit, tat, now)


def test_of_several_refusals_the_longest_wait_is_told() -> None:
    slow = Limit("slow", 1, 3600)
    claims = [Claim(TEN, "a"), Claim(slow, "a")]
    verdicts = judge(claims, [100 + 60.0, 100 + 3600.0], 100, admitted=False)
    worst = refused(verdicts)
    assert worst is not None
    assert worst.limit is slow
    told = too_often(worst)
    assert (told.code, told.retry_after) == ("rate_limited", 3600)
    assert refused(judge(claims, [100.0, 100.0], 100, admitted=True)) is None


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 0), (-1.0, 0), (0.2, 1), (6.0, 6), (6.0000001, 6), (6.01, 7)])
def test_seconds_are_rounded_up(seconds: float, told: int) -> None:
    assert whole_seconds(seconds) == told


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("no:address", "no:address"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_site_counts_as_one(address: str | None, site: str) -> None:
    assert site_of(address) == site


def test_limits_can_be_set_one_by_one() -> None:
    chosen = parse_limits("login=20/60, user=1200/30")
    assert chosen.login == Limit("login", 20, 60)
    assert chosen.user == Limit("user", 1200, 30)
    assert chosen.address == Limits().address


@pytest.mark.parametrize(
    "text", ["login", "login=20", "login=0/60", "login=20/0", "upstairs=1/1", "login=-1/60", "a=b"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="login=20/60"):
        parse_limits(text)


def test_players_may_ask_as_often_as_they_are_told_to() -> None:
    """Each asks every two seconds on air; a hundred and fifty of them behind one address are let in."""
    arrivals = [100 + second + viewer / 150 for second in range(0, 120, 2) for viewer in range(150)]
    assert len(admitted(Limits().status, sorted(arrivals))) == len(arrivals)
