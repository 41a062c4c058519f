"""Debian's own PostgreSQL as an external server: the oldest that Veza supports, and not the one it brings along."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import server_directory
from tests.house import free_port

PROGRAMS = Path("/usr/lib/postgresql")


@contextmanager
def debian_postgres() -> Iterator[str]:
    """The DSN of an empty database on a server on loopback, stopped at the end of the block."""
    port = free_port()
    with server_directory() as directory:
        if os.getuid() == 0:
            shutil.chown(directory, "postgres")
        data = directory / "data"
        _run("initdb", "-D", data, "-U", "veza", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-p {port} -h 127.0.0.1 -k {directory} -F"
        _run("pg_ctl", "start", "-w", "-D", data, "-o", options, "-l", directory / "log")
        try:
            yield f"postgresql://veza@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)


def _run(program: str, *arguments: object) -> None:
    """Run one of the server's programs, as a user it accepts: never root."""
    bin_directory = min(PROGRAMS.glob("*/bin"), key=lambda found: int(found.parent.name))
    command = [str(bin_directory / program), *map(str, arguments)]
    if os.getuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)
