"""What is put into an export: from a real database and real objects, some of which go while it is made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
import structlog
import trio

from tests.buckets import STORES, open_local, open_store
from tests.store.belongings import AT, Belongings, Person
from tests.unpack import Unpacked
from veza.actors.export_contents import Contents, Sources, Tally
from veza.domain.exports import Progress
from veza.domain.ids import IdMint
from veza.gateways.archive import write_archive
from veza.gateways.invoice_pdf import Printer
from veza.gateways.objects import ObjectMissing, Objects
from veza.store.bridge import Database
from veza.store.export_data import ExportData, Held
from veza.store.personal_data import shown, withheld


async def one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


async def whole(archive: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in archive])


@dataclass
class Meddled(ExportData):
    """Something happens to each file after it was found, before it is read."""

    db: Database
    meddle: Callable[[Held], Any]

    def __post_init__(self) -> None:
        super().__init__(self.db)

    async def files(self, user_id: UUID) -> Any:
        async for held in super().files(user_id):
            await self.meddle(held)
            yield held


@dataclass
class Home:
    """A person with files, and an export of theirs."""

    db: Database
    objects: Objects
    folder: Path
    belongings: Belongings
    tally: Tally = field(default_factory=Tally)

    async def person(self, name: str = "ANN") -> Person:
        """With six files, whose bytes are what they are."""
        who = await self.belongings.person(name)
        async with self.db.transaction() as tx:
            for table, column in (
                ("cloud_files", "object_key"),
                ("cloud_versions", "object_key"),
                ("gear_documents", "object_key"),
                ("product_files", "object_key"),
                ("products", "cover_key"),
                ("products", "preview_key"),
            ):
                stored = await self.objects.put(one(f"{table}.{column} of {name}".encode()))
                key, size = stored.key, stored.size_bytes
                sized = ", size_bytes = $2" if table != "products" else ""
                await tx.execute(f"UPDATE {table} SET {column} = $1{sized}", key, *([size] if sized else []))  # noqa: S608
        return who

    async def export(self, who: Person, data: ExportData | None = None) -> Unpacked:
        contents = Contents(Sources(data or ExportData(self.db), self.objects, Printer()), who.id, AT, self.tally)
        return Unpacked.of(await write_archive(contents.write, whole))

    async def run(self, sql: str, *args: object) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(sql, *args)


@asynccontextmanager
async def open_home(db: Database, folder: Path) -> AsyncIterator[Home]:
    async with open_local(folder) as objects:
        yield Home(db, objects, folder, Belongings(db, IdMint(lambda: datetime.now(UTC), Random(4))))


@pytest.mark.parametrize("kind", STORES)
async def test_an_export_is_made_of_either_store_and_kept_in_it(
    db: Database, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    async with open_store(kind, tmp_path, request) as objects:
        home = Home(db, objects, tmp_path, Belongings(db, IdMint(lambda: datetime.now(UTC), Random(4))))
        ann = await home.person()
        contents = Contents(Sources(ExportData(db), objects, Printer()), ann.id, AT, home.tally)
        stored = await write_archive(contents.write, objects.put)
        async with objects.read(stored.key) as chunks:
            opened = Unpacked.of(await whole(chunks))
        assert len(opened.files) == 6
        assert set(opened.files.values()) > {b"cloud_files.object_key of ANN", b"products.cover_key of ANN"}
        for name in opened.names:
            assert not name.startswith(("/", ".."))


async def test_everything_is_in_it_and_every_file_where_it_belongs(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        opened = await home.export(ann)
        product, gear = ann.product.hex[-8:], (await db.fetchval("SELECT id FROM gear")).hex[-8:]
    assert opened.files == {
        "files/cloud/ANN.wav": b"cloud_files.object_key of ANN",
        "files/cloud/ANN (version 1).wav": b"cloud_versions.object_key of ANN",
        f"files/gear/ANN ({gear})/ANN.pdf": b"gear_documents.object_key of ANN",
        f"files/products/ANN ({product})/ANN.wav": b"product_files.object_key of ANN",
        f"files/products/ANN ({product})/cover.png": b"products.cover_key of ANN",
        f"files/products/ANN ({product})/preview.mp3": b"products.preview_key of ANN",
    }
    tables = {name for name, _ in shown()}
    assert set(opened.names) == {
        *opened.files,
        "index.html",
        "data/files.json",
        *(f"data/{name}.json" for name in tables),
    }
    size = sum(map(len, opened.files.values()))
    assert home.tally.progress == Progress(6, 6, size, size)


async def test_each_table_says_what_its_columns_mean_and_the_page_how_many_rows_it_has(
    db: Database, tmp_path: Path
) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        await home.belongings.trade(ann, ann)
        opened = await home.export(ann)
    for name, table in shown():
        data = opened.data(name)
        assert list(data) == ["table", "about", "columns", "withheld", "rows"]
        assert (data["table"], data["about"]) == (name, table.about)
        assert data["columns"] == dict(table.columns)
        assert data["withheld"] == dict(table.withheld)
        number = len(data["rows"])
        line = opened.page.partition(f'<a href="data/{name}.json">{table.title}</a>')[2].partition("</li>")[0]
        assert f">{number} {'entry' if number == 1 else 'entries'}<" in line
    for _, unseen in withheld():
        assert f"<li>{unseen.title}: " in opened.page.replace("&#x27;", "'")


async def test_the_page_leads_to_everything_in_the_archive_and_folds_what_is_empty(
    db: Database, tmp_path: Path
) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        await home.run("UPDATE cloud_files SET name = 'Ünder #1? 100% \"so\" <b>.wav'")
        opened = await home.export(ann)
    links = {unquote(address) for address in re.findall(r'href="([^"]*)"', opened.page)}
    assert links == set(opened.names) - {"index.html"}
    empty = re.findall(r'<a href="data/(\w+).json">', opened.page.partition("<h2>Nothing held</h2>")[2])
    assert {name for name, _ in shown() if not opened.rows(name)} == set(empty) - {"files"}
    assert "orders" in empty


async def test_the_manifest_leads_from_each_row_to_its_bytes(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        await home.run(
            "INSERT INTO cloud_versions SELECT gen_random_uuid(), id, version, object_key, size_bytes, content_type,"
            " created_at FROM cloud_files"
        )
        opened = await home.export(ann)
    manifest = opened.data("files")
    assert list(manifest) == ["about", "columns", "rows"]
    found: dict[tuple[str, str], bytes] = {}
    for row in manifest["rows"]:
        assert list(row) == list(manifest["columns"])
        assert row["size_bytes"] == len(opened.files[row["path"]])
        found[row["kind"], row["id"]] = opened.files[row["path"]]
        versions = {each["id"]: each.get("version") for each in opened.rows(row["table"])}
        assert row["version"] == versions[row["id"]]
    [file], [product] = opened.rows("cloud_files"), opened.rows("products")
    then, now = opened.rows("cloud_versions")
    if then["version"] == file["version"]:
        then, now = now, then
    assert found == {
        ("cloud_file", file["id"]): b"cloud_files.object_key of ANN",
        ("snapshot", now["id"]): b"cloud_files.object_key of ANN",
        ("snapshot", then["id"]): b"cloud_versions.object_key of ANN",
        ("gear_document", opened.rows("gear_documents")[0]["id"]): b"gear_documents.object_key of ANN",
        ("product_file", opened.rows("product_files")[0]["id"]): b"product_files.object_key of ANN",
        ("cover", product["id"]): b"products.cover_key of ANN",
        ("preview", product["id"]): b"products.preview_key of ANN",
    }
    assert {row["path"] for row in manifest["rows"]} == set(opened.files)


async def test_thousands_of_files_are_listed_each_once(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        await home.run(
            "INSERT INTO cloud_files SELECT gen_random_uuid(), owner_id, n || '.wav', words, version, object_key,"
            " size_bytes, content_type, created_at, updated_at FROM cloud_files, generate_series(1, 3000) AS n"
        )
        opened = await home.export(ann)
    paths = [row["path"] for row in opened.data("files")["rows"]]
    assert len(paths) == len(set(paths)) == 3006
    assert sorted(paths) == sorted(opened.files)
    assert opened.page.count('<a href="files/') == 3006
    assert "<summary>Cloud files</summary>" in opened.page


async def test_invoices_and_credit_notes_of_what_they_bought_are_in_it_as_pdf(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann, bob = await home.person(), await home.person("BOB")
        trade = await home.belongings.trade(ann, bob)
        opened, his = await home.export(ann), await home.export(bob)
    papers = {path: content for path, content in opened.files.items() if "invoices" in path}
    number = f"2026-{trade.number:06}"
    assert set(papers) == {f"files/invoices/invoice-{number}.pdf", f"files/invoices/credit-note-CN-{number}.pdf"}
    assert all(content.startswith(b"%PDF-1.7") for content in papers.values())
    listed = {(row["kind"], row["id"], row["path"]) for row in opened.data("files")["rows"] if row["path"] in papers}
    assert {(kind, number) for kind, number, _ in listed} == {("invoice", number), ("credit_note", f"CN-{number}")}
    assert {row["number"] for row in opened.rows("invoice_documents")} == {each for _, each, _ in listed}
    assert not [path for path in his.files if "invoices" in path]
    assert home.tally.progress.files_done == home.tally.progress.files_total


async def test_thousands_of_rows_are_one_table_of_valid_json(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        await home.run(
            "INSERT INTO notifications (id, user_id, number, kind, title, body, data)"
            " SELECT gen_random_uuid(), $1, n, 'x', 'Ü', '', '{}' FROM generate_series(2, 5000) AS n",
            ann.id,
        )
        opened = await home.export(ann)
    assert sorted(row["number"] for row in opened.rows("notifications")) == list(range(1, 5001))


async def test_names_that_are_alike_are_numbered(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        await home.run(
            "INSERT INTO cloud_files SELECT gen_random_uuid(), owner_id, '../x.wav', words, version, object_key,"
            " size_bytes, content_type, created_at, updated_at FROM cloud_files, generate_series(1, 3)"
        )
        opened = await home.export(ann)
    assert {name for name in opened.files if "x" in name} == {
        "files/cloud/_._x.wav",
        "files/cloud/_._x (2).wav",
        "files/cloud/_._x (3).wav",
    }


async def test_what_its_owner_deletes_meanwhile_is_left_out_and_named(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()

        async def delete(held: Held) -> None:
            if held.source in ("cloud", "covers"):
                (home.folder / "sha256" / held.object_key[:2] / held.object_key).unlink()
                gone = "DELETE FROM cloud_files", "UPDATE products SET cover_key = NULL, cover_type = NULL"
                await home.run(gone[held.source == "covers"])

        opened = await home.export(ann, Meddled(db, delete))
    left_out = json.loads(opened.archive.read("data/left_out.json"))
    assert [(each["table"], each["name"]) for each in left_out] == [("cloud_files", "ANN.wav"), ("products", "cover")]
    assert "2 files were deleted" in opened.page
    assert '<a href="data/left_out.json">' in opened.page
    assert not {"cloud_file", "cover"} & {row["kind"] for row in opened.data("files")["rows"]}
    assert home.tally.progress.files_done == home.tally.progress.files_total == len(opened.files)
    assert home.tally.progress.bytes_done == home.tally.progress.bytes_total


async def test_a_file_that_is_gone_while_its_row_stands_is_a_failure_and_loudly_told(
    db: Database, tmp_path: Path
) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        key: str = await db.fetchval("SELECT object_key FROM gear_documents")
        (tmp_path / "sha256" / key[:2] / key).unlink()
        with structlog.testing.capture_logs() as lines, pytest.raises(ObjectMissing):
            await home.export(ann)
    [line] = [line for line in lines if line["event"] == "export_object_missing"]
    assert (line["log_level"], line["table"], line["object_key"]) == ("error", "gear_documents", key)


async def test_a_file_that_lost_a_part_is_a_failure_and_loudly_told(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        key: str = await db.fetchval("SELECT object_key FROM gear_documents")
        os.truncate(tmp_path / "sha256" / key[:2] / key, 3)
        with structlog.testing.capture_logs() as lines, pytest.raises(ObjectMissing):
            await home.export(ann)
    [line] = [line for line in lines if line["event"] == "export_object_damaged"]
    assert (line["log_level"], line["table"], line["object_key"]) == ("error", "gear_documents", key)


async def test_what_is_added_meanwhile_makes_the_total_greater(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        key: str = sha256(b"cloud_files.object_key of ANN").hexdigest()

        async def add(held: Held) -> None:
            if held.source == "cloud":
                await home.run(
                    "INSERT INTO gear_documents SELECT gen_random_uuid(), gear_id, type, $1, filename, content_type,"
                    " 29, created_at FROM gear_documents",
                    key,
                )

        opened = await home.export(ann, Meddled(db, add))
    assert len(opened.files) == 7
    assert home.tally.progress.files_done == home.tally.progress.files_total == 7


async def test_a_cancel_lets_go_of_everything(db: Database, tmp_path: Path) -> None:
    async with open_home(db, tmp_path) as home:
        ann = await home.person()
        for delay in (0.001, 0.005, 0.02, 0.03, 0.04, 0.05):
            with trio.move_on_after(delay):
                await home.export(ann)
        with trio.fail_after(10):
            assert len((await home.export(ann)).files) == 6
