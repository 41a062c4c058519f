"""What an operator sees of an actor: its counters, its last crash, its state; and what never shows."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.samples import LAUNCH, Add, Boom, BoomLater, Counter, Fate, Hold, Messages, Ring, counters, run
from veza.actors.core import Actor, ActorCrashed, ActorView, Mailbox, Refuse, State
from veza.actors.core.meter import BUCKETS, WINDOW_S, Meter, bucket, upper_ms
from veza.supervisors import Supervisor, dynamic, one_for_one, permanent


def seen(tree: Supervisor) -> ActorView:
    (view,) = tree.view().children
    assert isinstance(view, ActorView)
    return view


async def test_a_stuck_actor_is_still_seen(autojump_clock: MockClock) -> None:
    fate = Fate()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree, trio.open_nursery() as nursery:
        nursery.start_soon(child.ref.ask, Hold())
        await fate.in_hand.wait()
        child.ref.tell(Ring())
        await trio.sleep(90)
        view = seen(tree)
        assert view.path == "veza/it"
        assert view.kind == "Counter"
        assert view.state is State.RUNNING
        assert view.uptime_s == pytest.approx(90)
        assert view.current is not None
        assert view.current.message_type == "Hold"
        assert view.current.running_ms == pytest.approx(90_000)
        assert view.mailbox.depth == 1
        assert view.mailbox.oldest_age_ms == pytest.approx(90_000)
        assert view.snapshot == 0
        fate.gate.set()


async def test_rates_and_times_speak_of_the_last_minute(autojump_clock: MockClock) -> None:
    class Slow(Counter):
        async def handle(self, message: Messages) -> object:
            await trio.sleep(0.1)
            return await super().handle(message)

    child = permanent("it", Slow)
    async with run(one_for_one("veza", child), within=7200) as tree:
        assert seen(tree).handle_ms is None
        for _ in range(600):
            await child.ref.ask(Add(1))
        view = seen(tree)
        assert view.handle_ms is not None
        assert view.wait_ms is not None
        assert 100 <= view.handle_ms.p50 <= view.handle_ms.p99 <= 150
        assert view.wait_ms.p99 < 1
        assert view.rate_1m == pytest.approx(10, rel=0.05)
        await trio.sleep(200)
        assert seen(tree).rate_1m == 0
        await trio.sleep(3600)
        assert seen(tree).handle_ms is None


async def test_the_last_crash_names_places_and_types_and_no_value(autojump_clock: MockClock) -> None:
    child = permanent("it", Counter)
    async with run(one_for_one("veza", child)) as tree:
        with pytest.raises(ActorCrashed):
            await child.ref.ask(Boom())
        await tree.wait("veza/it", State.RESTARTING)
        view = seen(tree)
        assert view.restarts.next_backoff_s is not None
        assert 0 < view.restarts.next_backoff_s <= 0.125
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        view = seen(tree)
        crash = view.last_crash
        assert crash is not None
        assert (crash.at, crash.error_type, crash.message_type) == (LAUNCH, "Poison", "Boom")
        assert crash.traceback[-1].startswith("tests/actors/samples.py:")
        assert crash.traceback[-1].endswith(":handle")
        assert "secret" not in repr(view)
        restarts = view.restarts
        assert (restarts.total, restarts.in_window, restarts.limit, restarts.next_backoff_s) == (1, 1, 3, None)
        await trio.sleep(61)
        assert seen(tree).restarts.in_window == 0


async def test_a_crash_in_a_task_shows_the_way_to_it(autojump_clock: MockClock) -> None:
    fate = Fate()
    fate.gate.set()
    child = permanent("it", counters(fate))
    async with run(one_for_one("veza", child)) as tree:
        with pytest.raises(ActorCrashed):
            await child.ref.ask(BoomLater())
        await tree.wait("veza/it", State.RUNNING, incarnation=2)
        crash = seen(tree).last_crash
        assert crash is not None
        assert crash.error_type == "Poison"
        assert crash.traceback[-1].endswith(":burst")


async def test_a_tree_is_walked_flat_and_made_into_json(autojump_clock: MockClock) -> None:
    def by_name(key: str) -> Counter:
        return Counter(key)

    live = dynamic("live", by_name, limit=3)
    async with run(one_for_one("veza", permanent("it", Counter), live)) as tree:
        await live.start("x").ask(Add(1))
        view = tree.view()
        assert [each.path for each in view.walk()] == ["veza", "veza/it", "veza/live", "veza/live/x"]
        assert [each.kind for each in view.walk()] == ["one_for_one", "Counter", "dynamic", "Counter"]
        assert json.loads(json.dumps(asdict(view), default=str))["children"][1]["limit"] == 3


async def test_a_pause_keeps_the_mailbox_and_a_restart_does_not_lift_it(autojump_clock: MockClock) -> None:
    class Worker(Actor[Ring, int]):
        """Pauses itself, as one does whose provider says 401, and works only while it is not paused."""

        mailbox = Mailbox(4, full=Refuse, why="a test")

        async def start(self) -> None:
            self.publish(0)
            self.nursery.start_soon(self.work)

        async def work(self) -> None:
            while True:
                await self.unpaused()
                self.publish(self.snapshot + 1)
                await trio.sleep(10)

        async def handle(self, message: Ring) -> None:
            self.pause("unauthorized")

    child = permanent("it", Worker)
    async with run(one_for_one("veza", child)) as tree:
        child.ref.tell(Ring())
        child.ref.tell(Ring())
        await tree.wait("veza/it", State.PAUSED)
        await trio.sleep(100)
        assert child.ref.snapshot == 1
        view = seen(tree)
        assert (view.paused_because, view.mailbox.depth) == ("unauthorized", 1)
        child.resume()
        await wait_all_tasks_blocked()
        assert seen(tree).mailbox.depth == 0  # the second ring was served, and paused it again
        assert child.state is State.PAUSED


def test_buckets_are_close_enough_to_tell_slow_from_fast() -> None:
    for us in (1, 2, 3, 7, 100, 999, 12_345, 1_000_000, 66_000_000):
        upper = upper_ms(bucket(us / 1e6)) * 1000
        assert us <= upper + 1e-9
        assert upper <= max(2.0, 1.5 * us + 1)
    assert bucket(-0.5) == bucket(0) == 0
    assert bucket(1e6) == BUCKETS - 1
    indices = [bucket(us / 1e6) for us in range(1, 20_000)]
    assert indices == sorted(indices)


def test_a_minute_weighs_half_as_much_after_the_next() -> None:
    meter = Meter()
    for second in range(60):
        meter.record(float(second), 0.001, 0.002)
    assert meter.rate(59.0) == pytest.approx(1, rel=0.05)
    for _ in range(31):
        meter.record(WINDOW_S + 30, 0.1, 0.2)
    assert meter.rate(WINDOW_S + 30) == pytest.approx(1, rel=0.1)
    times = meter.handle_ms(WINDOW_S + 30)
    assert times is not None
    assert 200 <= times.p50 <= 300  # 31 of these outweigh 60 of the minute before
    assert meter.rate(3.5 * WINDOW_S) == 0
    assert meter.handle_ms(20 * WINDOW_S) is None


def test_a_busy_minute_outgrows_its_small_counts() -> None:
    meter = Meter()
    for _ in range(70_000):
        meter.record(1.0, 0.001, 0.002)
    assert meter.rate(1.0) == 70_000
    assert meter.handle_ms(1.0) == meter.handle_ms(2.0)
