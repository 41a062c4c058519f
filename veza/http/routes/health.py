"""Health: is the process alive, may it get traffic, and what of that on which it leans.

``/healthz`` touches no dependency. ``/readyz`` and ``/health/deep`` run the checks, together and at most once at a
time, and share their answers for a while: probes come from several places and must not become a load.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import structlog
import trio
from pydantic import BaseModel, Field
from quart import Blueprint, current_app
from quart_schema import validate_response

from veza.http.edge import trace
from veza.http.envelope import Envelope, Out
from veza.http.legacy import legacy
from veza.http.parts import Check, CheckResult, parts

DEEP_SECONDS = 5.0  # how old a deep answer may be
READY_SECONDS = 1.0  # a database that went away must be seen by the next probe
CHECK_SECONDS = 2.0  # a dependency that takes longer is as good as down, and probes give up at three
LAG_SECONDS = 5.0  # a loop that takes this long for one turn serves nobody
CRITICAL = frozenset({"database"})  # without it nothing works; without the others something does

log = structlog.get_logger()

api = Blueprint("health", __name__)
root = legacy("health_legacy")


class StatusOut(Out):
    status: Literal["ok"] = "ok"


class AliveOut(Out):
    status: Literal["alive", "stuck"]
    loop_lag_ms: float


class CheckOut(Out):
    status: Literal["ok", "degraded", "failed", "not_configured"]
    details: dict[str, Any] | None = Field(None, exclude_if=lambda details: details is None)


class ReadyOut(Out):
    status: Literal["ready", "degraded", "not_ready"]
    checks: dict[str, CheckOut]


class ConfigOut(Out):
    jwt_secret_set: bool
    stripe_connect_enabled: bool
    platform_fee_rate: float
    transfer_retry_enabled: bool


class DeepOut(Out):
    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: datetime
    checks: dict[str, CheckOut]
    config: ConfigOut


class Unhealthy(BaseModel):
    """A 503 that still says what was found."""

    success: Literal[False] = False
    error: str
    code: str
    request_id: str
    data: AliveOut | ReadyOut | DeepOut


class Checkup:
    """The checks' latest results. One run at a time; who comes meanwhile waits for it and shares it."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self.checks = checks
        self._lock = trio.Lock()
        self._ran_at = float("-inf")
        self._results: dict[str, CheckResult] = {}

    async def results(self, max_age: float) -> Mapping[str, CheckResult]:
        """Results at most ``max_age`` seconds old."""
        async with self._lock:
            if trio.current_time() - self._ran_at >= max_age:
                self._results = await self._run()
                self._ran_at = trio.current_time()
            return self._results

    async def _run(self) -> dict[str, CheckResult]:
        found = dict.fromkeys(self.checks, CheckResult("failed", {"error": "timeout"}))
        with trio.move_on_after(CHECK_SECONDS):
            async with trio.open_nursery() as nursery:
                for name, check in self.checks.items():
                    nursery.start_soon(self._run_one, name, check, found)
        return found

    async def _run_one(self, name: str, check: Check, found: dict[str, CheckResult]) -> None:
        try:
            found[name] = await check()
        except Exception as error:
            log.warning("health_check_failed", check=name, exc_info=error)
            found[name] = CheckResult("failed", {"error": type(error).__name__})


def severity(results: Mapping[str, CheckResult]) -> Literal["well", "degraded", "down"]:
    """What the results add up to: only a critical dependency takes the process down with it."""
    if any(results[name].status == "failed" for name in CRITICAL & results.keys()):
        return "down"
    if any(result.status in ("failed", "degraded") for result in results.values()):
        return "degraded"
    return "well"


async def health() -> Envelope[StatusOut]:
    """Whether the process answers: always ok."""
    return Envelope[StatusOut](data=StatusOut())


async def deep() -> Envelope[DeepOut] | tuple[Unhealthy, int, dict[str, str]]:
    """How every dependency is, and whether the important settings are set. 503 if nothing can work."""
    results = await checkup().results(DEEP_SECONDS)
    status = _DEEP[severity(results)]
    out = DeepOut(
        status=status,
        timestamp=parts().clock(),
        checks=_shown(results),
        config=ConfigOut.of(parts().config),
    )
    if status == "unhealthy":
        return _unhealthy("unhealthy", "A dependency without which nothing works is down.", out)
    return Envelope[DeepOut](data=out)


async def healthz() -> Envelope[AliveOut] | tuple[Unhealthy, int, dict[str, str]]:
    """Liveness, for the platform. 503 asks it for a restart, so only the process itself counts."""
    lag = parts().pulse.lag
    alive = parts().root_alive() and lag < LAG_SECONDS
    out = AliveOut(status="alive" if alive else "stuck", loop_lag_ms=round(lag * 1000, 3))
    return Envelope[AliveOut](data=out) if alive else _unhealthy("stuck", "The process is stuck.", out)


async def readyz() -> Envelope[ReadyOut] | tuple[Unhealthy, int, dict[str, str]]:
    """Readiness, for the platform. 503 while traffic should go elsewhere; degraded still takes it."""
    results = await checkup().results(READY_SECONDS)
    status: Literal["ready", "degraded", "not_ready"] = _READY[severity(results)]
    if parts().leaving.is_set():
        status = "not_ready"
    out = ReadyOut(status=status, checks=_shown(results))
    if status == "not_ready":
        return _unhealthy("not_ready", "This process should get no traffic now.", out)
    return Envelope[ReadyOut](data=out)


_DEEP: Mapping[str, Literal["healthy", "degraded", "unhealthy"]] = {
    "well": "healthy",
    "degraded": "degraded",
    "down": "unhealthy",
}
_READY: Mapping[str, Literal["ready", "degraded", "not_ready"]] = {
    "well": "ready",
    "degraded": "degraded",
    "down": "not_ready",
}


def checkup() -> Checkup:
    """One a bound app: made with its parts, kept beside them."""
    kept: Checkup | None = current_app.extensions.get("veza.checkup")
    if kept is None or kept.checks is not parts().checks:
        kept = current_app.extensions["veza.checkup"] = Checkup(parts().checks)
    return kept


def _shown(results: Mapping[str, CheckResult]) -> dict[str, CheckOut]:
    return {
        name: CheckOut(status=result.status, details=None if result.details is None else dict(result.details))
        for name, result in results.items()
    }


def _unhealthy(code: str, error: str, data: AliveOut | ReadyOut | DeepOut) -> tuple[Unhealthy, int, dict[str, str]]:
    out = Unhealthy(error=error, code=code, request_id=trace().request_id, data=data)
    return out, 503, {"Retry-After": "1"}


for blueprint in (api, root):
    blueprint.get("/health")(validate_response(Envelope[StatusOut])(health))
    blueprint.get("/health/deep")(validate_response(Unhealthy, 503)(validate_response(Envelope[DeepOut])(deep)))
    blueprint.get("/healthz")(validate_response(Unhealthy, 503)(validate_response(Envelope[AliveOut])(healthz)))
    blueprint.get("/readyz")(validate_response(Unhealthy, 503)(validate_response(Envelope[ReadyOut])(readyz)))
