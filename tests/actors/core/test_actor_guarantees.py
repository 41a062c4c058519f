"""Guarantees 1 to 5 and 7 of docs/runtime-semantics.md, seen from a Ref."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.samples import (
    Add,
    Boom,
    BoomLater,
    Counter,
    Doorman,
    Fate,
    Finish,
    Hold,
    HoldLater,
    Messages,
    Ring,
    Waiter,
    counters,
    run,
)
from veza.actors.core import (
    Actor,
    ActorCrashed,
    ActorView,
    AskFailed,
    AskFromActor,
    AskWithoutDeadline,
    DeadlineExceeded,
    Mailbox,
    Overloaded,
    Ref,
    Refuse,
    State,
    Stopped,
)
from veza.supervisors import Supervisor, one_for_all, one_for_one, permanent, transient


def seen(tree: Supervisor) -> ActorView:
    """The view of a tree's only actor."""
    (view,) = tree.view().children
    assert isinstance(view, ActorView)
    return view


async def outcome_of(
    ref: Ref[Messages], message: Add | Boom | Hold | HoldLater | BoomLater, into: list[object]
) -> None:
    try:
        into.append(await ref.ask(message))
    except AskFailed as failed:
        into.append(type(failed))


# --- 1: the mailbox


async def test_a_full_refusing_mailbox_answers_overloaded_and_counts_a_dropped_tell(
    autojump_clock: MockClock,
) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(child.ref.ask, Hold())
        await fate.in_hand.wait()
        assert [child.ref.tell(Ring()) for _ in range(5)] == [True, True, True, True, False]
        with pytest.raises(Overloaded):
            await child.ref.ask(Add(1))
        mailbox = seen(tree).mailbox
        assert (mailbox.depth, mailbox.capacity, mailbox.high_water, mailbox.refused) == (4, 4, 4, 2)
        fate.gate.set()


async def test_equal_rings_fold_into_the_one_that_waits(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", lambda: Doorman(fate=fate))
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.ref.ask, Hold())
            await fate.in_hand.wait()
            assert all(child.ref.tell(Ring("front")) for _ in range(50))
            assert child.ref.tell(Ring("back"))
            assert seen(tree).mailbox.depth == 2
            assert not child.ref.tell(Ring("cellar"))
            with pytest.raises(Overloaded):
                await child.ref.ask(Add(1))
            fate.gate.set()
        await wait_all_tasks_blocked()
        assert fate.begun == ["Hold", "Ring", "Ring"]
        assert child.ref.tell(Ring("front"))  # the one before was taken: this is a ring of its own
        await wait_all_tasks_blocked()
        assert fate.begun.count("Ring") == 3


async def test_an_asker_of_a_full_waiting_mailbox_waits_its_turn(autojump_clock: MockClock) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", lambda: Waiter(fate=fate))
    async with run(one_for_one("veza", child)), trio.open_nursery() as nursery:
        nursery.start_soon(child.ref.ask, Hold())
        await fate.in_hand.wait()
        for amount in (1, 10, 100):
            nursery.start_soon(outcome_of, child.ref, Add(amount), answers)
            await wait_all_tasks_blocked()
        assert not child.ref.tell(Ring())
        fate.gate.set()
        await wait_all_tasks_blocked()
        assert sorted(map(str, answers)) == ["1", "11", "111"]  # each found the ones before it done


async def test_waiting_for_room_ends_at_the_deadline_and_leaves_no_message(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", lambda: Waiter(fate=fate))
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.ref.ask, Hold())
            await fate.in_hand.wait()
            assert child.ref.tell(Ring())
            with trio.move_on_after(5), pytest.raises(DeadlineExceeded):
                await child.ref.ask(Add(1))
            assert seen(tree).mailbox.depth == 1
            fate.gate.set()
        assert await child.ref.ask(Add(1)) == 2  # the ring counted one, the lapsed ask nothing


async def test_those_waiting_for_room_get_stopped_at_the_final_stop(autojump_clock: MockClock) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", lambda: Waiter(fate=fate))
    async with trio.open_nursery() as nursery, run(one_for_one("veza", child)):
        nursery.start_soon(_bounded, child.ref, Hold(), answers)
        await fate.in_hand.wait()
        for _ in range(3):
            nursery.start_soon(_bounded, child.ref, Add(1), answers)
        await wait_all_tasks_blocked()
        nursery.start_soon(_open_in_a_second, fate)
    assert sorted(map(str, answers)) == sorted(map(str, [0, Stopped, Stopped, Stopped]))


async def _open_in_a_second(fate: Fate) -> None:
    await trio.sleep(1)
    fate.gate.set()


async def _bounded(ref: Ref[Messages], message: Add | Hold, into: list[object]) -> None:
    with trio.fail_after(3600):
        await outcome_of(ref, message, into)


async def test_a_mailbox_survives_a_restart(autojump_clock: MockClock) -> None:
    answers = list[object]()
    child = permanent("it", Counter)
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            for message in (Boom(), Add(1), Add(2)):
                nursery.start_soon(outcome_of, child.ref, message, answers)
                await trio.lowlevel.checkpoint()
        assert ActorCrashed in answers
        assert len(answers) == 3
        assert answers.count(ActorCrashed) == 1
        assert seen(tree).incarnation == 2


async def test_a_ref_takes_mail_before_the_tree_starts_and_answers_stopped_after_it_ended(
    autojump_clock: MockClock,
) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    assert child.ref.tell(Ring())
    async with run(one_for_one("veza", child)):
        assert await child.ref.ask(Add(1)) == 2
    with trio.fail_after(1), pytest.raises(Stopped):
        await child.ref.ask(Add(1))
    assert not child.ref.tell(Ring())


async def test_every_mailbox_states_size_word_and_reason() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Mailbox(0, full=Refuse, why="none")


# --- 2: deadlines


async def test_an_ask_without_a_deadline_is_refused_as_a_mistake(autojump_clock: MockClock) -> None:
    child = permanent("it", Counter)
    with pytest.raises(AskWithoutDeadline):
        await child.ref.ask(Add(1))


async def test_an_asker_whose_deadline_passes_gets_deadline_exceeded_and_its_mail_is_skipped(
    autojump_clock: MockClock,
) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.ref.ask, Hold())
            await fate.in_hand.wait()
            with trio.move_on_after(5), pytest.raises(DeadlineExceeded) as failed:
                await child.ref.ask(Add(7))
            assert not failed.value.outcome_known
            fate.gate.set()
        assert await child.ref.ask(Add(1)) == 1
        assert "Add" not in fate.begun[:-1]
        assert seen(tree).mailbox.expired == 1


async def test_a_deadline_that_has_passed_sends_nothing(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)):
        with trio.move_on_after(0), pytest.raises(DeadlineExceeded):
            await child.ref.ask(Add(7))
        await wait_all_tasks_blocked()
        assert fate.begun == []


async def test_a_deadline_does_not_cut_the_message_in_hand(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        with trio.move_on_after(5), pytest.raises(DeadlineExceeded):
            await child.ref.ask(Hold())
        assert fate.in_hand.is_set()
        fate.gate.set()
        assert await child.ref.ask(Add(1)) == 1
        assert seen(tree).incarnation == 1


async def test_a_client_that_hangs_up_is_cancelled_as_ever_and_its_message_is_handled(
    autojump_clock: MockClock,
) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)), trio.open_nursery() as nursery:
        nursery.start_soon(child.ref.ask, Hold())
        await fate.in_hand.wait()
        with trio.CancelScope() as client:
            nursery.start_soon(_hang_up, client)
            await outcome_of(child.ref, Add(5), answers)
        assert client.cancelled_caught
        assert answers == []
        fate.gate.set()
        assert await child.ref.ask(Add(1)) == 6


async def _hang_up(client: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    client.cancel()


# --- 3: every ask is answered once


async def test_a_later_reply_leaves_the_mailbox_free(autojump_clock: MockClock) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)), trio.open_nursery() as nursery:
        nursery.start_soon(outcome_of, child.ref, HoldLater(), answers)
        await fate.in_hand.wait()
        assert await child.ref.ask(Add(3)) == 3
        assert answers == []
        fate.gate.set()
        await wait_all_tasks_blocked()
        assert answers == [3]


async def test_a_later_reply_that_crashes_fails_its_asker_and_the_actor(autojump_clock: MockClock) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, child.ref, BoomLater(), answers)
            nursery.start_soon(outcome_of, child.ref, HoldLater(), answers)
            await fate.in_hand.wait()
            await wait_all_tasks_blocked()
            fate.gate = trio.Event()  # the other reply in hand is still held when the burst comes
            nursery.start_soon(outcome_of, child.ref, BoomLater(), answers)
            await wait_all_tasks_blocked()
            fate.gate.set()
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        assert answers == [ActorCrashed] * 3
        crash = seen(tree).last_crash
        assert crash is not None
        assert crash.message_type == "BoomLater"


async def test_an_asker_that_is_gone_is_ignored(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        with trio.move_on_after(1), pytest.raises(DeadlineExceeded):
            await child.ref.ask(HoldLater())
        fate.gate.set()
        await wait_all_tasks_blocked()
        assert await child.ref.ask(Add(1)) == 1
        assert seen(tree).last_crash is None


# --- 4: only the edge asks


class Asker(Actor[Add, object]):
    """Does what it must not: asks, from its handler or from a task of its own."""

    mailbox = Mailbox(4, full=Refuse, why="a test")

    def __init__(self, other: Ref[Messages], *, from_task: bool) -> None:
        self.other = other
        self.from_task = from_task

    async def handle(self, message: Add) -> int:
        if self.from_task:
            with trio.fail_after(1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.other.ask, message)
        with trio.fail_after(1):
            return await self.other.ask(message)


@pytest.mark.parametrize("from_task", [False, True])
async def test_an_ask_from_inside_an_actor_raises_at_once(from_task: bool, autojump_clock: MockClock) -> None:
    fate = Fate()
    other = permanent("other", counters(fate))
    asker = permanent("asker", lambda: Asker(other.ref, from_task=from_task))
    async with run(one_for_one("veza", other, asker)) as tree:
        with pytest.raises(ActorCrashed):
            await asker.ref.ask(Add(1))
        await tree.wait("veza/asker", State.RUNNING, incarnation=2)
        crash = asker.last_crash
        assert crash is not None
        assert crash.error_type == AskFromActor.__name__
        assert fate.begun == []
        assert await other.ref.ask(Add(1)) == 1
        assert tree.state is State.RUNNING


# --- 5: surprises crash


async def test_a_poisoned_message_fails_its_asker_and_spares_the_next(autojump_clock: MockClock) -> None:
    fate, answers = Fate(), list[object]()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)), trio.open_nursery() as nursery:
        nursery.start_soon(outcome_of, child.ref, Hold(), answers)
        await fate.in_hand.wait()
        for message in (Boom(), Add(2)):
            nursery.start_soon(outcome_of, child.ref, message, answers)
            await wait_all_tasks_blocked()
        fate.gate.set()
    assert set(answers) == {0, ActorCrashed, 2}


async def test_the_message_in_hand_is_never_redelivered(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        with pytest.raises(ActorCrashed):
            await child.ref.ask(Boom())
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        await wait_all_tasks_blocked()
        assert fate.begun == ["Boom"]


async def test_a_sibling_restarted_by_strategy_answers_actor_crashed_for_its_message_in_hand_only(
    autojump_clock: MockClock,
) -> None:
    fate, answers = Fate(), list[object]()
    sick, held = permanent("sick", Counter), permanent("held", counters(fate))
    async with run(one_for_all("veza", sick, held)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome_of, held.ref, Hold(), answers)
            await fate.in_hand.wait()
            nursery.start_soon(outcome_of, held.ref, Add(1), answers)
            await wait_all_tasks_blocked()
            with pytest.raises(ActorCrashed):
                await sick.ref.ask(Boom())
        assert answers == [ActorCrashed, 1]
        assert held.incarnation == 2
        assert held.last_crash is None


async def test_a_restart_begins_from_a_fresh_instance_and_keeps_what_was_published(
    autojump_clock: MockClock,
) -> None:
    child = permanent("it", Counter)
    async with run(one_for_one("veza", child)) as tree:
        assert await child.ref.ask(Add(5)) == 5
        with pytest.raises(ActorCrashed):
            await child.ref.ask(Boom())
        assert child.ref.snapshot == 5  # readers go on reading while it is down
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        assert child.ref.snapshot == 0
        assert await child.ref.ask(Add(1)) == 1


# --- 7, and an end of its own


async def test_an_actor_reports_back_to_itself_from_its_own_tasks(autojump_clock: MockClock) -> None:
    class Reporter(Counter):
        async def start(self) -> None:
            await super().start()
            self.nursery.start_soon(self.work)

        async def work(self) -> None:
            await trio.sleep(60)
            self.ref.tell(Ring())

    child = permanent("it", Reporter)
    async with run(one_for_one("veza", child)):
        assert await child.ref.ask(Add(1)) == 1
        await trio.sleep(61)
        assert await child.ref.ask(Add(1)) == 3


async def test_an_actor_that_finishes_is_gone_in_order(autojump_clock: MockClock) -> None:
    trace = list[str]()
    child = transient("it", lambda: Counter(trace=trace))
    async with run(one_for_one("veza", child)) as tree:
        await child.ref.ask(Finish())
        await tree.wait("veza/it", State.STOPPED)
        assert trace == ["start counter", "stop counter"]
        await wait_all_tasks_blocked()
        with pytest.raises(Stopped):
            await child.ref.ask(Add(1))


async def test_a_long_queue_does_not_keep_the_scheduler_to_itself(autojump_clock: MockClock) -> None:
    class Busy(Counter):
        mailbox = Mailbox(1000, full=Refuse, why="a queue longer than a turn")

    child = permanent("it", Busy)
    async with run(one_for_one("veza", child)) as tree:
        for _ in range(1000):
            assert child.ref.tell(Ring())
        rounds = 0
        while seen(tree).mailbox.depth:
            await trio.lowlevel.checkpoint()
            rounds += 1
        assert rounds > 10
