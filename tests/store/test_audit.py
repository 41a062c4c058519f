"""The audit's rows: written once, never changed, kept by the month, dropped by the month, read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio

from tests.conftest import Server
from tests.store.conftest import Onlooker
from veza.domain.audit import By, Entry, Place, Wanted, following, month_of, months_wanted
from veza.domain.ids import system_mint
from veza.store import audit
from veza.store.audit import PREFIX, AuditRows, Unwritable
from veza.store.bridge import Database
from veza.store.errors import TryAgain
from veza.store.migrate import MIGRATIONS, migrate

ANN, BOB = UUID(int=1), UUID(int=2)
DAYS = 400

new_id = system_mint()


@pytest.fixture
async def rows(db: Database) -> AsyncIterator[AuditRows]:
    with trio.fail_after(60):
        yield AuditRows(db)


async def now(db: Database) -> datetime:
    moment: datetime = await db.fetchval("SELECT now()")
    return moment


def entry(at: datetime, **changes: Any) -> Entry:
    made = Entry(
        new_id(), at, ANN, "cloud.files.delete", f"cloud/files/{BOB}", "DELETE", 200, "request-1", "203.0.113.5"
    )
    return replace(made, **changes)


async def partitions(db: Database) -> set[str]:
    found = await db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit_entries'::regclass"
    )
    return {row["name"] for row in found}


async def where(db: Database, entry_id: UUID) -> str:
    name: str = await db.fetchval("SELECT tableoid::regclass::text FROM audit_entries WHERE id = $1", entry_id)
    return name


async def make(db: Database, month: date) -> None:
    async with db.transaction() as tx:
        await tx.fetchval("SELECT audit_make_month($1)", month)


# -- writing -----------------------------------------------------------------------------------------------------------


async def test_what_is_written_is_what_is_read(db: Database, rows: AuditRows) -> None:
    moment = await now(db)
    entries = [
        entry(moment),
        entry(moment - timedelta(seconds=1), user_id=None, status=None, request_id=None, address=None),
    ]
    await rows.append(entries)
    assert await rows.page(Wanted(), None, 10) == entries


async def test_what_is_written_again_stands_once(db: Database, rows: AuditRows) -> None:
    moment = await now(db)
    first, second, third = (entry(moment - timedelta(seconds=each)) for each in range(3))
    await rows.append([first, second])
    await rows.append([second, third])
    assert await rows.page(Wanted(), None, 10) == [first, second, third]


async def test_entries_of_transactions_and_of_requests_stand_side_by_side(db: Database, rows: AuditRows) -> None:
    async with db.transaction() as tx:
        await audit.write(tx, new_id(), By(BOB, "request-2", "::1"), "transfer.hold", "transfer:1", {"why": "fraud"})
    await rows.append([entry(await now(db))])
    requested, held = await rows.page(Wanted(), None, 10)
    assert (requested.action, held.action) == ("cloud.files.delete", "transfer.hold")
    assert (held.user_id, held.details, held.method, held.status) == (BOB, {"why": "fraud"}, None, None)


@pytest.mark.parametrize(
    "odd", [{"action": "nul\0"}, {"resource": "\ud800"}, {"status": 70_000}, {"action": None}, {"status": "ok"}]
)
async def test_a_row_that_the_table_does_not_take_is_told_apart_from_a_database_that_is_away(
    db: Database, rows: AuditRows, odd: dict[str, object]
) -> None:
    moment = await now(db)
    with pytest.raises(Unwritable):
        await rows.append([entry(moment), entry(moment, **odd)])
    assert await rows.page(Wanted(), None, 10) == []
    await rows.append([entry(moment)])  # and the connection is as good as before
    assert len(await rows.page(Wanted(), None, 10)) == 1


# -- append-only -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["UPDATE {} SET resource = ''", "DELETE FROM {}", "TRUNCATE {}"])
async def test_nothing_changes_or_removes_a_row_not_even_through_its_partition(
    db: Database, rows: AuditRows, onlooker: Onlooker, change: str
) -> None:
    await make(db, date(2026, 2, 1))
    await rows.append([entry(await now(db)), entry(datetime(1999, 9, 9, tzinfo=UTC))])
    tables = {"audit_entries", *await partitions(db)}
    assert len(tables) >= 6
    for table in tables:
        with pytest.raises(psycopg.errors.RestrictViolation):
            onlooker.ask(change.format(table))
    assert len(await rows.page(Wanted(), None, 10)) == 2


# -- months ------------------------------------------------------------------------------------------------------------


async def test_this_month_and_the_next_two_are_there_from_the_start(db: Database, rows: AuditRows) -> None:
    moment = await now(db)
    wanted = {f"{PREFIX}{month:%Y_%m}" for month in months_wanted(moment)}
    assert await partitions(db) == {*wanted, "audit_entries_default"}
    edge = datetime.combine(following(month_of(moment)), datetime.min.time(), tzinfo=UTC)
    last, first = entry(edge - timedelta(microseconds=1)), entry(edge)
    await rows.append([last, first])
    assert await where(db, last.id) == f"{PREFIX}{month_of(moment):%Y_%m}"
    assert await where(db, first.id) == f"{PREFIX}{edge:%Y_%m}"


async def test_months_are_made_once_they_are_wanted_and_only_once(
    db: Database, rows: AuditRows, onlooker: Onlooker
) -> None:
    before = await partitions(db)
    onlooker.connection.execute(f"DROP TABLE {PREFIX}{await now(db):%Y_%m}".encode())
    assert await partitions(db) < before
    assert [await rows.make_months() for _ in range(2)] == [0, 0]
    assert await partitions(db) == before


async def test_a_row_without_a_month_is_taken_and_gets_one(db: Database, rows: AuditRows) -> None:
    strays = [entry(datetime(year, 7, 4, tzinfo=UTC)) for year in (2001, 2002, 2002)]
    await rows.append(strays)
    assert await where(db, strays[0].id) == "audit_entries_default"
    assert [await rows.make_months() for _ in range(2)] == [3, 0]
    assert [await where(db, stray.id) for stray in strays] == [f"{PREFIX}{year}_07" for year in (2001, 2002, 2002)]
    assert {each.id for each in await rows.page(Wanted(), None, 10)} == {stray.id for stray in strays}
    late = entry(datetime(2003, 1, 1, tzinfo=UTC))
    await rows.append([late])
    assert await where(db, late.id) == "audit_entries_default"


async def test_what_is_older_than_is_kept_goes_by_the_month(db: Database, rows: AuditRows) -> None:
    moment = await now(db)
    kept_since = moment - timedelta(days=DAYS)
    straddling = month_of(kept_since)  # some of it is still to be kept
    before = month_of(kept_since.replace(day=1) - timedelta(days=1))
    for month in (date(2001, 7, 1), before, straddling):
        await make(db, month)
    old = entry(datetime.combine(before, datetime.min.time(), tzinfo=UTC))
    kept = entry(datetime.combine(straddling, datetime.min.time(), tzinfo=UTC))
    young = entry(moment)
    await rows.append([entry(datetime(2001, 7, 4, tzinfo=UTC)), old, kept, young])
    assert [await rows.prune(DAYS) for _ in range(2)] == [[date(2001, 7, 1), before], []]
    assert await rows.page(Wanted(), None, 10) == [young, kept]


async def test_processes_that_mind_the_months_at_once_do_not_get_in_each_others_way(
    db: Database, rows: AuditRows, onlooker: Onlooker
) -> None:
    for year in range(2001, 2011):
        await make(db, date(year, 1, 1))
    await rows.append([entry(datetime(2000, month, 1, tzinfo=UTC)) for month in range(1, 7)])
    dropped: list[date] = []
    moved: list[int] = []

    async def mind() -> None:
        for _ in range(5):
            moved.append(await rows.make_months())
            dropped.extend(await rows.prune(DAYS))

    async def write() -> None:
        for _ in range(20):
            await rows.append([entry(await now(db))])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(mind)
            nursery.start_soon(write)
    assert sorted(dropped) == sorted({*dropped})
    assert len(dropped) == 16
    assert sum(moved) == 6
    assert len(await rows.page(Wanted(), None, 100)) == 80


async def test_who_can_t_have_the_table_comes_another_time(db: Database, rows: AuditRows, dsn: str) -> None:
    await make(db, date(2001, 7, 1))
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT count(*) FROM audit_entries")  # a long look, in a transaction that stays open
        with pytest.raises(TryAgain):
            await rows.prune(DAYS)
        await rows.append([entry(await now(db))])  # and nobody is kept waiting
    assert await rows.prune(DAYS) == [date(2001, 7, 1)]


# -- what was there before ---------------------------------------------------------------------------------------------


@pytest.fixture
def former(postgres: Server, tmp_path: Path) -> Iterator[str]:
    """A database as it was before the audit was kept by the month."""
    for path in MIGRATIONS.glob("00*.sql"):
        if path.name < "0025":
            copy(path, tmp_path)
    name = postgres.create(template="template1")
    migrate(postgres.named(name), tmp_path)
    yield postgres.named(name)
    postgres.drop(name)


def test_the_entries_from_before_are_all_there(former: str) -> None:
    seen = b"SELECT id, at, actor_id, action, resource, request_id, address, details FROM audit_entries ORDER BY id"
    with psycopg.connect(former, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO audit_entries SELECT gen_random_uuid(), now() - n * interval '9 days', gen_random_uuid(),"
            " 'transfer.retry', 'transfer:' || n, 'request-' || n, '203.0.113.5', jsonb_build_object('n', n)"
            " FROM generate_series(0, 99) AS n"
        )
        before = connection.execute(seen).fetchall()
        migrate(former)
        assert connection.execute(seen).fetchall() == before
        [strays] = connection.execute("SELECT count(*) FROM audit_entries_default").fetchall()
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute("DELETE FROM audit_entries")
    assert len(before) == 100
    assert strays == (0,)


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_each_filter_finds_what_it_says(db: Database, rows: AuditRows) -> None:
    moment = await now(db)
    plain = entry(moment)
    others = {
        "user_id": entry(moment, user_id=BOB),
        "action": entry(moment, action="cloud.files.share.post"),
        "resource": entry(moment, resource="cloud/filesystem"),
        "method": entry(moment, method="POST"),
        "status": entry(moment, status=403),
        "request_id": entry(moment, request_id="request-9"),
    }
    await rows.append([plain, *others.values()])
    for name, other in others.items():
        wanted = replace(Wanted(), **{name: getattr(other, name)})
        assert await rows.page(wanted, None, 10) == [other], name
    earlier = entry(moment - timedelta(hours=1))
    await rows.append([earlier])
    assert await rows.page(Wanted(until=moment), None, 10) == [earlier]
    assert earlier not in await rows.page(Wanted(since=moment), None, 10)
    assert len(await rows.page(Wanted(since=moment), None, 10)) == 7
    assert len(await rows.page(Wanted(user_id=ANN, status=200, resource="cloud/files/"), None, 10)) == 5


@pytest.mark.parametrize("text", ["%", "_", "\\", "cloud_files", "cloud/%"])
async def test_nothing_in_a_prefix_stands_for_anything_else(db: Database, rows: AuditRows, text: str) -> None:
    moment = await now(db)
    odd = entry(moment, resource=f"{text}x")
    await rows.append([entry(moment), odd])
    assert await rows.page(Wanted(resource=text), None, 10) == [odd]


async def test_pages_do_not_shift_while_rows_arrive(db: Database, rows: AuditRows) -> None:
    moment = await now(db)
    for month in (date(2026, 2, 1), date(2026, 1, 1)):
        await make(db, month)
    # Several of one moment, several months, and some of no month.
    times = [
        moment,
        *[moment - timedelta(seconds=1)] * 5,
        *(datetime(2026, 3 - back, 7, tzinfo=UTC) for back in (1, 2)),
    ]
    entries = [entry(at) for at in [*times, *[datetime(1999, 1, 1, tzinfo=UTC)] * 3]]
    await rows.append(entries)
    expected = sorted(entries, key=lambda each: (each.at, each.id), reverse=True)
    found: list[Entry] = []
    place: Place | None = None
    while page := await rows.page(Wanted(), place, 2):
        found += page
        place = Place.parse(str(Place(page[-1].at, page[-1].id)))
        await rows.append([entry(moment + timedelta(seconds=len(found)))])
    assert found == expected


@pytest.fixture
async def many(db: Database, rows: AuditRows) -> AuditRows:
    """Enough that going through all of them is never the cheapest: of a thousand people, in three months."""
    async with db.transaction() as tx:
        for month in range(1, 4):
            await tx.fetchval("SELECT audit_make_month($1)", date(2026, month, 1))
        await tx.execute(
            "INSERT INTO audit_entries (id, at, actor_id, action, resource, method, status, request_id)"
            " SELECT gen_random_uuid(), timestamptz '2026-01-01' + n * interval '4 minutes',"
            " ('00000000-0000-0000-0000-' || lpad((n % 1000)::text, 12, '0'))::uuid, 'action.' || n % 500,"
            " 'things/' || n % 700, 'POST', 200 + n % 300, 'request-' || n FROM generate_series(1, 30000) AS n"
        )
        await tx.execute("ANALYZE audit_entries")
    return rows


MOMENT = datetime(2026, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "before"),
    [
        (Wanted(), None),
        (Wanted(), Place(MOMENT, ANN)),
        (Wanted(user_id=UUID(int=7)), None),
        (Wanted(user_id=UUID(int=7)), Place(MOMENT, ANN)),
        (Wanted(action="action.7"), None),
        (Wanted(resource="things/77"), None),
        (Wanted(status=403), Place(MOMENT, ANN)),
        (Wanted(request_id="request-77"), None),
        (Wanted(since=MOMENT, until=MOMENT + timedelta(hours=1)), None),
    ],
    ids=["all", "further", "user", "user-further", "action", "resource", "status", "request", "hours"],
)
async def test_what_an_operator_asks_for_is_found_by_an_index(
    db: Database, many: AuditRows, monkeypatch: pytest.MonkeyPatch, wanted: Wanted, before: Place | None
) -> None:
    plans: list[str] = []
    planned = Database.fetch_planned

    async def explained(self: Database, sql: str, *args: object) -> object:
        plans.extend(row[0] for row in await planned(self, f"EXPLAIN {sql}", *args))
        return await planned(self, sql, *args)

    monkeypatch.setattr(Database, "fetch_planned", explained)
    assert await many.page(wanted, before, 20)
    # The months to come and the default partition are empty: whatever way is taken there is as good.
    assert [line for line in plans if "Seq Scan on audit_entries_2026_0" in line] == []
    assert any("Index" in line for line in plans)
