"""One PostgreSQL and one browser for the whole run; a fresh migrated database for each test that asks for one."""

from __future__ import annotations

import gc
import io
import itertools
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from quart import Response

from tests.browser import Browser, Tab, artifacts, open_browser
from tests.buckets import S3, STORES, one_description, open_store, s3_server
from tests.house import House, running_house
from tests.people import cheap_hasher
from tests.refusals import undocumented
from veza import compose
from veza.gateways.objects import Objects
from veza.gateways.passwords import Passwords
from veza.http import errors
from veza.http.edge import trace
from veza.store.bridge import Database
from veza.store.embedded import embedded_dsn
from veza.store.migrate import migrate

FAST = (
    "fsync = off",
    "autovacuum = off",
    "synchronous_commit = off",
    "full_page_writes = off",
    "max_wal_size = '128MB'",  # which is nobody's to replay, and may lie in memory
)
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, below which the directory is a fresh one
ROOM_BYTES = 2 << 30  # a server takes 300 MB of it; a container's 64 MB are too few


def pytest_configure() -> None:
    artifacts()  # before there are several processes, which are to have one folder
    # How long an example takes, or is in the making, says how busy the machine is: the first text of a fresh clone has
    # its table of characters made, which takes two seconds.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """What was imported stays to the end of the run. Looking through it for garbage, again and again, took half of a
    test's CPU; what tests make themselves is looked through as ever."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if artifacts().is_dir():
        terminalreporter.write_line(f"To look at: {artifacts()}")


@dataclass
class Server:
    """The test server: makes databases from the migrated template, in some ten milliseconds each."""

    dsn: str
    _connection: psycopg.Connection[tuple[object, ...]]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def named(self, database: str) -> str:
        return self.dsn.replace("/postgres?", f"/{database}?")

    def run(self, statement: str, *args: object) -> None:
        self._connection.execute(statement.encode(), args or None)

    def create(self, template: str = "veza_template") -> str:
        """The name of a new database, a copy of `template`."""
        name = f"test_{next(self.numbers)}"
        # wal_log would take the template's 650 files through the buffers and the log, at three times the CPU; the
        # checkpoints that file_copy needs are cheap where nothing waits for a disk
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def away(self, dsn: str) -> Iterator[None]:
        """The database takes no connection, and those there were are gone."""
        name = dsn.partition("?")[0].rpartition("/")[2]
        self.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        try:
            yield
        finally:
            self.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextmanager
def server_directory(below: Path | None = None) -> Iterator[Path]:
    """A short-lived directory for a server. Not pytest's own: each new pytest closes that to other users again, and a
    server started by root runs as one of those."""
    with tempfile.TemporaryDirectory(prefix="veza-pg-", dir=below) as name:
        yield Path(name)


def in_memory() -> Path | None:
    """Where files lie in memory, if this machine has room for a server's there."""
    return IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM_BYTES else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of this run's own; what it holds need not survive anything, so it does not wait for the disk."""
    with (
        server_directory(in_memory()) as directory,
        embedded_dsn(directory) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        server = Server(dsn, connection)
        for setting in FAST:
            server.run(f"ALTER SYSTEM SET {setting}")
        server.run("SELECT pg_reload_conf()")
        server.run("CREATE DATABASE veza_template")
        migrate(server.named("veza_template"))
        yield server


@pytest.fixture
def dsn(postgres: Server) -> Iterator[str]:
    """The DSN of a fresh database with every migration applied."""
    name = postgres.create()
    yield postgres.named(name)
    postgres.drop(name)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """An open bridge to a fresh database."""
    async with Database.open(dsn) as database:
        yield database


@pytest.fixture
async def house(dsn: str, tmp_path: Path) -> AsyncIterator[House]:
    """The whole composition over a fresh database and a sandbox of its own, serving on loopback."""
    async with running_house(dsn, tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for the whole run; each page that it opens is fresh."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
async def tab(browser: Browser, house: House) -> AsyncIterator[Tab]:
    """A page to look at the house with, in which nothing may go wrong."""
    async with browser.open(house.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A server of buckets, for the whole run."""
    with one_description(), s3_server() as server:
        yield server


@pytest.fixture(params=STORES)
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Objects]:
    """An empty store: whatever is said of it holds on a disk and in a bucket."""
    async with open_store(request.param, tmp_path / "objects", request) as store:
        yield store


@pytest.fixture(scope="session", autouse=True)
def _passwords_cost_little() -> Iterator[None]:
    """A house in this process hashes its passwords with as little work as it takes; a whole process does all of it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compose, "Passwords", partial(Passwords, cheap_hasher()))
        yield


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Where a test has logs written; how they were kept before is put back."""
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield out
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _routes_say_no_as_documented(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test is about: an error that a route answers with is one that the document tells of."""
    said: set[tuple[str, str | None, str]] = set()
    respond = errors.respond

    def listening(told: errors.Answer) -> Response:
        said.add((trace().method, trace().route, told.code))
        return respond(told)

    monkeypatch.setattr(errors, "respond", listening)
    yield
    assert not {each for each in said if undocumented(*each)}
