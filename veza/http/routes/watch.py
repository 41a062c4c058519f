"""The page on which anyone watches a stream. It is HTML at the root, and talks to the API as any player would.

Its words stand here and in the template alone: the script picks among those it finds in the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from quart import Blueprint, Response, render_template
from quart_schema import hide

from veza.domain.live import Health, StreamState
from veza.domain.streams import is_open_to, no_stream
from veza.http.assets import asset_url
from veza.http.document import API
from veza.http.pages import html_page, tell
from veza.http.pages import policy as pages_policy
from veza.http.parts import parts
from veza.http.routes.streams import STREAMS, stream_out

pages = Blueprint("watch", __name__)
pages.register_error_handler(Exception, tell)

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
    return html_page(page, policy(shown.playback.hls_url))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise no_stream() from None


def policy(players: str) -> str:
    """The Content-Security-Policy of a page that plays from an address; a script plays out of a `blob:`."""
    parts = urlsplit(players)
    origin = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    return pages_policy(connect=f"'self'{origin}", media=f"'self' blob:{origin}")
