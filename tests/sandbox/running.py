"""Both stand-ins as real HTTP servers in the test's own nursery, and the clients tests talk to them with."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import stripe
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework
from quart import request
from quart_trio import QuartTrio

from veza.sandbox.config import SandboxConfig
from veza.sandbox.hyperswitch import hyperswitch_app
from veza.sandbox.stripe import stripe_app

STRIPE_KEY = "sk_test_veza_sandbox"
STRIPE_WEBHOOK_SECRET = "whsec_sandbox"
HYPERSWITCH_KEY = "dev_veza_sandbox"
HYPERSWITCH_WEBHOOK_SECRET = "response_hash_key"
# The stripe package hands httpx its form as text under `data`, which httpx would rather have under `content`.
STRIPE_WARNING = "ignore:Use 'content=<:DeprecationWarning"
# Everything here is plain HTTP on loopback; loading the certificates of the world takes 40 ms a client.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
QUICK_BACKOFF = (0.02,)  # seconds; a test waits for a retry, not for a day


@dataclass(frozen=True)
class Running:
    """What a test needs of the running sandbox. `stripe_control` and `hyperswitch_control` reach ``/sandbox/...``."""

    config: SandboxConfig
    stripe_url: str
    hyperswitch_url: str
    stripe_control: Control
    hyperswitch_control: Control
    _opened: list[stripe.HTTPXClient]

    def stripe_client(self, *, key: str = STRIPE_KEY, timeout: float = 5) -> stripe.StripeClient:
        """The real package's client, set up as Veza's gateway sets it up; closed with the sandbox."""
        http = stripe.HTTPXClient(timeout=timeout, verify_ssl_certs=False)
        self._opened.append(http)
        return stripe.StripeClient(
            key, base_addresses={"api": self.stripe_url}, http_client=http, max_network_retries=0
        )

    def hyperswitch_client(self, *, key: str = HYPERSWITCH_KEY, timeout: float = 5) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.hyperswitch_url, headers={"api-key": key}, timeout=timeout, verify=NO_CERTIFICATES
        )


@dataclass(frozen=True)
class Control:
    """The control API of one stand-in."""

    url: str
    _client: httpx.AsyncClient

    async def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = await self._client.request(method, f"{self.url}/sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def fault(
        self,
        kind: str,
        *,
        times: int | None = 1,
        seconds: float | None = None,
        **match: object,
    ) -> int:
        spec = {"kind": kind, "match": match, "times": times, "seconds": seconds}
        added = await self.call("POST", "faults", spec)
        return int(added["faults"][0]["id"])

    async def release(self, fault_id: int) -> None:
        await self.call("POST", f"faults/{fault_id}/release")

    async def faults(self) -> list[dict[str, Any]]:
        return list((await self.call("GET", "faults"))["faults"])

    async def wait_hanging(self, fault_id: int, many: int = 1) -> None:
        """Until that many requests hang in the fault."""
        with trio.fail_after(5):
            while True:
                if any(fault["id"] == fault_id and fault["waiting"] >= many for fault in await self.faults()):
                    return
                await trio.lowlevel.checkpoint()

    async def requests(self, **wanted: str) -> list[dict[str, Any]]:
        query = str(httpx.QueryParams(wanted))
        return list((await self.call("GET", f"requests?{query}"))["requests"])

    async def deliveries(self) -> list[dict[str, Any]]:
        return list((await self.call("GET", "webhooks"))["deliveries"])

    async def account(self, **wish: object) -> str:
        """A connected account of the Stripe stand-in, onboarded unless told otherwise."""
        return str((await self.call("POST", "accounts", wish))["id"])


async def pay_out(
    client: stripe.StripeClient,
    destination: str,
    *,
    amount: int = 2699,
    currency: str = "eur",
    group: str = "transfer-1",
    key: str | None = None,
) -> stripe.Transfer:
    """A transfer as Veza's payouts make it; without a key the stripe package makes one up."""
    return await client.v1.transfers.create_async(
        {
            "amount": amount,
            "currency": currency,
            "destination": destination,
            "transfer_group": group,
            "metadata": {"transfer_id": group},
        },
        {"idempotency_key": key} if key is not None else {},
    )


def config_in(state_dir: Path) -> SandboxConfig:
    return SandboxConfig(
        state_dir=state_dir,
        stripe_secret_key=STRIPE_KEY,
        stripe_webhook_secret=STRIPE_WEBHOOK_SECRET,
        hyperswitch_api_key=HYPERSWITCH_KEY,
        hyperswitch_webhook_secret=HYPERSWITCH_WEBHOOK_SECRET,
        webhook_backoff=QUICK_BACKOFF,
    )


@asynccontextmanager
async def running_sandbox(state_dir: Path, **changes: Any) -> AsyncIterator[Running]:
    """Both stand-ins on ephemeral loopback ports until the block is left. `changes` are fields of `SandboxConfig`."""
    config = replace(config_in(state_dir), **changes)
    stop, opened = trio.Event(), list[stripe.HTTPXClient]()
    async with trio.open_nursery() as nursery, httpx.AsyncClient(timeout=5, verify=NO_CERTIFICATES) as client:
        stripe_url = await listen(nursery, stripe_app(config), stop)
        hyperswitch_url = await listen(nursery, hyperswitch_app(config), stop)
        try:
            controls = Control(stripe_url, client), Control(hyperswitch_url, client)
            yield Running(config, stripe_url, hyperswitch_url, *controls, opened)
        finally:
            stop.set()
            with trio.CancelScope(shield=True):
                for http in opened:
                    await close(http)


async def close(http: stripe.HTTPXClient) -> None:
    closing: Callable[[], Awaitable[None]] = http.close_async  # untyped in the package
    await closing()


async def listen(nursery: trio.Nursery, app: ASGIFramework, stop: trio.Event) -> str:
    """Serve an app on an ephemeral loopback port until `stop`; answers its URL."""
    server = Config()
    server.bind = ["127.0.0.1:0"]
    server.graceful_timeout = 0.1  # a test leaves requests hanging on purpose
    server.errorlog = None
    binds: Sequence[str] = await nursery.start(functools.partial(serve, app, server, shutdown_trigger=stop.wait))
    return str(binds[0])


@dataclass
class Received:
    body: bytes
    headers: dict[str, str]


@dataclass
class Receiver:
    """A webhook endpoint: it answers with `statuses` in turn, and 200 once they are used up."""

    statuses: list[int] = field(default_factory=list)
    got: list[Received] = field(default_factory=list)
    url: str = ""

    async def wait_for(self, many: int) -> list[Received]:
        with trio.fail_after(5):
            while len(self.got) < many:
                await trio.lowlevel.checkpoint()
        return self.got

    async def take(self) -> tuple[str, int]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Received(await request.body, headers))
        return "", self.statuses.pop(0) if self.statuses else 200


@asynccontextmanager
async def receiving(statuses: list[int] | None = None) -> AsyncIterator[Receiver]:
    """A webhook endpoint on an ephemeral port; its URL is to be given to the sender."""
    receiver, stop, app = Receiver(statuses or []), trio.Event(), QuartTrio("receiver")
    app.add_url_rule("/hook", methods=["POST"], view_func=receiver.take)
    async with trio.open_nursery() as nursery:
        receiver.url = f"{await listen(nursery, app, stop)}/hook"
        try:
            yield receiver
        finally:
            stop.set()
