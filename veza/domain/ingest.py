"""What an ingest server shows us of its publishers, and what follows from watching that over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

GOOD_POLLS_WITHOUT: Final = 2  # one could have been taken between an encoder's two connections
FORGOTTEN_POLLS: Final = 10  # what was told after two of them is long dealt with
ADVANCES: Final = 2  # the first bytes are the handshake's and the metadata's; the second are pictures
RATE_SECONDS: Final = 10.0  # a key frame comes every few seconds: a shorter window would show its beat, not the rate


@dataclass(frozen=True, slots=True)
class Publisher:
    """One encoder's connection: the server it is on, and the number it has there.

    ``boot`` tells one run of that server from the next, which numbers anew; null until the server's own page has told.
    """

    ingest: str
    client_id: str
    boot: str | None = None

    def is_(self, client_id: str, boot: str) -> bool:
        return self.client_id == client_id and self.boot in (None, boot)


class Video(NamedTuple):
    """``frame_rate`` in pictures a second. Null is what the encoder did not tell."""

    codec: str
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    profile: str | None = None
    level: str | None = None


class Audio(NamedTuple):
    """``sample_rate`` in Hz. Null is what the encoder did not tell."""

    codec: str
    profile: str | None = None
    channels: int | None = None
    sample_rate: int | None = None


class Seen(NamedTuple):
    """One stream on a stat page. ``bytes_in`` counts since its publisher connected.

    ``dropped``: frames that the server could not pass on to where it is relayed. A tuple of nothing but plain values,
    as are its parts: ten thousand new ones at each poll would otherwise have the garbage collector look through
    everything every minute, for half a second.
    """

    client_id: str
    bytes_in: int
    dropped: int = 0
    video: Video | None = None
    audio: Audio | None = None


@dataclass(frozen=True, slots=True)
class StatPage:
    """What an ingest server carries at one moment, by public id. ``boot`` tells one run of the server from the next."""

    boot: str
    streams: Mapping[UUID, Seen]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An encoder that wants to publish: the key it shows, its address and the number of its connection."""

    key: str
    client_id: str
    address: str


class Flow(StrEnum):
    """What a publisher is seen doing."""

    OPENING = "opening"  # too little was seen of it
    FLOWING = "flowing"
    STANDING = "standing"
    ABSENT = "absent"


class Watch:
    """One stream over the polls of its ingest server. Times are seconds of one clock, whichever it is.

    Ten thousand of these are brought up to date at each poll: hence slots, and no value made anew.
    """

    __slots__ = ("_advances", "_mark_at", "_mark_bytes", "_missed", "_moved_at", "_polls", "bitrate", "boot", "seen")

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self.boot: str | None = None
        self.bitrate = 0
        """Bits a second, over the last RATE_SECONDS or more; 0 until so much was seen."""
        self._polls = self._advances = self._missed = self._mark_bytes = 0
        self._moved_at = self._mark_at = 0.0

    def see(self, seen: Seen, boot: str, now: float) -> None:
        """It is on a page."""
        before, self.seen = self.seen, seen
        if before is None or before.client_id != seen.client_id or boot != self.boot:
            self.boot, self.bitrate, self._polls, self._advances = boot, 0, 0, 0
            self._moved_at = self._mark_at = now
            self._mark_bytes = seen.bytes_in
        elif seen.bytes_in > before.bytes_in:
            self._advances += 1
            self._moved_at = now
        self._missed = 0
        self._polls += 1
        if now - self._mark_at >= RATE_SECONDS:
            self.bitrate = round((seen.bytes_in - self._mark_bytes) * 8 / (now - self._mark_at))
            self._mark_at, self._mark_bytes = now, seen.bytes_in

    def miss(self) -> None:
        """It is not on a page."""
        self._missed += 1

    @property
    def forgotten(self) -> bool:
        """Whether it is gone for so long that nobody asks what it was any more."""
        return self._missed >= FORGOTTEN_POLLS

    def is_of(self, publisher: Publisher) -> bool:
        """Whether what was seen last is this publisher."""
        return self.seen is not None and self.boot is not None and publisher.is_(self.seen.client_id, self.boot)

    def bytes_of(self, publisher: Publisher) -> int:
        """The bytes of this publisher, as far as they were seen."""
        return self.seen.bytes_in if self.seen is not None and self.is_of(publisher) else 0

    def flow(self, publisher: Publisher, stall: float, now: float) -> Flow:
        """What a publisher does. It stands still after ``stall`` seconds without a byte.

        One that no page has shown yet is not missed: it was let in a moment ago, and has a time of its own to show up.
        """
        if not self.is_of(publisher):
            absent = publisher.boot is not None and max(self._missed, self._polls) >= GOOD_POLLS_WITHOUT
            return Flow.ABSENT if absent else Flow.OPENING
        if self._missed:
            return Flow.ABSENT if self._missed >= GOOD_POLLS_WITHOUT else Flow.OPENING
        if now - self._moved_at >= stall:
            return Flow.STANDING
        return Flow.FLOWING if self._advances >= ADVANCES else Flow.OPENING
