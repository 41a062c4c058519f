"""The operator's view of the supervision tree. It reads published state only, so it works while an actor is stuck."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python
from quart import Blueprint
from quart_schema import validate_response

from veza.http.auth import admin_only
from veza.http.envelope import Envelope, Out
from veza.http.parts import parts

api = Blueprint("actors", __name__)


class TreeOut(Out):
    """A supervisor and, under ``children``, what it minds: path, kind, state, incarnation, restarts, last crash; for an
    actor its mailbox, message in hand, rates and latencies too. Message types are shown, never their contents."""

    tree: dict[str, Any]


@api.get("/admin/actors/tree")
@admin_only
@validate_response(Envelope[TreeOut])
async def tree() -> Envelope[TreeOut]:
    """The whole supervision tree, as it stands now."""
    return Envelope[TreeOut](data=TreeOut(tree=to_jsonable_python(parts().tree())))
