"""Identifiers are UUIDv7s, made from the clock and the randomness that were passed in and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from veza.domain.ids import IdMint, system_mint, utc_now

NOON = datetime(2026, 2, 23, 12, tzinfo=UTC)


def test_an_id_is_a_uuid_of_version_seven() -> None:
    mint = IdMint(lambda: NOON, Random(1))
    for made in (mint() for _ in range(100)):
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"


def test_an_id_begins_with_its_milliseconds() -> None:
    made = IdMint(lambda: NOON + timedelta(milliseconds=123), Random(1))()
    assert made.int >> 80 == int(NOON.timestamp() * 1000) + 123


def test_ids_made_later_sort_later() -> None:
    times = iter(NOON + timedelta(milliseconds=n) for n in range(100))
    mint = IdMint(lambda: next(times), Random(1))
    made = [mint() for _ in range(100)]
    assert made == sorted(made)


def test_the_same_seed_and_clock_make_the_same_ids() -> None:
    one, other, third = (IdMint(lambda: NOON, Random(seed)) for seed in (7, 7, 8))
    made = [one() for _ in range(5)]
    assert made == [other() for _ in range(5)]
    assert not set(made) & {third() for _ in range(5)}


def test_ids_of_one_millisecond_differ() -> None:
    mint = IdMint(lambda: NOON, Random(1))
    assert len({mint() for _ in range(1000)}) == 1000


def test_the_systems_mint_tells_the_systems_time() -> None:
    before = utc_now()
    milliseconds = system_mint()().int >> 80
    assert before.utcoffset() == timedelta(0)
    assert int(before.timestamp() * 1000) <= milliseconds <= int(utc_now().timestamp() * 1000)
