"""Links to cloud files: whoever has one reads the file, until it expires or is revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Final, Literal
from uuid import UUID

from pydantic import Field
from quart import Blueprint, Response
from quart_schema import validate_querystring, validate_request, validate_response

from veza.domain.cloud import MAX_SHARE_HOURS, CloudFile, Share
from veza.domain.errors import NotFound
from veza.http.auth import caller, login_required
from veza.http.document import API, sends_file
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.guesses import showing_a_link
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.cloud import FILE, send_content

api = Blueprint("cloud_shares", __name__)

SHARE: Final = f"{FILE}/share"
SHARED: Final = "/cloud/shared"
TOKEN_BYTES: Final = 32  # nobody guesses 256 bits

Permissions = Literal["read"]


class ShareBody(Body):
    permissions: Permissions = "read"
    expires_in_hours: int = Field(24, ge=1, le=MAX_SHARE_HOURS)


class LinkOut(Out):
    """``token`` is told here and never again; ``id`` is what the link is revoked by."""

    id: UUID
    share_url: str
    token: str
    expires_at: datetime


class LinkAnswer(Envelope[LinkOut]):
    """What is in ``data`` stands beside it as well: there are clients of either shape."""

    id: UUID
    share_url: str
    token: str
    expires_at: datetime


class FileShareOut(Out):
    id: UUID
    permissions: Permissions = "read"
    expires_at: datetime
    created_at: datetime


class SharesOut(Out):
    shares: list[FileShareOut]
    total: int


class SharedFileOut(Out):
    name: str
    size_bytes: int
    content_type: str
    version: int
    permissions: Permissions = "read"
    expires_at: datetime


@api.post(SHARE)
@login_required
@validate_request(ShareBody)
@validate_response(LinkAnswer)
@refuses("too_many_shares")
async def post_share(file_id: UUID, data: ShareBody) -> LinkAnswer:
    """Make a link by which anyone may read one's own file, as it is when they do.

    For a day, or up to a year. The token is shown this once: only its hash is kept. A file has at most a hundred living
    links.
    """
    now, token = parts().clock(), token_urlsafe(TOKEN_BYTES)
    share = Share(parts().new_id(), file_id, now + timedelta(hours=data.expires_in_hours), now)
    await parts().cloud.share(caller().user.id, share, token)
    url = f"{parts().settings.base_url}{API}{SHARED}/{token}"
    link = LinkOut(id=share.id, share_url=url, token=token, expires_at=share.expires_at)
    return LinkAnswer(data=link, **dict(link))


@api.get(SHARE)
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[SharesOut])
async def list_shares(file_id: UUID, query_args: Paging) -> Envelope[SharesOut]:
    """The living links to one's own file, the newest first, without their tokens."""
    found = await parts().cloud.shares(caller().user.id, file_id, parts().clock())
    shown = list(map(FileShareOut.of, query_args.of(found)))
    return Envelope[SharesOut](data=SharesOut(shares=shown, total=len(found)))


@api.delete(f"{SHARE}/<uuid:share_id>")
@login_required
@validate_response(Envelope[DeletedOut])
async def delete_share(file_id: UUID, share_id: UUID) -> Envelope[DeletedOut]:
    """Revoke a link to one's own file. Who is downloading by it gets the rest."""
    await parts().cloud.revoke(caller().user.id, file_id, share_id)
    return Envelope[DeletedOut](data=DeletedOut())


@api.get(f"{SHARED}/<token>")
@validate_response(Envelope[SharedFileOut])
@refuses("too_many_attempts")
async def get_shared(token: str) -> tuple[Envelope[SharedFileOut], int, dict[str, str]]:
    """What a shared link leads to. 404 for one that is unknown, expired or revoked."""
    file, expires_at = await _shared(token)
    shown = SharedFileOut.of(file, expires_at=expires_at)
    return Envelope[SharedFileOut](data=shown), 200, {"Cache-Control": "private, no-store"}


@api.get(f"{SHARED}/<token>/content")
@sends_file
@refuses("too_many_attempts")
async def get_shared_content(token: str) -> Response:
    """The bytes of the file that a shared link leads to, as it is now."""
    file, _ = await _shared(token)
    return await send_content(file)


async def _shared(token: str) -> tuple[CloudFile, datetime]:
    """What a link leads to, and until when. Raises NotFound, and TooManyAttempts at whoever tries one after another."""
    async with showing_a_link(NotFound):
        return await parts().cloud.shared(token, parts().clock())
