"""Passes on notifications as they come to be: to every connection of whom they are for, by whichever process they came.
Who is banned is hung up on.

The rows are the queue, and LISTEN only rings. Each connection is a bounded channel and the number that it has; one that
does not keep up is closed, and comes back for what it missed with that number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Ask, Coalesce, Mailbox, Ref, Tell
from veza.domain.errors import Refusal, TooMany
from veza.domain.notifications import Notification
from veza.store.errors import StoreError

log = structlog.get_logger()

WAITING: Final = 64  # notifications of one connection: more in the time of one send is a reader that stands still
AT_ONCE: Final = WAITING  # read for each user in one round
OF_ONE_USER: Final = 10  # a few devices with a few pages each
OF_ALL: Final = 5_000  # connections of one process
POLL_SECONDS: Final = 15.0  # a ring that was lost costs so much
BANS_SECONDS: Final = 1.0  # the same where it was of a ban, which has to be gone by within two
AWAY_SECONDS: Final = 1.0
BEGIN_SECONDS: Final = 30.0  # from asking for a line to listening; who is not by then never will


class Rows(Protocol):
    """The rows, as `veza.store.notifications.Notifications` keeps them. `after` and `banned` raise StoreError.

    Rings are of what somebody was told, and of bans.
    """

    async def after(self, had: Mapping[UUID, int], limit: int) -> list[Notification]: ...
    async def banned(self, among: Collection[UUID]) -> set[UUID]: ...
    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]: ...


@dataclass(frozen=True)
class NotifierView:
    """What an operator sees: connections, users behind them, and what was passed on since the last restart.

    ``hung_up``: connections that were closed because of a ban.
    """

    connections: int = 0
    users: int = 0
    passed_on: int = 0
    too_slow: int = 0
    hung_up: int = 0


@dataclass(frozen=True, slots=True)
class Look(Tell):
    """Somebody may have been told something."""


@dataclass(frozen=True, slots=True)
class HangUp(Tell):
    """Somebody may have been banned."""


class Line:
    """A user's notifications, for one connection. It is forgotten if nobody begins to listen within BEGIN_SECONDS: a
    client may hang up at any moment, also before there is anyone to close it."""

    def __init__(self, channel: trio.MemoryReceiveChannel[Notification]) -> None:
        self._channel = channel
        self.begun = False

    def listen(self) -> trio.MemoryReceiveChannel[Notification]:
        """Where they come. Close it to leave; it ends if one doesn't keep up."""
        self.begun = True
        return self._channel


@dataclass(frozen=True, slots=True)
class Subscribe(Ask["Line | Refusal"]):
    user_id: UUID
    after: int


Messages = Look | HangUp | Subscribe
NotifierRef = Ref[Messages, NotifierView]


async def subscribe(ref: NotifierRef, user_id: UUID, after: int) -> Line:
    """A user's notifications from the one after this number on.

    Raises TooMany where there are as many connections as may be, and what an ask raises.
    """
    answer = await ref.ask(Subscribe(user_id, after))
    if isinstance(answer, Refusal):
        raise answer
    return answer


class _Connection:
    """Where a connection's notifications go, and the number that it has."""

    __slots__ = ("_begin_by", "_line", "has", "send")

    def __init__(self, send: trio.MemorySendChannel[Notification], line: Line, has: int) -> None:
        self.send = send
        self.has = has
        self._line = line
        self._begin_by = trio.current_time() + BEGIN_SECONDS

    @property
    def left(self) -> bool:
        if not self._line.begun:
            return trio.current_time() > self._begin_by
        return self.send.statistics().open_receive_channels == 0


class Notifier(Actor[Messages, NotifierView]):
    mailbox = Mailbox(64, full=Coalesce, why="looks fold into one; more connections at once than that come again")

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._lines: dict[UUID, list[_Connection]] = {}
        self._passed_on = self._too_slow = self._hung_up = 0
        self._away = False

    async def start(self) -> None:
        self._show()
        self.nursery.start_soon(self._listen)
        self.nursery.start_soon(self._poll, Look(), POLL_SECONDS)
        self.nursery.start_soon(self._poll, HangUp(), BANS_SECONDS)
        self.nursery.start_soon(self._hang_up_at_the_end)

    async def handle(self, message: Messages) -> object:
        match message:
            case Subscribe(user_id, after):
                return self._subscribe(user_id, after)
            case Look():
                await self._pass_on()
            case HangUp():
                await self._hang_up()
        return None

    def _subscribe(self, user_id: UUID, after: int) -> Line | TooMany:
        self._forget_who_left()
        lines = self._lines.get(user_id, [])
        if len(lines) >= OF_ONE_USER or sum(map(len, self._lines.values())) >= OF_ALL:
            return TooMany("There are too many connections for notifications.", retry_after=int(POLL_SECONDS))
        send, receive = trio.open_memory_channel[Notification](WAITING)
        line = Line(receive)
        self._lines[user_id] = [*lines, _Connection(send, line, after)]
        self._show()
        self.ref.tell(Look())
        self.ref.tell(HangUp())  # who asks for a line may have been banned since somebody looked whether they may
        return line

    async def _pass_on(self) -> None:
        self._forget_who_left()
        had = {user_id: min(line.has for line in lines) for user_id, lines in self._lines.items()}
        while had:
            try:
                found = await self._rows.after(had, AT_ONCE)
            except StoreError as away:
                log.warning("notifier_store_away", error=str(away))
                return
            had = {}
            for notification in found:
                for line in self._lines.get(notification.user_id, ()):
                    if notification.number > line.has:
                        self._send(line, notification)
                had[notification.user_id] = notification.number
                await trio.lowlevel.checkpoint()  # or all who were told run in a row, before anyone who asks for a page
            self._forget_who_left()
            # Who got as many as are read at once may have more.
            read = Counter(notification.user_id for notification in found)
            had = {user_id: number for user_id, number in had.items() if read[user_id] == AT_ONCE}
        self._show()

    async def _hang_up(self) -> None:
        """Close the connections of who is banned. What they were told of it still comes through."""
        if not self._lines:
            return
        try:
            banned = await self._rows.banned(self._lines.keys())
        except StoreError as away:
            if not self._away:  # it is asked every second
                log.warning("notifier_store_away", error=str(away))
            self._away = True
            return
        self._away = False
        if banned:
            await self._pass_on()  # what they are told of it was written with it, but may not have been looked for yet
        for user_id in banned:
            for line in self._lines.pop(user_id, ()):
                line.send.close()
                self._hung_up += 1
        if banned:
            self._show()

    def _send(self, line: _Connection, notification: Notification) -> None:
        try:
            line.send.send_nowait(notification)
        except trio.WouldBlock:
            self._too_slow += 1
            line.send.close()
            line.has = notification.number  # nothing more is sent to it
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left, and is forgotten below
        else:
            self._passed_on += 1
            line.has = notification.number

    def _forget_who_left(self) -> None:
        for user_id, lines in list(self._lines.items()):
            staying = [line for line in lines if not line.left]
            for line in lines:
                if line.left:
                    line.send.close()
            if staying:
                self._lines[user_id] = staying
            else:
                del self._lines[user_id]

    async def _listen(self) -> None:
        async with self._rows.listen() as bells:
            async for _ in bells:
                self.ref.tell(Look())
                self.ref.tell(HangUp())

    async def _poll(self, message: Look | HangUp, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            self.ref.tell(message)

    async def _hang_up_at_the_end(self) -> None:
        """However this incarnation ends, its connections end with it, and come back with the number they have."""
        try:
            await trio.sleep_forever()
        finally:
            for lines in self._lines.values():
                for line in lines:
                    line.send.close()

    def _show(self) -> None:
        connections = sum(map(len, self._lines.values()))
        self.publish(NotifierView(connections, len(self._lines), self._passed_on, self._too_slow, self._hung_up))
