"""Limits seen from outside: whole processes that share a Redis count together, and go on by themselves without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.house import free_port
from tests.http.desk import refusal
from tests.processes import Program, answering, production, program, veza
from tests.redis import redis_server

pytestmark = pytest.mark.slow

PATH = "/api/v1/marketplace/products"


@asynccontextmanager
async def serving(dsn: str, tmp_path: Path, **settings: object) -> AsyncIterator[tuple[Program, httpx.AsyncClient]]:
    port = free_port()
    environment = production(dsn, tmp_path, PORT=port, RATE_LIMIT_ENABLED="true", **settings)
    async with program(*veza("serve"), environment=environment, cwd=tmp_path) as started:
        await answering(f"http://127.0.0.1:{port}/healthz", started)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield started, client


async def redis_check(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/health/deep")).json()["data"]["checks"]["redis"]
    return found


async def until_redis_is(client: httpx.AsyncClient, status: str) -> dict[str, Any]:
    while (found := await redis_check(client))["status"] != status:  # noqa: ASYNC110 - kept for five seconds
        await trio.sleep(0.2)
    return found


async def test_two_processes_count_together_and_for_themselves_while_redis_is_away(dsn: str, tmp_path: Path) -> None:
    with redis_server() as redis, trio.fail_after(120):
        chosen: dict[str, object] = {"REDIS_URL": redis.url, "RATE_LIMITS": "address=10/3600"}
        async with (
            serving(dsn, tmp_path, **chosen) as (first, one),
            serving(dsn, tmp_path, **chosen) as (_, other),
        ):
            assert await redis_check(one) == {"status": "ok"}
            told = [await each.get(PATH) for each in (one, other) * 5]
            assert [answer.status_code for answer in told] == [200] * 10
            assert [answer.headers["ratelimit"][:13] for answer in told[:2]] == ['"address";r=9', '"address";r=8']
            for each in (one, other):
                assert refusal(await each.get(PATH)) == (429, "rate_limited")

            redis.stop()
            alone = [await each.get(PATH) for each in (one, other) * 5]
            assert [answer.status_code for answer in alone] == [200] * 10
            assert alone[-1].headers["ratelimit"].startswith('"address";r=5')
            assert (await until_redis_is(one, "degraded"))["details"]["counting"] == "in this process"
            assert (await one.get("/readyz")).status_code == 200
            assert len(first.logged("redis_away")) == 1

            redis.start()
            await until_redis_is(one, "ok")
            assert len(first.logged("redis_back")) == 1


async def test_without_redis_a_process_counts_and_probes_are_never_refused(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with serving(dsn, tmp_path, RATE_LIMITS="address=5/3600,login=2/3600") as (_, client):
            assert await redis_check(client) == {"status": "not_configured"}
            body = {"email": "nobody@veza.example", "password": "not-theirs-1"}
            tried = [await client.post("/api/v1/auth/login", json=body) for _ in range(3)]
            assert [answer.status_code for answer in tried] == [401, 401, 429]
            looked = [(await client.get(PATH)).status_code for _ in range(5)]
            assert looked == [200, 200, 200, 429, 429]
            assert {(await client.get("/healthz")).status_code for _ in range(20)} == {200}
