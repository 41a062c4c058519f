"""Identifiers: UUIDs of version 7, so that rows made later sort later."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random, SystemRandom
from uuid import UUID

Clock = Callable[[], datetime]
"""Tells the time, aware and in UTC."""

NewId = Callable[[], UUID]
"""Makes an identifier nobody has yet."""


class IdMint:
    """Makes UUIDv7s from a clock and a source of randomness (RFC 9562, section 5.7).

    Both are passed in, so that a seeded run makes the same identifiers again.
    """

    def __init__(self, now: Clock, random: Random) -> None:
        self._now = now
        self._random = random

    def __call__(self) -> UUID:
        milliseconds = int(self._now().timestamp() * 1000)
        value = milliseconds << 80 | self._random.getrandbits(80)
        value = value & ~(0xF << 76) | 0x7 << 76  # the version
        value = value & ~(0x3 << 62) | 0x2 << 62  # the variant
        return UUID(int=value)


def utc_now() -> datetime:
    """The wall clock, for the composition root to pass down."""
    return datetime.now(UTC)


def system_mint() -> IdMint:
    """The mint a real process uses: the wall clock and the system's randomness."""
    return IdMint(utc_now, SystemRandom())
