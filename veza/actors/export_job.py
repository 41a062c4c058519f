"""One export being made: held by a lease while it is, and whatever happens, written down under it.

A process that dies lets go of what it has in hand within LEASE, and whoever takes it then begins its archive anew. One
that a stop cuts short is given back at once and costs no try.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Never, Protocol, assert_never
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Mailbox, Ref, Refuse
from veza.actors.export_contents import Tally
from veza.actors.queue import GIVE_BACK_SECONDS, RECORD_SECONDS
from veza.domain.errors import Unavailable
from veza.domain.exports import (
    CONTENT_TYPE,
    LEASE,
    Broken,
    Claim,
    Dead,
    Decision,
    Export,
    GivenBack,
    Interrupted,
    Made,
    Outcome,
    Progress,
    Ready,
    Retry,
    after_attempt,
    is_spent,
)
from veza.gateways.archive import Archive, write_archive
from veza.gateways.objects import ObjectMissing, StoredObject
from veza.store.errors import StoreError

log = structlog.get_logger()

LEASE_SECONDS: Final = LEASE.total_seconds()
RENEW_SECONDS: Final = LEASE_SECONDS / 3
TELL_SECONDS: Final = 1.0  # how often its row says how far it is
STOP_SECONDS: Final = GIVE_BACK_SECONDS + 1.0  # to let go of the archive, and give the row back
AWAY_SECONDS: Final = 1.0  # a restart of the database takes about that


class HeldRows(Protocol):
    """The rows, for who has one in hand. Every method raises StoreError."""

    async def renew(self, claim: Claim, progress: Progress, lease: timedelta) -> bool: ...
    async def record(
        self, claim: Claim, decision: Decision, progress: Progress, download_url: str = ""
    ) -> Export | None: ...


@dataclass(frozen=True)
class InHand:
    """A claim, and when it was asked for by the monotonic clock, from which its lease is reckoned."""

    claim: Claim
    since: float


class Objects(Protocol):
    """Where archives are kept. See `veza.gateways.objects` for what these raise."""

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject: ...
    async def link(self, key: str, *, filename: str, content_type: str, until: datetime) -> str: ...


Contents = Callable[[UUID, datetime, Tally], Callable[[Archive], Awaitable[None]]]
"""What writes everything about a user into an archive that is dated so, counting as it goes."""


@dataclass
class Office:
    """What the actors of exports share. ``lifetime``: how long an archive can be fetched. ``in_hand``: by export."""

    rows: HeldRows
    contents: Contents
    objects: Objects
    lifetime: timedelta
    in_hand: dict[UUID, InHand] = field(default_factory=dict)
    changed: Callable[[], None] = lambda: None
    """Called when one has been let go of."""


@dataclass(frozen=True)
class ExportView:
    """Whose it is, which try this is, and how far it has come."""

    user_id: UUID
    attempt: int
    progress: Progress


ExportRef = Ref[Never, ExportView]


class ExportActor(Actor[Never, ExportView]):
    mailbox = Mailbox(1, full=Refuse, why="it is told nothing")

    def __init__(self, export_id: UUID, office: Office) -> None:
        self._id = export_id
        self._office = office
        self._tally = Tally()
        self._leaving = trio.CancelScope()
        self._done = trio.Event()

    async def start(self) -> None:
        held = self._office.in_hand.get(self._id)
        if held is None:  # restarted by an operator: its row was given back, and whoever claims it begins it anew
            self._done.set()
            self.finish()
            return
        self._show(held)
        self.nursery.start_soon(self._work, held)

    async def handle(self, message: Never) -> object:
        assert_never(message)

    async def stop(self) -> None:
        self._leaving.cancel()
        with trio.move_on_after(STOP_SECONDS):
            await self._done.wait()

    async def _work(self, held: InHand) -> None:
        """Make it and write down what came of it, whatever happens. A bug of ours counts as a try, and crashes us."""
        outcome: Outcome = Interrupted()
        try:
            with self._leaving:
                outcome = await self._attempt(held)
        except Exception:
            outcome = Broken("internal")
            raise
        finally:
            try:
                await self._record(held, outcome)
            finally:
                self._office.in_hand.pop(self._id, None)
                self._done.set()
                self.finish()
                self._office.changed()

    async def _attempt(self, held: InHand) -> Outcome:
        if is_spent(held.claim.export):
            return Broken("interrupted")
        outcome: Outcome = Interrupted()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hold, held, nursery.cancel_scope)
            outcome = await self._make(held)
            nursery.cancel_scope.cancel()
        return outcome

    async def _make(self, held: InHand) -> Outcome:
        export = held.claim.export
        fill = self._office.contents(export.user_id, held.claim.claimed_at, self._tally)
        try:
            stored = await write_archive(fill, self._office.objects.put)
        except StoreError as away:
            return self._failed("database_unavailable", away)
        except Unavailable as away:
            return self._failed("storage_unavailable", away)
        except ObjectMissing as missing:
            return self._failed("file_missing", missing)
        except EOFError as short:
            return self._failed("file_damaged", short)
        except OSError as error:
            return self._failed("storage_failed", error)
        return Made(stored.key, stored.size_bytes)

    def _failed(self, why: str, error: Exception) -> Broken:
        log.warning("export_attempt_failed", export_id=str(self._id), why=why, error=str(error))
        return Broken(why)

    # -- the lease ----------------------------------------------------------------------------------------------------

    async def _hold(self, held: InHand, work: trio.CancelScope) -> None:
        """Renew the lease, and tell how far it is; end the work when it is somebody else's, or may be."""
        renewed, told = held.since, Progress()
        while trio.current_time() < renewed + LEASE_SECONDS:
            await trio.sleep(TELL_SECONDS)
            now, progress = trio.current_time(), self._tally.progress
            self._show(held)
            if progress == told and now < renewed + RENEW_SECONDS:
                continue
            try:
                if not await self._office.rows.renew(held.claim, progress, LEASE):
                    break
                renewed, told = now, progress
            except StoreError as away:
                log.warning("export_lease_not_renewed", export_id=str(self._id), error=str(away))
        log.warning("export_lease_lost", export_id=str(self._id))
        work.cancel()

    def _show(self, held: InHand) -> None:
        export = held.claim.export
        self.publish(ExportView(export.user_id, export.attempts, self._tally.progress))

    # -- the record ---------------------------------------------------------------------------------------------------

    async def _record(self, held: InHand, outcome: Outcome) -> None:
        """Write it down under the claim, whatever is cancelled around. What can't be is found again by its lease."""
        now = held.claim.claimed_at + timedelta(seconds=trio.current_time() - held.since)
        decision = after_attempt(held.claim.export, outcome, now, self._office.lifetime)
        seconds = GIVE_BACK_SECONDS if isinstance(outcome, Interrupted) else RECORD_SECONDS
        with trio.move_on_after(seconds, shield=True):
            if (recorded := await self._write(held.claim, decision)) is not None:
                _tell(recorded, decision)

    async def _write(self, claim: Claim, decision: Decision) -> Export | None:
        """Until it is written down: twice is once, as the claim stands only the first time."""
        while True:
            try:
                url = await self._link(claim.export, decision)
                return await self._office.rows.record(claim, decision, self._tally.progress, url)
            except (StoreError, Unavailable) as away:
                log.warning("export_not_recorded_yet", export_id=str(self._id), error=str(away))
                await trio.sleep(AWAY_SECONDS)

    async def _link(self, export: Export, decision: Decision) -> str:
        match decision:
            case Ready(object_key, _, expires_at):
                return await self._office.objects.link(
                    object_key, filename=export.filename, content_type=CONTENT_TYPE, until=expires_at
                )
            case _:
                return ""


def _tell(export: Export, decision: Decision) -> None:
    told = log.bind(export_id=str(export.id), user_id=str(export.user_id), attempts=export.attempts)
    match decision:
        case Ready(size_bytes=size_bytes):
            told.info("export_ready", size_bytes=size_bytes, files=export.progress.files_done)
        case GivenBack():
            told.info("export_given_back")
        case Retry(at, why):
            told.warning("export_to_retry", at=at, why=why)
        case Dead(why):
            told.error("export_failed", why=why)
