"""Exports as rows: asked for under a lock on their owner, taken in hand under a lease, recorded while it is theirs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

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
    current,
    failed_news,
    no_export,
    ready_news,
)
from veza.domain.ids import NewId
from veza.store.bridge import Database, Record, Transaction
from veza.store.notifications import notify

PROGRESS: Final = ("files_done", "files_total", "bytes_done", "bytes_total")
COLUMNS: Final = (
    "id, user_id, status, files_done, files_total, bytes_done, bytes_total, attempts, created_at, started_at,"
    " finished_at, expires_at, object_key, size_bytes, failure"
)

LATEST: Final = f"""
SELECT {COLUMNS} FROM exports WHERE user_id = $1 AND status <> 'failed' ORDER BY created_at DESC, id DESC LIMIT 1
"""
INSERT: Final = f"INSERT INTO exports (id, user_id, created_at) VALUES ($1, $2, $3) RETURNING {COLUMNS}"
ONE: Final = f"SELECT {COLUMNS} FROM exports WHERE id = $1 AND user_id = $2"
PAGE: Final = f"""
SELECT {COLUMNS} FROM exports WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3
"""

# Those whose lease has lapsed first. $3: what this process has at hand, which it would not begin a second time.
CLAIM: Final = f"""
WITH lapsed AS (
    SELECT id FROM exports WHERE claim_id IS NOT NULL AND claimed_until <= now() AND id <> ALL ($3::uuid[])
    ORDER BY claimed_until LIMIT $1 FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM exports WHERE due_at <= now() AND id <> ALL ($3::uuid[])
    ORDER BY due_at, id LIMIT $1 - (SELECT count(*) FROM lapsed) FOR UPDATE SKIP LOCKED
)
UPDATE exports SET status = 'running', due_at = NULL, claim_id = gen_random_uuid(), claimed_until = now() + $2,
    attempts = attempts + 1, started_at = coalesce(started_at, now()), files_done = 0, bytes_done = 0
WHERE id IN (SELECT id FROM lapsed UNION ALL SELECT id FROM due)
RETURNING {COLUMNS}, claim_id, now() AS claimed_at
"""

NEXT_DUE: Final = """
SELECT extract(epoch FROM least(
    (SELECT due_at FROM exports WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1),
    (SELECT claimed_until FROM exports WHERE claim_id IS NOT NULL ORDER BY claimed_until LIMIT 1)
) - now())::float8
"""

RENEW: Final = """
UPDATE exports SET claimed_until = now() + $3, files_done = $4, files_total = $5, bytes_done = $6, bytes_total = $7
WHERE id = $1 AND claim_id = $2
"""

# $3: its status; $4: when it is due, at once if null; $5: tries taken back; $6, $7, $8: the archive; $9: why not.
RECORD: Final = f"""
UPDATE exports SET status = $3, claim_id = NULL, claimed_until = NULL, attempts = attempts - $5::int,
    due_at = CASE WHEN $3 = 'queued' THEN coalesce($4, now()) END,
    object_key = $6, size_bytes = $7, expires_at = $8,
    failure = CASE WHEN $3 = 'queued' THEN coalesce($9, failure) ELSE $9 END,
    files_done = $10, files_total = $11, bytes_done = $12, bytes_total = $13,
    finished_at = CASE WHEN $3 IN ('ready', 'failed') THEN now() END
WHERE id = $1 AND claim_id = $2
RETURNING {COLUMNS}
"""

EXPIRE: Final = """
UPDATE exports SET status = 'expired', object_key = NULL WHERE status = 'ready' AND expires_at <= $1
"""


class ExportRows:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    # -- asked for ----------------------------------------------------------------------------------------------------

    async def ask(self, user_id: UUID, now: datetime) -> Export:
        """The export that somebody's asking comes to: the one that is open, or a new one.

        Raises TooMany within a day of the last. Of several who ask at once for the same person, each gets the same.
        """
        async with self._db.transaction() as tx:
            await tx.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
            latest = await tx.fetchrow(LATEST, user_id)
            if (found := current(None if latest is None else export_in(latest), now)) is not None:
                return found
            [made] = await tx.fetch(INSERT, self._new_id(), user_id, now)
        return export_in(made)

    async def get(self, user_id: UUID, export_id: UUID) -> Export:
        """Raises NotFound for another's."""
        row = await self._db.fetchrow(ONE, export_id, user_id)
        if row is None:
            raise no_export()
        return export_in(row)

    async def page(self, user_id: UUID, limit: int, offset: int) -> tuple[list[Export], int]:
        """A page of somebody's exports, the newest first, and how many there are."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(PAGE, user_id, limit, offset)
            total: int = await moment.fetchval("SELECT count(*) FROM exports WHERE user_id = $1", user_id)
        return [export_in(row) for row in rows], total

    # -- the queue ----------------------------------------------------------------------------------------------------

    async def claim(self, limit: int, lease: timedelta, but: Collection[UUID] = ()) -> list[Claim]:
        """Take at most ``limit`` in hand, none of ``but``. Whoever claims at the same time gets others."""
        async with self._db.transaction() as tx:
            rows = await tx.fetch(CLAIM, limit, lease, list(but))
        return [Claim(row["claim_id"], export_in(row), row["claimed_at"]) for row in rows]

    async def next_due_in(self) -> float | None:
        """Seconds until something may be claimed; None when nothing waits for a moment."""
        seconds: float | None = await self._db.fetchval(NEXT_DUE)
        return seconds

    async def renew(self, claim: Claim, progress: Progress, lease: timedelta) -> bool:
        """Hold on to it, and tell how far it is; False if it is not ours any more."""
        async with self._db.transaction() as tx:
            done = await tx.execute(RENEW, claim.export.id, claim.id, lease, *vars(progress).values())
        return done == "UPDATE 1"

    async def record(
        self, claim: Claim, decision: Decision, progress: Progress, download_url: str = ""
    ) -> Export | None:
        """Write down what became of it, and tell its owner what concerns them; None if it is not ours any more.

        ``download_url`` is where an archive that is ready can be fetched.
        """
        async with self._db.transaction() as tx:
            values = (*_changes(decision), *vars(progress).values())
            row = await tx.fetchrow(RECORD, claim.export.id, claim.id, *values)
            if row is None:
                return None
            recorded = export_in(row)
            await self._tell(tx, recorded, decision, download_url)
        return recorded

    async def _tell(self, tx: Transaction, export: Export, decision: Decision, download_url: str) -> None:
        match decision:
            case Ready(expires_at=expires_at):
                news = ready_news(export, download_url, expires_at)
            case Dead():
                news = failed_news(export)
            case _:
                return
        await notify(tx, self._new_id(), export.user_id, news)

    # -- the janitor's ------------------------------------------------------------------------------------------------

    async def expire(self, now: datetime) -> int:
        """Let go of the archives whose time is over; of how many."""
        async with self._db.transaction() as tx:
            done = await tx.execute(EXPIRE, now)
        return int(done.removeprefix("UPDATE "))


def _changes(decision: Decision) -> tuple[object, ...]:
    """$3 to $9 of RECORD."""
    match decision:
        case Ready(object_key, size_bytes, expires_at):
            return "ready", None, 0, object_key, size_bytes, expires_at, None
        case GivenBack():
            return "queued", None, 1, None, None, None, None
        case Retry(at, why):
            return "queued", at, 0, None, None, None, why
        case Dead(why):
            return "failed", None, 0, None, None, None, why


def export_in(row: Record) -> Export:
    values = {name: row[name] for name in COLUMNS.split(", ") if name not in PROGRESS}
    values["status"] = ExportStatus(values["status"])
    return Export(progress=Progress(*(row[name] for name in PROGRESS)), **values)
