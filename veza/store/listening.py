"""LISTEN for the timed workers: a doorbell, not a message queue.

Its connection is its own. Whenever it is lost the next wait opens another and LISTENs again, and the wake-up that
follows each LISTEN covers what was notified in between: the reader looks at its rows after it, not before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

import asyncpg
import structlog
import trio

from veza.store.errors import DatabaseUnavailable
from veza.store.wire import LOST, Loop, Wire

log = structlog.get_logger()

LISTEN_SECONDS: Final = 3.0  # a server that answered our connecting answers this, or hangs
AGAIN_SECONDS: Final = 1.0  # between attempts while the server is away; each attempt waits about as long itself


class Wakeups:
    """`async with db.listen("payouts") as wakeups: async for _ in wakeups: ...`. Rings in one wait count once."""

    def __init__(self, channel: str, loop: Loop, connect: Callable[[], Awaitable[Wire]]) -> None:
        self._channel = channel
        self._loop = loop
        self._connect = connect
        self._wire: Wire | None = None
        self._bell = trio.Event()

    async def __aenter__(self) -> Wakeups:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hang_up()

    def __aiter__(self) -> Wakeups:
        return self

    async def __anext__(self) -> None:
        """Return at the next ring, or at once after each (re)connect. Waits out a server that is away."""
        while self._wire is None or self._wire.is_closed():
            if await self._listen():
                return
            await trio.sleep(AGAIN_SECONDS)
        await self._bell.wait()
        self._bell = trio.Event()
        if self._wire is None or self._wire.is_closed():
            await self.__anext__()

    async def _listen(self) -> bool:
        self._hang_up()
        self._bell = trio.Event()
        try:
            self._wire = wire = await self._connect()
            wire.leave_reading_to_the_loop()
            wire.add_termination_listener(self._ring)
            with trio.fail_after(LISTEN_SECONDS):
                await self._loop.run_aio_coroutine(wire.add_listener(self._channel, self._ring))
        except (DatabaseUnavailable, trio.TooSlowError, asyncpg.InterfaceError, *LOST) as away:
            log.warning("listen_lost", channel=self._channel, error=type(away).__name__)
            self._hang_up()
            return False
        except BaseException:
            self._hang_up()
            raise
        return True

    def _ring(self, *_: Any) -> None:
        """Called in the asyncio loop's task, where an error would be nobody's: it only rings."""
        self._bell.set()

    def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.terminate()
