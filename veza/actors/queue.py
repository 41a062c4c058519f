"""What works a queue of rows: claims those that are due, asks a provider about each side by side, records the answers.

The rows are the queue; a ring only says that it is worth looking now. What is in hand when the process dies is found
again once its claim has lapsed; what is in hand when it stops, or crashes over another row, is given back at once.
Payouts, refunds and reversals are such queues: each says in its own words what a claim, an outcome and a decision are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar, Final, Generic, Protocol, TypeVar

import structlog
import trio

from veza.actors.core import Actor, Coalesce, Mailbox, Ref, Tell
from veza.actors.core.changes import Changes
from veza.domain.payments import KeyRefused
from veza.store.errors import StoreError

log = structlog.get_logger()

AT_ONCE: Final = 16  # calls side by side: at 250 ms each 64 a second, a tenth of what one process could send
IN_HAND: Final = 3  # times AT_ONCE, at most: being called, waiting for their turn, being recorded
POLL_SECONDS: Final = 10.0  # finds what another process made due, and what a lost ring was for
PROBE_SECONDS: Final = 300.0  # a refused key is renewed by a person: no need to ask more often than this
BREATH_SECONDS: Final = 0.2  # between two looks at rows that are due but in someone else's hands
RECORD_SECONDS: Final = 10.0  # the longest that recording may take; a lease is longer than a call and this
GIVE_BACK_SECONDS: Final = 2.0  # the same when leaving: a row that isn't given back is found again, only later
STOP_SECONDS: Final = 3.0  # for calls that are out to come back; half of what all actors have together


@dataclass(frozen=True)
class Leases:
    """How long a claim lasts and how much of that a call may need, in seconds."""

    claim: float = 300.0
    provider_timeout: float = 20.0

    @property
    def needed(self) -> float:
        """What must be left of a claim when its call goes out: its answer is then recorded while it is still ours."""
        return self.provider_timeout + RECORD_SECONDS


@dataclass(frozen=True)
class Progress:
    """What this incarnation is at and has done. ``stopped_because``: no row is claimed until it is lifted."""

    in_hand: int = 0
    waiting: int = 0
    calling: int = 0
    done: int = 0
    retried: int = 0
    given_back: int = 0
    held: int = 0
    given_up: int = 0
    stopped_because: str | None = None


@dataclass(frozen=True, slots=True)
class Ring(Tell):
    """Something may be due."""


@dataclass(frozen=True)
class Silent:
    """An outcome that says nothing about our key: no answer came, or none was asked for."""


@dataclass(frozen=True)
class Answered:
    """An outcome that is about the row itself: our key is good."""


Heard = Silent | KeyRefused | Answered


class Claimed(Protocol):
    """A row in hand. ``claimed_at`` is the database's time, from which everything after is reckoned."""

    @property
    def claimed_at(self) -> datetime: ...


M = TypeVar("M")
C = TypeVar("C", bound=Claimed)  # a claim
C_co = TypeVar("C_co", bound=Claimed, covariant=True)
O = TypeVar("O")  # noqa: E741 - an outcome: what came of asking
D = TypeVar("D")  # a decision: what follows from the outcome
R = TypeVar("R")  # the row as recorded


@dataclass(frozen=True)
class Held(Generic[C]):
    """A claim, and when it was asked for by the monotonic clock, from which its lease is reckoned.

    ``probe``: it is tried to find out whether the provider takes our key again.
    """

    claim: C
    since: float
    probe: bool = False


@dataclass(frozen=True)
class Round:
    """What a round claimed, of how many it had room for, and in how many seconds the next is due (null: unknown)."""

    claimed: int
    room: int
    next_due_in: float | None = None


class QueueWorker(Actor[M, Progress], Generic[M, C, O, D, R]):
    """One queue's worker. What is abstract here is the queue's own; every store method of it raises StoreError."""

    queue: ClassVar[str]
    """The queue's name, as it stands in the log."""

    def __init__(self, leases: Leases, at_once: int = AT_ONCE) -> None:
        self._leases = leases
        self._slots = trio.CapacityLimiter(at_once)
        self._at_once = at_once
        self._view = Progress()
        self._bell = trio.Event()
        self._more = True
        self._changes = Changes()
        self._leaving = False
        self._probe_at = 0.0
        self._heal_at = 0.0

    # -- what a queue says for itself -------------------------------------------------------------------------------

    @abstractmethod
    async def claim(self, limit: int, lease: timedelta) -> Sequence[C]:
        """Take at most ``limit`` rows in hand. Raises StoreError."""

    @abstractmethod
    async def next_due_in(self) -> float | None:
        """Seconds until something may be claimed; null when nothing waits for a moment. Raises StoreError."""

    async def heal(self) -> None:
        """Make due what slipped through, every POLL_SECONDS. Raises StoreError."""

    @abstractmethod
    def question(self, claim: C) -> Callable[[C], Awaitable[O]] | O:
        """What to ask the provider about a row; or what came of it already, when nothing is to be asked."""

    @property
    @abstractmethod
    def interrupted(self) -> O:
        """The outcome of an attempt that was cut short on our side, before or in its call."""

    @abstractmethod
    def decide(self, claim: C, outcome: O, now: datetime) -> D:
        """What follows from an outcome."""

    @abstractmethod
    async def record(self, claim: C, outcome: O, decision: D) -> R | None:
        """Write it down, once; null when the claim is no longer ours. Raises StoreError."""

    @abstractmethod
    def hear(self, outcome: O) -> Heard:
        """What an outcome says about our key."""

    @abstractmethod
    def tell(self, recorded: R, decision: D) -> None:
        """Count it and log it, what a person has to act on as loudly as that; ring where it may be due again."""

    # -- the actor --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._show()
        self.nursery.start_soon(self._work)

    async def stop(self) -> None:
        """Claim nothing more and let what is out come back; what doesn't is given back when its task is cancelled."""
        self._leaving = True
        with trio.move_on_after(STOP_SECONDS):
            await self._changes.until(lambda: self._view.in_hand == 0)

    def ring(self) -> None:
        """Have a round begin now."""
        self._bell.set()

    # -- rounds -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._leaving:
            await self.unpaused()
            self._bell = trio.Event()  # before looking: what rings while a round looks is for the next
            try:
                wait = _until_next(await self.run_once())
            except StoreError as away:
                log.warning("queue_store_away", queue=self.queue, error=str(away))
                wait = 1.0  # a restart of the database takes about that
            with trio.move_on_after(wait):
                await self._bell.wait()

    async def run_once(self) -> Round:
        """Claim what there is room for and start on it. Raises StoreError."""
        if trio.current_time() >= self._heal_at:
            self._heal_at = trio.current_time() + POLL_SECONDS
            await self.heal()
        room = self._room()
        if not room:
            self._more = True
            return Round(0, 0)
        since = trio.current_time()
        claims = await self.claim(room, timedelta(seconds=self._leases.claim))
        for claim in claims:
            self.count(in_hand=1, waiting=1)
            probe = self._view.stopped_because is not None
            self.nursery.start_soon(self._in_turn, Held(claim, since, probe))
        self._more = len(claims) == room
        if self._more:
            return Round(len(claims), room, 0.0)
        return Round(len(claims), room, await self.next_due_in())

    def _room(self) -> int:
        """How many to claim: a batch for when the present calls are back, no sooner than the last batch is begun.

        Batches keep the claims' share of the statements small; being ahead by one keeps the calls from waiting for it.
        """
        if self._leaving or self._view.waiting or self._view.in_hand >= IN_HAND * self._at_once:
            return 0
        if self._view.stopped_because is None:
            return self._at_once
        if trio.current_time() < self._probe_at or self._view.in_hand:
            return 0
        self._probe_at = trio.current_time() + PROBE_SECONDS
        return 1

    def _look_for_more(self) -> None:
        """Room was made; worth a statement only if the last round left something for want of it."""
        if self._more:
            self._bell.set()

    # -- attempts ---------------------------------------------------------------------------------------------------

    async def _in_turn(self, held: Held[C]) -> None:
        """One row of the worker's: wait for a slot, call, and record outside of it."""
        try:
            await self.attempt(held, self._take_turn)
        finally:
            self.count(in_hand=-1)
            self._look_for_more()

    async def _take_turn(self, held: Held[C]) -> O:
        async with self._slots:
            self.count(waiting=-1)
            if not self._view.waiting:
                self._look_for_more()  # the last of its batch has begun: room for the next
            if self._leaving or self.paused or (self._view.stopped_because and not held.probe):
                return self.interrupted
            return await self.step(held)

    async def attempt(self, held: Held[C], step: Callable[[Held[C]], Awaitable[O]]) -> R | None:
        """Take the step and record what came of it; null when it could not be recorded, or was by someone else."""
        try:
            outcome = await step(held)
        except Exception:
            raise  # a bug of ours: the row counts as tried when its claim has lapsed, so it can't crash us for ever
        except BaseException:
            # Cancelled, by a stop or by a crash over another row, which shall not cost this one a try.
            await self._record(held, self.interrupted, GIVE_BACK_SECONDS)
            raise
        return await self._record(held, outcome, RECORD_SECONDS)

    async def step(self, held: Held[C]) -> O:
        """Ask what there is to ask, if enough of the claim is left to record the answer under it."""
        question = self.question(held.claim)
        if not callable(question):
            return question
        if held.since + self._leases.claim - trio.current_time() <= self._leases.needed:
            return self.interrupted  # the process was paused: someone else may have it by the time we are answered
        self.count(calling=1)
        try:
            return await question(held.claim)
        finally:
            self.count(calling=-1)

    async def _record(self, held: Held[C], outcome: O, seconds: float) -> R | None:
        """Decide and write it down, whatever is cancelled around. What can't be written is found again by its claim."""
        now = held.claim.claimed_at + timedelta(seconds=trio.current_time() - held.since)
        decision = self.decide(held.claim, outcome, now)
        self._heed(self.hear(outcome))
        with trio.move_on_after(seconds, shield=True):
            recorded = await self._write(held.claim, outcome, decision)
            if recorded is not None:
                self.tell(recorded, decision)
            return recorded
        return None

    async def _write(self, claim: C, outcome: O, decision: D) -> R | None:
        while True:
            try:
                return await self.record(claim, outcome, decision)
            except StoreError as away:  # writing it twice is writing it once: the claim stands only the first time
                log.warning("attempt_not_recorded_yet", queue=self.queue, error=str(away))
                await trio.sleep(1.0)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def _heed(self, heard: Heard) -> None:
        """A refused key stops the claiming; any answer that is about a row starts it again."""
        match heard:
            case KeyRefused(why):
                if self._view.stopped_because is None:
                    log.error("queue_stopped", queue=self.queue, reason="the provider refuses our key", message=why)
                    self._probe_at = trio.current_time() + PROBE_SECONDS
                self._view = replace(self._view, stopped_because=f"the provider refuses our key: {why}")
            case Answered() if self._view.stopped_because is not None:
                log.info("queue_resumed", queue=self.queue)
                self._view = replace(self._view, stopped_because=None)
        self._show()

    def count(self, **more: int) -> None:
        """Add to what is shown."""
        self._view = replace(self._view, **{name: getattr(self._view, name) + by for name, by in more.items()})
        self._show()

    def _show(self) -> None:
        self.publish(self._view)
        self._changes.notify()


class Rows(Protocol[C_co]):
    """A queue's rows, as far as every queue needs them. Each method raises StoreError."""

    async def claim(self, limit: int, lease: timedelta) -> Sequence[C_co]: ...
    async def next_due_in(self) -> float | None: ...


class RungWorker(QueueWorker[Ring, C, O, D, R], Generic[C, O, D, R]):
    """The worker of a queue that nothing but its bell is ever told."""

    mailbox = Mailbox(1, full=Coalesce, why="rings say the same, and fold into one")

    def __init__(self, rows: Rows[C], leases: Leases) -> None:
        super().__init__(leases)
        self._rows = rows

    async def handle(self, message: Ring) -> object:
        self.ring()
        return None

    async def claim(self, limit: int, lease: timedelta) -> Sequence[C]:
        return await self._rows.claim(limit, lease)

    async def next_due_in(self) -> float | None:
        return await self._rows.next_due_in()


BellRef = Ref[Ring, Progress]


def ring(ref: BellRef) -> None:
    """Have a queue's worker look at once for what is due."""
    ref.tell(Ring())


def _until_next(round_: Round) -> float:
    """Seconds to wait after a round, unless it rings before."""
    if round_.room and round_.claimed == round_.room:
        return 0.0
    if round_.next_due_in is None:
        return POLL_SECONDS
    return min(max(round_.next_due_in, BREATH_SECONDS), POLL_SECONDS)
