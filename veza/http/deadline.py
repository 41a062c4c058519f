"""Each request has one deadline, set once, and everything asked or read for it lives under it.

The deadline covers the handler, not the sending of its answer: a long download is not cut. A handler that has an effect
runs it in an actor or under a shield, so the deadline may stop it from starting and never cuts it midway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from veza.http.edge import trace

DEFAULT_SECONDS = 10.0  # longer than any statement's own timeout, shorter than a person's patience

_ATTRIBUTE = "__veza_seconds__"

View = TypeVar("View", bound=Callable[..., object])


def within(seconds: float) -> Callable[[View], View]:
    """Give a route a deadline of its own, in seconds (uploads take as long as their size needs)."""

    def mark(view: View) -> View:
        setattr(view, _ATTRIBUTE, seconds)
        return view

    return mark


def seconds_for(view: object, default: float) -> float:
    """The deadline of a view, in seconds."""
    seconds: float = getattr(view, _ATTRIBUTE, default)
    return seconds


def renew(seconds: float) -> None:
    """Begin the request's deadline anew: an upload's bytes are in, and what is left must be as quick as any handler."""
    scope = trace().deadline
    if scope is None:
        raise RuntimeError("renew() outside a handler")
    scope.deadline = trio.current_time() + seconds
