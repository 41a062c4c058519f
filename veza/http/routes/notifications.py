"""Notifications: listed, read, and told as they come to be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from functools import partial
from secrets import token_urlsafe
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema
from quart import Blueprint, Response, request
from quart_schema import document_response, security_scheme, validate_querystring, validate_response

from veza.actors import notifier
from veza.domain.errors import Unauthenticated
from veza.domain.ids import Clock
from veza.domain.notifications import TICKET_LIFETIME, Notification, NotificationKind
from veza.domain.reports import ContentType, ReportStatus, Subject
from veza.http.auth import Caller, caller, identify, login_required
from veza.http.document import Events, takes_headers
from veza.http.envelope import Envelope, Out, Query
from veza.http.events import EventStream, event, event_response
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import OF_THE_SIGNED_IN, refuses
from veza.store.errors import StoreError
from veza.store.sessions import Sessions

api = Blueprint("notifications", __name__)

NOTIFICATIONS: Final = "/notifications"


class ExportReadyData(Out):
    """Of `export_ready`. ``download_url`` needs no bearer token: whoever has it may fetch until ``expires_at``."""

    export_id: UUID
    download_url: str
    expires_at: datetime


class ExportFailedData(Out):
    """Of `export_failed`."""

    export_id: UUID


class WarrantyEndingData(Out):
    """Of `warranty_ending`."""

    gear_id: UUID
    warranty_expires_on: date


class AccountBannedData(Out):
    """Of `account_banned`. ``until`` is null for a lasting ban; ``reason`` is empty where nothing was told."""

    until: datetime | None
    reason: str


class BanLiftedData(Out):
    """Of `ban_lifted`."""


class AccountWarnedData(Out):
    """Of `account_warned`: what it is about, and why."""

    content_type: Subject
    content_id: UUID
    reason: str


class ReportReviewedData(Out):
    """Of `report_reviewed`: the reporter's own report, and whether anything was found."""

    report_id: UUID
    content_type: ContentType
    content_id: UUID
    status: ReportStatus


DATA: Final[Mapping[NotificationKind, type[Out]]] = {
    NotificationKind.EXPORT_READY: ExportReadyData,
    NotificationKind.EXPORT_FAILED: ExportFailedData,
    NotificationKind.WARRANTY_ENDING: WarrantyEndingData,
    NotificationKind.ACCOUNT_BANNED: AccountBannedData,
    NotificationKind.BAN_LIFTED: BanLiftedData,
    NotificationKind.ACCOUNT_WARNED: AccountWarnedData,
    NotificationKind.REPORT_REVIEWED: ReportReviewedData,
}
"""What ``data`` has, by ``kind``."""


class _AnyOfData:
    """In the document: what each kind has. It is sent as it was written, so that what was told once can be for good."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(shape.__pydantic_core_schema__) for shape in DATA.values()]}


class NotificationOut(Out):
    """``data`` has what a program needs to act on it: which fields, ``kind`` says."""

    id: UUID
    kind: NotificationKind
    title: str
    body: str
    data: Annotated[Mapping[str, object], _AnyOfData()]
    read: bool
    read_at: datetime | None
    created_at: datetime


class NotificationsOut(Out):
    notifications: list[NotificationOut]
    total: int
    unread_count: int


class UnreadOut(Out):
    unread_count: int


class ReadAllOut(Out):
    read: int


class TicketOut(Out):
    """``ticket`` lets one connection in, once, within ``expires_in`` seconds."""

    ticket: str
    expires_in: int


class NotificationsQuery(Paging):
    unread: bool | None = None


class StreamQuery(Query):
    """``last_event_id`` does what the header does, for clients that can't set one."""

    ticket: str | None = None
    last_event_id: str | None = None


@api.get(NOTIFICATIONS)
@login_required
@validate_querystring(NotificationsQuery)
@validate_response(Envelope[NotificationsOut])
async def get_notifications(query_args: NotificationsQuery) -> Envelope[NotificationsOut]:
    """One's own notifications, the newest first. `unread=true` lists those alone."""
    found, total = await parts().notifications.page(
        caller().id, unread=query_args.unread, limit=query_args.limit, offset=query_args.offset
    )
    out = NotificationsOut(
        notifications=list(map(shown, found)), total=total, unread_count=await parts().notifications.unread(caller().id)
    )
    return Envelope[NotificationsOut](data=out)


@api.get(f"{NOTIFICATIONS}/unread-count")
@login_required
@validate_response(Envelope[UnreadOut])
async def get_unread_count() -> Envelope[UnreadOut]:
    """How many of one's notifications are unread."""
    return Envelope[UnreadOut](data=UnreadOut(unread_count=await parts().notifications.unread(caller().id)))


@api.put(f"{NOTIFICATIONS}/<uuid:notification_id>/read")
@login_required
@validate_response(Envelope[NotificationOut])
async def put_read(notification_id: UUID) -> Envelope[NotificationOut]:
    """Note that a notification was read. Done again, it changes nothing."""
    read = await parts().notifications.read(caller().id, notification_id, parts().clock())
    return Envelope[NotificationOut](data=shown(read))


@api.put(f"{NOTIFICATIONS}/read-all")
@login_required
@validate_response(Envelope[ReadAllOut])
async def put_read_all() -> Envelope[ReadAllOut]:
    """Note that all notifications were read; answers how many were not."""
    return Envelope[ReadAllOut](
        data=ReadAllOut(read=await parts().notifications.read_all(caller().id, parts().clock()))
    )


@api.post(f"{NOTIFICATIONS}/stream-ticket")
@login_required
@validate_response(Envelope[TicketOut], 201)
async def post_ticket() -> tuple[Envelope[TicketOut], int]:
    """Get a ticket for the stream of notifications. For browsers, whose EventSource sends no bearer token."""
    ticket = token_urlsafe(32)
    await parts().notifications.hand_out(ticket, caller().id, caller().session_id)
    return Envelope[TicketOut](data=TicketOut(ticket=ticket, expires_in=int(TICKET_LIFETIME.total_seconds()))), 201


@api.get(f"{NOTIFICATIONS}/stream")
@security_scheme([{"bearer": []}, {"ticket": []}])
@takes_headers(last_event_id="The id of the last event one has: what came since is told first.")
@validate_querystring(StreamQuery)
@document_response(Events)
@refuses(*OF_THE_SIGNED_IN, "ticket_invalid", "too_many_requests")
async def get_stream(query_args: StreamQuery) -> Response:
    """One's notifications as they come to be, as server-sent events.

    With a bearer token, or `?ticket=`. The first event, `ready`, tells `unread_count`. Each `notification` has an id,
    with which one comes back for what was missed. A connection that doesn't keep up is closed. It has no end: what
    waits for one before it shows anything, as trying it out on the page of this document does, shows nothing.
    """
    if request.method == "HEAD":
        return event_response(b"")  # it hears nothing, and uses no ticket up
    who = await _listener(query_args.ticket)
    last = await parts().notifications.last_number(who.user.id)
    had = request.headers.get("Last-Event-ID") or query_args.last_event_id or ""
    after = min(int(had), last) if had.isdecimal() and len(had) < 19 else last
    unread = UnreadOut(unread_count=await parts().notifications.unread(who.user.id))
    line = await notifier.subscribe(parts().refs.notifier, who.user.id, after)
    return event_response(
        EventStream(
            line.listen,
            _event,
            first=event(unread.model_dump_json(), event_id=after, name="ready"),
            ending=parts().stopping,
            still=partial(_still, parts().sessions, parts().clock, who),
        )
    )


def shown(notification: Notification) -> NotificationOut:
    return NotificationOut.of(notification, read=notification.read_at is not None)


def _event(notification: Notification) -> bytes:
    return event(shown(notification).model_dump_json(), event_id=notification.number, name="notification")


async def _listener(ticket: str | None) -> Caller:
    """Raises Unauthenticated."""
    if ticket is None:
        found = await identify()
        if found is None:
            raise Unauthenticated("Sign in first: send an access token, or a ticket.")
        return found
    held = await parts().notifications.take(ticket)
    user = None
    if held is not None:
        user = await parts().sessions.user_of(held.session_id, held.user_id, parts().clock())
    if held is None or user is None:
        raise Unauthenticated("The ticket does not hold any more; ask for another.", code="ticket_invalid")
    return Caller(user, held.session_id)


async def _still(sessions: Sessions, clock: Clock, who: Caller) -> bool:
    """Whether the session by which somebody listens is still one; taken for granted while nobody knows."""
    try:
        return await sessions.user_of(who.session_id, who.user.id, clock()) is not None
    except StoreError:
        return True
