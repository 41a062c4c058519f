"""Routes that stood at the root before there was a prefix: they answer as their twins under ``/api/v1``, and say so."""

from __future__ import annotations

from typing import Final

from quart import Blueprint, Response, request
from quart_schema import deprecate_blueprint

from veza.http.document import API

DEPRECATED_SINCE: Final = "@1771804800"  # 2026-02-23, as a structured date (RFC 9745)


def legacy(name: str) -> Blueprint:
    """A blueprint to be served at the root, each of whose answers leads to its successor (RFC 8288)."""
    blueprint = Blueprint(name, __name__)
    deprecate_blueprint(blueprint)
    blueprint.after_request(_point_to_successor)
    return blueprint


async def _point_to_successor(response: Response) -> Response:
    response.headers["Deprecation"] = DEPRECATED_SINCE
    response.headers["Link"] = f'<{API}{request.path}>; rel="successor-version"'
    return response
