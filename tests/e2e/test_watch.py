"""Watching in a real browser what a real encoder sends: what `make run` offers, and all of a stream's life."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import trio

from tests.conftest import Server, server_directory
from tests.e2e.browser import Page, open_browser
from tests.e2e.live_station import open_station
from tests.house import free_port
from tests.processes import clean_environment, demo, program

pytestmark = pytest.mark.slow

STATE = "document.getElementById('state').textContent"
TIME = "document.querySelector('video').currentTime"


async def plays(page: Page) -> None:
    """Returns once the picture has moved on by a second."""
    await page.until(f"document.querySelector('.stage').hasAttribute('data-moving') && {TIME} > 0")
    before = await page.value(TIME)
    await page.until(f"{TIME} > {before + 1}")
    assert await page.value("document.querySelector('video').videoWidth") > 0


async def test_what_the_demo_prints_goes_live_and_is_seen_in_a_browser(tmp_path: Path) -> None:
    rtmp = free_port()
    environment = clean_environment() | {"VEZA_DATA_DIR": str(tmp_path / "var"), "PORT": str(free_port())}
    with trio.fail_after(120):
        async with program(*demo(rtmp=rtmp), environment=environment, cwd=tmp_path) as started:
            try:
                await started.line("Ctrl-C ends it all")
                said = "\n".join(started.lines)
                [encoder] = re.findall(r"^  (ffmpeg .*?-f flv \S+)$", said, re.MULTILINE | re.DOTALL)
                [address] = re.findall(r"watch it: (\S+)$", said, re.MULTILINE)
                publish = program("bash", "-c", f"exec {encoder}", environment=environment, cwd=tmp_path)
                async with publish as publishing:
                    async with open_browser(tmp_path) as browser:
                        page = await browser.page()
                        await page.open(address)
                        await plays(page)
                        assert await page.value(STATE) == "Live"
                        assert page.problems == []
                    started.terminate()
                    assert await publishing.ended() != 0  # nginx goes with the rest
                assert await started.ended() == 0
            finally:
                with trio.CancelScope(shield=True):  # killed, it would leave what it has started
                    started.terminate()
                    await started.process.wait()
    socket.create_server(("127.0.0.1", rtmp)).close()


async def test_a_page_follows_its_stream_through_a_lost_connection_to_its_end(postgres: Server, tmp_path: Path) -> None:
    name = postgres.create()
    with server_directory() as directory, open_station(postgres.named(name), directory, LIVE_GRACE_SECONDS="30") as on:
        with trio.fail_after(120):
            async with on.creator() as creator, open_browser(tmp_path) as browser:
                page = await browser.page()
                address = f"{on.url}/watch/{creator.stream_id}"
                await page.open(address)
                await page.until(f"{STATE} == 'Off air'")
                encoder = creator.publish()
                await creator.until("starting")
                await page.open(address)  # a stream that is off air is looked at every 15 s only
                await plays(page)
                await page.until("document.getElementById('health').textContent == 'Good connection'")

                assert await page.value("document.querySelector('video').muted")  # or it could not play by itself
                await page.value("document.getElementById('sound').focus()")
                await page.press("Enter", 13, "\r")
                await page.until("!document.querySelector('video').muted && document.getElementById('sound').hidden")

                encoder.kill()
                await page.until(f"{STATE} == 'Reconnecting'")
                creator.publish()
                await page.until(f"{STATE} == 'Live'")
                await plays(page)

                await creator.call("POST", f"/live/streams/{creator.stream_id}/end")
                await page.until(f"{STATE} == 'Ended' && !document.querySelector('.stage[data-playing]')")
                assert "It is over." in await page.value("document.getElementById('notice').innerText")
                assert page.problems == []
    postgres.drop(name)
