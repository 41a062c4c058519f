"""The audit: who did what to what, from where, when, and what came of it.

An action is words from the general to the particular, joined by dots, what was done last: ``transfer.retry``,
``cloud.files.share.post``. A resource is what it was done to: ``cloud/files/<id>``. Neither ever holds anything of a
request but the ids in its path.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.errors import Invalid

LONGEST: Final = 200  # characters of a resource: two ids and some words have 130

MONTHS_AHEAD: Final = 2  # made before they begin: whoever makes them may be down for weeks


@dataclass(frozen=True)
class By:
    """``user_id`` is null for the command line and the system itself.

    ``as_admin``: what they do is theirs to do as an admin, and is not done if they are none by then.
    """

    user_id: UUID | None
    request_id: str | None = None
    address: str | None = None
    as_admin: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. ``method`` and ``status`` are a request's; ``status`` is null where its client hung up before there was
    one. ``user_id`` is null where nobody was signed in."""

    id: UUID
    at: datetime
    user_id: UUID | None
    action: str
    resource: str
    method: str | None = None
    status: int | None = None
    request_id: str | None = None
    address: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Param:
    """What stands for a value in a route's path."""

    name: str


Segment = str | Param


def action_of(method: str, route: Sequence[Segment]) -> str:
    """What a request did: ``DELETE /cloud/files/:id`` is ``cloud.files.delete``."""
    return ".".join([*(segment for segment in route if isinstance(segment, str)), method.lower()])


def resource_of(route: Sequence[Segment], values: Mapping[str, object], user_id: UUID | None) -> str:
    """What it did that to: the path as far as its last id, the whole path where it has none.

    Only ids and numbers are shown; any other value may be a secret, and its name stands for it. ``users/me`` is who is
    signed in.
    """
    shown: list[str] = []
    identified = 0
    for segment in route:
        value = _value(segment, values, user_id if shown == ["users"] else None)
        identified = identified if value is None else len(shown) + 1
        shown.append(value or (segment if isinstance(segment, str) else f":{segment.name}"))
    return "/".join(shown[:identified] or shown)[:LONGEST]


def _value(segment: Segment, values: Mapping[str, object], myself: UUID | None) -> str | None:
    if isinstance(segment, str):
        return str(myself) if segment == "me" and myself else None
    value = values.get(segment.name)
    return str(value) if isinstance(value, UUID | int) else None


# -- reading it --------------------------------------------------------------------------------------------------------

CURSOR: Final = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)  # what PostgreSQL keeps of a moment


@dataclass(frozen=True)
class Wanted:
    """Which entries are asked for. ``resource`` is how it begins; ``since`` is included, ``until`` is not."""

    user_id: UUID | None = None
    action: str | None = None
    resource: str | None = None
    method: str | None = None
    status: int | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Place:
    """Where an entry stands among all: by when it was, then by its id."""

    at: datetime
    id: UUID

    def __str__(self) -> str:
        """The cursor of whoever has read as far as here; nothing but ``parse`` is to look into it."""
        moment = (self.at - EPOCH) // MICROSECOND
        return urlsafe_b64encode(moment.to_bytes(8, signed=True) + self.id.bytes).decode()

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Raises Invalid for what is no cursor of ours."""
        if CURSOR.fullmatch(cursor):
            read = urlsafe_b64decode(cursor)
            try:
                return cls(EPOCH + int.from_bytes(read[:8], signed=True) * MICROSECOND, UUID(bytes=read[8:]))
            except OverflowError:
                pass
        raise Invalid("This is no cursor: take it from the answer before.", field="cursor")


# -- its months --------------------------------------------------------------------------------------------------------


def month_of(moment: datetime) -> date:
    """The first day of its month in UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


def following(month: date) -> date:
    """The month after."""
    return (month + timedelta(days=31)).replace(day=1)


def months_wanted(now: datetime) -> list[date]:
    """The months that rows of now and of the weeks to come need."""
    months = [month_of(now)]
    for _ in range(MONTHS_AHEAD):
        months.append(following(months[-1]))
    return months


def months_over(months: Iterable[date], now: datetime, retention_days: int) -> list[date]:
    """The months of which every moment is longer ago than that."""
    kept_since = now - timedelta(days=retention_days)
    return [
        month
        for month in sorted(months)
        if datetime.combine(following(month), datetime.min.time(), tzinfo=UTC) <= kept_since
    ]
