"""Structured logs: one line an event, for a person or a machine, and never a secret.

Redaction is the last thing before a line is written, so that nothing gets past it: neither by a telling name (any key
that speaks of a token, password, secret or key) nor by its looks (what strays into a message or a traceback).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[redacted]"

SECRET_KEYS = re.compile(
    r"passw(or)?d|secret|token|authorization|cookie|credential|(api|stream|signing|private|idempotency|publishable)_?-?key",
    re.IGNORECASE,
)

SECRET_LOOKS = re.compile(
    r"""
      \beyJ[\w-]{5,}\.[\w-]+\.[\w-]*           # a JWT
    | \b(?:Bearer|Basic)\s+[\w.~+/=-]{6,}      # an Authorization header
    | \b(?:sk|rk|pk|snd|pro|dev)_[A-Za-z0-9_]{6,}  # a provider's API key, or a stream key
    | \bwhsec_[\w+/=-]{6,}                     # a webhook's signing secret
    | (?<=://)[^/\s:@]*:[^/\s@]+(?=@)          # the credentials in a URL
    """,
    re.VERBOSE | re.IGNORECASE,
)

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: takes secrets out of an event's values, however deep."""
    return {key: HIDDEN if _secret_key(key, value) else _clean(value) for key, value in event.items()}


def _secret_key(key: object, value: object) -> bool:
    # A boolean under a telling name (jwt_secret_set) tells that there is one, not what it is.
    return isinstance(key, str) and _telling(key) and not isinstance(value, bool | None)


@lru_cache(maxsize=1024)  # the names of fields are few and come with each line
def _telling(key: str) -> bool:
    return SECRET_KEYS.search(key) is not None


def _clean(value: object) -> object:
    match value:
        case str():
            return SECRET_LOOKS.sub(HIDDEN, value)
        case bytes():
            return SECRET_LOOKS.sub(HIDDEN, value.decode("utf-8", "replace"))
        case int() | float() | None:
            return value
        case Mapping():
            return {key: HIDDEN if _secret_key(key, item) else _clean(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
        case _:
            return SECRET_LOOKS.sub(HIDDEN, str(value))


def configure(*, level: Level = "info", log_format: Format = "json", out: TextIO | None = None) -> None:
    """Set up structlog and route the standard library's warnings and loggers (Hypercorn's, Stripe's) through it.

    Other people's loggers are heard from WARNING up: their lower levels describe requests, with what is in them.
    ``out`` is standard output unless given.
    """
    out = out or sys.stdout
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer = _renderer(log_format, out)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(shared, renderer, out)


def _renderer(log_format: Format, out: TextIO) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(sort_keys=False)
    return structlog.dev.ConsoleRenderer(colors=out.isatty())


def _route_standard_library(shared: list[Processor], renderer: Processor, out: TextIO) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what has its answer
    logging.captureWarnings(capture=True)
