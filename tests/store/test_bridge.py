"""The bridge's promises to its callers, on a server that behaves."""

# ruff: noqa: PT012 - what raises is a whole transaction, its body included

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
import trio

from tests.store.conftest import Onlooker, until
from veza.store.bridge import Database, Patience
from veza.store.errors import DatabaseUnavailable, NotCommitted, TryAgain
from veza.store.wire import Wire


@pytest.fixture
async def notes(db: Database) -> Database:
    """A database with a table to write in."""
    async with db.transaction() as tx:
        await tx.execute("CREATE TABLE notes (n int UNIQUE)")
    return db


async def insert(db: Database, n: int) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO notes VALUES ($1)", n)


async def numbers(db: Database) -> list[int]:
    return [row["n"] for row in await db.fetch("SELECT n FROM notes ORDER BY n")]


async def test_reads_answer_with_rows_a_row_and_a_value(db: Database) -> None:
    assert [tuple(row) for row in await db.fetch("SELECT 1 AS a, 'x' AS b")] == [(1, "x")]
    row = await db.fetchrow("SELECT $1::int + 1 AS more", 41)
    assert row is not None
    assert row["more"] == 42
    assert await db.fetchrow("SELECT 1 WHERE false") is None
    assert await db.fetchval("SELECT now() IS NOT NULL") is True


async def test_an_answer_larger_than_one_read_of_the_socket_arrives_whole(db: Database) -> None:
    rows = await db.fetch("SELECT i, repeat('x', 1000) AS text FROM generate_series(1, 3000) i")
    assert [row["i"] for row in rows] == list(range(1, 3001))


async def test_a_question_larger_than_the_sockets_buffer_arrives_whole(notes: Database) -> None:
    text = "é" * 4_000_000
    assert await notes.fetchval("SELECT length($1::text)", text) == 4_000_000
    async with notes.transaction() as tx:
        await tx.executemany("INSERT INTO notes VALUES ($1)", [(n,) for n in range(50_000)])
    assert await notes.fetchval("SELECT count(*) FROM notes") == 50_000


async def test_a_write_outside_a_transaction_is_refused(notes: Database) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await notes.fetch("INSERT INTO notes VALUES (1) RETURNING n")
    assert await numbers(notes) == []


async def test_a_transaction_commits_what_its_body_did(notes: Database) -> None:
    async with notes.transaction() as tx:
        assert await tx.execute("INSERT INTO notes VALUES (1), (2)") == "INSERT 0 2"
        assert await tx.fetchval("SELECT count(*) FROM notes") == 2
    assert await numbers(notes) == [1, 2]


async def test_an_exception_rolls_back_and_is_over_at_the_server_when_it_leaves(
    notes: Database, onlooker: Onlooker
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with notes.transaction() as tx:
            await tx.execute("INSERT INTO notes VALUES (1)")
            _ = 1 // 0
    assert onlooker.pids("idle in transaction%") == []
    assert await numbers(notes) == []


async def test_a_constraint_violation_stays_the_drivers_own_and_the_connection_serves_on(notes: Database) -> None:
    await insert(notes, 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(notes, 1)
    await insert(notes, 2)
    assert await numbers(notes) == [1, 2]
    assert notes.statistics().replaced_total == 0


async def test_a_swallowed_failure_does_not_pass_for_a_commit(notes: Database) -> None:
    await insert(notes, 1)
    with pytest.raises(NotCommitted):
        async with notes.transaction() as tx:
            await tx.execute("INSERT INTO notes VALUES (2)")
            with pytest.raises(asyncpg.UniqueViolationError):
                await tx.execute("INSERT INTO notes VALUES (1)")
    assert await numbers(notes) == [1]


async def test_a_deferred_constraint_that_fails_the_commit_is_no_unknown_outcome(notes: Database) -> None:
    async with notes.transaction() as tx:
        await tx.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(asyncpg.UniqueViolationError):
        async with notes.transaction() as tx:
            await tx.execute("INSERT INTO late VALUES (1), (1)")
    assert await notes.fetchval("SELECT count(*) FROM late") == 0


@pytest.mark.parametrize("code", ["53100", "53200", "53400"])  # disk full, out of memory, a limit that was set
async def test_a_server_that_lacks_something_is_unavailable(notes: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with notes.transaction() as tx:
            await tx.execute(f"DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '{code}'; END $$")
    assert await notes.fetch("SELECT n FROM notes") == []


async def test_a_server_that_takes_no_writes_is_unavailable_and_its_connection_given_up(notes: Database) -> None:
    """As a standby answers, to which our address may have led."""
    with pytest.raises(DatabaseUnavailable):
        async with notes.transaction() as tx:
            await tx.execute("SET TRANSACTION READ ONLY")
            await tx.execute("INSERT INTO notes VALUES (1)")
    assert notes.statistics().replaced_total == 1


async def test_a_deadlock_asks_its_loser_to_try_again(notes: Database) -> None:
    async with notes.transaction() as tx:
        await tx.execute("INSERT INTO notes VALUES (1), (2)")
    outcomes: list[str] = []
    met = [trio.Event(), trio.Event()]

    async def lock(first: int) -> None:
        try:
            async with notes.transaction() as tx:
                await tx.fetch("SELECT 1 FROM notes WHERE n = $1 FOR UPDATE", first + 1)
                met[first].set()
                await met[1 - first].wait()
                await tx.fetch("SELECT 1 FROM notes WHERE n = $1 FOR UPDATE", 2 - first)
        except TryAgain:
            outcomes.append("try again")
        else:
            outcomes.append("committed")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock, 0)
            nursery.start_soon(lock, 1)
    assert sorted(outcomes) == ["committed", "try again"]


async def test_a_transaction_costs_one_round_trip_more_at_each_end(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await insert(notes, 1)  # so that the statement is prepared
    trips = 0
    read_until = Wire._read_until

    async def counted(wire: Wire, future: Any) -> None:
        nonlocal trips
        trips += 1
        await read_until(wire, future)

    monkeypatch.setattr(Wire, "_read_until", counted)
    await insert(notes, 2)
    assert trips == 3


async def test_a_statement_past_its_time_is_stopped_by_the_server_and_rolled_back(notes: Database) -> None:
    with pytest.raises(DatabaseUnavailable), trio.fail_after(5):
        async with notes.transaction(statement_seconds=0.05) as tx:
            await tx.execute("INSERT INTO notes VALUES (1)")
            await tx.fetchval("SELECT pg_sleep(10)")
    assert await numbers(notes) == []
    assert await notes.fetchval("SELECT current_setting('statement_timeout')") == "0"


async def test_a_transaction_past_its_time_is_rolled_back(notes: Database, onlooker: Onlooker) -> None:
    with pytest.raises(DatabaseUnavailable), trio.fail_after(5):
        async with notes.transaction(seconds=0.1) as tx:
            await tx.execute("INSERT INTO notes VALUES (1)")
            await trio.sleep_forever()
    assert onlooker.pids("idle in transaction%") == []
    assert await numbers(notes) == []


async def test_a_cancelled_writer_commits_once_begun(notes: Database) -> None:
    with trio.CancelScope() as scope:
        async with notes.transaction() as tx:
            scope.cancel()
            await tx.execute("INSERT INTO notes VALUES (1)")
            await tx.fetchval("SELECT pg_sleep(0.01)")
            await tx.execute("INSERT INTO notes VALUES (2)")
    assert await numbers(notes) == [1, 2]


async def test_a_writer_whose_deadline_has_passed_never_begins(notes: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await insert(notes, 1)
    assert scope.cancelled_caught
    assert await numbers(notes) == []


async def test_a_scope_inside_the_body_that_interrupts_a_statement_undoes_the_transaction(notes: Database) -> None:
    with pytest.raises(NotCommitted):
        async with notes.transaction() as tx:
            await tx.execute("INSERT INTO notes VALUES (1)")
            with trio.move_on_after(0.02):
                await tx.fetchval("SELECT pg_sleep(10)")
    assert await numbers(notes) == []


async def test_a_cancelled_read_stops_at_the_server_too(db: Database, onlooker: Onlooker) -> None:
    with trio.fail_after(1), trio.move_on_after(0.05) as scope:
        await db.fetchval("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    await until(lambda: not onlooker.busy_pids())
    await until(lambda: db.statistics().idle == 1)
    assert db.statistics().cleaned_total == 1
    assert await db.fetchval("SELECT 7") == 7


async def test_a_snapshot_sees_one_moment(notes: Database) -> None:
    async with notes.snapshot() as before:
        assert await before.fetch("SELECT n FROM notes") == []
        await insert(notes, 1)
        assert await before.fetch("SELECT n FROM notes") == []
    assert await numbers(notes) == [1]


async def test_a_cancelled_snapshot_leaves_no_transaction_open(db: Database, onlooker: Onlooker) -> None:
    with trio.move_on_after(0.02):
        async with db.snapshot() as view:
            await view.fetchval("SELECT 1")
            await trio.sleep_forever()
    await until(lambda: db.statistics().idle == 1)
    assert onlooker.pids("idle in transaction%") == []


async def test_waiters_are_served_in_the_order_they_came(dsn: str) -> None:
    served: list[int] = []

    async def read(number: int) -> None:
        served.append(await db.fetchval("SELECT $1::int", number))

    async with Database.open(dsn, size=1) as db, trio.open_nursery() as nursery, db.transaction():
        for number in range(20):
            nursery.start_soon(read, number)
            while db.statistics().waiting <= number:
                await trio.lowlevel.checkpoint()
    assert served == list(range(20))


async def test_a_cancelled_waiter_leaks_no_slot(dsn: str) -> None:
    async with Database.open(dsn, size=1) as db:
        async with db.transaction():
            for _ in range(50):
                with trio.move_on_after(0.001) as scope:
                    await db.fetchval("SELECT 1")
                assert scope.cancelled_caught
            assert db.statistics().waiting == 0
        with trio.fail_after(1):
            assert await db.fetchval("SELECT 1") == 1
        assert (db.statistics().in_use, db.statistics().idle) == (0, 1)


async def test_a_busy_pool_turns_away_those_it_cannot_serve_in_time(dsn: str) -> None:
    async with Database.open(dsn, size=1, patience=Patience(turn=0.05)) as db:
        async with db.transaction():
            with pytest.raises(DatabaseUnavailable):
                await db.fetchval("SELECT 1")
        assert await db.fetchval("SELECT 1") == 1


async def test_the_pool_opens_no_more_than_its_size(dsn: str, onlooker: Onlooker) -> None:
    async with Database.open(dsn, size=3) as db:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(db.fetchval, "SELECT pg_sleep(0.005)")
        assert len(onlooker.pids()) == 3
        assert db.statistics().acquired_total >= 30
    assert onlooker.pids() == []


async def test_leaving_with_an_error_raises_that_error_and_closes_every_connection(
    dsn: str, onlooker: Onlooker
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Database.open(dsn) as db:
            await db.fetchval("SELECT 1")
            _ = 1 // 0
    assert onlooker.pids() == []


async def test_leaving_cuts_off_what_still_runs_after_its_grace(dsn: str, onlooker: Onlooker) -> None:
    async with trio.open_nursery() as nursery:
        with trio.fail_after(4):
            async with Database.open(dsn) as db:

                async def read() -> None:
                    with pytest.raises(DatabaseUnavailable):
                        await db.fetchval("SELECT pg_sleep(60)")

                nursery.start_soon(read)
                await until(onlooker.busy_pids)


async def test_two_databases_can_be_open_at_once(dsn: str) -> None:
    async with Database.open(dsn) as first, Database.open(dsn) as second:
        assert await first.fetchval("SELECT 1") == 1
        with trio.move_on_after(0.02):
            await second.fetchval("SELECT pg_sleep(10)")
        await until(lambda: second.statistics().idle == 1)
        assert await second.fetchval("SELECT 2") == 2


async def test_a_ping_tells_the_time_a_round_trip_took(db: Database) -> None:
    assert 0 < await db.ping() < 1
