"""How a process starts: beside another one, where it can't, and after one that was killed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import trio

from tests.conftest import Server, server_directory
from tests.house import free_port
from tests.processes import SECRETS, Program, answering, clean_environment, demo, production, program, veza

pytestmark = pytest.mark.slow

REFUSE_SECONDS = 60  # imports and, for a database that is away, the patience with it


@pytest.fixture
def empty(postgres: Server) -> Iterator[str]:
    """The DSN of a database without a table."""
    name = postgres.create(template="template1")
    yield postgres.named(name)
    postgres.drop(name)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory whose embedded server may be started by root and by anyone, and is stopped if it was left."""
    with server_directory() as directory:
        yield directory / "var"
        stop_postgres(directory / "var")


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def stop_postgres(data_dir: Path) -> None:
    """What nobody is left to stop, because its last user was killed."""
    if (data_dir / "postgres" / "postmaster.pid").exists():
        process = psutil.Process(postmaster(data_dir))
        process.terminate()
        process.wait(20)


async def refused(*arguments: str, environment: dict[str, str], cwd: Path) -> str:
    """The one line with which a command says why it can't; it exits with 1."""
    with trio.fail_after(REFUSE_SECONDS):
        async with program(*veza(*arguments), environment=environment, cwd=cwd) as started:
            status = await started.ended()
    said = [line for line in started.lines if not line.startswith("{")]
    assert status == 1, started.lines
    assert len(said) == 1, said
    assert said[0].startswith("veza: ")
    return said[0]


async def test_two_processes_that_start_together_on_an_empty_database_both_serve(empty: str, tmp_path: Path) -> None:
    ports = free_port(), free_port()
    common = clean_environment() | {
        "DATABASE_URL": empty,
        "LOG_FORMAT": "json",
        "VEZA_DATA_DIR": str(tmp_path / "var"),  # their generated secret is one as well
        "ADMIN_EMAIL": "admin@veza.example",
        "ADMIN_PASSWORD": SECRETS["ADMIN_PASSWORD"],
    }
    login = {"email": "admin@veza.example", "password": SECRETS["ADMIN_PASSWORD"]}
    with trio.fail_after(120):
        async with (
            program(*veza("serve"), environment=common | {"PORT": str(ports[0])}, cwd=tmp_path) as first,
            program(*veza("serve"), environment=common | {"PORT": str(ports[1])}, cwd=tmp_path) as second,
            httpx.AsyncClient(timeout=20) as client,
        ):
            urls = [f"http://127.0.0.1:{port}/api/v1" for port in ports]
            await answering(f"{urls[0]}/health", first)
            await answering(f"{urls[1]}/health", second)
            signed_in = (await client.post(f"{urls[0]}/auth/login", json=login)).raise_for_status()
            head = {"Authorization": f"Bearer {signed_in.json()['data']['access_token']}"}
            me = (await client.get(f"{urls[1]}/users/me", headers=head)).raise_for_status()
            assert me.json()["data"]["role"] == "admin"
            for started in (first, second):
                started.terminate()
            assert [await first.ended(), await second.ended()] == [0, 0]
    for started in (first, second):
        assert not started.logged("actor_crashed")
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)


async def test_in_production_a_start_awaits_the_migrations_and_says_what_it_lacks(empty: str, tmp_path: Path) -> None:
    port = free_port()
    environment = production(empty, tmp_path, PORT=port)
    said = await refused("serve", environment=environment, cwd=tmp_path)
    assert "0001_accounts" in said
    assert "veza migrate" in said
    with trio.fail_after(60):
        async with program(*veza("serve"), environment=environment, cwd=tmp_path) as started:
            await started.line('"awaiting_migrations"')
            async with program(*veza("migrate"), environment=environment, cwd=tmp_path) as migrating:
                assert await migrating.ended() == 0
            await answering(f"http://127.0.0.1:{port}/readyz", started)
            assert not started.logged("actor_crashed")


async def test_a_port_in_use_is_told_in_one_line(dsn: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = await refused("serve", environment=production(dsn, tmp_path, PORT=port), cwd=tmp_path)
    assert said == f"veza: cannot listen on 127.0.0.1:{port}: Address already in use"


async def test_a_demo_takes_nobody_elses_server_for_its_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = clean_environment() | {"VEZA_DATA_DIR": str(tmp_path / "var"), "PORT": str(port)}
        said = await refused("demo", environment=environment, cwd=tmp_path)
    assert said == f"veza: cannot listen on 127.0.0.1:{port}: Address already in use; is another demo running?"


@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("command", ["serve", "migrate"])
async def test_a_database_that_is_away_is_told_in_one_line(tmp_path: Path, environment: str, command: str) -> None:
    away = f"postgresql://veza:s3cret-of-db@127.0.0.1:{free_port()}/veza"
    chosen = production(away, tmp_path, PORT=free_port(), ENVIRONMENT=environment)
    said = await refused(command, environment=chosen, cwd=tmp_path)
    assert "cannot connect" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "url", ["postgresql//veza:s3cret@host/veza", "postgresql://veza@host:s3cret/veza", "host=host password=s3cret"]
)
@pytest.mark.parametrize("command", [("migrate",), ("admin", "grant", "a@veza.example")])
async def test_an_address_that_cannot_be_read_is_not_repeated(
    tmp_path: Path, url: str, command: tuple[str, ...]
) -> None:
    said = await refused(*command, environment=production(url, tmp_path), cwd=tmp_path)
    assert "DATABASE_URL is not of the form" in said or "cannot connect: failed to resolve host 'host'" in said
    assert "s3cret" not in said


async def test_wrong_settings_are_all_named_and_no_value_is(tmp_path: Path) -> None:
    wrong = {"PORT": "99999", "LOG_LEVEL": "s3cret", "PLATFORM_FEE_RATE": "2"}
    said = await refused("serve", environment=clean_environment() | wrong, cwd=tmp_path)
    assert all(name in said for name in wrong)
    assert "s3cret" not in said
    assert "99999" not in said


async def test_production_needs_every_secret_and_takes_no_weak_one(dsn: str, tmp_path: Path) -> None:
    bare = clean_environment() | {"ENVIRONMENT": "production", "JWT_SECRET": "short-s3cret"}
    said = await refused("serve", environment=bare, cwd=tmp_path)
    needed = set(SECRETS) - {"ADMIN_PASSWORD"} | {
        "DATABASE_URL",
        "APP_DOMAIN",
        "HYPERSWITCH_BASE_URL",
        "TRUSTED_PROXIES",
        "PLATFORM_LEGAL_NAME",
        "PLATFORM_LEGAL_ADDRESS",
    }
    assert {name for name in needed if name not in said} == set()
    assert "s3cret" not in said


async def test_a_demo_ends_with_any_of_its_processes_and_leaves_none_behind(data_dir: Path, tmp_path: Path) -> None:
    environment = clean_environment() | {"VEZA_DATA_DIR": str(data_dir), "PORT": str(free_port())}
    with trio.fail_after(120):
        async with program(*demo(), environment=environment, cwd=tmp_path) as started:
            await started.line("Ctrl-C ends it all.")
            left = psutil.Process(started.pid).children(recursive=True)
            [server] = [each for each in left if each.cmdline()[-1] == "serve"]
            server.terminate()  # which it takes for a wish, and ends well
            assert await started.ended() == 1
    assert started.lines[-1] == "veza: one of the demo's processes ended by itself; what it said is above"
    assert [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("command", ["demo", "sandbox"])
async def test_production_runs_no_stand_ins_and_no_demo(dsn: str, tmp_path: Path, command: str) -> None:
    assert "production" in await refused(command, environment=production(dsn, tmp_path), cwd=tmp_path)


@asynccontextmanager
async def serving(environment: dict[str, str], url: str, cwd: Path) -> AsyncIterator[Program]:
    async with program(*veza("serve"), environment=environment, cwd=cwd) as started:
        await answering(f"{url}/health", started)
        yield started


async def test_the_embedded_database_outlives_a_kill_and_serves_the_next_start(data_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1"
    environment = clean_environment() | {"VEZA_DATA_DIR": str(data_dir), "PORT": str(port), "LOG_FORMAT": "json"}
    account = {"username": "ann", "email": "ann@veza.example", "password": "correct-horse-1"}
    with trio.fail_after(120):
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            async with serving(environment, url, tmp_path) as started:
                registered = (await client.post("/auth/register", json=account)).raise_for_status()
                token = registered.json()["data"]["access_token"]
                server = postmaster(data_dir)
                await started.kill()
            assert psutil.pid_exists(server)
            async with serving(environment, url, tmp_path) as started:
                assert postmaster(data_dir) == server  # found running and used again
                me = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
                assert me.raise_for_status().json()["data"]["username"] == "ann"
                started.terminate()
                assert await started.ended() == 0
            assert not (data_dir / "postgres" / "postmaster.pid").exists()  # the last to leave stopped it
