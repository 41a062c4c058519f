"""Maintenance, as requests meet it: everyone but an admin is turned away, in front of everything that could answer.

While it is off that costs a look at a snapshot. While it is on, a bearer token costs a look at whose it is. Who is in
already is not put out: requests under way finish, and a stream of events goes on until its client comes back.
"""

from __future__ import annotations

from typing import Final

import trio

from veza.domain.errors import Unauthenticated
from veza.domain.maintenance import under_maintenance
from veza.http import errors
from veza.http.assets import ROOT
from veza.http.auth import bearer_in, behind
from veza.http.doors import turn_away
from veza.http.edge import API, ASGIApp, Receive, Scope, Send
from veza.http.parts import Parts
from veza.store.errors import StoreError

OPEN: Final = ("/health", f"{API}/health", f"{API}/admin/", f"{API}/webhooks/", f"{API}/hooks/", "/console", f"{ROOT}/")
"""What begins so is always open: probes, whoever ends the maintenance, with what their pages load, and who would lose
money or a live stream."""

OPEN_TOO: Final = frozenset(prefix + path for prefix in ("", API) for path in ("/readyz", "/metrics"))

SIGNING_IN: Final = frozenset((f"{API}/auth/login", f"{API}/auth/refresh"))
"""An admin has to come in somehow. These routes look themselves who it is."""


class Gate:
    """Stands before the app, inside the edge."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        maintenance = self._parts.maintenance()
        if not maintenance.enabled or scope["type"] != "http" or await self._may_pass(scope):
            await self._app(scope, receive, send)
        else:
            told = errors.describe(under_maintenance(maintenance, self._parts.clock()))
            await turn_away(told, scope, receive, send)

    async def _may_pass(self, scope: Scope) -> bool:
        return is_open(scope["method"], scope["path"]) or await self._is_admins(scope)

    async def _is_admins(self, scope: Scope) -> bool:
        """Whether its bearer token is an admin's. One that can't be looked up now is nobody's."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        token = bearer_in(given.decode("latin-1"))
        if token is None:
            return False
        with trio.move_on_after(self._parts.settings.deadline_seconds):
            try:
                return (await behind(token, self._parts)).is_admin
            except (Unauthenticated, StoreError):
                return False
        return False


def is_open(method: str, path: str) -> bool:
    """Whether a request is let through whoever sends it."""
    if path.startswith(OPEN) or method == "OPTIONS":
        return True
    bare = path.rstrip("/")  # as the routes take it
    return bare in OPEN_TOO or (method == "POST" and bare in SIGNING_IN)
