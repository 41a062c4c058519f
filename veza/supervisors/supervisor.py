"""Start, watch, restart, give up: OTP's supervisor on trio's nurseries.

One task minds a supervisor's children: their ends come to it as events, one at a time. Each incarnation of a
child is one task of the supervisor's nursery, with a cancel scope of its own, and what it raises is caught
outside that scope.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import structlog
import trio

from veza.actors.core.crash import only, split, view_of
from veza.actors.core.loop import World
from veza.actors.core.views import CrashView, RestartsView, State, SupervisorView
from veza.supervisors.child import Backoff, Intensity, Node, Restart, Revival, Slot, Strategy

log = structlog.get_logger()

DEFAULT_INTENSITY = Intensity(restarts=3, per_seconds=60)  # a network blip fits; a bug does not
DEFAULT_BACKOFF = Backoff()
TOGETHER = (Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL)
ENDED = (State.CRASHED, State.STOPPED)
NO_RESTARTS = RestartsView(total=0, in_window=0, limit=0, next_backoff_s=None)


class GaveUp(Exception):  # noqa: N818 - what a supervisor says, as in OTP
    """A child crashed more often than its limit allows; its supervisor ends, its own supervisor decides."""


@dataclass(frozen=True)
class _Ended:
    slot: Slot
    incarnation: int
    crash: Exception | None


@dataclass(frozen=True)
class _Restart:
    """An operator's wish; it counts against no limit."""

    slot: Slot
    incarnation: int


@dataclass(frozen=True)
class _Stop:
    deadline: float


class Supervisor:
    """Children started in order, restarted by a strategy, stopped in reverse order."""

    restart = Restart.PERMANENT

    def __init__(
        self, name: str, strategy: Strategy, children: Sequence[Node], intensity: Intensity, backoff: Backoff
    ) -> None:
        names = [child.name for child in children]
        if len(set(names)) != len(names):
            raise ValueError(f"{name} has two children of one name: {names}")
        self.name = self.path = name
        self.incarnation = 0
        self.last_crash: CrashView | None = None
        self._strategy = strategy
        self._slots = [Slot(child, intensity) for child in children]
        self._intensity = intensity
        self._backoff = backoff
        self._state = State.WAITING
        self._since = 0.0
        self._alive = 0
        self._running = False
        self._send, self._events = trio.open_memory_channel[_Ended | _Restart | _Stop](inf)  # small: one a child

    # --- as a node of a tree

    def adopt(self, parent: str | None, world: World) -> None:
        """Take its place, and give its children theirs."""
        self.path = self.name if parent is None else f"{parent}/{self.name}"
        self._world = world
        for slot in self.slots():
            slot.node.adopt(self.path, world)

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._world.changes.notify()

    async def run(self) -> None:
        """One incarnation, counted by who runs it: until a stop in order, or GaveUp."""
        self._context = contextvars.copy_context()
        self._since = trio.current_time()
        async with trio.open_nursery() as self._nursery:
            self._running = True
            children = [slot for slot in self.slots() if not slot.gone]
            for slot in children:  # ends that came while no one minded them are no news to this incarnation
                slot.halting = False
                slot.node.state = State.WAITING
            self._bring_back(children, 0)
            try:
                async for event in self._events:
                    if isinstance(event, _Stop):
                        await self._stop(event.deadline)
                        break
                    await self._mind(event)
            finally:
                self._running = False
                for slot in self.slots():
                    slot.doomed = False
            self._nursery.cancel_scope.cancel()

    def retire(self, deadline: float) -> None:
        """Stop in order: children in reverse, each finishing its message in hand, by the deadline (trio's)."""
        self._send.send_nowait(_Stop(deadline))

    def close(self) -> None:
        """The final word for every mailbox underneath."""
        for slot in self.slots():
            slot.node.close()

    def crashed(self, crash: Exception) -> CrashView:
        """Remember what crashed it, redacted."""
        self.last_crash = view_of(crash, self._world.clock(), None)
        return self.last_crash

    def view(self, restarts: RestartsView = NO_RESTARTS, most: int | None = None) -> SupervisorView:
        """What an operator sees of it and everything under it; of a dynamic one ``most`` children, if it is given."""
        now, shown = trio.current_time(), self._shown(most)
        return SupervisorView(
            path=self.path,
            kind=self._strategy.value,
            state=self.state,
            incarnation=self.incarnation,
            uptime_s=now - self._since if self.state is State.RUNNING else 0.0,
            restarts=restarts,
            last_crash=self.last_crash,
            children=tuple(slot.view(now, most) for slot in shown),
            hidden=len(self.slots()) - len(shown),
        )

    def _shown(self, most: int | None) -> Collection[Slot]:
        return self.slots()

    def walk(self) -> Iterator[Slot]:
        """The places of everything under it, parents first."""
        for slot in self.slots():
            yield slot
            if isinstance(slot.node, Supervisor):
                yield from slot.node.walk()

    def slots(self) -> Collection[Slot]:
        """Its children's places, in start order."""
        return self._slots

    # --- bringing children to life

    def _bring_back(self, slots: list[Slot], delay: float) -> None:
        self._spawn(self._revive, Revival(slots, delay))

    def _spawn(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        # In the supervisor's own context: whoever asked for a start (a request, an actor) leaves no trace in it.
        self._context.run(self._nursery.start_soon, async_fn, *args)

    async def _revive(self, revival: Revival) -> None:
        with revival.scope:
            await trio.sleep_until(revival.due)
            revival.under_way = True
            for slot in revival.slots:
                if slot.revival is not revival:
                    continue  # called off, perhaps in this very moment
                self._launch(slot)
                if self._strategy is Strategy.DYNAMIC:
                    continue  # peers start together
                await self._settled(slot)
                crashed = slot.node.state is State.CRASHED
                if self._strategy in TOGETHER and not slot.alive and slot.node.restart.after(crashed=crashed):
                    break  # its end is on its way to the minder, which brings back the others too
        if self.state is State.STARTING:
            self.state = State.RUNNING

    def _launch(self, slot: Slot) -> None:
        """Begin an incarnation."""
        slot.revival = None
        slot.alive = True
        slot.doomed = False
        self._alive += 1
        slot.restarts += slot.node.incarnation > 0
        slot.node.incarnation += 1
        slot.scope = trio.CancelScope()
        slot.node.state = State.STARTING
        self._spawn(self._life, slot, slot.scope)

    async def _settled(self, slot: Slot) -> None:
        """Until it runs, or has ended before."""
        await self._world.changes.until(lambda: slot.node.state is not State.STARTING)

    async def _life(self, slot: Slot, scope: trio.CancelScope) -> None:
        foreign = crash = None
        try:
            with scope:
                await slot.node.run()
        except BaseException as error:  # noqa: BLE001 - outside the child's scope, or what its tasks raise
            foreign, crash = split(error)  # while being cancelled would get past
        self._ended(slot, crash)
        if foreign is not None:
            raise foreign

    def _ended(self, slot: Slot, crash: Exception | None) -> None:
        slot.alive = False
        self._alive -= 1
        if crash is not None:
            seen = slot.node.crashed(crash)
            log.error(
                "actor_crashed",
                path=slot.node.path,
                incarnation=slot.node.incarnation,
                error_type=seen.error_type,
                message_type=seen.message_type,
                traceback=seen.traceback,
            )
        slot.node.state = State.STOPPED if slot.halting or crash is None else State.CRASHED
        if not slot.halting:
            self._send.send_nowait(_Ended(slot, slot.node.incarnation, crash))

    # --- minding their ends

    async def _mind(self, event: _Ended | _Restart) -> None:
        slot = event.slot
        if slot.gone or event.incarnation != slot.node.incarnation:
            return  # it is not the one that was meant any more
        if isinstance(event, _Restart):
            if slot.alive:
                await self._renew(slot, State.RESTARTING, 0)
                return
            slot.doomed = False  # it ended before
            if slot.revival is not None and not slot.revival.under_way:
                self._hasten(slot.revival)
            return
        if slot.node.state not in ENDED:
            return  # a sibling's crash is bringing it back
        if not slot.node.restart.after(crashed=event.crash is not None):
            self._gone(slot)
        elif not slot.count(trio.current_time()):
            await self._over_limit(slot, event.crash)
        elif event.crash is not None and isinstance(only(event.crash), GaveUp):
            await self._renew(slot, State.DEGRADED, self._backoff.after_giving_up(self._world.random))
        else:
            crashes = slot.in_window(trio.current_time())
            await self._renew(slot, State.RESTARTING, self._backoff.after(crashes, self._world.random))

    async def _renew(self, slot: Slot, meanwhile: State, delay: float) -> None:
        """Bring back a child, and with it those the strategy binds to it."""
        group = [each for each in self._bound_to(slot) if not each.gone]
        cut = await self._halt(group)
        for each in group:
            if each is not slot and (each.node.restart is Restart.TEMPORARY or self._is_done(each, cut)):
                self._gone(each)
            else:
                each.node.state = meanwhile if each is slot else State.RESTARTING
        log.info("actor_restarting", path=slot.node.path, with_siblings=len(group) - 1, in_s=round(delay, 3))
        self._bring_back([each for each in group if not each.gone], delay)

    def _is_done(self, slot: Slot, cut: list[Slot]) -> bool:
        """Whether it ended by itself and in order, of which its minder has not heard yet, and is not to come back."""
        ended = slot not in cut and slot.node.state is State.STOPPED
        return ended and not slot.node.restart.after(crashed=False)

    def _hasten(self, revival: Revival) -> None:
        waiting = revival.waiting()
        revival.scope.cancel()
        self._bring_back(waiting, 0)

    def _bound_to(self, slot: Slot) -> list[Slot]:
        if self._strategy not in TOGETHER:
            return [slot]
        slots = list(self.slots())
        return slots if self._strategy is Strategy.ONE_FOR_ALL else slots[slots.index(slot) :]

    async def _over_limit(self, slot: Slot, crash: Exception | None) -> None:
        log.error("supervisor_gave_up", path=self.path, child=slot.node.path)
        await self._halt(list(self.slots()))
        raise GaveUp(slot.node.path) from crash

    def _gone(self, slot: Slot) -> None:
        slot.gone = True
        self._call_off(slot)
        slot.node.close()
        slot.node.state = State.STOPPED

    # --- stopping them

    async def _halt(self, slots: list[Slot]) -> list[Slot]:
        """Cut them short, last started first: what they have in hand gets ActorCrashed. Those that were alive."""
        cut = []
        for slot in reversed(slots):
            self._call_off(slot)
            if slot.alive:
                cut.append(slot)
                slot.halting = True
                await self._cut(slot)
                slot.halting = False
        return cut

    async def _stop(self, deadline: float) -> None:
        """Stop all for good, last started first. One that hangs gets half of what time is left, no more."""
        self.state = State.STOPPING
        left = list(self.slots())
        for slot in left:
            self._call_off(slot)
        while left:
            slot = left.pop()
            now = trio.current_time()
            await self._retire(slot, now + max(0.0, deadline - now) / (2 if left else 1))

    async def _retire(self, slot: Slot, deadline: float) -> None:
        if slot.alive:
            slot.halting = True
            slot.node.retire(deadline)
            with trio.move_on_at(deadline):
                await self._world.changes.until(lambda: not slot.alive)
            if slot.alive:
                log.warning("actor_cut_short", path=slot.node.path)
                await self._cut(slot)
        slot.node.close()

    async def _cut(self, slot: Slot) -> None:
        if slot.scope is not None:
            slot.scope.cancel()
        await self._world.changes.until(lambda: not slot.alive)

    def _call_off(self, slot: Slot) -> None:
        revival, slot.revival = slot.revival, None
        if revival is not None and not revival.waiting():
            revival.scope.cancel()

    # --- what an operator does

    def find(self, path: str) -> tuple[Supervisor, Slot] | None:
        """Who minds the node of this path, and where."""
        slot = self._towards(path)
        if slot is None or slot.node.path == path:
            return None if slot is None else (self, slot)
        return slot.node.find(path) if isinstance(slot.node, Supervisor) else None

    def restart_now(self, path: str) -> None:
        """Cut the node of this path and start it anew by the strategy, without backoff; it counts against no limit.
        Where a supervisor above it is backing off, that one is started, and it with the others there.

        Only the incarnation there is now: if it ends before its supervisor gets to it, that is restart enough.
        """
        slot = self._towards(path)
        if slot is None:
            return
        if slot.alive and slot.node.path != path and isinstance(slot.node, Supervisor):
            slot.node.restart_now(path)
        else:
            slot.doomed = slot.alive
            self._send.send_nowait(_Restart(slot, slot.node.incarnation))

    def _towards(self, path: str) -> Slot | None:
        """The child that has this path, or under which it would be."""
        for slot in self.slots():
            if slot.node.path == path or (isinstance(slot.node, Supervisor) and path.startswith(f"{slot.node.path}/")):
                return slot
        return None

    async def wait(self, path: str, state: State, *, incarnation: int = 1) -> None:
        """Until the node of this path is in this state, in this incarnation or a later one."""

        def holds() -> bool:
            found = self.find(path)
            node = self if path == self.path else found[1].node if found else None
            return node is not None and node.state is state and node.incarnation >= incarnation

        await self._world.changes.until(holds)


def one_for_one(
    name: str, *children: Node, intensity: Intensity = DEFAULT_INTENSITY, backoff: Backoff = DEFAULT_BACKOFF
) -> Supervisor:
    """A supervisor that restarts the child that crashed."""
    return Supervisor(name, Strategy.ONE_FOR_ONE, children, intensity, backoff)


def rest_for_one(
    name: str, *children: Node, intensity: Intensity = DEFAULT_INTENSITY, backoff: Backoff = DEFAULT_BACKOFF
) -> Supervisor:
    """A supervisor that restarts the child that crashed and those started after it, which depend on it."""
    return Supervisor(name, Strategy.REST_FOR_ONE, children, intensity, backoff)


def one_for_all(
    name: str, *children: Node, intensity: Intensity = DEFAULT_INTENSITY, backoff: Backoff = DEFAULT_BACKOFF
) -> Supervisor:
    """A supervisor that restarts all its children together."""
    return Supervisor(name, Strategy.ONE_FOR_ALL, children, intensity, backoff)
