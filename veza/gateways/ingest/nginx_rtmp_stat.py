"""nginx-rtmp's stat page, read as it comes in.

A page is some 10 MB for 10,000 streams, twice that with the application they are relayed to, and comes every two
seconds. A parser that builds a tree takes five times as long over it as what is done here: the streams are cut out and
searched for the few fields that are read, and what is left of the page, its skeleton, goes through a real parser. That
is sound because the server escapes every text that comes from a client (ngx_rtmp_stat_output in
ngx_rtmp_stat_module.c of nginx-rtmp-module 1.2.2): a bracket on the page is always the server's own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from uuid import UUID

from lxml import etree

from veza.domain.ingest import Audio, Seen, StatPage, Video
from veza.gateways.ingest import IngestAway

STREAM_ENDS: Final = b"</stream>"
LIVE_BEGINS: Final = re.compile(rb"<application>\s*<name>([^<]*)</name>\s*<live>\s*\Z")
NAME: Final = re.compile(rb"\s*<name>([^<]*)</name>")
PUBLIC_ID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as they are written in our redirects
BYTES_IN: Final = re.compile(rb"<bytes_in>([0-9]{1,20})</bytes_in>")  # 64 bits, as are the next two
CLIENT_ID: Final = re.compile(rb"<id>([0-9]{1,20})</id>")
DROPPED: Final = re.compile(rb"<dropped>([0-9]{1,20})</dropped>")
FIELD: Final = re.compile(rb"<([a-z_]+)>([^<]*)</\1>")

MOST_PIXELS: Final = 65_535  # a side, in H.264's and H.265's levels, is far below
MOST_FRAMES: Final = 1_000  # a second
MOST_CHANNELS: Final = 64
MOST_HERTZ: Final = 768_000  # twice the highest rate that is in use
MEDIA_KEPT: Final = 4096  # encoders share a few settings; 4 MB, if they should not


class StatReader:
    """A page, fed to it piece by piece. Raises IngestAway as soon as it cannot be one."""

    def __init__(self, application: str) -> None:
        self._application = application.encode()
        self._rest = bytearray()  # what was fed since the last stream ended
        self._skeleton = bytearray()
        self._ours = False
        self._streams: dict[UUID, Seen] = {}

    def feed(self, piece: bytes) -> None:
        unseen = max(0, len(self._rest) - len(STREAM_ENDS) + 1)
        self._rest += piece
        if self._rest.find(STREAM_ENDS, unseen) < 0:
            return
        *streams, rest = bytes(self._rest).split(STREAM_ENDS)
        self._rest = bytearray(rest)
        for stream in streams:
            self._take(stream)

    def close(self, now: int) -> StatPage:
        """The whole page; ``now`` is the server's own time as it answered, in seconds since 1970.

        The page tells the server's uptime, by the same cached clock as the answer's Date. So their difference is the
        second it began in exactly, whenever and by whomever it is asked, and even if its clock is set meanwhile.
        """
        try:
            page = etree.fromstring(bytes(self._skeleton + self._rest), _parser())
            pid, uptime = int(page.findtext("pid")), int(page.findtext("uptime"))
            names = [name.text for name in page.iterfind("server/application/name")]
        except (etree.XMLSyntaxError, TypeError, ValueError) as error:
            raise IngestAway("a stat page that is cut off or is none") from error
        if page.tag != "rtmp" or self._application.decode() not in names:
            raise IngestAway("a stat page without the application that is published to")
        return StatPage(f"{pid}-{now - uptime}", self._streams)

    def _take(self, piece: bytes) -> None:
        outside, begins, stream = piece.partition(b"<stream>")
        if not begins or b"<stream>" in stream:
            raise IngestAway("a stat page with half a stream")
        if outside.strip():
            self._skeleton += outside
            live = LIVE_BEGINS.search(outside)
            self._ours = live is not None and live[1] == self._application
        if self._ours:
            self._see(stream)

    def _see(self, stream: bytes) -> None:
        name = _found(NAME.match(stream))
        if not PUBLIC_ID.fullmatch(name) or (seen := _seen(stream)) is None:
            return
        stream_id = UUID(name.decode())
        if stream_id in self._streams:
            raise IngestAway("a stat page that has a stream twice")
        self._streams[stream_id] = seen


def _seen(stream: bytes) -> Seen | None:
    """A stream's publisher; None where only those are left that it was relayed to.

    One that has sent no picture yet is not marked active, and counts: it has a while to begin.
    """
    mark = stream.find(b"<publishing/>")
    begins = stream.rfind(b"<client>", 0, mark)
    ends = stream.find(b"</client>", begins)
    if mark < 0 or not 0 <= begins < mark < ends:
        return None
    client = stream[begins:ends]
    return Seen(
        _found(CLIENT_ID.search(client)).decode(),
        int(_found(BYTES_IN.search(stream))),
        _dropped(stream),
        *_media_in(stream, ends),
    )


def _dropped(stream: bytes) -> int:
    """Frames that the server could not pass on: it counts none that a publisher lost, and tells them by receiver."""
    counts = DROPPED.findall(stream)
    if not counts:
        raise IngestAway("a stat page with a stream that can't be read")
    return sum(map(int, counts))


def _media_in(stream: bytes, after: int) -> tuple[Video | None, Audio | None]:
    begins = stream.find(b"<meta>", after)
    if begins < 0:
        return None, None
    ends = stream.find(b"</meta>", begins)
    if ends < 0:
        raise IngestAway("a stat page with half a stream")
    return _media(stream[begins:ends])


def _found(match: re.Match[bytes] | None) -> bytes:
    if match is None:
        raise IngestAway("a stat page with a stream that can't be read")
    return match[1]


@lru_cache(maxsize=MEDIA_KEPT)
def _media(meta: bytes) -> tuple[Video | None, Audio | None]:
    """What the encoder says it sends. Ten thousand sessions share few such values.

    The numbers are the encoder's own, so that a senseless one (its -1 is 2 to the 64th here) is only null: one
    publisher must not be able to make the page unreadable for all.
    """
    video, audio = (dict(FIELD.findall(_between(meta, kind))) for kind in (b"video", b"audio"))
    return _video(video), _audio(audio)


def _between(meta: bytes, kind: bytes) -> bytes:
    return meta.partition(b"<%b>" % kind)[2].partition(b"</%b>" % kind)[0]


def _video(fields: dict[bytes, bytes]) -> Video | None:
    codec = _text(fields.get(b"codec"))
    if codec is None:
        return None
    frame_rate = _number(fields.get(b"frame_rate"), MOST_FRAMES)
    return Video(
        codec,
        _number(fields.get(b"width"), MOST_PIXELS),
        _number(fields.get(b"height"), MOST_PIXELS),
        None if frame_rate is None else float(frame_rate),
        _text(fields.get(b"profile")),
        _text(fields.get(b"level")),
    )


def _audio(fields: dict[bytes, bytes]) -> Audio | None:
    codec = _text(fields.get(b"codec"))
    if codec is None:
        return None
    return Audio(
        codec,
        _text(fields.get(b"profile")),
        _number(fields.get(b"channels"), MOST_CHANNELS),
        _number(fields.get(b"sample_rate"), MOST_HERTZ),
    )


def _number(value: bytes | None, most: int) -> int | None:
    """0 is what the server writes for what it was not told."""
    number = int(value) if value and len(value) <= 20 and value.isdigit() else 0  # a 64-bit number has 20 digits
    return number if 0 < number <= most else None


def _text(value: bytes | None) -> str | None:
    usable = value and len(value) <= 32 and value.isascii()  # the longest of the server's own names has 14 characters
    return value.decode() if value and usable else None


def _parser() -> etree.XMLParser:
    """One that opens and expands nothing: no file, no network, no entity, no document type."""
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
