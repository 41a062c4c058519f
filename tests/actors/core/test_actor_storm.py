"""Random tells, asks, crashes, cancels, pauses and restarts on a seeded scheduler: every ask is answered once,
nothing leaks, and one seed gives one trace."""

from __future__ import annotations

import gc
from collections import Counter as Tally
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.actors.samples import clock, seeded
from veza.actors.core import Actor, Ask, AskFailed, Coalesce, Later, Mailbox, Ref, Refuse, Tell, Wait
from veza.actors.core.envelope import Envelope, Reply
from veza.actors.core.mailbox import WAKE
from veza.supervisors import (
    Child,
    Intensity,
    Supervisor,
    control,
    dynamic,
    one_for_all,
    one_for_one,
    permanent,
    rest_for_one,
    running,
)

ASKS = 400
PATIENCE = Intensity(10**6, per_seconds=1)  # the storm is to be weathered, not given up


class Struck(Exception):  # noqa: N818 - by the storm
    """A surprise."""


@dataclass(frozen=True, slots=True)
class Work(Ask[int]):
    number: int
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Knock(Tell):
    crash: bool


class Struggler(Actor[Work | Knock, int]):
    mailbox = Mailbox(3, full=Refuse, why="small, so that it fills")

    async def handle(self, message: Work | Knock) -> object:
        if isinstance(message, Knock):
            if message.crash:
                raise Struck
            return None
        match message.how:
            case "at once":
                return message.number
            case "slowly":
                return await self.work(message)
            case "later":
                return Later(self.work, message)
            case "crash later":
                return Later(self.fail, message)
            case _:
                raise Struck

    async def work(self, message: Work) -> int:
        await trio.sleep(message.seconds)
        self.publish(message.number)
        return message.number

    async def fail(self, message: Work) -> int:
        await trio.sleep(message.seconds)
        raise Struck


class Folder(Struggler):
    mailbox = Mailbox(2, full=Coalesce, why="small, so that it fills")


class Queuer(Struggler):
    mailbox = Mailbox(2, full=Wait, why="small, so that it fills")


KINDS: tuple[type[Struggler], ...] = (Struggler, Folder, Queuer)


class Storm:
    """One tree, many askers, and what became of each ask."""

    def __init__(self, seed: int) -> None:
        self.random: Random = seeded(seed)
        self.answers: dict[int, list[str]] = {number: [] for number in range(ASKS)}
        self.trace: list[str] = []
        a, b, c, d = (self.struggler(name) for name in "abcd")
        self.children = [a, b, c, d]
        self.live = dynamic("live", self.by_key, limit=3, intensity=PATIENCE)
        self.tree = one_for_one(
            "veza",
            a,
            rest_for_one("rest", b, c, intensity=PATIENCE),
            one_for_all("all", d, self.live, intensity=PATIENCE),
            intensity=PATIENCE,
        )

    def by_key(self, key: int) -> Struggler:
        return KINDS[key % 3]()

    def struggler(self, name: str) -> Child[Work | Knock, int]:
        return permanent(name, self.random.choice(KINDS))

    async def run(self) -> None:
        async with (
            trio.open_nursery() as askers,
            running(self.tree, clock=clock, random=self.random, stop_within=3) as tree,
        ):
            for number in range(ASKS):
                await trio.sleep(self.random.expovariate(20))
                askers.start_soon(self.ask, number)
                self.disturb(tree)

    def anyone(self) -> Ref[Work | Knock, int]:
        chosen = self.random.randrange(6)
        try:
            return self.children[chosen].ref if chosen < 4 else self.live.start(self.random.randrange(5))
        except AskFailed:
            return self.children[0].ref

    async def ask(self, number: int) -> None:
        how = self.random.choice(["at once", "slowly", "later", "crash", "crash later"])
        message = Work(number, how, self.random.uniform(0, 0.3))
        ref, hangs_up = self.anyone(), self.random.random() < 0.2
        with trio.CancelScope() as client, trio.move_on_after(self.random.uniform(0.05, 5)):
            async with trio.open_nursery() as nursery:
                if hangs_up:
                    nursery.start_soon(hang_up, client, self.random.uniform(0, 0.5))
                try:
                    reply = await ref.ask(message)
                    assert reply == number, "an answer went to another's ask"
                    self.note(number, "reply")
                except AskFailed as failed:
                    self.note(number, type(failed).__name__)
                except trio.Cancelled:
                    self.note(number, "hung up")
                    raise
                nursery.cancel_scope.cancel()

    def note(self, number: int, answer: str) -> None:
        self.answers[number].append(answer)
        self.trace.append(f"{trio.current_time():.6f} {number} {answer}")

    def disturb(self, tree: Supervisor) -> None:
        dice = self.random.random()
        if dice < 0.3:
            self.anyone().tell(Knock(crash=dice < 0.05))
        elif dice < 0.5:
            child = self.random.choice(self.children)
            if dice < 0.35:
                control.restart(tree, child.path, child.incarnation)
            elif dice < 0.4:
                child.pause("the storm")
            else:
                child.resume()


async def hang_up(client: trio.CancelScope, seconds: float) -> None:
    await trio.sleep(seconds)
    client.cancel()


def weather(seed: int, monkeypatch: pytest.MonkeyPatch) -> Storm:
    """A whole storm under a scheduler that shuffles by the seed alone."""
    scheduler: Any = trio._core._run
    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    scheduler._r.seed(seed)
    storm = Storm(seed)
    trio.run(storm.run, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
    return storm


@pytest.mark.parametrize("seed", range(12))
def test_in_a_storm_every_ask_is_answered_exactly_once_and_nothing_leaks(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storm = weather(seed, monkeypatch)
    assert all(len(answers) == 1 for answers in storm.answers.values())
    tally = Tally(answers[0] for answers in storm.answers.values())
    assert {"reply", "ActorCrashed", "DeadlineExceeded", "hung up"} <= set(tally), f"too calm a storm: {tally}"
    assert all(child.inbox.depth == 0 for child in storm.children)
    assert storm.live.keys() == [] or all(not slot.alive for slot in storm.live.slots())
    del storm
    gc.collect()
    left = [each for each in gc.get_objects() if type(each) in (Envelope, Reply) and each is not WAKE]
    assert left == []


def test_one_seed_gives_one_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (weather(seed, monkeypatch).trace for seed in (3, 3, 4))
    assert first == again
    assert first != other
