"""The embedded server: started where there is none, joined where there is one, stopped by the last to leave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import server_directory
from veza.store.embedded import embedded_dsn

pytestmark = pytest.mark.slow

USER = """
import sys
from pathlib import Path
from veza.store.embedded import embedded_dsn
with embedded_dsn(Path(sys.argv[1])) as dsn:
    print(dsn, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A second user of the server, there until it is told to leave or is killed."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    with subprocess.Popen(
        [sys.executable, "-W", "always", "-c", USER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("postgresql://")
        yield process
        process.kill()


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().partition("\n")[0]))


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def ask(dsn: str, sql: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else None


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Deeper than a UNIX socket's path may be."""
    with server_directory() as directory:
        yield directory / ("d" * 60) / ("e" * 60)


def test_it_serves_from_a_directory_too_deep_for_a_socket(data_dir: Path) -> None:
    with embedded_dsn(data_dir) as dsn:
        assert ask(dsn, "SELECT current_setting('server_version_num')::int >= 180000") == [(True,)]
        ask(dsn, "CREATE TABLE kept (n int)")
        process = postmaster(data_dir)
        assert alive(process)
    assert not alive(process)


def test_what_was_written_is_there_at_the_next_start(data_dir: Path) -> None:
    with embedded_dsn(data_dir) as dsn:
        assert ask(dsn, "SELECT count(*) FROM kept") == [(0,)]


def test_the_last_to_leave_stops_it(data_dir: Path) -> None:
    with another_process(data_dir) as other:
        with embedded_dsn(data_dir) as dsn:
            assert ask(dsn, "SELECT 1") == [(1,)]
        assert ask(dsn, "SELECT 1") == [(1,)]
        process = postmaster(data_dir)
        _, said = other.communicate("leave\n", timeout=20)
    assert said == ""  # no warning of a missing login session reaches the user
    assert not alive(process)


def test_a_killed_user_neither_breaks_the_server_nor_keeps_it_running(data_dir: Path) -> None:
    with another_process(data_dir) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(10)
    process = postmaster(data_dir)
    with embedded_dsn(data_dir) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]
        assert postmaster(data_dir) == process
    assert not alive(process)


def test_a_killed_server_starts_again_with_what_was_committed(data_dir: Path) -> None:
    with embedded_dsn(data_dir) as dsn:
        ask(dsn, "INSERT INTO kept VALUES (1)")
        process = postmaster(data_dir)
        everyone = [process, *process.children()]
        process.kill()
        while any(map(alive, everyone)):  # the others leave when they see their postmaster gone
            continue
    with embedded_dsn(data_dir) as dsn:
        assert ask(dsn, "SELECT n FROM kept") == [(1,)]


def test_a_stale_pid_that_now_is_another_program_does_not_pass_for_a_server(data_dir: Path) -> None:
    stale = data_dir / "postgres" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{data_dir}\n1700000000\n5432\n/tmp\n\n  1 1\nready   \n")
    with embedded_dsn(data_dir) as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)]


# -- when it does not start --------------------------------------------------------------------------------------------


@pytest.fixture
def stopped() -> Iterator[Path]:
    """The data directory of a server that has run before."""
    with server_directory() as directory:
        with embedded_dsn(directory) as dsn:
            assert ask(dsn, "SELECT 1") == [(1,)]
        yield directory
        for process in psutil.process_iter(["cmdline"]):  # what was still starting, by its own directory
            if str(directory / "postgres") in (process.info["cmdline"] or ()):
                process.kill()


def refusal_of_a_command(data_dir: Path) -> str:
    """All that `veza migrate` says, which fails."""
    environment = {**os.environ, "VEZA_DATA_DIR": str(data_dir), "ENVIRONMENT": "development"}
    environment.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "veza", "migrate"]
    done = subprocess.run(command, env=environment, cwd=data_dir, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_one_that_takes_too_long_ends_a_command_with_one_sentence_that_says_where_its_log_is(stopped: Path) -> None:
    files = stopped / "postgres"
    os.mkfifo(files / "never")
    with (files / "postgresql.conf").open("a") as settings:
        settings.write(f"include '{files / 'never'}'\n")  # nobody writes what it reads there
    said = refusal_of_a_command(stopped)
    assert re.fullmatch(
        rf"veza: the embedded PostgreSQL was not ready after 1\d s, and may be still starting: try again in a while; "
        rf"its log is {files / 'log'}\n",
        said,
    ), said


def test_one_that_cannot_start_does_so_at_once(stopped: Path) -> None:
    files = stopped / "postgres"
    with (files / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    said = refusal_of_a_command(stopped)
    assert re.fullmatch(
        rf"veza: the embedded PostgreSQL could not be started \(it gave up after \d s\); its log is {files / 'log'}\n",
        said,
    ), said
    assert "no_such_setting" in (files / "log").read_text()
