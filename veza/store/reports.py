"""Reports as rows: made once by each reporter, listed for admins, decided in one transaction with all that follows.

Rows are locked in one order: whose content it is, the report, then what a ban takes, last the numbers of notifications
in their owners' order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.audit import By
from veza.domain.bans import ban_news
from veza.domain.errors import NotFound
from veza.domain.ids import NewId
from veza.domain.notifications import News
from veza.domain.reports import (
    EXCERPT_LENGTH,
    Action,
    ContentType,
    Report,
    ReportStatus,
    Subject,
    decide,
    reviewed_news,
    warning_news,
)
from veza.store import audit
from veza.store.bans import ban
from veza.store.bridge import Database, Queries, Record, Snapshot, Transaction
from veza.store.notifications import notify

COLUMNS: Final = """
r.id, r.reporter_id, r.content_type, r.content_id, r.owner_id, r.reason, r.created_at, r.status, r.action, r.note,
r.decided_by, r.decided_at
"""

# Whoever erases the owner either goes first, and then there is nothing to report, or waits, and takes the report along.
HOLD_OWNER: Final = "SELECT FROM users WHERE id = $1 AND erased_at IS NULL FOR SHARE"

# Of several that the same person makes at once, one is written: the others wait for it, and then find it.
INSERT: Final = """
INSERT INTO reports (id, reporter_id, subject, content_type, content_id, owner_id, reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (reporter_id, subject, content_id) DO NOTHING
"""
FIRST: Final = f"SELECT {COLUMNS} FROM reports r WHERE r.reporter_id = $1 AND r.subject = $2 AND r.content_id = $3"

DECIDE: Final = """
UPDATE reports SET status = $2, action = $3, note = $4, decided_by = $5, decided_at = $6 WHERE id = $1
"""

# What it is about may be gone by now, or have other words than it had.
SEEN: Final = f"""
SELECT {COLUMNS}, reporter.username AS reporter, owner.username AS owner,
    (SELECT count(*) FROM reports AS other
     WHERE other.subject = r.subject AND other.content_id = r.content_id) AS reports_of_it,
    CASE r.subject
        WHEN 'user' THEN owner.username
        WHEN 'product' THEN (SELECT title FROM products WHERE products.id = r.content_id)
        WHEN 'stream' THEN (SELECT title FROM streams WHERE streams.id = r.content_id)
        WHEN 'review' THEN (SELECT left(comment, {EXCERPT_LENGTH}) FROM reviews WHERE reviews.id = r.content_id)
    END AS excerpt
FROM reports r JOIN users owner ON owner.id = r.owner_id LEFT JOIN users reporter ON reporter.id = r.reporter_id
"""

COUNTS: Final = "SELECT status, count(*) AS many FROM reports r WHERE {} GROUP BY status"


@dataclass(frozen=True)
class Wanted:
    """Which reports are listed; None for all."""

    status: ReportStatus | None = None
    subject: Subject | None = None


@dataclass(frozen=True)
class Named:
    id: UUID
    username: str


@dataclass(frozen=True)
class Seen:
    """A report as admins see it. ``excerpt``: how what it is about reads now, null if it is gone.

    ``reports_of_it``: how many there are of the same thing, this one among them.
    """

    report: Report
    reporter: Named | None
    owner: Named
    excerpt: str | None
    reports_of_it: int


class Reports:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    async def add(self, report: Report) -> tuple[Report, bool]:
        """Write a new report, and true; or the one that its reporter made of this before, and false.

        Raises NotFound when whose content it is was erased meanwhile.
        """
        r = report
        async with self._db.transaction() as tx:
            if await tx.fetchrow(HOLD_OWNER, r.owner_id) is None:
                raise NotFound("There is nothing like this to report.")
            values = (r.id, r.reporter_id, r.subject, r.content_type, r.content_id, r.owner_id, r.reason, r.created_at)
            if await tx.execute(INSERT, *values) == "INSERT 0 1":
                return report, True
            row = await tx.fetchrow(FIRST, r.reporter_id, r.subject, r.content_id)
        if row is None:
            raise LookupError("a report that stood in the way is gone")
        return _report(row), False

    async def page(
        self, wanted: Wanted, *, limit: int, offset: int
    ) -> tuple[list[Seen], int, Mapping[ReportStatus, int]]:
        """A page of reports, how many there are, and how many of each status whatever status was asked for.

        Those that wait come the oldest first, others the newest.
        """
        async with self._db.snapshot() as moment:
            counts = await _counts(moment, wanted.subject)
            where, args = _where(wanted)
            order = "" if wanted.status is ReportStatus.PENDING else "DESC"
            rows = await moment.fetch(
                f"{SEEN} WHERE {where} ORDER BY r.created_at {order}, r.id {order}"
                f" LIMIT ${len(args) + 1} OFFSET ${len(args) + 2}",
                *args,
                limit,
                offset,
            )
        total = sum(counts.values()) if wanted.status is None else counts[wanted.status]
        return list(map(_seen, rows)), total, counts

    async def decide(
        self, report_id: UUID, action: Action, note: str, until: datetime | None, *, by: By, now: datetime
    ) -> Seen:
        """Decide a report, and do what that means for whose content it is; all of it or nothing.

        Raises NotFound, Conflict for one that was decided or is about who decides, and what `veza.store.bans.ban`
        raises.
        """
        async with self._db.transaction() as tx:
            before = await _hold(tx, report_id)
            after = decide(before, action, note, by=by.user_id, now=now)
            await tx.execute(DECIDE, report_id, after.status, action, note, by.user_id, now)
            for user_id, news in sorted(await self._news(tx, after, until, by, now), key=lambda each: each[0]):
                await notify(tx, self._new_id(), user_id, news)
            about = {"action": action, "content_type": after.subject, "content_id": after.content_id}
            told = about | {"owner_id": after.owner_id, "reason": note}
            await audit.write(tx, self._new_id(), by, "report.resolve", f"reports/{report_id}", told)
            return await _find(tx, report_id)

    async def _news(
        self, tx: Transaction, report: Report, until: datetime | None, by: By, now: datetime
    ) -> list[tuple[UUID, News]]:
        """Do what the decision means; who is to be told what of it."""
        told = []
        if report.action is Action.BAN:
            stands = await ban(tx, self._new_id, report.owner_id, until, report.note, by=by, now=now)
            told.append((report.owner_id, ban_news(stands)))
        if report.action is Action.WARN:
            told.append((report.owner_id, warning_news(report)))
        if report.reporter_id is not None:
            told.append((report.reporter_id, reviewed_news(report)))
        return told


async def _hold(tx: Transaction, report_id: UUID) -> Report:
    """The report as it stands until the transaction is over, whose content it is being held first."""
    owner_id = await tx.fetchval("SELECT owner_id FROM reports WHERE id = $1", report_id)
    await tx.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
    row = await tx.fetchrow(f"SELECT {COLUMNS} FROM reports r WHERE r.id = $1 FOR UPDATE", report_id)
    if row is None:
        raise _no_report()
    return _report(row)


async def _find(queries: Queries, report_id: UUID) -> Seen:
    row = await queries.fetchrow(f"{SEEN} WHERE r.id = $1", report_id)
    if row is None:
        raise _no_report()
    return _seen(row)


async def _counts(moment: Snapshot, subject: Subject | None) -> dict[ReportStatus, int]:
    where, args = _where(Wanted(subject=subject))
    found = {row["status"]: row["many"] for row in await moment.fetch(COUNTS.format(where), *args)}
    return {status: found.get(status, 0) for status in ReportStatus}


def _where(wanted: Wanted) -> tuple[str, list[object]]:
    conditions, args = ["true"], list[object]()
    for column, value in (("status", wanted.status), ("subject", wanted.subject)):
        if value is not None:
            args.append(value)
            conditions.append(f"r.{column} = ${len(args)}")
    return " AND ".join(conditions), args


def _no_report() -> NotFound:
    return NotFound("There is no such report.")


def _report(row: Record) -> Report:
    return Report(
        id=row["id"],
        reporter_id=row["reporter_id"],
        content_type=ContentType(row["content_type"]),
        content_id=row["content_id"],
        owner_id=row["owner_id"],
        reason=row["reason"],
        created_at=row["created_at"],
        status=ReportStatus(row["status"]),
        action=None if row["action"] is None else Action(row["action"]),
        note=row["note"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
    )


def _seen(row: Record) -> Seen:
    return Seen(
        report=_report(row),
        reporter=None if row["reporter_id"] is None else Named(row["reporter_id"], row["reporter"]),
        owner=Named(row["owner_id"], row["owner"]),
        excerpt=row["excerpt"],
        reports_of_it=row["reports_of_it"],
    )
