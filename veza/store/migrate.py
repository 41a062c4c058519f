"""Numbered SQL migrations, run by yoyo under an advisory lock of ours.

yoyo's own lock is a row, which a killed process leaves behind for ever; an advisory lock goes with its connection. And
each migration is marked in the transaction that applies it, so a kill between the two cannot have it applied twice.

Synchronous: run it before trio starts, or in a thread.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.migrations import read_migrations

from veza.store.errors import UNREADABLE, DatabaseUnavailable

MIGRATIONS: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x76657A61  # "veza": the key of the advisory lock; any number no other program uses on this database
CONNECT_SECONDS: Final = 10
LOCK_SECONDS: Final = 120  # another process's migrations take as long as they take; this is when something is stuck


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc] # yoyo has no types
    """yoyo's PostgreSQL over psycopg, connecting by libpq's own reading of the DSN and locking nothing by itself."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        super().__init__(parse_uri(dsn), "_yoyo_migration")

    def connect(self, dburi: object) -> psycopg.Connection[Any]:
        connection = _connect(self._dsn)
        # Should this process be killed, its half-done migration must not stand in the way of the next one's.
        connection.execute("SET client_connection_check_interval = '1s'")
        return connection

    def copy(self) -> _Backend:
        return _Backend(self._dsn)

    def lock(self, timeout: float = 0) -> AbstractContextManager[None]:
        return nullcontext()

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, object]:
        """yoyo's log row without asking the resolver and the password file who we are: either can hang or fail."""
        return {
            "id": str(uuid.uuid1()),
            "migration_id": migration.id,
            "migration_hash": migration.hash,
            "username": str(os.getuid()),
            "hostname": os.uname().nodename,
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


def migrate(dsn: str, migrations: Path = MIGRATIONS) -> list[str]:
    """Apply what is pending and return its names, in order.

    Raises DatabaseUnavailable when the server can't be reached or another process holds the lock too long, and
    psycopg.Error: the migration that failed is rolled back whole, those before it stand.
    """
    applied: list[str] = []
    with _locked(dsn), _Backend(dsn) as backend:
        for migration in backend.to_apply(read_migrations(str(migrations))):
            _apply(backend, migration)
            applied.append(migration.id)
    return applied


def pending(dsn: str, migrations: Path = MIGRATIONS) -> list[str]:
    """The names of the migrations `migrate` would apply, in order. Raises as it does."""
    with _locked(dsn), _Backend(dsn) as backend:
        return [migration.id for migration in backend.to_apply(read_migrations(str(migrations)))]


def _apply(backend: _Backend, migration: Any) -> None:
    migration.load()
    if not migration.use_transactions:
        backend.apply_one(migration)  # `-- transactional: false`: its author makes it safe to run again
        return
    with backend.transaction():
        migration.process_steps(backend, "apply")
        backend.log_migration(migration, "apply")
        backend.mark_one(migration, log=False)


@contextmanager
def _locked(dsn: str) -> Iterator[None]:
    """Hold the advisory lock. It is polled for: a statement that waits for it would hold a snapshot meanwhile, and
    CREATE INDEX CONCURRENTLY in the process that has the lock would wait for that."""
    until = time.monotonic() + LOCK_SECONDS
    with _connect(dsn) as connection:
        while not _try_lock(connection):
            if time.monotonic() > until:
                raise DatabaseUnavailable(f"another process has held the migration lock for {LOCK_SECONDS} s")
            time.sleep(0.1)
        yield


def _connect(dsn: str) -> psycopg.Connection[Any]:
    if not dsn.startswith(("postgresql://", "postgres://")):  # libpq reads other forms too, and the rest of us does not
        raise DatabaseUnavailable(UNREADABLE)
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.Error as error:
        told = " ".join(str(error).split())
        # Of an address that can't be read, parts are repeated, which may be of the password.
        if isinstance(error, psycopg.ProgrammingError) or "connection option" in told:
            raise DatabaseUnavailable(UNREADABLE) from None
        raise DatabaseUnavailable(f"cannot connect: {told}") from error


def _try_lock(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
    return row is not None and bool(row[0])
