"""The bridge's rule when connections, backends or the server are taken from under it: nothing reported is lost, nothing
is left open, and no broken connection is handed on."""

# ruff: noqa: PT012 - what raises is a whole transaction, its body included

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trio

from tests.store.conftest import Onlooker, OwnServer, until
from veza.store.bridge import WRITE_SECONDS, Database, Patience
from veza.store.errors import DatabaseUnavailable, NotCommitted, OutcomeUnknown, StoreError

SIZE = 5  # fewer than the tasks that share it, so that hand-overs are hit too


@pytest.fixture(params=["read by the task", "read by the loop"])
async def shared(dsn: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A pool smaller than the tasks that share it, with its sockets read in each of the two ways."""
    if request.param == "read by the loop":  # as over TLS
        monkeypatch.setattr("veza.store.wire.is_plain", lambda _: False)
    async with Database.open(dsn, size=SIZE) as database:
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE notes (n int UNIQUE)")
        yield database


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def kept(db: Database) -> set[int]:
    return {row["n"] for row in await db.fetch("SELECT n FROM notes")}


async def all_fit(db: Database) -> None:
    """Every connection of the pool answers, each with the answer to its own question."""

    async def echo(number: int) -> None:
        async with db.snapshot() as view:
            assert await view.fetchval("SELECT $1::int", number) == number

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(4 * SIZE):
                nursery.start_soon(echo, number)


class Storm:
    """Many tasks reading and writing under deadlines that fall anywhere, keeping count of what they were told."""

    def __init__(
        self, db: Database, seed: int, *, deadline: float = 0.05, write_seconds: float = WRITE_SECONDS
    ) -> None:
        self.db = db
        self.deadline = deadline
        self.write_seconds = write_seconds
        self.random = random.Random(seed)
        self.numbers = iter(range(1_000_000))
        self.committed: set[int] = set()
        self.undone: set[int] = set()
        self.unknown: set[int] = set()
        self.cancelled = 0
        self.refused = 0

    async def run(self, tasks: int, enough: Callable[[], bool] = lambda: False) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(self.work, enough)

    async def work(self, enough: Callable[[], bool]) -> None:
        while not enough():
            with trio.move_on_after(self.random.random() * self.deadline) as scope:
                await self.random.choice((self.read, self.write, self.write, self.interrupt))()
            self.cancelled += scope.cancelled_caught

    async def read(self) -> None:
        asked = next(self.numbers)
        try:
            answer = await self.db.fetchval("SELECT $1::int FROM pg_sleep($2)", asked, self.random.random() * 0.004)
        except DatabaseUnavailable:
            self.refused += 1
        else:
            assert answer == asked

    async def write(self) -> None:
        number = next(self.numbers)
        self.undone.add(number)  # until we are told otherwise
        try:
            async with self.db.transaction(seconds=self.write_seconds) as tx:
                await tx.execute("INSERT INTO notes VALUES ($1)", number)
                await tx.fetchval("SELECT 1 FROM pg_sleep($1)", self.random.random() * 0.002)
        except OutcomeUnknown:
            self.undone.discard(number)
            self.unknown.add(number)
        except StoreError:
            self.refused += 1
        else:
            self.undone.discard(number)
            self.committed.add(number)

    async def interrupt(self) -> None:
        """A body that cancels its own statement, as a caller's mistake would."""
        number = next(self.numbers)
        self.undone.add(number)
        try:
            async with self.db.transaction(seconds=self.write_seconds) as tx:
                await tx.execute("INSERT INTO notes VALUES ($1)", number)
                with trio.move_on_after(self.random.random() * 0.002):
                    await tx.fetchval("SELECT pg_sleep(1)")
        except NotCommitted:
            return
        except StoreError:
            self.refused += 1

    async def reckon(self) -> None:
        """What was reported is there, what was not is not."""
        present = await kept(self.db)
        assert self.committed <= present
        assert not present & self.undone
        assert present <= self.committed | self.unknown


async def at_rest(db: Database, onlooker: Onlooker) -> None:
    """Nothing was left open, running or beyond the pool's size, once what was cancelled has been cleaned."""
    await until(lambda: db.statistics().in_use == 0)
    assert onlooker.pids("idle in transaction%") == []
    assert onlooker.busy_pids() == []
    assert len(onlooker.pids()) <= SIZE


async def test_random_cancels_lose_no_reported_commit_and_leave_nothing_open(
    shared: Database, onlooker: Onlooker
) -> None:
    storm = Storm(shared, seed=1)
    with trio.fail_after(60):
        await storm.run(16, lambda: len(storm.committed) >= 2000 and storm.cancelled >= 500)
    await at_rest(shared, onlooker)
    await storm.reckon()
    await all_fit(shared)
    assert not storm.refused
    assert not storm.unknown  # a cancel alone never leaves a doubt: from BEGIN on the body is shielded


async def test_terminated_backends_lose_no_reported_commit_and_each_is_felt_by_one_call_at_most(
    shared: Database, onlooker: Onlooker
) -> None:
    storm = Storm(shared, seed=2)
    killed = 0

    async def assassin() -> None:
        nonlocal killed
        while True:
            for pid in onlooker.pids():
                if storm.random.random() < 0.2:
                    killed += onlooker.terminate(pid)
            await trio.sleep(0.01)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(assassin)
            await storm.run(16, lambda: len(storm.committed) >= 300 and killed >= 100)
            nursery.cancel_scope.cancel()
    await until(lambda: shared.statistics().in_use == 0)
    assert onlooker.pids("idle in transaction%") == []
    await storm.reckon()
    await all_fit(shared)
    # The call in hand when its backend died may fail. Were a dead connection handed on, the next would fail as well.
    assert 0 < storm.refused + len(storm.unknown) <= killed


@pytest.mark.slow
async def test_frozen_backends_lose_no_reported_commit(shared: Database, onlooker: Onlooker) -> None:
    storm = Storm(shared, seed=5, write_seconds=0.3)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm.run, 16)
            await until(lambda: len(storm.committed) > 100, seconds=20)
            victims = onlooker.pids()[:2]
            with frozen(*victims):
                before = len(storm.committed), shared.statistics().replaced_total
                await until(lambda: shared.statistics().replaced_total >= before[1] + 2, seconds=10)
                await until(lambda: len(storm.committed) > before[0] + 100, seconds=20)
            nursery.cancel_scope.cancel()
    await until(lambda: not set(victims) & set(onlooker.pids()))  # what they had read before they were cut off is done
    await at_rest(shared, onlooker)
    await storm.reckon()
    await all_fit(shared)


async def test_a_read_whose_backend_is_terminated_says_so(shared: Database, onlooker: Onlooker) -> None:
    async def read() -> None:
        with pytest.raises(DatabaseUnavailable):
            await shared.fetchval("SELECT pg_sleep(60)")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until(onlooker.busy_pids)
            onlooker.terminate(onlooker.busy_pids()[0])
        assert await shared.fetchval("SELECT 1") == 1


async def test_a_backend_terminated_while_idle_is_replaced_before_anyone_gets_it(
    shared: Database, onlooker: Onlooker
) -> None:
    await all_fit(shared)
    before = onlooker.pids()
    assert len(before) == SIZE
    for pid in before:
        onlooker.terminate(pid)
    await until(lambda: not onlooker.pids())
    await all_fit(shared)
    assert not set(before) & set(onlooker.pids())


async def test_a_transaction_whose_backend_is_terminated_is_undone_and_says_so(
    shared: Database, onlooker: Onlooker
) -> None:
    with pytest.raises(DatabaseUnavailable), trio.fail_after(5):
        async with shared.transaction() as tx:
            await tx.execute("INSERT INTO notes VALUES (1)")
            onlooker.terminate(onlooker.pids("idle in transaction")[0])
            await tx.execute("INSERT INTO notes VALUES (2)")
    assert await kept(shared) == set()


SLOW_COMMIT = (
    "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON notes INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pause()",
)


async def test_a_connection_lost_during_commit_is_an_unknown_outcome(shared: Database, onlooker: Onlooker) -> None:
    async def write() -> None:
        with pytest.raises(OutcomeUnknown):
            async with shared.transaction() as tx:
                for statement in SLOW_COMMIT:
                    await tx.execute(statement)
                await tx.execute("INSERT INTO notes VALUES (1)")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await until(
                lambda: onlooker.ask("SELECT 1 FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'")
            )
            onlooker.terminate(onlooker.busy_pids()[0])
    assert await kept(shared) == set()


async def test_a_frozen_backend_does_not_hold_up_a_cancel_and_is_replaced(shared: Database, onlooker: Onlooker) -> None:
    pid = await shared.fetchval("SELECT pg_backend_pid()")
    with frozen(pid):
        before = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await shared.fetchval("SELECT 1")
        assert scope.cancelled_caught
        assert trio.current_time() - before < 0.5
        await until(lambda: shared.statistics().replaced_total == 1, seconds=2.5)
        with trio.fail_after(2):
            assert await shared.fetchval("SELECT pg_backend_pid()") != pid


async def test_a_backend_frozen_in_a_transaction_holds_its_writer_no_longer_than_the_bound(
    shared: Database, onlooker: Onlooker
) -> None:
    before = trio.current_time()
    with pytest.raises(DatabaseUnavailable):
        async with shared.transaction(seconds=0.2) as tx:
            await tx.execute("INSERT INTO notes VALUES (1)")
            with frozen(await tx.fetchval("SELECT pg_backend_pid()")):
                await tx.execute("INSERT INTO notes VALUES (2)")
    assert trio.current_time() - before < 2.5
    await until(lambda: not onlooker.pids("idle in transaction%"))
    assert await kept(shared) == set()


async def test_a_backend_frozen_at_commit_is_an_unknown_outcome(shared: Database) -> None:
    pids: list[int] = []
    try:
        with pytest.raises(OutcomeUnknown), trio.fail_after(4):
            async with shared.transaction(seconds=0.2) as tx:
                await tx.execute("INSERT INTO notes VALUES (1)")
                pids.append(await tx.fetchval("SELECT pg_backend_pid()"))
                os.kill(pids[0], signal.SIGSTOP)
    finally:
        os.kill(pids[0], signal.SIGCONT)
    with trio.fail_after(2):
        assert await shared.fetchval("SELECT 1") == 1


# -- the whole server ----------------------------------------------------------------------------------------------


@pytest.fixture
async def mortal(own_server: OwnServer) -> AsyncIterator[Database]:
    patience = Patience(restart=0.2, turn=1)
    async with Database.open(own_server.dsn, size=SIZE, patience=patience) as database:
        async with database.transaction() as tx:
            await tx.execute("DROP TABLE IF EXISTS notes")
            await tx.execute("CREATE TABLE notes (n int UNIQUE)")
        yield database


async def answers(db: Database) -> bool:
    with suppress(DatabaseUnavailable):
        return bool(await db.fetchval("SELECT true"))
    return False


async def back(db: Database) -> None:
    with trio.fail_after(20):
        while not await answers(db):  # noqa: ASYNC110 - it happens in another process
            await trio.sleep(0.02)


async def weather(db: Database, seed: int, disaster: Callable[[], Awaitable[object]]) -> Storm:
    """A storm with a disaster in its middle, over when as much was written after as before."""
    storm = Storm(db, seed, deadline=0.5)  # long enough to be refused, and not only cancelled
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storm.run, 12)
            await until(lambda: len(storm.committed) > 200, seconds=20)
            await disaster()
            before = len(storm.committed)
            await until(lambda: len(storm.committed) > before + 200, seconds=30)
            nursery.cancel_scope.cancel()
    return storm


@pytest.mark.slow
async def test_a_restart_of_the_server_loses_no_reported_commit(mortal: Database, own_server: OwnServer) -> None:
    async def restart() -> None:
        await trio.to_thread.run_sync(own_server.stop)
        await trio.to_thread.run_sync(own_server.start)

    storm = await weather(mortal, 3, restart)
    await storm.reckon()
    await all_fit(mortal)
    assert mortal.statistics().replaced_total >= SIZE


@pytest.mark.slow
async def test_a_crash_of_the_server_loses_no_reported_commit(mortal: Database, own_server: OwnServer) -> None:
    async def crash() -> None:
        victim = await mortal.fetchval("SELECT pg_backend_pid()")
        own_server.crash(victim)
        await until(lambda: mortal.statistics().replaced_total >= SIZE)

    storm = await weather(mortal, 4, crash)
    await storm.reckon()
    await all_fit(mortal)
    assert mortal.statistics().replaced_total >= SIZE


@pytest.mark.slow
async def test_while_the_server_is_away_calls_fail_fast_and_recover_by_themselves(
    mortal: Database, own_server: OwnServer
) -> None:
    await trio.to_thread.run_sync(own_server.stop)
    failures = 0

    async def read() -> None:
        nonlocal failures
        with pytest.raises(DatabaseUnavailable):
            await mortal.fetchval("SELECT 1")
        failures += 1

    try:
        with trio.fail_after(3):
            async with trio.open_nursery() as nursery:
                for _ in range(10 * SIZE):
                    nursery.start_soon(read)
            with pytest.raises(DatabaseUnavailable):
                await mortal.ping()
    finally:
        await trio.to_thread.run_sync(own_server.start)
    assert failures == 10 * SIZE
    await back(mortal)
    await all_fit(mortal)


@pytest.mark.slow
async def test_opening_waits_for_a_server_that_is_still_starting(own_server: OwnServer) -> None:
    await trio.to_thread.run_sync(own_server.stop)
    opened = trio.Event()

    async def open_it() -> None:
        async with Database.open(own_server.dsn) as db:
            assert await db.fetchval("SELECT 1") == 1
            opened.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_it)
            await trio.to_thread.run_sync(own_server.start)
    assert opened.is_set()


async def test_opening_gives_up_on_a_server_that_does_not_come(tmp_path: object) -> None:
    with pytest.raises(DatabaseUnavailable), trio.fail_after(5):
        async with Database.open(f"postgresql://postgres@/postgres?host={tmp_path}", patience=Patience(start=0.1)):
            pass


async def test_opening_a_database_that_does_not_exist_fails_at_once(dsn: str) -> None:
    with pytest.raises(DatabaseUnavailable), trio.fail_after(2):
        async with Database.open(dsn.replace("/test_", "/absent_")):
            pass


async def test_a_backend_lost_between_two_statements_is_noticed_and_its_descriptor_let_go(
    shared: Database, onlooker: Onlooker
) -> None:
    """The server's goodbye lies unread when the next statement is written: both the task and the loop learn of it."""
    for _ in range(10):
        began = trio.current_time()
        with pytest.raises(DatabaseUnavailable):
            async with shared.transaction() as tx:
                pid = await tx.fetchval("SELECT pg_backend_pid()")
                onlooker.terminate(pid)
                while pid in onlooker.pids():  # in this one turn of the loop, so that nobody has heard of it yet
                    pass
                await tx.fetchval("SELECT 1")
        assert trio.current_time() - began < WRITE_SECONDS / 2, "it was given up, not noticed"
        pairs = [trio.socket.socketpair() for _ in range(4)]  # they take the numbers that became free
        for ours, theirs in pairs:
            with trio.move_on_after(0):
                await ours.recv(1)
            ours.close()
            theirs.close()
    await all_fit(shared)


# -- LISTEN --------------------------------------------------------------------------------------------------------


async def test_a_ring_wakes_a_listener_and_a_lost_connection_is_followed_by_a_wakeup(
    shared: Database, onlooker: Onlooker
) -> None:
    with trio.fail_after(10):
        async with shared.listen("payouts") as wakeups:
            await anext(wakeups)  # it listens now
            onlooker.ask("SELECT pg_notify('payouts', '')")
            await anext(wakeups)
            listening = onlooker.ask(
                "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
            )
            onlooker.terminate(int(str(listening[0][0])))
            await anext(wakeups)  # what was notified meanwhile is covered
            onlooker.ask("SELECT pg_notify('payouts', '')")
            await anext(wakeups)
            with trio.move_on_after(0.05) as quiet:
                await anext(wakeups)
            assert quiet.cancelled_caught
