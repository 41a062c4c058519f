"""A stand-in for Stripe Connect: accounts, onboarding links, transfers, reversals, balances, webhooks.

Form-encoded requests, bearer keys, error bodies and idempotency as the real API has them (`payments.md` in the
design names what of it matters to a payout). The control API is described in `veza.sandbox.control`; beside it:

- ``POST /sandbox/accounts`` makes an account, onboarded unless ``{"onboarded": false}``;
- ``POST /sandbox/accounts/:id`` with ``{"transfers": "active|inactive|pending", "revoked": bool}`` changes one and
  sends ``account.updated``;
- ``POST /sandbox/balance`` with ``{"currency", "available", "pending", "account"?, "event"?}`` sets a balance, the
  platform's unless an account is named, and sends ``balance.available`` unless ``event`` is false;
- ``GET /sandbox/onboarding/:token`` is the page an account link leads to, ``POST`` completes it.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import time
from collections.abc import Mapping

from quart import Response, redirect
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from veza.sandbox.config import SandboxConfig
from veza.sandbox.connection import SandboxApp
from veza.sandbox.control import Answer, add_control, run_beside, sent
from veza.sandbox.desk import Call, Desk, Endpoint, Provider, Refused, Reply, new_id
from veza.sandbox.faults import NETWORK, REFUSALS, Fault
from veza.sandbox.store import Object, Store
from veza.sandbox.stripe_accounts import Accounts, requested_capabilities
from veza.sandbox.stripe_book import API_VERSION, PLATFORM, SCHEMA, StripeBook
from veza.sandbox.stripe_errors import (
    account_invalid,
    balance_insufficient,
    error,
    insufficient_capabilities,
    key_in_use,
    key_with_other_parameters,
    no_such,
    not_permitted,
    rate_limited,
    server_error,
    unauthorized,
    unavailable,
)
from veza.sandbox.stripe_params import nest, parse_form
from veza.sandbox.stripe_transfers import Transfers
from veza.sandbox.webhooks import Outbox, stripe_signer

LONGEST_KEY = 255  # characters, Stripe's limit


class StripeProvider(Provider):
    def __init__(self, store: Store, config: SandboxConfig) -> None:
        super().__init__(store, NETWORK | REFUSALS)
        self._config = config
        self._in_flight: set[str] = set()

    def parse(self, method: str, path: str, body: bytes, query: Mapping[str, str], headers: Mapping[str, str]) -> Call:
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode(), self._config.stripe_secret_key.encode()):
            raise Refused(with_headers(unauthorized(given), new_id("req_", 14)), begun=False)
        key = headers.get("idempotency-key") if method == "POST" else None
        try:
            params = parse_form(body.decode()) if method == "POST" else nest(query.items())
            if key is not None and len(key) > LONGEST_KEY:
                raise Refused(error(400, f"An idempotency key has at most {LONGEST_KEY} characters."), begun=False)
        except UnicodeDecodeError:
            raise Refused(error(400, "The body is not UTF-8."), begun=False) from None
        base = self._config.stripe_public_url or f"http://{headers.get('host', '127.0.0.1')}"
        return Call(
            method=method,
            path=path,
            params=params,
            query=query,
            key=key,
            account=headers.get("stripe-account"),
            body=body,
            request_id=new_id("req_", 14),
            base_url=base,
        )

    def scripted(self, kind: str, call: Call) -> Reply:
        named = str(call.params.get("destination", "acct_unknown"))
        replies = {
            "400": no_such("destination", named, "destination", 400),
            "401": unauthorized("sk_test_"),
            "403": not_permitted(),
            "409": key_in_use(call.key),
            "429": rate_limited(),
            "503": unavailable(),
            "500": server_error(),
            "500_committed": server_error(),
            "balance_insufficient": balance_insufficient(),
            "account_unknown": no_such("destination", named, "destination", 400),
            "account_invalid": account_invalid(named),
            "insufficient_capabilities": insufficient_capabilities(),
            "garbage": Reply(200, b"<html>not what you asked for</html>", content_type="text/html"),
        }
        return with_headers(replies[kind], call.request_id, call.key)

    def execute(self, call: Call, endpoint: Endpoint, subject: str, fault: Fault | None) -> Reply:
        """Effect, events and the stored answer are one transaction: a kill leaves all of them or none."""
        try:
            with self.store.transaction():
                reply = self._outcome(call, endpoint, subject, fault)
                self._keep(call, reply)
        except Refused as refused:
            reply = refused.reply
            if refused.begun:
                with self.store.transaction():
                    self._keep(call, reply)
        return with_headers(reply, call.request_id, call.key)

    def _outcome(self, call: Call, endpoint: Endpoint, subject: str, fault: Fault | None) -> Reply:
        if fault is None:
            return endpoint(call, subject)
        if fault.kind == "500_committed":
            endpoint(call, subject)
        return self.scripted(fault.kind, call)

    def _keep(self, call: Call, reply: Reply) -> None:
        if call.key is None:
            return
        self.store.insert(
            "idempotency",
            {
                "key": call.key,
                "fingerprint": fingerprint(call),
                "status": reply.status,
                "body": reply.body,
                "request_id": call.request_id,
                "created": time.time(),
            },
        )

    def replays(self, call: Call) -> bool:
        return call.key is not None and self.store.row("select 1 from idempotency where key = ?", call.key) is not None

    def claim(self, call: Call) -> Reply | None:
        if call.key is None:
            return None
        if call.key in self._in_flight:
            return with_headers(key_in_use(call.key), call.request_id, call.key)
        stored = self.store.row("select * from idempotency where key = ?", call.key)
        if stored is None:
            self._in_flight.add(call.key)
            return None
        if stored["fingerprint"] != fingerprint(call):
            return with_headers(key_with_other_parameters(call.key), call.request_id, call.key)
        replayed = Reply(stored["status"], stored["body"])
        return with_headers(
            replayed,
            call.request_id,
            call.key,
            **{"Idempotent-Replayed": "true", "Original-Request": stored["request_id"]},
        )

    def free(self, call: Call) -> None:
        if call.key is not None:
            self._in_flight.discard(call.key)


def fingerprint(call: Call) -> str:
    """What a repeated key must agree in: method, path, account and the exact parameters."""
    parts = (call.method.encode(), call.path.encode(), (call.account or "").encode(), call.body)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def with_headers(reply: Reply, request_id: str, key: str | None = None, **more: str) -> Reply:
    headers = {**reply.headers, "Request-Id": request_id, "Stripe-Version": API_VERSION, **more}
    if key is not None:
        headers["Idempotency-Key"] = key
    return Reply(reply.status, reply.body, headers, reply.content_type)


def stripe_app(config: SandboxConfig) -> QuartTrio:
    """The Stripe stand-in as an app for Hypercorn on trio. Its state is ``stripe.sqlite3`` in the state directory."""
    app = SandboxApp("stripe")
    store = Store(config.state_dir / "stripe.sqlite3", SCHEMA)
    outbox = Outbox(store, config.stripe_webhook_url, config.webhook_backoff, config.webhook_retry_for)
    book = StripeBook(store, outbox, config.platform_float)
    accounts = Accounts(store, book, config.account_link_seconds)
    provider = StripeProvider(store, config)
    desk = Desk(app, provider, outbox.ring)
    add_routes(app, desk, accounts, Transfers(store, book))
    add_onboarding(app, accounts, outbox)
    add_stripe_control(app, store, accounts, book, outbox)
    add_control(app, provider.faults, desk, outbox)
    signer = stripe_signer(config.stripe_webhook_secret)
    run_beside(app, lambda: app.nursery.start_soon(outbox.deliver_forever, signer), store.close)
    return app


def add_routes(app: QuartTrio, desk: Desk, accounts: Accounts, transfers: Transfers) -> None:
    routes: tuple[tuple[str, str, Endpoint], ...] = (
        ("POST", "/v1/accounts", accounts.create),
        ("GET", "/v1/accounts/<subject>", accounts.retrieve),
        ("POST", "/v1/account_links", accounts.create_link),
        ("GET", "/v1/balance", transfers.balance),
        ("POST", "/v1/transfers", transfers.create),
        ("GET", "/v1/transfers", transfers.list),
        ("GET", "/v1/transfers/<subject>", transfers.retrieve),
        ("POST", "/v1/transfers/<subject>", transfers.update),
        ("POST", "/v1/transfers/<subject>/reversals", transfers.reverse),
        ("GET", "/v1/transfers/<subject>/reversals", transfers.list_reversals),
    )
    for method, rule, endpoint in routes:
        name = f"{method} {rule}".replace(".", "_")
        app.add_url_rule(rule, endpoint=name, methods=[method], view_func=desk.view(endpoint))

    @app.errorhandler(404)
    @app.errorhandler(405)
    async def unrecognized(_: Exception) -> Response:
        reply = error(404, "Unrecognized request URL.")
        return Response(reply.body, status=404, content_type="application/json")


def add_onboarding(app: QuartTrio, accounts: Accounts, outbox: Outbox) -> None:
    @app.get("/sandbox/onboarding/<token>")
    async def onboarding_page(token: str) -> ResponseReturnValue:
        found = accounts.link(token)
        if found is None:
            return {"error": "no such link"}, 404
        row, usable = found
        if not usable:
            return redirect(row["refresh_url"], 303)
        account = html.escape(row["account"])
        return (
            f"<!doctype html><title>Sandbox onboarding</title><h1>Sandbox onboarding</h1>"
            f"<p>Account {account}. Nothing is asked here, and no money is real.</p>"
            f'<form method="post"><button>Complete onboarding</button></form>'
        )

    @app.post("/sandbox/onboarding/<token>")
    async def complete_onboarding(token: str) -> ResponseReturnValue:
        target = accounts.complete(token)
        outbox.ring()
        return ({"error": "no such link"}, 404) if target is None else redirect(target, 303)


def add_stripe_control(app: QuartTrio, store: Store, accounts: Accounts, book: StripeBook, outbox: Outbox) -> None:
    @app.post("/sandbox/accounts")
    async def add_account() -> Answer:
        body = await sent()
        tags = body.get("metadata", {})
        with store.transaction():
            row = accounts.add(
                kind=str(body.get("type", "express")),
                country=str(body.get("country", "DE")),
                money=str(body.get("default_currency", "eur")).lower(),
                email=str(body["email"]) if "email" in body else None,
                business_type=None,
                tags=tags if isinstance(tags, dict) else {},
                requested=requested_capabilities({"capabilities": {"transfers": {"requested": "true"}}}),
                onboarded=body.get("onboarded", True) is True,
            )
        return book.account_object(row), 201

    @app.post("/sandbox/accounts/<account_id>")
    async def change_account(account_id: str) -> Answer:
        body = await sent()
        transfers, revoked, submitted = (body.get(name) for name in ("transfers", "revoked", "details_submitted"))
        if book.account(account_id) is None:
            return {"error": "no such account"}, 404
        if transfers not in (None, "active", "inactive", "pending"):
            return {"error": "transfers must be active, inactive or pending"}, 400
        with store.transaction():
            changed = accounts.change(
                account_id,
                transfers=None if transfers is None else str(transfers),
                submitted=submitted if isinstance(submitted, bool) else None,
                revoked=revoked if isinstance(revoked, bool) else None,
            )
        outbox.ring()
        return changed, 200

    @app.post("/sandbox/balance")
    async def set_balance() -> Answer:
        body = await sent()
        money, account = str(body.get("currency", "eur")).lower(), str(body.get("account", PLATFORM))
        available, pending = book.funds(account, money)
        wanted = {"available": body.get("available", available), "pending": body.get("pending", pending)}
        if not all(isinstance(value, int) for value in wanted.values()):
            return {"error": "available and pending are integers in minor units"}, 400
        with store.transaction():
            book.set_funds(account, money, int(str(wanted["available"])), int(str(wanted["pending"])))
            balance: Object = book.balance_object(account)
            if body.get("event", True) is True:
                book.emit("balance.available", balance, None, account or None)
        outbox.ring()
        return balance, 200
