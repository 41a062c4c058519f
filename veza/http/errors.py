"""Every error's status, code and sentence: the one place that knows statuses.

An expected refusal says its own sentence. A surprise says nothing of itself to the client and everything to the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from quart import Response
from quart_schema.validation import RequestSchemaValidationError
from werkzeug.exceptions import HTTPException, InternalServerError

from veza.actors.core import errors as runtime
from veza.domain import errors as domain
from veza.domain.bans import Banned, zulu
from veza.domain.maintenance import UnderMaintenance
from veza.http.edge import trace
from veza.http.envelope import Problem, error_json
from veza.store import errors as store

log = structlog.get_logger()

STATUS: Mapping[type[domain.Refusal], int] = {
    domain.Invalid: 400,
    domain.Unauthenticated: 401,
    domain.Forbidden: 403,
    domain.NotFound: 404,
    domain.Conflict: 409,
    domain.PreconditionFailed: 412,
    domain.TooLarge: 413,
    domain.TooMany: 429,
    domain.Unavailable: 503,
}

RETRY_AFTER_SECONDS = "1"  # a mailbox, a pool or a restart has room again within about a second

SENTENCES = {
    400: "The request makes no sense.",
    404: "There is nothing here.",
    405: "This resource does not take that method.",
    416: "The range lies outside the file.",
}
KEPT_HEADERS = frozenset({"allow", "content-range", "retry-after", "www-authenticate"})


@dataclass(frozen=True)
class Answer:
    """An error as the client will see it."""

    status: int
    code: str
    sentence: str
    details: Sequence[Problem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


INTERNAL = Answer(500, "internal", "Something went wrong on our side.")


def _unavailable(code: str, sentence: str) -> Answer:
    """A 503, which always says when to try again."""
    return Answer(503, code, sentence, headers={"Retry-After": RETRY_AFTER_SECONDS})


DEADLINE = _unavailable("deadline_exceeded", "This took too long; it may or may not have been done.")

FAILURES: Mapping[type[Exception], Answer] = {
    runtime.Overloaded: _unavailable("overloaded", "Too much is waiting to be done; try again."),
    runtime.DeadlineExceeded: DEADLINE,
    runtime.ActorCrashed: INTERNAL,  # its supervisor has logged the crash
    runtime.Stopped: _unavailable("stopped", "This part of the service is stopping; try again."),
    store.DatabaseUnavailable: _unavailable("database_unavailable", "The database cannot be reached now."),
    store.TryAgain: _unavailable("try_again", "Someone changed the same thing at the same time; try again."),
    store.OutcomeUnknown: _unavailable("outcome_unknown", "It may or may not have been done; ask again."),
}
"""What is nobody's mistake and passes by itself."""


def describe(error: Exception) -> Answer:
    """What a client is told of an error."""
    match error:
        case domain.Refusal():
            return _refusal(error)
        case RequestSchemaValidationError():
            return _invalid(error.validation_error)
        case InternalServerError():
            return INTERNAL
        case HTTPException():
            return _framework(error)
        case _:
            return next((FAILURES[kind] for kind in type(error).__mro__ if kind in FAILURES), INTERNAL)


async def answer(error: Exception) -> Response:
    """The app's one error handler."""
    told = describe(error)
    if told is INTERNAL and not isinstance(error, InternalServerError | runtime.ActorCrashed):
        log_failure(error)
    elif isinstance(error, store.StoreError | runtime.AskFailed):
        log.warning("request_unserved", route=trace().route, error=type(error).__name__)
    return respond(told)


def log_failure(error: BaseException) -> None:
    """A surprise, with its traceback. The log's redaction takes secrets out of the message."""
    log.error("request_failed", route=trace().route, exc_info=error)


def respond(told: Answer) -> Response:
    """The answer in its envelope."""
    body = error_json(error=told.sentence, code=told.code, request_id=trace().request_id, details=told.details)
    return Response(body, status=told.status, headers=dict(told.headers), content_type="application/json")


def _refusal(refusal: domain.Refusal) -> Answer:
    status = next(STATUS[kind] for kind in type(refusal).__mro__ if kind in STATUS)
    sentence = str(refusal)
    details = [Problem(field=refusal.field, message=sentence)] if refusal.field else []
    if isinstance(refusal, Banned):
        told = {"until": refusal.ban.until and zulu(refusal.ban.until), "reason": refusal.ban.reason}
        details = [Problem(field=name, message=message) for name, message in told.items() if message]
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(refusal, domain.TooMany | UnderMaintenance):
        headers["Retry-After"] = str(refusal.retry_after)
    return Answer(status, refusal.code, sentence, details, headers)


def _invalid(error: Exception) -> Answer:
    details = []
    if isinstance(error, ValidationError):
        details = [_problem(e) for e in error.errors(include_url=False, include_context=False, include_input=False)]
    return Answer(400, "invalid", "The request has fields that are missing or not valid.", details)


def _problem(error: ErrorDetails) -> Problem:
    where = ".".join(map(str, error["loc"])) or "body"
    return Problem(field=where, message=error["msg"].removeprefix("Value error, "))


def _framework(error: HTTPException) -> Answer:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    own_words = type(error).description != error.description and error.description
    sentence = own_words or SENTENCES.get(status) or f"{error.name}."
    headers = {name: value for name, value in error.get_headers() if name.lower() in KEPT_HEADERS}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", RETRY_AFTER_SECONDS)
    return Answer(status, CODES.get(status) or error.name.lower().replace(" ", "_"), sentence, (), headers)


CODES = {408: "request_timeout", 413: "too_large", 416: "range_not_satisfiable"}
