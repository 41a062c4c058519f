"""What is put into an export: rows as JSON, a file a table; the person's files; and a page that says what there is."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol, Self
from uuid import UUID

import structlog
import trio

from veza.domain.archives import Names, folder, safe_name, versioned
from veza.domain.exports import Progress
from veza.domain.invoices import CreditNote, Invoice
from veza.gateways.archive import Archive, Entry
from veza.gateways.export_page import FileLine, Line, Page, render
from veza.gateways.objects import ObjectMissing, Objects
from veza.store.export_data import ExportData, Held, Moment
from veza.store.personal_data import GROUPS, Shown, withheld

log = structlog.get_logger()

INDEX: Final = "index.html"
MANIFEST: Final = "data/files.json"
LEFT_OUT: Final = "data/left_out.json"
SEPARATOR: Final = ",\n"
ENDINGS: Final = {  # of covers and previews, whose type we know and whose name nobody gave
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
    "audio/wav": ".wav",
    "audio/mp4": ".m4a",
}

FILES_ROOM: Final = "files/"
ROOMS: Final = {
    "cloud": "Cloud files",
    "gear": "Gear documents",
    "products": "Files of your products",
    "invoices": "Invoices and credit notes",
}
KINDS: Final = {
    "cloud": "cloud_file",
    "snapshots": "snapshot",
    "gear": "gear_document",
    "products": "product_file",
    "covers": "cover",
    "previews": "preview",
}
"""What a file of each source is called in the manifest."""

ABOUT_MANIFEST: Final = (
    "Which file in this archive is of which row. A row may have several, and a file be of several rows."
)
MANIFEST_COLUMNS: Final = {
    "path": "where the file is in this archive",
    "kind": f"what it is to its row: {', '.join([*KINDS.values(), 'invoice', 'credit_note'])}",
    "table": "the table whose row it belongs to; its rows are in data/<table>.json",
    "id": "by which that row is found there: the first of its columns",
    "version": "of a cloud file or a snapshot, the version whose content this is; else null",
    "size_bytes": "how many bytes it has",
}


@dataclass
class Tally:
    """How far an export is, for whoever looks while it goes on."""

    progress: Progress = field(default_factory=Progress)

    def expect(self, files: int = 0, size_bytes: int = 0) -> None:
        """There is more to come than was known; less, below zero."""
        now = self.progress
        self.progress = replace(
            now, files_total=now.files_total + files, bytes_total=max(0, now.bytes_total + size_bytes)
        )

    def count(self, files: int = 0, size_bytes: int = 0) -> None:
        """That much more is done. What was added since it was reckoned makes the total greater."""
        now = self.progress
        files_done, bytes_done = now.files_done + files, now.bytes_done + size_bytes
        self.progress = Progress(
            files_done, max(now.files_total, files_done), bytes_done, max(now.bytes_total, bytes_done)
        )

    def end(self) -> None:
        """There is no more: what was reckoned with and did not come was deleted before it was found."""
        now = self.progress
        self.progress = replace(now, files_total=now.files_done, bytes_total=now.bytes_done)


class Printer(Protocol):
    """What makes PDFs."""

    async def print(self, document: Invoice | CreditNote) -> bytes: ...


@dataclass(frozen=True)
class Sources:
    """What every export is made of: rows, objects, and invoices as they are printed."""

    data: ExportData
    objects: Objects
    printer: Printer


class Contents:
    """One person's, written once."""

    def __init__(self, sources: Sources, user_id: UUID, made_at: datetime, tally: Tally) -> None:
        self._data = sources.data
        self._objects = sources.objects
        self._printer = sources.printer
        self._user_id = user_id
        self._made_at = made_at
        self._tally = tally
        self._names = Names()
        self._listed = _Listing()
        self._left_out: list[dict[str, str]] = []

    async def write(self, archive: Archive) -> None:
        """Put everything into the archive.

        Raises StoreError, Unavailable and what else reading objects raises; ObjectMissing where a row names bytes that
        are gone, or not as many as it says, which is logged: it is a loss, and somebody has to look.
        """
        await self._data.write_papers(self._user_id)
        async with self._data.moment(self._user_id) as moment:
            username, amount = await moment.username(), await moment.amount()
            self._tally.expect(amount.files, amount.size_bytes)
            lines = [
                await self._table(archive, moment, group, name, table)
                for group, tables in GROUPS.items()
                for name, table in tables.items()
                if isinstance(table, Shown)
            ]
        async with aclosing(self._data.files(self._user_id)) as files:
            async for held in files:
                await self._file(archive, held)
        async with aclosing(self._data.papers(self._user_id)) as papers:
            async for paper in papers:
                await self._paper(archive, paper)
        self._tally.end()
        await self._parts(archive, MANIFEST, self._listed.manifest())
        if self._left_out:
            await self._parts(archive, LEFT_OUT, [json.dumps(self._left_out, ensure_ascii=False, indent=1).encode()])
        await self._parts(archive, INDEX, render(self._page(username, lines), self._listed.lines()))

    def _page(self, username: str, lines: Sequence[Line]) -> Page:
        done = self._tally.progress
        return Page(
            username,
            self._made_at,
            lines,
            [(table.title, table.why) for _, table in withheld()],
            done.files_done,
            done.bytes_done,
            MANIFEST,
            len(self._left_out),
            LEFT_OUT,
        )

    # -- rows ---------------------------------------------------------------------------------------------------------

    async def _table(self, archive: Archive, moment: Moment, group: str, name: str, table: Shown) -> Line:
        rows = _Rows(moment, name, table)
        path = f"data/{name}.json"
        async with aclosing(rows.text()) as text:
            await archive.add(Entry(path, self._made_at, packed=True), text)
        return Line(group, table.title, path, rows.number, table.about)

    async def _parts(self, archive: Archive, path: str, parts: Iterable[bytes]) -> None:
        await archive.add(Entry(path, self._made_at, packed=True), _Parts(parts))

    # -- files --------------------------------------------------------------------------------------------------------

    async def _file(self, archive: Archive, held: Held) -> None:
        async with AsyncExitStack() as stack:
            try:
                size = held.size_bytes
                if size is None:
                    size = await self._objects.size(held.object_key)
                    self._tally.expect(size_bytes=size)
                chunks = await stack.enter_async_context(self._objects.read(held.object_key))
            except ObjectMissing:
                if await self._data.still(held):
                    log.error("export_object_missing", table=held.table, id=str(held.id), object_key=held.object_key)
                    raise
                self._leave_out(held)
                return
            path = self._names.unique(path_of(held))
            counted = _Counted(chunks, self._tally)
            await archive.add(Entry(path, held.modified, size), counted)
        if counted.size_bytes != size:
            log.error("export_object_damaged", table=held.table, id=str(held.id), object_key=held.object_key)
            raise ObjectMissing(held.object_key)
        self._tally.count(files=1)
        self._listed.add(Listed(path, KINDS[held.source], held.table, str(held.id), held.version, size))
        for snapshot, version in zip(held.snapshots, held.snapshot_versions, strict=True):
            self._listed.add(Listed(path, KINDS["snapshots"], "cloud_versions", str(snapshot), version, size))

    async def _paper(self, archive: Archive, paper: Invoice | CreditNote) -> None:
        content = await self._printer.print(paper)
        path, size = f"{FILES_ROOM}invoices/{safe_name(paper.filename)}", len(content)
        await archive.add(Entry(path, paper.issued_at, size), _Parts([content]))
        self._tally.count(files=1, size_bytes=size)
        kind = "credit_note" if isinstance(paper, CreditNote) else "invoice"
        self._listed.add(Listed(path, kind, "invoice_documents", paper.number, None, size))

    def _leave_out(self, held: Held) -> None:
        """Its owner deleted it, or gave it other bytes, after it was found."""
        self._left_out.append({"table": held.table, "id": str(held.id), "name": held.name})
        self._tally.expect(-1, -(held.size_bytes or 0))


def path_of(held: Held) -> str:
    """Where a file is put, unless another is there."""
    name = safe_name(held.name)
    if held.source == "cloud":
        return f"files/cloud/{name}"
    if held.version is not None:
        return f"files/cloud/{versioned(name, held.version)}"
    if held.folder is None or held.folder_id is None:
        raise ValueError(f"{held.source} are in folders")
    if held.table == "products":
        name += ENDINGS.get(held.content_type, "")
    room = "gear" if held.source == "gear" else "products"
    return f"files/{room}/{folder(held.folder, held.folder_id)}/{name}"


class _Rows:
    """A table's file, and how many rows it had when it is written."""

    def __init__(self, moment: Moment, name: str, table: Shown) -> None:
        self._moment = moment
        self._name = name
        self._table = table
        self.number = 0

    async def text(self) -> AsyncGenerator[bytes, None]:
        table = self._table
        head = {
            "table": self._name,
            "about": table.about,
            "columns": dict(table.columns),
            "withheld": dict(table.withheld),
            "rows": [],
        }
        yield json.dumps(head, ensure_ascii=False, indent=1).removesuffix("]\n}").encode()
        async with aclosing(self._moment.rows(self._name, table)) as pages:
            async for page in pages:
                yield self._told(page)
        yield b"\n]}\n"

    def _told(self, page: Sequence[str]) -> bytes:
        before = SEPARATOR if self.number else "\n"
        self.number += len(page)
        return f"{before}{SEPARATOR.join(page)}".encode()


@dataclass(frozen=True)
class Listed:
    """Whose a file in the archive is: a line of the manifest."""

    path: str
    kind: str
    table: str
    id: str
    version: int | None
    size_bytes: int


class _Listing:
    """What was written and whose it is, until the end: packed, as a person may have very many files."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(1)
        self._packed: list[bytes] = []

    def add(self, listed: Listed) -> None:
        line = json.dumps(vars(listed), ensure_ascii=False, separators=(",", ":")) + "\n"
        if packed := self._packer.compress(line.encode()):
            self._packed.append(packed)

    def manifest(self) -> Iterator[bytes]:
        """The manifest, in parts."""
        head = {"about": ABOUT_MANIFEST, "columns": MANIFEST_COLUMNS, "rows": []}
        yield json.dumps(head, ensure_ascii=False, indent=1).removesuffix("]\n}").encode()
        before = "\n"
        for lines in self._read():
            yield f"{before}{SEPARATOR.join(lines)}".encode()
            before = SEPARATOR
        yield b"\n]}\n"

    def lines(self) -> Iterator[FileLine]:
        """Each file once, for the page."""
        last = ""
        for line in (line for lines in self._read() for line in lines):
            listed = Listed(**json.loads(line))
            if listed.path != last:
                room, _, name = listed.path.removeprefix(FILES_ROOM).partition("/")
                yield FileLine(ROOMS[room], name, listed.path, listed.size_bytes)
            last = listed.path

    def _read(self) -> Iterator[list[str]]:
        """All lines, some at a time."""
        unpacker, rest = zlib.decompressobj(), b""
        for packed in (*self._packed, self._packer.copy().flush()):
            *lines, rest = (rest + unpacker.decompress(packed)).split(b"\n")
            if lines:
                yield [line.decode() for line in lines]


class _Parts:
    """Parts that are made as they are asked for, as something to iterate; others have their turn in between."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for part in self._parts:
            return part
        raise StopAsyncIteration


class _Counted:
    """A file's chunks, counted as they pass."""

    def __init__(self, chunks: AsyncIterator[bytes], tally: Tally) -> None:
        self.size_bytes = 0
        self._chunks = chunks
        self._tally = tally

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self.size_bytes += len(chunk)
        self._tally.count(size_bytes=len(chunk))
        return chunk
