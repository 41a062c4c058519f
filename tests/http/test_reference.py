"""What the API reference shows, held against the document: its bodies are taken, its answers are parts of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import trio

from tests.http.conftest import Serve
from tests.http.described import Described
from tests.http.reference import Example, examples_in, written_down
from veza.http.document import API

UUID: Final = "01a22618-b30a-7e76-8947-8a0c43364850"

BARE: Final = frozenset(
    {"GET /cloud/files/:id/versions", "POST /cloud/files/:id/share", "GET /tags/suggest"},
)
"""Whose answers the reference shows without the envelope: they have it, and beside it what it shows."""


@pytest.fixture
async def described(serve: Serve) -> Described:
    served = await serve()
    with trio.fail_after(10):
        async with served.client() as client:
            return Described((await client.get(f"{served.base_url}/openapi.json")).raise_for_status().json())


def told_of(described: Described, route: str) -> Any:
    """A route's part of the document; the reference has other names for what is in a path."""
    method, path = route.split()
    shape = re.sub(r":\w+", "{}", API + path)
    [found] = [own for own in described.document["paths"] if re.sub(r"{\w+}", "{}", own) == shape]
    return described.document["paths"][found][method.lower()]


def faults(described: Described, example: Example) -> Iterator[str]:
    operation = told_of(described, example.route)
    told = operation["requestBody"] if example.status is None else operation["responses"][str(example.status)]
    for fault in described.faults_of(told["content"]["application/json"]["schema"], filled_in(example.value)):
        yield f"{example.route} {example.status}: {fault}"


def filled_in(value: Any) -> Any:
    """With an id where the reference has the word for one."""
    if isinstance(value, list):
        return [filled_in(each) for each in value]
    if isinstance(value, dict):
        return {name: filled_in(each) for name, each in value.items()}
    return UUID if value == "uuid" else value


async def test_its_bodies_are_taken(described: Described) -> None:
    bodies = [example for example in written_down() if example.status is None]
    assert len(bodies) > 20
    assert [fault for body in bodies for fault in faults(described, body)] == []


async def test_what_it_shows_of_an_answer_is_a_part_of_ours(described: Described) -> None:
    parts = Described(only_known(described.document))
    answers = [example for example in written_down() if example.status is not None]
    assert len(answers) > 10
    assert [fault for answer in answers for fault in faults(parts, answer)] == []
    assert {answer.route for answer in answers if "success" not in answer.value} == BARE


def test_examples_are_found_in_a_reference() -> None:
    reference = """
### POST /things/:id

Make one. Body: `{ "kind": "a"|"b", "on": true|false }`.

**Body:**
```json
{ "kind": "a" }
```

```bash
curl -X POST http://x/things/1 -d '{"kind":"b",...}'
```

**Response (201 or 202):**
```json
{ "success": true, "data": { "things": [...] } }
```

### GET /things

**Response (200):**
```json
{ "id": "uuid" }
```
"""
    kinds = [{"kind": kind, "on": on} for kind in "ab" for on in (True, False)]
    assert list(examples_in(reference)) == [
        Example("POST /things/:id", None, {"kind": "a"}),
        Example("POST /things/:id", 201, {"success": True, "data": {"things": []}}),
        *(Example("POST /things/:id", None, each) for each in kinds),
        Example("POST /things/:id", None, {"kind": "b"}),
        Example("GET /things", 200, {"id": "uuid"}),
    ]


def only_known(shape: Any) -> Any:
    """A schema, or anything around it, that takes a part of its fields, and no others."""
    if isinstance(shape, list):
        return [only_known(each) for each in shape]
    if not isinstance(shape, dict):
        return shape
    inner = {name: only_known(value) for name, value in shape.items() if name != "required"}
    return inner | {"additionalProperties": False} if "properties" in shape else inner


def test_a_field_of_another_name_or_type_would_be_seen() -> None:
    shape = {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}, "required": ["id"]}
    parts = Described({"components": {"schemas": {}}})
    assert parts.faults_of(only_known(shape), {}) == []
    assert len(parts.faults_of(only_known(shape), {"id": "uuid"})) == 1
    assert len(parts.faults_of(only_known(shape), {"identity": UUID})) == 1
