"""What an export is made of: the rows about a person, of one moment, and their files, found a page at a time.

Neither is ever held whole: rows come from a cursor, files by the key of the last that was found.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.invoices import CreditNote, Invoice
from veza.store.bridge import Database, Snapshot
from veza.store.invoice_backlog import BOUGHT, write_documents
from veza.store.invoices import CREDIT_NOTE, INVOICE
from veza.store.personal_data import Shown, selected

ROWS: Final = 200  # of at most some 10 KB each
FILES: Final = 200
PAPERS: Final = 200  # of some 2 KB each
PAPERS_AT_ONCE: Final = 500  # written in a transaction of some tenths of a second

OPEN: Final = "DECLARE export_rows NO SCROLL CURSOR FOR SELECT row_to_json(r)::text AS row FROM ({}) AS r"
FETCH: Final = f"FETCH {ROWS} FROM export_rows"
CLOSE: Final = "CLOSE export_rows"


@dataclass(frozen=True)
class Held:
    """A file of a person's. ``table`` and ``id`` are the row that names its bytes, ``folder`` what it belongs to.

    ``folder_id`` tells it from another of the same name; ``size_bytes`` is none where no row knows it; ``version`` is a
    cloud file's or a snapshot's. ``snapshots`` are those of a cloud file that hold the same as it does, with their
    ``snapshot_versions``.
    """

    source: str
    table: str
    id: UUID
    name: str
    object_key: str
    content_type: str
    size_bytes: int | None
    modified: datetime
    folder: str | None
    folder_id: UUID | None
    version: int | None
    snapshots: Sequence[UUID] = ()
    snapshot_versions: Sequence[int] = ()


@dataclass(frozen=True)
class Source:
    """One kind of files. ``rows`` selects a person's as ``f``, with columns named as Held's and ``key``, in whose order
    they come; ``table`` is where their rows are, ``column`` the column that names the bytes."""

    table: str
    rows: str
    key: tuple[str, ...] = ("id",)
    column: str = "object_key"


def _media(kind: str) -> str:
    return f"""
    SELECT id, '{kind}' AS name, {kind}_key AS object_key, {kind}_type AS content_type, NULL::bigint AS size_bytes,
        updated_at AS modified, title AS folder, id AS folder_id, NULL::integer AS version
    FROM products WHERE seller_id = $1 AND {kind}_key IS NOT NULL
    """


SOURCES: Final[dict[str, Source]] = {
    "cloud": Source(
        "cloud_files",
        """
        SELECT c.id, c.name, c.object_key, c.content_type, c.size_bytes, c.updated_at AS modified, NULL AS folder,
            NULL::uuid AS folder_id, c.version, coalesce(same.ids, '{}') AS snapshots,
            coalesce(same.versions, '{}') AS snapshot_versions
        FROM cloud_files c LEFT JOIN LATERAL (
            SELECT array_agg(v.id ORDER BY v.version) AS ids, array_agg(v.version ORDER BY v.version) AS versions
            FROM cloud_versions v
            WHERE v.file_id = c.id AND (v.object_key, v.content_type) = (c.object_key, c.content_type)
        ) AS same ON true
        WHERE c.owner_id = $1
        """,
    ),
    # A snapshot of what its file holds now is not there twice.
    "snapshots": Source(
        "cloud_versions",
        """
        SELECT v.id, c.name, v.object_key, v.content_type, v.size_bytes, v.created_at AS modified,
            NULL AS folder, c.id AS folder_id, v.version
        FROM cloud_files c JOIN cloud_versions v ON v.file_id = c.id
        WHERE c.owner_id = $1 AND (v.object_key, v.content_type) <> (c.object_key, c.content_type)
        """,
        ("folder_id", "version"),
    ),
    "gear": Source(
        "gear_documents",
        """
        SELECT d.id, d.filename AS name, d.object_key, d.content_type, d.size_bytes, d.created_at AS modified,
            g.name AS folder, g.id AS folder_id, NULL::integer AS version
        FROM gear g JOIN gear_documents d ON d.gear_id = g.id WHERE g.owner_id = $1
        """,
        ("folder_id", "id"),
    ),
    "products": Source(
        "product_files",
        """
        SELECT p.id, p.filename AS name, p.object_key, p.content_type, p.size_bytes, p.created_at AS modified,
            w.title AS folder, w.id AS folder_id, NULL::integer AS version
        FROM products w JOIN product_files p ON p.product_id = w.id WHERE w.seller_id = $1
        """,
        ("folder_id", "id"),
    ),
    "covers": Source("products", _media("cover"), column="cover_key"),
    "previews": Source("products", _media("preview"), column="preview_key"),
}


# Their numbers are theirs for good, and so is what is written down under them.
NUMBERS: Final = """
    SELECT invoice_number AS number, false AS credits FROM orders WHERE buyer_id = $1 AND invoice_number IS NOT NULL
    UNION ALL SELECT r.credit_note_number, true FROM orders o JOIN refunds r ON r.order_id = o.id
    WHERE o.buyer_id = $1 AND r.credit_note_number IS NOT NULL
"""
WRITTEN: Final = f"""
SELECT n.number, n.credits, d.document FROM ({NUMBERS}) AS n JOIN invoice_documents d ON d.number = n.number
WHERE n.number > $2 ORDER BY n.number LIMIT $3
"""


@dataclass(frozen=True)
class Amount:
    """How many files somebody has, and how many bytes those have whose size a row knows."""

    files: int
    size_bytes: int


class Moment:
    """What is held about one person, at one moment."""

    def __init__(self, snapshot: Snapshot, user_id: UUID) -> None:
        self._snapshot = snapshot
        self._user_id = user_id

    async def username(self) -> str:
        """What they are called; their id if they are gone meanwhile."""
        name: str | None = await self._snapshot.fetchval("SELECT username FROM users WHERE id = $1", self._user_id)
        return name or str(self._user_id)

    async def amount(self) -> Amount:
        """How many files there are to come, as far as that is known now."""
        files = size = 0
        for source in SOURCES.values():
            sql = f"SELECT count(*), coalesce(sum(size_bytes), 0)::bigint FROM ({source.rows}) AS f"
            [(count, known)] = await self._snapshot.fetch(sql, self._user_id)
            files, size = files + count, size + known
        files += await self._snapshot.fetchval(f"SELECT count(*) FROM ({NUMBERS}) AS n", self._user_id)
        return Amount(files, size)

    async def rows(self, name: str, table: Shown) -> AsyncGenerator[Sequence[str], None]:
        """A table's rows about them as JSON objects, a page at a time. One table is read at a time."""
        columns = ", ".join(selected(table, column) for column in table.columns)
        await self._snapshot.fetch(
            OPEN.format(f"SELECT {columns} FROM {name} t WHERE {table.whose} ORDER BY 1"), self._user_id
        )
        while page := await self._snapshot.fetch(FETCH):
            yield [row["row"] for row in page]
        await self._snapshot.fetch(CLOSE)


class ExportData:
    def __init__(self, db: Database) -> None:
        self._db = db

    @asynccontextmanager
    async def moment(self, user_id: UUID) -> AsyncIterator[Moment]:
        """Read everything of one moment. It takes a connection: be quick, and raises StoreError when it is lost."""
        async with self._db.snapshot() as snapshot:
            yield Moment(snapshot, user_id)

    async def files(self, user_id: UUID) -> AsyncGenerator[Held, None]:
        """Somebody's files as they are now, a page at a time; one that is added meanwhile may be there or not."""
        for name, source in SOURCES.items():
            after: tuple[object, ...] = ()
            while True:
                page = await self._db.fetch(_page(source, bool(after)), user_id, FILES, *after)
                for row in page:
                    yield Held(source=name, table=source.table, **dict(row))
                if len(page) < FILES:
                    break
                after = tuple(page[-1][column] for column in source.key)

    async def write_papers(self, user_id: UUID) -> None:
        """Write down somebody's invoices and credit notes that nobody asked for yet."""
        while True:
            async with self._db.transaction() as tx:
                if await write_documents(tx, user_id, PAPERS_AT_ONCE, BOUGHT) < PAPERS_AT_ONCE:
                    return

    async def papers(self, user_id: UUID) -> AsyncGenerator[Invoice | CreditNote, None]:
        """Somebody's invoices and credit notes that are written down, by their numbers."""
        after = ""
        while True:
            page = await self._db.fetch(WRITTEN, user_id, after, PAPERS)
            for row in page:
                yield (CREDIT_NOTE if row["credits"] else INVOICE).validate_json(row["document"])
            if len(page) < PAPERS:
                return
            after = page[-1]["number"]

    async def still(self, held: Held) -> bool:
        """Whether a row still names these bytes of this file's."""
        source = SOURCES[held.source]
        sql = f"SELECT EXISTS (SELECT FROM {source.table} WHERE id = $1 AND {source.column} = $2)"
        found: bool = await self._db.fetchval(sql, held.id, held.object_key)
        return found


def _page(source: Source, after: bool) -> str:
    key = ", ".join(source.key)
    values = ", ".join(f"${number}" for number in range(3, 3 + len(source.key)))
    further = f"WHERE ({key}) > ({values})" if after else ""
    return f"SELECT * FROM ({source.rows}) AS f {further} ORDER BY {key} LIMIT $2"
