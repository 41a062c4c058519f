"""Exports in memory, on trio's clock: rows under leases, and archives that take as long as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID

import trio

from tests.actors.crash_matrix import Once, plant
from tests.actors.fakes import database_time
from veza.actors.core import State
from veza.actors.export_contents import Tally
from veza.actors.export_job import ExportActor, Office
from veza.actors.exports import Exporter, ExporterRef, Jobs, ring
from veza.domain.exports import (
    Claim,
    Dead,
    Decision,
    Export,
    ExportStatus,
    GivenBack,
    Progress,
    Ready,
    Retry,
)
from veza.domain.flags import ALL_ON, Flags
from veza.gateways.archive import Archive, Entry
from veza.gateways.objects import StoredObject
from veza.store.errors import DatabaseUnavailable
from veza.supervisors import Restart, Supervisor, dynamic, one_for_one, permanent, running, stop
from veza.supervisors.child import Intensity

S = ExportStatus
LIFETIME = timedelta(hours=24)
PATIENT = Intensity(restarts=3, per_seconds=60)


@dataclass
class FakeRows:
    """Exports as rows, by the rules of the real ones. ``away`` is how many calls of each kind fail."""

    rows: dict[UUID, Export] = field(default_factory=dict)
    due: dict[UUID, datetime] = field(default_factory=dict)
    claims: dict[UUID, tuple[UUID, datetime]] = field(default_factory=dict)
    links: dict[UUID, str] = field(default_factory=dict)
    away: dict[str, int] = field(default_factory=dict)
    renewed: list[float] = field(default_factory=list)
    numbers: int = 0
    most: int = 0
    changed: trio.Condition = field(default_factory=trio.Condition)

    def ask(self, number: int, attempts: int = 0) -> UUID:
        """An export of a user of its own, due now."""
        export = Export(UUID(int=number), UUID(int=100 + number), S.QUEUED, Progress(), attempts, database_time())
        self.rows[export.id], self.due[export.id] = export, database_time()
        return export.id

    def take_away(self, export_id: UUID) -> None:
        """Another process has it from now on, for good."""
        self.claims[export_id] = UUID(int=999), database_time() + timedelta(days=1)

    async def claim(self, limit: int, lease: timedelta, but: Collection[UUID] = ()) -> list[Claim]:
        await self._may_fail("claim")
        now = database_time()
        lapsed = [key for key, (_, until) in self.claims.items() if until <= now]
        due = [key for key, at in self.due.items() if at <= now]
        taken = [key for key in lapsed + due if key not in but][:limit]
        return [self._take(key, lease) for key in taken]

    async def next_due_in(self) -> float | None:
        await self._may_fail("next_due_in")
        moments = [*self.due.values(), *(until for _, until in self.claims.values())]
        return (min(moments) - database_time()).total_seconds() if moments else None

    async def renew(self, claim: Claim, progress: Progress, lease: timedelta) -> bool:
        await self._may_fail("renew")
        if not self._is_held(claim):
            return False
        self.claims[claim.export.id] = claim.id, database_time() + lease
        self.renewed.append(trio.current_time())
        await self._write(replace(self.rows[claim.export.id], progress=progress))
        return True

    async def record(
        self, claim: Claim, decision: Decision, progress: Progress, download_url: str = ""
    ) -> Export | None:
        await self._may_fail("record")
        if not self._is_held(claim):
            return None
        del self.claims[claim.export.id]
        row = replace(self.rows[claim.export.id], progress=progress)
        match decision:
            case Ready(object_key, size_bytes, expires_at):
                row = replace(row, status=S.READY, object_key=object_key, size_bytes=size_bytes, expires_at=expires_at)
                self.links[row.id] = download_url
            case GivenBack():
                row = replace(row, status=S.QUEUED, attempts=row.attempts - 1)
                self.due[row.id] = database_time()
            case Retry(at, why):
                row = replace(row, status=S.QUEUED, failure=why)
                self.due[row.id] = at
            case Dead(why):
                row = replace(row, status=S.FAILED, failure=why)
        await self._write(row)
        return row

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until what was written satisfies ``holds``."""
        async with self.changed:
            while not holds():
                await self.changed.wait()

    async def until_status(self, status: ExportStatus, *exports: UUID) -> None:
        await self.until(lambda: all(self.rows[each].status is status for each in exports))

    def _is_held(self, claim: Claim) -> bool:
        return self.claims.get(claim.export.id, (None,))[0] == claim.id

    def _take(self, export_id: UUID, lease: timedelta) -> Claim:
        self.numbers += 1
        self.due.pop(export_id, None)
        row = self.rows[export_id]
        self.rows[export_id] = row = replace(row, status=S.RUNNING, attempts=row.attempts + 1, progress=Progress())
        self.claims[export_id] = UUID(int=self.numbers), database_time() + lease
        self.most = max(self.most, len(self.claims))
        return Claim(UUID(int=self.numbers), row, database_time())

    async def _write(self, row: Export) -> None:
        self.rows[row.id] = row
        async with self.changed:
            self.changed.notify_all()

    async def _may_fail(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.away.get(call):
            self.away[call] -= 1
            raise DatabaseUnavailable("away")


@dataclass
class FakeObjects:
    """``fail`` is what puts raise, one each, and ``no_link`` what links do."""

    kept: dict[str, bytes] = field(default_factory=dict)
    fail: list[Exception] = field(default_factory=list)
    no_link: list[Exception] = field(default_factory=list)

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        content = b"".join([chunk async for chunk in chunks])
        if self.fail:
            raise self.fail.pop(0)
        key = f"{len(self.kept):064x}"
        self.kept[key] = content
        return StoredObject(key, len(content))

    async def link(self, key: str, *, filename: str, content_type: str, until: datetime) -> str:
        if self.no_link:
            raise self.no_link.pop(0)
        return f"https://files.example/{key}/{filename}?{content_type}&{until:%Y-%m-%dT%H:%M:%S}"


@dataclass
class Bureau:
    """``seconds``: how long an archive takes. ``bugs``: what writing one raises, halfway, one each.

    ``planted`` is a crash of the actor that makes one.
    """

    rows: FakeRows = field(default_factory=FakeRows)
    objects: FakeObjects = field(default_factory=FakeObjects)
    flags: Flags = ALL_ON
    seconds: float = 5.0
    bugs: list[Exception] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    planted: Once | None = None

    def __post_init__(self) -> None:
        self.office = Office(self.rows, self.contents, self.objects, LIFETIME)
        self.jobs = dynamic("exports", self._job, limit=2, restart=Restart.TEMPORARY)
        exporter = permanent("exporter", lambda: self.new_exporter(self.jobs))
        self.exporter: ExporterRef = exporter.ref
        self.office.changed = partial(ring, exporter.ref)
        self.tree: Supervisor = one_for_one(
            "veza", one_for_one("exporting", self.jobs, exporter, intensity=PATIENT), intensity=PATIENT
        )

    def new_exporter(self, jobs: Jobs) -> Exporter:
        return Exporter(self.rows, lambda: self.flags, self.office, jobs)

    def _job(self, export_id: UUID) -> ExportActor:
        made = ExportActor(export_id, self.office)
        if self.planted is not None:
            plant(made, self.planted, [])
        return made

    def contents(self, user_id: UUID, made_at: datetime, tally: Tally) -> Callable[[Archive], Awaitable[None]]:
        async def fill(archive: Archive) -> None:
            self.begun.append(trio.current_time())
            tally.expect(files=2, size_bytes=20)
            for _ in range(2):
                await trio.sleep(self.seconds / 2)
                if self.bugs:
                    raise self.bugs.pop(0)
                tally.count(files=1, size_bytes=10)
            await archive.add(Entry("whose", made_at), one(user_id.bytes))

        return fill

    async def stop(self) -> None:
        stop(self.tree)
        await self.tree.wait("veza", State.STOPPED)


async def one(chunk: bytes) -> AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield chunk


@asynccontextmanager
async def at_work(bureau: Bureau) -> AsyncIterator[Bureau]:
    """The bureau while its tree runs, for a day at most."""
    with trio.fail_after(86_400):
        async with running(bureau.tree, clock=database_time, random=Random(1)):
            yield bureau
