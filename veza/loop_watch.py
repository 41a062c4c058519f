"""Watches the event loop: says what it is stuck in while nobody is served, and again when it goes on.

A thread of its own looks at the pulse. When a beat is overdue it looks at where the loop's thread stands, every few
milliseconds, and makes of it whose doing the silence is. A process that was stopped, and a loop that waits for the
interpreter or the machine, is stuck in nothing; what stood still in one place, or worked, without letting anybody else
have a turn, is told. Nothing is added to what the loop does but its beats.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from inspect import CO_COROUTINE
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Final

import structlog
import trio

from veza.actors.core import Pulse
from veza.actors.core.crash import FRAMES, place
from veza.actors.core.pulse import BEAT_SECONDS
from veza.actors.core.ref import INSIDE
from veza.actors.core.silence import Look, Passed, Silence, Verdict, own
from veza.http.edge import trace_in

LOOK_SECONDS: Final = 4 * BEAT_SECONDS  # between two looks at the pulse: each costs a busy loop half a millisecond
CLOSER_AFTER_SECONDS: Final = 0.03  # that a beat is overdue, is the loop looked at: below, it may just be busy
CLOSER_SECONDS: Final = 0.01  # between two looks at the loop: a stall is told when it is 110 ms late

AT_ONCE: Final = 5  # stalls told one after the other: as many places to look at
APART_SECONDS: Final = 10.0  # between two after that
LONG_SECONDS: Final = 1.0  # what takes so long is told in any case, which is one line a second at most
JOIN_SECONDS: Final = 1.0  # at the end, for its last look: it waits for nothing but its log

POLLS: Final = str(Path(trio.__file__).with_name("_core") / "_io_")
"""How the files begin in which trio waits for the world: a loop that stands there has nothing to do, or waits for the
interpreter to be given back to it."""

log = structlog.get_logger()


class Telling:
    """How often something is told: so many at once, then one at a time; what is left out is counted."""

    def __init__(self, now: float) -> None:
        self.untold = 0
        self._left = float(AT_ONCE)
        self._at = now

    def may(self, now: float) -> bool:
        self._left = min(AT_ONCE, self._left + (now - self._at) / APART_SECONDS)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


# -- what is seen ------------------------------------------------------------------------------------------------------


def look_at(frame: FrameType) -> Look:
    """What the loop's thread is at, by its innermost frame.

    It holds the frame in which the task began, and must be let go of soon: a frame that nobody holds is made anew for
    each look, in the place of the last one.
    """
    if frame.f_code.co_filename.startswith(POLLS):
        return Look(idle=True)
    return Look(idle=False, spot=(id(frame), frame.f_lasti), task=_task_frame(frame))


def places_of(frame: FrameType) -> list[str]:
    """The innermost places, outermost first, from where the task began: file:line:function, and no value."""
    task, places, each = _task_frame(frame), list[str](), frame
    while len(places) < FRAMES:
        places.append(place(each.f_code, each.f_lineno))
        if each is task or each.f_back is None:
            break
        each = each.f_back
    return places[::-1]


def doing(frame: FrameType, root: trio.lowlevel.Task | None) -> dict[str, str]:
    """Whose turn it is: the task's name, and the actor whose it is or the request it works on."""
    outermost = _task_frame(frame)
    for task in _tasks(root):
        if outermost is not None and getattr(task.coro, "cr_frame", None) is outermost:
            found = {"task": task.name, "actor": task.context.get(INSIDE)}
            if trace := trace_in(task.context):
                found |= {"method": trace.method, "route": trace.route, "request_id": trace.request_id}
            return {name: value for name, value in found.items() if value is not None}
    return {}


def _task_frame(frame: FrameType | None) -> FrameType | None:
    """The frame in which the task that is being run began: the outermost that is a coroutine's."""
    outermost = None
    while frame is not None:
        if frame.f_code.co_flags & CO_COROUTINE:
            outermost = frame
        frame = frame.f_back
    return outermost


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    """All of a loop's tasks. Each step is one of the interpreter's, so that it may be taken from another thread."""
    ahead = [] if root is None else [root]
    while ahead:
        task = ahead.pop()
        yield task
        for nursery in task.child_nurseries:
            ahead.extend(nursery.child_tasks)


# -- the watch ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watched(pulse: Pulse) -> AsyncIterator[None]:
    """Have the loop that runs the block beat, and be watched, for as long as the block runs."""
    with pulse.beating(), LoopWatch(pulse).running():
        yield


class LoopWatch:
    """Looks at the loop in which it is made."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._root = trio.lowlevel.current_root_task()
        self._thread_id = threading.get_ident()
        self._clock = _clock_of(self._thread_id)
        self._over = threading.Event()
        self._beats = 0
        self._at, self._computed, self._meant = perf_counter(), self._clock(), 0.0  # as of the last look, or beat
        self._telling = Telling(self._at)
        self._silence = Silence()
        self._told: dict[str, str] | None = None  # of the present silence, when it was told
        self._collected = self._collected_before = self._collecting_since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch during the block."""
        thread = threading.Thread(target=self._run, name="veza-loop-watch", daemon=True)
        gc.callbacks.append(self._collecting)
        self._pulse.watched = True
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(JOIN_SECONDS)
            gc.callbacks.remove(self._collecting)

    def _run(self) -> None:
        try:
            meant = LOOK_SECONDS
            while not self._over.wait(meant):
                meant = self._turn(meant)
        except Exception as error:
            log.error("event_loop_watch_died", exc_info=error)
        finally:
            self._pulse.watched = False
            self._silence = Silence()  # the last look holds a frame

    def _turn(self, meant: float) -> float:
        """Look at the pulse, and where a beat is overdue at the loop; seconds until the next turn."""
        now, computed = perf_counter(), self._clock()
        self._meant += meant
        passed = Passed(self._meant, now - self._at, computed - self._computed)
        beats, due = self._pulse.last
        if beats != self._beats:
            self._goes_on(replace(passed, elapsed=max(due - BEAT_SECONDS - self._at, 0.0)))
            self._beats = beats
            self._at, self._computed, self._meant = now, computed, 0.0
        frame = None
        if now - due >= CLOSER_AFTER_SECONDS:
            frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - documented, with the underscore
        if frame is None:
            return LOOK_SECONDS
        self._at, self._computed, self._meant = now, computed, 0.0
        fresh = self._silence.verdict is None
        verdict = self._silence.seen(replace(passed, elapsed=min(passed.elapsed, now - due)), look_at(frame))
        if verdict is not None and fresh:
            self._count(verdict)
        if verdict is not None and self._told is None and self._worth_a_line(now, fresh=fresh):
            self._tell(verdict, frame)
        return CLOSER_SECONDS

    def _count(self, verdict: Verdict) -> None:
        match verdict:
            case Verdict.STUCK:
                self._pulse.stuck += 1
            case Verdict.CROWDED:
                self._pulse.crowded += 1

    def _worth_a_line(self, now: float, *, fresh: bool) -> bool:
        if not fresh:  # it was passed over, and goes on
            long = self._silence.own >= LONG_SECONDS
            self._telling.untold -= long
            return long
        told = self._telling.may(now)
        self._telling.untold += not told
        return told

    def _tell(self, verdict: Verdict, frame: FrameType) -> None:
        self._told = doing(frame, self._root)
        log.warning(
            verdict.value,
            so_far_ms=_ms(self._silence.own),
            **self._told,
            collecting_ms=_ms(self._collected - self._collected_before),
            untold=self._telling.untold,
            places=places_of(frame),
        )
        self._telling.untold = 0

    def _goes_on(self, rest: Passed) -> None:
        """The loop beats again; ``rest`` is what passed of its silence since the last look."""
        silence, told, collected = self._silence, self._told, self._collected - self._collected_before
        self._silence, self._told, self._collected_before = Silence(), None, self._collected
        if silence.verdict is None:
            return
        stalled = silence.own + own(rest, still=True)
        self._pulse.stalled_seconds += stalled
        if told is not None:
            log.warning("event_loop_goes_on", stalled_ms=_ms(stalled), **told, collecting_ms=_ms(collected))

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        """Called by the garbage collector, which stops everybody and shows in no stack."""
        if phase == "start":
            self._collecting_since = perf_counter()
        else:
            self._collected += perf_counter() - self._collecting_since


def _clock_of(thread_id: int) -> Callable[[], float]:
    """Seconds that a thread has computed; those of the whole process where the system keeps none of a thread."""
    if hasattr(time, "pthread_getcpuclockid"):
        return partial(time.clock_gettime, time.pthread_getcpuclockid(thread_id))
    return time.process_time


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
