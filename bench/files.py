"""Files in and out: through all of our HTTP room and the store on a disk, against a bare ASGI app that does no more
than write what it receives, or send what it reads, 256 KB at a time, on the same Hypercorn.

Each server is a process of its own. Ours takes multipart, counts, hashes, and answers when the bytes would survive a
power cut; the bare one takes the bytes as they are and lets the kernel write them when it likes. Every upload is of
other bytes, since the same are kept once. Our access log is written as always, to /dev/null.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Final

import psutil
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Blueprint, Response

from bench.measure import Comparison, Measure, interleaved
from veza import logs
from veza.domain.ids import system_mint, utc_now
from veza.gateways.objects import CHUNK_BYTES
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects
from veza.http.app import create_app
from veza.http.body import UploadLimits
from veza.http.deadline import renew
from veza.http.downloads import send_object
from veza.http.parts import ConfigSummary, HttpSettings, Parts, parts
from veza.http.uploads import receive_file
from veza.listener import listen

SIZE: Final = 256 * 1024 * 1024
AIM: Final = 0.8
ROUNDS: Final = 4
SECONDS: Final = 60  # for one transfer, on the busiest machine
FEW, MANY = 10, 1000
TAKEN: Final = 256 * 1024  # of each download, before its client stops reading: past all that is buffered at the start
BOUNDARY: Final = b"bench-boundary"
BEFORE: Final = (
    b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="take.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n"
)
AFTER: Final = b"\r\n--" + BOUNDARY + b"--\r\n"

NOISE: Final = Random(7).randbytes(1024 * 1024)


def run() -> list[Measure]:
    """The benchmark of this module."""
    with tempfile.TemporaryDirectory(prefix="veza-bench-", dir=".") as folder, _server("ours", folder) as ours:
        with _server("bare", folder) as bare:
            uploads = interleaved(partial(ours.upload, BEFORE, AFTER), partial(bare.upload, b"", b""), ROUNDS)
            downloads = interleaved(ours.download, bare.download, ROUNDS)
        memory = [ours.memory(many) for many in (FEW, MANY)]
    return [
        _speed("an upload", uploads, "multipart, counted, hashed and synced; against bytes that are only written"),
        _speed("a download", downloads, "256 KB at a time, either way"),
        *(_weight(many, mb) for many, mb in zip((FEW, MANY), memory, strict=True)),
    ]


def _speed(what: str, found: Comparison, detail: str) -> Measure:
    return Measure(
        name=f"{what} against a bare ASGI app",
        value=found.ratio,
        unit="x",
        aim=f">= {AIM}",
        met=found.ratio >= AIM,
        aa_spread=found.aa_spread,
        detail=f"{found.a:,.0f} against {found.b:,.0f} MB/s of {SIZE >> 20} MB, {detail}",
    )


def _weight(many: int, mb: float) -> Measure:
    return Measure(
        name=f"memory of {many:,} downloads at once",
        value=mb,
        unit="MB",
        aim="",
        met=None,
        aa_spread=None,
        detail=f"{mb * 1024 / many:,.0f} KB each, whose clients have stopped reading",
    )


@dataclass
class Server:
    process: psutil.Process
    port: int
    path: str
    """Of the file that is fetched."""

    numbers: Iterator[int] = field(default_factory=count)

    def upload(self, before: bytes, after: bytes) -> float:
        return SIZE / 1e6 / trio.run(self._upload, before, after)

    def download(self) -> float:
        return SIZE / 1e6 / trio.run(self._download)

    def memory(self, many: int) -> float:
        """MB that so many downloads take at once."""
        return trio.run(self._memory, many)

    async def _upload(self, before: bytes, after: bytes) -> float:
        length = SIZE + len(before) + len(after)
        head = (
            f"POST /api/v1/bench/upload HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
        )
        own = next(self.numbers).to_bytes(8) + NOISE[8:]
        began = perf_counter()
        with trio.fail_after(SECONDS):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                await stream.send_all(head.encode() + before)
                await stream.send_all(own)
                for _ in range(SIZE // len(NOISE) - 1):
                    await stream.send_all(NOISE)
                await stream.send_all(after)
                answer = await stream.receive_some(65536)
                assert answer.startswith(b"HTTP/1.1 200"), answer
        return perf_counter() - began

    async def _download(self) -> float:
        began = perf_counter()
        with trio.fail_after(SECONDS):
            async with await self._ask() as stream:
                got = 0
                while got < SIZE:
                    got += len(await stream.receive_some(1024 * 1024))
        return perf_counter() - began

    async def _memory(self, many: int) -> float:
        before = self.process.memory_info().rss
        async with AsyncExitStack() as stack:
            for _ in range(many):
                stream = await stack.enter_async_context(await self._ask())
                got = 0
                while got < TAKEN:
                    got += len(await stream.receive_some(TAKEN - got))
            await trio.sleep(1)  # what the server still fills of its buffers and the kernel's
            return (self.process.memory_info().rss - before) / (1 << 20)

    async def _ask(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(f"GET {self.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return stream


@contextmanager
def _server(role: str, folder: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "bench.files", role, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port, path = process.stdout.readline().split()
            yield Server(psutil.Process(process.pid), int(port), path)
        finally:
            process.kill()


# -- the servers -------------------------------------------------------------------------------------------------------


async def _chunks() -> Any:
    for _ in range(SIZE // len(NOISE)):
        yield NOISE


async def _ours(folder: Path) -> None:
    routes = Blueprint("bench", __name__)

    @routes.post("/upload")
    async def upload() -> Response:
        renew(SECONDS)
        stored = await parts().objects.put(await receive_file(UploadLimits(2 * SIZE)))
        assert stored.size_bytes == SIZE
        return Response("")

    @routes.get("/file/<key>")
    async def file(key: str) -> Response:
        return await send_object(key, filename="take.wav", content_type="audio/wav")

    app, new_id = create_app(), system_mint()
    app.register_blueprint(routes, url_prefix="/api/v1/bench")
    links = Links(bytes(32), "http://127.0.0.1", utc_now)
    async with LocalObjects.open(folder / "objects", links) as objects, trio.open_nursery() as nursery:
        app.bind(
            Parts.only(
                clock=utc_now,
                new_id=new_id,
                config=ConfigSummary(True, True, 0.1, True),
                checks={},
                root_alive=lambda: True,
                settings=HttpSettings(),
                objects=objects,
            )
        )
        key = (await objects.put(_chunks())).key
        at: str = await nursery.start(partial(listen, app, "127.0.0.1", 0, new_id=new_id, shutdown=trio.Event()))
        print(at.rpartition(":")[2], f"/api/v1/bench/file/{key}", flush=True)


class Bare:
    """An ASGI app of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("an ASGI app without a lifespan says so by an error")
        await (self._take(receive, send) if scope["method"] == "POST" else self._give(send))

    async def _take(self, receive: Any, send: Any) -> None:
        with self._path.with_suffix(".in").open("wb") as file:
            more, held = True, bytearray()
            while more:
                message = await receive()
                held += message.get("body", b"")
                more = message.get("more_body", False)
                if len(held) >= CHUNK_BYTES or not more:
                    await trio.to_thread.run_sync(file.write, held)
                    held = bytearray()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _give(self, send: Any) -> None:
        with self._path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            headers = [(b"content-length", str(size).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while chunk := await trio.to_thread.run_sync(file.read, CHUNK_BYTES):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _bare(folder: Path) -> None:
    path = folder / "bare"
    with path.open("wb") as file:
        for _ in range(SIZE // len(NOISE)):
            file.write(NOISE)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        [at] = await nursery.start(partial(serve, Bare(path), config))
        print(at.rpartition(":")[2], "/file", flush=True)


def main(role: str, folder: str) -> None:
    with open(os.devnull, "w", buffering=1) as nobody:
        logs.configure(log_format="json", out=nobody)
        trio.run({"ours": _ours, "bare": _bare}[role], Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
