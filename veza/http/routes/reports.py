"""Reports: anyone signed in makes them, admins look into them and decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import StringConstraints
from quart import Blueprint
from quart_schema import document_response, validate_querystring, validate_request, validate_response

from veza.domain.reports import (
    REASON_LENGTH,
    Action,
    ContentType,
    Report,
    ReportStatus,
    Subject,
    check_decision,
    check_not_own,
)
from veza.http.auth import admin_only, by, caller, login_required
from veza.http.envelope import Body, Envelope, Out
from veza.http.fields import Moment
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.accounts import Reason
from veza.http.routes.products import product_for_reader
from veza.http.routes.streams import stream_for_reader
from veza.store.reports import Seen, Wanted

api = Blueprint("reports", __name__)

REPORTS: Final = "/reports"
QUEUE: Final = "/admin/reports"

Fault = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=REASON_LENGTH)]


class NewReportBody(Body):
    """``track`` is a product and ``comment`` a review."""

    content_type: ContentType
    content_id: UUID
    reason: Fault


class ReportOut(Out):
    """A report as its reporter sees it."""

    id: UUID
    content_type: ContentType
    content_id: UUID
    reason: str
    status: ReportStatus
    created_at: datetime


class NamedOut(Out):
    id: UUID
    username: str


class SeenReportOut(ReportOut):
    """``reporter`` is null once they had their account erased. ``owner`` is whose content it was when it was reported.

    ``excerpt`` is how it reads now: a name, a title, the beginning of a review; null if it is gone. ``reports_of_it``:
    how many there are of the same thing. ``action`` is what was decided, ``note`` what ``owner`` was told with it.
    """

    reporter: NamedOut | None
    owner: NamedOut
    excerpt: str | None
    reports_of_it: int
    action: Action | None
    note: str
    decided_by: UUID | None
    decided_at: datetime | None


class CountsOut(Out):
    pending: int
    resolved: int
    dismissed: int


class ReportsOut(Out):
    """``counts``: of each status, by the same filters but that of the status."""

    reports: list[SeenReportOut]
    total: int
    counts: CountsOut


class Pile(StrEnum):
    """Which reports are listed."""

    PENDING = "pending"
    RESOLVED = "resolved"
    DISMISSED = "dismissed"
    ALL = "all"

    @property
    def status(self) -> ReportStatus | None:
        return None if self is Pile.ALL else ReportStatus(self)


class ReportsQuery(Paging):
    status: Pile = Pile.PENDING
    content_type: ContentType | None = None


class ResolveBody(Body):
    """``reason`` is told to whose content it is, with a warning or a ban. Without ``until`` a ban is for good."""

    action: Action
    reason: Reason = ""
    until: Moment | None = None


@api.post(REPORTS)
@login_required
@validate_request(NewReportBody)
@validate_response(Envelope[ReportOut], 201)
@document_response(Envelope[ReportOut], 200)
@refuses("not_found", "own_content")
async def post_report(data: NewReportBody) -> tuple[Envelope[ReportOut], int]:
    """Report a user, a product, a review or a stream.

    Who reports the same thing again gets their first report, with 200.
    """
    user = caller().user
    owner_id = await OWNERS[data.content_type.subject](data.content_id)
    check_not_own(owner_id, user.id)
    made, first = await parts().reports.add(
        Report(
            id=parts().new_id(),
            reporter_id=user.id,
            content_type=data.content_type,
            content_id=data.content_id,
            owner_id=owner_id,
            reason=data.reason,
            created_at=parts().clock(),
        )
    )
    return Envelope[ReportOut](data=ReportOut.of(made)), 201 if first else 200


@api.get(QUEUE)
@admin_only
@validate_querystring(ReportsQuery)
@validate_response(Envelope[ReportsOut])
async def get_reports(query_args: ReportsQuery) -> Envelope[ReportsOut]:
    """Reports, with how many there are of each status.

    The pending ones, unless `status` says otherwise. Those that wait come the oldest first, others the newest.
    `content_type` track lists what product does.
    """
    kind = query_args.content_type
    wanted = Wanted(query_args.status.status, None if kind is None else kind.subject)
    found, total, counts = await parts().reports.page(wanted, limit=query_args.limit, offset=query_args.offset)
    told = CountsOut.model_validate({str(status): many for status, many in counts.items()})
    return Envelope[ReportsOut](data=ReportsOut(reports=list(map(_seen, found)), total=total, counts=told))


@api.post(f"{QUEUE}/<uuid:report_id>/resolve")
@admin_only
@validate_request(ResolveBody)
@validate_response(Envelope[SeenReportOut])
@refuses("already_decided", "own_content", "last_admin")
async def resolve(report_id: UUID, data: ResolveBody) -> Envelope[SeenReportOut]:
    """Decide a report, once; audited.

    `dismiss`: nothing is wrong. `resolve`: it has been seen to. `warn` tells whose content it is, with `reason`; `ban`
    bans them, as `POST /admin/users/:id/ban` does, and is refused as that is: nothing is decided then. The reporter is
    told that it was looked into, whose content it is never who reported it. Nobody decides a report about themself or
    what is theirs, whatever the decision: another admin does, and until there is one it waits.
    """
    check_decision(data.action, data.reason, data.until)
    decided = await parts().reports.decide(
        report_id, data.action, data.reason, data.until, by=by(), now=parts().clock()
    )
    return Envelope[SeenReportOut](data=_seen(decided))


# -- whose it is ------------------------------------------------------------------------------------------------------


async def _user(user_id: UUID) -> UUID:
    return (await parts().accounts.get(user_id)).id


async def _seller(product_id: UUID) -> UUID:
    return (await product_for_reader(product_id)).seller_id


async def _author(review_id: UUID) -> UUID:
    review = await parts().reviews.get(review_id)
    await product_for_reader(review.product_id)
    return review.buyer_id


async def _streamer(stream_id: UUID) -> UUID:
    return (await stream_for_reader(stream_id)).user_id


OWNERS: Final[Mapping[Subject, Callable[[UUID], Awaitable[UUID]]]] = {
    Subject.USER: _user,
    Subject.PRODUCT: _seller,
    Subject.REVIEW: _author,
    Subject.STREAM: _streamer,
}
"""Each raises NotFound for what is not there, or not the caller's to see."""


def _seen(seen: Seen) -> SeenReportOut:
    return SeenReportOut.of(
        seen.report,
        reporter=None if seen.reporter is None else NamedOut.of(seen.reporter),
        owner=NamedOut.of(seen.owner),
        excerpt=seen.excerpt,
        reports_of_it=seen.reports_of_it,
    )
