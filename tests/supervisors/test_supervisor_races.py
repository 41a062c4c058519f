"""A supervisor disturbed at its work: ends that come together, restarts within restarts, actions that come late."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.samples import Add, Boom, Counter, Fate, Finish, Hold, Messages, by_key, counters, run
from veza.actors.core import ActorCrashed, Misuse, Ref, State, Stopped
from veza.supervisors import (
    Intensity,
    Restart,
    Supervisor,
    control,
    dynamic,
    one_for_all,
    one_for_one,
    permanent,
    rest_for_one,
    stop,
    temporary,
    transient,
)


async def crash(ref: Ref[Messages]) -> None:
    with pytest.raises(ActorCrashed):
        await ref.ask(Boom())


# --- a supervisor that is itself cut or gives up


async def test_children_of_a_cut_supervisor_start_anew_and_nothing_counts_against_them(
    autojump_clock: MockClock,
) -> None:
    first, calm, brief = permanent("first", Counter), permanent("calm", Counter), transient("brief", Counter)
    money = one_for_one("money", calm, brief, intensity=Intensity(1, per_seconds=60))
    async with run(rest_for_one("veza", first, money, intensity=Intensity(9, per_seconds=60))) as tree:
        for incarnation in range(2, 6):
            await crash(first.ref)
            await tree.wait("veza/money", State.RUNNING, incarnation=incarnation)
            await trio.sleep(5)
            assert [each.incarnation for each in (first, calm, brief, money)] == [incarnation] * 4
            assert await calm.ref.ask(Add(1)) == 1
            assert await brief.ref.ask(Add(1)) == 1
            assert all(each.restarts.in_window == 0 for each in money.view().children)


async def test_a_supervisor_cut_while_it_cuts_a_child_minds_that_child_afterwards(autojump_clock: MockClock) -> None:
    class Writer(Counter):
        async def hold(self) -> int:
            self.fate.in_hand.set()
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            await trio.lowlevel.checkpoint()
            return 0

    first, sick, writer = permanent("first", Counter), permanent("sick", Counter), Fate()
    slow = permanent("slow", lambda: Writer(fate=writer))
    money = one_for_all("money", sick, slow)
    async with run(rest_for_one("veza", first, money)) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(_held, slow.ref)
        await writer.in_hand.wait()
        await crash(sick.ref)  # money waits for the write to end
        await wait_all_tasks_blocked()
        await crash(first.ref)  # and is itself cut
        await tree.wait("veza/money", State.RUNNING, incarnation=2)
        await tree.wait("veza/money/slow", State.RUNNING, incarnation=2)
        await crash(slow.ref)
        await tree.wait("veza/money/slow", State.RUNNING, incarnation=3)


async def _held(ref: Ref[Messages]) -> None:
    with pytest.raises(ActorCrashed):
        await ref.ask(Hold())


async def test_a_second_crash_in_the_instant_of_giving_up_does_not_haunt_the_next_incarnation(
    autojump_clock: MockClock,
) -> None:
    fates = [Fate() for _ in range(3)]
    one, two, three = (permanent(f"c{n}", counters(fate)) for n, fate in enumerate(fates))
    money = one_for_one("money", one, two, three, intensity=Intensity(0, per_seconds=10))
    async with run(one_for_one("veza", money)) as tree:
        async with trio.open_nursery() as nursery:
            for child in (one, two):
                nursery.start_soon(crash, child.ref)
        await tree.wait("veza/money", State.RUNNING, incarnation=2)
        await trio.sleep(20)
        assert money.incarnation == 2
        assert [child.incarnation for child in (one, two, three)] == [2, 2, 2]
        for child in (one, two, three):
            assert await child.ref.ask(Add(1)) == 1


async def test_a_child_that_is_gone_stays_gone_when_its_supervisor_comes_back(autojump_clock: MockClock) -> None:
    trace = list[str]()
    first, once = permanent("first", Counter), temporary("once", lambda: Counter("once", trace=trace))
    async with run(rest_for_one("veza", first, one_for_one("money", once))) as tree:
        await crash(once.ref)
        await tree.wait("veza/money/once", State.STOPPED)
        await crash(first.ref)
        await tree.wait("veza/money", State.RUNNING, incarnation=2)
        assert trace == ["start once"]
        assert once.state is State.STOPPED
        with pytest.raises(Stopped):
            await once.ref.ask(Add(1))


@pytest.mark.parametrize("build", [rest_for_one, one_for_all])
@pytest.mark.parametrize("_turn", range(8))  # the loop shuffles whom it runs first
async def test_a_transient_that_ends_as_its_sibling_crashes_stays_gone(
    build: Callable[..., Supervisor], autojump_clock: MockClock, _turn: int
) -> None:
    first, last = permanent("first", lambda: Counter("first")), transient("last", lambda: Counter("last"))
    async with run(build("veza", first, last)) as tree:
        await tree.wait(last.path, State.RUNNING)
        first.ref.tell(Boom())
        last.ref.tell(Finish())
        await trio.sleep(20)  # mock seconds: past every backoff
        assert (first.incarnation, last.incarnation) == (2, 1)
        assert last.state is State.STOPPED


@pytest.mark.parametrize("build", [rest_for_one, one_for_all])
async def test_a_temporary_child_that_crashes_at_its_start_keeps_nobody_from_starting(
    build: Callable[..., Supervisor], autojump_clock: MockClock
) -> None:
    once, after = temporary("once", counters(Fate(starts_to_fail=1))), permanent("after", Counter)
    async with run(build("veza", once, after)) as tree:
        await tree.wait("veza/after", State.RUNNING)
        assert after.incarnation == 1


# --- actions that come late


async def test_a_restart_meant_for_an_incarnation_that_just_crashed_spares_its_successor(
    autojump_clock: MockClock,
) -> None:
    child = permanent("it", Counter)
    other = permanent("other", Counter)
    async with run(one_for_one("veza", child, other)) as tree:
        for _ in range(3):  # only the first finds it as it was meant
            tree.restart_now("veza/it")
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        await wait_all_tasks_blocked()
        assert child.incarnation == 2
        assert tree.view().children[0].restarts.total == 1


async def test_one_that_is_gone_can_not_be_acted_on(autojump_clock: MockClock) -> None:
    child = temporary("it", Counter)
    async with run(one_for_one("veza", child)) as tree:
        await crash(child.ref)
        await tree.wait("veza/it", State.STOPPED)
        with pytest.raises(control.NoSuchActor):
            control.restart(tree, "veza/it", 1)


async def test_a_restart_while_those_before_it_still_start_changes_no_order(autojump_clock: MockClock) -> None:
    trace = list[str]()

    class Slow(Counter):
        async def start(self) -> None:
            await trio.sleep(3)
            await super().start()

    slow = permanent("slow", lambda: Slow("slow", trace=trace))
    after = permanent("after", lambda: Counter("after", trace=trace))
    async with run(rest_for_one("veza", slow, after)) as tree:
        trace.clear()
        await crash(slow.ref)
        await tree.wait("veza/slow", State.STARTING, incarnation=2)
        control.restart(tree, "veza/after", 1)
        await tree.wait("veza/after", State.RUNNING, incarnation=2)
        assert trace == ["start slow", "start after"]


# --- dynamic


async def test_a_dynamic_child_stopped_as_its_supervisor_comes_back_takes_no_sibling_with_it(
    autojump_clock: MockClock,
) -> None:
    poller = permanent("poller", Counter)
    live = dynamic("live", by_key, limit=10)
    async with run(rest_for_one("veza", poller, live)) as tree:
        refs = [live.start(key) for key in range(3)]
        assert await refs[2].ask(Add(1)) == 1
        await crash(poller.ref)
        await tree.wait("veza/live", State.STARTING, incarnation=2)
        await live.stop(0)
        assert await refs[1].ask(Add(2)) == 2
        assert await refs[2].ask(Add(3)) == 3
        with pytest.raises(Stopped):
            await refs[0].ask(Add(1))
        assert live.keys() == [1, 2]


async def test_no_dynamic_child_is_started_once_the_stop_has_begun(autojump_clock: MockClock) -> None:
    fate = Fate()

    def fated(key: int) -> Counter:
        return Counter(str(key), fate)

    live = dynamic("live", fated, limit=10)
    async with trio.open_nursery() as nursery:
        async with run(one_for_one("veza", live)) as tree:
            nursery.start_soon(_asked, live.start(1))
            await fate.in_hand.wait()
            began = trio.current_time()
            stop(tree)
            await wait_all_tasks_blocked()
            with pytest.raises(Stopped):
                live.start(2)
            fate.gate.set()
        assert trio.current_time() == began


async def _asked(ref: Ref[Messages]) -> None:
    with trio.fail_after(3600):
        assert await ref.ask(Hold()) == 0


async def test_a_dynamic_child_that_is_cut_by_its_stop_is_gone_though_an_operator_restarts_it(
    autojump_clock: MockClock,
) -> None:
    fate = Fate()

    def fated(key: int) -> Counter:
        return Counter(str(key), fate)

    live = dynamic("live", fated, limit=10, restart=Restart.PERMANENT)
    async with run(one_for_one("veza", live)) as tree:
        async with trio.open_nursery() as nursery:
            ref = live.start(1)
            nursery.start_soon(_held, ref)
            await fate.in_hand.wait()
            nursery.start_soon(live.stop, 1)
            await wait_all_tasks_blocked()
            control.restart(tree, "veza/live/1", 1)
        await trio.sleep(20)
        assert live.keys() == []
        assert fate.begun == ["Hold"]
        with pytest.raises(Stopped):
            await ref.ask(Add(1))
        assert await live.start(1).ask(Add(1)) == 1


async def test_a_dynamic_child_that_stops_itself_by_key_is_told_of_its_mistake(autojump_clock: MockClock) -> None:
    told = list[type[BaseException]]()

    class Leaver(Counter):
        async def hold(self) -> int:
            try:
                await live.stop(1)
            except Misuse as mistake:
                told.append(type(mistake))
                self.finish()
            return 0

    def leaver(_: int) -> Leaver:
        return Leaver()

    live = dynamic("live", leaver, limit=1)
    async with run(one_for_one("veza", live)):
        assert await live.start(1).ask(Hold()) == 0
        await wait_all_tasks_blocked()
        assert told == [Misuse]
        assert live.keys() == []
