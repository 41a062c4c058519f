"""The audit as rows: those of money and admin actions, each written in the transaction of what it tells of, and those
of requests, written many at a time. Kept by the month; what is old goes by dropping months."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Final
from uuid import UUID

import asyncpg

from veza.domain.audit import By, Entry, Place, Wanted, months_over, months_wanted
from veza.store.admins import check_still_admin
from veza.store.bridge import Database, Record, Transaction
from veza.store.errors import TryAgain
from veza.store.patterns import beginning

LOCK: Final = 0x61756474  # "audt": the key of the advisory lock of whoever makes or drops months
PREFIX: Final = "audit_entries_"  # a month's name goes on with its year and number

STATEMENT_SECONDS: Final = 2.0  # a batch takes some 20 ms, and the keeper's time at the end is short
WRITE_SECONDS: Final = 3.0

COLUMNS: Final = "id, at, actor_id, action, resource, method, status, request_id, address"
APPEND: Final = f"""
INSERT INTO audit_entries ({COLUMNS})
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::smallint[],
                     $8::text[], $9::text[])
ON CONFLICT DO NOTHING
"""
# Those of the months, whatever else is attached: the default partition has no month for a name.
MONTHS: Final = """
SELECT to_date(substr(relname, 15), 'YYYY_MM') AS month FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE inhparent = 'audit_entries'::regclass AND relname ~ '^audit_entries_[0-9]{4}_[0-9]{2}$'
"""
# Nobody waits behind one who waits for a lock on the whole table: a second, then another time.
PATIENCE: Final = "SET LOCAL lock_timeout = '1s'"

# ValueError: what the driver can't put into the protocol's form.
UNWRITABLE: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
)


class Unwritable(Exception):  # noqa: N818 - named for what the caller learns
    """Nothing was written: among the rows is one that the table does not take, now or ever."""


async def write(
    tx: Transaction, entry_id: UUID, by: By, action: str, resource: str, details: Mapping[str, object]
) -> None:
    """Write one row. ``details`` must hold no secret, and of people no more than identifiers and an admin's reason.

    What somebody does as an admin stands or falls with their being one at this moment: their request was let in
    earlier. So it comes after whatever else the transaction waits for. Raises Forbidden and TryAgain
    (`check_still_admin`).
    """
    if by.as_admin:
        await check_still_admin(tx, by.user_id)
    await tx.execute(
        "INSERT INTO audit_entries (id, actor_id, action, resource, request_id, address, details)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        entry_id,
        by.user_id,
        action,
        resource,
        by.request_id,
        by.address,
        json.dumps(details, default=str),
    )


class AuditRows:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write what requests did, each row once however often it is given. ``details`` are not written.

        Raises StoreError, Unwritable.
        """
        columns = zip(*map(_values, entries), strict=True)
        try:
            async with self._db.transaction(statement_seconds=STATEMENT_SECONDS, seconds=WRITE_SECONDS) as tx:
                await tx.execute(APPEND, *map(list, columns))
        except UNWRITABLE as error:
            raise Unwritable(type(error).__name__) from error

    async def record(self, entry_id: UUID, by: By, action: str, resource: str, details: Mapping[str, object]) -> None:
        """Write what is about to be done to what no row tells of, in a transaction of its own. Raises StoreError."""
        async with self._db.transaction() as tx:
            await write(tx, entry_id, by, action, resource, details)

    async def page(self, wanted: Wanted, before: Place | None, limit: int) -> list[Entry]:
        """The newest of those wanted that stand before a place."""
        args: list[object] = []
        conditions = " AND ".join(_conditions(wanted, before, args)) or "true"
        rows = await self._db.fetch_planned(
            f"SELECT {COLUMNS}, details FROM audit_entries WHERE {conditions}"
            f" ORDER BY at DESC, id DESC LIMIT {limit:d}",
            *args,
        )
        return list(map(_entry, rows))

    async def make_months(self) -> int:
        """Make the months that are wanted and not there yet; how many rows were waiting for theirs.

        Another process that does so just then is left to it. Raises StoreError.
        """
        with _told_of_locks():
            async with self._db.transaction() as tx:
                if not await _turn(tx):
                    return 0
                moved: int = 0
                if await tx.fetchval("SELECT EXISTS (SELECT FROM audit_entries_default)"):
                    moved = await tx.fetchval("SELECT audit_empty_default()")
                for month in months_wanted(await _now(tx)):
                    await tx.fetchval("SELECT audit_make_month($1)", month)
                return moved

    async def prune(self, retention_days: int) -> list[date]:
        """Drop the months that have been over for so many days; which those were. Raises StoreError."""
        with _told_of_locks():
            async with self._db.transaction() as tx:
                if not await _turn(tx):
                    return []
                there = [row["month"] for row in await tx.fetch(MONTHS)]
                over = months_over(there, await _now(tx), retention_days)
                for month in over:
                    await tx.execute(f"DROP TABLE {PREFIX}{month:%Y_%m}")
                return over


async def _turn(tx: Transaction) -> bool:
    await tx.execute(PATIENCE)
    ours: bool = await tx.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK)
    return ours


async def _now(tx: Transaction) -> datetime:
    """The database's: all processes agree on it."""
    now: datetime = await tx.fetchval("SELECT now()")
    return now


@contextmanager
def _told_of_locks() -> Iterator[None]:
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        raise TryAgain("somebody held the audit's table for too long") from error


def _values(entry: Entry) -> tuple[object, ...]:
    return (
        entry.id,
        entry.at,
        entry.user_id,
        entry.action,
        entry.resource,
        entry.method,
        entry.status,
        entry.request_id,
        entry.address,
    )


def _conditions(wanted: Wanted, before: Place | None, args: list[object]) -> Iterator[str]:
    def bind(value: object) -> str:
        args.append(value)
        return f"${len(args)}"

    equal = {
        "actor_id": wanted.user_id,
        "action": wanted.action,
        "method": wanted.method,
        "status": wanted.status,
        "request_id": wanted.request_id,
    }
    for column, value in equal.items():
        if value is not None:
            yield f"{column} = {bind(value)}"
    if wanted.resource:
        yield f"resource LIKE {bind(beginning(wanted.resource))}"
    if wanted.since is not None:
        yield f"at >= {bind(wanted.since)}"
    if wanted.until is not None:
        yield f"at < {bind(wanted.until)}"
    if before is not None:
        # The first is in the second, and spares the months after it.
        yield f"at <= {bind(before.at)} AND (at, id) < ({bind(before.at)}, {bind(before.id)})"


def _entry(row: Record) -> Entry:
    return Entry(
        row["id"],
        row["at"],
        row["actor_id"],
        row["action"],
        row["resource"],
        row["method"],
        row["status"],
        row["request_id"],
        row["address"],
        json.loads(row["details"]),
    )
