"""One asyncpg connection, driven by the trio task that uses it.

asyncpg parses and encodes; the bytes are moved here. The task that sends a query steps asyncpg's coroutine itself,
waits on the socket with trio and feeds what comes to asyncpg's protocol, so a query costs one trio wake-up and no hop
through the asyncio loop. What needs a real asyncio task (connecting, cancelling, resetting, executemany) gets one, with
the loop reading the socket meanwhile. Over TLS the loop does all the reading and the task parks on asyncpg's future.

The rule: after a cancel or an error a wire is `clean`ed, and one that cannot be cleaned is terminated. Nothing else may
be done with it.
"""

from __future__ import annotations

import asyncio
import os
import select
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import asyncpg
import trio
from asyncpg.connect_utils import _ClientConfiguration, _ConnectionParameters

T = TypeVar("T")

CHUNK: Final = 65_536  # one read; a page of a hundred rows fits
RESET_SECONDS: Final = 1.0  # a healthy server cancels, rolls back and resets in 3 ms
CLEAN_SECONDS: Final = 2.0  # then the server is not answering and the connection is worth less than the wait
CLOSE_SECONDS: Final = 0.5  # politeness, no more: the server notices a closed socket by itself
READY: Final = b"Z\0\0\0\5I"  # ReadyForQuery outside a transaction (PostgreSQL's protocol, message formats)
STATEMENTS: Final = 256  # prepared statements kept per connection: more than Veza has queries

LOST: Final = (OSError, asyncpg.ConnectionDoesNotExistError, asyncpg.PostgresConnectionError)


class Transport(Protocol):
    """What is used of asyncio's socket transport."""

    def get_extra_info(self, name: str) -> Any: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, protocol: asyncio.Protocol) -> None: ...
    def abort(self) -> None: ...


class Loop(Protocol):
    """What is used of trio-asyncio's event loop."""

    async def run_aio_coroutine(self, coro: Awaitable[T]) -> T: ...
    def create_task(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]: ...
    def call_later(self, delay: float, callback: Callable[[], None]) -> object: ...


if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # generic in its stubs only
else:
    Connection = asyncpg.Connection


class Wire(Connection):
    """A connection owned by one task at a time."""

    __slots__ = ("_fd", "_feed", "_io", "_native", "_pending", "_said", "_unanswered", "_watch", "aio")

    def __init__(
        self,
        protocol: Any,
        transport: Any,
        loop: asyncio.AbstractEventLoop,
        addr: tuple[str, int] | str,
        config: _ClientConfiguration,
        params: _ConnectionParameters,
    ) -> None:
        super().__init__(protocol, transport, loop, addr, config, params)
        self.aio = cast(Loop, loop)
        self._io: Transport = transport
        self._feed = protocol.data_received
        self._watch = protocol._on_waiter_completed  # noqa: SLF001 - named nowhere else; another name costs speed only
        self._native = is_plain(transport)
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._pending = select.poll()
        self._pending.register(self._fd, select.POLLIN)
        self._said = READY  # the last of what the server said
        self._unanswered: asyncio.Future[Any] | None = None
        transport.set_protocol(_Ear(self, protocol))
        if self._native:
            transport.pause_reading()

    # -- who reads the socket ---------------------------------------------------------------------------------------

    def take_over_reading(self) -> None:
        if self._native:
            self._io.pause_reading()

    def leave_reading_to_the_loop(self) -> None:
        if self._native:
            self._io.resume_reading()

    def hear(self, data: bytes) -> None:
        """Take in what the server said, whoever read it."""
        self._said = data if len(data) >= len(READY) else self._said + data
        self._feed(data)

    def is_fit(self) -> bool:
        """Whether an idle wire can be used: connected, outside a transaction, and its server has said nothing since.

        An idle server speaks only to say it is going away (or that its configuration changed, which is rare enough to
        reconnect for), so anything after its last ReadyForQuery means: replace it. The goodbye may have been read with
        the answer before it, or lie in the socket where nobody has read it yet.
        """
        return (
            self._unanswered is None
            and self._said.endswith(READY)
            and not self.is_closed()
            and not self._pending.poll(0)  # an end of file or a closed socket is readable too
        )

    def is_interrupted(self) -> bool:
        """Whether a query was left unanswered by a cancel."""
        return self._unanswered is not None

    # -- running asyncpg's coroutines -------------------------------------------------------------------------------

    async def step(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run one of asyncpg's query coroutines in this trio task. A cancel leaves the wire to be cleaned."""
        try:
            future: asyncio.Future[Any] = operation.send(None)
            while True:
                try:
                    if self._native:
                        await self._read_until(future)
                    else:
                        await _park(future)
                except BaseException:
                    self._unanswered = future
                    operation.close()
                    raise
                future = operation.send(None)
        except StopIteration as done:
            return cast(T, done.value)

    async def _read_until(self, future: asyncio.Future[Any]) -> None:
        # asyncpg's callback matters after a cancel only, and would wake the loop for each answer.
        watched = future.remove_done_callback(self._watch)
        try:
            while not future.done():
                await self._read_some(future)
        except BaseException:
            if watched:
                future.add_done_callback(self._watch)
            raise

    async def _read_some(self, future: asyncio.Future[Any]) -> None:
        try:
            await trio.lowlevel.wait_readable(self._fd)
            if future.done():  # lost meanwhile: the number may be another's by now
                return
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except (OSError, trio.ClosedResourceError):
            data = b""
        if data:
            self.hear(data)
        else:
            self._said = b""
            self._io.abort()  # the loop tells the protocol, which fails the future
            await _park(future)

    async def in_a_task(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of asyncpg's that needs an asyncio task around it."""
        self.leave_reading_to_the_loop()
        try:
            return await self.aio.run_aio_coroutine(operation)
        finally:
            self.take_over_reading()

    async def run_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """`executemany`: it waits for the socket to drain, which asyncpg does with asyncio's own tools."""
        await self.in_a_task(self.executemany(sql, rows))

    async def fetch_planned(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """`fetch` by the unnamed statement, which the server plans for the arguments it is given."""
        statement = await self.prepare(sql, name="")
        return await statement.fetch(*args)

    # -- the rule ---------------------------------------------------------------------------------------------------

    async def clean(self) -> bool:
        """Make the wire as new, or terminate it and say False. An asyncio coroutine, done within CLEAN_SECONDS."""
        try:
            async with asyncio.timeout(CLEAN_SECONDS):
                self.leave_reading_to_the_loop()
                self._withdraw()
                await asyncio.sleep(0)  # asyncpg hears of it in a callback, and must before it is asked for more
                await self.reset(timeout=RESET_SECONDS)
                self.take_over_reading()
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever it is, the wire is not fit
            self.terminate()
            return False
        if not self.is_fit():
            self.terminate()
            return False
        return True

    async def hang_up(self) -> None:
        """Say goodbye and see the server's end close. An asyncio coroutine, done within CLOSE_SECONDS."""
        with suppress(Exception):  # gone is gone
            self.leave_reading_to_the_loop()
            await self.close(timeout=CLOSE_SECONDS)

    def cut(self) -> None:
        """Terminate a wire that a task may still be waiting on; that task sees the connection lost."""
        if not self.is_closed():
            trio.lowlevel.notify_closing(self._fd)
            self.terminate()

    def _withdraw(self) -> None:
        """Cancel the query nobody waits for any more; asyncpg then asks the server to stop it."""
        future, self._unanswered = self._unanswered, None
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # seen: asyncio would report it as never retrieved


class _Ear(asyncio.Protocol):
    """Stands before asyncpg's protocol where the loop reads, so that the wire hears all that its server says."""

    def __init__(self, wire: Wire, protocol: asyncio.Protocol) -> None:
        self._wire = weakref.proxy(wire)  # asyncpg closes a connection that is garbage; this must not keep it from it
        self._protocol = protocol
        self._fd = wire._fd  # noqa: SLF001 - its other half

    def data_received(self, data: bytes) -> None:
        self._wire.hear(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        # The socket is closed next, of which trio must know: who waits on it would wait for ever, and its number's next
        # owner would find it taken.
        trio.lowlevel.notify_closing(self._fd)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def is_plain(transport: Transport) -> bool:
    """Whether the socket carries PostgreSQL's own bytes, and not TLS's."""
    return transport.get_extra_info("ssl_object") is None


async def _park(future: asyncio.Future[Any]) -> None:
    """Wait in trio for an asyncio future; a cancel leaves the future as it is."""
    if future.done():
        return
    task = trio.lowlevel.current_task()

    def wake(_: asyncio.Future[Any]) -> None:
        trio.lowlevel.reschedule(task)

    def abort(_: object) -> trio.lowlevel.Abort:
        # Once the future is done its callbacks are on their way: the wake-up will come, and coming twice is fatal.
        return trio.lowlevel.Abort.SUCCEEDED if future.remove_done_callback(wake) else trio.lowlevel.Abort.FAILED

    future.add_done_callback(wake)
    await trio.lowlevel.wait_task_rescheduled(abort)


async def connect(loop: Loop, dsn: str, *, timeout: float, settings: dict[str, str]) -> Wire:
    """Open one wire. Raises OSError, TimeoutError or asyncpg's own errors."""
    opening = asyncpg.connect(
        dsn,
        loop=cast(asyncio.AbstractEventLoop, loop),
        timeout=timeout,
        connection_class=Wire,
        server_settings=settings,
        statement_cache_size=STATEMENTS,
        max_cached_statement_lifetime=0,  # for ever: the set of queries is fixed
    )
    return await loop.run_aio_coroutine(opening)
