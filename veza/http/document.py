"""The OpenAPI document: what quart-schema reads off the routes, and what it can't know."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, StringConstraints, create_model
from quart import Quart
from quart_schema import (
    DataSource,
    HttpSecurityScheme,
    Info,
    OpenAPIProvider,
    QuartSchema,
    document_headers,
    document_response,
)
from werkzeug.routing import Rule

from veza.http.edge import NEVER_SHED as UNLIMITED
from veza.http.envelope import Elsewhere, ErrorEnvelope

API = "/api/v1"
ERROR_SCHEMA = ErrorEnvelope.model_json_schema(ref_template="#/components/schemas/{model}")
ERROR = {
    "description": "An error, with a sentence for people and a code for programs.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
}
LIMITED = {
    "description": "Too many requests; `code` says of what kind, `Retry-After` when to come back.",
    "headers": {
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
        "RateLimit-Policy": {
            "description": "Each limit that this request counts on: its name, its quota `q` and its window `w` in "
            "seconds (draft-ietf-httpapi-ratelimit-headers-10). Other answers have it as well.",
            "schema": {"type": "string", "examples": ['"user";q=600;w=60']},
        },
        "RateLimit": {
            "description": "Of each: what remains, `r`, and in how many seconds there is more, `t`.",
            "schema": {"type": "string", "examples": ['"user";r=0;t=12']},
        },
    },
    "content": ERROR["content"],
}
BINARY = {"schema": {"type": "string", "format": "binary"}}


class Pdf(bytes):
    """An answer that is a PDF."""


class Csv(bytes):
    """An answer that is a table (RFC 4180)."""


class Unchanged:
    """An answer without a body, to who has what it would hold."""


class Events(str):
    """An answer that goes on: server-sent events (WHATWG HTML, section 9.2)."""

    __slots__ = ()


class Exposed(str):
    """An answer that is metrics (Prometheus's text format)."""

    __slots__ = ()


TEXTS: dict[type[Any], tuple[str, str]] = {
    Events: ("text/event-stream", "The events."),
    Exposed: ("text/plain", "The metrics, in Prometheus's text format."),
}

MEDIA_TYPE: dict[type[Any], str] = {
    bytes: "*/*",  # as whoever uploaded it says
    Pdf: "application/pdf",
    Csv: "text/csv",
}

View = TypeVar("View", bound=Callable[..., Any])


class Document(OpenAPIProvider):
    """An answer of ``bytes``, ``Pdf`` or ``Csv`` is a file, ``Elsewhere`` leads to another page.

    Any route may answer with an error.
    """

    def schema(self) -> dict[str, Any]:
        document: dict[str, Any] = super().schema()
        parts = dict(ERROR_SCHEMA)
        document["components"]["schemas"].update(parts.pop("$defs"), ErrorEnvelope=parts)
        document["components"]["responses"] = {"TooManyRequests": LIMITED}
        return document

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        for operations in paths.values():
            for operation in operations.values():
                answers = {str(status): answer for status, answer in operation["responses"].items()}
                if not rule.rule.startswith(UNLIMITED):
                    answers.setdefault("429", {"$ref": "#/components/responses/TooManyRequests"})
                operation["responses"] = answers | {"default": ERROR}
        return paths, components

    def build_response_object(self, model: type[Any], headers_model: type[Any] | None) -> Any:
        if model in TEXTS:
            media_type, about = TEXTS[model]
            return {"description": about, "content": {media_type: {"schema": {"type": "string"}}}}, {}
        if model in MEDIA_TYPE:
            return {"description": "The file's bytes.", "content": {MEDIA_TYPE[model]: BINARY}}, {}
        if model is Unchanged:
            return {"description": "The client has it already."}, {}
        if model is Elsewhere:
            return {"description": "Go on at `Location`."}, {}
        return super().build_response_object(model, headers_model)

    def build_request_body(self, model: type[Any], source: DataSource) -> tuple[dict[str, Any], dict[str, Any]]:
        body, components = super().build_request_body(model, source)
        return body | {"required": any(field.is_required() for field in model.model_fields.values())}, components

    def build_querystring_parameters(self, model: type[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        parameters, components = super().build_querystring_parameters(model)
        needed = {field.alias or name for name, field in model.model_fields.items() if field.is_required()}
        return [each | {"required": True} if each["name"] in needed else each for each in parameters], components

    def operation_id(self, method: str, path: str, _: Callable[..., Any]) -> str:
        """Of the path, so that no two are alike and none changes when a function is renamed."""
        inside = path.removeprefix(API)
        words = re.sub(r"[^A-Za-z0-9]+", "_", inside).strip("_") or "root"
        return f"{method.lower()}_{words}" if inside != path else f"{method.lower()}_{words}_legacy"


def takes_headers(**headers: str) -> Callable[[View], View]:
    """Document optional request headers of a route: their names in snake_case, and what each is for."""
    fields: dict[str, Any] = {
        name: (Annotated[str, StringConstraints()], Field("", description=says)) for name, says in headers.items()
    }
    model: type[BaseModel] = create_model("Headers", **fields)
    document: Callable[[View], View] = document_headers(model)
    return document


def sends_file(view: View) -> View:
    """Document a route that answers with `veza.http.downloads.send_object`."""
    heeded = takes_headers(
        range="One range of bytes.",
        if_range="The ETag that the range is of.",
        if_match="The ETag that it must have; 412 where it has another.",
        if_none_match="The ETag of what is there already.",
    )
    documented: View = heeded(
        document_response(bytes)(document_response(bytes, 206)(document_response(Unchanged, 304)(view)))
    )
    return documented


def document(app: Quart) -> None:
    """Serve it. The ready-made pages that show it are left out: they load scripts from elsewhere."""
    QuartSchema(
        openapi_path="/openapi.json",
        openapi_provider_class=Document,
        redoc_ui_path=None,
        scalar_ui_path=None,
        swagger_ui_path=None,
        info=Info(title="Veza", version=metadata.version("veza")),
        security_schemes={"bearer": HttpSecurityScheme(scheme="bearer", bearer_format="JWT")},
    ).init_app(app)
    # The extension wraps make_response on the instance, turning models into dictionaries first; ours writes them.
    del app.make_response
