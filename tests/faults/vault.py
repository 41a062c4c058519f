"""Where cloud files are hurt: owners who know what was acknowledged to them, and the proof that it is there.

An owner does one thing after another. When the process dies in the middle of one, its files may be found as they were
before or as they were to be, and as nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from random import Random
from typing import Final

import httpx
import trio

from tests.faults.stage import Stage, until
from tests.house import PASSWORD
from tests.processes import Program, answering, program, veza
from tests.shop import Json
from veza.actors.janitor import Janitor
from veza.domain.ids import utc_now
from veza.gateways.objects import PIECE_BYTES
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects
from veza.store.exports import ExportRows
from veza.store.orphans import Orphans
from veza.supervisors import one_for_one, permanent, running

FILES: Final = "/cloud/files"
NEW: Final = "new"  # stands for the id of a file whose upload was not answered
FORM: Final = {"Content-Type": "multipart/form-data; boundary=b"}
BEFORE: Final = b'--b\r\nContent-Disposition: form-data; name="file"; filename="take.wav"\r\n\r\n'
AFTER: Final = b"\r\n--b--\r\n"
FEW: Final = 3
BEGUN_BYTES: Final = 3 * PIECE_BYTES  # of an endless upload; of what came some waits to be written
NAMED: Final = "SELECT object_key, size_bytes FROM cloud_files UNION SELECT object_key, size_bytes FROM cloud_versions"


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


class Whole(httpx.AsyncByteStream):
    """A body in one piece. The library's own is a generator, which would be left behind where a kill cuts it."""

    def __init__(self, body: bytes) -> None:
        self._pieces = iter([body])

    def __aiter__(self) -> Whole:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


@dataclass(frozen=True)
class Kept:
    """A file as its owner knows it. Contents go by their SHA-256."""

    version: int
    content: str
    snapshots: Mapping[int, str] = field(default_factory=dict)

    def replaced(self, content: str) -> Kept:
        return replace(self, version=self.version + 1, content=content)

    def snapshotted(self) -> Kept:
        return replace(self, snapshots={**self.snapshots, self.version: self.content})

    def restored(self, version: int) -> Kept:
        kept = self if self.content in self.snapshots.values() else self.snapshotted()
        return kept.replaced(self.snapshots[version])

    def without(self, version: int) -> Kept:
        return replace(self, snapshots={at: kept for at, kept in self.snapshots.items() if at != version})


State = Mapping[str, Kept]


@dataclass
class Owner:
    """``knows`` is what was acknowledged; ``hopes``, what it will be once the thing in hand is."""

    name: str
    token: str
    knows: State = field(default_factory=dict)
    hopes: State | None = None
    acknowledged: int = 0

    @property
    def allowed(self) -> list[State]:
        return [self.knows] if self.hopes is None else [self.knows, self.hopes]

    async def call(self, client: httpx.AsyncClient, method: str, path: str, content: bytes | None = None) -> Json:
        body = b"" if content is None else BEFORE + content + AFTER
        headers = {"Authorization": f"Bearer {self.token}", "Content-Length": str(len(body))}
        request = client.build_request(method, path, headers=headers | ({} if content is None else FORM))
        request.stream = Whole(body)
        answer = await client.send(request)
        assert answer.is_success, answer.text
        data: Json = answer.json()["data"]
        return data

    async def _do(
        self, client: httpx.AsyncClient, hopes: State, method: str, path: str, content: bytes | None = None
    ) -> Json:
        self.hopes = hopes
        data = await self.call(client, method, path, content)
        self.knows, self.hopes = hopes, None
        self.acknowledged += 1
        return data

    async def upload(self, client: httpx.AsyncClient, content: bytes) -> str:
        hopes = {**self.knows, NEW: Kept(1, digest(content))}
        made = await self._do(client, hopes, "POST", FILES, content)
        self.knows = named(self.knows, made["id"])
        file_id: str = made["id"]
        return file_id

    async def replace(self, client: httpx.AsyncClient, file_id: str, content: bytes) -> None:
        hopes = {**self.knows, file_id: self.knows[file_id].replaced(digest(content))}
        await self._do(client, hopes, "PUT", f"{FILES}/{file_id}/content", content)

    async def snapshot(self, client: httpx.AsyncClient, file_id: str) -> None:
        hopes = {**self.knows, file_id: self.knows[file_id].snapshotted()}
        await self._do(client, hopes, "POST", f"{FILES}/{file_id}/versions")

    async def restore(self, client: httpx.AsyncClient, file_id: str, version: int) -> None:
        hopes = {**self.knows, file_id: self.knows[file_id].restored(version)}
        await self._do(client, hopes, "POST", f"{FILES}/{file_id}/restore/{version}")

    async def forget(self, client: httpx.AsyncClient, file_id: str, version: int) -> None:
        hopes = {**self.knows, file_id: self.knows[file_id].without(version)}
        await self._do(client, hopes, "DELETE", f"{FILES}/{file_id}/versions/{version}")

    async def delete(self, client: httpx.AsyncClient, file_id: str) -> None:
        hopes = {kept_id: kept for kept_id, kept in self.knows.items() if kept_id != file_id}
        await self._do(client, hopes, "DELETE", f"{FILES}/{file_id}")

    @asynccontextmanager
    async def uploading(self, port: int, method: str, path: str) -> AsyncIterator[None]:
        """An upload that has begun and goes no further."""
        head = (
            f"{method} /api/v1{path} HTTP/1.1",
            "Host: veza",
            f"Authorization: Bearer {self.token}",
            *(f"{name}: {value}" for name, value in FORM.items()),
            f"Content-Length: {10 * BEGUN_BYTES}",
            "\r\n",
        )
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all("\r\n".join(head).encode() + BEFORE + bytes(BEGUN_BYTES))
            yield

    async def go_on(self, client: httpx.AsyncClient, random: Random) -> None:
        """One thing after another."""
        while True:
            await self._do_something(client, random)

    async def _do_something(self, client: httpx.AsyncClient, random: Random) -> None:
        """Anything that may be done."""
        files = sorted(self.knows)
        if len(files) < FEW or random.random() < 0.2:
            await self.upload(client, some_content(random))
            return
        file_id = random.choice(files)
        kept = self.knows[file_id]
        version = random.choice(sorted(kept.snapshots)) if kept.snapshots else None
        what = random.choice(("replace", "replace", "snapshot", "snapshot", "restore", "restore", "forget", "delete"))
        if what == "delete":
            await self.delete(client, file_id)
        elif what == "restore" and version is not None:
            await self.restore(client, file_id, version)
        elif what == "forget" and version is not None:
            await self.forget(client, file_id, version)
        elif what == "snapshot":
            await self.snapshot(client, file_id)
        else:
            await self.replace(client, file_id, some_content(random))


def named(state: State, file_id: str) -> State:
    """The state with the new file's id told."""
    return {(file_id if each == NEW else each): kept for each, kept in state.items()}


@dataclass(frozen=True)
class Served:
    started: Program
    port: int
    client: httpx.AsyncClient


@dataclass
class Vault:
    stage: Stage
    owners: list[Owner] = field(default_factory=list)

    @property
    def objects(self) -> Path:
        return self.stage.directory / "var" / "objects"

    @asynccontextmanager
    async def serving(self, **settings: float) -> AsyncIterator[Served]:
        """A `veza serve` that answers. What an earlier one sent to the database is through before it looks."""
        await until(self.stage.quiet)
        environment = self.stage.environment(**settings)
        port = int(environment["PORT"])
        url = f"http://127.0.0.1:{port}"
        async with program(*veza("serve"), environment=environment, cwd=self.stage.directory) as started:
            await answering(f"{url}/readyz", started)
            async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20) as client:
                yield Served(started, port, client)

    @property
    def acknowledged(self) -> int:
        return sum(owner.acknowledged for owner in self.owners)

    @asynccontextmanager
    async def janitor(self, grace: timedelta) -> AsyncIterator[Janitor]:
        """One of its own over the same files and rows, which makes its rounds when it is told."""
        stage = self.stage
        async with LocalObjects.open(self.objects, Links(b"k" * 32, "https://veza.example", utc_now)) as objects:
            exports = ExportRows(stage.db, stage.sales.new_id)
            janitor = Janitor(Orphans(stage.db), exports, objects, utc_now, grace)
            tree = one_for_one("veza", permanent("janitor", lambda: janitor))
            async with running(tree, clock=utc_now, random=Random(1)):
                yield janitor

    async def sign_up(self, served: Served, many: int) -> list[Owner]:
        for number in range(many):
            body = {"username": f"owner_{number}", "email": f"owner_{number}@veza.example", "password": PASSWORD}
            answer = (await served.client.post("/auth/register", json=body)).raise_for_status()
            self.owners.append(Owner(body["username"], answer.json()["data"]["access_token"]))
        return self.owners

    # -- the proof -----------------------------------------------------------------------------------------------------

    async def assert_kept(self, served: Served) -> None:
        """What each owner was told is so, and the bytes of it are there and right; from now on they know the rest."""
        self.assert_whole()
        for owner in self.owners:
            found = await self._found(served, owner)
            unknown = [file_id for file_id in found if file_id not in owner.knows]
            assert len(unknown) <= 1
            allowed = [named(state, *unknown) if unknown else state for state in owner.allowed]
            assert found in allowed, owner.name
            owner.knows, owner.hopes = found, None

    async def _found(self, served: Served, owner: Owner) -> dict[str, Kept]:
        """What an owner finds, each content read."""
        found = {}
        for file in (await owner.call(served.client, "GET", f"{FILES}?limit=100"))["files"]:
            path = f"{FILES}/{file['id']}"
            headers = {"Authorization": f"Bearer {owner.token}"}
            content = (await served.client.get(f"{path}/content", headers=headers)).raise_for_status().content
            assert len(content) == file["size_bytes"]
            versions = (await owner.call(served.client, "GET", f"{path}/versions?limit=100"))["versions"]
            snapshots = {each["version"]: each["storage_key"] for each in versions}  # on disk, the SHA-256
            found[file["id"]] = Kept(file["version"], digest(content), snapshots)
        return found

    def assert_whole(self) -> None:
        """Every object has the bytes that its name says, every row's is there, and nobody dead left a draft."""
        on_disk = self.on_disk()
        for key, path in on_disk.items():
            with path.open("rb") as file:
                assert file_digest(file, "sha256").hexdigest() == key
        for key, size in self.stage.outside.execute(NAMED.encode()).fetchall():
            assert on_disk[key].stat().st_size == size
        assert list((self.objects / "drafts").glob("*/*")) == []

    def on_disk(self) -> dict[str, Path]:
        return {path.name: path for path in (self.objects / "sha256").glob("*/*")}

    def named_in_rows(self) -> set[str]:
        return {key for key, _ in self.stage.outside.execute(NAMED.encode()).fetchall()}

    async def drafted(self, uploads: int) -> bool:
        """Whether so many uploads have come to the disk in part."""
        await trio.lowlevel.checkpoint()
        return sum(path.stat().st_size > 0 for path in (self.objects / "drafts").glob("*/*")) == uploads


def some_content(random: Random) -> bytes:
    """Now and then what nobody else has, else one of a few, so that owners have the same; none at all is among them."""
    match random.randrange(6):
        case 0:
            return random.randbytes(random.randint(1, 1000))
        case 1:
            return b"x" * (2 * PIECE_BYTES + random.randrange(3))
        case _:
            few = random.randrange(24)
            return bytes([few]) * few * 5_000
