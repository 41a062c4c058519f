"""How an ask can fail, and how the runtime can be misused."""

from __future__ import annotations


class AskFailed(Exception):  # noqa: N818 - the family's word; each member says what happened
    """An ask that got no reply. Exactly one member of this family answers it."""

    outcome_known = True  # False: the effect may have happened; retry only with an idempotency key

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Overloaded(AskFailed):
    """The mailbox (or a dynamic supervisor) is at its limit; nothing was done."""


class DeadlineExceeded(AskFailed):
    """The asker's deadline passed before the answer came; the outcome is unknown."""

    outcome_known = False


class ActorCrashed(AskFailed):
    """The actor crashed, or was restarted, with this message in hand; the outcome is unknown."""

    outcome_known = False


class Stopped(AskFailed):
    """The actor is gone for good; nothing was done."""


class Misuse(RuntimeError):  # noqa: N818 - as above
    """A mistake of the programmer's, raised at once rather than found under load."""


class AskWithoutDeadline(Misuse):
    """An ask outside every cancel scope with a deadline could wait for ever."""


class AskFromActor(Misuse):
    """An ask from inside an actor: two actors asking each other would wait for ever. Tell instead."""
