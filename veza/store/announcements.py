"""Announcements as rows. Whoever changes one rings, by the table's own trigger."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from veza.domain.announcements import Announcement, Announcements, Kind
from veza.domain.audit import By
from veza.domain.errors import NotFound
from veza.domain.ids import NewId
from veza.store import audit
from veza.store.bridge import Database, Record, Transaction
from veza.store.listening import Wakeups

CHANNEL: Final = "announcements"

COLUMNS: Final = "id, title, content, type, starts_at, ends_at, created_at"

# Those that are over are of no use to whoever shows them.
OPEN: Final = f"SELECT {COLUMNS} FROM announcements WHERE ends_at IS NULL OR ends_at > now() ORDER BY id"
PAGE: Final = f"SELECT {COLUMNS} FROM announcements ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2"
ADD: Final = f"INSERT INTO announcements ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"
DELETE: Final = "DELETE FROM announcements WHERE id = $1 RETURNING title"


class AnnouncementRows:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._new_id = new_id

    async def load(self) -> Announcements:
        """Those that are shown now or will be."""
        return await _read(self._db)

    async def page(self, *, limit: int, offset: int) -> tuple[list[Announcement], int]:
        """A page of all there are, the newest first, and how many there are."""
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(PAGE, limit, offset)
            total = await moment.fetchval("SELECT count(*) FROM announcements")
        return list(map(_announcement, rows)), total

    async def add(self, announcement: Announcement, by: By) -> Announcements:
        """Write one, and that to the audit; those that are shown or will be then."""
        async with self._db.transaction() as tx:
            await tx.execute(
                ADD,
                announcement.id,
                announcement.title,
                announcement.content,
                announcement.type,
                announcement.starts_at,
                announcement.ends_at,
                announcement.created_at,
            )
            details = {
                "title": announcement.title,
                "type": announcement.type,
                "starts_at": announcement.starts_at,
                "ends_at": announcement.ends_at,
            }
            await audit.write(tx, self._new_id(), by, "announcement.create", _resource(announcement.id), details)
            return await _read(tx)

    async def delete(self, announcement_id: UUID, by: By) -> Announcements:
        """Delete one, and write that to the audit; those that are shown or will be then. Raises NotFound."""
        async with self._db.transaction() as tx:
            row = await tx.fetchrow(DELETE, announcement_id)
            if row is None:
                raise NotFound("There is no such announcement.")
            details = {"title": row["title"]}
            await audit.write(tx, self._new_id(), by, "announcement.delete", _resource(announcement_id), details)
            return await _read(tx)

    def listen(self) -> Wakeups:
        """Wake-ups whenever one was written or deleted, by whichever process."""
        return self._db.listen(CHANNEL)


def _resource(announcement_id: UUID) -> str:
    return f"announcements/{announcement_id}"


async def _read(queries: Database | Transaction) -> Announcements:
    return Announcements(tuple(map(_announcement, await queries.fetch(OPEN))))


def _announcement(row: Record) -> Announcement:
    return Announcement(**{**dict(row), "type": Kind(row["type"])})
