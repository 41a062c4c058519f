"""What may be sent to an actor: `Ask[R]`, answered with an R, and `Tell`, answered with nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, cast

R = TypeVar("R")
M_co = TypeVar("M_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


class Asked(Protocol[M_co, R_co]):
    """A message seen from both its sides: what it is (M) and what answers it (R).

    `Ref[M].ask` takes an `Asked[M, R]` and returns the R: so mypy knows the reply's type *and* refuses a
    message that is not of the actor's M.
    """

    @property
    def itself(self) -> M_co: ...

    def reply_from(self, answer: object) -> R_co: ...


@dataclass(frozen=True, slots=True)
class Ask(Generic[R]):
    """Base of the messages that are answered. Subclasses are frozen dataclasses with imperative names."""

    @property
    def itself(self) -> Self:
        return self

    def reply_from(self, answer: object) -> R:
        """Where an actor's answer, untyped on its way through the mailbox, takes its type again."""
        return cast("R", answer)


@dataclass(frozen=True, slots=True)
class Tell:
    """Base of the messages that are not answered: doorbells, and reports from an actor's own tasks."""


class Later:
    """Returned by a handler instead of a reply: `async_fn(*args)` will give it, in the actor's own nursery.

    The mailbox goes on being served meanwhile. If the function raises, the asker gets ActorCrashed and the
    actor crashes.
    """

    __slots__ = ("args", "async_fn")

    def __init__(self, async_fn: Callable[..., Awaitable[object]], *args: Any) -> None:
        self.async_fn = async_fn
        self.args = args
