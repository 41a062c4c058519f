"""What the watch of the event loop says, heard by a test that keeps the loop meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from veza import loop_watch

SECONDS = 20.0  # for the watch to say something, on a machine that does much else


@dataclass
class Log:
    """What the watch said, and a way to wait for it without the loop."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    _told: threading.Condition = field(default_factory=threading.Condition)

    def warning(self, event: str, **fields: object) -> None:
        with self._told:
            self.lines.append({"event": event, **fields})
            self._told.notify_all()

    error = warning

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def block_until_told(self) -> None:
        """Keep the thread, the loop's say, until a stall is told of."""
        with self._told:
            assert self._told.wait_for(lambda: self.of("event_loop_stuck"), SECONDS)

    async def until(self, event: str) -> dict[str, Any]:
        with trio.fail_after(SECONDS):
            while not self.of(event):  # noqa: ASYNC110 - the watch is no task, and can't wake one
                await trio.sleep(0.005)
        return self.of(event)[0]


def heard(monkeypatch: pytest.MonkeyPatch) -> Log:
    """What it says from now on."""
    log = Log()
    monkeypatch.setattr(loop_watch, "log", log)
    return log
