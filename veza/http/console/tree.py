"""The supervision tree as the console shows it: a line an actor, and one actor with all that can be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from veza.actors.core import ActorView, State, SupervisorView
from veza.actors.core.views import CrashView, Percentiles
from veza.actors.lookout import Point
from veza.http.console.regions import Content, Look, Row
from veza.http.parts import Parts, parts
from veza.http.routes.actors import CHILDREN


@dataclass(frozen=True)
class ActorLine:
    """A row of the tree. What moves without anything happening is left out or rounded, or each row would be news."""

    path: str
    name: str
    level: int
    kind: str
    state: State
    incarnation: int
    restarts: int
    in_window: int
    limit: int
    crash: CrashView | None
    supervisor: bool
    hidden: int = 0
    depth: int = 0
    capacity: int = 0
    waited_s: int = 0
    """How long the oldest message has waited."""
    doing: str | None = None
    """What is in hand, if it has been for a second or more."""
    doing_s: int = 0
    rate: float = 0.0
    p99_ms: float | None = None
    points: Sequence[Point] = ()

    @property
    def rates(self) -> list[float | None]:
        return [each.rate for each in self.points]

    @property
    def p99s(self) -> list[float | None]:
        return [each.p99 for each in self.points]


def actors(_args: Mapping[str, str]) -> Look:
    have = parts()

    async def look() -> Content:
        nodes = have.tree(most=CHILDREN).walk()
        return {"actors": [Row(node.path, _line(node, have)) for node in nodes]}

    return look


def _line(node: ActorView | SupervisorView, have: Parts) -> ActorLine:
    level, restarts = node.path.count("/"), node.restarts
    facts: dict[str, Any] = {
        "path": node.path,
        "name": node.path.rpartition("/")[2],
        "level": min(level, 3),
        "kind": node.kind,
        "state": node.state,
        "incarnation": node.incarnation,
        "restarts": restarts.total,
        "in_window": restarts.in_window,
        "limit": restarts.limit,
        "crash": node.last_crash,
    }
    if isinstance(node, SupervisorView):
        return ActorLine(**facts, supervisor=True, hidden=node.hidden)
    busy = node.current if node.current is not None and node.current.running_ms >= 1000 else None
    return ActorLine(
        **facts,
        supervisor=False,
        depth=node.mailbox.depth,
        capacity=node.mailbox.capacity,
        waited_s=int(node.mailbox.oldest_age_ms / 1000),
        doing=busy.message_type if busy else None,
        doing_s=int(busy.running_ms / 1000) if busy else 0,
        rate=figure(node.rate_1m),
        p99_ms=_p99(node.handle_ms),
        points=have.trends.of(node.path),
    )


def figure(rate: float) -> float:
    """A rate as coarse as what is worth knowing of it: it is of the last minute, and moves a little at every look."""
    return float(f"{rate:.1g}" if rate < 1 else f"{rate:.2g}")


@dataclass(frozen=True)
class ActorFacts:
    """What can be said of one actor, or one supervisor (whose mailbox is null)."""

    line: ActorLine
    uptime_min: int
    high_water: int | None = None
    refused: int = 0
    expired: int = 0
    wait_p99_ms: float | None = None
    paused_because: str | None = None


def actor(args: Mapping[str, str]) -> Look:
    have, path = parts(), args.get("path", "")

    async def look() -> Content:
        node = have.control.see(path, most=CHILDREN)
        facts = _facts(node, have)
        crash = [] if node.last_crash is None else [Row("crash", node.last_crash)]
        if isinstance(node, SupervisorView):
            minds, acting, shown, trend = _minds(node, have), None, [], []
        else:
            minds, acting = [], (path, node.incarnation, node.state)
            shown, trend = [Row("snapshot", _written(node.snapshot))], [Row("trend", facts.line)]
        return {
            "facts": [Row("facts", facts)],
            "trend": trend,
            "actors": minds,
            "acting": [Row("acting", acting)],
            "crash": crash,
            "snapshot": shown,
        }

    return look


def _minds(supervisor: SupervisorView, have: Parts) -> list[Row]:
    """What is below it, as in the whole tree."""
    _, *below = supervisor.walk()
    return [Row(node.path, _line(node, have)) for node in below]


def _facts(node: ActorView | SupervisorView, have: Parts) -> ActorFacts:
    line, minutes = _line(node, have), int(node.uptime_s / 60)
    if isinstance(node, SupervisorView):
        return ActorFacts(line, minutes)
    return ActorFacts(
        line,
        minutes,
        node.mailbox.high_water,
        node.mailbox.refused,
        node.mailbox.expired,
        _p99(node.wait_ms),
        node.paused_because,
    )


def _p99(times: Percentiles | None) -> float | None:
    return None if times is None else times.p99


def _written(snapshot: object) -> str:
    return to_json(snapshot, indent=2, serialize_unknown=True).decode()[:20_000]
