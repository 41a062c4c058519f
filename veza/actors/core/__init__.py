"""The actor runtime: it knows no noun of Veza's and no other room. Guarantees: docs/runtime-semantics.md."""

from veza.actors.core.actor import Actor
from veza.actors.core.errors import (
    ActorCrashed,
    AskFailed,
    AskFromActor,
    AskWithoutDeadline,
    DeadlineExceeded,
    Misuse,
    Overloaded,
    Stopped,
)
from veza.actors.core.mailbox import Coalesce, Mailbox, Refuse, Wait
from veza.actors.core.messages import Ask, Later, Tell
from veza.actors.core.pulse import Pulse
from veza.actors.core.ref import Ref
from veza.actors.core.views import ActorView, NodeView, State, SupervisorView

__all__ = [
    "Actor",
    "ActorCrashed",
    "ActorView",
    "Ask",
    "AskFailed",
    "AskFromActor",
    "AskWithoutDeadline",
    "Coalesce",
    "DeadlineExceeded",
    "Later",
    "Mailbox",
    "Misuse",
    "NodeView",
    "Overloaded",
    "Pulse",
    "Ref",
    "Refuse",
    "State",
    "Stopped",
    "SupervisorView",
    "Tell",
    "Wait",
]  # fmt: skip
