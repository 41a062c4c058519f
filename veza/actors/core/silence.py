"""What is made of a silence of the event loop: whether one task keeps it, many do, or none does.

A process that was stopped, and a loop that waits for the interpreter or for the machine, are silent as well, and stuck
in nothing. So what counts is what the loop computed, and where it stood still while its watch was awake to see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

STUCK_SECONDS: Final = 0.1  # that one task may keep the loop: a tenth of a second is what a person notices
CROWDED_SECONDS: Final = 0.2  # that many may take together: what is overloaded is late, and stuck in nothing
SLACK_SECONDS: Final = 0.004  # that a look may come late by itself: who waits for the interpreter waits 5 ms at least


class Verdict(Enum):
    """Whose doing a stall is."""

    STUCK = "event_loop_stuck"  # one task kept the loop
    CROWDED = "event_loop_crowded"  # many took their turns, none of them for long


@dataclass(frozen=True)
class Look:
    """Where the loop's thread stood. ``idle``: waiting for the world.

    ``spot`` is a frame, by its id, and the instruction it was at. ``task`` is what there is but once of the task that
    was run; null where none was.
    """

    idle: bool
    spot: tuple[int, int] | None = None
    task: object | None = None


@dataclass(frozen=True)
class Passed:
    """Seconds between two looks: meant, really, and how many of them the loop's thread was computing."""

    meant: float
    elapsed: float
    computed: float

    @property
    def punctual(self) -> bool:
        """Whether the watch was awake when it meant to be.

        Else it was itself kept from running, by what keeps the loop from it too: a stop, another thread, the machine.
        """
        return self.elapsed <= self.meant + SLACK_SECONDS


def own(passed: Passed, *, still: bool) -> float:
    """How much of what passed was the loop's own doing.

    What it computed; and, where it stood ``still`` in one place, what the watch was awake for as well. The later the
    watch is, the less does standing still say.
    """
    waited = 0.0
    if still:
        waited = passed.elapsed if passed.punctual else passed.meant**2 / passed.elapsed
    return min(passed.elapsed, max(passed.computed, waited))


class Silence:
    """The time since a beat became overdue."""

    def __init__(self) -> None:
        self.own = 0.0
        """Seconds that were the loop's own doing."""
        self.kept = 0.0
        """Seconds of them that the task at hand has kept it."""
        self.verdict: Verdict | None = None
        """What was made of it first."""
        self._last: Look | None = None
        self._unproven = 0.0  # before the first look, if it stood there already

    def seen(self, passed: Passed, look: Look) -> Verdict | None:
        """Take in a look; the verdict, once there is one."""
        last, self._last = self._last, look
        if look.idle:  # about to beat, or kept from it by what is none of its doing
            if self.verdict is None:
                self.own = self.kept = self._unproven = 0.0
            return self.verdict
        still = last is not None and last.spot == look.spot
        more = own(passed, still=still)
        if last is None:
            self._unproven = own(passed, still=True) - more
        else:
            more += self._unproven if still and passed.punctual else 0.0
            self._unproven = 0.0
        self.own += more
        self.kept = self.kept + more if last is None or last.task == look.task else 0.0
        if self.verdict is None and self.kept >= STUCK_SECONDS:
            self.verdict = Verdict.STUCK
        elif self.verdict is None and self.own >= CROWDED_SECONDS:
            self.verdict = Verdict.CROWDED
        return self.verdict
