"""Guessing slowed down: what somebody might guess is checked inside ``guess``, which counts what was wrong.

It is counted before it is looked at and given back if it was right, so that a thousand at once are not all looked at
before the first has been counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from quart import request

from veza.domain.accounts import User
from veza.domain.errors import Refusal, Unauthenticated
from veza.domain.guesses import AGAIN, LINK, Attempt, too_many_attempts
from veza.domain.limits import Claim, Verdict, refused, site_of
from veza.gateways.limits import Meter
from veza.http.auth import bearer, caller
from veza.http.edge import trace
from veza.http.parts import parts
from veza.http.tokens import TokenType

log = structlog.get_logger()


@asynccontextmanager
async def signing_in(email: str, user: User | None, cookie: str | None) -> AsyncIterator[None]:
    """Around checking the password for an address, be there an account or not; Unauthenticated says it was wrong.

    ``cookie`` is the refresh token, or the console's, that came along, which tells a device that the account knows.
    Raises TooManyAttempts.
    """
    meter = parts().meter
    if meter is None:
        yield
        return
    attempt = Attempt(email, request.remote_addr, _device(cookie))
    claims = attempt.stranger
    worst = refused(await meter.take(claims))
    if worst is not None:
        # Looked up for who has no account as well: both are told alike, and as soon.
        claims = await _known(attempt, user)
        worst = refused(await meter.take(claims)) if claims else worst
    if worst is not None:
        raise _slowed(worst)
    async with _counting(meter, claims, Unauthenticated):
        yield


@asynccontextmanager
async def giving_it_again() -> AsyncIterator[None]:
    """Around checking the caller's password once more; Unauthenticated says it was wrong. Raises TooManyAttempts."""
    async with _guess([Claim(AGAIN, str(caller().session_id))], Unauthenticated):
        yield


@asynccontextmanager
async def showing_a_link(wrong: type[Refusal]) -> AsyncIterator[None]:
    """Around looking up a link's token; ``wrong`` says there is none. Raises TooManyAttempts."""
    async with _guess([Claim(LINK, site_of(request.remote_addr))], wrong):
        yield


@asynccontextmanager
async def _guess(claims: Sequence[Claim], wrong: type[Refusal]) -> AsyncIterator[None]:
    meter = parts().meter
    if meter is None:
        yield
        return
    worst = refused(await meter.take(claims))
    if worst is not None:
        raise _slowed(worst)
    async with _counting(meter, claims, wrong):
        yield


@asynccontextmanager
async def _counting(meter: Meter, claims: Sequence[Claim], wrong: type[Refusal]) -> AsyncIterator[None]:
    """Give the claims back unless it was wrong: who was not told has learnt nothing."""
    try:
        yield
    except wrong:
        raise
    except BaseException:
        await meter.give_back(claims)
        raise
    await meter.give_back(claims)


def _device(cookie: str | None) -> UUID | None:
    """The session of a token of ours that was shown, be it over."""
    shown = ((cookie, TokenType.REFRESH), (cookie, TokenType.CONSOLE), (bearer(), TokenType.ACCESS))
    for token, kind in shown:
        if token:
            try:
                return parts().tokens.read(token, kind, expired=True).session_id
            except Unauthenticated:
                continue
    return None


async def _known(attempt: Attempt, user: User | None) -> tuple[Claim, ...]:
    """What it counts on if the account knows who it is; nothing if it doesn't."""
    known = await parts().sessions.known(user.id if user else parts().new_id(), parts().clock())
    if attempt.device is not None and any(each.session_id == attempt.device for each in known):
        return attempt.known(device=True)
    if any(each.address and site_of(each.address) == site_of(attempt.address) for each in known):
        return attempt.known(device=False)
    return ()


def _slowed(worst: Verdict) -> Refusal:
    log.warning("guessing_slowed", limit=worst.limit.name, route=trace().route)
    return too_many_attempts(worst)
