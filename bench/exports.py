"""An export's archive against `zip -0`: the same files, read and written on the same disk, none of them compressed.

Ours reads them through the store, sums them up in threads as they pass, hashes the archive and answers when it would
survive a power cut; zip lets the kernel write it when it likes. It takes the command `zip`.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Final

import trio

from bench.measure import Measure, interleaved
from veza.domain.ids import utc_now
from veza.gateways.archive import Archive, Entry, write_archive
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects

FILES: Final = 12
SIZE: Final = 25 * 1024 * 1024  # a song of four minutes, as it is recorded
AIM: Final = 0.5
ROUNDS: Final = 3
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS: Final = count()


def run() -> list[Measure]:
    """The benchmark of this module."""
    with tempfile.TemporaryDirectory(prefix="veza-bench-", dir=".") as folder:
        root = Path(folder)
        keys = trio.run(_prepare, root)
        paths = [root / "sha256" / key[:2] / key for key in keys]
        found = interleaved(partial(_ours, root, keys), partial(_zip, root, paths), ROUNDS)
    return [
        Measure(
            name="an export's archive against zip -0",
            value=found.ratio,
            unit="x",
            aim=f">= {AIM}",
            met=found.ratio >= AIM,
            aa_spread=found.aa_spread,
            detail=f"{found.a:,.0f} against {found.b:,.0f} MB/s of {FILES * SIZE >> 20} MB in {FILES} files",
        )
    ]


async def _prepare(root: Path) -> list[str]:
    async with _open(root) as objects:
        return [(await objects.put(_noise(number))).key for number in range(FILES)]


async def _noise(seed: int) -> AsyncIterator[bytes]:
    piece = Random(seed).randbytes(1024 * 1024)
    for _ in range(SIZE // len(piece)):
        yield piece


def _ours(root: Path, keys: list[str]) -> float:
    """MB a second."""
    seconds, key = trio.run(_archive, root, keys)
    (root / "sha256" / key[:2] / key).unlink()
    return FILES * SIZE / 1e6 / seconds


async def _archive(root: Path, keys: list[str]) -> tuple[float, str]:
    at = START + timedelta(seconds=2 * next(MOMENTS))  # another archive each time, as the same is kept once

    async with _open(root) as objects:

        async def fill(archive: Archive) -> None:
            for number, key in enumerate(keys):
                async with objects.read(key) as chunks:
                    await archive.add(Entry(f"files/cloud/{number}.wav", at, SIZE), chunks)

        began = perf_counter()
        stored = await write_archive(fill, objects.put)
        return perf_counter() - began, stored.key


def _zip(root: Path, paths: list[Path]) -> float:
    """MB a second."""
    made = root / "peer.zip"
    began = perf_counter()
    subprocess.run(["zip", "-q", "-0", "-j", str(made), *map(str, paths)], check=True)
    seconds = perf_counter() - began
    made.unlink()
    return FILES * SIZE / 1e6 / seconds


def _open(root: Path) -> AbstractAsyncContextManager[LocalObjects]:
    return LocalObjects.open(root, Links(b"k" * 32, "https://veza.example", utc_now))
