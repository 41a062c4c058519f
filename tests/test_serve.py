"""What a serving process says, and what it never does; and the watchdog that ends one that hangs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio

from tests.house import free_port
from tests.processes import SECRETS, Program, answering, production, program, veza
from tests.sandbox.running import Running, running_sandbox
from tests.shop import data
from veza import serve
from veza.gateways.passwords import recommended
from veza.store.errors import DatabaseUnavailable

PASSWORDS = {"seller": "seller-s-password-1", "buyer": "buyer-s-password-1"}
WRONG = "wrong-password-1"
REQUEST_FIELDS = {"method", "route", "status", "duration_ms", "user", "request_id"}


def environment_for(sandbox: Running, dsn: str, directory: Path, port: int) -> dict[str, str]:
    return production(
        dsn,
        directory,
        PORT=port,
        HYPERSWITCH_BASE_URL=sandbox.hyperswitch_url,
        HYPERSWITCH_API_KEY=sandbox.config.hyperswitch_api_key,
        HYPERSWITCH_WEBHOOK_SECRET=sandbox.config.hyperswitch_webhook_secret,
        STRIPE_API_BASE=sandbox.stripe_url,
        STRIPE_SECRET_KEY=sandbox.config.stripe_secret_key,
        STRIPE_WEBHOOK_SECRET=sandbox.config.stripe_webhook_secret,
    )


class Sale:
    """A sale over HTTP that remembers what of it must stay unsaid."""

    def __init__(self, client: httpx.AsyncClient, sandbox: Running) -> None:
        self.client = client
        self.sandbox = sandbox
        self.requests = 0
        self.unsaid = {*PASSWORDS.values(), WRONG}

    async def ask(self, method: str, path: str, token: str = "", **rest: Any) -> httpx.Response:
        self.requests += 1
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers["X-Request-ID"] = f"sale-{self.requests}"
        return await self.client.request(method, path, headers=headers, **rest)

    async def sign_up(self, name: str) -> str:
        """Registered, then signed in and refreshed; the token that now holds."""
        who = {"username": name, "email": f"{name}@veza.example", "password": PASSWORDS[name]}
        registered = data(await self.ask("POST", "/auth/register", json=who))
        bad = await self.ask("POST", "/auth/login", json={"email": who["email"], "password": WRONG})
        assert bad.status_code == 401
        del who["username"]
        signed_in = data(await self.ask("POST", "/auth/login", json=who))
        refreshed = data(await self.ask("POST", "/auth/refresh", json={"refresh_token": signed_in["refresh_token"]}))
        for tokens in (registered, signed_in, refreshed):
            self.unsaid |= {tokens["access_token"], tokens["refresh_token"]}
        token: str = refreshed["access_token"]
        return token

    async def run(self) -> None:
        seller, buyer = await self.sign_up("seller"), await self.sign_up("buyer")
        product = data(
            await self.ask("POST", "/marketplace/products", seller, json={"title": "A track", "price_cents": 2999})
        )
        path = f"/marketplace/products/{product['id']}"
        data(await self.ask("POST", f"{path}/files", seller, files={"file": ("t.wav", b"bytes", "audio/wav")}))
        data(await self.ask("PUT", path, seller, json={"status": "published"}))
        items = {"items": [{"product_id": product["id"], "quantity": 1}]}
        order = data(await self.ask("POST", "/marketplace/orders", buyer, json=items))
        self.unsaid.add(order["payment"]["client_secret"])
        forged = await self.ask("POST", "/webhooks/hyperswitch", json={"event": "payment.succeeded"})
        assert forged.status_code == 401
        await self.sandbox.hyperswitch_control.call("POST", f"payments/{order['payment']['payment_id']}/pay", {})
        await self.until_paid(order["id"], buyer)

    async def until_paid(self, order_id: str, buyer: str) -> None:
        while True:
            if data(await self.ask("GET", f"/marketplace/orders/{order_id}", buyer))["status"] == "paid":
                return
            await trio.sleep(0.1)  # as a client would; the webhook is on its way


async def left(started: Program) -> None:
    started.terminate()
    assert await started.ended() == 0


@pytest.mark.slow
async def test_a_sale_in_production_is_told_in_json_a_line_a_request_and_without_a_secret(
    dsn: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    hook = f"{url}/api/v1/webhooks/hyperswitch"
    with trio.fail_after(120):
        async with running_sandbox(tmp_path / "sandbox", hyperswitch_webhook_url=hook) as sandbox:
            environment = environment_for(sandbox, dsn, tmp_path, port) | {"LOG_LEVEL": "debug"}
            async with (
                program(*veza("serve"), environment=environment, cwd=tmp_path) as started,
                httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20) as client,
            ):
                await answering(f"{url}/healthz", started)
                sale = Sale(client, sandbox)
                await sale.run()
                await left(started)
    for line in started.lines:
        json.loads(line)
    everything = "\n".join(started.lines)
    keys = {environment[name] for name in SECRETS} | {environment["HYPERSWITCH_PUBLISHABLE_KEY"]}
    assert {secret for secret in sale.unsaid | keys if secret in everything} == set()
    requests = [line for line in started.logged("request") if line["request_id"].startswith("sale-")]
    assert sorted(line["request_id"] for line in requests) == sorted(f"sale-{n + 1}" for n in range(sale.requests))
    assert all(line.keys() >= REQUEST_FIELDS for line in requests)
    paid = [line for line in started.logged("request") if line["route"] == "/api/v1/webhooks/hyperswitch"]
    assert {(line["method"], line["status"]) for line in paid} == {("POST", 401), ("POST", 200)}
    signed_in = [line for line in requests if line["route"] == "/api/v1/marketplace/orders"]
    assert [(line["method"], line["status"]) for line in signed_in] == [("POST", 201)]
    assert all(line["user"] and line["duration_ms"] > 0 for line in signed_in)
    assert started.logged("order_paid")
    with psycopg.connect(dsn) as connection:
        kept = [str(text) for (text,) in connection.execute("SELECT password_hash FROM users")]
    costly = recommended()
    assert [costly.check_needs_rehash(each) for each in kept] == [False] * 3  # the first admin's and theirs


def test_the_watchdog_says_what_hangs_and_ends_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    ended, statuses = threading.Event(), list[int]()

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    with serve.watchdog(0.01, end):
        assert ended.wait(5)
    assert statuses == [1]
    assert "test_the_watchdog_says_what_hangs" in capfd.readouterr().err  # where the main thread stands


def test_the_watchdog_lets_what_is_in_time_go() -> None:
    statuses = list[int]()
    before = threading.active_count()
    with serve.watchdog(60, statuses.append):
        assert threading.active_count() == before + 1
    with serve.watchdog(None, statuses.append):
        pass
    assert statuses == []


def test_the_plan_leaves_time_before_the_platforms_kill() -> None:
    plan = serve.ShutdownPlan()
    assert plan.notice + plan.drain + plan.actors + 2 <= plan.watchdog < 25  # two for the pool


def test_a_migrated_database_is_not_waited_for_and_another_is_told_of(dsn: str) -> None:
    serve.await_migrations(dsn, seconds=0)
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0006%'")
    with pytest.raises(DatabaseUnavailable, match="lacks 0006_audit: run `veza migrate`"):
        serve.await_migrations(dsn, seconds=0)
