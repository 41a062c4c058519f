"""The page to watch a stream on: what it shows, to whom, and what it lets a browser do."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha512
from types import SimpleNamespace
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import open_desk
from tests.sandbox.running import NO_CERTIFICATES
from tests.shop import data
from veza.domain.errors import Unavailable
from veza.http.app import PAGES, create_app
from veza.http.assets import FOLDER
from veza.http.routes.watch import policy
from veza.store.bridge import Database

LOADED = ("house.css", "watch.css", "watch.js", "veza.svg", "vendor/hls.js/hls.light.min.js")
LINKED = re.compile(r'(?:src|href|data-hls)="(/[^"]*)"')


async def fetch(house: House, path: str, **headers: str) -> httpx.Response:
    """A page, at the root and without a token."""
    async with httpx.AsyncClient(verify=NO_CERTIFICATES) as browser:
        return await browser.get(house.url + path, headers=headers)


async def made(house: House, by: Account, **fields: object) -> str:
    answer = await house.post("/live/streams", by, json={"title": "Sunday"} | fields)
    stream_id: str = data(answer)["id"]
    return stream_id


@pytest.fixture
async def sunday(house: House) -> str:
    with trio.fail_after(20):
        return await made(house, await house.sign_up("ann"), description="Beats.", category="House", tags=["deep"])


async def test_the_page_says_whose_stream_it_is_and_how_it_is(house: House, sunday: str) -> None:
    with trio.fail_after(20):
        page = await fetch(house, f"/watch/{sunday}")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for words in ("<h1>Sunday</h1>", "<strong>ann</strong> in house", "Beats.", "<li>deep</li>", ">Off air</p>"):
        assert words in page.text
    assert f'data-api="/api/v1/live/streams/{sunday}"' in page.text
    assert page.headers["Cache-Control"] == "no-cache"


async def test_what_a_page_loads_is_there_and_may_be_kept_for_good(house: House, sunday: str) -> None:
    with trio.fail_after(20):
        paths = set(LINKED.findall((await fetch(house, f"/watch/{sunday}")).text))
        assert {path.partition("?")[0] for path in paths} == {f"/static/{name}" for name in LOADED}
        for path in paths:
            loaded = (await fetch(house, path)).raise_for_status()
            assert loaded.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            again = await fetch(house, path, **{"If-None-Match": loaded.headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
            odd = await fetch(house, path, **{"If-Modified-Since": "Sun, 06 Nov 999999999999999999 08:49:37 GMT"})
            assert (odd.status_code, odd.content) == (200, loaded.content)
            other = await fetch(house, path.partition("?")[0] + "?v=another")
            assert (other.content, other.headers["Cache-Control"]) == (loaded.content, "no-cache")


async def test_nothing_is_run_or_styled_but_files_of_ours(house: House, sunday: str) -> None:
    with trio.fail_after(20):
        page = await fetch(house, f"/watch/{sunday}")
    allowed = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert (allowed["default-src"], allowed["script-src"], allowed["style-src"]) == ("'none'", "'self'", "'self'")
    assert allowed["connect-src"] == "'self' http://127.0.0.1:8088"
    assert allowed["media-src"] == "'self' blob: http://127.0.0.1:8088"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", page.text)


@pytest.mark.parametrize(
    ("players", "origin"),
    [("", ""), ("/x/index.m3u8", ""), ("https://hls.veza.example/a/index.m3u8", " https://hls.veza.example")],
)
def test_the_policy_lets_in_where_players_go_and_nobody_else(players: str, origin: str) -> None:
    assert f"connect-src 'self'{origin};" in policy(players)


async def test_what_a_creator_writes_is_text_wherever_it_stands(house: House) -> None:
    evil = '"><script>alert(1)</script>'
    with trio.fail_after(20):
        stream_id = await made(house, await house.sign_up("eve"), title=evil, description=evil, category=evil[:40])
        page = await fetch(house, f"/watch/{stream_id}")
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


async def test_a_draft_and_what_is_no_stream_have_a_page_that_says_so(house: House) -> None:
    with trio.fail_after(20):
        ann = await house.sign_up("ann")
        draft = data(await house.get("/live/streams/me/key", ann))["stream_id"]
        for missing in (draft, str(uuid4()), "nonsense", "%3Cscript%3E"):
            page = await fetch(house, f"/watch/{missing}")
            assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
            assert "<h1>There is no such stream.</h1>" in page.text
            assert "<script" not in page.text


NO_FILES: Sequence[str] = ["nothing.js", "vendor/hls.js/LICENSE", "..%2fapp.py", "../app.py", "vendor/hls.js"]


async def test_no_other_file_is_served(house: House, subtests: pytest.Subtests) -> None:
    with trio.fail_after(20):
        for name in NO_FILES:
            with subtests.test(repr(name)):
                assert (await fetch(house, f"/static/{name}")).status_code == 404


async def test_an_error_is_a_page_with_the_status_and_headers_of_any_other(db: Database) -> None:
    async def get(_stream_id: UUID) -> None:
        raise Unavailable("The database is away.")

    with trio.fail_after(20):
        async with open_desk(db, more={"streams": SimpleNamespace(get=get)}) as desk:
            page = await desk.http.get(f"{desk.url}/watch/{uuid4()}")
    assert (page.status_code, page.headers["Retry-After"]) == (503, "1")
    assert "<h1>The database is away.</h1>" in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_pages_are_no_part_of_the_api() -> None:
    names = {pages.name for pages in PAGES}
    paths = [rule.rule for rule in create_app().url_map.iter_rules() if rule.endpoint.partition(".")[0] in names]
    assert paths
    assert not [path for path in paths if path.startswith("/api/")]


def test_the_vendored_player_is_the_one_its_notice_tells_of() -> None:
    folder = FOLDER / "vendor" / "hls.js"
    body, told = (folder / "hls.light.min.js").read_bytes(), (folder / "README.md").read_text()
    assert f"sha512-{b64encode(sha512(body).digest()).decode()}" in told
    [version] = re.findall(r"^# hls\.js (\S+)$", told, re.MULTILINE)
    assert f'"{version}"'.encode() in body
    assert f"HLS := hls.js-{version}\n" in (FOLDER.parents[2] / "Makefile").read_text()
    assert "Apache License, Version 2.0" in (folder / "LICENSE").read_text()
