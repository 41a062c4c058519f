"""One SQLite file per provider: the sandbox's memory, which survives restarts and kill -9.

Calls are synchronous and short, and run straight in the event loop: nothing is awaited inside a transaction, so
each is atomic against every other request as well as against a crash. ``synchronous=FULL`` makes a commit reach
the disk before it is reported.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Object: TypeAlias = "dict[str, Json]"
Bindable: TypeAlias = "str | int | float | bytes | None"

DELIVERIES = """
create table if not exists deliveries (
    id integer primary key, event_id text not null, event_type text not null, body blob not null,
    created real not null, next_at real, attempts integer not null default 0,
    delivered_at real, last_status integer
);
create index if not exists deliveries_due on deliveries (next_at) where next_at is not null;
create table if not exists settings (name text primary key, value text not null);
"""


class Store:
    """A provider's rows. `sqlite3.Error` escapes from every method: a broken disk is not an answer."""

    def __init__(self, path: Path, schema: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.execute("pragma foreign_keys = on")
        self._connection.executescript(schema + DELIVERIES)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or none of it if an exception leaves the block."""
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def rows(self, sql: str, *values: Bindable) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Bindable) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def run(self, sql: str, *values: Bindable) -> int:
        """Execute a statement; answers how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def insert(self, table: str, values: Mapping[str, Bindable]) -> int:
        """Insert one row; answers its rowid. Table and columns come from our code, never from a request."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        cursor = self._connection.execute(
            f"insert into {table} ({columns}) values ({marks})",  # noqa: S608
            tuple(values.values()),
        )
        return int(cursor.lastrowid or 0)

    def setting(self, name: str) -> str | None:
        found = self.row("select value from settings where name = ?", name)
        return None if found is None else str(found["value"])

    def set_setting(self, name: str, value: str) -> None:
        self.run("insert or replace into settings (name, value) values (?, ?)", name, value)


def to_json(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def object_of(text: str | bytes) -> Object:
    """The JSON object in `text`; anything else that JSON can say is a ValueError."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
