"""The actors' part of guarantee 10: the orderly stop."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.samples import Add, Counter, Fate, Hold, HoldLater, Messages, counters, run
from veza.actors.core import ActorCrashed, AskFailed, Ref, State, Stopped
from veza.supervisors import dynamic, one_for_one, permanent, rest_for_one, stop


async def ask(ref: Ref[Messages], message: Add | Hold | HoldLater, into: list[object]) -> None:
    with trio.fail_after(3600):
        try:
            into.append(await ref.ask(message))
        except AskFailed as failed:
            into.append(type(failed))


async def test_actors_stop_in_reverse_start_order(autojump_clock: MockClock) -> None:
    trace = list[str]()
    a, b, c = (permanent(n, partial(Counter, n, trace=trace)) for n in "abc")
    async with run(one_for_one("veza", a, rest_for_one("money", b, c))):
        assert trace == ["start a", "start b", "start c"]
        trace.clear()
    assert trace == ["stop c", "stop b", "stop a"]


async def test_the_message_in_hand_is_finished_and_the_queued_get_stopped(autojump_clock: MockClock) -> None:
    fate, answers, later = Fate(), list[object](), list[object]()
    child = permanent("it", counters(fate))
    async with trio.open_nursery() as nursery, run(one_for_one("veza", child)) as tree:
        nursery.start_soon(ask, child.ref, Hold(), answers)
        await fate.in_hand.wait()
        nursery.start_soon(ask, child.ref, Add(1), later)
        await wait_all_tasks_blocked()
        stop(tree)
        await wait_all_tasks_blocked()
        assert later == [Stopped]
        await ask(child.ref, Add(1), later)
        assert later == [Stopped, Stopped]
        assert answers == []
        fate.gate.set()
    assert answers == [0]
    assert fate.begun == ["Hold"]


async def test_a_reply_moved_to_a_task_is_waited_for(autojump_clock: MockClock) -> None:
    fate, answers, trace = Fate(), list[object](), list[str]()
    child = permanent("it", counters(fate, trace))
    async with trio.open_nursery() as nursery, run(one_for_one("veza", child)) as tree:
        nursery.start_soon(ask, child.ref, HoldLater(), answers)
        await fate.in_hand.wait()
        stop(tree)
        await wait_all_tasks_blocked()
        assert trace == ["start counter"]
        fate.gate.set()
    assert answers == [0]
    assert trace == ["start counter", "stop counter"]


async def test_an_actor_that_hangs_is_cut_within_the_budget_and_the_others_still_stop_in_order(
    autojump_clock: MockClock,
) -> None:
    fate, answers, trace = Fate(), list[object](), list[str]()
    well, hung = permanent("well", lambda: Counter("well", trace=trace)), permanent("hung", counters(fate))
    async with trio.open_nursery() as nursery:
        async with run(one_for_one("veza", well, hung)) as tree:
            nursery.start_soon(ask, hung.ref, Hold(), answers)
            await fate.in_hand.wait()
            began = trio.current_time()
            stop(tree, within=6)
        assert trio.current_time() - began <= 6
    assert answers == [ActorCrashed]  # its outcome is unknown, and Stopped would say nothing was done
    assert trace == ["start well", "stop well"]


async def test_a_crash_at_stop_spoils_nobody_elses_stop(autojump_clock: MockClock) -> None:
    trace = list[str]()
    a = permanent("a", lambda: Counter("a", trace=trace))
    b = permanent("b", counters(Fate(stop_fails=True), trace))
    async with run(one_for_one("veza", a, b)) as tree:
        pass
    assert trace[-2:] == ["stop counter", "stop a"]
    assert b.last_crash is not None
    assert tree.state is State.STOPPED


async def test_a_child_that_is_backing_off_is_not_waited_for(autojump_clock: MockClock) -> None:
    child = permanent("it", counters(Fate(starts_to_fail=1)))
    async with run(one_for_one("veza", child)) as tree:
        await tree.wait("veza/it", State.RESTARTING)
        began = trio.current_time()
    assert trio.current_time() == began
    assert child.incarnation == 1


async def test_a_paused_actor_stops_too(autojump_clock: MockClock) -> None:
    trace = list[str]()
    child = permanent("it", lambda: Counter(trace=trace))
    async with run(one_for_one("veza", child)):
        child.pause("a test")
    assert trace == ["start counter", "stop counter"]


async def test_dynamic_children_stop_together_within_the_budget(autojump_clock: MockClock) -> None:
    fates = [Fate() for _ in range(20)]
    answers = list[object]()

    def fated(key: int) -> Counter:
        return Counter(str(key), fates[key])

    live = dynamic("live", fated, limit=20)
    async with trio.open_nursery() as nursery:
        async with run(one_for_one("veza", live)) as tree:
            for key, fate in enumerate(fates):
                nursery.start_soon(ask, live.start(key), Hold(), answers)
                await fate.in_hand.wait()
            for fate in fates[:15]:
                nursery.start_soon(_open_after, 2, fate)
            began = trio.current_time()
            stop(tree, within=6)
        assert trio.current_time() - began <= 6
    assert (answers.count(0), answers.count(ActorCrashed)) == (15, 5)


async def _open_after(seconds: float, fate: Fate) -> None:
    await trio.sleep(seconds)
    fate.gate.set()
