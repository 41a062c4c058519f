"""The page on which anyone watches a stream. It is HTML at the root, and talks to the API as any player would.

Its words stand here and in the template alone: the script picks among those it finds in the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from quart import Blueprint, Response, render_template, request
from quart_schema import hide

from veza.domain.errors import NotFound
from veza.domain.live import Health, StreamState
from veza.domain.streams import is_open_to, no_stream
from veza.http import errors
from veza.http.assets import ROOT, asset_url, assets
from veza.http.document import API
from veza.http.downloads import client_has_it, unchanged
from veza.http.parts import parts
from veza.http.routes.streams import STREAMS, stream_out

pages = Blueprint("watch", __name__, template_folder="../templates")

STATES: Final[Mapping[StreamState, tuple[str, str]]] = {
    StreamState.OFFLINE: ("Off air", "Nobody is on air yet. This page begins to play once somebody is."),
    StreamState.STARTING: ("Starting", "It is about to begin."),
    StreamState.LIVE: ("Live", "It is loading."),
    StreamState.STALLED: ("Stalled", "Nothing comes from the studio just now. It may go on at any moment."),
    StreamState.RECONNECTING: ("Reconnecting", "The studio has lost its connection, and has a while to come back."),
    StreamState.ENDED: ("Ended", "It is over. This page plays on if they come back on air."),
}
"""Each state's label, and what is said where the picture would be while there is none."""

HEALTHS: Final[Mapping[Health, str]] = {
    Health.NONE: "",
    Health.GOOD: "Good connection",
    Health.POOR: "Unsteady connection",
    Health.UNKNOWN: "Connection not known",
}

ASSETS_KEPT: Final = "public, max-age=31536000, immutable"


@pages.get("/watch/<stream_id>")
@hide
async def watch(stream_id: str) -> Response:
    """The page of a stream that is listed; a draft, and what is no stream at all, has none."""
    stream = await parts().streams.get(_id(stream_id))
    if not is_open_to(stream, None):
        raise no_stream()
    shown = stream_out(stream)
    page = await render_template(
        "watch.html",
        asset=asset_url,
        stream=shown,
        api=f"{API}{STREAMS}/{stream.id}",
        states=STATES,
        healths=HEALTHS,
    )
    return _page(page, players=shown.playback.hls_url)


@pages.get(f"{ROOT}/<path:name>")
@hide
async def get_asset(name: str) -> Response:
    """One of the files that pages load, to be kept for good if it is asked for by its version."""
    found = assets().get(name)
    if found is None:
        raise NotFound("There is no such file.")
    kept = ASSETS_KEPT if request.args.get("v") == found.version else "no-cache"
    headers = {"ETag": f'"{found.version}"', "Cache-Control": kept}
    if client_has_it(headers):
        return unchanged(headers)
    return Response(found.body, headers=headers, content_type=found.content_type)


@pages.errorhandler(Exception)
async def _tell(error: Exception) -> Response:
    """An error as a page, with the status, the headers and the log of any other."""
    answer = await errors.answer(error)
    told = errors.describe(error)
    page = _page(await render_template("error.html", asset=asset_url, told=told))
    page.status_code = answer.status_code
    page.headers.extend(told.headers)
    return page


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise no_stream() from None


def _page(html: str, players: str = "") -> Response:
    """A page that runs nothing but our own files, whatever finds its way into its text."""
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy(players)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response


def policy(players: str) -> str:
    """The Content-Security-Policy of a page that plays from an address; a script plays out of a `blob:`."""
    parts = urlsplit(players)
    origin = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        f" connect-src 'self'{origin}; media-src 'self' blob:{origin};"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
