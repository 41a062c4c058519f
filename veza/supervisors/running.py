"""Running a tree: as a task of the process, or around a block of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from random import Random

import trio

from veza.actors.core.changes import Changes
from veza.actors.core.crash import only, split
from veza.actors.core.loop import World
from veza.actors.core.views import State
from veza.supervisors.supervisor import Supervisor

STOP_WITHIN_S = 6.0  # the actors' part of the 25 s from SIGTERM to the end


async def run_tree(
    root: Supervisor,
    *,
    clock: Callable[[], datetime],
    random: Random,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a tree until `stop(root)` (returns) or its root gives up (raises GaveUp). For `nursery.start`.

    Started means: each child runs, or has crashed at its start and is being brought back.
    """
    world = World(clock, random, Changes())
    root.adopt(None, world)
    root.incarnation += 1
    root.state = State.STARTING

    async def announce() -> None:
        await world.changes.until(lambda: root.state is not State.STARTING)
        task_status.started(root)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announce)
            await root.run()
    except BaseExceptionGroup as group:
        foreign, crash = split(group)
        if foreign is not None or crash is None:
            raise
        gave_up = only(crash)
        raise gave_up from gave_up.__cause__
    finally:
        root.close()
        root.state = State.STOPPED


def stop(root: Supervisor, *, within: float = STOP_WITHIN_S) -> None:
    """Begin the orderly stop of a running tree; `run_tree` returns when it is done, within so many seconds."""
    root.retire(trio.current_time() + within)


@asynccontextmanager
async def running(
    root: Supervisor, *, clock: Callable[[], datetime], random: Random, stop_within: float = STOP_WITHIN_S
) -> AsyncIterator[Supervisor]:
    """The tree runs inside the block and is stopped in order at its end."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_tree, root, clock=clock, random=random))
        try:
            yield root
        finally:
            if root.state is not State.STOPPED:
                stop(root, within=stop_within)
            with trio.CancelScope(shield=True):
                await root.wait(root.path, State.STOPPED)
