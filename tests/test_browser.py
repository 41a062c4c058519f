"""The browser of the tests: nothing goes wrong in a page unnoticed, and no process is left of it."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path
from struct import unpack

import psutil
import pytest
import trio
from playwright import async_api as playwright
from playwright.async_api import Page, expect
from quart import Response
from quart_trio import QuartTrio

from tests.browser import AXE, Browser, judged
from tests.house import free_port
from tests.processes import Program, program
from tests.sandbox.running import listen

pytestmark = pytest.mark.slow

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src *"
PAGE = """<!doctype html><html lang="en"><title>{title}</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css"><main><h1>Hello</h1>{html}</main><script type="module" src="/script.js">
</script></html>"""
DONE = ";document.title = 'done';"


@dataclass
class Site:
    """One page of our making, under a policy as strict as Veza's."""

    url: str = ""
    script: str = ""
    html: str = ""
    style: str = ""
    seen: bool = False  # by somebody who then looked away

    async def answer(self, path: str) -> Response:
        bodies = {
            "": (PAGE.format(title="not yet", html=self.html), "text/html; charset=utf-8"),
            "script.js": (self.script + DONE, "text/javascript"),
            "style.css": (self.style, "text/css"),
        }
        body, content_type = bodies.get(path, ("", "text/plain"))
        status = 200 if path in bodies else 404
        return Response(body, status, {"Content-Security-Policy": POLICY}, content_type=content_type)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made, stop, app = Site(), trio.Event(), QuartTrio("site")
    app.add_url_rule("/", view_func=made.answer, defaults={"path": ""})
    app.add_url_rule("/<path:path>", view_func=made.answer)
    async with trio.open_nursery() as nursery:
        made.url = await listen(nursery, app, stop)
        yield made
        stop.set()


async def visits(page: Page) -> None:
    await page.goto("/")
    await expect(page).to_have_title("done")


async def looks_at(site: Site, browser: Browser, *others: str, then: Exception | None = None) -> None:
    async with browser.open(site.url, *others) as tab:
        await tab.do(visits(tab.page))
        site.seen = True
        if then is not None:
            raise then


async def test_a_page_without_problems_has_none(browser: Browser, site: Site) -> None:
    site.script = "console.log('a remark'); await fetch('/style.css')"
    site.html = '<img alt="A dot" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">'
    with trio.fail_after(60):
        async with browser.open(site.url) as tab:
            await tab.do(visits(tab.page))
            await tab.axe()
            assert tab.problems == []


NOBODY = "http://nobody.example"
PROBLEMS = {
    "an error in the console": ("console.error('Oh no')", "", r"console error: Oh no"),
    "a warning in the console": ("console.warn('Hm')", "", r"console warning: Hm"),
    "an uncaught exception": ("setTimeout(() => { null.x })", "", r"uncaught: .*null"),
    "an unheard rejection": ("Promise.reject(new Error('unheard'))", "", r"uncaught: .*unheard"),
    "an answer that is an error": ("await fetch('/missing')", "", r"status of 404 .*/missing"),
    "a style of its own": ("", '<p style="color: red">Red</p>', r"console error: .*style-src 'self'"),
    "a script of its own": ("", "<script>alert(1)</script>", r"console error: .*script-src 'self'"),
    "a picture from elsewhere": ("", f'<img alt="" src="{NOBODY}/a.png">', rf"elsewhere: {NOBODY}/a\.png"),
    "a call to elsewhere": (f"await fetch('{NOBODY}/a').catch(() => 0)", "", rf"elsewhere: {NOBODY}/a"),
    "a socket to elsewhere": ("new WebSocket('ws://nobody.example/b')", "", r"elsewhere: ws://nobody\.example/b"),
    "another page's console": ("window.open('/').console.error('There too')", "", r"console error: There too"),
}


@pytest.mark.parametrize(("script", "html", "told"), PROBLEMS.values(), ids=PROBLEMS)
async def test_whatever_goes_wrong_in_a_page_fails_its_test_at_the_end(
    browser: Browser, site: Site, script: str, html: str, told: str
) -> None:
    site.script, site.html = script, html
    with trio.fail_after(60), pytest.raises(AssertionError, match=told):
        await looks_at(site, browser)
    assert site.seen


async def test_a_request_that_nobody_answers_fails_its_test_even_if_the_page_copes(
    browser: Browser, site: Site
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    site.script = f"await fetch('{away}/').catch(() => 0)"
    with trio.fail_after(60), pytest.raises(AssertionError, match=f"failed: GET {away}/: net::ERR_CONNECTION_REFUSED"):
        await looks_at(site, browser, away)
    assert site.seen


async def test_a_request_that_the_page_gives_up_itself_is_no_problem(browser: Browser, site: Site) -> None:
    site.script = """const enough = new AbortController();
        const asked = fetch('/style.css', {signal: enough.signal, cache: 'no-store'});
        enough.abort();
        await asked.catch(() => 0);"""
    with trio.fail_after(60):
        await looks_at(site, browser)


async def test_what_a_test_expects_is_no_complaint(browser: Browser, site: Site) -> None:
    site.script = "await fetch('/missing')"
    with trio.fail_after(60):
        async with browser.open(site.url, expected=("status of 404",)) as tab:
            await tab.do(visits(tab.page))


def test_only_what_is_expected_is_let_pass_and_it_has_to_come() -> None:
    heard = ["console error: 503 http://x/", "uncaught: null"]
    assert judged(heard, ("503", "null")) == []
    assert judged(heard, ("503",)) == ["uncaught: null"]
    assert judged([], ("503",)) == ["expected, but did not come: 503"]


async def test_who_fails_anyway_is_told_of_the_problems_beside_their_own(browser: Browser, site: Site) -> None:
    site.script = "console.error('the cause')"
    with trio.fail_after(60), pytest.raises(ZeroDivisionError) as failure:
        await looks_at(site, browser, then=ZeroDivisionError())
    [note] = failure.value.__notes__
    assert "console error: the cause" in note


async def test_a_page_that_crashes_is_told_of_as_such_and_the_next_is_fine(browser: Browser, site: Site) -> None:
    async def crash(page: Page) -> None:
        async with page.expect_event("crash"):
            with suppress(playwright.Error):
                await page.goto("chrome://crash")

    async def look() -> None:
        async with browser.open(site.url) as tab:
            await tab.do(crash(tab.page))

    with trio.fail_after(60):
        with pytest.raises(playwright.Error) as failure:
            await look()
        assert "crashed: " in str(failure.value.__notes__)
        await looks_at(site, browser)


async def test_a_wait_in_the_page_ends_when_the_test_waits_no_longer(browser: Browser, site: Site) -> None:
    with trio.fail_after(60):
        async with browser.open(site.url) as tab:
            await tab.do(visits(tab.page))
            began = trio.current_time()
            with trio.move_on_after(0.2) as waited:
                await tab.do(tab.page.wait_for_event("download"))
            assert waited.cancelled_caught
            assert trio.current_time() - began < 10  # Playwright itself would wait for 30
            assert await tab.do(tab.page.title()) == "done"  # and it goes on as if nothing had been


async def test_axe_says_what_is_wrong_where_and_in_which_light(browser: Browser, site: Site) -> None:
    site.html = '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="><p id="faint">Words</p>'
    site.style = """@media (prefers-color-scheme: dark) { #faint { color: #777; background: #888 } }
        p { transition: color 1s, background-color 1s }"""
    with trio.fail_after(60):
        async with browser.open(site.url) as tab:
            await tab.do(visits(tab.page))
            with pytest.raises(AssertionError) as told:
                await tab.axe()
            assert await tab.do(tab.page.evaluate("matchMedia('(prefers-color-scheme: light)').matches"))
    words = str(told.value)
    for lit in ("light", "dark"):
        assert f"- image-alt (critical, {lit}) at img: Images must have alternative text" in words
    assert "- color-contrast (serious, dark) at #faint: " in words
    assert "color-contrast (serious, light)" not in words
    assert "Expected contrast ratio of 4.5:1" in words


async def test_pictures_are_taken_at_a_desk_and_on_a_phone_by_day_and_by_night(
    browser: Browser, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEZA_ARTIFACTS", str(tmp_path / "seen"))
    with trio.fail_after(60):
        async with browser.open(site.url) as tab:
            await tab.do(visits(tab.page))
            await tab.screenshot("hello")
            assert tab.page.viewport_size == {"width": 1280, "height": 800}
    # A PNG's width and height, big-endian, are its bytes 16 to 24.
    sizes = {each.name: unpack(">II", each.read_bytes()[16:24]) for each in (tmp_path / "seen").iterdir()}
    assert sizes == {
        "hello-desk-light.png": (1280, 800),
        "hello-desk-dark.png": (1280, 800),
        "hello-phone-light.png": (390, 844),
        "hello-phone-dark.png": (390, 844),
    }


OPENED = """
import os, signal
from tests.browser import open_browser
os.setsid()  # as a terminal would have it: whoever is started from here is told of Ctrl-C too
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs the tests in the background has ignored
with open_browser():
    print("opened", flush=True)
    signal.pause()
"""


def kill(started: Program) -> None:
    started.process.kill()


def press_ctrl_c(started: Program) -> None:
    os.killpg(started.pid, signal.SIGINT)


@pytest.mark.parametrize("end", [kill, press_ctrl_c])
async def test_no_process_is_left_of_a_run_that_was_ended(end: Callable[[Program], None]) -> None:
    root = Path(__file__).parents[1]
    # Chromium has a socket there, for which the path of a test's own directory may be too long.
    with tempfile.TemporaryDirectory(prefix="veza-ended-") as directory, trio.fail_after(60):
        environment = os.environ | {"TMPDIR": directory}
        async with program(sys.executable, "-c", OPENED, environment=environment, cwd=root) as started:
            await started.line("opened")
            left = psutil.Process(started.pid).children(recursive=True)
            assert "chromium" in {each.name() for each in left}
            end(started)
            await started.process.wait()
            await trio.to_thread.run_sync(psutil.wait_procs, left, 30)
    assert [each for each in left if each.is_running()] == []


def test_the_vendored_axe_is_the_one_its_notice_tells_of() -> None:
    body, told = AXE.read_bytes(), (AXE.parent / "README.md").read_text()
    assert f"sha512-{b64encode(sha512(body).digest()).decode()}" in told
    [version] = re.findall(r"^# axe-core (\S+)$", told, re.MULTILINE)
    assert body.startswith(f"/*! axe v{version}\n".encode())
    assert f"AXE := axe-core-{version}\n" in (AXE.parents[3] / "Makefile").read_text()
    assert "Mozilla Public License, version 2.0" in (AXE.parent / "LICENSE").read_text()
