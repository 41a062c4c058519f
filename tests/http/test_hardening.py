"""What every answer tells browsers, whoever makes it, and which other sites' pages may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from uuid import uuid4

import httpx
import pytest
import trio

from tests.http.conftest import Serve, Serving
from tests.http.desk import Desk, open_desk, refusal
from veza.domain.maintenance import Maintenance
from veza.gateways.objects import Objects
from veza.http.hardening import EVERYWHERE
from veza.store.bridge import Database

USUAL = {name.decode(): value.decode() for name, value in EVERYWHERE}
HERE, ELSEWHERE = "https://app.veza.example", "https://evil.example"
ASKING = {"Origin": HERE, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


async def riff() -> AsyncIterator[bytes]:
    yield b"RIFF"


def said(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in USUAL if name in headers}


# -- security headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/api/v1/health", "/api/v1/stage/raise/surprise", "/nothing", "/openapi.json", "/api/v1/stage/pages"]
)
async def test_every_answer_has_them(serve: Serve, path: str) -> None:
    served: Serving = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(served.base_url + path)
    assert said(answer.headers) == USUAL
    assert len(answer.headers.get_list("content-security-policy")) == 1


async def test_what_never_became_a_request_has_them_too(serve: Serve) -> None:
    served: Serving = await serve()
    with trio.fail_after(10):
        answer = await served.exchange(b"NONSENSE\r\n\r\n")
    for name, value in USUAL.items():
        assert f"{name}: {value}\r\n".encode() in answer


async def test_what_is_turned_away_in_front_of_the_app_has_them(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db) as desk:
            desk.board.maintenance = Maintenance(True, "Back at one.")
            answer = await desk.http.get("/marketplace/products")
            page = await desk.http.get(f"{desk.url}/watch/{uuid4()}")
    assert said(answer.headers) == USUAL
    own = said(page.headers)
    assert "style-src data:" in own.pop("content-security-policy")
    assert own.items() < USUAL.items()


async def test_an_upload_may_be_shown_by_other_sites_and_runs_nothing(serve: Serve, objects: Objects) -> None:
    with trio.fail_after(10):
        stored = await objects.put(riff())
        served: Serving = await serve(objects=objects)
        served.stage.key = stored.key
        async with served.client() as client:
            answer = await client.get("/file")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    ("base_url", "production", "sent"),
    [
        ("https://veza.example", True, True),
        ("http://veza.example", True, False),
        ("https://veza.example", False, False),
    ],
)
async def test_tls_alone_is_asked_for_in_production_where_there_is_tls(
    serve: Serve, base_url: str, production: bool, sent: bool
) -> None:
    served: Serving = await serve(base_url=base_url, secure_cookies=production)
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/pages")
    assert answer.headers.get("strict-transport-security") == ("max-age=31536000" if sent else None)


# -- other sites' pages -----------------------------------------------------------------------------------------------


async def ask(desk: Desk, method: str = "GET", path: str = "/nothing-here", **headers: str) -> httpx.Response:
    return await desk.http.request(method, path, headers=headers)


async def test_a_page_that_was_named_may_ask_and_read_the_answer_an_error_too(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db, cors_origins=(HERE,)) as desk:
            answer = await ask(desk, Origin=HERE)
    assert refusal(answer) == (404, "not_found")
    assert answer.headers["access-control-allow-origin"] == HERE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "RateLimit" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", f"{HERE}.evil.example", HERE.upper(), f"{HERE}:8443"])
async def test_any_other_page_may_not_and_caches_are_told_to_tell_them_apart(db: Database, origin: str) -> None:
    with trio.fail_after(10):
        async with open_desk(db, cors_origins=(HERE,)) as desk:
            plain, asked = await ask(desk, Origin=origin), await ask(desk, "OPTIONS", **ASKING | {"Origin": origin})
            without = await ask(desk)
    for answer in (plain, asked, without):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("closed", [False, True])
async def test_permission_is_given_by_the_edge_whatever_is_closed(db: Database, closed: bool) -> None:
    with trio.fail_after(10):
        async with open_desk(db, cors_origins=(HERE,)) as desk:
            desk.board.maintenance = Maintenance(closed, "Back at one.")
            asked = await ask(desk, "OPTIONS", "/users/me", **ASKING)
            put = await ask(desk, "PUT", "/users/me", Origin=HERE)
    assert (asked.status_code, asked.content) == (204, b"")
    assert asked.headers["access-control-allow-origin"] == HERE
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert {"Authorization", "Idempotency-Key"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    assert int(asked.headers["access-control-max-age"]) > 0
    assert put.status_code == (503 if closed else 401)
    assert put.headers["access-control-allow-origin"] == HERE


async def test_where_no_site_is_named_nothing_is_said(db: Database) -> None:
    with trio.fail_after(10):
        async with open_desk(db) as desk:
            answers = [await ask(desk, Origin=HERE), await ask(desk, "OPTIONS", "/users/me", **ASKING)]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answers[1].status_code == 200  # by the framework: the methods that there are
