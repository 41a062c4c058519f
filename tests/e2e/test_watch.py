"""Watching in a real browser what a real encoder sends: what `make run` offers, and all of a stream's life."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from uuid import uuid4

import pytest
import trio
from playwright.async_api import Page, expect

from tests.browser import Browser, Tab
from tests.conftest import Server, server_directory
from tests.e2e.live_station import open_station
from tests.house import House, free_port
from tests.processes import clean_environment, demo, program
from tests.shop import data

pytestmark = pytest.mark.slow

MOVING = "document.querySelector('.stage').hasAttribute('data-moving')"
TIME = "document.querySelector('video').currentTime"


async def shows(page: Page, state: str) -> None:
    await expect(page.get_by_role("status")).to_have_text(state)


async def plays(page: Page) -> None:
    """Returns once the picture has moved on by a second."""
    await page.wait_for_function(f"() => {MOVING} && {TIME} > 0")
    before = await page.evaluate(TIME)
    await page.wait_for_function(f"() => {TIME} > {before + 1}")
    assert await page.evaluate("document.querySelector('video').videoWidth") > 0


async def begins_to_play(page: Page, address: str) -> None:
    """Left alone until then: to the browser whatever a test does in a page is a person's doing, who may want sound."""
    async with page.expect_response(lambda answer: answer.url.endswith(".ts")):
        await page.goto(address)
    await plays(page)
    assert await page.evaluate("document.querySelector('video').muted")  # or it could not play by itself


async def turns_the_sound_on(page: Page) -> None:
    """By the keyboard alone."""
    button = page.get_by_role("button", name="Turn the sound on")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_be_hidden()
    assert not await page.evaluate("document.querySelector('video').muted")


async def test_what_the_demo_prints_goes_live_and_is_seen_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    rtmp, hls = free_port(), free_port()
    environment = clean_environment() | {"VEZA_DATA_DIR": str(tmp_path / "var"), "PORT": str(free_port())}
    with trio.fail_after(120):
        async with program(*demo(rtmp=rtmp, hls=hls), environment=environment, cwd=tmp_path) as started:
            try:
                await started.line("Ctrl-C ends it all")
                said = "\n".join(started.lines)
                [encoder] = re.findall(r"^  (ffmpeg .*?-f flv \S+)$", said, re.MULTILINE | re.DOTALL)
                [address] = re.findall(r"watch it: (\S+)$", said, re.MULTILINE)
                publish = program("bash", "-c", f"exec {encoder}", environment=environment, cwd=tmp_path)
                async with publish as publishing:
                    async with browser.open(address, f"http://127.0.0.1:{hls}") as tab:
                        await tab.do(tab.page.goto(address))
                        await tab.do(plays(tab.page))
                        await tab.do(shows(tab.page, "Live"))
                    started.terminate()
                    assert await publishing.ended() != 0  # nginx goes with the rest
                assert await started.ended() == 0
            finally:
                with trio.CancelScope(shield=True):  # killed, it would leave what it has started
                    started.terminate()
                    await started.process.wait()
    socket.create_server(("127.0.0.1", rtmp)).close()


async def test_a_page_follows_its_stream_through_a_lost_connection_to_its_end(
    browser: Browser, postgres: Server
) -> None:
    name = postgres.create()
    with server_directory() as directory, open_station(postgres.named(name), directory, LIVE_GRACE_SECONDS="30") as on:
        players = f"http://127.0.0.1:{on.rtmp.hls_port}"
        with trio.fail_after(120):
            async with on.creator() as creator, browser.open(on.url, players) as tab:
                page, address = tab.page, f"/watch/{creator.stream_id}"
                async with browser.open(on.url) as early:
                    await early.do(early.page.goto(address))
                    await early.do(shows(early.page, "Off air"))
                encoder = creator.publish()
                await creator.until("starting")
                await tab.do(begins_to_play(page, address))
                await tab.do(expect(page.locator("#health")).to_have_text("Good connection"))
                await tab.axe()
                await tab.do(turns_the_sound_on(page))
                await tab.axe()
                await tab.screenshot("watch-live")

                encoder.kill()
                await tab.do(shows(page, "Reconnecting"))
                creator.publish()
                await tab.do(shows(page, "Live"))
                await tab.do(plays(page))

                await creator.call("POST", f"/live/streams/{creator.stream_id}/end")
                await tab.do(shows(page, "Ended"))
                await tab.do(expect(page.locator(".stage[data-playing]")).to_have_count(0))
                await tab.do(expect(page.locator("#notice")).to_contain_text("It is over."))
                await tab.axe()
    postgres.drop(name)


async def test_a_stream_that_is_off_air_shuts_nobody_out(house: House, tab: Tab) -> None:
    with trio.fail_after(60):
        told = {"title": "Sunday", "description": "Beats.", "category": "House", "tags": ["deep"]}
        stream_id = data(await house.post("/live/streams", await house.sign_up("ann"), json=told))["id"]
        await tab.do(tab.page.goto(f"/watch/{stream_id}"))
        await tab.do(shows(tab.page, "Off air"))
        await tab.axe()
        await tab.screenshot("watch-off-air")


async def test_a_stream_that_is_not_there_shuts_nobody_out(browser: Browser, house: House) -> None:
    with trio.fail_after(60):
        async with browser.open(house.url, expected=("the server responded with a status of 404",)) as tab:
            await tab.do(tab.page.goto(f"/watch/{uuid4()}"))
            await tab.do(expect(tab.page.get_by_role("heading")).to_have_text("There is no such stream."))
            await tab.axe()
            await tab.screenshot("watch-not-found")


async def test_a_page_under_maintenance_shuts_nobody_out_but_for_now(browser: Browser, house: House) -> None:
    with trio.fail_after(60):
        on = await house.put(
            "/admin/maintenance", await house.admin(), json={"enabled": True, "message": "Back at one."}
        )
        assert on.status_code == 200, on.text
        async with browser.open(house.url, expected=("the server responded with a status of 503",)) as tab:
            await tab.do(tab.page.goto(f"/watch/{uuid4()}"))
            await tab.do(expect(tab.page.get_by_text("Back at one.")).to_be_visible())
            await tab.axe()
            await tab.screenshot("watch-maintenance")
