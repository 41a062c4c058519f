"""Streams: what a creator goes on air with, again and again. When it is on air is `veza.domain.live`'s."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from veza.domain.accounts import Role, User
from veza.domain.catalog import check_title, fold_tag, fold_tags
from veza.domain.errors import Conflict, Forbidden, Invalid, NotFound
from veza.domain.live import StreamState

TITLE_LENGTH: Final = 200
DESCRIPTION_LENGTH: Final = 5_000
CATEGORY_LENGTH: Final = 40
MAX_STREAMS: Final = 100  # a show has a stream, not each of its evenings


@dataclass(frozen=True)
class Streamer:
    id: UUID
    username: str


@dataclass(frozen=True)
class Stream:
    """``category`` is null for none. ``key_version`` says which of its keys may publish: the newest alone.

    ``state`` is what it is while no session is open: offline until it was live for the first time, then ended.
    """

    id: UUID
    user: Streamer
    title: str
    description: str
    category: str | None
    tags: tuple[str, ...]
    key_version: int
    state: StreamState
    created_at: datetime
    updated_at: datetime
    owner_banned: bool = False

    @property
    def user_id(self) -> UUID:
        return self.user.id

    @property
    def draft(self) -> bool:
        """Made for its key alone: without a title it is in no public list, and nobody else's to see."""
        return not self.title


@dataclass(frozen=True)
class StreamChanges:
    """What its owner changes of a stream; None leaves a part as it is, an empty category takes it away."""

    title: str | None = None
    description: str | None = None
    category: str | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StreamListing:
    """What a reader of the list asks for; None asks for nothing in particular."""

    is_live: bool | None = None
    user_id: UUID | None = None
    category: str | None = None
    tag: str | None = None


def draft(user: User, *, id: UUID, now: datetime) -> Stream:  # noqa: A002
    """A stream that is only a key so far."""
    return Stream(id, Streamer(user.id, user.username), "", "", None, (), 1, StreamState.OFFLINE, now, now)


def change(stream: Stream, changes: StreamChanges, now: datetime) -> Stream:
    """The stream as changed. Raises Invalid for a title, a category or tags that make no sense.

    A draft may go on without a title; a stream that has one keeps one.
    """
    given = {name: value for name, value in vars(changes).items() if value is not None}
    if changes.title is not None and changes.title != stream.title:
        check_title(changes.title)
    if changes.category is not None:
        given["category"] = fold_category(changes.category)
    if changes.tags is not None:
        given["tags"] = fold_tags(changes.tags)
    changed = replace(stream, **given)
    return stream if changed == stream else replace(changed, updated_at=now)


def fold_category(category: str) -> str | None:
    """The form a category is kept and compared in, as a tag's; None for an empty one. Raises Invalid for a long one."""
    folded = fold_tag(category)
    if len(folded) > CATEGORY_LENGTH:
        raise Invalid(f"A category has at most {CATEGORY_LENGTH} characters.", field="category")
    return folded or None


def check_room(streams: int) -> None:
    """Raises Conflict when somebody has as many streams as one may have."""
    if streams >= MAX_STREAMS:
        raise Conflict(f"One account has at most {MAX_STREAMS} streams.", code="too_many_streams")


def is_open_to(stream: Stream, reader: User | None) -> bool:
    """Whether a reader may know of it: a draft is its owner's alone, a banned owner's stream the admins' too."""
    if reader is not None and reader.id == stream.user.id:
        return True
    return not stream.draft and (not stream.owner_banned or (reader is not None and reader.role is Role.ADMIN))


def check_owner(stream: Stream, user: User) -> None:
    """Raises Forbidden for another's stream, NotFound for another's draft."""
    if stream.user.id == user.id:
        return
    if is_open_to(stream, user):
        raise Forbidden("This is not your stream.")
    raise no_stream()


def no_stream() -> NotFound:
    """Says the same whether a stream does not exist or is not the asker's to know of."""
    return NotFound("There is no such stream.")
