"""Limits: how often somebody may ask, by GCRA (ITU-T I.371, annex A): a quota that may come at once and refills evenly.

All that is kept of one claimant is a moment, its *theoretical arrival time* (TAT): when the quota will be whole again.
What lies in the past is worth nothing and may be forgotten. Times are seconds of whatever clock the keeper goes by.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import floor
from typing import Final

from veza.domain.errors import TooMany

ROUNDING: Final = 1e-6  # seconds: what is so near to its time is on time, whoever rounded

SITE_BITS: Final = 64
"""Of an IPv6 address: one customer is given a /64 at least (RFC 6177), and has all the addresses in it."""

WRITTEN: Final = re.compile(r"([a-z]+)=([0-9]{1,6})/([0-9]{1,5})")


@dataclass(frozen=True)
class Limit:
    """At most ``quota`` at once, and ``quota`` in each ``window`` seconds in the long run."""

    name: str
    quota: int
    window: int

    @property
    def interval(self) -> float:
        """Seconds in which one more is allowed."""
        return self.window / self.quota


@dataclass(frozen=True)
class Claim:
    """One request on somebody's share of a limit."""

    limit: Limit
    by: str


@dataclass(frozen=True)
class Verdict:
    """What became of a claim. ``more_in`` are the seconds until one more is allowed than is now."""

    limit: Limit
    allowed: bool
    remaining: int
    more_in: float


@dataclass(frozen=True)
class Limits:
    """The limits of requests. By network address (an IPv6 site counts as one), or by who is signed in."""

    address: Limit = Limit("address", 1200, 60)
    """Everything of who is not signed in. A page and what it loads is a dozen; an office shares one address."""
    user: Limit = Limit("user", 600, 60)
    """Everything of who is signed in, wherever they are."""
    login: Limit = Limit("login", 60, 60)
    """Signing in, by address. An attempt costs some 30 ms of CPU, so that one address takes 3 % of a core."""
    register: Limit = Limit("register", 30, 600)
    """New accounts, by address: a class room's worth in ten minutes."""
    upload: Limit = Limit("upload", 120, 60)
    """Files, by user: a sample pack is a hundred small ones."""
    status: Limit = Limit("status", 6000, 60)
    """A stream's status, by address: two hundred viewers behind one, each asking every two seconds."""


ONE_ADDRESS: Final = Limits(
    address=Limit("address", 60_000, 60),
    user=Limit("user", 30_000, 60),
    login=Limit("login", 3_000, 60),
    register=Limit("register", 1_500, 600),
    upload=Limit("upload", 6_000, 60),
)
"""In development everyone is at one address, scripts among them: these show in the answers' headers, far away."""


def parse_limits(text: str) -> Limits:
    """The limits, some of them replaced: ``login=20/60,user=1200/60`` (requests in seconds). Raises ValueError."""
    known = {field.name for field in fields(Limits)}
    chosen: dict[str, Limit] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        found = WRITTEN.fullmatch(part)
        name, quota, window = (found[1], int(found[2]), int(found[3])) if found else ("", 0, 0)
        if name not in known or not quota or not window:
            raise ValueError(
                f"such as login=20/60 (requests in seconds), comma-separated, of {', '.join(sorted(known))}"
            )
        chosen[name] = Limit(name, quota, window)
    return replace(Limits(), **chosen)


def fits(limit: Limit, tat: float, now: float) -> bool:
    """Whether one more is allowed."""
    return max(tat, now) + limit.interval - limit.window <= now + ROUNDING


def taken(limit: Limit, tat: float, now: float) -> float:
    """The TAT once one more was allowed."""
    return max(tat, now) + limit.interval


def given_back(limit: Limit, tat: float) -> float:
    """The TAT once one that was allowed is not to count."""
    return tat - limit.interval


def verdict(limit: Limit, tat: float, now: float) -> Verdict:
    """How things stand after a claim that was allowed; ``tat`` is what is kept now."""
    used = max(tat - now, 0.0) / limit.interval
    remaining = max(floor(limit.quota - used + ROUNDING), 0)
    more_in = (used - (limit.quota - remaining - 1)) * limit.interval
    return Verdict(limit, True, remaining, more_in if remaining < limit.quota else 0.0)


def refusal(limit: Limit, tat: float, now: float) -> Verdict:
    """How things stand for a claim that does not fit."""
    return Verdict(limit, False, 0, max(tat, now) + limit.interval - limit.window - now)


def judge(claims: Sequence[Claim], tats: Sequence[float], now: float, *, admitted: bool) -> list[Verdict]:
    """What each claim is told. ``tats`` are those kept now: after the claims if they were ``admitted``, else before."""
    return [
        verdict(claim.limit, tat, now) if admitted or fits(claim.limit, tat, now) else refusal(claim.limit, tat, now)
        for claim, tat in zip(claims, tats, strict=True)
    ]


def refused(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Of what was refused, what takes longest; None if all is allowed."""
    return max((each for each in verdicts if not each.allowed), key=lambda each: each.more_in, default=None)


class RateLimited(TooMany):
    """Too many requests of one address or one user."""

    code = "rate_limited"


def too_often(verdict: Verdict) -> RateLimited:
    """What who was refused is told."""
    return RateLimited("You ask too often; wait before you try again.", retry_after=whole_seconds(verdict.more_in))


def whole_seconds(seconds: float) -> int:
    """Rounded up: who comes back then is not too early."""
    return max(-floor(-seconds + ROUNDING), 0) if seconds > 0 else 0


@lru_cache(4096)  # most requests come from who was here a moment ago
def site_of(address: str | None) -> str:
    """Whom an address stands for: itself, or the /64 of an IPv6 address. Who has none is all one."""
    if address is None:
        return "unknown"
    if ":" not in address:
        return address
    try:
        read = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(read, IPv6Address):
        return str(read)
    if read.ipv4_mapped:
        return str(read.ipv4_mapped)
    host_bits = read.max_prefixlen - SITE_BITS
    return f"{IPv6Address(int(read) >> host_bits << host_bits)}/{SITE_BITS}"
