"""How often one address or one user may ask, looked at in front of everything that takes work.

Every answer says how its asker stands (draft-ietf-httpapi-ratelimit-headers-10). A stream's status does not: it is kept
by caches for everyone. Probes, metrics, payment webhooks and ingest hooks are never limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import trio

from veza.domain.errors import Unauthenticated
from veza.domain.limits import Claim, Limit, Verdict, refused, site_of, too_often, whole_seconds
from veza.gateways.limits import Meter
from veza.gateways.limits.memory import InMemory
from veza.http import errors
from veza.http.auth import bearer_in
from veza.http.document import API
from veza.http.doors import turn_away
from veza.http.edge import NEVER_SHED, ASGIApp, Receive, Scope, Send, seats, trace
from veza.http.parts import Parts
from veza.http.routes.live_status import POLLED
from veza.http.tokens import TokenType

LOGIN: Final = f"{API}/auth/login"
CONSOLE_LOGIN: Final = "/console/login"
REGISTER: Final = f"{API}/auth/register"
SENDING: Final = frozenset({"POST", "PUT"})
FILES: Final = b"multipart/form-data"

PATIENCE_SECONDS: Final = 0.05
"""Who asked too often is told so this much later at most, if others are being worked for: nobody's client minds, and it
is longer than most answers take."""


class Line:
    """Where those stand who asked too often: they are told when nobody else is being worked for, and one after another.

    A crowd of them is so held up by the others, not the others by the crowd. None waits for another one's client.
    """

    def __init__(self) -> None:
        self._front = trio.Lock()

    async def stand(self) -> None:
        """Wait for one's turn, at most ``PATIENCE_SECONDS`` longer than it takes to tell those in front."""
        until = trio.current_time() + PATIENCE_SECONDS
        seats().give_back(trace())
        async with self._front:
            with trio.CancelScope(deadline=until):
                while seats().taken:
                    await seats().empty()
                    await _look_around()
            await trio.lowlevel.checkpoint()  # whoever has come meanwhile is looked after before the next in line


async def _look_around() -> None:
    """Let what has just come be read, and take its seat: a turn of the loop for each."""
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


class Throttle:
    """Stands inside the edge, before maintenance and everything else that could answer.

    A stream's status is counted in this process alone: asking another one takes longer than answering.
    """

    def __init__(self, app: ASGIApp, parts: Parts, meter: Meter) -> None:
        self._app = app
        self._parts = parts
        self._meter = meter
        self._polls = InMemory()
        self._line = Line()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_limited(scope["path"]):
            await self._app(scope, receive, send)
            return
        if POLLED.fullmatch(scope["path"]) is not None:
            verdicts = self._polls.take_now([Claim(self._parts.settings.limits.status, _site(scope))])
        else:
            verdicts = await self._meter.take(self._claims(scope))
            trace().headers.extend(headers_of(verdicts))
        worst = refused(verdicts)
        if worst is None:
            await self._app(scope, receive, send)
        else:
            await self._line.stand()
            await turn_away(errors.describe(too_often(worst)), scope, receive, send)

    def _claims(self, scope: Scope) -> list[Claim]:
        limits, site, user = self._parts.settings.limits, _site(scope), self._user(scope)
        claims = [Claim(limits.address, site) if user is None else Claim(limits.user, user)]
        if scope["method"] in SENDING:
            path = scope["path"].rstrip("/")  # as the routes take it
            if path in (LOGIN, CONSOLE_LOGIN):
                claims.append(Claim(limits.login, site))
            elif path == REGISTER:
                claims.append(Claim(limits.register, site))
            elif _header(scope, b"content-type").lower().startswith(FILES):
                claims.append(Claim(limits.upload, user or site))
        return claims

    def _user(self, scope: Scope) -> str | None:
        """Whose access token it shows; for counting our signature will do, whether its session lives or not."""
        token = bearer_in(_header(scope, b"authorization").decode("latin-1"))
        if token is None:
            return None
        try:
            return str(self._parts.tokens.read(token, TokenType.ACCESS).user_id)
        except Unauthenticated:
            return None


def is_limited(path: str) -> bool:
    """Whether a request counts. A page's asking for permission (CORS) does not come here: the edge answers it."""
    return not path.startswith(NEVER_SHED)


def headers_of(verdicts: Sequence[Verdict]) -> list[tuple[bytes, bytes]]:
    """What they say to the asker: lists of items with parameters (RFC 9651)."""
    return [
        (b"ratelimit-policy", b", ".join([_policy(each.limit) for each in verdicts])),
        (b"ratelimit", b", ".join([_standing(each) for each in verdicts])),
    ]


@cache
def _policy(limit: Limit) -> bytes:
    return f'"{limit.name}";q={limit.quota};w={limit.window}'.encode()


def _standing(verdict: Verdict) -> bytes:
    return f'"{verdict.limit.name}";r={verdict.remaining};t={whole_seconds(verdict.more_in)}'.encode()


def _site(scope: Scope) -> str:
    return site_of(scope["client"][0] if scope["client"] else None)


def _header(scope: Scope, name: bytes) -> bytes:
    found: bytes = next((value for each, value in scope["headers"] if each == name), b"")
    return found
