"""Migrations: in order, whole or not at all, by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest

from tests.conftest import Server
from veza.store.migrate import MIGRATIONS, migrate, pending

MIGRATE = """
import sys
from pathlib import Path
from veza.store.migrate import migrate
migrate(sys.argv[1], Path(sys.argv[2]))
"""
FUNCTION = """
-- A function with semicolons, quotes and a dollar in its body.
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    doubled int;
BEGIN
    IF n IS NULL THEN RAISE EXCEPTION 'nothing; at 100%%'; END IF;
    doubled := n * 2;
    RETURN doubled;
END;
$$;
"""


@pytest.fixture
def empty(postgres: Server) -> Iterator[str]:
    name = postgres.create(template="template1")
    yield postgres.named(name)
    postgres.drop(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (n int); INSERT INTO first VALUES (1);")
    (tmp_path / "0002_second.sql").write_text(FUNCTION)
    return tmp_path


def ask(dsn: str, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()


def test_what_is_pending_is_applied_in_order_and_once(empty: str, folder: Path) -> None:
    assert pending(empty, folder) == ["0001_first", "0002_second"]
    assert migrate(empty, folder) == ["0001_first", "0002_second"]
    assert ask(empty, "SELECT twice(n) FROM first") == [(2,)]
    assert pending(empty, folder) == []
    assert migrate(empty, folder) == []
    (folder / "0003_third.sql").write_text("ALTER TABLE first ADD COLUMN m int;")
    assert pending(empty, folder) == ["0003_third"]
    assert migrate(empty, folder) == ["0003_third"]


def test_the_version_before_finds_nothing_to_do_in_a_newer_database(empty: str, folder: Path) -> None:
    migrate(empty, folder)
    (folder / "0002_second.sql").unlink()  # it does not know that one
    assert pending(empty, folder) == []
    assert migrate(empty, folder) == []


def test_no_migrations_are_no_work(empty: str, tmp_path: Path) -> None:
    assert pending(empty, tmp_path) == []
    assert migrate(empty, tmp_path) == []


def test_our_own_migrations_apply_to_an_empty_database(empty: str) -> None:
    names = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
    assert migrate(empty) == names
    assert pending(empty) == []


def test_a_migration_that_fails_leaves_nothing_of_itself_and_those_before_it(empty: str, folder: Path) -> None:
    third = folder / "0003_third.sql"
    third.write_text("CREATE TABLE third (n int); INSERT INTO third VALUES ('not a number');")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        migrate(empty, folder)
    assert ask(empty, "SELECT to_regclass('third')") == [(None,)]
    assert pending(empty, folder) == ["0003_third"]
    third.write_text("CREATE TABLE third (n int);")
    assert migrate(empty, folder) == ["0003_third"]


def test_a_migration_without_a_transaction_can_do_what_needs_none(empty: str, folder: Path) -> None:
    (folder / "0003_index.sql").write_text(
        "-- transactional: false\nCREATE INDEX CONCURRENTLY IF NOT EXISTS by_n ON first (n);"
    )
    assert migrate(empty, folder)[-1] == "0003_index"
    assert ask(empty, "SELECT to_regclass('by_n')::text") == [("by_n",)]


def test_processes_starting_together_apply_each_migration_once(empty: str, folder: Path) -> None:
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(0.3); CREATE INDEX ON first (n);")
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda _: migrate(empty, folder), range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, 3]
    assert ask(empty, "SELECT count(*) FROM first") == [(1,)]


def test_a_process_killed_in_a_migration_leaves_no_lock_and_no_half(empty: str, folder: Path) -> None:
    third = folder / "0003_third.sql"
    third.write_text("CREATE TABLE third (n int); SELECT pg_sleep(60);")
    with subprocess.Popen([sys.executable, "-c", MIGRATE, empty, str(folder)]) as process:
        while not ask(empty, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"):
            assert process.poll() is None
        process.kill()
    third.write_text("CREATE TABLE third (n int);")
    assert migrate(empty, folder) == ["0003_third"]


def test_an_address_may_carry_its_socket_in_the_query_or_in_the_host(empty: str, folder: Path) -> None:
    parts = urlsplit(empty)
    directory = parse_qs(parts.query)["host"][0]
    assert migrate(f"postgresql://postgres@{quote(directory, safe='')}{parts.path}", folder) != []
    assert pending(empty, folder) == []
