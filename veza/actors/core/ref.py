"""The only handle on an actor that others hold: ask it, tell it, read what it published."""

from __future__ import annotations

from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, Generic

import trio
from typing_extensions import TypeVar

from veza.actors.core.envelope import NOBODY, Envelope, Reply
from veza.actors.core.errors import AskFromActor, AskWithoutDeadline, DeadlineExceeded
from veza.actors.core.mailbox import Inbox
from veza.actors.core.messages import Asked

if TYPE_CHECKING:
    from collections.abc import Callable

M_contra = TypeVar("M_contra", contravariant=True)
S_co = TypeVar("S_co", covariant=True, default=object)
R = TypeVar("R")

INSIDE: ContextVar[str | None] = ContextVar("the actor whose task this is", default=None)


class Ref(Generic[M_contra, S_co]):
    """An actor's address: valid before its first start and across every restart.

    `Ref[Messages]`, or `Ref[Messages, Snapshot]` where the published snapshot is read.
    """

    __slots__ = ("_inbox", "_read")

    def __init__(self, inbox: Inbox[M_contra], read: Callable[[], S_co | None]) -> None:
        self._inbox = inbox
        self._read = read

    @property
    def path(self) -> str:
        return self._inbox.path

    @property
    def snapshot(self) -> S_co | None:
        """What the actor last published, read without a message; None before the first time."""
        return self._read()

    def tell(self, message: M_contra) -> bool:
        """Leave a message; never waits. False if it was refused: full, draining or stopped.

        A lost tell must cost latency only, never work: what has to be done is a row first, and this the ring.
        """
        return self._inbox.tell(Envelope(message, inf, trio.current_time(), NOBODY))

    async def ask(self, message: Asked[M_contra, R]) -> R:
        """Send a message and wait for its reply, until the deadline of the cancel scopes around.

        Raises Overloaded, DeadlineExceeded, ActorCrashed, Stopped (each an AskFailed); AskWithoutDeadline
        and AskFromActor where the call itself is a mistake.
        """
        inbox = self._inbox
        if INSIDE.get() is not None:
            raise AskFromActor(f"{INSIDE.get()} asks {inbox.path}")
        deadline = trio.current_effective_deadline()
        if deadline == inf:
            raise AskWithoutDeadline(inbox.path)
        now = trio.current_time()
        reply = Reply(inbox.path)
        try:
            if deadline <= now:  # nothing is begun for an asker that has already left
                await trio.lowlevel.checkpoint()
            envelope = Envelope(message.itself, deadline, now, reply)
            if not inbox.offer(envelope):
                await inbox.admit(envelope)
            return message.reply_from(await reply.wait())
        except trio.Cancelled as cancelled:
            # Its own deadline is an answer; anyone else's cancel is none of ours.
            if cancelled.source == "deadline":
                raise DeadlineExceeded(inbox.path) from None
            raise
