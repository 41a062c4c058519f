"""Crash any actor at start, around a message, and at stop, and see it recover.

@pytest.mark.parametrize("where", WHERE)
async def test_payouts_recover_from_a_crash(where, autojump_clock):
    await assert_recovers(where, lambda: Payouts(FakeStore(), ...), RetryTransfer(...))
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

import pytest
import trio

from veza.actors.core import Actor, ActorCrashed, Ask, Ref, State
from veza.supervisors import one_for_one, permanent, running

M = TypeVar("M")
S = TypeVar("S")

WHERE = ("start", "before handling", "after handling", "stop")
WITHIN_S = 30.0  # of the whole trial: restarts back off for tenths of a second


class Planted(Exception):  # noqa: N818 - it is planted, not met
    """The crash this helper plants."""


async def assert_recovers(where: str, factory: Callable[[], Actor[M, S]], message: M) -> None:
    """Crash the actor once at `where` (of WHERE): its asker learns of it, and it serves `message` afterwards."""
    planted = Once(where)
    handled: list[int] = []
    child = permanent("it", lambda: plant(factory(), planted, handled))
    tree = one_for_one("matrix", child)
    with trio.fail_after(WITHIN_S):
        async with running(tree, clock=lambda: datetime.now(UTC), random=Random(1)):
            if where == "start":
                await tree.wait("matrix/it", State.RUNNING, incarnation=2)
            elif where != "stop":
                await _fails(child.ref, message)
                await tree.wait("matrix/it", State.RUNNING, incarnation=2)
            await _succeeds(child.ref, message, handled)
    assert planted.done, f"the crash at {where} never happened"
    crash = child.last_crash
    assert crash is not None
    assert "Planted" in crash.error_type, f"it crashed of something else: {crash}"


class Once:
    """A crash that happens once, at one of WHERE."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.done = False

    def here(self, where: str) -> None:
        if where == self.where and not self.done:
            self.done = True
            raise Planted(where)


def plant(actor: Actor[M, S], planted: Once, handled: list[int]) -> Actor[M, S]:
    """The actor with the crash planted in it; each message it handles leaves a mark in ``handled``."""
    start, handle, stop = actor.start, actor.handle, actor.stop

    async def crashing_start() -> None:
        await start()
        planted.here("start")

    async def crashing_handle(message: M) -> object:
        planted.here("before handling")
        answer = await handle(message)
        planted.here("after handling")
        handled.append(1)
        return answer

    async def crashing_stop() -> None:
        planted.here("stop")
        await stop()

    vars(actor).update(start=crashing_start, handle=crashing_handle, stop=crashing_stop)
    return actor


async def _fails(ref: Ref[Any], message: object) -> None:
    if isinstance(message, Ask):
        with pytest.raises(ActorCrashed):
            await ref.ask(message)
    else:
        assert ref.tell(message)


async def _succeeds(ref: Ref[Any], message: object, handled: list[int]) -> None:
    before = len(handled)
    if isinstance(message, Ask):
        await ref.ask(message)
    else:
        assert ref.tell(message)
        while len(handled) == before:
            await trio.lowlevel.checkpoint()
    assert len(handled) > before
