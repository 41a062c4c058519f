"""Exports: everything that is held about the asker, as one archive that they can fetch for a while."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from quart import Blueprint
from quart_schema import validate_querystring, validate_response

from veza.actors import exports
from veza.domain.exports import CONTENT_TYPE, Export, ExportStatus
from veza.domain.flags import Flag
from veza.http.auth import caller, login_required
from veza.http.envelope import Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses

api = Blueprint("exports", __name__)

EXPORTS: Final = "/users/me/exports"


class ProgressOut(Out):
    """How many of one's files are in the archive, of how many, and their bytes."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


class ExportOut(Out):
    """``download_url`` opens the archive for whoever has it, until ``expires_at``; null unless it is ``ready``.

    ``failure`` is why the last try that failed did; a ``queued`` export is tried again.
    """

    id: UUID
    status: ExportStatus
    progress: ProgressOut
    size_bytes: int | None
    failure: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    download_url: str | None


class ExportsOut(Out):
    exports: list[ExportOut]
    total: int


@api.post("/users/me/export")
@login_required
@validate_response(Envelope[ExportOut], 202)
@refuses("feature_disabled", "too_many_requests")
async def post_export() -> tuple[Envelope[ExportOut], int]:
    """Have everything that is held about oneself made into an archive.

    One is told when it is ready. Asked for again meanwhile, it is the same one. Another is made a day after asking for
    the last, unless that failed.
    """
    parts().flags().check(Flag.EXPORTS)
    export = await parts().exports.ask(caller().id, parts().clock())
    exports.ring(parts().refs.exporter)
    return Envelope[ExportOut](data=await _shown(export)), 202


@api.get(EXPORTS)
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[ExportsOut])
@refuses("storage_unavailable")
async def get_exports(query_args: Paging) -> Envelope[ExportsOut]:
    """One's own exports, the newest first."""
    found, total = await parts().exports.page(caller().id, query_args.limit, query_args.offset)
    return Envelope[ExportsOut](data=ExportsOut(exports=[await _shown(export) for export in found], total=total))


@api.get(f"{EXPORTS}/<uuid:export_id>")
@login_required
@validate_response(Envelope[ExportOut])
@refuses("storage_unavailable")
async def get_export(export_id: UUID) -> Envelope[ExportOut]:
    """How far an export is; and while it is ready, where it can be fetched."""
    return Envelope[ExportOut](data=await _shown(await parts().exports.get(caller().id, export_id)))


async def _shown(export: Export) -> ExportOut:
    seen, url = export.as_of(parts().clock()), None
    if seen.object_key is not None and seen.expires_at is not None:
        url = await parts().objects.link(
            seen.object_key, filename=seen.filename, content_type=CONTENT_TYPE, until=seen.expires_at
        )
    return ExportOut.of(seen, download_url=url)
