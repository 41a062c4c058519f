"""Who fails too often is not heard for a while."""

from __future__ import annotations

import pytest

from veza.domain import failures
from veza.domain.failures import Failures


def test_who_fails_as_often_as_they_may_waits_until_the_time_is_over() -> None:
    counted = Failures(3, 60.0)
    for second in (0.0, 1.0):
        counted.note("10.0.0.1", second)
    assert counted.wait("10.0.0.1", 1.0) == 0
    counted.note("10.0.0.1", 2.0)
    assert counted.wait("10.0.0.1", 2.5) == 58
    assert counted.wait("10.0.0.2", 2.5) == 0
    assert counted.wait("10.0.0.1", 60.0) == 0


def test_after_the_time_they_begin_anew() -> None:
    counted = Failures(2, 60.0)
    for second in (0.0, 1.0, 61.0):
        counted.note("10.0.0.1", second)
    assert counted.wait("10.0.0.1", 62.0) == 0


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "MOST", 2)
    counted = Failures(1, 60.0)
    for who in ("a", "b", "c"):
        counted.note(who, 0.0)
    assert [counted.wait(who, 1.0) for who in ("a", "b", "c")] == [0, 59, 59]
