"""Minding warranties, over rows in memory and trio's own clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.actors.fakes import database_time
from veza.actors.core import State
from veza.actors.warranties import AT_ONCE, AWAY_SECONDS, EVERY_SECONDS, WarrantiesView, WarrantyMinder
from veza.store.errors import DatabaseUnavailable
from veza.supervisors import one_for_one, permanent, running


@dataclass
class FakeRows:
    ending: int = 0
    fail: list[Exception] = field(default_factory=list)
    looked_at: list[float] = field(default_factory=list)

    async def warn(self, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        self.looked_at.append(trio.current_time())
        if self.fail:
            raise self.fail.pop(0)
        told = min(limit, self.ending)
        self.ending -= told
        return told


@pytest.mark.parametrize(
    ("rows", "waits"),
    [
        (FakeRows(), [EVERY_SECONDS] * 3),
        (FakeRows(2 * AT_ONCE + 1), [0, 0, EVERY_SECONDS]),
        (FakeRows(fail=[DatabaseUnavailable("away")] * 2), [AWAY_SECONDS, AWAY_SECONDS, EVERY_SECONDS]),
    ],
)
async def test_it_looks_every_hour_at_once_for_more_and_soon_after_the_database_was_away(
    rows: FakeRows, waits: list[float], autojump_clock: MockClock
) -> None:
    child = permanent("warranties", lambda: WarrantyMinder(rows))
    due = rows.ending
    async with running(one_for_one("veza", child), clock=database_time, random=Random(1)):
        await trio.sleep(sum(waits) + 1)
    found = [later - earlier for earlier, later in pairwise(rows.looked_at)]
    assert found[: len(waits)] == pytest.approx(waits, abs=0.1)
    assert child.ref.snapshot == WarrantiesView(told=due)


async def test_it_comes_back_after_a_crash(autojump_clock: MockClock) -> None:
    rows = FakeRows(3, fail=[RuntimeError("planted")])
    child = permanent("warranties", lambda: WarrantyMinder(rows))
    tree = one_for_one("veza", child)
    async with running(tree, clock=database_time, random=Random(1)):
        with trio.fail_after(60):
            await tree.wait("veza/warranties", State.RUNNING, incarnation=2)
        await trio.sleep(1)
        assert rows.ending == 0
