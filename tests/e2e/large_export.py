"""A process that makes one export and says what it took: `python -m tests.e2e.large_export DSN FOLDER USER_ID`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from uuid import UUID

import trio

from tests.buckets import open_local
from veza.actors.export_contents import Contents, Sources, Tally
from veza.gateways.archive import write_archive
from veza.gateways.invoice_pdf import Printer
from veza.store.bridge import Database
from veza.store.export_data import ExportData


async def main(dsn: str, folder: str, user_id: str) -> None:
    async with Database.open(dsn, size=2) as db, open_local(Path(folder)) as objects:
        await db.ping()
        forget_the_peak()
        before, began = peak(), perf_counter()
        contents = Contents(Sources(ExportData(db), objects, Printer()), UUID(user_id), datetime.now(UTC), Tally())
        stored = await write_archive(contents.write, objects.put)
        seconds = perf_counter() - began
        told = {"key": stored.key, "size": stored.size_bytes, "grown": peak() - before, "seconds": seconds}
    print(json.dumps(told))  # noqa: T201 - this is what it is run for


def forget_the_peak() -> None:
    """The peak is from now on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most memory that was resident at once, in bytes. What `getrusage` tells has the parent's in it as well."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
