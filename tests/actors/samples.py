"""Actors made for the runtime's own tests, and a tree around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

import trio

from veza.actors.core import Actor, Ask, Coalesce, Later, Mailbox, Refuse, Tell, Wait
from veza.supervisors import Supervisor, running

LAUNCH = datetime(2026, 1, 1, tzinfo=UTC)


def clock() -> datetime:
    return LAUNCH


class Poison(Exception):  # noqa: N818 - what a test throws
    """Carries a secret in its message: no view, log or traceback may show it."""


@dataclass(frozen=True, slots=True)
class Add(Ask[int]):
    amount: int


@dataclass(frozen=True, slots=True)
class Boom(Ask[int]):
    """Poisons its handler."""


@dataclass(frozen=True, slots=True)
class Hold(Ask[int]):
    """Keeps the handler busy until the gate opens."""


@dataclass(frozen=True, slots=True)
class HoldLater(Ask[int]):
    """The same, in the actor's nursery."""


@dataclass(frozen=True, slots=True)
class BoomLater(Ask[int]):
    """Poisons a task in the actor's nursery once the gate opens."""


@dataclass(frozen=True, slots=True)
class Spawn(Ask[None]):
    """Starts a task of the actor's own that raises in `finally` while it is being cancelled."""


@dataclass(frozen=True, slots=True)
class Finish(Ask[None]):
    pass


@dataclass(frozen=True, slots=True)
class Ring(Tell):
    door: str = "front"


Messages = Add | Boom | Hold | HoldLater | BoomLater | Spawn | Finish | Ring


@dataclass
class Fate:
    """What a test decides about an actor from outside, and what it saw of it, across incarnations."""

    gate: trio.Event = field(default_factory=trio.Event)
    in_hand: trio.Event = field(default_factory=trio.Event)
    begun: list[str] = field(default_factory=list)
    starts_to_fail: int = 0
    stop_fails: bool = False
    tasks: int = 0


class Counter(Actor[Messages, int]):
    """Adds up, publishes the sum, and does badly what it is told to do badly."""

    mailbox = Mailbox(4, full=Refuse, why="four are enough to fill it in a test")

    def __init__(self, name: str = "counter", fate: Fate | None = None, trace: list[str] | None = None) -> None:
        self.name = name
        self.fate = fate or Fate()
        self.trace = trace if trace is not None else []
        self.total = 0

    async def start(self) -> None:
        self.trace.append(f"start {self.name}")
        if self.fate.starts_to_fail:
            self.fate.starts_to_fail -= 1
            raise Poison("secret of the start")
        self.publish(self.total)

    async def handle(self, message: Messages) -> object:
        self.fate.begun.append(type(message).__name__)
        match message:
            case Add(amount):
                self.total += amount
                self.publish(self.total)
                return self.total
            case Boom():
                raise Poison("secret of the handler")
            case Hold():
                return await self.hold()
            case HoldLater():
                return Later(self.hold)
            case BoomLater():
                return Later(self.burst)
            case Spawn():
                await self.nursery.start(self.burst_when_cancelled)
            case Finish():
                self.finish()
            case Ring():
                self.total += 1
        return None

    async def hold(self) -> int:
        self.fate.in_hand.set()
        await self.fate.gate.wait()
        return self.total

    async def burst(self) -> int:
        await self.fate.gate.wait()
        raise Poison("secret of a task")

    async def burst_when_cancelled(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            raise Poison("secret of a finally")

    async def stop(self) -> None:
        self.trace.append(f"stop {self.name}")
        if self.fate.stop_fails:
            raise Poison("secret of the stop")


class Doorman(Counter):
    mailbox = Mailbox(2, full=Coalesce, why="two doors")


class Waiter(Counter):
    mailbox = Mailbox(1, full=Wait, why="the second waits outside")


def seeded(seed: int = 1) -> Random:
    """Randomness for backoffs."""
    return Random(seed)


def by_key(key: int) -> Counter:
    return Counter(str(key))


def counters(fate: Fate, trace: list[str] | None = None) -> Callable[[], Counter]:
    return lambda: Counter(fate=fate, trace=trace)


@asynccontextmanager
async def run(tree: Supervisor, *, seed: int = 1, within: float = 3600) -> AsyncIterator[Supervisor]:
    """The tree, running, with a deadline around the whole block (so that asks have one)."""
    with trio.fail_after(within):
        async with running(tree, clock=clock, random=seeded(seed)):
            yield tree
