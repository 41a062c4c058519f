"""An export of five gigabytes of files: the process stays as small as it is, and the archive is whole."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from zipfile import ZipFile
from zlib import crc32

import pytest
import trio

from tests.store.belongings import Belongings
from veza.domain.ids import IdMint
from veza.store.bridge import Database

pytestmark = pytest.mark.slow

GIGABYTE = 1 << 30
SIZES = (9 * GIGABYTE // 2, GIGABYTE // 2)  # the first is more than 32 bits can say
MOST_GROWTH = 64 << 20


def sparse(objects: Path, key: str, size: int) -> None:
    """An object of nothing but zeros, which takes no room."""
    path = objects / "sha256" / key[:2] / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def sum_of_zeros(size: int) -> int:
    """The CRC-32 of so many bytes of nothing."""
    found, piece = 0, bytes(1 << 20)
    for _ in range(size // len(piece)):
        found = crc32(piece, found)
    return found


async def test_an_export_of_five_gigabytes_grows_the_process_by_less_than_64_megabytes(
    db: Database, dsn: str, tmp_path: Path
) -> None:
    ann = await Belongings(db, IdMint(lambda: datetime.now(UTC), Random(2))).person("ANN")
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM cloud_files")
        await tx.execute("DELETE FROM products")
        await tx.execute("DELETE FROM gear_documents")
        for number, size in enumerate(SIZES):
            sparse(tmp_path, f"{number:064x}", size)
            await tx.execute(
                "INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type,"
                " created_at, updated_at) VALUES (gen_random_uuid(), $1, $2, '', 1, $3, $4, 'x/y', now(), now())",
                ann.id,
                f"{number}.wav",
                f"{number:064x}",
                size,
            )
    command = [sys.executable, "-m", "tests.e2e.large_export", dsn, str(tmp_path), str(ann.id)]
    with trio.fail_after(240):
        done = await trio.run_process(command, capture_stdout=True)
        told: dict[str, Any] = json.loads(done.stdout)
        archive = tmp_path / "sha256" / told["key"][:2] / told["key"]
        try:
            assert told["grown"] < MOST_GROWTH, told
            assert told["size"] == archive.stat().st_size > sum(SIZES)
            with ZipFile(archive) as opened:
                infos = [opened.getinfo(f"files/cloud/{number}.wav") for number in range(len(SIZES))]
            assert [(info.file_size, info.CRC) for info in infos] == [(size, sum_of_zeros(size)) for size in SIZES]
            await trio.run_process(["unzip", "-Zt", str(archive)], capture_stdout=True)  # others can read it as well
        finally:
            archive.unlink()
