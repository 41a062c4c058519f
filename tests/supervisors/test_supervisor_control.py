"""What an operator may do to one actor, and that nobody hits its successor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.samples import Add, Counter, Fate, Hold, Messages, Ring, counters, run
from veza.actors.core import ActorCrashed, AskFailed, Overloaded, Ref, State
from veza.supervisors import Supervisor, control, one_for_one, permanent, rest_for_one


async def ask(ref: Ref[Messages], message: Add | Hold, into: list[object]) -> None:
    try:
        into.append(await ref.ask(message))
    except AskFailed as failed:
        into.append(type(failed))


async def test_a_restart_cuts_the_message_in_hand_keeps_the_rest_and_counts_nowhere(
    autojump_clock: MockClock,
) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, child.ref, Hold(), answers)
            await fate.in_hand.wait()
            nursery.start_soon(ask, child.ref, Add(4), answers)
            await wait_all_tasks_blocked()
            control.restart(tree, "veza/it", 1)
        assert answers == [ActorCrashed, 4]
        view = next(each for each in tree.view().walk() if each.path == "veza/it")
        assert (view.incarnation, view.restarts.total, view.restarts.in_window) == (2, 1, 0)


async def test_a_restart_follows_the_strategy(autojump_clock: MockClock) -> None:
    a, b = permanent("a", Counter), permanent("b", Counter)
    async with run(one_for_one("veza", rest_for_one("money", a, b))) as tree:
        control.restart(tree, "veza/money/a", 1)
        await tree.wait("veza/money/b", State.RUNNING, incarnation=2)
        assert a.incarnation == 2


@pytest.mark.parametrize("build", [one_for_one, rest_for_one])
async def test_a_restart_ends_a_backoff(build: Callable[..., Supervisor], autojump_clock: MockClock) -> None:
    first, second = permanent("first", counters(Fate(starts_to_fail=1))), permanent("second", Counter)
    async with run(build("veza", first, second)) as tree:
        await tree.wait("veza/first", State.RESTARTING)
        began = trio.current_time()
        control.restart(tree, "veza/first", 1)
        await tree.wait("veza/first", State.RUNNING)
        await tree.wait("veza/second", State.RUNNING)
        assert trio.current_time() == began


async def test_a_restart_ends_the_backoff_of_the_supervisor_that_gave_up(autojump_clock: MockClock) -> None:
    fate = Fate(starts_to_fail=4)
    sick, well = permanent("sick", counters(fate)), permanent("well", Counter)
    async with run(one_for_one("veza", one_for_one("money", sick, well))) as tree:
        await tree.wait("veza/money", State.DEGRADED)
        began = trio.current_time()
        control.restart(tree, "veza/money/sick", sick.incarnation)
        await tree.wait("veza/money/sick", State.RUNNING)
        await tree.wait("veza/money/well", State.RUNNING, incarnation=2)
        assert trio.current_time() == began
        assert (sick.incarnation, well.incarnation) == (5, 2)


async def test_a_paused_actor_keeps_its_mail_until_it_is_resumed(autojump_clock: MockClock) -> None:
    answers = list[object]()
    child = permanent("it", Counter)
    async with run(one_for_one("veza", child)) as tree, trio.open_nursery() as nursery:
        control.pause(tree, "veza/it", 1, because="an operator looks at it")
        nursery.start_soon(ask, child.ref, Add(1), answers)
        await wait_all_tasks_blocked()
        assert child.state is State.PAUSED
        assert answers == []
        control.restart(tree, "veza/it", 1)
        await tree.wait("veza/it", State.PAUSED, incarnation=2)
        await wait_all_tasks_blocked()
        assert answers == []
        control.resume(tree, "veza/it", 2)
        await wait_all_tasks_blocked()
        assert answers == [1]


async def test_a_draining_actor_serves_what_waits_and_takes_nothing_new(autojump_clock: MockClock) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, child.ref, Hold(), answers)
            await fate.in_hand.wait()
            nursery.start_soon(ask, child.ref, Add(1), answers)
            await wait_all_tasks_blocked()
            control.drain(tree, "veza/it", 1)
            assert child.state is State.DRAINING
            with pytest.raises(Overloaded):
                await child.ref.ask(Add(1))
            assert not child.ref.tell(Ring())
            fate.gate.set()
            await tree.wait("veza/it", State.DRAINED)
        assert sorted(map(str, answers)) == ["0", "1"]
        control.resume(tree, "veza/it", 1)
        assert await child.ref.ask(Add(1)) == 2


async def test_what_is_being_restarted_is_not_restarted_again(autojump_clock: MockClock) -> None:
    child = permanent("it", Counter)
    async with run(one_for_one("veza", child)) as tree:
        control.restart(tree, "veza/it", 1)
        with pytest.raises(control.StaleIncarnation, match="being restarted already"):
            control.restart(tree, "veza/it", 1)
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        control.restart(tree, "veza/it", 2)
        await tree.wait("veza/it", State.RUNNING, incarnation=3)


async def test_an_action_meant_for_a_predecessor_is_refused(autojump_clock: MockClock) -> None:
    child = permanent("it", Counter)
    async with run(one_for_one("veza", one_for_one("money", child))) as tree:
        with pytest.raises(control.StaleIncarnation):
            control.restart(tree, "veza/money/it", 7)
        for path in ("veza/money/them", "veza/money", "veza", "it"):
            with pytest.raises(control.NoSuchActor):
                control.pause(tree, path, 1, because="a test")
        await wait_all_tasks_blocked()
        assert child.incarnation == 1
        assert child.state is State.RUNNING
