"""The audit as admins read it: the newest first, page by page."""

from __future__ import annotations

from datetime import datetime
from http import HTTPMethod
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints, WithJsonSchema
from quart import Blueprint
from quart_schema import validate_querystring, validate_response

from veza.domain.audit import LONGEST, Place, Wanted
from veza.domain.errors import Invalid
from veza.http.auth import admin_only
from veza.http.envelope import Envelope, Out, Query
from veza.http.fields import Moment, WholeNumber
from veza.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from veza.http.parts import parts

api = Blueprint("audit", __name__)

Method = Annotated[HTTPMethod, WithJsonSchema({"type": "string", "enum": list(map(str, HTTPMethod))})]
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class EntryOut(Out):
    """``user_id`` is who did it; null for the command line, the system, and who was not signed in.

    ``method`` and ``status`` are a request's, and null for what was written in the transaction of an action; a request
    whose client hung up before it was answered has no ``status``.
    """

    id: UUID
    at: datetime
    user_id: UUID | None
    action: str
    resource: str
    method: str | None
    status: int | None
    request_id: str | None
    address: str | None
    details: dict[str, Any]


class AuditOut(Out):
    """``next_cursor`` leads to what is older; null at the end."""

    entries: list[EntryOut]
    next_cursor: str | None


class AuditQuery(Query):
    """``resource`` is how it begins. ``since`` and ``until`` bound the time, the first included, the second not: RFC
    3339, or a date (UTC). ``cursor`` is the ``next_cursor`` of the answer before."""

    user_id: UUID | None = None
    action: Text | None = None
    resource: Text | None = None
    method: Method | None = None
    status: WholeNumber | None = Field(None, ge=100, le=599)
    request_id: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    cursor: str | None = None
    limit: WholeNumber = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            self.user_id,
            self.action,
            self.resource,
            self.method and str(self.method),
            self.status,
            self.request_id,
            self.since,
            self.until,
        )


@api.get("/admin/audit")
@admin_only
@validate_querystring(AuditQuery)
@validate_response(Envelope[AuditOut])
async def get_audit(query_args: AuditQuery) -> Envelope[AuditOut]:
    """Who did what, the newest first. Pages do not shift while entries come in."""
    wanted = query_args.wanted
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise Invalid("`since` is later than `until`.", field="since")
    before = None if query_args.cursor is None else Place.parse(query_args.cursor)
    found = await parts().audit.page(wanted, before, query_args.limit + 1)
    shown, more = found[: query_args.limit], found[query_args.limit :]
    return Envelope[AuditOut](
        data=AuditOut(
            entries=list(map(EntryOut.of, shown)),
            next_cursor=str(Place(shown[-1].at, shown[-1].id)) if more else None,
        )
    )
