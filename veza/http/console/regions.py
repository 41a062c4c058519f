"""What a page shows, as rows in regions: drawn whole at first, then where they changed, for as long as somebody looks.

A row is a value and how it is drawn is its region's macro. Values are compared, so that what stays as it is costs no
drawing and no sending; a page of a thousand idle actors costs their comparison.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final
from uuid import UUID

import structlog
import trio
from markupsafe import Markup
from pydantic_core import to_json
from quart.wrappers.response import ResponseBody

from veza.domain.errors import Refusal
from veza.http.drawing import templates
from veza.http.events import HEARTBEAT_SECONDS, RETRY_MS, event
from veza.store.errors import StoreError

LOOK_SECONDS: Final = 5.0  # that one look may take; the database is asked little, and by few

log = structlog.get_logger()


@dataclass(frozen=True)
class Row:
    """``key`` tells it from the others of its region; ``what`` is what it shows."""

    key: str
    what: Any


Content = Mapping[str, Sequence[Row]]
"""The rows of each region of a page, by the region's name, which is its macro's as well."""


@dataclass(frozen=True)
class Forms:
    """What a page's forms carry: their session's key and, in the one that was not heeded, what was written in it.

    ``who`` looks at them: there is no form for what they may not do.
    """

    key: str
    who: UUID
    refused: str = ""
    """Where that one was sent."""
    written: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with a field, by its name."""

    def kept(self, action: str, name: str) -> str:
        """What was written in a field of the form that is sent there."""
        return self.written.get(name, "") if action == self.refused else ""

    def fault(self, action: str, name: str) -> str:
        """What is wrong with a field of the form that is sent there."""
        return self.wrong.get(name, "") if action == self.refused else ""


class Drawing:
    """What one reader has before them."""

    def __init__(self, forms: Forms) -> None:
        self._macros = templates().get_template("console/rows.html").module
        self._forms = forms
        self._rows: dict[str, dict[str, Any]] = {}

    def whole(self, content: Content) -> dict[str, Markup]:
        """Each region's HTML."""
        self._rows = {name: {row.key: row.what for row in rows} for name, rows in content.items()}
        return {name: Markup("").join(self._draw(name, row) for row in rows) for name, rows in content.items()}

    def changes(self, content: Content) -> dict[str, dict[str, Any]]:
        """Of each region where something changed: the rows that did, and all keys in order where those did."""
        changed: dict[str, dict[str, Any]] = {}
        for name, rows in content.items():
            seen = name in self._rows  # else there may be anything before them, of what they saw earlier
            before = self._rows.get(name, {})
            after = {row.key: row.what for row in rows}
            fresh = {row.key: self._draw(name, row) for row in rows if before.get(row.key, _NOTHING) != row.what}
            stay = seen and list(before) == list(after)
            if fresh or not stay:
                changed[name] = {"rows": fresh} if stay else {"rows": fresh, "order": list(after)}
            self._rows[name] = after
        return changed

    def _draw(self, region: str, row: Row) -> Markup:
        macro: Callable[..., Markup] = getattr(self._macros, region)
        return macro(row.key, row.what, self._forms)


_NOTHING: Final = object()

Look = Callable[[], Awaitable[Content]]


class Watching(ResponseBody):
    """A page that goes on: server-sent events with what changed, looked at every so many seconds.

    It takes ``place`` while it goes on. It ends with ``ending``; and with a word when its reader is out, as ``still``
    says, or what it shows is gone. While the database is away they are told so, and that it is back.
    """

    def __init__(
        self,
        look: Look,
        drawing: Drawing,
        every: float,
        *,
        place: AbstractContextManager[None],
        ending: trio.Event,
        still: Callable[[], Awaitable[object]],
    ) -> None:
        self._look = look
        self._drawing = drawing
        self._every = every
        self._place = place
        self._ending = ending
        self._still = still
        self._away = False
        self._over = False
        self._first = f"retry: {RETRY_MS}\n\n".encode()

    async def __aenter__(self) -> Watching:
        """Raises what ``place`` does."""
        self._place.__enter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._place.__exit__(exc_type, exc, tb)

    def __aiter__(self) -> Watching:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        first, self._first = self._first, b""
        return first or await self._next()

    async def _next(self) -> bytes:
        """The next that there is to tell; a comment where there was nothing for as long as proxies bear."""
        silent_until = trio.current_time() + HEARTBEAT_SECONDS
        while trio.current_time() < silent_until:
            with trio.move_on_after(self._every):
                await self._ending.wait()
                raise StopAsyncIteration
            told = await self._told()
            if told:
                return told
        return b":\n\n"

    async def _told(self) -> bytes:
        try:
            with trio.fail_after(LOOK_SECONDS):
                await self._still()
            with trio.fail_after(LOOK_SECONDS):
                changes = self._drawing.changes(await self._look())
        except Refusal:
            self._over = True
            return event("{}", name="over")
        except (StoreError, trio.TooSlowError) as error:
            return self._is_away(error)
        back, self._away = self._away, False
        if back:
            return event("{}", name="back") + (event(_json(changes), name="changes") if changes else b"")
        return event(_json(changes), name="changes") if changes else b""

    def _is_away(self, error: Exception) -> bytes:
        if self._away:
            return b""
        self._away = True
        log.warning("console_looks_in_vain", error=type(error).__name__)
        return event("{}", name="away")


def _json(value: object) -> str:
    return to_json(value).decode()


async def settled(look: Look) -> Content | None:
    """One look for a page's first drawing; None while the database does not say."""
    with suppress(StoreError, trio.TooSlowError), trio.fail_after(LOOK_SECONDS):
        return await look()
    return None
