"""A stand-in for Hyperswitch: payments, sync, confirm, cancel, refunds, disputes, signed webhooks.

JSON requests under the ``api-key`` header; a payment is idempotent on its ``payment_id``, a refund on its
``refund_id``. The control API is described in `veza.sandbox.control`; beside it:

- ``POST /sandbox/payments/:id/pay`` lets a payment succeed, ``/fail`` fails it, ``/process`` leaves it processing,
  ``/expire`` expires it. The body is optional. With ``{"noticed": false}`` only the connector knows, and Hyperswitch
  says ``processing`` until ``force_sync`` asks; ``{"webhook": false}`` changes the status and sends nothing;
  ``amount`` and ``currency`` let the payer have paid something else; ``{"force": true}`` revives a payment that is
  over already;
- ``POST /sandbox/refunds/:id/succeed`` and ``/fail`` settle a refund that a ``refund_pending`` or ``refund_review``
  fault left open; with ``{"webhook": false}`` nothing is sent, and only who asks finds out;
- ``POST /sandbox/payments/:id/dispute`` and ``/sandbox/disputes/:id/...`` open and move a dispute: see
  `veza.sandbox.hyperswitch_disputes`;
- ``GET /sandbox/pay/:id?client_secret=`` is a page with two buttons.
"""

from __future__ import annotations

import hmac
import html
from collections.abc import Mapping
from dataclasses import replace
from sqlite3 import Row
from urllib.parse import urlencode

from quart import Response, redirect, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from veza.sandbox.config import SandboxConfig
from veza.sandbox.connection import SandboxApp
from veza.sandbox.control import Answer, add_control, not_found, run_beside, sent
from veza.sandbox.desk import Call, Desk, Endpoint, Provider, Refused, Reply
from veza.sandbox.faults import NETWORK, REFUND_OUTCOMES, Fault
from veza.sandbox.hyperswitch_book import SCHEMA, PaymentBook
from veza.sandbox.hyperswitch_disputes import Disputes, add_disputing
from veza.sandbox.hyperswitch_errors import error, server_error, unauthorized
from veza.sandbox.hyperswitch_payments import CANCELLABLE, Payments
from veza.sandbox.store import Object, Store, object_of
from veza.sandbox.webhooks import Outbox, hyperswitch_signer

KINDS = (NETWORK - {"400", "403", "409"}) | {"500", "500_committed"} | REFUND_OUTCOMES
STATUS_OF = {"pay": "succeeded", "fail": "failed", "process": "processing", "expire": "expired"}
REFUND_STATUS_OF = {"succeed": "succeeded", "fail": "failed"}


class HyperswitchProvider(Provider):
    def __init__(self, store: Store, config: SandboxConfig) -> None:
        super().__init__(store, KINDS)
        self._config = config

    def parse(self, method: str, path: str, body: bytes, query: Mapping[str, str], headers: Mapping[str, str]) -> Call:
        try:
            params = object_of(body) if body.strip() else {}
        except ValueError as bad:
            raise Refused(error(400, "IR_06", f"Json deserialize error: {bad}"), begun=False) from None
        given = headers.get("api-key", "")
        trusted = hmac.compare_digest(given.encode(), self._config.hyperswitch_api_key.encode())
        if not trusted and not self._is_client(given, params, query):
            raise Refused(unauthorized(), begun=False)
        base = self._config.hyperswitch_public_url or f"http://{headers.get('host', '127.0.0.1')}"
        return Call(method=method, path=path, params=params, query=query, body=body, base_url=base, trusted=trusted)

    def _is_client(self, given: str, params: Object, query: Mapping[str, str]) -> bool:
        """A buyer's client: it holds a payment's client secret, and the publishable key where one is set."""
        publishable = self._config.hyperswitch_publishable_key
        return ("client_secret" in params or "client_secret" in query) and publishable in (None, given)

    def scripted(self, kind: str, call: Call) -> Reply:
        replies = {
            "401": unauthorized(),
            "429": error(429, "HE_00", "Too many requests"),
            "503": error(503, "HE_00", "The service is unavailable", kind="api"),
            "500": server_error(),
            "500_committed": server_error(),
            "garbage": Reply(200, b"<html>not what you asked for</html>", content_type="text/html"),
        }
        return replies[kind]

    def execute(self, call: Call, endpoint: Endpoint, subject: str, fault: Fault | None) -> Reply:
        kind = None if fault is None else fault.kind
        if kind == "500":
            return server_error()
        try:
            with self.store.transaction():
                reply = endpoint(replace(call, outcome=kind if kind in REFUND_OUTCOMES else None), subject)
        except Refused as refused:
            return refused.reply
        return server_error() if kind == "500_committed" else reply


def hyperswitch_app(config: SandboxConfig) -> QuartTrio:
    """The Hyperswitch stand-in as an app for Hypercorn on trio. Its state is ``hyperswitch.sqlite3``."""
    app = SandboxApp("hyperswitch")
    store = Store(config.state_dir / "hyperswitch.sqlite3", SCHEMA)
    outbox = Outbox(store, config.hyperswitch_webhook_url, config.webhook_backoff, config.webhook_retry_for)
    book = PaymentBook(store, outbox)
    provider = HyperswitchProvider(store, config)
    desk = Desk(app, provider, outbox.ring)
    disputes = Disputes(store, book)
    add_routes(app, desk, Payments(store, book), disputes)
    add_paying(app, store, book, outbox)
    add_disputing(app, disputes, outbox)
    add_pay_page(app, book)
    add_control(app, provider.faults, desk, outbox)
    signer = hyperswitch_signer(config.hyperswitch_webhook_secret)
    run_beside(app, lambda: app.nursery.start_soon(outbox.deliver_forever, signer), store.close)
    return app


def add_routes(app: QuartTrio, desk: Desk, payments: Payments, disputes: Disputes) -> None:
    routes: tuple[tuple[str, str, Endpoint], ...] = (
        ("POST", "/payments", payments.create),
        ("GET", "/payments/<subject>", payments.retrieve),
        ("POST", "/payments/<subject>/confirm", payments.confirm),
        ("POST", "/payments/<subject>/cancel", payments.cancel),
        ("POST", "/refunds", payments.create_refund),
        ("GET", "/refunds/<subject>", payments.retrieve_refund),
        ("GET", "/disputes/<subject>", disputes.retrieve),
    )
    for method, rule, endpoint in routes:
        app.add_url_rule(rule, endpoint=f"{method} {rule}", methods=[method], view_func=desk.view(endpoint))

    @app.errorhandler(404)
    async def unrecognized(_: Exception) -> Response:
        return Response(error(404, "IR_02", "Unrecognized request URL").body, 404, content_type="application/json")

    @app.errorhandler(405)
    async def not_applicable(_: Exception) -> Response:
        body = error(405, "IR_03", "The HTTP method is not applicable for this API").body
        return Response(body, 405, content_type="application/json")


def add_paying(app: QuartTrio, store: Store, book: PaymentBook, outbox: Outbox) -> None:
    @app.post("/sandbox/payments/<payment_id>/<action>")
    async def act_as_payer(payment_id: str, action: str) -> ResponseReturnValue:
        options, row = await sent(), book.payment(payment_id)
        if row is None or action not in STATUS_OF:
            return not_found("payment or action")
        if row["status"] not in CANCELLABLE and options.get("force") is not True:
            return {"error": f"the payment is {row['status']}"}, 409
        with store.transaction():
            change(store, book, row, STATUS_OF[action], options)
        outbox.ring()
        if row["return_url"] and (await request.form).get("browser"):
            paid = book.payment_object(payment_id)
            query = urlencode({"payment_id": payment_id, "status": str(paid["status"])})
            return redirect(f"{row['return_url']}{'&' if '?' in row['return_url'] else '?'}{query}", 303)
        return book.payment_object(payment_id), 200

    @app.post("/sandbox/refunds/<refund_id>/<action>")
    async def settle_refund(refund_id: str, action: str) -> Answer:
        options, row = await sent(), book.refund(refund_id)
        if row is None or action not in REFUND_STATUS_OF:
            return not_found("refund or action")
        if row["status"] not in ("pending", "review"):
            return {"error": f"the refund is {row['status']}"}, 409
        with store.transaction():
            book.settle_refund(row, REFUND_STATUS_OF[action], webhook=options.get("webhook", True) is True)
        outbox.ring()
        return book.refund_object(refund_id), 200


def change(store: Store, book: PaymentBook, row: Row, status: str, options: Object) -> None:
    amount, money = options.get("amount"), options.get("currency")
    store.run(
        "update payments set status = 'processing', truth = ?, amount = ?, currency = ? where payment_id = ?",
        status,
        amount if isinstance(amount, int) else row["amount"],
        money if isinstance(money, str) else row["currency"],
        row["payment_id"],
    )
    if options.get("noticed", True) is True:
        book.settle(row, status, webhook=options.get("webhook", True) is True)


def add_pay_page(app: QuartTrio, book: PaymentBook) -> None:
    @app.get("/sandbox/pay/<payment_id>")
    async def pay_page(payment_id: str) -> ResponseReturnValue:
        row = book.payment(payment_id)
        if row is None or not hmac.compare_digest(request.args.get("client_secret", ""), row["client_secret"]):
            return not_found("payment")
        price = html.escape(f"{row['amount'] / 100:.2f} {row['currency']}")
        buttons = "".join(
            f'<form method="post" action="/sandbox/payments/{html.escape(payment_id)}/{action}">'
            f'<input type="hidden" name="browser" value="1"><button>{label}</button></form>'
            for action, label in (("pay", "Pay"), ("fail", "Be declined"))
        )
        return f"<!doctype html><title>Sandbox payment</title><h1>{price}</h1><p>{row['status']}</p>{buttons}"
