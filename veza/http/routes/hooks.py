"""What ingest servers ask and tell us: may this encoder publish, and that one left.

The address of a hook holds the ingest server's token. Keys are read and compared before anything is looked up, so that
guessing costs us next to nothing; who guesses too often is not heard for a while.
"""

from __future__ import annotations

import hmac
from typing import Final

import structlog
import trio
from pydantic import BaseModel
from quart import Blueprint, Response, current_app, request
from quart_schema import document_response, validate_response

from veza.domain.errors import Forbidden, Invalid, NotFound, TooMany
from veza.domain.failures import Failures
from veza.domain.ingest import Attempt
from veza.domain.live import StreamSession, key_revoked
from veza.domain.stream_keys import KeyClaim
from veza.gateways.ingest.mediamtx import MediaMtxAuth, read_auth
from veza.gateways.ingest.nginx_rtmp import read_publish, read_publish_done
from veza.http.document import takes_bytes
from veza.http.envelope import Elsewhere, Envelope, ReceivedOut
from veza.http.parts import Parts, parts
from veza.http.refusals import refuses

log = structlog.get_logger()

api = Blueprint("hooks", __name__)

FAILURES: Final = 20  # an encoder with an old key that tries again every few seconds stays below that
FAILURE_SECONDS: Final = 60.0


class RtmpForm(BaseModel):
    """What nginx-rtmp says of a publisher: its call, its application, the stream key as its name, and who it is."""

    call: str
    app: str
    name: str
    addr: str
    clientid: str


READING: Final = frozenset({"read", "playback"})  # MediaMTX asks for players too: whoever knows a stream may watch it


@api.post("/hooks/rtmp/<token>/publish")
@document_response(Elsewhere, 302)
@takes_bytes(RtmpForm, "application/x-www-form-urlencoded")
@refuses(
    "key_revoked",
    "banned",
    "feature_disabled",
    "already_publishing",
    "too_many_requests",
    "live_not_configured",
)
async def rtmp_publish(token: str) -> Response:
    """nginx-rtmp's `on_publish`: whether this encoder may go on air.

    302 lets it in, under the stream's public id; anything else ends it.
    """
    _check(token)
    body: bytes = await request.body
    try:
        attempt = read_publish(body, parts().broadcasting.application)
    except ValueError as wrong:
        raise Invalid(f"This is no such hook: {wrong}.") from None
    session = await _let_in(attempt, _claim(attempt))
    # Renamed to its public id, the stream keeps its key out of the stat page and of what players ask for.
    return Response(b"", status=302, headers={"Location": str(session.stream_id)}, content_type="text/plain")


@api.post("/hooks/rtmp/<token>/publish_done")
@validate_response(Envelope[ReceivedOut])
@takes_bytes(RtmpForm, "application/x-www-form-urlencoded")
async def rtmp_publish_done(token: str) -> Envelope[ReceivedOut]:
    """nginx-rtmp's `on_publish_done`: an encoder left, or was refused after all."""
    _check(token)
    body: bytes = await request.body
    try:
        attempt = read_publish_done(body, parts().broadcasting.application)
    except ValueError as wrong:
        raise Invalid(f"This is no such hook: {wrong}.") from None
    claim = parts().broadcasting.keys.read(attempt.key)
    if claim is not None:
        parts().refs.live.left(claim.stream_id, attempt.client_id)
    return Envelope[ReceivedOut](data=ReceivedOut())


@api.post("/hooks/mediamtx/<token>/auth")
@validate_response(Envelope[ReceivedOut])
@takes_bytes(MediaMtxAuth)
@refuses(
    "forbidden",
    "key_revoked",
    "banned",
    "feature_disabled",
    "already_publishing",
    "too_many_requests",
    "live_not_configured",
)
async def mediamtx_auth(token: str) -> Envelope[ReceivedOut]:
    """MediaMTX's HTTP authentication: whether an encoder may go on air, a player watch.

    The path is the stream's public id, the key comes as the password. Players are let in.
    """
    _check(token)
    body: bytes = await request.body
    try:
        asked = read_auth(body)
    except ValueError as wrong:
        raise Invalid(f"This is no such hook: {wrong}.") from None
    if asked.action in READING:
        return Envelope[ReceivedOut](data=ReceivedOut())
    if asked.attempt is None:
        raise Forbidden("Only publishing and watching are asked for here.")
    claim = _claim(asked.attempt)
    if claim.stream_id != asked.stream_id:
        raise _refused(asked.attempt, "another_stream")
    await _let_in(asked.attempt, claim)
    return Envelope[ReceivedOut](data=ReceivedOut())


def _check(token: str) -> None:
    """Raises NotFound unless it is the ingest server's."""
    ours = parts().broadcasting.hook_token
    if not ours or not hmac.compare_digest(token.encode(), ours.encode()):
        raise NotFound("There is nothing here.")


def _claim(attempt: Attempt) -> KeyClaim:
    """What the key claims. Raises Forbidden for one that we didn't make, TooMany for the next after too many."""
    claim = parts().broadcasting.keys.read(attempt.key)
    if claim is None:
        _check_patience(attempt.address)
        raise _refused(attempt, "no_key_of_ours")
    return claim


async def _let_in(attempt: Attempt, claim: KeyClaim) -> StreamSession:
    """Raises Forbidden, Conflict, Unavailable, and TooMany for a key that was refused too often."""
    _check_patience(claim)
    try:
        return await parts().refs.live.publish(claim, attempt.client_id)
    except Forbidden as refused:
        log.info("publish_refused", address=attempt.address, why=refused.code)
        _failures().note(claim, trio.current_time())
        raise


def _refused(attempt: Attempt, why: str) -> Forbidden:
    log.info("publish_refused", address=attempt.address, why=why)
    _failures().note(attempt.address, trio.current_time())
    return key_revoked()


def _check_patience(who: str | KeyClaim) -> None:
    wait = _failures().wait(who, trio.current_time())
    if wait:
        raise TooMany("Publishing failed too often; wait before the next attempt.", retry_after=wait)


def _failures() -> Failures:
    """One a bound app, kept beside its parts."""
    bound: Parts = parts()
    kept: tuple[Parts, Failures] | None = current_app.extensions.get("veza.publish_failures")
    if kept is None or kept[0] is not bound:
        kept = current_app.extensions["veza.publish_failures"] = (bound, Failures(FAILURES, FAILURE_SECONDS))
    return kept[1]
