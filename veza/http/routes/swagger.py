"""The API's document, and the page that shows it and lets its reader try it out."""

from __future__ import annotations

from typing import Final

from quart import Blueprint, Response, render_template
from quart_schema import hide

from veza.http.assets import asset_url
from veza.http.compressed import send_text
from veza.http.document import written
from veza.http.pages import html_page, policy, tell

DOCUMENT: Final = "/openapi.json"

api = Blueprint("openapi", __name__)
pages = Blueprint("swagger", __name__)
pages.register_error_handler(Exception, tell)


@api.get(DOCUMENT)
@hide
async def get_document() -> Response:
    """What the API is, for programs (OpenAPI 3.1)."""
    body, version = await written()
    return await send_text(body, "application/json", version, "no-cache")


@pages.get("/swagger")
@hide
async def get_page() -> Response:
    """The same for people. Its tries go to where it came from, and to no other host."""
    page = await render_template("swagger.html", asset=asset_url, document=DOCUMENT)
    return html_page(page, policy(image="'self' data:"))  # the viewer's style sheet holds its icons
