"""Cloud files: uploaded, found, fetched and replaced by their owner alone, with snapshots to go back to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field
from quart import Blueprint, Response, request
from quart_schema import (
    DataSource,
    document_request,
    validate_querystring,
    validate_request,
    validate_response,
)

from veza.domain.cloud import (
    SEARCH_LENGTH,
    CloudFile,
    Content,
    FileSort,
    Version,
    check_name,
    check_new_file,
    new_file,
    rename,
)
from veza.domain.errors import Invalid
from veza.domain.flags import Flag
from veza.gateways.objects.headers import MEDIA_TYPE, UNKNOWN_TYPE
from veza.http.auth import caller, login_required
from veza.http.body import UploadLimits
from veza.http.deadline import renew
from veza.http.document import sends_file
from veza.http.downloads import send_object
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.fields import checked
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.rooms import Room
from veza.http.routes.objects import DownloadLinkOut, link_to
from veza.http.routes.products import UPLOAD_SECONDS, UploadForm
from veza.http.uploads import FRAMING_BYTES, Upload, keeping, receive_file

api = Blueprint("cloud", __name__)

FILES: Final = "/cloud/files"
FILE: Final = f"{FILES}/<uuid:file_id>"
VERSIONS: Final = f"{FILE}/versions"
VERSION: Final = "<int(max=2147483647):version>"  # what the database counts to


# -- what is shown ----------------------------------------------------------------------------------------------------


class CloudFileOut(Out):
    """``version`` goes up by one whenever the content is another. ``content_type`` is what its uploader says it is."""

    id: UUID
    name: str
    size_bytes: int
    content_type: str
    version: int
    created_at: datetime
    updated_at: datetime


class CloudFilesOut(Out):
    files: list[CloudFileOut]
    total: int


class VersionOut(Out):
    """``storage_key`` tells contents apart, and opens nothing. ``created_at`` is when the snapshot was taken."""

    id: UUID
    file_id: UUID
    version: int
    storage_key: str
    size_bytes: int
    content_type: str
    created_at: datetime

    @classmethod
    def of_version(cls, version: Version) -> VersionOut:
        return cls.of(version, storage_key=version.object_key)


class VersionsOut(Out):
    versions: list[VersionOut]
    total: int


class VersionsAnswer(Envelope[VersionsOut]):
    """What is in ``data`` stands beside it as well: there are clients of either shape."""

    versions: list[VersionOut]
    total: int


class UsageOut(Out):
    """``versions`` counts snapshots. Bytes that a file and snapshots of it have in common are used once."""

    used_bytes: int
    quota_bytes: int
    files: int
    versions: int


# -- what is sent -----------------------------------------------------------------------------------------------------


class FileForm(BaseModel):
    file: bytes
    name: str | None = None


class FilesQuery(Paging):
    search: str | None = Field(None, max_length=SEARCH_LENGTH)
    sort: FileSort = FileSort.NEWEST


class RenameBody(Body):
    """Another name. The rest of a fetched file may be sent along, and is ignored."""

    name: Annotated[str, AfterValidator(checked(check_name))]
    id: object = None
    size_bytes: object = None
    content_type: object = None
    version: object = None
    created_at: object = None
    updated_at: object = None


class Incoming:
    """An upload's chunks, as far as there is room for them, and its fields, which may come after them.

    Raises TooLarge (`quota_exceeded`), and Invalid for a field that is not right: then nothing of it is kept.
    """

    def __init__(self, upload: Upload, room: Room, *, named: bool) -> None:
        self._upload = upload
        self._room = room
        self._named = named
        self._check_fields()  # those before the file: what is wrong is told before it is sent

    def __aiter__(self) -> Incoming:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._upload)
        except StopAsyncIteration:
            self._check_fields()
            if self._named and not self.name:
                raise Invalid("The file needs a name.", field="file") from None
            raise
        await self._room.take(len(chunk))
        return chunk

    @property
    def name(self) -> str:
        """What it is to be called: as its field says, else as it was called where it comes from."""
        return self._upload.fields.get("name") or self._upload.filename

    @property
    def content_type(self) -> str:
        claimed = self._upload.content_type.partition(";")[0].strip().lower()
        return claimed if MEDIA_TYPE.fullmatch(claimed) else UNKNOWN_TYPE

    def _check_fields(self) -> None:
        if self._upload.fields.keys() - ({"name"} if self._named else set()):
            raise Invalid(f"This form has {'the fields file and name' if self._named else 'the field file'} alone.")
        if self.name and self._named:
            check_name(self.name)


@asynccontextmanager
async def _received(
    owner_id: UUID, quota: int, *, named: bool, instead_of: UUID | None = None
) -> AsyncIterator[tuple[str, Content]]:
    """The name and the content of the upload in hand, as far as there is room for it, for the block to keep."""
    usual = parts().settings.deadline_seconds
    look = partial(parts().cloud.room, owner_id, quota, instead_of=instead_of)
    announced = (request.content_length or 0) - FRAMING_BYTES
    async with parts().rooms.room(owner_id, look, announced) as room:
        renew(UPLOAD_SECONDS)
        incoming = Incoming(await receive_file(UploadLimits(parts().settings.upload_max_bytes)), room, named=named)
        async with keeping(incoming) as stored:
            room.ended()
            renew(usual)
            yield incoming.name, Content(stored.key, stored.size_bytes, incoming.content_type)
        room.kept()


# -- files ------------------------------------------------------------------------------------------------------------


@api.post(FILES)
@login_required
@document_request(FileForm, source=DataSource.FORM_MULTIPART)
@validate_response(Envelope[CloudFileOut], 201)
@refuses("feature_disabled", "too_many_files", "quota_exceeded")
async def post_file() -> tuple[Envelope[CloudFileOut], int]:
    """Keep a file.

    multipart/form-data, its bytes in the field `file`, its name in `name` unless the part's will do. It may be empty.
    One has at most ten thousand.
    """
    parts().flags().check(Flag.UPLOADS)
    owner_id, quota = caller().user.id, parts().settings.cloud_quota_bytes
    check_new_file((await parts().cloud.usage(owner_id)).files)  # and again, with the quota, once it is here
    async with _received(owner_id, quota, named=True) as (name, content):
        file = new_file(owner_id, name, content, id=parts().new_id(), now=parts().clock())
        await parts().cloud.add(file, quota)
    return _answer(file), 201


@api.get(FILES)
@login_required
@validate_querystring(FilesQuery)
@validate_response(Envelope[CloudFilesOut])
async def list_files(query_args: FilesQuery) -> Envelope[CloudFilesOut]:
    """One's own files.

    `search` finds them by words of their names, or the beginnings of such. `sort` is `newest`, `oldest`, `name`
    (whatever its case and accents) or `size` (the largest first).
    """
    found, total = await parts().cloud.page(
        caller().user.id,
        search=(query_args.search or "").strip() or None,
        sort=query_args.sort,
        limit=query_args.limit,
        offset=query_args.offset,
    )
    return Envelope[CloudFilesOut](data=CloudFilesOut(files=list(map(CloudFileOut.of, found)), total=total))


@api.get("/cloud/usage")
@login_required
@validate_response(Envelope[UsageOut])
async def get_usage() -> Envelope[UsageOut]:
    """What one's files and their snapshots take, and what they may."""
    usage = await parts().cloud.usage(caller().user.id)
    return Envelope[UsageOut](data=UsageOut.of(usage, quota_bytes=parts().settings.cloud_quota_bytes))


@api.get(FILE)
@login_required
@validate_response(Envelope[CloudFileOut])
async def get_file(file_id: UUID) -> Envelope[CloudFileOut]:
    """One file of one's own."""
    return _answer(await parts().cloud.get(caller().user.id, file_id))


@api.patch(FILE)
@login_required
@validate_request(RenameBody)
@validate_response(Envelope[CloudFileOut])
async def patch_file(file_id: UUID, data: RenameBody) -> Envelope[CloudFileOut]:
    """Rename one's own file. Its content, and so its version, stays."""
    now = parts().clock()

    def decide(file: CloudFile) -> CloudFile:
        return rename(file, data.name, now)

    return _answer(await parts().cloud.change(caller().user.id, file_id, decide))


@api.delete(FILE)
@login_required
@validate_response(Envelope[DeletedOut])
async def delete_file(file_id: UUID) -> Envelope[DeletedOut]:
    """Delete one's own file, its snapshots and its links."""
    await parts().cloud.remove(caller().user.id, file_id)
    return Envelope[DeletedOut](data=DeletedOut())


@api.get(f"{FILE}/content")
@login_required
@sends_file
async def get_content(file_id: UUID) -> Response:
    """The bytes of one's own file, as they were uploaded."""
    return await send_content(await parts().cloud.get(caller().user.id, file_id))


@api.post(f"{FILE}/link")
@login_required
@validate_response(Envelope[DownloadLinkOut])
@refuses("storage_unavailable")
async def post_link(file_id: UUID) -> Envelope[DownloadLinkOut]:
    """Make a link to what one's own file holds now.

    For a player or a browser, which can send no bearer token. Whoever has it may begin to download for five minutes. To
    let others read a file, share it.
    """
    file = await parts().cloud.get(caller().user.id, file_id)
    return Envelope[DownloadLinkOut](
        data=await link_to(file.object_key, filename=file.name, content_type=file.content_type)
    )


@api.put(f"{FILE}/content")
@login_required
@document_request(UploadForm, source=DataSource.FORM_MULTIPART)
@validate_response(Envelope[CloudFileOut])
@refuses("feature_disabled", "quota_exceeded")
async def put_content(file_id: UUID) -> Envelope[CloudFileOut]:
    """Replace the content of one's own file.

    multipart/form-data, the new bytes in the field `file`. The version goes up by one, the name stays. What was there
    is gone unless it was snapshotted before, and counts no more. While uploading is switched off a snapshot can be
    restored all the same.
    """
    parts().flags().check(Flag.UPLOADS)
    owner_id, quota = caller().user.id, parts().settings.cloud_quota_bytes
    await parts().cloud.get(owner_id, file_id)
    async with _received(owner_id, quota, named=False, instead_of=file_id) as (_, content):
        file = await parts().cloud.replace(owner_id, file_id, content, quota, parts().clock())
    return _answer(file)


# -- snapshots --------------------------------------------------------------------------------------------------------


@api.get(VERSIONS)
@login_required
@validate_querystring(Paging)
@validate_response(VersionsAnswer)
async def list_versions(file_id: UUID, query_args: Paging) -> VersionsAnswer:
    """The snapshots of one's own file, the latest version first."""
    found = await parts().cloud.versions(caller().user.id, file_id)
    out = VersionsOut(versions=list(map(VersionOut.of_version, query_args.of(found))), total=len(found))
    return VersionsAnswer(data=out, versions=out.versions, total=out.total)


@api.post(VERSIONS)
@login_required
@validate_response(Envelope[VersionOut], 201)
@refuses("too_many_versions")
async def post_version(file_id: UUID) -> tuple[Envelope[VersionOut], int]:
    """Snapshot the version that one's own file is at.

    Its content stays, whatever becomes of the file's. Done again at the same version, it answers the snapshot there is.
    A file has at most 50, unless the platform says otherwise; none is dropped unasked.
    """
    most = parts().settings.cloud_versions_max
    kept = await parts().cloud.keep(caller().user.id, file_id, most, parts().new_id, parts().clock())
    return Envelope[VersionOut](data=VersionOut.of_version(kept)), 201


@api.delete(f"{VERSIONS}/{VERSION}")
@login_required
@validate_response(Envelope[DeletedOut])
async def delete_version(file_id: UUID, version: int) -> Envelope[DeletedOut]:
    """Delete a snapshot of one's own file. What the file holds now stays."""
    await parts().cloud.forget(caller().user.id, file_id, version)
    return Envelope[DeletedOut](data=DeletedOut())


@api.post(f"{FILE}/restore/{VERSION}")
@login_required
@validate_response(Envelope[CloudFileOut])
@refuses("too_many_versions")
async def post_restore(file_id: UUID, version: int) -> Envelope[CloudFileOut]:
    """Give one's own file the content of a snapshot, as a new version.

    The version goes up by one, the name stays. Nothing is lost by it: what the file held is snapshotted first, unless a
    snapshot has it.
    """
    most = parts().settings.cloud_versions_max
    owner_id, now = caller().user.id, parts().clock()
    return _answer(await parts().cloud.restore(owner_id, file_id, version, most, parts().new_id, now))


async def send_content(file: CloudFile) -> Response:
    """What a file holds. No date with it: a second may see two contents, which only their hashes tell apart."""
    return await send_object(file.object_key, filename=file.name, content_type=file.content_type)


def _answer(file: CloudFile) -> Envelope[CloudFileOut]:
    return Envelope[CloudFileOut](data=CloudFileOut.of(file))
