"""The event loop's pulse: that it beats, and that what is counted of its lateness is what waited."""

from __future__ import annotations

from bisect import bisect_left
from math import inf

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from veza.actors.core.pulse import BEAT_SECONDS, BOUNDS, Pulse


async def beats(pulse: Pulse, count: int) -> None:
    """Wait for so many more."""
    reached = pulse.last[0] + count
    with trio.fail_after(30):
        while pulse.last[0] < reached:  # noqa: ASYNC110 - it tells nobody when it beats
            await trio.sleep(BEAT_SECONDS)


async def test_it_beats_while_its_block_runs_and_is_due_for_nothing_afterwards() -> None:
    pulse = Pulse()
    with pulse.beating():
        await beats(pulse, 3)
        assert pulse.last[1] < inf
    count = pulse.last[0]
    await trio.testing.wait_all_tasks_blocked()
    assert pulse.last == (count, inf)
    assert sum(pulse.counts) >= 2
    assert pulse.lag < 1


async def test_it_goes_on_while_everything_around_it_is_being_cancelled() -> None:
    pulse = Pulse()
    with trio.CancelScope() as around, pulse.beating():
        around.cancel()
        with trio.CancelScope(shield=True):
            await beats(pulse, 3)


@given(late=st.floats(0, 12, allow_subnormal=False))
def test_a_second_of_silence_is_fifty_waits_and_not_one(late: float) -> None:
    pulse = Pulse()
    pulse.felt(late)
    waits = [late - BEAT_SECONDS * each for each in range(1 + int(late / BEAT_SECONDS))]
    assert sum(pulse.counts) == len(waits)
    assert pulse.seconds == pytest.approx(sum(waits), abs=1e-6)
    near = {bound for bound in BOUNDS if any(abs(wait - bound) < 1e-9 for wait in waits)}
    if not near:  # else rounding may put it on either side
        assert pulse.counts == [sum(bisect_left(BOUNDS, wait) == index for wait in waits) for index in range(14)]


@pytest.mark.parametrize(
    ("late", "counts"),
    [
        (-0.001, {0: 1}),  # a clock's grain
        (0.0004, {0: 1}),
        (0.0301, {4: 1, 5: 1}),
        (0.115, {4: 1, 5: 1, 6: 3, 7: 1}),
    ],
)
def test_each_wait_is_counted_in_its_bucket(late: float, counts: dict[int, int]) -> None:
    pulse = Pulse()
    pulse.felt(late)
    assert {index: count for index, count in enumerate(pulse.counts) if count} == counts


def test_the_lag_is_that_of_the_beat_which_is_overdue() -> None:
    pulse = Pulse()
    pulse.felt(0.3)
    assert pulse.lag == 0.3
    pulse.last = (1, -inf)
    assert pulse.lag == inf
