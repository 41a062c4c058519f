"""Objects in a bucket of Amazon S3, or of what speaks its protocol, by the vendor's SDK in threads.

Each put makes a key of its own, so the same bytes put twice are kept twice: their hash is known only when they are all
there, under a name already.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar

import boto3
import structlog
import trio
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from veza.domain.errors import Unavailable
from veza.domain.ids import Clock
from veza.gateways.objects import (
    CHUNK_BYTES,
    DISK_THREADS,
    PIECE_BYTES,
    KeptObject,
    ObjectMissing,
    StoredObject,
    check_key,
    no_room,
    unreachable,
)
from veza.gateways.objects.headers import PRIVATE, content_disposition, media_type
from veza.gateways.objects.pieces import in_pieces

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")

log = structlog.get_logger()

PREFIX: Final = "objects/"  # then two digits and the key, as on a disk: a folder can be copied into a bucket as it is
THREADS: Final = 32  # calls at a time: most of each is waiting for the network
SIGNERS: Final = 4  # of links, which takes no network, and so does not wait for those who do
PART_BYTES: Final = 8 * 1024 * 1024  # S3 wants 5 MiB at least; each upload under way has as much on disk
PARTS_A_SIZE: Final = 1000  # after so many, parts grow: of at most 10,000, this makes 440 GB
CONNECT_SECONDS: Final = 5.0
WEEK_SECONDS: Final = 604_800  # S3 takes no presigned URL that is good for longer
READ_SECONDS: Final = 20.0  # without a byte; a stop does not wait for it
TRIES: Final = 3  # of a call, and to go on reading where a connection broke
BRIEF_SECONDS: Final = 5.0  # for calls that move no bytes and must not be cut short

MISSING: Final = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
TOO_SHORT: Final = frozenset({"InvalidRange", "416"})


@dataclass(frozen=True)
class Bucket:
    """Where it is and who we are to it. Without a key the SDK looks for one as it does: a role of the machine's."""

    name: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None


class S3Objects:
    """Objects in a bucket, which several processes may share."""

    def __init__(self, client: S3Client, bucket: str, folder: Path, now: Clock) -> None:
        self.client = client
        self.bucket = bucket
        self.folder = folder
        self._now = now
        self._disk = trio.CapacityLimiter(DISK_THREADS)
        self._threads = trio.CapacityLimiter(THREADS)
        self._signers = trio.CapacityLimiter(SIGNERS)

    @classmethod
    @asynccontextmanager
    async def open(cls, bucket: Bucket, folder: Path, now: Clock) -> AsyncIterator[S3Objects]:
        """Make the client, and the folder for parts on their way. The bucket is not asked for anything: see `check`."""
        await trio.to_thread.run_sync(partial(folder.mkdir, parents=True, exist_ok=True))
        client = await trio.to_thread.run_sync(_client, bucket)
        try:
            yield cls(client, bucket.name, folder, now)
        finally:
            client.close()

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        incoming = Incoming(self, secrets.token_hex(32))
        try:
            rest = await in_pieces(chunks, lambda: PIECE_BYTES, incoming.add)
            await incoming.end(rest)
        except BaseException:
            await incoming.take_back()
            raise
        finally:
            incoming.close()
        return StoredObject(incoming.key, incoming.size)

    async def take_back(self, stored: StoredObject) -> None:
        await self.remove(stored.key, put_before=self._now())

    async def size(self, key: str) -> int:
        head = partial(self.client.head_object, Bucket=self.bucket, Key=name_of(key))
        try:
            return (await self.call(head, key))["ContentLength"]
        except ObjectMissing:
            await self.check()  # a HEAD has no body to say what is missing: it may be the bucket
            raise

    @asynccontextmanager
    async def read(self, key: str, begin: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        if end is None or begin >= end:  # a range of nothing cannot be asked for
            size = await self.size(key)
            end = size if end is None else end
            if not begin <= end <= size:
                raise EOFError(f"the object {key} has {size} bytes")
        chunks = S3Chunks(partial(self._get, key), begin, end, self._threads)
        try:
            if begin < end:
                await chunks.connect()
            yield chunks
        finally:
            chunks.close()

    async def link(self, key: str, *, filename: str, content_type: str, until: datetime) -> str:
        asked = {
            "Bucket": self.bucket,
            "Key": name_of(key),
            "ResponseContentDisposition": content_disposition("attachment", filename),
            "ResponseContentType": media_type(content_type),
            "ResponseCacheControl": PRIVATE,
        }
        seconds = min(max(1, int((until - self._now()) / timedelta(seconds=1))), WEEK_SECONDS)
        sign = partial(self.client.generate_presigned_url, "get_object", Params=asked, ExpiresIn=seconds)
        return await self.call(sign, key, self._signers)

    async def kept(self) -> AsyncGenerator[Sequence[KeptObject], None]:
        pages = iter(self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX))
        while (page := await self.call(partial(next, pages, None))) is not None:
            found = page.get("Contents", [])
            yield [KeptObject(each["Key"].rpartition("/")[2], each["LastModified"]) for each in found]

    async def remove(self, key: str, *, put_before: datetime) -> bool:
        """The moment does not matter: nothing is put twice under one key."""
        await self.call(partial(self.client.delete_object, Bucket=self.bucket, Key=name_of(key)), key)
        return True

    async def sweep(self, begun_before: datetime) -> int:
        swept = 0
        pages = iter(self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=PREFIX))
        while (page := await self.call(partial(next, pages, None))) is not None:
            for each in page.get("Uploads", []):
                if each["Initiated"] < begun_before:
                    await self.call(Multipart(self.client, self.bucket, each["Key"], each["UploadId"]).abort)
                    swept += 1
        return swept

    async def check(self) -> None:
        await self.call(partial(self.client.head_bucket, Bucket=self.bucket))

    # -- calls --------------------------------------------------------------------------------------------------------

    async def _get(self, key: str, begin: int, end: int) -> Body:
        """A connection from which the range is to be read."""
        wanted = f"bytes={begin}-{end - 1}"
        get = partial(self.client.get_object, Bucket=self.bucket, Key=name_of(key), Range=wanted)
        found = await self.call(get, key)
        if found["ContentLength"] != end - begin:
            found["Body"].close()
            raise EOFError(f"the object {key} has fewer than {end} bytes")
        return Body(found["Body"])

    async def on_disk(self, work: Callable[[], object]) -> None:
        """Run blocking work on what is gathered, in a thread that is waited for. Raises Unavailable without room."""
        try:
            await trio.to_thread.run_sync(work, limiter=self._disk)
        except OSError as error:
            raise no_room(error) from error

    async def call(self, work: Callable[[], T], key: str = "", limiter: trio.CapacityLimiter | None = None) -> T:
        """Run a call in a thread. One that is cancelled is left to end by itself, within its timeouts."""
        try:
            return await trio.to_thread.run_sync(work, limiter=limiter or self._threads, abandon_on_cancel=True)
        except ClientError as refused:
            code = refused.response.get("Error", {}).get("Code", "")
            if key and code in MISSING:
                raise ObjectMissing(key) from None
            if code in TOO_SHORT:
                raise EOFError(f"the object {key} is shorter than was asked for") from None
            log.error("s3_refused", code=code, operation=refused.operation_name)
            raise unreachable() from refused
        except BotoCoreError as failed:
            log.warning("s3_unreachable", error=type(failed).__name__)
            raise unreachable() from failed


def name_of(key: str) -> str:
    """The object's name in the bucket. Raises ValueError for what is no key."""
    return f"{PREFIX}{check_key(key)[:2]}/{key}"


def part_bytes(before: int) -> int:
    """How large a part is that comes after so many."""
    return PART_BYTES * (1 + before // PARTS_A_SIZE)


class Incoming:
    """An object on its way in: gathered on disk, part by part, and sent on. What fits one part is put whole.

    On disk, and not in memory: hundreds may come in at a time, each as slowly as it likes.
    """

    def __init__(self, store: S3Objects, key: str) -> None:
        self.key = key
        self.size = 0
        self._store = store
        self._name = name_of(key)
        self._part: IO[bytes] | None = None
        self._held = 0
        self._upload: Multipart | None = None

    async def add(self, piece: list[bytes]) -> None:
        await self._write(piece)
        if self._held >= part_bytes(0 if self._upload is None else self._upload.parts):
            await self._send_part()

    async def end(self, rest: list[bytes]) -> None:
        """The object is there when this returns."""
        await self._write(rest)
        if self._upload is None:
            await self._store.call(self._put)
        else:
            if self._held:
                await self._send_part()
            await self._store.call(self._upload.complete)

    async def take_back(self) -> None:
        """Leave nothing of what came to nothing, as far as that can be done now; the rest is swept up later.

        What was put whole is not looked for: no row names it.
        """
        if self._upload is None:
            return
        with trio.move_on_after(BRIEF_SECONDS, shield=True):
            try:
                await self._store.call(self._upload.abort, self.key)
            except (Unavailable, ObjectMissing) as failed:
                log.warning("s3_put_not_taken_back", error=str(failed))

    def close(self) -> None:
        if self._part is not None:
            self._part.close()

    async def _write(self, piece: list[bytes]) -> None:
        await self._store.on_disk(partial(self._write_now, piece))

    def _write_now(self, piece: list[bytes]) -> None:
        if self._part is None:
            # It has no name, and ends with the process.
            self._part = tempfile.TemporaryFile(dir=self._store.folder)  # noqa: SIM115 - until `close`
        for chunk in piece:
            self._part.write(chunk)
            self._held += len(chunk)
            self.size += len(chunk)

    async def _send_part(self) -> None:
        if self._upload is None:
            self._upload = await self._begin()
        await self._store.call(partial(self._upload.add, self._rewound()))
        await self._store.on_disk(self._rewound().truncate)
        self._held = 0

    async def _begin(self) -> Multipart:
        """Shielded: an upload that is begun and whose id nobody has could not be taken back."""
        client, bucket = self._store.client, self._store.bucket
        with trio.move_on_after(BRIEF_SECONDS, shield=True):
            begun = await self._store.call(partial(client.create_multipart_upload, Bucket=bucket, Key=self._name))
            return Multipart(client, bucket, self._name, begun["UploadId"])
        raise unreachable()

    def _put(self) -> None:
        self._store.client.put_object(Bucket=self._store.bucket, Key=self._name, Body=self._rewound())

    def _rewound(self) -> IO[bytes]:
        if self._part is None:
            raise LookupError("nothing came in yet")
        self._part.seek(0)
        return self._part


class Multipart:
    """An object that is put part by part, and is there once it is completed. Blocking; used by one thread at a time."""

    def __init__(self, client: S3Client, bucket: str, name: str, upload_id: str) -> None:
        self._client = client
        self._bucket = bucket
        self._name = name
        self._id = upload_id
        self._parts: list[CompletedPartTypeDef] = []

    @property
    def parts(self) -> int:
        return len(self._parts)

    def add(self, part: IO[bytes]) -> None:
        number = len(self._parts) + 1
        added = self._client.upload_part(
            Bucket=self._bucket, Key=self._name, UploadId=self._id, PartNumber=number, Body=part
        )
        self._parts.append({"ETag": added["ETag"], "PartNumber": number})

    def complete(self) -> None:
        self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=self._name, UploadId=self._id, MultipartUpload={"Parts": self._parts}
        )

    def abort(self) -> None:
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._name, UploadId=self._id)


class Body:
    """What a connection sends, read in threads. Closing it never waits: where a read hangs, the read closes it."""

    def __init__(self, stream: StreamingBody) -> None:
        self._stream = stream
        self._lock = threading.Lock()  # for a moment, and never over a read
        self._reading = self._left = False

    def read(self, size: int) -> bytes:
        """Blocking. Raises BotoCoreError, HTTPError and OSError."""
        with self._lock:
            self._reading = True
        try:
            return self._stream.read(size)
        finally:
            with self._lock:
                self._reading, left = False, self._left
            if left:
                self._stream.close()

    def close(self) -> None:
        with self._lock:
            self._left = True
            if self._reading:
                return
        self._stream.close()


class S3Chunks:
    """A range's bytes, over as many connections as it takes: a slow reader's may be closed on it."""

    def __init__(
        self, get: Callable[[int, int], Awaitable[Body]], begin: int, end: int, threads: trio.CapacityLimiter
    ) -> None:
        self._get = get
        self._at = begin
        self._end = end
        self._threads = threads
        self._body: Body | None = None

    async def connect(self) -> Body:
        self._body = await self._get(self._at, self._end)
        return self._body

    def __aiter__(self) -> S3Chunks:
        return self

    async def __anext__(self) -> bytes:
        if self._at == self._end:
            raise StopAsyncIteration
        chunk = await self._read(min(CHUNK_BYTES, self._end - self._at))
        self._at += len(chunk)
        return chunk

    async def _read(self, size: int) -> bytes:
        for _ in range(TRIES):
            body = self._body or await self.connect()
            try:
                if chunk := await self._in_thread(partial(body.read, size)):
                    return chunk
            except (BotoCoreError, HTTPError, OSError) as broken:
                log.info("s3_read_broken", error=type(broken).__name__)
            self.close()
        raise unreachable()

    async def _in_thread(self, read: Callable[[], bytes]) -> bytes:
        return await trio.to_thread.run_sync(read, limiter=self._threads, abandon_on_cancel=True)

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _client(bucket: Bucket) -> S3Client:
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=bucket.endpoint_url,
        region_name=bucket.region,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        config=Config(
            signature_version="s3v4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=THREADS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            # What others than Amazon speak: buckets in the path, and no checksums beside those of the connection.
            s3={"addressing_style": "path" if bucket.endpoint_url else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client
