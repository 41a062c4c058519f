"""The page of the API's document: what it loads, what it lets a browser do, and what it is spared."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from hashlib import sha512

import httpx
import pytest
import trio

from tests.http.conftest import Serve, Serving
from veza.http.assets import FOLDER, assets

LINKED = re.compile(r'(?:src|href|data-document)="(/[^"]*)"')
VENDORED = FOLDER / "vendor" / "swagger-ui"


async def fetch(served: Serving, path: str) -> httpx.Response:
    with trio.fail_after(10):
        async with served.client() as client:
            return await client.get(f"{served.base_url}{path}")


async def fetch_raw(served: Serving, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """An answer, and its bytes as they were sent."""
    with trio.fail_after(10):
        async with served.client() as client, client.stream("GET", served.base_url + path, headers=headers) as answer:
            return answer, b"".join([chunk async for chunk in answer.aiter_raw()])


async def test_it_loads_the_viewer_and_the_document_from_here_alone(serve: Serve) -> None:
    served = await serve()
    page = await fetch(served, "/swagger")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    paths = LINKED.findall(page.text)
    assert "/openapi.json" in paths
    assert not re.search(r'(?:src|href)="(?!/)', page.text)
    for path in paths:
        assert (await fetch(served, path)).status_code == 200


async def test_nothing_is_run_or_styled_but_files_of_ours_and_nobody_else_is_asked(serve: Serve) -> None:
    page = await fetch(await serve(), "/swagger")
    allowed = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert (allowed["default-src"], allowed["script-src"], allowed["style-src"]) == ("'none'", "'self'", "'self'")
    assert (allowed["connect-src"], allowed["img-src"]) == ("'self'", "'self' data:")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", page.text)


@pytest.mark.parametrize("path", ["/openapi.json", "/static/vendor/swagger-ui/swagger-ui-bundle.js"])
async def test_what_is_long_is_compressed_for_whoever_takes_that(serve: Serve, path: str) -> None:
    served = await serve()
    whole, long = await fetch_raw(served, path, **{"Accept-Encoding": "identity"})
    packed, short = await fetch_raw(served, path, **{"Accept-Encoding": "br, gzip;q=0.5"})
    refused, unpacked = await fetch_raw(served, path, **{"Accept-Encoding": "gzip;q=0"})
    assert not {"content-encoding"} & {*whole.headers, *refused.headers}
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(short) == long == unpacked
    assert len(short) < len(long) / 3
    assert whole.headers["etag"] != packed.headers["etag"]
    for answer in (whole, packed):
        assert "Accept-Encoding" in answer.headers["vary"]


async def test_a_document_that_is_still_the_same_is_not_sent_again(serve: Serve) -> None:
    served, takes = await serve(), {"Accept-Encoding": "gzip"}
    first, _ = await fetch_raw(served, "/openapi.json", **takes)
    again, sent = await fetch_raw(served, "/openapi.json", **takes | {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, sent) == (304, b"")


async def test_what_is_short_is_sent_as_it_is(serve: Serve) -> None:
    answer, sent = await fetch_raw(await serve(), "/static/veza.svg", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert sent == assets()["veza.svg"].body


def test_the_vendored_viewer_is_the_one_its_notice_tells_of() -> None:
    told = (VENDORED / "README.md").read_text()
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        body = (VENDORED / name).read_bytes()
        assert f"| {len(body):,} |" in told
        assert f"sha512-{b64encode(sha512(body).digest()).decode()}" in told
    [version] = re.findall(r"^# Swagger UI (\S+)$", told, re.MULTILINE)
    assert f"SWAGGER := swagger-ui-dist-{version}\n" in (FOLDER.parents[2] / "Makefile").read_text()
    assert "Apache License" in (VENDORED / "LICENSE").read_text()
