"""What an operator sees of the tree: frozen copies, taken without a message and without touching a mailbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class State(Enum):
    """Where an actor or a supervisor is in its life."""

    WAITING = "waiting"  # not started yet: something before it is still starting
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"  # alive, its mailbox kept and not served
    DRAINING = "draining"  # nothing new is taken, what waits is served
    DRAINED = "drained"
    CRASHED = "crashed"  # seen, the supervisor has not acted yet
    RESTARTING = "restarting"  # backing off before the next incarnation
    DEGRADED = "degraded"  # a supervisor that gave up: its subtree is down until the long backoff is over
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class RestartsView:
    """In the window: what counts against the limit. The backoff is None while none is under way."""

    total: int
    in_window: int
    limit: int
    next_backoff_s: float | None


@dataclass(frozen=True)
class MailboxView:
    depth: int
    capacity: int
    high_water: int
    oldest_age_ms: float
    refused: int
    expired: int


@dataclass(frozen=True)
class CurrentView:
    """The message in hand: its type, never its contents."""

    message_type: str
    running_ms: float


@dataclass(frozen=True)
class Percentiles:
    """Upper bounds of their buckets, in milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True)
class CrashView:
    """The last crash, redacted of values: the traceback has places only, no messages and no source lines."""

    at: datetime
    error_type: str
    traceback: tuple[str, ...]  # file:line:function, outermost first
    message_type: str | None  # None: not in a handler (at start, at stop, in a task of its own)


@dataclass(frozen=True)
class ActorView:
    path: str
    kind: str  # the actor's class
    state: State
    incarnation: int
    uptime_s: float
    restarts: RestartsView
    mailbox: MailboxView
    current: CurrentView | None
    rate_1m: float  # messages a second, over the last minute
    handle_ms: Percentiles | None
    wait_ms: Percentiles | None
    last_crash: CrashView | None
    paused_because: str | None
    snapshot: object


@dataclass(frozen=True)
class SupervisorView:
    path: str
    kind: str  # the strategy: one_for_one, rest_for_one, one_for_all, dynamic
    state: State
    incarnation: int
    uptime_s: float
    restarts: RestartsView
    last_crash: CrashView | None
    children: tuple[ActorView | SupervisorView, ...]
    limit: int | None = None  # dynamic: how many children at most
    gave_up: int = 0  # dynamic: how many children were given up so far
    hidden: int = 0  # dynamic: how many of its children are not among these

    def walk(self) -> Iterator[ActorView | SupervisorView]:
        """Itself and everything under it, parents first."""
        yield self
        for child in self.children:
            if isinstance(child, SupervisorView):
                yield from child.walk()
            else:
                yield child


NodeView = ActorView | SupervisorView
