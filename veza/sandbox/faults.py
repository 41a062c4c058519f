"""Scripted faults: what goes wrong, for which request, how often.

A script is a list; the first entry that matches a request and is not used up is taken, and only one for each
request. It lives in memory: a restart of the sandbox clears it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import trio

from veza.sandbox.store import Json, Object

# How each kind acts on the one request that takes it.
DROPS = {"commit_then_drop", "drop_before"}
TRANSIENT = {"400", "401", "403", "409", "429", "503"}  # answered before the key is looked at; nothing is stored
NETWORK = DROPS | TRANSIENT | {"hang_before", "hang_after", "slow", "garbage"}
# Refusals begin the endpoint, so Stripe stores them under the idempotency key and replays them.
REFUSALS = {
    "500",
    "500_committed",
    "balance_insufficient",
    "account_unknown",
    "account_invalid",
    "insufficient_capabilities",
}
REFUND_OUTCOMES = {"refund_pending", "refund_failed", "refund_review"}
FOREVER = -1


class BadFault(ValueError):  # noqa: N818 - named for what it is
    """The control API was given a fault it cannot play."""


@dataclass
class Fault:
    id: int
    kind: str
    method: str = "*"
    path: str = "*"
    idempotency_key: str = "*"
    params: dict[str, str] = field(default_factory=dict)
    times: int = 1
    seconds: float | None = None
    fired: int = 0
    waiting: int = 0
    gone: bool = False
    released: trio.Event = field(default_factory=trio.Event)

    def matches(self, method: str, path: str, key: str | None, params: Mapping[str, Json]) -> bool:
        if self.times != FOREVER and self.fired >= self.times:
            return False
        return (
            self.method in ("*", method)
            and fnmatchcase(path, self.path)
            and (self.idempotency_key == "*" or fnmatchcase(key or "", self.idempotency_key))
            and all(str(params.get(name)) == wanted for name, wanted in self.params.items())
        )

    async def hold(self) -> bool:
        """Wait for the release or for `seconds`, whichever is first. False if the fault was deleted meanwhile."""
        self.waiting += 1
        try:
            with trio.move_on_after(float("inf") if self.seconds is None else self.seconds):
                await self.released.wait()
        finally:
            self.waiting -= 1
        return not self.gone

    def view(self) -> Object:
        match: Object = {"method": self.method, "path": self.path, "idempotency_key": self.idempotency_key}
        match["params"] = dict(self.params)
        left = None if self.times == FOREVER else self.times - self.fired
        return {
            "id": self.id,
            "kind": self.kind,
            "match": match,
            "seconds": self.seconds,
            "fired": self.fired,
            "left": left,
            "waiting": self.waiting,
        }


class FaultScript:
    def __init__(self, kinds: set[str]) -> None:
        self.kinds = kinds
        self._faults: dict[int, Fault] = {}
        self._last_id = 0

    def add(self, spec: Object) -> Fault:
        self._last_id += 1
        fault = parse_fault(self._last_id, spec, self.kinds)
        self._faults[fault.id] = fault
        return fault

    def take(
        self, method: str, path: str, key: str | None, params: Mapping[str, Json], *, replayed: bool
    ) -> Fault | None:
        """The fault this request meets, counted as fired. A replay begins no endpoint, so it meets no refusal."""
        for fault in self._faults.values():
            if replayed and fault.kind in REFUSALS:
                continue
            if fault.matches(method, path, key, params):
                fault.fired += 1
                return fault
        return None

    def get(self, fault_id: int) -> Fault | None:
        return self._faults.get(fault_id)

    def remove(self, fault_id: int) -> bool:
        """Forget a fault. What hangs before its effect is abandoned, what hangs after it is answered."""
        fault = self._faults.pop(fault_id, None)
        if fault is None:
            return False
        fault.gone = True
        fault.released.set()
        return True

    def clear(self) -> None:
        for fault_id in list(self._faults):
            self.remove(fault_id)

    def views(self) -> list[Json]:
        return [fault.view() for fault in self._faults.values()]


def parse_fault(fault_id: int, spec: Object, kinds: set[str]) -> Fault:
    """Raises BadFault, naming the field, on anything it does not know: a mistyped fault must not pass silently."""
    unknown = set(spec) - {"kind", "match", "times", "seconds"}
    if unknown:
        raise BadFault(f"unknown fields: {', '.join(sorted(unknown))}")
    kind, match, times, seconds = spec.get("kind"), spec.get("match", {}), spec.get("times", 1), spec.get("seconds")
    if not isinstance(kind, str) or kind not in kinds:
        raise BadFault(f"kind must be one of {', '.join(sorted(kinds))}")
    if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
        raise BadFault("times must be a positive integer, or null for ever")
    if seconds is not None and (not isinstance(seconds, (int, float)) or seconds < 0):
        raise BadFault("seconds must be a non-negative number")
    if kind == "slow" and seconds is None:
        raise BadFault("slow needs seconds")
    if not isinstance(match, dict):
        raise BadFault("match must be an object")
    method, path, key, params = parse_match(match)
    return Fault(
        id=fault_id,
        kind=kind,
        method=method,
        path=path,
        idempotency_key=key,
        params=params,
        times=FOREVER if times is None else times,
        seconds=seconds,
    )


def parse_match(match: Object) -> tuple[str, str, str, dict[str, str]]:
    rest = dict(match)
    method = str(rest.pop("method", "*")).upper()
    path = re.sub(r":\w+", "*", str(rest.pop("path", "*")))  # /v1/transfers/:id reads as /v1/transfers/*
    key = str(rest.pop("idempotency_key", "*"))
    params = rest.pop("params", {})
    if not isinstance(params, dict):
        raise BadFault("match.params must be an object")
    wanted = {name: str(value) for name, value in params.items()}
    for shorthand in ("transfer_group", "payment_id", "destination"):
        if shorthand in rest:
            wanted[shorthand] = str(rest.pop(shorthand))
    if rest:
        raise BadFault(f"unknown match fields: {', '.join(sorted(rest))}")
    return method, path, key, wanted
