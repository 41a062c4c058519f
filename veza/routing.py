"""Routes that lead from a path to a handler, and not back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from quart.routing import QuartRule


class Route(QuartRule):
    """A rule that no address is built from.

    Nothing asks for one: addresses are written out where they are sent. Werkzeug writes and compiles two functions for
    each rule to build them with, which takes four fifths of what making an app takes.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., NoReturn]:
        return _built


def _built(*_: object, **__: object) -> NoReturn:
    raise LookupError("no address is built from a route")
