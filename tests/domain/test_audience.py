"""Counting viewers: distinct pollers of about the last minute."""

from __future__ import annotations

from uuid import UUID

import pytest

from veza.domain import audience
from veza.domain.audience import Audience

SHOW, OTHER = UUID(int=1), UUID(int=2)


def test_who_polls_often_is_one_viewer() -> None:
    counted = Audience()
    for second in range(25):
        counted.see(SHOW, 7, float(second))
    counted.see(SHOW, 8, 25.0)
    counted.see(OTHER, 7, 25.0)
    assert counted.count(SHOW, 26.0) == 2
    assert counted.counts(26.0) == {SHOW: 2, OTHER: 1}


def test_who_polled_last_within_half_a_minute_always_counts_and_a_minute_later_never() -> None:
    for begun in range(0, 60, 7):
        counted = Audience()
        counted.see(SHOW, 1, 0.0)
        counted.see(SHOW, 2, float(begun))
        assert counted.count(SHOW, begun + 29.9) >= 1
        assert counted.count(SHOW, begun + 60.0) == 0


def test_who_goes_on_polling_is_not_counted_twice_across_the_halves() -> None:
    counted = Audience()
    for second in range(0, 300, 5):
        counted.see(SHOW, 7, float(second))
        assert counted.count(SHOW, float(second)) == 1


def test_what_nobody_watches_is_forgotten() -> None:
    counted = Audience()
    counted.see(SHOW, 7, 0.0)
    assert counted.counts(120.0) == {}
    assert counted._rooms == {}


def test_the_count_stands_where_it_would_take_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "MOST_OF_A_STREAM", 10)
    monkeypatch.setattr(audience, "MOST", 15)
    counted = Audience()
    for viewer in range(100):
        counted.see(SHOW, viewer, 1.0)
        counted.see(OTHER, viewer, 1.0)
    assert counted.count(SHOW, 1.0) + counted.count(OTHER, 1.0) == 15
    assert counted.counts(120.0) == {}
    counted.see(SHOW, 1, 121.0)
    assert counted.count(SHOW, 121.0) == 1
