"""The Procfile as a platform runs it: `honcho start`, against a PostgreSQL that Veza did not bring along."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import trio

from tests.debian import debian_postgres
from tests.house import free_port
from tests.processes import SECRETS, Program, answering, production, program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def external() -> Iterator[str]:
    with debian_postgres() as dsn:
        yield dsn


def family(started: Program) -> list[psutil.Process]:
    return psutil.Process(started.pid).children(recursive=True)


def still_there(process: psutil.Process) -> bool:
    """A zombie is not: what honcho orphaned is buried by the machine's init, where it has one."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def end(processes: list[psutil.Process]) -> None:
    """Whatever a failed test left of what honcho started, each in a session of its own."""
    for process in filter(still_there, processes):
        process.kill()


async def test_honcho_start_migrates_serves_and_ends_with_everything_it_began(external: str, tmp_path: Path) -> None:
    port = free_port()
    environment = production(external, tmp_path)
    del environment["ENVIRONMENT"]  # the Procfile says it
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    honcho = (sys.executable, "-m", "honcho", "--no-colour", "-e", "/dev/null", "start", "-p", str(port))
    url = f"http://127.0.0.1:{port}"
    begun: list[psutil.Process] = []
    try:
        with trio.fail_after(120):
            async with program(*honcho, environment=environment, cwd=ROOT) as started:
                await answering(f"{url}/readyz", started)
                begun = family(started)
                async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20) as client:
                    body = {"email": "admin@veza.example", "password": SECRETS["ADMIN_PASSWORD"]}
                    (await client.post("/auth/login", json=body)).raise_for_status()
                    (await client.get("/marketplace/products")).raise_for_status()
                    assert (await client.get("/health/deep")).json()["data"]["checks"]["database"]["status"] == "ok"
                started.terminate()
                assert await started.ended() == 128 + signal.SIGTERM  # so says honcho of itself
            assert any("0001_accounts" in line for line in started.lines)
            assert any('"event": "left"' in line for line in started.lines)
            assert list(filter(still_there, begun)) == []
    finally:
        end(begun)
