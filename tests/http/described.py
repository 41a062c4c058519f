"""What the served document says of an answer: are its status, its type and its shape those it tells of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

from tests.house import House


@dataclass(frozen=True)
class Described:
    """The document of a running house."""

    document: Mapping[str, Any]
    _validators: dict[str, Draft202012Validator] = field(default_factory=dict)
    """By their schemas: making one takes 2 ms, and there are thousands of answers."""

    @classmethod
    async def by(cls, house: House) -> Described:
        return cls((await house.http.get(f"{house.url}/openapi.json")).raise_for_status().json())

    def operation(self, method: str, path: str) -> Mapping[str, Any]:
        """A route's part of the document; ``path`` has its parameters as ``:name``."""
        found: Mapping[str, Any] = self.document["paths"][re.sub(r":(\w+)", r"{\1}", path)][method.lower()]
        return found

    def faults(self, method: str, path: str, answer: httpx.Response) -> list[str]:
        """How an answer differs from what the document says of it."""
        operation = self.operation(method, path)
        told = operation["responses"].get(str(answer.status_code))
        if told is None:
            return [f"it answers {answer.status_code}, and tells of {sorted(operation['responses'])}"]
        return self._faults_of_content(self.resolved(told), answer)

    def resolved(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """An answer's part of the document, be it told elsewhere."""
        if "$ref" not in told:
            return told
        found: Mapping[str, Any] = self.document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        return found

    def faults_of(self, shape: Mapping[str, Any], value: object) -> list[str]:
        """How a value differs from a schema of the document's."""
        faults = self._validator(shape).iter_errors(value)
        return [f"{'.'.join(map(str, fault.instance_path))}: {fault.message}" for fault in faults]

    def _validator(self, shape: Mapping[str, Any]) -> Draft202012Validator:
        written = json.dumps(shape, sort_keys=True)
        if written not in self._validators:
            schema = {**shape, "components": {"schemas": self.document["components"]["schemas"]}}
            self._validators[written] = Draft202012Validator(schema, validate_formats=True)
        return self._validators[written]

    def _faults_of_content(self, told: Mapping[str, Any], answer: httpx.Response) -> list[str]:
        contents, sent = told.get("content", {}), answer.headers.get("content-type", "").partition(";")[0]
        if not contents:
            return [f"it has a body of {sent}"] if answer.content else []
        if sent not in contents:
            return [] if "*/*" in contents else [f"it is {sent}, and should be one of {sorted(contents)}"]
        return self.faults_of(contents[sent]["schema"], answer.json()) if sent == "application/json" else []
