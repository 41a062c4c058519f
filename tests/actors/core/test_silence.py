"""Whose doing a silence of the event loop is: decided from looks at it, without a loop."""

from __future__ import annotations

import pytest

from veza.actors.core.silence import Look, Passed, Silence, Verdict, own

IDLE = Look(idle=True)
WAITING = [Look(idle=False, spot=(1, 40), task=7)] * 200


def at(task: int, *, spots: int = 100) -> list[Look]:
    """A task seen at one place after the other."""
    return [Look(idle=False, spot=(1, spot), task=task) for spot in range(spots)]


def computing(seconds: float = 1 / 64) -> Passed:
    return Passed(meant=0.01, elapsed=seconds, computed=seconds)


ON_TIME = Passed(meant=0.01, elapsed=0.0101, computed=0.0)
CONTENDED = Passed(meant=0.01, elapsed=0.06, computed=0.001)  # eight threads want the interpreter
STOPPED = Passed(meant=0.01, elapsed=30.0, computed=0.0)


def verdict(passed: Passed, looks: list[Look]) -> tuple[Verdict | None, int]:
    """What is made of it first, and after how many looks."""
    silence = Silence()
    for count, look in enumerate(looks, start=1):
        if found := silence.seen(passed, look):
            return found, count
    return None, len(looks)


def test_a_task_that_computes_or_waits_in_one_place_is_stuck_after_a_tenth_of_a_second() -> None:
    assert verdict(computing(), at(7)) == (Verdict.STUCK, 7)
    assert verdict(ON_TIME, WAITING) == (Verdict.STUCK, 10)


def test_one_call_that_lets_nobody_look_meanwhile_is_stuck_at_the_first_look() -> None:
    assert verdict(computing(0.5), at(7, spots=1)) == (Verdict.STUCK, 1)


def test_many_tasks_that_take_short_turns_are_crowded_and_stuck_in_none() -> None:
    turns = [Look(idle=False, spot=(task, 1), task=task) for task in range(100)]
    assert verdict(computing(), turns) == (Verdict.CROWDED, 13)


def test_who_keeps_it_is_counted_from_when_they_were_first_seen() -> None:
    silence = Silence()
    for look in at(6, spots=4) + at(7, spots=7):
        assert silence.seen(computing(), look) is None
    assert (silence.own, silence.kept) == (11 / 64, 6 / 64)  # when its turn began, nobody saw
    assert silence.seen(computing(), at(7, spots=8)[-1]) is Verdict.STUCK


@pytest.mark.parametrize("looks", [at(7), at(7, spots=1) * 2, WAITING[:2]])
def test_a_process_that_was_stopped_was_stuck_in_nothing(looks: list[Look]) -> None:
    assert verdict(STOPPED, looks)[0] is None


def test_a_loop_that_waits_for_the_interpreter_is_stuck_in_nothing() -> None:
    assert verdict(CONTENDED, at(7, spots=50))[0] is None
    silence = Silence()
    for look in WAITING[:25]:
        assert silence.seen(CONTENDED, look) is None  # it seems to stand, for a second and a half


def test_what_does_not_end_is_told_even_while_others_want_the_interpreter() -> None:
    assert verdict(CONTENDED, WAITING)[0] is Verdict.STUCK


def test_a_loop_that_waits_for_the_world_is_about_to_beat() -> None:
    silence = Silence()
    for look in [*at(7, spots=6), IDLE, *at(7, spots=6)]:
        assert silence.seen(computing(), look) is None
    assert verdict(ON_TIME, [IDLE] * 1000)[0] is None


def test_where_it_stood_before_the_first_look_counts_if_the_second_finds_it_there() -> None:
    before = Passed(meant=0.08, elapsed=0.08, computed=0.0)
    proven, unproven, doubtful = Silence(), Silence(), Silence()
    for silence in (proven, unproven, doubtful):
        assert silence.seen(before, WAITING[0]) is None
        assert silence.own == 0
    assert proven.seen(Passed(meant=0.02, elapsed=0.021, computed=0.0), WAITING[0]) is Verdict.STUCK
    assert proven.kept == pytest.approx(0.101)
    unproven.seen(ON_TIME, at(7)[0])
    assert unproven.own == 0
    doubtful.seen(CONTENDED, WAITING[0])  # the watch had to wait itself
    assert doubtful.own < 0.01


def test_a_verdict_stands_until_the_silence_is_over() -> None:
    silence = Silence()
    for look in at(7, spots=10):
        silence.seen(computing(), look)
    before = silence.own
    assert silence.seen(computing(), IDLE) is Verdict.STUCK
    assert silence.own == before
    assert silence.seen(computing(), at(8)[0]) is Verdict.STUCK


@pytest.mark.parametrize(
    ("passed", "still", "seconds"),
    [
        (Passed(0.01, 0.012, 0.012), False, 0.012),
        (Passed(0.01, 0.012, 0.004), False, 0.004),
        (Passed(0.01, 0.012, 0.0), True, 0.012),
        (Passed(0.01, 0.1, 0.0), True, 0.001),  # ten times too late: a tenth of what was meant
        (Passed(0.01, 0.5, 0.4), True, 0.4),
        (Passed(0.01, 0.004, 0.02), False, 0.004),  # computed since before it was overdue
    ],
)
def test_what_passed_is_its_own_as_far_as_it_computed_or_stood_before_eyes_that_were_open(
    passed: Passed, still: bool, seconds: float
) -> None:
    assert own(passed, still=still) == pytest.approx(seconds)
