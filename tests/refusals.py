"""What routes are documented to say no by, held against what they say in any test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from veza.http.app import create_app
from veza.http.document import refusals


@cache
def documented() -> Mapping[tuple[str, str], frozenset[str]]:
    """The codes of each route, by its method and its rule: of those that are in the document."""
    app = create_app()
    provider = app.extensions["QUART_SCHEMA"].openapi_provider
    return {
        (method, rule.rule): frozenset(refusals(method, rule, app.view_functions[rule.endpoint]))
        for rule in provider.generate_rules()
        for method in provider.generate_methods(rule)
    }


def undocumented(method: str, route: str | None, code: str) -> bool:
    """Whether a route is in the document, and is not told there to say no by this code."""
    told = documented().get(("GET" if method == "HEAD" else method, route or ""))
    return told is not None and code not in told
