"""Announcements: everybody reads those of the moment, admins make and delete them."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field
from quart import Blueprint, Response, request
from quart_schema import document_response, validate_querystring, validate_request, validate_response

from veza.actors import announcements
from veza.domain.announcements import (
    CONTENT_LENGTH,
    TITLE_LENGTH,
    Announcement,
    Kind,
    Phase,
    check_content,
    check_title,
    check_window,
)
from veza.http.auth import admin_only, by
from veza.http.document import Unchanged, takes_headers
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.fields import Moment, checked
from veza.http.paging import Paging
from veza.http.parts import parts

api = Blueprint("announcements", __name__)

ADMIN: Final = "/admin/announcements"

KEPT: Final = timedelta(seconds=10)
"""How long an answer may be kept: what is announced or taken back is seen by so much later."""

Title = Annotated[
    str, AfterValidator(checked(check_title)), Field(description=f"One line of at most {TITLE_LENGTH} characters.")
]
Content = Annotated[
    str,
    AfterValidator(checked(check_content)),
    Field(description=f"Plain text of at most {CONTENT_LENGTH} characters; lines are kept."),
]


class AnnouncementOut(Out):
    """Plain text, to be shown as it is. Without an end, it is shown until it is deleted."""

    id: UUID
    title: str
    content: str
    type: Kind
    starts_at: datetime
    ends_at: datetime | None
    created_at: datetime


class AnnouncementsOut(Out):
    announcements: list[AnnouncementOut]
    total: int


class AdminAnnouncementOut(AnnouncementOut):
    status: Phase


class AdminAnnouncementsOut(Out):
    announcements: list[AdminAnnouncementOut]
    total: int


class AnnouncementBody(Body):
    """Without ``starts_at`` it is shown at once, without ``ends_at`` until it is deleted."""

    title: Title
    content: Content
    type: Kind
    starts_at: Moment | None = None
    ends_at: Moment | None = None


@api.get("/announcements/active")
@takes_headers(if_none_match="The ETag of the list one has: 304 while it is still that.")
@validate_querystring(Paging)
@document_response(Unchanged, 304)
@document_response(Envelope[AnnouncementsOut])
async def get_active(query_args: Paging) -> Response:
    """What is announced now. Errors first, then warnings, of each the one that began last. 304 while it is the same."""
    known, now = announcements.current(parts().refs.announcements), parts().clock()
    active = known.active(now)
    shown = list(map(AnnouncementOut.of, query_args.of(active)))
    told = Envelope[AnnouncementsOut](data=AnnouncementsOut(announcements=shown, total=len(active)))
    body = told.model_dump_json().encode()
    response = Response(body, content_type="application/json")
    response.set_etag(sha256(body).hexdigest()[:16])
    response.headers["Cache-Control"] = f"public, max-age={_seconds_kept(known.next_change(now), now)}"
    return await response.make_conditional(request)


@api.get(ADMIN)
@admin_only
@validate_querystring(Paging)
@validate_response(Envelope[AdminAnnouncementsOut])
async def list_announcements(query_args: Paging) -> Envelope[AdminAnnouncementsOut]:
    """All announcements, those that are over and those to come included, the newest first."""
    found, total = await parts().announcements.page(limit=query_args.limit, offset=query_args.offset)
    return Envelope[AdminAnnouncementsOut](
        data=AdminAnnouncementsOut(announcements=list(map(_for_admins, found)), total=total)
    )


@api.post(ADMIN)
@admin_only
@validate_request(AnnouncementBody)
@validate_response(Envelope[AdminAnnouncementOut], 201)
async def post_announcement(data: AnnouncementBody) -> tuple[Envelope[AdminAnnouncementOut], int]:
    """Tell everybody something, in every process within a second; audited."""
    now = parts().clock()
    made = Announcement(
        parts().new_id(), data.title, data.content, data.type, data.starts_at or now, data.ends_at, created_at=now
    )
    check_window(made.starts_at, made.ends_at, now)
    await announcements.announce(parts().refs.announcements, made, by())
    return Envelope[AdminAnnouncementOut](data=_for_admins(made)), 201


@api.delete(f"{ADMIN}/<uuid:announcement_id>")
@admin_only
@validate_response(Envelope[DeletedOut])
async def delete_announcement(announcement_id: UUID) -> Envelope[DeletedOut]:
    """Delete an announcement, be it shown, over or to come; audited."""
    await announcements.delete(parts().refs.announcements, announcement_id, by())
    return Envelope[DeletedOut](data=DeletedOut())


def _for_admins(announcement: Announcement) -> AdminAnnouncementOut:
    return AdminAnnouncementOut.of(announcement, status=announcement.phase(parts().clock()))


def _seconds_kept(next_change: datetime | None, now: datetime) -> int:
    """Whole seconds, never past the moment at which the clock makes it another list."""
    left = KEPT if next_change is None else min(KEPT, next_change - now)
    return int(left.total_seconds())
