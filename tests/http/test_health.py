"""The probes: what each says, what it costs, and its deprecated twin at the root."""

from __future__ import annotations

from typing import Literal

import pytest
import trio

from tests.http.conftest import Serve, well
from veza.http.parts import Check, CheckResult

CONFIG = {
    "jwt_secret_set": True,
    "stripe_connect_enabled": True,
    "platform_fee_rate": 0.1,
    "transfer_retry_enabled": True,
}


Found = Literal["ok", "degraded", "failed", "not_configured"]


def finds(status: Found) -> Check:
    async def check() -> CheckResult:
        return CheckResult(status)

    return check


async def hangs() -> CheckResult:
    await trio.sleep_forever()
    raise AssertionError


async def raises() -> CheckResult:
    raise OSError("no route to 10.0.0.3")


async def test_health_is_always_ok(serve: Serve) -> None:
    served = await serve(checks={"database": finds("failed")})
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/api/v1/health")
    assert (answer.status_code, answer.json()) == (200, {"success": True, "data": {"status": "ok"}})


async def test_deep_health_has_the_references_shape(serve: Serve) -> None:
    async def disk() -> CheckResult:
        return CheckResult("ok", {"free_gb": 42.5})

    served = await serve(checks={"database": well, "redis": finds("not_configured"), "disk": disk})
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/api/v1/health/deep")
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "data": {
            "status": "healthy",
            "timestamp": "2026-02-23T12:00:00Z",
            "checks": {
                "database": {"status": "ok"},
                "redis": {"status": "not_configured"},
                "disk": {"status": "ok", "details": {"free_gb": 42.5}},
            },
            "config": CONFIG,
        },
    }


@pytest.mark.parametrize(
    ("database", "ingest", "deep", "ready", "status"),
    [
        ("ok", "ok", "healthy", "ready", 200),
        ("ok", "degraded", "degraded", "degraded", 200),
        ("ok", "failed", "degraded", "degraded", 200),
        ("failed", "ok", "unhealthy", "not_ready", 503),
        ("failed", "failed", "unhealthy", "not_ready", 503),
    ],
)
async def test_only_the_database_takes_the_process_down_with_it(
    serve: Serve, database: Found, ingest: Found, deep: str, ready: str, status: int
) -> None:
    served = await serve(checks={"database": finds(database), "ingest": finds(ingest)})
    with trio.fail_after(10):
        async with served.client() as client:
            answers = [await client.get(f"{served.base_url}/api/v1{path}") for path in ("/health/deep", "/readyz")]
    assert [answer.json()["data"]["status"] for answer in answers] == [deep, ready]
    for answer in answers:
        assert answer.status_code == status
        assert answer.json()["success"] is (status == 200)
        assert answer.json()["data"]["checks"]["database"] == {"status": database}
        assert ("error" in answer.json()) == ("retry-after" in answer.headers) == (status == 503)


async def test_a_check_that_hangs_or_raises_has_failed_and_tells_no_address(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.http.routes.health.CHECK_SECONDS", 0.05)
    served = await serve(checks={"database": well, "s3": hangs, "ingest": raises})
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/api/v1/health/deep")
    assert answer.json()["data"]["checks"] == {
        "database": {"status": "ok"},
        "s3": {"status": "failed", "details": {"error": "timeout"}},
        "ingest": {"status": "failed", "details": {"error": "OSError"}},
    }


async def test_deep_checks_are_run_once_and_shared(serve: Serve) -> None:
    runs = 0

    async def counted() -> CheckResult:
        nonlocal runs
        runs += 1
        await trio.lowlevel.checkpoint()
        return CheckResult("ok")

    served = await serve(checks={"database": counted})
    with trio.fail_after(10):
        async with served.client() as client, trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(client.get, f"{served.base_url}/api/v1/health/deep")
    assert runs == 1


async def test_healthz_touches_no_dependency(serve: Serve) -> None:
    served = await serve(checks={"database": hangs})
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/api/v1/healthz")
    assert answer.status_code == 200
    assert answer.json()["data"]["status"] == "alive"
    assert answer.json()["data"]["loop_lag_ms"] >= 0


@pytest.mark.parametrize(("lag", "status", "says"), [(4.9, 200, "alive"), (5.1, 503, "stuck")])
async def test_healthz_goes_by_how_late_the_event_loop_is(serve: Serve, lag: float, status: int, says: str) -> None:
    served = await serve()
    served.app.parts.pulse.felt(lag)
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/api/v1/healthz")
    data = answer.json()["data"]
    assert (answer.status_code, data["status"], data["loop_lag_ms"]) == (status, says, lag * 1000)


async def test_healthz_says_so_when_the_root_supervisor_is_gone(serve: Serve) -> None:
    served = await serve(root_alive=lambda: False)
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/api/v1/healthz")
    assert (answer.status_code, answer.json()["data"]["status"]) == (503, "stuck")


async def test_a_process_that_leaves_is_not_ready_though_all_is_well(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            served.app.parts.leaving.set()
            answer = await client.get(f"{served.base_url}/api/v1/readyz")
    assert (answer.status_code, answer.json()["data"]["status"]) == (503, "not_ready")


@pytest.mark.parametrize("path", ["/health", "/health/deep", "/healthz", "/readyz"])
async def test_the_roots_twin_answers_alike_and_points_to_its_successor(serve: Serve, path: str) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            twin = await client.get(f"{served.base_url}{path}")
            successor = await client.get(f"{served.base_url}/api/v1{path}")
    assert twin.json().keys() == successor.json().keys()
    assert twin.json()["data"]["status"] == successor.json()["data"]["status"]
    assert twin.headers["link"] == f'</api/v1{path}>; rel="successor-version"'
    assert twin.headers["deprecation"] == "@1771804800"  # 2026-02-23
    assert "deprecation" not in successor.headers
