"""An actor's cell: what outlives its incarnations, and the loop that serves its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Generic, TypeVar

import trio

from veza.actors.core.actor import Actor
from veza.actors.core.changes import Changes
from veza.actors.core.crash import view_of
from veza.actors.core.envelope import Envelope
from veza.actors.core.mailbox import Inbox
from veza.actors.core.messages import Later
from veza.actors.core.meter import Meter
from veza.actors.core.ref import INSIDE, Ref
from veza.actors.core.views import ActorView, CrashView, CurrentView, MailboxView, RestartsView, State

M = TypeVar("M")
S = TypeVar("S")

START_WITHIN_S = 10.0  # a start reads a snapshot; longer means its store is down: back off and try again
TURN = 32  # messages served before the others get theirs: a batch of asks costs one round of the scheduler


@dataclass(frozen=True)
class World:
    """What a whole tree shares, passed in so that a seeded simulation can run it."""

    clock: Callable[[], datetime]
    random: Random
    changes: Changes


class Cell(Generic[M, S]):
    """One actor across its incarnations.

    The first incarnation is made here and now, so that its mailbox can be handed out with the Ref.
    """

    __slots__ = (
        "_ending",
        "_factory",
        "_first",
        "_hand",
        "_laters",
        "_meter",
        "_since",
        "_started",
        "_state",
        "_world",
        "culprit",
        "inbox",
        "incarnation",
        "kind",
        "last_crash",
        "name",
        "path",
        "paused_because",
        "ref",
        "snapshot",
    )  # fmt: skip

    def __init__(self, name: str, factory: Callable[[], Actor[M, S]]) -> None:
        self.name = self.path = name
        self._factory = factory
        self._first: Actor[M, S] | None = factory()
        self.kind = type(self._first).__name__
        self.inbox: Inbox[M] = Inbox(self._first.mailbox)
        self.snapshot: S | None = None
        self.ref: Ref[M, S] = Ref(self.inbox, self._read)
        self.incarnation = 0
        self.paused_because: str | None = None
        self.last_crash: CrashView | None = None
        self.culprit: str | None = None  # the type of the message whose handling raised
        self._world: World | None = None
        self._state = State.WAITING
        self._meter = Meter()
        self._ending = False
        self._hand: Envelope[M] | None = None
        self._since = self._started = 0.0  # trio time: of the message in hand, of the incarnation
        self._laters = 0

    def _read(self) -> S | None:
        return self.snapshot

    # --- what its supervisor does with it

    def adopt(self, parent: str, world: World) -> None:
        """Take its place in a tree."""
        self.path = self.inbox.path = f"{parent}/{self.name}"
        self._world = world

    @property
    def state(self) -> State:
        if self._state is State.RUNNING and self.paused_because is not None:
            return State.PAUSED
        if self._state is State.RUNNING and self.inbox.shut:
            return State.DRAINING if self.inbox.depth or self._hand or self._laters else State.DRAINED
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._notify()

    async def run(self) -> None:
        """One incarnation, counted by its supervisor, from start to an end in order. Raises what crashed it."""
        INSIDE.set(self.path)
        self._ending, self.culprit, self._laters = self.inbox.closed, None, 0
        actor, self._first = self._first or self._factory(), None
        actor.cell = self
        try:
            async with trio.open_nursery() as nursery:
                actor.nursery = nursery
                with trio.fail_after(START_WITHIN_S):
                    await actor.start()
                self._started = trio.current_time()
                self.state = State.RUNNING
                await self._serve(actor)
                self.state = State.STOPPING
                await self._until(lambda: self._laters == 0)
                await actor.stop()
                nursery.cancel_scope.cancel()
        finally:
            self._hand = None

    def retire(self, deadline: float) -> None:  # its supervisor minds the deadline
        """The final stop, in order: the message in hand is finished, those that wait get Stopped."""
        self.finish()
        self.close()

    def close(self) -> None:
        """Whatever waits, and whoever comes from now on, gets Stopped."""
        self.inbox.close()

    def crashed(self, crash: Exception) -> CrashView:
        """Remember what crashed it, redacted."""
        self.last_crash = view_of(crash, self._placed().clock(), self.culprit)
        return self.last_crash

    # --- what the actor, or an operator, does with it

    def finish(self) -> None:
        self._ending = True
        self._wake()

    @property
    def paused(self) -> bool:
        return self.paused_because is not None or self.inbox.shut

    def pause(self, because: str) -> None:
        self.paused_because = because
        self._wake()

    def drain(self) -> None:
        self.inbox.shut = True
        self._notify()

    def resume(self) -> None:
        self.paused_because = None
        self.inbox.shut = False
        self._notify()

    async def unpaused(self) -> None:
        await self._until(lambda: not self.paused)

    # --- the loop

    async def _serve(self, actor: Actor[M, S]) -> None:
        served = 0
        now = trio.current_time()
        while not self._ending:
            if self.paused_because is not None:
                await self._until(lambda: self.paused_because is None or self._ending)
                now = trio.current_time()
                continue
            envelope = self.inbox.take(now) if served < TURN else None
            if envelope is not None:
                served += 1
            else:
                served = 0
                if self.inbox.shut:
                    self._notify()  # it may be drained
                # Nothing of the last message is kept while it waits. None: woken, to end or to pause.
                envelope = self.inbox.came(await self.inbox.coming())
                now = trio.current_time()
            if envelope is not None:
                now = await self._handle(actor, envelope, now)

    async def _handle(self, actor: Actor[M, S], envelope: Envelope[M], begun: float) -> float:
        self._since = begun
        self._hand = envelope
        try:
            with envelope.reply as reply:
                answer = await actor.handle(envelope.message)
                if type(answer) is Later:
                    actor.nursery.start_soon(self._later, answer, envelope)
                    self._laters += 1
                    reply.move()
                else:
                    reply.answer(answer)
        except Exception:
            self._blame(envelope)
            raise
        self._hand = None
        now = trio.current_time()
        self._meter.record(now, begun - envelope.enqueued, now - begun)
        return now

    async def _later(self, later: Later, envelope: Envelope[M]) -> None:
        try:
            with envelope.reply as reply:
                reply.answer(await later.async_fn(*later.args))
        except Exception:
            self._blame(envelope)
            raise
        finally:
            self._laters -= 1
            self._notify()

    def _blame(self, envelope: Envelope[M]) -> None:
        self.culprit = self.culprit or type(envelope.message).__name__

    def _wake(self) -> None:
        self.inbox.wake()
        self._notify()

    def _notify(self) -> None:
        if self._world is not None:
            self._world.changes.notify()

    async def _until(self, holds: Callable[[], bool]) -> None:
        await self._placed().changes.until(holds)

    def _placed(self) -> World:
        if self._world is None:
            raise RuntimeError(f"{self.path} is in no tree")
        return self._world

    # --- what an operator sees

    def view(self, restarts: RestartsView, _most: int | None = None) -> ActorView:
        now = trio.current_time()
        hand, inbox = self._hand, self.inbox
        return ActorView(
            path=self.path,
            kind=self.kind,
            state=self.state,
            incarnation=self.incarnation,
            uptime_s=now - self._started if self._state is State.RUNNING else 0.0,
            restarts=restarts,
            mailbox=MailboxView(
                depth=inbox.depth,
                capacity=inbox.declared.capacity,
                high_water=inbox.high_water,
                oldest_age_ms=inbox.oldest_age(now) * 1000,
                refused=inbox.refused,
                expired=inbox.expired,
            ),
            current=None if hand is None else CurrentView(type(hand.message).__name__, (now - self._since) * 1000),
            rate_1m=self._meter.rate(now),
            handle_ms=self._meter.handle_ms(now),
            wait_ms=self._meter.wait_ms(now),
            last_crash=self.last_crash,
            paused_because=self.paused_because,
            snapshot=self.snapshot,
        )
