"""The files that pages load."""

from __future__ import annotations

from typing import Final

from quart import Blueprint, Response, request
from quart_schema import hide

from veza.domain.errors import NotFound
from veza.http.assets import ROOT, assets
from veza.http.compressed import send_text
from veza.http.pages import tell

pages = Blueprint("assets", __name__)
pages.register_error_handler(Exception, tell)

KEPT: Final = "public, max-age=31536000, immutable"


@pages.get(f"{ROOT}/<path:name>")
@hide
async def get_asset(name: str) -> Response:
    """One of the files that pages load, to be kept for good if it is asked for by its version."""
    found = assets().get(name)
    if found is None:
        raise NotFound("There is no such file.")
    kept = KEPT if request.args.get("v") == found.version else "no-cache"
    return await send_text(found.body, found.content_type, found.version, kept)
