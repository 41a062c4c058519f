"""The bounded mailbox: a trio memory channel, and beside it the ages a channel does not know."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Final, Generic, TypeVar

import trio

from veza.actors.core.envelope import NOBODY, Envelope
from veza.actors.core.errors import DeadlineExceeded, Overloaded, Stopped

M = TypeVar("M")


class Full(Enum):
    """What a full mailbox does. Three words only."""

    REFUSE = "refuse"
    COALESCE = "coalesce"
    WAIT = "wait"


Refuse: Final = Full.REFUSE
"""The asker gets Overloaded; a tell is counted and dropped."""

Coalesce: Final = Full.COALESCE
"""For doorbells: a tell equal to one that waits folds into it. Anything else, when full, as Refuse."""

Wait: Final = Full.WAIT
"""The asker waits for room until its deadline. A tell can't wait: when full, as Refuse."""


@dataclass(frozen=True)
class Mailbox:
    """An actor's declaration: how many messages may wait, what happens to the next, and why so."""

    capacity: int
    full: Full
    why: str

    def __init__(self, capacity: int, *, full: Full, why: str) -> None:
        if capacity < 1:
            raise ValueError("a mailbox holds at least one message")
        object.__setattr__(self, "capacity", capacity)
        object.__setattr__(self, "full", full)
        object.__setattr__(self, "why", why)


WAKE: Final[Envelope[Any]] = Envelope(None, inf, 0.0, NOBODY)


class Inbox(Generic[M]):
    """The mailbox at work. It belongs to the Ref and outlives every incarnation of the actor.

    The channel bounds it and wakes its actor. Beside the channel, and in its order, the envelopes are chained
    (a deque would weigh another 1.3 KB an actor): those of askers still waiting for room come last.
    """

    __slots__ = (
        "_first",
        "_in",
        "_last",
        "_out",
        "closed",
        "declared",
        "depth",
        "expired",
        "high_water",
        "path",
        "refused",
        "shut",
    )

    def __init__(self, declared: Mailbox) -> None:
        self.declared = declared
        self.path = ""
        self._in, self._out = trio.open_memory_channel[Envelope[M]](declared.capacity)
        self._first: Envelope[M] | None = None
        self._last: Envelope[M] | None = None
        self.depth = 0
        self.high_water = 0
        self.refused = 0
        self.expired = 0
        self.shut = False  # draining: nothing new is taken, what waits is served
        self.closed = False

    def oldest_age(self, now: float) -> float:
        """Seconds the oldest message has waited; 0 if none does."""
        return 0.0 if self._first is None else now - self._first.enqueued

    # --- in

    def offer(self, envelope: Envelope[M]) -> bool:
        """Take the envelope if there is room. Raises Stopped."""
        if self.closed:
            raise Stopped(self.path)
        if self.shut:
            return False
        try:
            self._in.send_nowait(envelope)
        except trio.WouldBlock:
            return False
        self._chain(envelope)
        return True

    def tell(self, envelope: Envelope[M]) -> bool:
        """Take it, fold it into an equal one, or count and drop it (False)."""
        if self.declared.full is Coalesce and self._holds(envelope.message):
            return True
        if not self.closed and self.offer(envelope):
            return True
        self.refused += 1
        return False

    async def admit(self, envelope: Envelope[M]) -> None:
        """Take an ask the way the mailbox's word says. Raises Overloaded, Stopped."""
        if self.declared.full is not Wait or self.shut:
            self.refused += 1
            raise Overloaded(self.path)
        # Order holds: the channel queues its senders first come, first served, and so does the chain.
        self._chain(envelope)
        try:
            await self._in.send(envelope)
        except trio.BrokenResourceError:
            raise Stopped(self.path) from None
        except trio.Cancelled:
            self._unchain(envelope)
            self.expired += envelope.deadline <= trio.current_time()  # else it hung up
            raise

    # --- out

    def take(self, now: float) -> Envelope[M] | None:
        """The next envelope still worth handling, if one waits; the expired are answered and passed over."""
        while self._first is not None:
            try:
                envelope = self._out.receive_nowait()
            except trio.WouldBlock:
                return None
            if self._unlapsed(envelope, now):
                return envelope
        return None

    def coming(self) -> Awaitable[Envelope[M]]:
        """Wait for the next envelope, which is then to be shown to `came`."""
        return self._out.receive()

    def came(self, envelope: Envelope[M]) -> Envelope[M] | None:
        """What `coming` brought; None if it is answered already, or was but a `wake`."""
        if envelope is WAKE or self.closed:  # closed between the handing over and now: it got its Stopped then
            return None
        return envelope if self._unlapsed(envelope, trio.current_time()) else None

    def wake(self) -> None:
        """End a wait, if one is under way. (A cancel scope around each wait would weigh a kilobyte an actor.)"""
        if not self.closed and self._out.statistics().tasks_waiting_receive:
            self._in.send_nowait(WAKE)  # handed straight to the one who waits, never queued

    def close(self) -> None:
        """The final stop: whatever waits, and whoever asks from now on, gets Stopped."""
        if self.closed:
            return
        self.closed = True
        each = self._first
        while each is not None:
            each.reply.fail(Stopped(self.path))
            each = each.next
        self._first = self._last = None
        self.depth = 0
        self._out.close()  # under the senders still waiting for room
        self._in.close()

    def _unlapsed(self, envelope: Envelope[M], now: float) -> bool:
        while self._first is not envelope:  # it waited for room, was cancelled, and has not run since to say so
            self._unchain_first()
        self._unchain_first()
        if envelope.deadline > now:
            return True
        self.expired += 1
        envelope.reply.fail(DeadlineExceeded(self.path))
        return False

    # --- the chain

    def _chain(self, envelope: Envelope[M]) -> None:
        if self._last is None:
            self._first = envelope
        else:
            self._last.next = envelope
        self._last = envelope
        self.depth += 1
        if self.depth > self.high_water:
            self.high_water = self.depth

    def _unchain_first(self) -> None:
        first = self._first
        if first is None:
            raise RuntimeError(f"the mailbox of {self.path} lost count")  # a bug of the runtime's own
        self._first, first.next = first.next, None  # whoever keeps this one keeps not all that followed
        if self._first is None:
            self._last = None
        self.depth -= 1

    def _unchain(self, envelope: Envelope[M]) -> None:
        """Take out one that waited for room: rare, so it may look for its place."""
        before = None
        each = self._first
        while each is not None and each is not envelope:
            before, each = each, each.next
        if each is None:
            return  # passed over, or the mailbox was closed meanwhile
        if before is None:
            self._first = envelope.next
        else:
            before.next = envelope.next
        if self._last is envelope:
            self._last = before
        self.depth -= 1

    def _holds(self, message: M) -> bool:
        # A doorbell's mailbox is a handful long: looking through it is cheaper than hashing each message.
        each = self._first
        while each is not None:
            if each.message == message and each.reply is NOBODY:
                return True
            each = each.next
        return False
