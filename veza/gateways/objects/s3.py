"""Objects in a bucket of Amazon S3, or of what speaks its protocol, by the vendor's SDK in threads.

Each put makes a key of its own, so the same bytes put twice are kept twice: their hash is known only when they are all
there, under a name already. Each part goes out while the next comes in; two of each upload are held in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
import structlog
import trio
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from veza.domain.errors import Unavailable
from veza.domain.ids import Clock
from veza.gateways.objects import CHUNK_BYTES, KeptObject, ObjectMissing, StoredObject, check_key, unreachable
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
PART_BYTES: Final = 8 * 1024 * 1024  # S3 wants 5 MiB at least; each upload under way holds two in memory
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

    def __init__(self, client: S3Client, bucket: str, now: Clock) -> None:
        self._client = client
        self._bucket = bucket
        self._now = now
        self._threads = trio.CapacityLimiter(THREADS)

    @classmethod
    @asynccontextmanager
    async def open(cls, bucket: Bucket, now: Clock) -> AsyncIterator[S3Objects]:
        """Make the client. The bucket is not asked for anything: see `check`."""
        client = await trio.to_thread.run_sync(_client, bucket)
        try:
            yield cls(client, bucket.name, now)
        finally:
            client.close()

    async def put(self, chunks: AsyncIterator[bytes]) -> StoredObject:
        key = secrets.token_hex(32)
        upload: Multipart | None = None
        size = 0

        async def add(part: list[bytes]) -> None:
            nonlocal upload, size
            if upload is None:
                upload = await self._begin(key)
            await self._call(partial(upload.add, part))
            size += sum(map(len, part))

        try:
            rest = await in_pieces(chunks, lambda: part_bytes(0 if upload is None else upload.parts), add)
            if upload is None:
                whole = partial(self._client.put_object, Bucket=self._bucket, Key=name_of(key), Body=b"".join(rest))
                await self._call(whole)
            else:
                await self._call(partial(upload.complete, rest))
        except BaseException:
            if upload is not None:  # else: nothing was put, or whole, and no row will ever name it
                await self._take_back(key, upload)
            raise
        return StoredObject(key, size + sum(map(len, rest)))

    async def size(self, key: str) -> int:
        head = partial(self._client.head_object, Bucket=self._bucket, Key=name_of(key))
        return (await self._call(head, key))["ContentLength"]

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
            "Bucket": self._bucket,
            "Key": name_of(key),
            "ResponseContentDisposition": content_disposition("attachment", filename),
            "ResponseContentType": media_type(content_type),
            "ResponseCacheControl": PRIVATE,
        }
        seconds = min(max(1, int((until - self._now()) / timedelta(seconds=1))), WEEK_SECONDS)
        sign = partial(self._client.generate_presigned_url, "get_object", Params=asked, ExpiresIn=seconds)
        return await self._call(sign, key)

    async def kept(self) -> AsyncGenerator[Sequence[KeptObject], None]:
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=PREFIX))
        while (page := await self._call(partial(next, pages, None))) is not None:
            found = page.get("Contents", [])
            yield [KeptObject(each["Key"].rpartition("/")[2], each["LastModified"]) for each in found]

    async def remove(self, key: str, *, put_before: datetime) -> bool:
        """The moment does not matter: nothing is put twice under one key."""
        await self._call(partial(self._client.delete_object, Bucket=self._bucket, Key=name_of(key)), key)
        return True

    async def sweep(self, begun_before: datetime) -> int:
        swept = 0
        pages = iter(self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=PREFIX))
        while (page := await self._call(partial(next, pages, None))) is not None:
            for each in page.get("Uploads", []):
                if each["Initiated"] < begun_before:
                    await self._call(Multipart(self._client, self._bucket, each["Key"], each["UploadId"]).abort)
                    swept += 1
        return swept

    async def check(self) -> None:
        await self._call(partial(self._client.head_bucket, Bucket=self._bucket))

    # -- calls --------------------------------------------------------------------------------------------------------

    async def _get(self, key: str, begin: int, end: int) -> StreamingBody:
        """A connection from which the range is to be read."""
        wanted = f"bytes={begin}-{end - 1}"
        get = partial(self._client.get_object, Bucket=self._bucket, Key=name_of(key), Range=wanted)
        found = await self._call(get, key)
        if found["ContentLength"] != end - begin:
            found["Body"].close()
            raise EOFError(f"the object {key} has fewer than {end} bytes")
        return found["Body"]

    async def _begin(self, key: str) -> Multipart:
        """Shielded: an upload that is begun and whose id nobody has could not be taken back."""
        name = name_of(key)
        with trio.move_on_after(BRIEF_SECONDS, shield=True):
            begun = await self._call(partial(self._client.create_multipart_upload, Bucket=self._bucket, Key=name))
            return Multipart(self._client, self._bucket, name, begun["UploadId"])
        raise unreachable()

    async def _take_back(self, key: str, upload: Multipart) -> None:
        """Leave nothing of a put that came to nothing, as far as that can be done now; the rest is swept up later."""
        with trio.move_on_after(BRIEF_SECONDS, shield=True):
            try:
                await self._call(upload.abort, key)
            except (Unavailable, ObjectMissing) as failed:
                log.warning("s3_put_not_taken_back", error=str(failed))

    async def _call(self, work: Callable[[], T], key: str = "") -> T:
        """Run a call in a thread. One that is cancelled is left to end by itself, within its timeouts."""
        try:
            return await trio.to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)
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

    def add(self, part: list[bytes]) -> None:
        number = len(self._parts) + 1
        added = self._client.upload_part(
            Bucket=self._bucket, Key=self._name, UploadId=self._id, PartNumber=number, Body=b"".join(part)
        )
        self._parts.append({"ETag": added["ETag"], "PartNumber": number})

    def complete(self, rest: list[bytes]) -> None:
        if rest:
            self.add(rest)
        self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=self._name, UploadId=self._id, MultipartUpload={"Parts": self._parts}
        )

    def abort(self) -> None:
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._name, UploadId=self._id)


class S3Chunks:
    """A range's bytes, over as many connections as it takes: a slow reader's may be closed on it."""

    def __init__(
        self, get: Callable[[int, int], Awaitable[StreamingBody]], begin: int, end: int, threads: trio.CapacityLimiter
    ) -> None:
        self._get = get
        self._at = begin
        self._end = end
        self._threads = threads
        self._body: StreamingBody | None = None

    async def connect(self) -> StreamingBody:
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
