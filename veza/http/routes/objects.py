"""Links to files: an address that whoever has it may fetch until it expires, for what can send no bearer token."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from quart import Blueprint, Response

from veza.domain.errors import NotFound
from veza.http.document import sends_file
from veza.http.downloads import send_object
from veza.http.envelope import Out
from veza.http.parts import parts
from veza.http.refusals import refuses

api = Blueprint("objects", __name__)

LINK_LIFETIME: Final = timedelta(minutes=5)  # to begin in: a download that has begun goes on


class DownloadLinkOut(Out):
    """``url`` needs no bearer token: whoever has it may fetch the file until ``expires_at``."""

    url: str
    expires_at: datetime


async def link_to(key: str, *, filename: str, content_type: str) -> DownloadLinkOut:
    """A short-lived link to an object: of the bucket's own where there is one, else one to this process."""
    until = parts().clock().replace(microsecond=0) + LINK_LIFETIME
    url = await parts().objects.link(key, filename=filename, content_type=content_type, until=until)
    return DownloadLinkOut(url=url, expires_at=until)


@api.get("/objects/<token>")
@sends_file
@refuses("link_expired")
async def get_object(token: str) -> Response:
    """The bytes of the file that a short-lived link is of.

    404 for one that was not made here, and for one whose file was deleted or replaced since.
    """
    linked = parts().links.read(token)
    if not await parts().orphans.is_named(linked.key):
        raise NotFound("What this link was of is not there any more.")
    return await send_object(linked.key, filename=linked.filename, content_type=linked.content_type)
