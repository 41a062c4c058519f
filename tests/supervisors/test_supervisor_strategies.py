"""Guarantee 6 of docs/runtime-semantics.md: who is restarted, how often, and what happens then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.samples import Add, Boom, Counter, Fate, Finish, Messages, Spawn, by_key, clock, counters, run, seeded
from veza.actors.core import ActorCrashed, Overloaded, Ref, State, Stopped, SupervisorView
from veza.supervisors import (
    Backoff,
    Child,
    GaveUp,
    Intensity,
    Restart,
    Supervisor,
    dynamic,
    one_for_all,
    one_for_one,
    permanent,
    rest_for_one,
    run_tree,
    running,
    temporary,
    transient,
)
from veza.supervisors.child import jitter


async def crash(ref: Ref[Messages]) -> None:
    with pytest.raises(ActorCrashed):
        await ref.ask(Boom())


def three(trace: list[str]) -> list[Child[Messages, int]]:
    return [permanent(name, partial(Counter, name, trace=trace)) for name in "abc"]


async def settled(tree: Supervisor, *children: Child[Messages, int]) -> None:
    for child in children:
        await tree.wait(child.path, State.RUNNING)
    await trio.sleep(20)  # mock seconds: past every backoff of these trees
    await wait_all_tasks_blocked()


async def test_one_for_one_restarts_the_crashed_alone(autojump_clock: MockClock) -> None:
    a, b, c = children = three([])
    async with run(one_for_one("veza", *children)) as tree:
        await crash(b.ref)
        await settled(tree, *children)
        assert [each.incarnation for each in (a, b, c)] == [1, 2, 1]


async def test_rest_for_one_restarts_the_crashed_and_those_after_it_in_order(autojump_clock: MockClock) -> None:
    trace = list[str]()
    a, b, c = children = three(trace)
    async with run(rest_for_one("veza", *children)) as tree:
        trace.clear()
        await crash(b.ref)
        await settled(tree, *children)
        assert [each.incarnation for each in (a, b, c)] == [1, 2, 2]
        assert trace == ["start b", "start c"]


async def test_one_for_all_restarts_everyone_in_start_order(autojump_clock: MockClock) -> None:
    trace = list[str]()
    a, b, c = children = three(trace)
    async with run(one_for_all("veza", *children)) as tree:
        trace.clear()
        await crash(c.ref)
        await settled(tree, *children)
        assert [each.incarnation for each in (a, b, c)] == [2, 2, 2]
        assert trace == ["start a", "start b", "start c"]


async def test_a_crash_at_the_first_start_is_mended_like_any_other(autojump_clock: MockClock) -> None:
    trace = list[str]()
    fate = Fate(starts_to_fail=2)
    first = permanent("first", counters(fate, trace))
    second = permanent("second", lambda: Counter("second", trace=trace))
    async with run(rest_for_one("veza", first, second)) as tree:
        await tree.wait("veza/second", State.RUNNING)
        assert trace == ["start counter"] * 3 + ["start second"]
        assert await first.ref.ask(Add(1)) == 1


async def test_a_factory_that_raises_is_a_crash_too(autojump_clock: MockClock) -> None:
    calls = list[int]()

    def factory() -> Counter:
        calls.append(1)
        if len(calls) == 2:
            raise OSError
        return Counter()

    child = permanent("it", factory)
    async with run(one_for_one("veza", child)) as tree:
        await crash(child.ref)
        await tree.wait("veza/it", State.RUNNING, incarnation=3)
        assert child.last_crash is not None
        assert child.last_crash.error_type == "OSError"


async def test_a_start_that_hangs_is_a_crash_after_its_time(autojump_clock: MockClock) -> None:
    hung = list[int]()

    class Hanging(Counter):
        async def start(self) -> None:
            if not hung:
                hung.append(1)
                await trio.sleep_forever()

    child = permanent("it", Hanging)
    async with run(one_for_one("veza", child)) as tree:
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        assert child.last_crash is not None
        assert child.last_crash.error_type == "TooSlowError"


async def test_what_a_task_raises_while_being_cancelled_is_caught_outside_the_childs_scope(
    autojump_clock: MockClock,
) -> None:
    a, b = permanent("a", Counter), permanent("b", Counter)
    async with run(one_for_all("veza", a, b)) as tree:
        await b.ref.ask(Spawn())
        await crash(a.ref)  # b is cut short, and its task raises in `finally`
        await tree.wait("veza/b", State.RUNNING, incarnation=2)
        assert b.last_crash is not None
        assert b.last_crash.error_type == "Poison"
        assert tree.state is State.RUNNING
        assert await b.ref.ask(Add(1)) == 1


async def test_a_supervisor_that_is_cancelled_lets_cancelled_through_and_keeps_the_crash(
    autojump_clock: MockClock,
) -> None:
    child = permanent("it", Counter)
    with trio.move_on_after(5) as scope:
        await run_tree_with(child)
    assert scope.cancelled_caught
    assert child.last_crash is not None
    assert child.last_crash.error_type == "Poison"


async def run_tree_with(child: Child[Messages, int]) -> None:
    async with trio.open_nursery() as nursery:
        tree = one_for_one("veza", child)
        nursery.start_soon(_run, tree)
        await child.ref.ask(Spawn())
        await trio.sleep_forever()


async def _run(tree: Supervisor) -> None:
    await run_tree(tree, clock=clock, random=seeded())


@pytest.mark.parametrize(("build", "crashed", "finished"), [(permanent, 2, 2), (transient, 2, 1), (temporary, 1, 1)])
async def test_permanent_transient_and_temporary_children_come_back_as_their_names_say(
    build: Callable[[str, Callable[[], Counter]], Child[Messages, int]],
    crashed: int,
    finished: int,
    autojump_clock: MockClock,
) -> None:
    one, two = build("one", Counter), build("two", Counter)
    async with run(one_for_one("veza", one, two)) as tree:
        await crash(one.ref)
        await two.ref.ask(Finish())
        await settled(tree)
        assert (one.incarnation, two.incarnation) == (crashed, finished)
        for child, incarnation in ((one, crashed), (two, finished)):
            if incarnation == 2:
                assert await child.ref.ask(Add(1)) == 1
            else:
                with pytest.raises(Stopped):
                    await child.ref.ask(Add(1))


async def test_a_temporary_sibling_that_a_strategy_cuts_is_gone(autojump_clock: MockClock) -> None:
    a, b = permanent("a", Counter), temporary("b", Counter)
    async with run(one_for_all("veza", a, b)) as tree:
        await crash(a.ref)
        await tree.wait("veza/a", State.RUNNING, incarnation=2)
        with pytest.raises(Stopped):
            await b.ref.ask(Add(1))


async def test_restarts_back_off_twice_as_long_each_time_with_jitter() -> None:
    backoff, random = Backoff(first=0.1, longest=5, subtree=30), seeded(7)
    pauses = [backoff.after(crashes, random) for crashes in range(1, 10)]
    for pause, plain in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5], strict=True):
        assert 0.75 * plain <= pause <= 1.25 * plain
    assert len({round(jitter(random), 9) for _ in range(100)}) == 100


async def test_crashes_spread_wider_than_the_window_are_borne_for_ever(autojump_clock: MockClock) -> None:
    child = permanent("it", Counter)
    async with run(one_for_one("veza", child, intensity=Intensity(2, per_seconds=60))) as tree:
        for incarnation in range(1, 8):
            await tree.wait("veza/it", State.RUNNING, incarnation=incarnation)
            await crash(child.ref)
            await trio.sleep(30)
        assert tree.state is State.RUNNING


async def test_what_the_root_cannot_hold_ends_the_tree_with_an_error_and_answers_everyone(
    autojump_clock: MockClock,
) -> None:
    sick, well = permanent("sick", Counter), permanent("well", Counter)
    tree = one_for_one("veza", sick, well, intensity=Intensity(2, per_seconds=60))
    ended = list[BaseException]()

    async def process() -> None:
        try:
            await run_tree(tree, clock=clock, random=seeded())
        except GaveUp as gave_up:
            ended.append(gave_up)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process)
            for _ in range(3):
                await crash(sick.ref)
        for child in (sick, well):
            with pytest.raises(Stopped):
                await child.ref.ask(Add(1))
    assert str(ended[0]) == "veza/sick"
    assert "Poison" in repr(ended[0].__cause__)


async def test_a_leaf_over_its_limit_degrades_its_subtree_only_and_mail_waits_for_the_return(
    autojump_clock: MockClock,
) -> None:
    trace = list[str]()
    sick, near = permanent("sick", Counter), permanent("near", lambda: Counter("near", trace=trace))
    far = permanent("far", Counter)
    money = one_for_one("money", sick, near, intensity=Intensity(1, per_seconds=60))
    async with run(one_for_one("veza", far, money)) as tree:
        began = trio.current_time()
        for _ in range(2):
            await crash(sick.ref)
        await tree.wait("veza/money", State.DEGRADED)
        view = tree.view().children[1]
        assert isinstance(view, SupervisorView)
        assert view.restarts.next_backoff_s is not None
        assert 20 < view.restarts.next_backoff_s <= 37.5
        assert view.last_crash is not None
        assert view.last_crash.error_type == "GaveUp"
        assert await far.ref.ask(Add(1)) == 1
        assert await near.ref.ask(Add(2)) == 2  # it waited out the long backoff
        assert trio.current_time() - began > 20
        assert (far.incarnation, near.incarnation, money.incarnation) == (1, 2, 2)
        await tree.wait("veza/money", State.RUNNING, incarnation=2)
        assert await sick.ref.ask(Add(3)) == 3


async def test_a_subtree_that_fails_at_once_every_time_never_takes_the_process_down(
    autojump_clock: MockClock,
) -> None:
    sick = permanent("sick", counters(Fate(starts_to_fail=10**9)))
    far = permanent("far", Counter)
    async with run(one_for_one("veza", one_for_one("money", sick), far), within=10**6) as tree:
        await trio.sleep(3600)
        assert await far.ref.ask(Add(1)) == 1
        assert tree.state is State.RUNNING
        assert sick.incarnation > 100


async def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two children"):
        one_for_one("veza", permanent("it", Counter), permanent("it", Counter))


# --- dynamic children


async def test_a_dynamic_child_is_started_once_a_key_and_there_for_whoever_asks(autojump_clock: MockClock) -> None:
    live = dynamic("live", by_key, limit=2)
    async with run(one_for_one("veza", live)):
        ref = live.start(7)
        assert await ref.ask(Add(1)) == 1
        assert live.start(7) is ref
        assert live.get(7) is ref
        assert live.get(8) is None
        assert ref.path == "veza/live/7"
        live.start(8)
        with pytest.raises(Overloaded):
            live.start(9)
        assert live.keys() == [7, 8]
        assert live.children() == [(7, live.get(7)), (8, live.get(8))]


async def test_a_dynamic_child_that_finishes_makes_room(autojump_clock: MockClock) -> None:
    live = dynamic("live", by_key, limit=1)
    async with run(one_for_one("veza", live)):
        ref = live.start(1)
        await ref.ask(Finish())
        await wait_all_tasks_blocked()
        assert live.keys() == []
        with pytest.raises(Stopped):
            await ref.ask(Add(1))
        assert await live.start(1).ask(Add(1)) == 1


async def test_a_dynamic_child_is_restarted_alone_and_over_its_limit_given_up_alone(
    autojump_clock: MockClock,
) -> None:
    live = dynamic("live", by_key, limit=10, intensity=Intensity(1, per_seconds=60))
    async with run(one_for_one("veza", live)) as tree:
        sick, well = live.start(1), live.start(2)
        assert await well.ask(Add(1)) == 1
        await crash(sick)
        assert await sick.ask(Add(5)) == 5
        await crash(sick)
        await wait_all_tasks_blocked()
        with pytest.raises(Stopped):
            await sick.ask(Add(1))
        assert await well.ask(Add(1)) == 2
        view = live.view()
        assert (view.gave_up, view.limit, len(view.children)) == (1, 10, 1)
        assert tree.state is State.RUNNING


async def test_a_dynamic_child_is_stopped_by_key_in_order(autojump_clock: MockClock) -> None:
    trace = list[str]()

    def traced(key: int) -> Counter:
        return Counter(str(key), trace=trace)

    live = dynamic("live", traced, limit=10)
    async with run(one_for_one("veza", live)):
        ref = live.start(1)
        await ref.ask(Add(1))
        await live.stop(1)
        await live.stop(2)  # not there: nothing to do
        assert trace == ["start 1", "stop 1"]
        assert live.keys() == []
        with pytest.raises(Stopped):
            await ref.ask(Add(1))


async def test_dynamic_children_come_back_with_their_mailboxes_when_their_supervisor_does(
    autojump_clock: MockClock,
) -> None:
    poller = permanent("poller", Counter)
    live = dynamic("live", by_key, limit=10, restart=Restart.PERMANENT)
    async with run(rest_for_one("veza", poller, live)) as tree:
        ref = live.start(1)
        assert await ref.ask(Add(1)) == 1
        await crash(poller.ref)
        await tree.wait("veza/live", State.RUNNING, incarnation=2)
        assert await ref.ask(Add(5)) == 5
        assert live.get(1) is ref


async def test_a_dynamic_supervisor_starts_nothing_before_its_tree_nor_after(autojump_clock: MockClock) -> None:
    live = dynamic("live", by_key, limit=10)
    with pytest.raises(Stopped):
        live.start(1)
    async with run(one_for_one("veza", live)):
        ref = live.start(1)
    with pytest.raises(Stopped):
        live.start(2)
    with trio.fail_after(1), pytest.raises(Stopped):
        await ref.ask(Add(1))


async def test_a_task_started_from_a_request_leaves_no_trace_of_it_in_the_child(autojump_clock: MockClock) -> None:
    """A child started by an actor (whose tasks may not ask) is no part of that actor, nor of a request."""
    from contextvars import ContextVar

    request: ContextVar[str] = ContextVar("request", default="none")
    found = list[str]()

    class Looker(Counter):
        async def start(self) -> None:
            found.append(request.get())

    def looker(key: int) -> Looker:
        return Looker(str(key))

    live = dynamic("live", looker, limit=10)
    async with run(one_for_one("veza", live)):
        request.set("4711")
        await live.start(1).ask(Add(1))
    assert found == ["none"]


async def test_the_block_of_a_running_tree_ends_if_the_tree_gives_up(autojump_clock: MockClock) -> None:
    child = permanent("it", counters(Fate(starts_to_fail=10**9)))
    with pytest.raises(ExceptionGroup) as failed:
        async with running(one_for_one("veza", child), clock=clock, random=seeded()):
            await trio.sleep_forever()
    assert failed.group_contains(GaveUp)
