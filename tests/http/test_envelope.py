"""Every answer has the envelope, every error too: ours, the runtime's, the store's and the framework's."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.http.conftest import Serve

EXPECTED = {
    "invalid": (400, "invalid", "A title is needed."),
    "unauthenticated": (401, "unauthenticated", "Sign in first."),
    "forbidden": (403, "forbidden", "That is not yours."),
    "not_found": (404, "not_found", "No such product."),
    "conflict": (409, "archived", "It is archived."),
    "too_large": (413, "too_large", "Too many bytes."),
    "unavailable": (503, "unavailable", "Payments are away."),
    "overloaded": (503, "overloaded", None),
    "deadline_exceeded": (503, "deadline_exceeded", None),
    "crashed": (500, "internal", None),
    "stopped": (503, "stopped", None),
    "database_unavailable": (503, "database_unavailable", None),
    "try_again": (503, "try_again", None),
    "outcome_unknown": (503, "outcome_unknown", None),
    "surprise": (500, "internal", "Something went wrong on our side."),
    "group": (409, "conflict", "It is archived."),
}


def check_envelope(answer: dict[str, Any], code: str) -> None:
    assert answer["success"] is False
    assert answer["code"] == code
    assert answer["error"].endswith(".")
    assert answer["request_id"]
    assert set(answer) <= {"success", "error", "code", "request_id", "details"}


@pytest.mark.parametrize("kind", EXPECTED)
async def test_each_failure_has_its_status_and_the_envelope(serve: Serve, kind: str) -> None:
    served = await serve()
    status, code, sentence = EXPECTED[kind]
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"/raise/{kind}")
    assert answer.status_code == status
    check_envelope(answer.json(), code)
    assert sentence in (None, answer.json()["error"])
    assert ("retry-after" in answer.headers) == (status == 503)
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


async def test_a_surprise_is_logged_with_its_traceback_and_tells_the_client_nothing(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/raise/surprise")
    assert "hunter2" not in answer.text
    [failure] = [line for line in served.lines if line["event"] == "request_failed"]
    assert isinstance(failure["exc_info"], RuntimeError)


async def test_an_invalid_field_is_named_in_the_details(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get("/raise/invalid")
    assert answer.json()["details"] == [{"field": "title", "message": "A title is needed."}]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nowhere", 404, "not_found"),
        ("GET", "/api/v1//health", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/api/v1/health", 405, "method_not_allowed"),
        ("GET", "/api/v1/stage/things/not-a-uuid", 404, "not_found"),
        ("GET", "/api/v1/stage/pages?q=%00", 400, "invalid"),
        ("GET", "/api/v1/%00", 400, "invalid"),
    ],
)
async def test_the_frameworks_own_errors_have_the_envelope(
    serve: Serve, method: str, path: str, status: int, code: str
) -> None:
    served = await serve()
    with trio.fail_after(10):
        head, _, body = (
            await served.exchange(f"{method} {path} HTTP/1.1\r\nHost: veza\r\nConnection: close\r\n\r\n".encode())
        ).partition(b"\r\n\r\n")
    assert f" {status} ".encode() in head
    check_envelope(json.loads(body), code)


async def test_a_method_that_is_not_taken_says_which_are(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.delete("/echo")
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]


async def test_a_body_is_read_strictly_and_written_in_our_formats(serve: Serve) -> None:
    served = await serve()
    sent = {
        "title": "Dawn",
        "price_cents": 2999,
        "seller_id": "0195a000-0000-7000-8000-000000000001",
        "released_at": "2026-02-23T13:00:00+01:00",
    }
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/echo", json=sent | {"released_at": "2026-02-23T12:00:00Z"})
    assert answer.status_code == 201
    assert answer.json() == {"success": True, "data": sent | {"released_at": "2026-02-23T12:00:00Z"}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "Dawn", "price_cents": "2999"}, "price_cents"),
        ({"title": "Dawn", "price_cents": True}, "price_cents"),
        ({"title": "Dawn"}, "price_cents"),
        ({"title": "Dawn", "price_cents": 1, "colour": "red"}, "colour"),
        ({"title": 5, "price_cents": 1}, "title"),
        ({"title": "Dawn", "price_cents": 1, "seller_id": "me"}, "seller_id"),
        (["a list"], "body"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(serve: Serve, body: object, field: str) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/echo", json=body)
    assert answer.status_code == 400
    check_envelope(answer.json(), "invalid")
    assert [detail["field"] for detail in answer.json()["details"]] == [field]


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[" * 100_000,
        b'{"title": NaN}',
        b"\xff\xfe",
        b'{"title": "\\ud800", "price_cents": 1}',
        b'{"title": "a\\u0000b", "price_cents": 1}',
        b'{"price_cents": ' + b"9" * 10_000 + b"}",
    ],
)
async def test_what_is_not_json_we_can_keep_is_a_400_and_never_a_500(serve: Serve, raw: bytes) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/echo", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["success"] is False


async def test_a_body_of_another_type_is_415(serve: Serve) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/echo", content=b"title=Dawn", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    check_envelope(answer.json(), "unsupported_media_type")


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
async def test_a_bodyless_post_needs_no_content_type(serve: Serve, headers: dict[str, str]) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.post("/optional", headers=headers)
            refused = await client.post("/echo", headers=headers)
    assert answer.json() == {"success": True, "data": {"reason": None}}
    assert {detail["field"] for detail in refused.json()["details"]} == {"title", "price_cents"}


@pytest.mark.parametrize(
    ("query", "page"),
    [("", (20, 0)), ("?limit=1&offset=7", (1, 7)), ("?limit=100", (100, 0)), ("?colour=red", (20, 0))],
)
async def test_a_page_has_its_limit_and_offset(serve: Serve, query: str, page: tuple[int, int]) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"/pages{query}")
    assert (answer.json()["data"]["limit"], answer.json()["data"]["offset"]) == page


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "limit=x", "limit=", "limit=1&limit=2"])
async def test_a_page_out_of_range_is_refused_and_not_mended(serve: Serve, query: str) -> None:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"/pages?{query}")
    assert answer.status_code == 400
    check_envelope(answer.json(), "invalid")
