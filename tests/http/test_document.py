"""The OpenAPI document: valid, and true of every route."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.http.conftest import Serve
from tests.http.described import Described
from veza.domain.bans import Ban, ban_news, lift_news
from veza.domain.erasure import Obstacle
from veza.domain.exports import Export, ExportStatus, Progress, failed_news, ready_news
from veza.domain.gear import warranty_news
from veza.domain.notifications import NotificationKind
from veza.domain.reports import ContentType, Report, reviewed_news, warning_news
from veza.http.app import create_app, routes
from veza.http.document import API, Document
from veza.http.refusals import MEANINGS
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
    """Of Veza's own routes, without those that tests add."""
    paths = {path: methods for path, methods in document["paths"].items() if not path.startswith(STAGE)}
    return [operation for methods in paths.values() for operation in methods.values()]


async def test_it_is_valid_by_the_specifications_own_schema(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()  # operation ids that are not unique included


STAGE = (f"{API}/stage", "/stage")
NOT_THE_API = ("/openapi.json", "/swagger", "/console", "/watch/", "/static/", "/.well-known/")


async def test_it_has_every_route_and_no_page(document: dict[str, Any]) -> None:
    served = {(method.lower(), path) for method, path in routes(create_app()) if not path.startswith(NOT_THE_API)}
    told = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {(method, path.replace("{", ":").replace("}", "")) for method, path in told} >= served
    assert not [path for _, path in told if path.startswith(NOT_THE_API)]


async def test_every_route_says_by_which_codes_it_refuses(document: dict[str, Any]) -> None:
    for operation in operations(document):
        refused = {status: told for status, told in operation["responses"].items() if status >= "400"}
        assert {"400", "500"} <= refused.keys()
        for status, told in refused.items():
            assert told.keys() == {"$ref"} or operation["operationId"].startswith(("getHealth", "getReadyz")), status
    for name, told in document["components"]["responses"].items():
        status, *codes = name.split(".")
        assert [f"* `{code}`: {MEANINGS[int(status)][code]}" for code in codes] == told["description"].split("\n")


async def test_an_error_is_shown_with_each_code_that_it_may_have_and_has_no_other(document: dict[str, Any]) -> None:
    described = Described(document)
    for name, told in document["components"]["responses"].items():
        content = told["content"]["application/json"]
        values = {code: shown["value"] for code, shown in content["examples"].items()}
        assert [value["code"] for value in values.values()] == list(values) == name.split(".")[1:]
        many = {"type": "array", "items": content["schema"]}
        other = next(iter(values.values())) | {"code": "another"}
        assert len(described.faults_of(many, [*values.values(), other])) == 1


async def test_every_example_is_as_its_schema_says(document: dict[str, Any]) -> None:
    described = Described(document)
    shown = 0
    for operation in operations(document):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (part.get("content", {}).get("application/json", {}) for part in parts):
            if content:
                assert described.faults_of(content["schema"], content["example"]) == []
                shown += 1
    assert shown > 150


async def test_trying_out_the_example_of_an_account_renames_nobody(document: dict[str, Any]) -> None:
    sent = document["paths"]["/api/v1/users/me"]["put"]["requestBody"]["content"]["application/json"]
    assert sent["example"] == {}
    assert {"username", "email"} <= set(sent["schema"]["properties"])


async def test_no_field_of_an_example_is_left_to_be_guessed(document: dict[str, Any]) -> None:
    """A new field's name is to be found in `veza.http.examples`, or it reads as three dots."""
    ours = [path for path in document["paths"] if not path.startswith(STAGE)]
    answers = [
        (path, answer["content"]["application/json"]["example"])
        for path in ours
        for operation in document["paths"][path].values()
        for answer in operation["responses"].values()
        if "application/json" in answer.get("content", {})
    ]
    assert {path for path, example in answers if "..." in strings(example)} == {
        "/api/v1/cloud/files/{file_id}/versions"
    }


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            yield from (each for item in value for each in strings(item))
        case dict():
            yield from (each for item in value.values() for each in strings(item))


async def test_who_may_call_a_route_is_told_with_it(document: dict[str, Any]) -> None:
    told = {
        (method, path): operation["security"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    schemes = document["components"]["securitySchemes"]
    assert {name for each in told.values() for one in each for name in one} == schemes.keys()
    assert told["get", "/api/v1/users/me"] == [{"bearer": []}]
    assert told["get", "/api/v1/admin/audit"] == [{"bearer": ["admin"]}]
    assert told["get", "/api/v1/marketplace/products"] == [{}, {"bearer": []}]
    assert told["get", "/api/v1/health"] == []
    for (_, path), security in told.items():
        assert (security == [{"bearer": ["admin"]}]) == path.startswith("/api/v1/admin/")


async def test_every_route_stands_in_a_chapter_under_a_sentence_of_its_own(document: dict[str, Any]) -> None:
    chapters = [chapter["name"] for chapter in document["tags"]]
    used = {chapter for operation in operations(document) for [chapter] in [operation["tags"]]}
    assert used == set(chapters)
    sentences = Counter(each["summary"] for each in operations(document) if not each.get("deprecated"))
    assert [sentence for sentence, times in sentences.items() if times > 1] == []
    assert [sentence for sentence in sentences if not 0 < len(sentence) <= 90] == []


async def test_it_tells_the_headers_that_a_route_heeds_and_what_it_cannot_do_without(document: dict[str, Any]) -> None:
    order = document["paths"]["/api/v1/marketplace/orders"]["post"]
    [key] = [each for each in order["parameters"] if each["in"] == "header"]
    assert key["name"] == "Idempotency-Key"
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
    told = Described(document).resolved(document["paths"]["/api/v1/users/me"]["delete"]["responses"]["409"])
    assert set(told["content"]["application/json"]["examples"]) == {*Obstacle, "password_changed"}


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
