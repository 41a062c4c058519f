"""Cloud files: what people keep with us, theirs alone unless they share it.

A file is at a version, a number that goes up whenever its content is another. A snapshot keeps the content of the
version the file is at; whatever becomes of the file, that content stays until its snapshot or the file is deleted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from veza.domain.errors import Conflict, Invalid, NotFound, TooLarge
from veza.domain.names import check_line

NAME_LENGTH: Final = 255  # what file systems take
SEARCH_LENGTH: Final = 200
MAX_FILES: Final = 10_000  # of one account: a life's sessions; samples by the thousand belong in archives
MAX_SHARES: Final = 100  # of one file, living at a time: a link for each member of an orchestra
MAX_SHARE_HOURS: Final = 8760  # a year


class FileSort(StrEnum):
    """``size`` puts the largest first."""

    NEWEST = "newest"
    OLDEST = "oldest"
    NAME = "name"
    SIZE = "size"


@dataclass(frozen=True)
class Content:
    """``object_key`` names the bytes to the objects gateway; ``content_type`` is what their sender claims they are."""

    object_key: str
    size_bytes: int
    content_type: str


@dataclass(frozen=True)
class CloudFile:
    id: UUID
    owner_id: UUID
    name: str
    version: int
    object_key: str
    size_bytes: int
    content_type: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Version:
    """A snapshot: the content that a file had when it was at ``version``, kept since ``created_at``."""

    id: UUID
    file_id: UUID
    version: int
    object_key: str
    size_bytes: int
    content_type: str
    created_at: datetime


@dataclass(frozen=True)
class Usage:
    """What somebody keeps. Bytes that a file holds and a snapshot of it keeps are counted once."""

    used_bytes: int
    files: int
    versions: int


@dataclass(frozen=True)
class Share:
    """A link by which whoever has it may read a file, until it expires."""

    id: UUID
    file_id: UUID
    expires_at: datetime
    created_at: datetime


def new_file(owner_id: UUID, name: str, content: Content, *, id: UUID, now: datetime) -> CloudFile:  # noqa: A002
    """A file at its first version. Raises Invalid for what is no name."""
    return CloudFile(id, owner_id, check_name(name), 1, **vars(content), created_at=now, updated_at=now)


def rename(file: CloudFile, name: str, now: datetime) -> CloudFile:
    """The file by another name. Raises Invalid for what is none."""
    return file if check_name(name) == file.name else replace(file, name=check_name(name), updated_at=now)


def replace_content(file: CloudFile, content: Content | Version, now: datetime) -> CloudFile:
    """The file with other content, at its next version."""
    return replace(
        file,
        version=file.version + 1,
        object_key=content.object_key,
        size_bytes=content.size_bytes,
        content_type=content.content_type,
        updated_at=now,
    )


def snapshot(file: CloudFile, *, id: UUID, now: datetime) -> Version:  # noqa: A002
    return Version(id, file.id, file.version, file.object_key, file.size_bytes, file.content_type, now)


def is_kept(file: CloudFile, versions: Collection[Version]) -> bool:
    """Whether what the file holds would still be there if it held something else."""
    held = (file.object_key, file.content_type)
    return any((kept.object_key, kept.content_type) == held for kept in versions)


def check_name(name: str) -> str:
    """The name, without the blanks around it. Raises Invalid for one that is a path or that nobody could read."""
    name = name.strip()
    if len(name) > NAME_LENGTH:
        raise Invalid(f"A name has at most {NAME_LENGTH} characters.", field="name")
    if not {"/", "\\"}.isdisjoint(name) or name in (".", ".."):
        raise Invalid("A name is not a path.", field="name")
    return check_line(name, "name")


# -- how much there may be --------------------------------------------------------------------------------------------


def check_quota(before: Usage, after: Usage, quota_bytes: int) -> None:
    """Raises TooLarge for what makes it more than one may keep. Where the quota was lowered, less is always well."""
    if after.used_bytes > max(quota_bytes, before.used_bytes):
        raise no_room()


def room_left(usage: Usage, others: Usage, quota_bytes: int) -> int:
    """How many bytes may come to what ``others`` are of all that is kept, by the same rule."""
    return max(quota_bytes, usage.used_bytes) - others.used_bytes


def check_new_file(files: int) -> None:
    """Raises Conflict when somebody has as many files as one may have."""
    if files >= MAX_FILES:
        raise Conflict(f"One account has at most {MAX_FILES} files.", code="too_many_files")


def check_new_version(versions: int, most: int) -> None:
    """Raises Conflict when a file has as many snapshots as it can have: none is dropped unasked."""
    if versions >= most:
        raise Conflict(f"A file has at most {most} snapshots; delete one first.", code="too_many_versions")


def check_new_share(shares: int) -> None:
    """Raises Conflict when a file has as many living links as it can have."""
    if shares >= MAX_SHARES:
        raise Conflict(f"A file has at most {MAX_SHARES} links; revoke one first.", code="too_many_shares")


def no_room() -> TooLarge:
    return TooLarge("This is more than what is left of your quota.", code="quota_exceeded")


def no_file() -> NotFound:
    """Says the same whether it does not exist or is not the asker's."""
    return NotFound("There is no such file.")


def no_version() -> NotFound:
    return NotFound("There is no snapshot of this version.")


def no_share() -> NotFound:
    """Says the same of a link that never was, one that has expired and one that was revoked."""
    return NotFound("There is no such link.")
