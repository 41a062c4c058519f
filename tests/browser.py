"""A real browser without a window: Debian's Chromium, driven by Playwright, and strict about what its pages do.

Playwright speaks asyncio and the tests speak trio, so it lives on a loop in a thread of its own. A test makes a step as
Playwright's documentation writes it, and has it done there:

    async with browser.open(house.url) as tab:
        await tab.do(tab.page.goto("/watch/..."))
        await tab.do(expect(tab.page.get_by_role("status")).to_have_text("Live"))

Several steps are one `async def` of Playwright's calls alone, done in the same way.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright import async_api as playwright
from playwright.async_api import expect

PROGRAM = "/usr/bin/chromium"
OPTIONS = (
    "--disable-gpu",
    # Whatever a page or the browser itself is after, nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE_MS = 30_000  # for any one step: a page looks again every 15 s at most, and the machine may be busy
CLOSING_SECONDS = 10.0

DESK: Final[playwright.ViewportSize] = {"width": 1280, "height": 800}
PHONE: Final[playwright.ViewportSize] = {"width": 390, "height": 844}
SCHEMES: Final[Sequence[Literal["light", "dark"]]] = ("light", "dark")

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")  # https://github.com/dequelabs/axe-core/blob/develop/doc/issue_impact.md
RUN_AXE = "async () => (await axe.run({resultTypes: ['violations']})).violations"
# Half-way from one colour to another there is little contrast; what moves for ever is not waited for.
SETTLED = """() => Promise.allSettled(document.getAnimations()
    .filter((each) => each.effect.getComputedTiming().endTime < Infinity).map((each) => each.finished))"""

T = TypeVar("T")


def artifacts() -> Path:
    """Where a run leaves what it made for people to look at: a folder of its own, unless it was told of one."""
    usual = Path(tempfile.gettempdir()) / f"veza-artifacts-{os.getpid()}"
    return Path(os.environ.setdefault("VEZA_ARTIFACTS", str(usual)))  # processes that help with the run take it over


@dataclass
class Tab:
    """A fresh page with cookies of its own, whose every problem is heard: see `Browser.open`."""

    page: playwright.Page
    origins: Collection[str]
    _portal: BlockingPortal
    problems: list[str] = field(default_factory=list)

    async def do(self, step: Coroutine[Any, Any, T]) -> T:
        """What a step of Playwright's answers or raises; who is cancelled meanwhile cancels the step."""
        return await _do(self._portal, step)

    async def axe(self, *, but: Collection[str] = ()) -> None:
        """Fail if axe-core finds something serious or critical on the page as it is, by day or by night.

        ``but`` are rules that what comes from elsewhere breaks, and we can't mend.
        """
        found = await self.do(self._axe(but))
        assert not found, "axe-core found:\n" + "\n".join(found)

    async def screenshot(self, name: str) -> None:
        """Four pictures of the whole page in `artifacts()`: at a desk and on a phone, by day and by night."""
        await self.do(self._screenshot(name))

    async def _axe(self, but: Collection[str]) -> list[str]:
        await self.page.evaluate(AXE.read_text())  # by the DevTools, which the page's policy, in force, does not bind
        found: list[str] = []
        for scheme in SCHEMES:
            await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            await self.page.evaluate(SETTLED)
            violations = [each for each in await self.page.evaluate(RUN_AXE) if each["id"] not in but]
            found += [told for each in violations for told in _told(each, scheme)]
        await self.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
        return found

    async def _screenshot(self, name: str) -> None:
        usual = self.page.viewport_size or DESK
        for where, size in (("desk", DESK), ("phone", PHONE)):
            await self.page.set_viewport_size(size)
            for scheme in SCHEMES:
                await self.page.emulate_media(color_scheme=scheme)
                await self.page.evaluate(SETTLED)
                await self.page.screenshot(path=artifacts() / f"{name}-{where}-{scheme}.png", full_page=True)
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size(usual)

    def listen(self) -> None:
        """Hear all problems of the page, and of those that it opens."""
        self.page.context.on("console", self._hear_console)
        self.page.context.on("weberror", lambda error: self.problems.append(f"uncaught: {error.error}"))
        self.page.context.on("request", lambda request: self._hear_address(request.url))
        self.page.context.on("requestfailed", self._hear_failure)
        self.page.context.on("page", self._mind)
        self._mind(self.page)

    def _mind(self, page: playwright.Page) -> None:
        page.on("websocket", lambda socket: self._hear_address(socket.url))
        page.on("crash", lambda crashed: self.problems.append(f"crashed: {crashed.url}"))

    def _hear_console(self, message: playwright.ConsoleMessage) -> None:
        # Breaches of the page's policy and answers that are errors are told of here too, by the browser.
        if message.type in ("warning", "error", "assert"):
            self.problems.append(f"console {message.type}: {message.text} {message.location['url']}".rstrip())

    def _hear_failure(self, request: playwright.Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # which is a page that no longer wants it
            self.problems.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _hear_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and _origin(url) not in self.origins:
            self.problems.append(f"elsewhere: {url}")


@dataclass
class Browser:
    _chromium: playwright.Browser
    _portal: BlockingPortal

    @property
    def version(self) -> str:
        return self._chromium.version

    @asynccontextmanager
    async def open(self, url: str, *others: str, expected: tuple[str, ...] = ()) -> AsyncIterator[Tab]:
        """A page to look at the site at an address with, whose paths are below that.

        At the end of the block the test fails for everything that went wrong in the page: a warning or an error in its
        console, an exception that nobody caught, a request that failed, a breach of its Content-Security-Policy, and a
        request to anyone but that site and the ``others``. Of what is ``expected`` each is a part of what the problem
        is told as, and has to come.

        Close it before what it looks at: a page whose server is gone has problems.
        """
        tab = await _do(self._portal, self._open(url, others))
        try:
            yield tab
            await tab.do(tab.page.evaluate("0"))  # answered after all that happened before it was told
        except Exception as failure:
            failure.add_note("Problems of the page: " + ("\n".join(tab.problems) or "none"))
            raise
        finally:
            heard = list(tab.problems)
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await tab.do(tab.page.context.close())
        complaints = judged(heard, expected)
        assert not complaints, "\n".join(complaints)

    async def _open(self, url: str, others: Sequence[str]) -> Tab:
        context = await self._chromium.new_context(base_url=url, viewport=DESK)
        context.set_default_timeout(PATIENCE_MS)
        tab = Tab(await context.new_page(), {_origin(each) for each in (url, *others)}, self._portal)
        tab.listen()
        return tab


def judged(problems: Sequence[str], expected: tuple[str, ...]) -> list[str]:
    """What is wrong with what was heard: each problem that nobody expected, and what was expected and did not come."""
    surprises = [problem for problem in problems if not any(words in problem for words in expected)]
    missing = [words for words in expected if not any(words in problem for problem in problems)]
    return surprises + [f"expected, but did not come: {words}" for words in missing]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A fresh browser, gone with all its processes at the end of the block, or when this process is."""
    expect.set_options(timeout=PATIENCE_MS)
    with (
        tempfile.TemporaryDirectory(prefix="veza-browser-") as home,
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(_chromium(home)) as chromium,
    ):
        yield Browser(chromium, portal)


@asynccontextmanager
async def _chromium(home: str) -> AsyncIterator[playwright.Browser]:
    """It talks to us by a pipe, and ends when that does. Ctrl-C is ours to hear: then we close it."""
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=PROGRAM,
            args=OPTIONS,
            chromium_sandbox=os.geteuid() != 0,  # root can't have one; it only opens pages of ours
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
        )
        try:
            yield browser
        finally:
            await browser.close()


async def _do(portal: BlockingPortal, step: Coroutine[Any, Any, T]) -> T:
    async def run() -> T:
        return await step

    over = trio.Event()
    token = trio.lowlevel.current_trio_token()
    future = portal.start_task_soon(run)
    future.add_done_callback(lambda _: token.run_sync_soon(over.set))
    try:
        await over.wait()
    finally:
        future.cancel()  # which a step that is over does not notice
    return future.result()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}"


def _told(violation: dict[str, Any], scheme: str) -> Iterator[str]:
    """The places where a rule of axe-core's is broken, each as a person wants to read it."""
    for node in violation["nodes"]:
        if node["impact"] in GRAVE:
            target = " ".join(map(str, node["target"]))
            yield f"- {violation['id']} ({node['impact']}, {scheme}) at {target}: {violation['help']}"
            yield "  " + node["failureSummary"].replace("\n", "\n  ")
