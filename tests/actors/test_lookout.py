"""The lookout on trio's own clock: a point for each actor every ten seconds, for ten minutes."""

from __future__ import annotations

from random import Random
from typing import Never

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from veza.actors.core import Actor, Mailbox, Refuse, State, SupervisorView
from veza.actors.lookout import EVERY_SECONDS, POINTS, Lookout, Point, Trends
from veza.domain.errors import NotFound
from veza.domain.ids import utc_now
from veza.supervisors import Restart, Supervisor, dynamic, one_for_one, permanent, running
from veza.supervisors.control import AT_ONCE, Control, restart


class Idle(Actor[Never, None]):
    mailbox = Mailbox(1, full=Refuse, why="a test sends nothing")

    async def handle(self, message: Never) -> object:
        raise AssertionError(message)


def idle(_key: str) -> Idle:
    return Idle()


def watched(trends: Trends) -> Supervisor:
    crowd = dynamic("crowd", idle, limit=5, restart=Restart.TEMPORARY)
    lookout = permanent("lookout", lambda: Lookout(lambda: root.view(most=0), trends))
    root = one_for_one("root", permanent("idle", Idle), crowd, lookout)
    return root


async def test_each_actor_has_a_point_every_ten_seconds_and_no_more_than_ten_minutes_of_them(
    autojump_clock: MockClock,
) -> None:
    trends = Trends()
    async with running(watched(trends), clock=utc_now, random=Random(1)):
        assert trends.of("root/idle") == ()
        await trio.sleep(EVERY_SECONDS * 3.5)
        assert trends.of("root/idle") == (Point(0.0, None),) * 3
        await trio.sleep(EVERY_SECONDS * (POINTS + 1))
        assert len(trends.of("root/idle")) == POINTS
        assert trends.of("root/nobody") == ()


async def test_what_was_seen_outlives_a_restart_of_the_lookout(autojump_clock: MockClock) -> None:
    trends = Trends()
    tree = watched(trends)
    async with running(tree, clock=utc_now, random=Random(1)):
        await trio.sleep(EVERY_SECONDS * 2.5)
        restart(tree, "root/lookout", 1)
        await tree.wait("root/lookout", State.RUNNING)
        await trio.sleep(EVERY_SECONDS * 2.5)
        assert len(trends.of("root/idle")) == 4


def view_of(tree: Supervisor, most: int | None) -> SupervisorView:
    [crowd] = [each for each in tree.view(most=most).walk() if each.path == "root/crowd"]
    assert isinstance(crowd, SupervisorView)
    return crowd


async def test_one_node_is_seen_by_its_path(autojump_clock: MockClock) -> None:
    crowd = dynamic("crowd", idle, limit=5, restart=Restart.TEMPORARY)
    tree = one_for_one("root", one_for_one("branch", permanent("idle", Idle)), crowd)
    async with running(tree, clock=utc_now, random=Random(1)):
        crowd.start("a")
        control = Control(tree)
        for node in tree.view().walk():
            assert control.see(node.path).path == node.path
        seen = control.see("root/crowd", most=0)
        assert isinstance(seen, SupervisorView)
        assert (seen.children, seen.hidden) == ((), 1)
        for path in ("root/nobody", "branch", "root/crowd/b", ""):
            with pytest.raises(NotFound):
                control.see(path)


async def test_all_actors_are_listed_without_supervisors_and_others_have_their_turn_meanwhile(
    autojump_clock: MockClock,
) -> None:
    crowd = dynamic("crowd", idle, limit=3 * AT_ONCE, restart=Restart.TEMPORARY)
    tree = one_for_one("root", one_for_one("branch", permanent("idle", Idle)), crowd)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with running(tree, clock=utc_now, random=Random(1)), trio.open_nursery() as nursery:
        for key in range(3 * AT_ONCE):
            crowd.start(str(key))
        await wait_all_tasks_blocked()
        nursery.start_soon(others)
        found = await Control(tree).actors()
        assert [each.path for each in found] == [
            "root/branch/idle",
            *(f"root/crowd/{key}" for key in range(3 * AT_ONCE)),
        ]
        assert turns >= 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("most", "shown"), [(None, 3), (5, 3), (2, 2), (0, 0)])
async def test_a_view_shows_as_many_of_a_crowd_as_it_is_asked_for_and_says_how_many_it_hides(
    most: int | None, shown: int, autojump_clock: MockClock
) -> None:
    crowd = dynamic("crowd", idle, limit=5, restart=Restart.TEMPORARY)
    tree = one_for_one("root", crowd)
    async with running(tree, clock=utc_now, random=Random(1)):
        for key in "abc":
            crowd.start(key)
        seen = view_of(tree, most)
        assert (len(seen.children), seen.hidden) == (shown, 3 - shown)
        trends = Trends()
        assert trends.note(tree.view(most=0)) == 0
