"""A message on its way, and the cell its asker waits on."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

from veza.actors.core.errors import ActorCrashed, AskFailed

M = TypeVar("M")


class Reply:
    """Where one asker waits for its one answer.

    Held in `with` by whoever owes the answer: leaving the block without one, by whatever way, answers
    ActorCrashed. That is the whole proof that every ask is answered.
    """

    __slots__ = ("_asker", "_error", "_moved", "_value", "answered", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.answered = False
        self._moved = False
        self._asker: trio.lowlevel.Task | None = None
        self._value: object = None
        self._error: AskFailed | None = None

    def answer(self, value: object) -> None:
        self._value = value
        self._settle()

    def fail(self, error: AskFailed) -> None:
        self._error = error
        self._settle()

    def move(self) -> None:
        """The present holder's `with` no longer owes the answer; another task's will."""
        self._moved = True

    def _settle(self) -> None:
        if self.answered:
            raise RuntimeError("an ask was answered twice")  # a bug of the runtime's own
        self.answered = True
        if self._asker is not None:  # else: not waiting yet, or gone; an asker that is gone is ignored
            trio.lowlevel.reschedule(self._asker)
            self._asker = None

    async def wait(self) -> object:
        """The answer, or the AskFailed that stands for it. One task waits, once."""
        if not self.answered:
            self._asker = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._forget_asker)
        if self._error is not None:
            raise self._error
        return self._value

    def _forget_asker(self, _: Any) -> trio.lowlevel.Abort:
        self._asker = None
        return trio.lowlevel.Abort.SUCCEEDED

    def __enter__(self) -> Self:
        self._moved = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.answered and not self._moved:
            self.fail(ActorCrashed(self.path))


class Nobody(Reply):
    """A tell's reply: nobody waits, every answer is dropped."""

    __slots__ = ()

    def answer(self, value: object) -> None:
        pass

    def fail(self, error: AskFailed) -> None:
        pass


NOBODY = Nobody("")


class Envelope(Generic[M]):
    """A message, until when it is worth handling, since when it waits, and who waits for its reply."""

    __slots__ = ("deadline", "enqueued", "message", "next", "reply")

    def __init__(self, message: M, deadline: float, enqueued: float, reply: Reply) -> None:
        self.message = message
        self.deadline = deadline  # on trio.current_time()'s scale; inf for a tell
        self.enqueued = enqueued
        self.reply = reply
        self.next: Envelope[M] | None = None  # the one behind it in the same mailbox
