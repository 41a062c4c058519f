"""Switches seen from outside: whole processes on one database agree within a second, and a restart forgets nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from tests.house import free_port
from tests.http.desk import refusal, signed
from tests.processes import SECRETS, Program, answering, production, program, veza
from tests.shop import Json, data

pytestmark = pytest.mark.slow

WITHIN = 1.0  # seconds, from the answer of one process to the other going by it
CLOSED = (503, "maintenance")


@dataclass
class Server:
    started: Program
    http: httpx.AsyncClient
    token: str = ""

    async def sign_in(self) -> None:
        body = {"email": "admin@veza.example", "password": SECRETS["ADMIN_PASSWORD"]}
        self.token = data(await self.http.post("/auth/login", json=body))["access_token"]

    async def put(self, path: str, body: Json) -> Json:
        answer: Json = data(await self.http.put(path, json=body, headers=signed(self.token)))
        return answer

    async def look(self) -> httpx.Response:
        return await self.http.get("/marketplace/products")

    async def flag(self, name: str) -> bool:
        flags = data(await self.http.get("/admin/feature-flags", headers=signed(self.token)))["feature_flags"]
        [enabled] = [each["enabled"] for each in flags if each["name"] == name]
        return bool(enabled)

    async def until(self, holds: Callable[[httpx.Response], bool]) -> float:
        """Seconds until a look at the products is answered so."""
        began = trio.current_time()
        with trio.fail_after(20):
            while not holds(await self.look()):
                pass
        return trio.current_time() - began

    async def until_flag(self, name: str, *, on: bool) -> float:
        began = trio.current_time()
        with trio.fail_after(20):
            while await self.flag(name) is not on:
                pass
        return trio.current_time() - began

    async def announced(self) -> list[str]:
        active = data(await self.http.get("/announcements/active"))
        return [each["id"] for each in active["announcements"]]

    async def until_announced(self, announcement_id: str, *, shown: bool) -> float:
        began = trio.current_time()
        with trio.fail_after(20):
            while (announcement_id in await self.announced()) is not shown:
                pass
        return trio.current_time() - began


@asynccontextmanager
async def serving(dsn: str, tmp_path: Path, port: int) -> AsyncIterator[Server]:
    environment = production(dsn, tmp_path, PORT=port)
    async with program(*veza("serve"), environment=environment, cwd=tmp_path) as started:
        await answering(f"http://127.0.0.1:{port}/healthz", started)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as client:
            server = Server(started, client)
            await server.sign_in()
            yield server


async def say(dsn: str, tmp_path: Path, *words: str) -> str:
    """A `veza maintenance` of its own; what it says."""
    environment = production(dsn, tmp_path)
    async with program(*veza("maintenance", *words), environment=environment, cwd=tmp_path) as command:
        assert await command.ended() == 0, command.lines
        return command.lines[-1]


def closed(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and refusal(answer) == CLOSED


def served(answer: httpx.Response) -> bool:
    return answer.status_code == 200


@pytest.mark.alone
async def test_two_processes_agree_within_a_second_on_maintenance_and_on_every_flag(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(120):
        async with serving(dsn, tmp_path, free_port()) as one, serving(dsn, tmp_path, free_port()) as other:
            late = []
            for here, there in ((one, other), (other, one)) * 3:
                assert (await here.put("/admin/maintenance", {"enabled": True}))["enabled"]
                assert closed(await here.look())
                late.append(await there.until(closed))
                await here.put("/admin/maintenance", {"enabled": False})
                assert served(await here.look())
                late.append(await there.until(served))
            for name in ("auth.registration", "marketplace.checkout", "payouts.enabled", "exports.enabled"):
                await one.put(f"/admin/feature-flags/{name}", {"enabled": False})
                late.append(await other.until_flag(name, on=False))
                await other.put(f"/admin/feature-flags/{name}", {"enabled": True})
                late.append(await one.until_flag(name, on=True))
    assert max(late) < WITHIN, late


@pytest.mark.alone
async def test_two_processes_announce_and_take_back_the_same_within_a_second(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(120):
        async with serving(dsn, tmp_path, free_port()) as one, serving(dsn, tmp_path, free_port()) as other:
            late = []
            for here, there in ((one, other), (other, one)) * 2:
                body = {"title": "Moving", "content": "We move on Sunday.", "type": "warning"}
                made = data(await here.http.post("/admin/announcements", json=body, headers=signed(here.token)))
                assert made["id"] in await here.announced()
                late.append(await there.until_announced(made["id"], shown=True))
                path = f"/admin/announcements/{made['id']}"
                data(await there.http.delete(path, headers=signed(there.token)))
                assert await there.announced() == []
                late.append(await here.until_announced(made["id"], shown=False))
    assert max(late) < WITHIN, late


@pytest.mark.alone
async def test_the_command_closes_and_opens_what_serves_and_a_restart_forgets_nothing(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(120):
        port = free_port()
        async with serving(dsn, tmp_path, port) as server:
            assert await say(dsn, tmp_path, "on", "--message", "Back at one.") == "maintenance is on"
            assert await server.until(closed) < WITHIN
            assert (await server.look()).json()["error"] == "Back at one."
            await server.started.kill()
        async with serving(dsn, tmp_path, free_port()) as server:
            assert closed(await server.look())
            assert await say(dsn, tmp_path, "off") == "maintenance is off"
            assert await server.until(served) < WITHIN


async def test_the_command_works_while_nothing_serves(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(60):
        said = await say(dsn, tmp_path, "on", "--until", "2100-01-01T13:00:00+01:00")
        assert said == "maintenance is on until 2100-01-01 12:00 UTC"
        async with serving(dsn, tmp_path, free_port()) as server:
            assert closed(await server.look())
            assert (await server.look()).headers["retry-after"] == "3600"
