"""Streams: what creators go on air with, and what is kept of each time on air. Their keys are in `stream_keys`."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints
from quart import Blueprint
from quart_schema import validate_querystring, validate_request, validate_response

from veza.domain.catalog import TAG_LENGTH
from veza.domain.errors import Conflict
from veza.domain.live import PastSession, SessionEnd, StreamState
from veza.domain.streams import (
    CATEGORY_LENGTH,
    DESCRIPTION_LENGTH,
    TITLE_LENGTH,
    Stream,
    StreamChanges,
    StreamListing,
    change,
    check_owner,
    draft,
    is_open_to,
    no_stream,
)
from veza.http.auth import caller, caller_if_any, login_optional, login_required
from veza.http.envelope import Body, DeletedOut, Envelope, Out
from veza.http.paging import Paging
from veza.http.parts import parts
from veza.http.refusals import refuses

api = Blueprint("streams", __name__)

STREAMS: Final = "/live/streams"
STREAM: Final = f"{STREAMS}/<uuid:stream_id>"

OVER: Final = (StreamState.OFFLINE, StreamState.ENDED)

Title = Annotated[str, StringConstraints(strip_whitespace=True, max_length=TITLE_LENGTH)]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_LENGTH)]
Category = Annotated[str, StringConstraints(max_length=CATEGORY_LENGTH)]


# -- what is shown ----------------------------------------------------------------------------------------------------


class StreamerOut(Out):
    id: UUID
    username: str


class PlaybackOut(Out):
    """``ready``: there is something to play there now."""

    hls_url: str
    ready: bool


class VideoOut(Out):
    """As the encoder tells; null is what it does not tell. ``frame_rate`` in pictures a second."""

    codec: str
    width: int | None
    height: int | None
    frame_rate: float | None
    profile: str | None
    level: str | None


class AudioOut(Out):
    """As the encoder tells; null is what it does not tell. ``sample_rate`` in Hz."""

    codec: str
    profile: str | None
    channels: int | None
    sample_rate: int | None


class StreamOut(Out):
    """``draft``: it was made for its key alone, and is its owner's alone to see until it has a title.

    ``started_at`` is when it went live, null while it is not on air; ``video`` and ``audio`` are null until an encoder
    has told of them. ``viewer_count`` is approximate: the distinct pollers of its status within the last minute.
    """

    id: UUID
    user_id: UUID
    user: StreamerOut
    title: str
    description: str
    category: str | None
    tags: tuple[str, ...]
    draft: bool
    state: StreamState
    is_live: bool
    viewer_count: int
    started_at: datetime | None
    playback: PlaybackOut
    video: VideoOut | None
    audio: AudioOut | None
    created_at: datetime
    updated_at: datetime


class StreamsOut(Out):
    """``total`` is counted up to 10,000; a longer list says 10,000, or what is seen by then if that is more."""

    streams: list[StreamOut]
    total: int


class StreamSessionOut(Out):
    """One time on air, across its reconnections. ``duration_seconds`` and ``end_reason`` are null until it is over."""

    id: UUID
    started_at: datetime
    live_at: datetime
    ended_at: datetime | None
    end_reason: SessionEnd | None
    duration_seconds: int | None
    peak_viewers: int
    bytes_in: int
    reconnects: int


class StreamSessionsOut(Out):
    sessions: list[StreamSessionOut]
    total: int


# -- what is sent -----------------------------------------------------------------------------------------------------


class ListQuery(Paging):
    is_live: bool | None = None
    user_id: UUID | None = None
    category: str | None = Field(None, max_length=CATEGORY_LENGTH)
    tag: str | None = Field(None, max_length=TAG_LENGTH)

    def listing(self) -> StreamListing:
        return StreamListing(self.is_live, self.user_id, self.category or None, self.tag or None)


class NewStreamBody(Body):
    title: Annotated[Title, Field(min_length=1)]
    description: Description = ""
    category: Category | None = None
    tags: tuple[str, ...] = ()

    def changes(self) -> StreamChanges:
        return StreamChanges(self.title, self.description, self.category, self.tags)


class StreamBody(Body):
    """Changes what is sent; a null ``category`` takes it away. The rest of a fetched stream is ignored."""

    # The factories make values that are never read, as only what was sent is; unlike defaults they are in no schema.
    title: Title = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    category: Category | None = Field(default_factory=str)
    tags: tuple[str, ...] = Field(default_factory=tuple)
    id: object = None
    user_id: object = None
    user: object = None
    draft: object = None
    state: object = None
    is_live: object = None
    viewer_count: object = None
    started_at: object = None
    playback: object = None
    video: object = None
    audio: object = None
    stream_key: object = None
    rtmp_url: object = None
    ingest: object = None
    created_at: object = None
    updated_at: object = None

    def changes(self) -> StreamChanges:
        writable = StreamChanges.__dataclass_fields__.keys()
        given = {name: getattr(self, name) for name in self.model_fields_set & writable}
        return StreamChanges(**given | ({"category": given["category"] or ""} if "category" in given else {}))


# -- everyone's -------------------------------------------------------------------------------------------------------


@api.get(STREAMS)
@validate_querystring(ListQuery)
@validate_response(Envelope[StreamsOut])
async def list_streams(query_args: ListQuery) -> Envelope[StreamsOut]:
    """Everybody's streams, the newest first; drafts are not among them.

    `is_live` true lists those on air, the most watched first; false those that are not. `category` and `tag` are
    compared without regard to case.
    """
    found, total = await parts().streams.page(
        query_args.listing(), parts().refs.live.on_air(), limit=query_args.limit, offset=query_args.offset
    )
    return Envelope[StreamsOut](data=StreamsOut(streams=list(map(stream_out, found)), total=total))


@api.get(STREAM)
@login_optional
@validate_response(Envelope[StreamOut])
async def get_stream(stream_id: UUID) -> Envelope[StreamOut]:
    """One stream. A draft is there for its owner only, a banned owner's for admins; 404 for anyone else."""
    return _answer(await stream_for_reader(stream_id))


async def stream_for_reader(stream_id: UUID) -> Stream:
    """The stream, if the request's reader may know of it. Raises NotFound."""
    stream, reader = await parts().streams.get(stream_id), caller_if_any()
    if not is_open_to(stream, None if reader is None else reader.user):
        raise no_stream()
    return stream


# -- the owner's ------------------------------------------------------------------------------------------------------


@api.post(STREAMS)
@login_required
@validate_request(NewStreamBody)
@validate_response(Envelope[StreamOut], 201)
@refuses("too_many_streams")
async def post_stream(data: NewStreamBody) -> tuple[Envelope[StreamOut], int]:
    """Make a stream, to go on air with again and again.

    One has at most a hundred. Its key is under `/live/streams/me`. Category and tags are folded to lower case.
    """
    begun = new_draft()
    stream = change(begun, data.changes(), begun.created_at)
    await parts().streams.add(stream)
    return _answer(stream), 201


@api.put(STREAM)
@login_required
@validate_request(StreamBody)
@validate_response(Envelope[StreamOut])
@refuses("forbidden")
async def put_stream(stream_id: UUID, data: StreamBody) -> Envelope[StreamOut]:
    """Change what is sent of one's own stream, and leave the rest. A draft that gets a title is listed from then on."""
    user, now = caller().user, parts().clock()

    def decide(stream: Stream) -> Stream:
        check_owner(stream, user)
        return change(stream, data.changes(), now)

    return _answer(await parts().streams.change(stream_id, decide))


@api.delete(STREAM)
@login_required
@validate_response(Envelope[DeletedOut])
@refuses("forbidden")
async def delete_stream(stream_id: UUID) -> Envelope[DeletedOut]:
    """Delete one's own stream, its key, and what is kept of its sessions. If it is on air, that ends."""
    allow = partial(check_owner, user=caller().user)
    await parts().streams.replace_key(stream_id, allow)  # committed, so that nobody comes back on air
    await parts().refs.live.end(stream_id, SessionEnd.DELETED)
    await parts().streams.remove(stream_id, allow)
    return Envelope[DeletedOut](data=DeletedOut())


@api.post(f"{STREAM}/end")
@login_required
@validate_response(Envelope[StreamOut])
@refuses("forbidden", "not_live")
async def end_session(stream_id: UUID) -> Envelope[StreamOut]:
    """Go off air now, without the time that an encoder otherwise has to come back.

    The key still holds: whoever publishes with it begins a new session.
    """
    check_owner(await parts().streams.get(stream_id), caller().user)
    if not await parts().streams.is_open(stream_id):
        raise Conflict("This stream is not on air.", code="not_live")
    await parts().refs.live.end(stream_id, SessionEnd.FINISHED)
    return _answer(await parts().streams.get(stream_id))


@api.get(f"{STREAM}/sessions")
@login_required
@validate_querystring(Paging)
@validate_response(Envelope[StreamSessionsOut])
@refuses("forbidden")
async def list_sessions(stream_id: UUID, query_args: Paging) -> Envelope[StreamSessionsOut]:
    """When one's own stream was on air, the newest first, the present one included.

    Of the present one, `bytes_in` and `peak_viewers` are as of half a minute ago.
    """
    check_owner(await parts().streams.get(stream_id), caller().user)
    found, total = await parts().streams.past_sessions(stream_id, limit=query_args.limit, offset=query_args.offset)
    return Envelope[StreamSessionsOut](data=StreamSessionsOut(sessions=list(map(_session_out, found)), total=total))


def new_draft() -> Stream:
    return draft(caller().user, id=parts().new_id(), now=parts().clock())


def _answer(stream: Stream) -> Envelope[StreamOut]:
    return Envelope[StreamOut](data=stream_out(stream))


def stream_out(stream: Stream) -> StreamOut:
    return StreamOut.of(stream, **what_is_on_air(stream))


def what_is_on_air(stream: Stream) -> dict[str, object]:
    """What a stream's session tells, if one is open."""
    live = parts().refs.live
    session = live.session(stream.id)
    state = stream.state if session is None else session.state
    if session is not None and state in OVER:
        session = None  # it is just being written that it is over
    return {
        "state": state,
        "is_live": session is not None and session.on_air,
        "viewer_count": 0 if session is None else live.viewers(stream.id),
        "started_at": None if session is None else session.live_at,
        "playback": PlaybackOut(
            hls_url=parts().broadcasting.hls_url(stream.id),
            ready=session is not None and session.on_air and session.ready,
        ),
        "video": None if session is None else session.video,
        "audio": None if session is None else session.audio,
    }


def _session_out(past: PastSession) -> StreamSessionOut:
    lasted = None if past.ended_at is None else int((past.ended_at - past.live_at).total_seconds())
    return StreamSessionOut.of(past, duration_seconds=lasted)
