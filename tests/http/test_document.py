"""The OpenAPI document: valid, and true of every route."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.http.conftest import Serve
from veza.domain.bans import Ban, ban_news, lift_news
from veza.domain.erasure import Obstacle
from veza.domain.exports import Export, ExportStatus, Progress, failed_news, ready_news
from veza.domain.gear import warranty_news
from veza.domain.notifications import NotificationKind
from veza.domain.reports import ContentType, Report, reviewed_news, warning_news
from veza.http.app import create_app, routes
from veza.http.document import API, Document
from veza.http.routes.notifications import DATA


@pytest.fixture
async def document(serve: Serve) -> dict[str, Any]:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            answer = await client.get(f"{served.base_url}/openapi.json")
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


async def test_it_is_valid_by_the_specifications_own_schema(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()  # operation ids that are not unique included


NOT_THE_API = ("/openapi.json", "/console", "/watch/", "/static/", "/.well-known/")


async def test_it_has_every_route_and_no_page(document: dict[str, Any]) -> None:
    served = {(method.lower(), path) for method, path in routes(create_app()) if not path.startswith(NOT_THE_API)}
    told = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {(method, path.replace("{", ":").replace("}", "")) for method, path in told} >= served
    assert not [path for _, path in told if path.startswith(NOT_THE_API)]


async def test_every_route_says_what_its_errors_look_like(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/ErrorEnvelope"
        }


async def test_it_tells_the_headers_that_a_route_heeds_and_what_it_cannot_do_without(document: dict[str, Any]) -> None:
    order = document["paths"]["/api/v1/marketplace/orders"]["post"]
    [key] = [each for each in order["parameters"] if each["in"] == "header"]
    assert key["name"].lower() == "idempotency-key"
    back = document["paths"]["/api/v1/sell/connect/return"]["get"]
    assert [(each["name"], each["required"]) for each in back["parameters"]] == [("state", True)]
    answer = document["components"]["schemas"]["ProductOut"]
    assert set(answer["required"]) == set(answer["properties"])


async def test_it_tells_what_the_data_of_each_kind_of_notification_has(document: dict[str, Any]) -> None:
    told = document["components"]["schemas"]["NotificationOut"]["properties"]["data"]["anyOf"]
    shapes = {each["title"]: each for each in told}
    assert shapes.keys() == {shape.__name__ for shape in DATA.values()}
    assert set(DATA) == set(NotificationKind)
    at = datetime(2026, 2, 23, tzinfo=UTC)
    report = Report(UUID(int=4), UUID(int=5), ContentType.TRACK, UUID(int=6), UUID(int=7), "Mine.", at)
    export = Export(UUID(int=1), UUID(int=2), ExportStatus.QUEUED, Progress(), 0, at)
    for news in (
        ready_news(export, "https://x", at),
        failed_news(export),
        warranty_news(UUID(int=3), "Synth", at.date()),
        ban_news(Ban(at, at, "Spam")),
        ban_news(Ban(at, None, "")),
        lift_news(),
        warning_news(report),
        reviewed_news(report),
    ):
        shape = shapes[DATA[news.kind].__name__]
        assert set(news.data) == set(shape.get("required", ())) == set(shape["properties"]), news.kind
        DATA[news.kind].model_validate(news.data)


async def test_it_tells_by_which_codes_an_erasure_is_refused(document: dict[str, Any]) -> None:
    told = document["paths"]["/api/v1/users/me"]["delete"]["description"]
    assert [code for code in (*Obstacle, "password_changed") if f"`{code}`" not in told] == []


async def test_a_body_is_required_where_a_part_of_it_is(document: dict[str, Any]) -> None:
    bodies = {"login": True, "logout": False, "register": True, "refresh": False}
    paths = document["paths"]
    assert {name: paths[f"/api/v1/auth/{name}"]["post"]["requestBody"]["required"] for name in bodies} == bodies
    assert paths["/api/v1/cloud/files"]["post"]["requestBody"]["required"] is True


async def test_a_file_may_be_of_any_type(document: dict[str, Any]) -> None:
    content = document["paths"]["/api/v1/cloud/files/{file_id}/content"]["get"]["responses"]["200"]["content"]
    assert content == {"*/*": {"schema": {"type": "string", "format": "binary"}}}


def test_no_two_shapes_share_a_name() -> None:
    """One would silently take the other's place, and be described as what it is not."""
    app = create_app()
    provider, shapes = Document(app, app.extensions["QUART_SCHEMA"]), defaultdict[str, set[str]](set)
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(API):
            _, components = provider.build_paths(rule)
            for name, schema in components.items():
                shapes[name].add(json.dumps(schema, sort_keys=True))
    assert len(shapes) > 100
    assert {name for name, found in shapes.items() if len(found) > 1} == set()
