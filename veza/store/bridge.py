"""The database as trio code sees it: reads that any scope may cancel, writes that nothing cuts in two.

asyncpg does not run on trio, so `Database.open` keeps a trio-asyncio loop open around everything inside it; `wire` says
how its connections are driven and `pool` how they are shared. What callers may count on:

- A read is cancelled by any trio scope, at once. It cannot write: its session is read only.
- A write waits for its connection under the caller's deadline. From BEGIN on it runs shielded, bounded by its own time
  and by the server's statement timeout, to a COMMIT that is reported or to a rollback.
- After any cancel or error the connection is cleaned or replaced before anyone gets it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import asyncpg
import structlog
import trio
import trio_asyncio

from veza.domain.errors import Unauthenticated
from veza.store.errors import UNREADABLE, DatabaseUnavailable, NotCommitted, OutcomeUnknown, TryAgain
from veza.store.listening import Wakeups
from veza.store.pool import Pool, PoolStatistics
from veza.store.wire import LOST, Loop, Wire, connect

Record = asyncpg.Record
log = structlog.get_logger()

CONNECT_SECONDS: Final = 3.0  # one attempt; a server that listens answers in milliseconds
PING_SECONDS: Final = 2.0  # /readyz must answer before its prober gives up
STATEMENT_SECONDS: Final = 5.0  # a write that takes longer is waiting for a lock it will not get
WRITE_SECONDS: Final = 10.0  # BEGIN to COMMIT: two statements at their limit
GRACE_SECONDS: Final = 2.0  # shutdown's share for the pool

# InternalClientError: the server's goodbye came in one piece with an answer, and asyncpg's state is past using.
GOING_AWAY: Final = (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError)
# Of every table that has rows of users': whoever asks for such a row is that user, and was erased meanwhile.
USER_IS_THERE: Final = "user_is_there"
CONFLICT: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
AWAY: Final = (*LOST, *GOING_AWAY, TimeoutError, asyncpg.InsufficientResourcesError, asyncpg.InternalClientError)
# A standby's: another server is the one to write to, and our address may lead to it by now.
READ_ONLY: Final = (asyncpg.ReadOnlySQLTransactionError, asyncpg.FeatureNotSupportedError)

SESSION: Final = {
    "application_name": "veza",
    "client_connection_check_interval": "2s",  # what a killed process was running ends, and gives up its locks
    "default_transaction_read_only": "on",  # a write outside `transaction()` could be cancelled half way: refuse it
    "idle_in_transaction_session_timeout": "30s",  # a stopped process must not hold its locks for ever
    "jit": "off",  # costs more than any query of ours takes
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Patience:
    """How long is waited for what, in seconds."""

    start: float = 30.0  # for the server to come up when we do: both may have been started together
    restart: float = 1.0  # for a refused connection later on; a reader's deadline is not much longer
    turn: float = 5.0  # for a connection of a busy pool


class Queries:
    """Reading through one wire, with the driver's errors told apart."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        with _told(self._wire):
            return await self._wire.step(self._wire.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: object) -> Record | None:
        with _told(self._wire):
            return await self._wire.step(self._wire.fetchrow(sql, *args))

    async def fetchval(self, sql: str, *args: object) -> Any:
        with _told(self._wire):
            return await self._wire.step(self._wire.fetchval(sql, *args))


class Snapshot(Queries):
    """Several reads of one moment."""

    __slots__ = ()


class Transaction(Queries):
    """A write in progress. One task uses it at a time."""

    __slots__ = ()

    async def execute(self, sql: str, *args: object) -> str:
        """Run one statement; the answer is its command tag, as `UPDATE 3`."""
        with _told(self._wire):
            return await self._wire.step(self._wire.execute(sql, *args))

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        with _told(self._wire):
            await self._wire.run_many(sql, rows)


class Database:
    """A pool of connections to one database, for the trio tasks inside `open`."""

    def __init__(self, loop: Loop, dsn: str, size: int, patience: Patience) -> None:
        self._loop = loop
        self._dsn = dsn
        self._patience = patience
        self._pool = Pool(loop, self._connect_again, size=size, patience=patience.turn)

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, *, size: int = 10, patience: Patience | None = None) -> AsyncIterator[Database]:
        """Connect, waiting for a server that is still starting. Raises DatabaseUnavailable when none comes in time.

        Leaving waits GRACE_SECONDS for queries still running elsewhere, then cuts them off.
        """
        failure: Exception | None = None
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(_note)
            database = cls(cast(Loop, loop), dsn, size, patience or Patience())
            try:
                await database._start()
                yield database
            except Exception as error:  # noqa: BLE001 - raised again below, outside the loop's exception groups
                failure = error
            finally:
                with trio.CancelScope(shield=True):
                    await database._pool.close(GRACE_SECONDS)
        if failure is not None:
            raise failure

    # -- reads ------------------------------------------------------------------------------------------------------

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        wire = await self._pool.acquire()
        try:
            rows = await wire.step(wire.fetch(sql, *args))
        except BaseException as error:
            self._pool.renew(wire)
            _raise_told(error, wire)
            raise
        self._pool.release(wire)
        return rows

    async def fetch_planned(self, sql: str, *args: object) -> list[Record]:
        """`fetch`, planned for these very arguments, for filters whose selectivity only their values tell.

        A statement that is kept prepared may get one plan for all values. Costs a round trip more.
        """
        wire = await self._pool.acquire()
        try:
            rows = await wire.step(wire.fetch_planned(sql, *args))
        except BaseException as error:
            self._pool.renew(wire)
            _raise_told(error, wire)
            raise
        self._pool.release(wire)
        return rows

    async def fetchrow(self, sql: str, *args: object) -> Record | None:
        wire = await self._pool.acquire()
        try:
            row = await wire.step(wire.fetchrow(sql, *args))
        except BaseException as error:
            self._pool.renew(wire)
            _raise_told(error, wire)
            raise
        self._pool.release(wire)
        return row

    async def fetchval(self, sql: str, *args: object) -> Any:
        wire = await self._pool.acquire()
        try:
            value = await wire.step(wire.fetchval(sql, *args))
        except BaseException as error:
            self._pool.renew(wire)
            _raise_told(error, wire)
            raise
        self._pool.release(wire)
        return value

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Reads that see one moment of the database. Cancellable like a single read."""
        wire = await self._pool.acquire()
        try:
            with _told(wire):
                await wire.step(wire.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield Snapshot(wire)
            with _told(wire):
                await wire.step(wire.execute("COMMIT"))
        except BaseException:
            self._pool.renew(wire)
            raise
        self._pool.release(wire)

    async def ping(self) -> float:
        """Seconds a round trip took, the wait for a connection included. Raises DatabaseUnavailable."""
        before = trio.current_time()
        with trio.move_on_after(PING_SECONDS):
            if await self.fetchval("SELECT pg_is_in_recovery()"):
                raise DatabaseUnavailable("the server is a standby, which takes no writes")
            return trio.current_time() - before
        raise DatabaseUnavailable(f"no answer within {PING_SECONDS:g} s")

    # -- writes -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(
        self, *, statement_seconds: float = STATEMENT_SECONDS, seconds: float = WRITE_SECONDS
    ) -> AsyncIterator[Transaction]:
        """A write. Waiting for a connection may be cancelled; from BEGIN on nothing from outside cuts in.

        Leaving commits; an exception rolls back, and is over at the server when it leaves here. Raises
        DatabaseUnavailable, TryAgain, NotCommitted: nothing was changed. OutcomeUnknown: it may have been.
        """
        wire = await self._pool.acquire()
        committing = False
        clean = False
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds) as bound:
            try:
                with _told_of_standbys(wire), _told(wire):
                    await wire.step(wire.execute(_begin(statement_seconds)))
                with _told_of_standbys(wire):
                    yield Transaction(wire)
                if wire.is_interrupted():
                    raise NotCommitted("a statement was interrupted inside the transaction")
                committing = True
                await _commit(wire)
                clean = True
            finally:
                if clean:
                    self._pool.release(wire)
                else:
                    await self._pool.renew_now(wire)
        if bound.cancelled_caught:
            if committing:
                raise OutcomeUnknown(f"COMMIT was not answered within {seconds:g} s")
            raise DatabaseUnavailable(f"the transaction took longer than {seconds:g} s and was rolled back")

    # -- beside the pool --------------------------------------------------------------------------------------------

    def listen(self, channel: str) -> Wakeups:
        """Wake-ups from NOTIFY on `channel`, over a connection of their own: `async with`, then `async for`."""
        return Wakeups(channel, self._loop, self._connect_again)

    def statistics(self) -> PoolStatistics:
        return self._pool.statistics()

    async def _start(self) -> None:
        """Open the first connection, so that a wrong address is known at the start."""
        wire = await self._pool.acquire_first(lambda: self._connect(self._patience.start))
        self._pool.release(wire)

    async def _connect_again(self) -> Wire:
        return await self._connect(self._patience.restart)

    async def _connect(self, patience: float) -> Wire:
        """Open a connection, retrying while the server is away, for `patience` seconds."""
        until = trio.current_time() + patience
        pause = 0.05  # a restart takes a few tenths of a second
        while True:
            try:
                return await connect(self._loop, self._dsn, timeout=CONNECT_SECONDS, settings=SESSION)
            except AWAY as error:
                if trio.current_time() + pause > until:
                    raise DatabaseUnavailable(f"cannot connect: {type(error).__name__}") from error
            except asyncpg.PostgresError as error:
                raise DatabaseUnavailable(f"the server refuses us: {error}") from error
            except ValueError:  # its message may repeat a part of the address, which may be of the password
                raise DatabaseUnavailable(UNREADABLE) from None
            await trio.sleep(pause)
            pause = min(pause * 2, 0.5)


def _begin(statement_seconds: float) -> str:
    """BEGIN and its settings in one simple query: one round trip."""
    return f"BEGIN READ WRITE; SET LOCAL statement_timeout = {int(statement_seconds * 1000)}"


async def _commit(wire: Wire) -> None:
    try:
        tag = await wire.step(wire.execute("COMMIT"))
    except (*AWAY, asyncpg.InterfaceError) as error:
        raise OutcomeUnknown("the connection broke during COMMIT") from error
    except asyncpg.PostgresError as error:  # a deferred constraint or a conflict: the server rolled back
        _raise_told(error, wire)
        raise
    if tag != "COMMIT":
        raise NotCommitted("a statement failed and its error was swallowed; the server rolled back")


@contextmanager
def _told(wire: Wire) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        _raise_told(error, wire)
        raise


@contextmanager
def _told_of_standbys(wire: Wire) -> Iterator[None]:
    try:
        yield
    except READ_ONLY as error:
        wire.terminate()
        raise DatabaseUnavailable("the server takes no writes") from error


def _raise_told(error: BaseException, wire: Wire) -> None:
    """Raise what the floors above understand in place of the driver's error; return when it is the driver's to keep."""
    if isinstance(error, CONFLICT):
        raise TryAgain(str(error)) from error
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name == USER_IS_THERE:
        raise Unauthenticated("This session is over; sign in again.", code="session_over") from error
    if isinstance(error, asyncpg.QueryCanceledError):
        raise DatabaseUnavailable(f"the server stopped the statement: {error}") from error
    if isinstance(error, AWAY) or (isinstance(error, asyncpg.InterfaceError) and wire.is_closed()):
        raise DatabaseUnavailable(f"the connection was lost: {type(error).__name__}") from error


def _note(loop: Any, context: dict[str, Any]) -> None:
    """The loop's exception handler. trio-asyncio's own would tear the loop down over a reset of an open transaction."""
    if str(context.get("message")).startswith("Resetting connection"):
        return  # what `Wire.clean` is for
    error = context.get("exception")
    log.debug("asyncio_report", message=context.get("message"), error=type(error).__name__ if error else None)
