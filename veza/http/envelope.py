"""The shapes every answer and every body share: one envelope, one error, one strict reading of JSON.

Times leave as RFC 3339 in UTC ending in ``Z``, ids as UUIDs, money as integer minor units: pydantic's JSON mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema, to_json

T = TypeVar("T")

DOCUMENTED = ConfigDict(json_schema_serialization_defaults_required=True)  # what has a default is sent all the same


class Envelope(BaseModel, Generic[T]):
    """What a success looks like. Build it as ``Envelope[ProductOut](data=...)``: it is then not validated twice."""

    model_config = DOCUMENTED

    success: Literal[True] = True
    data: T


class Out(BaseModel):
    """A part of an answer. ``of`` shows a domain value by its attributes of the same names, nested ones alike."""

    model_config = ConfigDict(from_attributes=True) | DOCUMENTED

    @classmethod
    def of(cls, value: object, **more: object) -> Self:
        """``more`` is what the value itself can't tell."""
        if not more:
            return cls.model_validate(value)
        shown = {name: getattr(value, name) for name in cls.model_fields if name not in more and hasattr(value, name)}
        return cls.model_validate(shown | more)


class DeletedOut(Out):
    """What a deletion is answered with."""

    deleted: Literal[True] = True


class ReceivedOut(Out):
    """What a provider's event is answered with, whatever it turns out to mean."""

    received: Literal[True] = True


class Elsewhere:
    """In the document: an answer without a body that sends its reader to ``Location``."""


class Problem(BaseModel):
    """What is wrong with one part of a request."""

    field: str
    message: str


class ErrorEnvelope(BaseModel):
    """What every error looks like, the framework's own too."""

    success: Literal[False] = False
    error: str
    code: str
    request_id: str
    details: list[Problem] | None = None


class Body(BaseModel):
    """A JSON body: unknown fields are refused, and a value has the JSON type its field says (``"1"`` is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # quart-schema hands over decoded objects, and strict Python objects know no UUIDs or dates in strings.
        # Strict JSON is what a client means, so an object is written as JSON again and read as that.
        schema = handler(source)
        as_json = core_schema.no_info_before_validator_function(to_json, core_schema.json_schema(schema))
        return core_schema.json_or_python_schema(json_schema=schema, python_schema=as_json)


class Query(BaseModel):
    """A query string: everything is text, so numbers are read from it; unknown parameters are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def error_json(*, error: str, code: str, request_id: str, details: Sequence[Problem] = ()) -> bytes:
    """The bytes of an error's envelope; ``details`` is left out where there are none."""
    envelope = ErrorEnvelope(error=error, code=code, request_id=request_id, details=list(details) or None)
    return envelope.model_dump_json(exclude_none=True).encode()
