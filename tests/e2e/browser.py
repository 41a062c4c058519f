"""A real browser without a window, spoken to over its DevTools protocol by a pipe: no driver, no port.

https://chromedevtools.github.io/devtools-protocol/: each message is JSON and ends with a zero byte.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import trio

PROGRAM = "/usr/bin/chromium"
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",  # it would look for updates of itself
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--mute-audio",
    "--window-size=1100,900",
)
AS_ROOT = ("--no-sandbox",)  # which root can't have; it only opens pages of ours

PROBLEMS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")

Json = dict[str, Any]


@dataclass
class Page:
    """One tab. ``problems`` is what its console was told that is no mere remark, exceptions included."""

    _send: Callable[[str, Json, str | None], Any]
    _session: str
    problems: list[str] = field(default_factory=list)

    async def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        await self.call("Page.navigate", url=url)  # answered when the new page is the one we talk to
        await self.until("document.readyState == 'complete'")

    async def call(self, method: str, **parameters: Any) -> Json:
        answer: Json = await self._send(method, parameters, self._session)
        return answer

    async def value(self, expression: str) -> Any:
        """What an expression is in the page; a promise is awaited. Raises AssertionError if it throws."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds; the caller bounds the wait."""
        while not await self.value(expression):  # noqa: ASYNC110 - looked at, as a person would
            await trio.sleep(0.1)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """A key, as from a keyboard."""
        typed = {"text": text} if text else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **typed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def hear(self, event: str, told: Json) -> None:
        if event == "Log.entryAdded" and told["entry"]["level"] in ("warning", "error"):
            self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif event == "Runtime.exceptionThrown" or (
            event == "Runtime.consoleAPICalled" and told["type"] in ("warning", "error", "assert")
        ):
            self.problems.append(json.dumps(told))


class Browser:
    def __init__(self, reads: trio.lowlevel.FdStream, writes: trio.lowlevel.FdStream) -> None:
        self._reads, self._writes = reads, writes
        self._numbers = count(1)
        self._answers: dict[int, Json] = {}
        self._waiting: dict[int, trio.Event] = {}
        self._pages: dict[str, Page] = {}

    async def page(self) -> Page:
        target = (await self.send("Target.createTarget", {"url": "about:blank"}))["targetId"]
        attached = await self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = self._pages[attached["sessionId"]] = Page(self.send, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        return page

    async def send(self, method: str, parameters: Json, session: str | None = None) -> Json:
        """Raises AssertionError for what the browser refuses."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        answered = self._waiting[number] = trio.Event()
        await self._writes.send_all(json.dumps(message).encode() + b"\0")
        await answered.wait()
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        result: Json = answer["result"]
        return result

    async def listen(self) -> None:
        rest = b""
        async for chunk in self._reads:
            *whole, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, whole):
                self._take(message)

    def _take(self, message: Json) -> None:
        if (number := message.get("id")) is not None:
            self._answers[number] = message
            self._waiting.pop(number).set()
        elif message["method"] in PROBLEMS and message.get("sessionId") in self._pages:
            self._pages[message["sessionId"]].hear(message["method"], message["params"])


@asynccontextmanager
async def open_browser(directory: Path, *options: str) -> AsyncIterator[Browser]:
    """A fresh browser, its profile in the directory; gone with all its processes at the end of the block."""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    chosen = [*OPTIONS, *(AS_ROOT if os.geteuid() == 0 else ()), *options, f"--user-data-dir={directory / 'profile'}"]
    # The browser reads from 3 and writes to 4; the shell puts our pipes there.
    command = ["bash", "-c", f'exec "$@" 3<&{their_in} 4>&{their_out}', "browser", PROGRAM, *chosen]
    process = await trio.lowlevel.open_process(
        command,
        pass_fds=(their_in, their_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory)},
        start_new_session=True,
    )
    os.close(their_in)
    os.close(their_out)
    async with trio.lowlevel.FdStream(our_in) as reads, trio.lowlevel.FdStream(our_out) as writes:
        browser = Browser(reads, writes)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(browser.listen)
                yield browser
                nursery.cancel_scope.cancel()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
