"""The document and the app keep to one another: nothing that is made up from the one has the other fail or surprise.

schemathesis makes requests out of the served document, half of them as it says and half as it does not, about things
that exist and about things that don't. `CONFORMANCE_EXAMPLES=200` in the environment makes so many of each, at random.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.http.calls import Who, ids_of
from tests.http.world import World, running_world
from tests.shop import data
from veza.http.document import API

ASKED_FOR: Final = int(os.environ.get("CONFORMANCE_EXAMPLES", "0"))
EXAMPLES: Final = ASKED_FOR or 3  # of each kind, for each caller: with a hundred routes a thousand requests

Operation = APIOperation[Any, Any, Any, Any]

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

EXCEPTIONS: Final[Mapping[str, str]] = {
    f"GET {API}/notifications/stream": "its answer does not end; `routes/test_notifications` reads it",
}
"""What is not asked for, and why."""


@dataclass
class Client:
    """Somebody who sends whatever they are told to, from a thread of their own."""

    world: World
    who: Who
    http: requests.Session

    def faults(self, schema: BaseSchema) -> Iterator[str]:
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            if f"{operation.method.upper()} {operation.path}" not in EXCEPTIONS:
                yield from self._faults_of(operation)

    def _faults_of(self, operation: Operation) -> Iterator[str]:
        headers = self._headers()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                self._ask(operation, mode, headers)
            except Unsatisfiable:
                continue  # nothing can be wrong with it
            except (Failure, FailureGroup) as fault:
                yield f"{operation.method.upper()} {operation.path}, as {self.who}: {fault}"
        trio.from_thread.run(put_back, self.world)

    def _ask(self, operation: Operation, mode: GenerationMode, headers: Mapping[str, str]) -> None:
        real = self._real(operation)

        @settings(
            max_examples=EXAMPLES,
            derandomize=not ASKED_FOR,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
        def ask(case: Case[Any], exists: bool) -> None:
            if exists:
                case.path_parameters.update({name: real[name] for name in case.path_parameters.keys() & real})
            answer = case.call(base_url=self.world.house.url, session=self.http, headers=dict(headers), timeout=20)
            case.validate_response(answer, checks=CHECKS)

        ask()

    def _real(self, operation: Operation) -> Mapping[str, str]:
        """Ids of what there is: but for what would take it away from those who come after."""
        path = operation.path.removeprefix(API).replace("{", ":").replace("}", "")
        method = operation.method.upper()
        return {} if method == "DELETE" else ids_of(self.world, f"{method} {path}")

    def _headers(self) -> dict[str, str]:
        """With a session of its own for each route: some end it."""
        if self.who is Who.NOBODY:
            return {}
        account = self.world.admin if self.who is Who.ADMIN else self.world.ana
        return {"Authorization": f"Bearer {trio.from_thread.run(self.world.token, account)}"}


async def put_back(world: World) -> None:
    """End the maintenance that an admin may have made up."""
    data(await world.house.put("/admin/maintenance", await world.token(world.admin), json={"enabled": False}))
    world.run("UPDATE feature_flags SET enabled = true")


@pytest.fixture
async def world(dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(dsn, tmp_path) as made:
        yield made


async def served_document(world: World) -> dict[str, Any]:
    document: dict[str, Any] = (await world.house.http.get(f"{world.house.url}/openapi.json")).raise_for_status().json()
    return document


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("who", [Who.NOBODY, Who.OWNER, Who.ADMIN])
async def test_nothing_made_up_from_the_document_fails_or_is_answered_otherwise(world: World, who: Who) -> None:
    schema = schemathesis.openapi.from_dict(await served_document(world))

    def faults() -> list[str]:
        with requests.Session() as http:
            return list(Client(world, who, http).faults(schema))

    found = await trio.to_thread.run_sync(faults)
    assert not found, "\n\n".join(found)


async def test_what_is_left_out_is_in_the_document(world: World) -> None:
    paths = (await served_document(world))["paths"]
    assert EXCEPTIONS.keys() <= {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
