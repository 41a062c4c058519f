"""The app: every blueprint in one list, one error handler, one deadline a request, the edge around it all."""

from __future__ import annotations

import re
from typing import Any, cast

import trio
from pydantic import BaseModel
from quart import Response, request
from quart.ctx import RequestContext
from quart_trio import QuartTrio

from veza.domain.errors import Invalid
from veza.http import errors
from veza.http.audit import Recorder
from veza.http.body import Connection, VezaRequest
from veza.http.console import actions, entry, pages
from veza.http.cors import Cors
from veza.http.deadline import seconds_for
from veza.http.document import API, document
from veza.http.doors import page_at
from veza.http.edge import ASGIApp, Edge, trace
from veza.http.limits import Throttle
from veza.http.maintenance import Gate
from veza.http.parts import EXTENSION, Parts
from veza.http.routes import (
    accounts,
    actors,
    announcements,
    assets,
    audit,
    auth,
    cloud,
    cloud_shares,
    disputes,
    erasure,
    exports,
    flags,
    gear,
    gear_documents,
    health,
    hooks,
    hyperswitch,
    invoices,
    ledger,
    live_status,
    maintenance,
    media,
    metrics,
    notifications,
    objects,
    orders,
    privacy,
    products,
    refunds,
    reports,
    reviews,
    sales,
    sell,
    stream_keys,
    streams,
    stripe,
    swagger,
    tags,
    transfers,
    users,
    watch,
)
from veza.routing import Route

BLUEPRINTS = (
    health.api,
    metrics.api,
    auth.api,
    users.api,
    privacy.api,
    erasure.api,
    accounts.api,
    reports.api,
    products.api,
    media.api,
    reviews.api,
    orders.api,
    refunds.api,
    disputes.api,
    invoices.api,
    hyperswitch.api,
    sell.api,
    sales.api,
    stripe.api,
    transfers.api,
    ledger.api,
    streams.api,
    stream_keys.api,
    live_status.api,
    hooks.api,
    notifications.api,
    gear.api,
    gear_documents.api,
    tags.api,
    cloud.api,
    cloud_shares.api,
    objects.api,
    exports.api,
    flags.api,
    maintenance.api,
    announcements.api,
    audit.api,
    actors.api,
)  # fmt: skip
"""Served under ``/api/v1``: a line each."""

LEGACY = (
    health.root,
    metrics.root,
)  # fmt: skip
"""Served at the root as well, marked deprecated."""

PAGES = (
    watch.pages,
    entry.console,
    pages.console,
    actions.console,
    privacy.pages,
    swagger.api,
    swagger.pages,
    assets.pages,
)  # fmt: skip
"""Served at the root: HTML and what it loads, the document itself, and what browsers look for at a well-known place."""


class VezaApp(QuartTrio):
    """Quart with a pulled body, a deadline on each handler, and its parts."""

    request_class = VezaRequest
    asgi_http_class = Connection
    url_rule_class: Any = Route
    edge: Edge

    def bind(self, parts: Parts) -> None:
        """Give the routes what they work with. The composition root does this once, before it listens."""
        self.extensions[EXTENSION] = parts
        app: ASGIApp = live_status.Desk(cast(ASGIApp, self.asgi_app), parts)
        observers = [parts.exposition.requests.observe]
        if parts.outbox is not None:
            app = recorder = Recorder(app, parts.outbox, parts.new_id, parts.clock)
            observers.append(recorder.observe)
        app = Gate(app, parts)
        if parts.meter is not None:
            app = Throttle(app, parts, parts.meter)
        self.edge = Edge(
            app,
            new_id=parts.new_id,
            max_in_flight=parts.settings.max_in_flight,
            leaving=parts.leaving,
            trusted_proxies=parts.settings.trusted_proxies,
            cors=Cors(parts.settings.cors_origins),
            tls=parts.settings.secure_cookies and parts.settings.base_url.startswith("https:"),
            page=page_at,
            observers=observers,
        )

    @property
    def parts(self) -> Parts:
        """What was bound. Raises KeyError before."""
        bound: Parts = self.extensions[EXTENSION]
        return bound

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.edge(scope, receive, send)

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> Any:
        """Run the handler under its deadline; sending its answer is no longer bound by it."""
        if request_context is None:
            raise RuntimeError("a request is dispatched with its context")
        request = request_context.request
        seconds = self.parts.settings.deadline_seconds
        if request.url_rule is not None:
            trace().route = request.url_rule.rule
            trace().values = request.view_args or {}
            seconds = seconds_for(self.view_functions[request.url_rule.endpoint], seconds)
        with trio.move_on_after(seconds) as scope:
            trace().deadline = scope
            return await super().full_dispatch_request(request_context)
        respond = entry.told_on_a_page if entry.is_of_the_console(request.path) else errors.respond
        return await self.finalize_request(respond(errors.DEADLINE), request_context)

    async def preprocess_request(self, request_context: RequestContext | None = None) -> Any:
        if request_context is None:
            raise RuntimeError("a request is dispatched with its context")
        request = request_context.request
        if "\0" in request.path or b"%00" in request.query_string:
            raise Invalid("Text may not contain the NUL character.")  # PostgreSQL cannot store it
        return await super().preprocess_request(request_context)

    async def process_response(self, response: Any, request_context: RequestContext | None = None) -> Any:
        """What was made for someone is theirs alone: no cache on the way keeps it, unless the route says more."""
        processed = await super().process_response(response, request_context)
        if trace().user_id is not None:
            processed.headers.setdefault("Cache-Control", "private, no-store")
        return processed

    async def make_response(self, result: Any) -> Any:
        """Models are written by pydantic itself: RFC 3339 times, and no detour over dictionaries."""
        value, *rest = result if isinstance(result, tuple) else (result,)
        if isinstance(value, BaseModel):
            value = Response(value.model_dump_json(), content_type="application/json")
        return await super().make_response((value, *rest) if rest else value)

    def log_exception(self, exception_info: Any) -> None:
        errors.log_failure(exception_info[1])


async def tell(error: Exception) -> Response:
    """An error that no blueprint tells in its own way: in the envelope, or on a page where a person looks at it."""
    return await (entry.tell if entry.is_of_the_console(request.path) else errors.answer)(error)


def create_app() -> VezaApp:
    """The app with every route registered and nothing bound: it can list its routes without a database."""
    app = VezaApp("veza", static_folder=None, template_folder="http/templates")
    app.config["RESPONSE_TIMEOUT"] = None  # it would cut a download midway
    app.config["BODY_TIMEOUT"] = None  # bodies have limits of their own
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a redirect would be an answer without an envelope
    document(app)
    app.register_error_handler(Exception, tell)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint, url_prefix=API)
    for blueprint in (*LEGACY, *PAGES):
        app.register_blueprint(blueprint)
    return app


def routes(app: VezaApp) -> list[tuple[str, str]]:
    """Every method and path served, parameters as ``:name``, sorted by path."""
    listed = {
        (method, re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r":\1", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    return sorted(listed, key=lambda route: (route[1], route[0]))
