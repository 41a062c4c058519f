"""One's own streams, with their keys: nothing here is anybody else's to see, and no key is shown elsewhere."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.actors.core import AskFailed
from veza.domain.errors import Unavailable
from veza.domain.live import SessionEnd
from veza.domain.streams import Stream, no_stream
from veza.http.auth import caller, login_required
from veza.http.envelope import Body, Envelope, Out, Query
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses
from veza.http.routes.streams import STREAMS, StreamOut, new_draft, what_is_on_air
from veza.store.streams import Replaced

log = structlog.get_logger()

api = Blueprint("stream_keys", __name__)

MINE: Final = f"{STREAMS}/me"
KEY: Final = f"{MINE}/key"


class IngestOut(Out):
    """What is measured of an encoder's connection. ``bitrate_bps``: bits a second, 0 until it could be measured.

    ``dropped_frames`` are those that the ingest server could not pass on to where players fetch them.
    """

    bitrate_bps: int
    bytes_in: int
    dropped_frames: int


class OwnStreamOut(StreamOut):
    """``stream_key`` is a secret: who has it can publish. ``ingest`` is null while nothing is measured.

    Key and URL are null where live streaming is not set up.
    """

    stream_key: str | None
    rtmp_url: str | None
    ingest: IngestOut | None


class OwnStreamsOut(Out):
    streams: list[OwnStreamOut]
    total: int


class KeyOut(Out):
    """Where an encoder goes, and the key it shows there: `<rtmp_url>/<stream_key>`.

    Where the ingest server is MediaMTX, `rtmp_url` ends with the stream's id: `<rtmp_url>?pass=<stream_key>`.
    """

    stream_id: UUID
    stream_key: str
    rtmp_url: str


class NewKeyOut(KeyOut):
    """``live_session_dropped``: an encoder was on air with an old key, and was disconnected."""

    live_session_dropped: bool


class KeyQuery(Query):
    stream_id: UUID | None = None


class KeyBody(Body):
    stream_id: UUID | None = None


@api.get(MINE)
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[OwnStreamsOut])
async def get_mine(query_args: Paging) -> Envelope[OwnStreamsOut]:
    """One's own streams, drafts too, with their keys. The newest first; and what is measured of their encoders."""
    found, total = await parts().streams.of_user(caller().id, limit=query_args.limit, offset=query_args.offset)
    return Envelope[OwnStreamsOut](data=OwnStreamsOut(streams=list(map(_own_out, found)), total=total))


@api.get(KEY)
@login_required
@validate_querystring(KeyQuery)
@validate_response(Envelope[KeyOut])
@refuses("not_found", "live_not_configured")
async def get_key(query_args: KeyQuery) -> Envelope[KeyOut]:
    """The key of one's newest stream, or of the one that `stream_id` names. Without any, a draft is made."""
    if query_args.stream_id is None:
        return Envelope[KeyOut](data=_key_out(await parts().streams.newest_or(new_draft())))
    stream = await parts().streams.get(query_args.stream_id)
    _check_mine(stream)
    return Envelope[KeyOut](data=_key_out(stream))


@api.post(f"{KEY}/regenerate")
@login_required
@validate_querystring(KeyQuery)
@validate_request(KeyBody)
@validate_response(Envelope[NewKeyOut])
@refuses("not_found", "live_not_configured")
async def regenerate_key(query_args: KeyQuery, data: KeyBody) -> Envelope[NewKeyOut]:
    """Replace the keys of all of one's streams, or of the one that `stream_id` names.

    That is in the body or the query. The old ones hold no longer, and whoever is on air with one is disconnected; if
    the ingest server can't be reached now (`live_session_dropped` is false then), as soon as it can. Answers with the
    newest stream's key; without any stream, a draft is made.
    """
    stream_id = data.stream_id or query_args.stream_id
    if stream_id is None:
        replaced = await parts().streams.replace_keys(new_draft())
    else:
        replaced = await parts().streams.replace_key(stream_id, _check_mine)
    out = NewKeyOut.of(_key_out(replaced.streams[0]), live_session_dropped=await _drop(replaced))
    return Envelope[NewKeyOut](data=out)


def _check_mine(stream: Stream) -> None:
    """Raises NotFound for another's: under `/me` there are only one's own."""
    if stream.user.id != caller().id:
        raise no_stream()


async def _drop(replaced: Replaced) -> bool:
    """End what was begun with an old key; whether any encoder was there and dropped.

    What cannot be reached now is left to who holds the sessions: they look every second whose key was replaced.
    """
    dropped = False
    for stream_id in replaced.open:
        try:
            dropped |= await parts().refs.live.end(stream_id, SessionEnd.KEY_ROTATED)
        except (Unavailable, AskFailed) as away:
            log.warning("session_not_dropped", stream=str(stream_id), error=type(away).__name__)
            break  # the others are on the same server, and the request has its deadline
    return dropped


def _key_out(stream: Stream) -> KeyOut:
    """Raises Unavailable where live streaming is not set up."""
    if not parts().broadcasting.configured:
        raise Unavailable("Live streaming is not set up here.", code="live_not_configured")
    return KeyOut(stream_id=stream.id, stream_key=_key(stream), rtmp_url=parts().broadcasting.rtmp_url(stream.id))


def _key(stream: Stream) -> str:
    return parts().broadcasting.keys.key(stream.id, stream.key_version)


def _own_out(stream: Stream) -> OwnStreamOut:
    measured = parts().refs.live.measured(stream.id)
    ingest = None if measured is None else IngestOut.of(measured, bitrate_bps=measured.bitrate)
    own: dict[str, object] = {"stream_key": None, "rtmp_url": None, "ingest": ingest}
    if parts().broadcasting.configured:
        own |= {"stream_key": _key(stream), "rtmp_url": parts().broadcasting.rtmp_url(stream.id)}
    return OwnStreamOut.of(stream, **what_is_on_air(stream), **own)
