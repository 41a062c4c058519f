"""Exports: finds those that are due, and has an actor make each, a few at a time (`veza.actors.export_job`).

The rows are the queue: a ring only says that it is worth looking now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog
import trio

from veza.actors.core import Actor, Coalesce, Mailbox, Overloaded, Ref, Stopped
from veza.actors.export_job import ExportRef, HeldRows, InHand, Office
from veza.actors.queue import BREATH_SECONDS, POLL_SECONDS, Ring
from veza.domain.exports import LEASE, Claim, GivenBack
from veza.domain.flags import Flag, Flags
from veza.store.errors import StoreError

log = structlog.get_logger()

AT_ONCE: Final = 2  # each keeps a disk, and half a core, busy: the platform has other work
AWAY_SECONDS: Final = 1.0  # a restart of the database takes about that


class Rows(HeldRows, Protocol):
    """The rows. Every method raises StoreError."""

    async def claim(self, limit: int, lease: timedelta, but: Collection[UUID] = ()) -> list[Claim]: ...
    async def next_due_in(self) -> float | None: ...


class Jobs(Protocol):
    """The actors that there are, by export. `start` raises Overloaded and Stopped."""

    def start(self, key: UUID) -> ExportRef: ...
    def keys(self) -> list[UUID]: ...


@dataclass(frozen=True)
class ExporterView:
    """What this incarnation has begun. ``switched_off``: the feature is, and nothing is begun."""

    begun: int = 0
    switched_off: bool = False


ExporterRef = Ref[Ring, ExporterView]


def ring(ref: ExporterRef) -> None:
    """Have it look at once for what is due."""
    ref.tell(Ring())


class Exporter(Actor[Ring, ExporterView]):
    mailbox = Mailbox(1, full=Coalesce, why="rings say the same, and fold into one")

    def __init__(
        self, rows: Rows, flags: Callable[[], Flags], office: Office, jobs: Jobs, at_once: int = AT_ONCE
    ) -> None:
        self._rows = rows
        self._flags = flags
        self._office = office
        self._jobs = jobs
        self._at_once = at_once
        self._bell = trio.Event()
        self._view = ExporterView()

    async def start(self) -> None:
        self._show(self._view)
        self.nursery.start_soon(self._work)

    async def handle(self, message: Ring) -> object:
        self._bell.set()
        return None

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            self._bell = trio.Event()  # before looking: what rings while a round looks is for the next
            try:
                wait = await self.run_once()
            except StoreError as away:
                log.warning("exports_store_away", error=str(away))
                wait = AWAY_SECONDS
            with trio.move_on_after(wait):
                await self._bell.wait()

    async def run_once(self) -> float:
        """Begin what there is room for; seconds until there may be more to do, unless it rings before."""
        room = self._at_once - len(self._jobs.keys())
        if room <= 0:
            # One that has let go is about to be gone; one that has not will ring when it has.
            return BREATH_SECONDS if len(self._office.in_hand) < self._at_once else POLL_SECONDS
        enabled = self._flags().is_on(Flag.EXPORTS)
        self._show(replace(self._view, switched_off=not enabled))
        if not enabled:
            return POLL_SECONDS
        since = trio.current_time()
        claims = await self._rows.claim(room, LEASE, self._jobs.keys())
        for claim in claims:
            await self._begin(InHand(claim, since))
        due_in = await self._rows.next_due_in()
        return POLL_SECONDS if due_in is None else min(max(due_in, BREATH_SECONDS), POLL_SECONDS)

    async def _begin(self, held: InHand) -> None:
        export = held.claim.export
        self._office.in_hand[export.id] = held
        try:
            self._jobs.start(export.id)
        except (Overloaded, Stopped):  # we are leaving, or they are being restarted
            del self._office.in_hand[export.id]
            await self._give_back(held.claim)
        else:
            self._show(replace(self._view, begun=self._view.begun + 1))
            log.info("export_begun", export_id=str(export.id), attempt=export.attempts)

    async def _give_back(self, claim: Claim) -> None:
        try:
            await self._rows.record(claim, GivenBack(), claim.export.progress)
        except StoreError as away:  # then it is found by its lease
            log.warning("exports_store_away", error=str(away))

    def _show(self, view: ExporterView) -> None:
        self._view = view
        self.publish(view)
