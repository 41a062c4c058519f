"""The OpenAPI document: what quart-schema reads off the routes, and what it can't know."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from importlib import metadata
from typing import Annotated, Any, Final, TypeVar

import trio
from pydantic import BaseModel, Field, StringConstraints, create_model
from pydantic_core import to_json
from quart import Quart, current_app
from quart_schema import (
    APIKeySecurityScheme,
    DataSource,
    HttpSecurityScheme,
    Info,
    OpenAPIProvider,
    QuartSchema,
    Server,
    Tag,
    document_headers,
    document_response,
)
from quart_schema.validation import QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, QUART_SCHEMA_REQUEST_ATTRIBUTE
from werkzeug.routing import BaseConverter, Rule, UUIDConverter

from veza.http.chapters import CHAPTERS, LEGACY, chapter_of
from veza.http.edge import API as API
from veza.http.edge import NEVER_SHED as UNLIMITED
from veza.http.envelope import Elsewhere, ErrorEnvelope
from veza.http.examples import show
from veza.http.maintenance import is_open
from veza.http.paging import Paging
from veza.http.refusals import ANYWHERE, AT_WORK, MEANINGS, OF_A_BODY, OF_FILES, by_status, refused_by, refuses

RESPONSES: Final = "#/components/responses/"
ERRORS: Final = "#/components/schemas/ErrorEnvelope"
ERROR_SCHEMA: Final = ErrorEnvelope.model_json_schema(ref_template="#/components/schemas/{model}")
REQUEST_ID: Final = "01a22618-b30a-7e76-8947-8a0c43364850"

RETRY_AFTER: Final = {"Retry-After": {"description": "When to come back, in seconds.", "schema": {"type": "integer"}}}
HEADERS: Final[Mapping[int, Mapping[str, Any]]] = {
    401: {
        "WWW-Authenticate": {
            "description": "How to say who is asking.",
            "schema": {"type": "string", "const": "Bearer"},
        }
    },
    429: RETRY_AFTER
    | {
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
    503: RETRY_AFTER,
}

DETAILS: Final[Mapping[str, list[dict[str, str]]]] = {
    "invalid": [{"field": "limit", "message": "Input should be less than or equal to 100"}],
    "banned": [{"field": "until", "message": "2026-03-02T12:00:00Z"}, {"field": "reason", "message": "Spam."}],
}
"""Of the examples of those errors that have any."""

ABOUT: Final = """\
What creators of music sell, are paid for, stream and keep.

Every answer is `{"success": true, "data": ...}`, and every error `{"success": false, "error": ..., "code": ...,
"request_id": ...}`: a sentence for people, a code for programs, and what to name when asking about it. Times are
RFC 3339 in UTC, ids are UUIDs, money is in minor units of its currency. A list takes `limit` and `offset`, and tells
its `total`.

Sign in (`POST /api/v1/auth/login`) and send the `access_token`: `Authorization: Bearer ...`. It is good for an hour.
"""

BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


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


@dataclass
class Bearer(HttpSecurityScheme):
    """With a word on which token it is, for which the extension has no place."""

    scheme: str = "bearer"
    description: str | None = None


@dataclass
class Key(APIKeySecurityScheme):
    """The same of what is sent elsewhere."""

    description: str | None = None


SCHEMES: Final = {
    "bearer": Bearer(bearer_format="JWT", description="The `access_token` of a sign-in."),
    "refresh_cookie": Key(in_="cookie", name="refresh_token", description="As sign-in sets it."),
    "ticket": Key(in_="query", name="ticket", description="Of `POST /notifications/stream-ticket`."),
    "metrics_token": Bearer(description="`METRICS_TOKEN`, where that is set."),
    "hyperswitch": Key(
        in_="header", name="X-Webhook-Signature-512", description="HMAC-SHA512 over the exact bytes, in hex."
    ),
    "stripe": Key(in_="header", name="Stripe-Signature", description="As Stripe signs its events."),
}

KEPT: Final = "veza.document"
TAKES_BYTES: Final = "_veza_takes_bytes"
PROBES: Final = tuple(prefix + path for prefix in ("", API) for path in ("/health", "/readyz", "/metrics"))

View = TypeVar("View", bound=Callable[..., Any])


class Document(OpenAPIProvider):
    """An answer of ``bytes``, ``Pdf`` or ``Csv`` is a file, ``Elsewhere`` leads to another page.

    Which errors a route answers with follows from how it is called, and from what it says it ``refuses``.
    """

    def schema(self) -> dict[str, Any]:
        document: dict[str, Any] = super().schema()
        parts = dict(ERROR_SCHEMA)
        components = document["components"]
        components["schemas"].update(parts.pop("$defs"), ErrorEnvelope=parts)
        operations = [each for methods in document["paths"].values() for each in methods.values()]
        named = {
            each["$ref"].rpartition("/")[2]
            for one in operations
            for each in one["responses"].values()
            if "$ref" in each
        }
        components["responses"] = {name: error_answer(*name.split(".")) for name in sorted(named)}
        for operation in operations:
            show(operation, components["schemas"])
        return document

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        view = self._app.view_functions[rule.endpoint]
        for path, operations in paths.items():
            for method, operation in operations.items():
                chapter = chapter_of(path.removeprefix(API)) if path.startswith(API) else LEGACY
                summary, description = told_of(rule, view)
                told = by_status(refusals(method.upper(), rule, view))
                answers = {
                    str(status): {"$ref": f"#/components/responses/{name_of(status, told[status])}"} for status in told
                }
                answers |= {str(status): succeeded(status, answer) for status, answer in operation["responses"].items()}
                if (bytes_taken := getattr(view, TAKES_BYTES, None)) is not None:
                    shape, media_type = bytes_taken
                    content = {media_type: {"schema": shape.model_json_schema()}}
                    operation["requestBody"] = {"content": content, "required": True}
                operation |= {
                    "tags": [chapter.name] if chapter else [],
                    "summary": summary,
                    "description": description,
                    "security": operation.get("security", []),
                    "responses": dict(sorted(answers.items())),
                }
        return paths, components

    def build_path_parameter(self, name: str, converter: BaseConverter) -> dict[str, Any]:
        parameter: dict[str, Any] = super().build_path_parameter(name, converter)
        if isinstance(converter, UUIDConverter):
            parameter["schema"]["format"] = "uuid"
        return parameter

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
        for parameter in parameters:
            parameter["schema"] = _sent_or_not(parameter["schema"])
            parameter["required"] = parameter["name"] in needed
        return parameters, components

    def build_headers_parameters(self, model: type[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Named as they are usually written. None has a default: what is unsent says nothing."""
        parameters, components = super().build_headers_parameters(model)
        for parameter in parameters:
            words = parameter["name"].split("-")
            parameter["name"] = "-".join(word.upper() if word in ABBREVIATED else word.capitalize() for word in words)
            del parameter["schema"]["default"]
        return parameters, components

    def operation_id(self, method: str, path: str, _: Callable[..., Any]) -> str:
        """Of the path, so that no two are alike and none changes when a function is renamed."""
        inside = path.removeprefix(API)
        words: list[str] = re.findall(r"[A-Za-z0-9]+", inside)
        named = "".join(word[0].upper() + word[1:] for word in words)
        return method.lower() + named + ("Legacy" if inside == path else "")


BOUNDS: Final[Mapping[str, str]] = {"ge": "minimum", "le": "maximum"}
"""Pydantic's words, which it leaves as they are where a validator stands before the bound."""

ABBREVIATED: Final = frozenset({"gpc", "id"})
FIRST_SENTENCE: Final = re.compile(r"(.+?)[.](?=\s|$)", re.DOTALL)


def told_of(rule: Rule, view: Callable[..., Any]) -> tuple[str, str]:
    """What a route's docstring says: its first sentence, and the rest with what is said of its query.

    A view of several routes names in backticks what its rule sets.
    """
    text = inspect.getdoc(view) or ""
    for name, value in (rule.defaults or {}).items():
        text = text.replace(f"`{name}`", str(value))
    found = FIRST_SENTENCE.match(text)
    first, rest = (found[1], text[found.end() :]) if found else (text, "")
    query = getattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE, Paging)
    more = "" if query is Paging else inspect.cleandoc(query.__dict__.get("__doc__") or "")
    return " ".join(first.split()), "\n\n".join(filter(None, (rest.strip(), more)))


def refusals(method: str, rule: Rule, view: Callable[..., Any]) -> set[str]:
    """By which codes a route says no: those of its own, and those that follow from how it is called."""
    codes = {*ANYWHERE, *refused_by(view)}
    if rule.arguments - (rule.defaults or {}).keys():
        codes.add("not_found")
    if (body := getattr(view, QUART_SCHEMA_REQUEST_ATTRIBUTE, None)) is not None:
        codes |= {*OF_A_BODY, *(OF_FILES if body[1] is DataSource.FORM_MULTIPART else ())}
    if not rule.rule.startswith(PROBES):
        codes |= {*AT_WORK}
    if not rule.rule.startswith(UNLIMITED):
        codes.add("rate_limited")
    if not is_open(method, rule.rule):
        codes.add("maintenance")
    return codes


def name_of(status: int, codes: Sequence[str]) -> str:
    """Of an error's answer, wherever it is the same."""
    return ".".join((str(status), *codes))


def error_answer(status: str, *codes: str) -> dict[str, Any]:
    """What is told of an error's status: the codes it may have, with an example of each."""
    meanings = MEANINGS[int(status)]
    answer = {
        "description": "\n".join(f"* `{code}`: {meanings[code]}" for code in codes),
        "content": {
            "application/json": {
                "schema": {"allOf": [{"$ref": ERRORS}, {"properties": {"code": {"enum": list(codes)}}}]},
                "examples": {code: {"summary": code, "value": _error(code, meanings[code])} for code in codes},
            }
        },
    }
    headers = HEADERS.get(int(status))
    return answer if headers is None else answer | {"headers": dict(headers)}


def _sent_or_not(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be left out of a query, where nothing can be null."""
    if "anyOf" not in schema:
        return schema
    [value] = [each for each in schema["anyOf"] if each.get("type") != "null"]
    said = schema | value
    return {BOUNDS.get(name, name): told for name, told in said.items() if name not in ("anyOf", "default")}


def _error(code: str, meaning: str) -> dict[str, Any]:
    details = {"details": DETAILS[code]} if code in DETAILS else {}
    return {"success": False, "error": meaning.replace("`", ""), "code": code, "request_id": REQUEST_ID} | details


def succeeded(status: int, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer with JSON, by its status: what is in it, its schema says."""
    return (
        answer
        if "application/json" not in answer.get("content", {})
        else answer | {"description": HTTPStatus(status).phrase}
    )


def takes_headers(**headers: str) -> Callable[[View], View]:
    """Document optional request headers of a route: their names in snake_case, and what each is for."""
    fields: dict[str, Any] = {
        name: (Annotated[str, StringConstraints()], Field("", description=says)) for name, says in headers.items()
    }
    model: type[BaseModel] = create_model("Headers", **fields)
    document: Callable[[View], View] = document_headers(model)
    return document


def takes_bytes(shape: type[BaseModel], media_type: str = "application/json") -> Callable[[View], View]:
    """Document the body of a route that reads its bytes itself: what they mean, where they are understood."""

    def document(view: View) -> View:
        setattr(view, TAKES_BYTES, (shape, media_type))
        return refuses("request_timeout", "too_large")(view)

    return document


def sends_file(view: View) -> View:
    """Document a route that answers with `veza.http.downloads.send_object`."""
    refusing = refuses("precondition_failed", "range_not_satisfiable", "storage_unavailable")
    heeded = takes_headers(
        range="One range of bytes.",
        if_range="The ETag that the range is of.",
        if_match="The ETag that it must have; 412 where it has another.",
        if_none_match="The ETag of what is there already.",
    )
    documented: View = heeded(
        refusing(document_response(bytes)(document_response(bytes, 206)(document_response(Unchanged, 304)(view))))
    )
    return documented


def document(app: Quart) -> None:
    """Have it written from the app's routes, without the extension's own pages: they load scripts from elsewhere."""
    QuartSchema(
        openapi_path=None,
        openapi_provider_class=Document,
        info=Info(title="Veza API", version=metadata.version("veza"), description=ABOUT),
        servers=[Server(url="/", description="Where this document came from.")],
        tags=[Tag(name=each.name, description=each.about) for each in (*CHAPTERS, LEGACY)],
        security_schemes=dict(SCHEMES),
    ).init_app(app)
    # The extension wraps make_response on the instance, turning models into dictionaries first; ours writes them.
    del app.make_response


async def written() -> tuple[bytes, str]:
    """The document of the app in hand and its version. Written once: it takes a quarter of a second."""
    kept: tuple[bytes, str] | None = current_app.extensions.get(KEPT)
    if kept is None:
        body = await trio.to_thread.run_sync(_write, current_app.extensions["QUART_SCHEMA"].openapi_provider)
        kept = current_app.extensions[KEPT] = (body, sha256(body).hexdigest()[:16])
    return kept


def _write(provider: OpenAPIProvider) -> bytes:
    return to_json(provider.schema())
