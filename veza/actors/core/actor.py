"""What the author of an actor writes: how it starts, what it does with each message, how it stops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import trio

from veza.actors.core.mailbox import Mailbox
from veza.actors.core.ref import Ref

if TYPE_CHECKING:
    from veza.actors.core.loop import Cell

M = TypeVar("M")
S = TypeVar("S")


class Actor(ABC, Generic[M, S]):
    """One incarnation of an actor of messages M that publishes snapshots S.

    A factory makes a fresh one at every start, so nothing in its attributes survives a crash. Store, gateways,
    clocks and randomness come in through `__init__`.
    """

    mailbox: ClassVar[Mailbox]
    cell: Cell[M, S]  # what outlives the incarnations; set before `start`

    nursery: trio.Nursery
    """For work longer than a message. It ends with the incarnation; a crash in it crashes the actor."""

    async def start(self) -> None:
        """Load the truth, publish, start tasks. Must be done within START_WITHIN_S. May raise: a crash."""

    @abstractmethod
    async def handle(self, message: M) -> object:
        """Handle one message: return the reply (or `Later`), an expected refusal included. Raising crashes.

        The answer to a tell is dropped.
        """

    async def stop(self) -> None:
        """Leave in order: at shutdown, or finished. Not called after a crash or when cut short by a restart:
        what must happen even then belongs in a `finally`.
        """

    @property
    def ref(self) -> Ref[M, S]:
        """Its own Ref, for its tasks to report back with `self.ref.tell(...)`."""
        return self.cell.ref

    @property
    def snapshot(self) -> S:
        """What it last published, by this incarnation or one before. Raises LookupError if nothing was."""
        if self.cell.snapshot is None:
            raise LookupError(f"{self.cell.path} has published nothing yet")
        return self.cell.snapshot

    def publish(self, snapshot: S) -> None:
        """Let every reader of `Ref.snapshot` see this (a frozen value) from now on."""
        self.cell.snapshot = snapshot

    @property
    def paused(self) -> bool:
        """Paused or draining: its own tasks should begin nothing new."""
        return self.cell.paused

    def pause(self, because: str) -> None:
        """Serve nothing more after the message in hand, until an operator resumes; restarts don't lift it."""
        self.cell.pause(because)

    async def unpaused(self) -> None:
        """Wait until it is not paused; returns at once if it is not. For the loops in its nursery."""
        await self.cell.unpaused()

    def finish(self) -> None:
        """End in order after the message in hand: a transient or temporary actor is then gone for good."""
        self.cell.finish()
