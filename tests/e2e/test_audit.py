"""What was acknowledged and what is in the audit, whatever ends the process: seen from outside, under load."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest
import trio

from tests.house import free_port
from tests.processes import Program, answering, production, program, veza
from veza.actors.audit import AWAY_SECONDS, WINDOW_SECONDS

pytestmark = pytest.mark.slow

CLIENTS = 12
BUSY = 10 * CLIENTS  # answers by when each client is at it
LOST_SECONDS = 2 * WINDOW_SECONDS
"""What a kill may take: a window, and a batch that was being written. The machine is busy, so as much again."""

ROWS = "SELECT request_id, status FROM audit_entries WHERE request_id LIKE 'write-%'"


@dataclass
class Served:
    """A `veza serve` in production, and what it has answered to whom."""

    started: Program
    dsn: str
    url: str
    token: str = ""
    answered: dict[str, tuple[int, float]] = field(default_factory=dict)  # by request id: the status, and when
    busy: trio.Event = field(default_factory=trio.Event)

    async def sign_up(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            body = {"username": "ann", "email": "ann@veza.example", "password": "correct-horse-1"}
            answer = (await client.post("/auth/register", json=body)).raise_for_status()
            self.token = answer.json()["data"]["access_token"]

    async def write_until_it_is_gone(self, name: int) -> None:
        """Things and refusals in turn, on one connection after the other, until no new connection is accepted."""
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            for number in count():
                request_id = f"write-{name}-{number}"
                headers = {"Authorization": f"Bearer {self.token}", "X-Request-ID": request_id}
                body = {"name": "MPC"} if number % 2 else {}
                try:
                    answer = await client.post("/inventory/gear", json=body, headers=headers)
                except httpx.ConnectError:
                    return
                except httpx.TransportError:
                    continue
                self.answered[request_id] = (answer.status_code, trio.current_time())
                if len(self.answered) == BUSY:
                    self.busy.set()

    def audited(self) -> dict[str, int]:
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(ROWS.encode()).fetchall()
        assert len(rows) == len({request_id for request_id, _ in rows}), "a row was written twice"
        return dict(rows)


@asynccontextmanager
async def served(dsn: str, tmp_path: Path) -> AsyncIterator[Served]:
    port = free_port()
    async with program(*veza("serve"), environment=production(dsn, tmp_path, PORT=port), cwd=tmp_path) as started:
        await answering(f"http://127.0.0.1:{port}/healthz", started)
        running = Served(started, dsn, f"http://127.0.0.1:{port}/api/v1")
        await running.sign_up()
        yield running


async def test_after_sigterm_under_load_every_answer_has_its_entry(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(90):
        async with served(dsn, tmp_path) as running:
            async with trio.open_nursery() as clients:
                for name in range(CLIENTS):
                    clients.start_soon(running.write_until_it_is_gone, name)
                await running.busy.wait()
                running.started.terminate()
            assert await running.started.ended() == 0
    answered = {request_id: status for request_id, (status, _) in running.answered.items()}
    assert set(answered.values()) == {201, 400}
    audited = running.audited()
    assert {request_id: audited.get(request_id) for request_id in answered} == answered
    assert running.started.logged("audit_entries_lost") == []


@pytest.mark.alone
async def test_after_kill_9_under_load_only_answers_of_the_last_moment_lack_an_entry(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(90):
        async with served(dsn, tmp_path) as running, trio.open_nursery() as clients:
            for name in range(CLIENTS):
                clients.start_soon(running.write_until_it_is_gone, name)
            await running.busy.wait()
            await trio.sleep(4 * LOST_SECONDS)  # so that most of what was answered is older than that
            killed = trio.current_time()
            await running.started.kill()
    audited = running.audited()
    lost = [when for request_id, (_, when) in running.answered.items() if request_id not in audited]
    assert [killed - when for when in lost if killed - when > LOST_SECONDS] == []
    assert len(audited) > BUSY


async def test_what_was_answered_while_the_database_refused_the_audit_is_written_afterwards(
    dsn: str, tmp_path: Path
) -> None:
    with trio.fail_after(90):
        async with served(dsn, tmp_path) as running, trio.open_nursery() as clients:
            with psycopg.connect(dsn) as holder:
                holder.execute("LOCK TABLE audit_entries IN ACCESS EXCLUSIVE MODE")
                for name in range(CLIENTS):
                    clients.start_soon(running.write_until_it_is_gone, name)
                await running.started.line("audit_store_away")
                await running.busy.wait()
            await trio.sleep(2 * AWAY_SECONDS)
            running.started.terminate()
            assert await running.started.ended() == 0
    audited = running.audited()
    answered = {request_id: status for request_id, (status, _) in running.answered.items()}
    assert {request_id: audited.get(request_id) for request_id in answered} == answered
