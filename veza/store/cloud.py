"""Cloud files as rows, with their snapshots and links. Everything is asked for by its owner: another's is not there.

What makes somebody's files take more room is done while holding that user's row, so that it is decided one at a time.
Taking or restoring a snapshot does not: bytes that were counted as the file's are then counted as the snapshot's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from veza.domain.catalog import words_of
from veza.domain.cloud import (
    CloudFile,
    Content,
    FileSort,
    Share,
    Usage,
    Version,
    check_new_file,
    check_new_share,
    check_new_version,
    check_quota,
    is_kept,
    no_file,
    no_share,
    no_version,
    replace_content,
    room_left,
    snapshot,
)
from veza.domain.ids import NewId
from veza.store.banned import BANNED
from veza.store.bridge import Database, Queries, Transaction

COLUMNS: Final = "id, owner_id, name, version, object_key, size_bytes, content_type, created_at, updated_at"
ONE: Final = f"SELECT {COLUMNS} FROM cloud_files WHERE id = $1 AND owner_id = $2"
INSERT: Final = f"""
INSERT INTO cloud_files ({COLUMNS}, words) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
UPDATE: Final = """
UPDATE cloud_files SET name = $3, version = $4, object_key = $5, size_bytes = $6, content_type = $7, created_at = $8,
                       updated_at = $9, words = $10
WHERE id = $1 AND owner_id = $2
"""
ORDER: Final = {
    FileSort.NEWEST: "id DESC",  # ids grow with time
    FileSort.OLDEST: "id",
    FileSort.NAME: "words, name, id",
    FileSort.SIZE: "size_bytes DESC, id DESC",
}

# The union leaves out what a file and its snapshots have in common. $2 is a file whose own content is left out.
USAGE: Final = """
SELECT (SELECT coalesce(sum(size_bytes), 0)::bigint FROM (
            SELECT id, object_key, size_bytes FROM cloud_files WHERE owner_id = $1 AND id IS DISTINCT FROM $2
            UNION
            SELECT v.file_id, v.object_key, v.size_bytes
            FROM cloud_versions v JOIN cloud_files f ON f.id = v.file_id WHERE f.owner_id = $1
       ) AS kept) AS used_bytes,
       (SELECT count(*) FROM cloud_files WHERE owner_id = $1) AS files,
       (SELECT count(*) FROM cloud_versions v JOIN cloud_files f ON f.id = v.file_id WHERE f.owner_id = $1) AS versions
"""

VERSION_COLUMNS: Final = "id, file_id, version, object_key, size_bytes, content_type, created_at"
VERSIONS: Final = f"SELECT {VERSION_COLUMNS} FROM cloud_versions WHERE file_id = $1 ORDER BY version DESC"
INSERT_VERSION: Final = f"INSERT INTO cloud_versions ({VERSION_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"

SHARE_COLUMNS: Final = "id, file_id, expires_at, created_at"
SHARES: Final = f"SELECT {SHARE_COLUMNS} FROM cloud_shares WHERE file_id = $1 AND expires_at > $2 ORDER BY id DESC"
INSERT_SHARE: Final = f"INSERT INTO cloud_shares ({SHARE_COLUMNS}, token_hash) VALUES ($1, $2, $3, $4, $5)"
SHARED: Final = f"""
SELECT {", ".join(f"f.{name}" for name in COLUMNS.split(", "))}, s.expires_at
FROM cloud_shares s JOIN cloud_files f ON f.id = s.file_id
WHERE s.token_hash = $1 AND s.expires_at > $2 AND f.owner_id NOT IN ({BANNED})
"""


class CloudRows:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- files --------------------------------------------------------------------------------------------------------

    async def get(self, owner_id: UUID, file_id: UUID) -> CloudFile:
        """Raises NotFound."""
        row = await self._db.fetchrow(ONE, file_id, owner_id)
        if row is None:
            raise no_file()
        return CloudFile(**dict(row))

    async def page(
        self, owner_id: UUID, *, search: str | None, sort: FileSort, limit: int, offset: int
    ) -> tuple[list[CloudFile], int]:
        """A part of somebody's files, and how many there are; those alone that a search finds by their names."""
        source = "FROM cloud_files WHERE owner_id = $1 AND ($2::text[] IS NULL OR words LIKE ALL($2::text[]))"
        order = f"ORDER BY {ORDER[sort]} LIMIT $3 OFFSET $4"
        # Each word begins one of the name's. They hold letters and digits alone, so nothing that LIKE would heed.
        words = None if search is None else [f"% {word}%" for word in words_of(search)] or [""]
        async with self._db.snapshot() as moment:
            rows = await moment.fetch(f"SELECT {COLUMNS} {source} {order}", owner_id, words, limit, offset)
            total: int = await moment.fetchval(f"SELECT count(*) {source}", owner_id, words)
        return [CloudFile(**dict(row)) for row in rows], total

    async def add(self, file: CloudFile, quota_bytes: int) -> None:
        """Write a new file. Raises TooLarge above the quota, Conflict if its owner has as many as one may have."""
        async with self._db.transaction() as tx:
            before = await _hold(tx, file.owner_id)
            check_new_file(before.files)
            await tx.execute(INSERT, *_values(file))
            check_quota(before, await _usage(tx, file.owner_id), quota_bytes)

    async def change(self, owner_id: UUID, file_id: UUID, decide: Callable[[CloudFile], CloudFile]) -> CloudFile:
        """Write what ``decide`` makes of the file, its content aside. Raises NotFound, and what ``decide`` raises."""
        async with self._db.transaction() as tx:
            before = await _one(tx, owner_id, file_id, lock=True)
            after = decide(before)
            if after != before:
                await tx.execute(UPDATE, *_values(after))
        return after

    async def replace(
        self, owner_id: UUID, file_id: UUID, content: Content, quota_bytes: int, now: datetime
    ) -> CloudFile:
        """Give the file other content, at its next version. Raises NotFound, and TooLarge above the quota."""
        async with self._db.transaction() as tx:
            before = await _hold(tx, owner_id)
            after = replace_content(await _one(tx, owner_id, file_id, lock=True), content, now)
            await tx.execute(UPDATE, *_values(after))
            check_quota(before, await _usage(tx, owner_id), quota_bytes)
        return after

    async def remove(self, owner_id: UUID, file_id: UUID) -> None:
        """Delete the file with its snapshots and links. Raises NotFound."""
        gone = "DELETE FROM cloud_files WHERE id = $1 AND owner_id = $2"
        async with self._db.transaction() as tx:
            if await tx.execute(gone, file_id, owner_id) == "DELETE 0":
                raise no_file()

    async def usage(self, owner_id: UUID) -> Usage:
        """What somebody keeps."""
        async with self._db.snapshot() as moment:
            return await _usage(moment, owner_id)

    async def room(self, owner_id: UUID, quota_bytes: int, *, instead_of: UUID | None = None) -> int:
        """How many bytes a new file may have now; ``instead_of`` names one that is about to hold something else."""
        async with self._db.snapshot() as moment:
            usage = await _usage(moment, owner_id)
            others = usage if instead_of is None else await _usage(moment, owner_id, instead_of)
        return room_left(usage, others, quota_bytes)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    async def versions(self, owner_id: UUID, file_id: UUID) -> list[Version]:
        """All snapshots of a file, the latest version first. Raises NotFound."""
        async with self._db.snapshot() as moment:
            await _one(moment, owner_id, file_id)
            return await _versions(moment, file_id)

    async def keep(self, owner_id: UUID, file_id: UUID, most: int, new_id: NewId, now: datetime) -> Version:
        """Snapshot the version that the file is at; the snapshot there is, if there is one.

        Raises NotFound, and Conflict if it has ``most`` snapshots.
        """
        async with self._db.transaction() as tx:
            file = await _one(tx, owner_id, file_id, lock=True)
            versions = await _versions(tx, file_id)
            if versions and versions[0].version == file.version:
                return versions[0]
            return await _keep(tx, file, versions, most, new_id, now)

    async def restore(
        self, owner_id: UUID, file_id: UUID, version: int, most: int, new_id: NewId, now: datetime
    ) -> CloudFile:
        """Give the file the content of a snapshot, at its next version; what it held is snapshotted unless it was.

        Raises NotFound, and Conflict if that would be more than ``most`` snapshots.
        """
        async with self._db.transaction() as tx:
            file = await _one(tx, owner_id, file_id, lock=True)
            versions = await _versions(tx, file_id)
            wanted = next((each for each in versions if each.version == version), None)
            if wanted is None:
                raise no_version()
            if not is_kept(file, versions):
                await _keep(tx, file, versions, most, new_id, now)
            after = replace_content(file, wanted, now)
            await tx.execute(UPDATE, *_values(after))
        return after

    async def forget(self, owner_id: UUID, file_id: UUID, version: int) -> None:
        """Delete a snapshot. Raises NotFound."""
        gone = "DELETE FROM cloud_versions WHERE file_id = $1 AND version = $2"
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, file_id, lock=True)
            if await tx.execute(gone, file_id, version) == "DELETE 0":
                raise no_version()

    # -- links --------------------------------------------------------------------------------------------------------

    async def share(self, owner_id: UUID, share: Share, token: str) -> None:
        """Let whoever has the token read the file. Raises NotFound, and Conflict at too many living links."""
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, share.file_id, lock=True)
            check_new_share(len(await tx.fetch(SHARES, share.file_id, share.created_at)))
            await tx.execute(INSERT_SHARE, *vars(share).values(), _hash(token))

    async def shares(self, owner_id: UUID, file_id: UUID, now: datetime) -> list[Share]:
        """The file's living links, the newest first. Raises NotFound."""
        async with self._db.snapshot() as moment:
            await _one(moment, owner_id, file_id)
            return [Share(**dict(row)) for row in await moment.fetch(SHARES, file_id, now)]

    async def revoke(self, owner_id: UUID, file_id: UUID, share_id: UUID) -> None:
        """End a link. Raises NotFound."""
        async with self._db.transaction() as tx:
            await _one(tx, owner_id, file_id, lock=True)
            gone = "DELETE FROM cloud_shares WHERE id = $1 AND file_id = $2"
            if await tx.execute(gone, share_id, file_id) == "DELETE 0":
                raise no_share()

    async def shared(self, token: str, now: datetime) -> tuple[CloudFile, datetime]:
        """The file that a token lets one read, and until when. Raises NotFound."""
        row = await self._db.fetchrow(SHARED, _hash(token), now)
        if row is None:
            raise no_share()
        values = dict(row)
        expires_at: datetime = values.pop("expires_at")
        return CloudFile(**values), expires_at


async def _hold(tx: Transaction, owner_id: UUID) -> Usage:
    """What somebody keeps, which nobody else adds to from now on. What only refers to the user does not wait."""
    await tx.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
    return await _usage(tx, owner_id)


async def _usage(queries: Queries, owner_id: UUID, without: UUID | None = None) -> Usage:
    [row] = await queries.fetch(USAGE, owner_id, without)
    return Usage(**dict(row))


async def _one(queries: Queries, owner_id: UUID, file_id: UUID, *, lock: bool = False) -> CloudFile:
    row = await queries.fetchrow(f"{ONE} FOR UPDATE" if lock else ONE, file_id, owner_id)
    if row is None:
        raise no_file()
    return CloudFile(**dict(row))


async def _versions(queries: Queries, file_id: UUID) -> list[Version]:
    return [Version(**dict(row)) for row in await queries.fetch(VERSIONS, file_id)]


async def _keep(
    tx: Transaction, file: CloudFile, versions: list[Version], most: int, new_id: NewId, now: datetime
) -> Version:
    check_new_version(len(versions), most)
    kept = snapshot(file, id=new_id(), now=now)
    await tx.execute(INSERT_VERSION, *vars(kept).values())
    return kept


def _values(file: CloudFile) -> Iterator[object]:
    """The columns' values, in COLUMNS' order, and the words that serve to find it."""
    yield from vars(file).values()
    yield f" {' '.join(words_of(file.name))}"


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
