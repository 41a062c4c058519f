"""The reconciler: holds our books against the payout provider's once a day, and says loudly where they differ.

It moves no money and mends nothing: what it finds is for a person to judge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog
import trio

from veza.actors.core import Actor, Ask, Later, Mailbox, Ref, Refuse
from veza.domain.audit import By
from veza.domain.errors import Refusal, Unavailable
from veza.domain.ledger import Finding, Reconciliation
from veza.store.errors import StoreError
from veza.store.ledger import Lister

log = structlog.get_logger()

EVERY: Final = timedelta(days=1)
LEASE: Final = timedelta(minutes=15)  # the provider lists a hundred transfers a call; also how soon one is tried again
POLL_SECONDS: Final = 3600.0  # the clock that counts is the database's, and may have been set meanwhile
AWAY_SECONDS: Final = 60.0  # a day's work need not come back the second its database does


class Store(Protocol):
    """The rows. Every method raises StoreError, ``verify`` Unavailable as well."""

    async def take(self, lease: timedelta) -> bool: ...
    async def next_due_in(self) -> float: ...
    async def verify(self, provider: Lister | None) -> list[Finding]: ...
    async def record(
        self, findings: list[Finding], *, provider_asked: bool, next_in: timedelta, by: By | None
    ) -> Reconciliation: ...


@dataclass(frozen=True)
class ReconcilerView:
    """What this incarnation has done: when it last reconciled, what it found then, and how often it could not."""

    last_at: datetime | None = None
    findings: int = 0
    unreachable: int = 0


@dataclass(frozen=True, slots=True)
class Reconcile(Ask["Reconciliation | Refusal"]):
    by: By


Messages = Reconcile
ReconcilerRef = Ref[Messages, ReconcilerView]


async def reconcile(ref: ReconcilerRef, by: By) -> Reconciliation:
    """Reconcile now. Raises Unavailable while the provider or the database can't be asked, and what an ask raises."""
    answer = await ref.ask(Reconcile(by))
    if isinstance(answer, Refusal):
        raise answer
    return answer


class Reconciler(Actor[Messages, ReconcilerView]):
    mailbox = Mailbox(4, full=Refuse, why="each asks the provider for everything: four admins at once are plenty")

    def __init__(self, store: Store, provider: Lister | None) -> None:
        """``provider`` is none where payouts are not set up: our own books are then looked through alone."""
        self._store = store
        self._provider = provider
        self._one_at_a_time = trio.Lock()
        self._view = ReconcilerView()

    async def start(self) -> None:
        self.publish(self._view)
        self.nursery.start_soon(self._work)

    async def handle(self, message: Messages) -> object:
        return Later(self._asked, message.by)

    async def _work(self) -> None:
        while True:
            await self.unpaused()
            try:
                await self.run_once()
                wait = await self._store.next_due_in()
            except StoreError as away:
                log.warning("reconciler_store_away", error=str(away))
                wait = AWAY_SECONDS
            await trio.sleep(min(max(wait, 0.0), POLL_SECONDS))

    async def run_once(self) -> None:
        """Reconcile if it is due; what can't be done now is due again when the lease is over. Raises StoreError."""
        if await self._store.take(LEASE):
            try:
                with trio.fail_after(LEASE.total_seconds()):
                    await self._reconcile(None)
            except (Unavailable, trio.TooSlowError) as away:
                self._show(replace(self._view, unreachable=self._view.unreachable + 1))
                log.warning("reconciliation_put_off", error=str(away))

    async def _asked(self, by: By) -> Reconciliation | Refusal:
        try:
            return await self._reconcile(by)
        except Refusal as refused:
            return refused
        except StoreError as away:
            log.warning("reconciler_store_away", error=str(away))
            return Unavailable("The reconciliation could not be recorded now; try again.")

    async def _reconcile(self, by: By | None) -> Reconciliation:
        async with self._one_at_a_time:
            findings = await self._store.verify(self._provider)
            asked = self._provider is not None
            done = await self._store.record(findings, provider_asked=asked, next_in=EVERY, by=by)
        self._show(replace(self._view, last_at=done.ran_at, findings=len(findings)))
        for finding in findings:
            log.error("books_differ", code=finding.code, subject=finding.subject, detail=finding.detail)
        log.info("reconciled", findings=len(findings), provider_asked=asked)
        return done

    def _show(self, view: ReconcilerView) -> None:
        self._view = view
        self.publish(view)
