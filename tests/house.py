"""The whole house in this process: the real composition, over a real database and real sandbox providers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx
import trio
from pydantic import SecretStr

from tests.sandbox.running import NO_CERTIFICATES, Running, running_sandbox
from veza import serve
from veza.settings import Settings

ADMIN_EMAIL = "admin@veza.example"
PASSWORD = "correct-horse-1"


@dataclass(frozen=True)
class Account:
    id: str
    token: str
    refresh_token: str


@dataclass
class House:
    """A running house. Paths are under ``/api/v1``; an account or its token signs a request."""

    url: str
    dsn: str
    settings: Settings
    sandbox: Running
    http: httpx.AsyncClient
    leave: trio.Event
    accounts: dict[str, Account] = field(default_factory=dict)

    async def request(
        self,
        method: str,
        path: str,
        by: Account | str | None = None,
        headers: Mapping[str, str] | None = None,
        **rest: Any,
    ) -> httpx.Response:
        sent = dict(headers or {})
        if by is not None:
            sent["Authorization"] = f"Bearer {by.token if isinstance(by, Account) else by}"
        return await self.http.request(method, path, headers=sent, **rest)

    async def get(self, path: str, by: Account | str | None = None, **rest: Any) -> httpx.Response:
        return await self.request("GET", path, by, **rest)

    async def post(self, path: str, by: Account | str | None = None, **rest: Any) -> httpx.Response:
        return await self.request("POST", path, by, **rest)

    async def put(self, path: str, by: Account | str | None = None, **rest: Any) -> httpx.Response:
        return await self.request("PUT", path, by, **rest)

    async def delete(self, path: str, by: Account | str | None = None, **rest: Any) -> httpx.Response:
        return await self.request("DELETE", path, by, **rest)

    async def sign_up(self, name: str) -> Account:
        body = {"username": name, "email": f"{name}@veza.example", "password": PASSWORD}
        return self._account(await self.post("/auth/register", json=body))

    async def admin(self) -> Account:
        return self._account(await self.post("/auth/login", json={"email": ADMIN_EMAIL, "password": PASSWORD}))

    def _account(self, answer: httpx.Response) -> Account:
        data = answer.raise_for_status().json()["data"]
        return Account(data["user"]["id"], data["access_token"], data["refresh_token"])

    async def until(self, path: str, by: Account | None, holds: Any) -> Any:
        """The ``data`` of a GET as soon as it satisfies ``holds``; the caller's ``fail_after`` bounds the wait."""
        while True:
            data = (await self.get(path, by)).raise_for_status().json()["data"]
            if holds(data):
                return data
            await trio.sleep(0.02)  # polling over HTTP, as a client would; the condition is what is waited for


PORTS = range(10_081, 32_000)  # below those that the kernel gives to whoever connects; to 10080 no browser goes

PICK = SystemRandom()  # several processes of tests pick at the same time


def free_port() -> int:
    """A port nobody listens on."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port := PICK.choice(PORTS)))
            return port


QUICK = serve.ShutdownPlan(notice=0, drain=2, actors=2)


@asynccontextmanager
async def running_house(dsn: str, tmp_path: Path, **settings: Any) -> AsyncIterator[House]:
    """A house over ``dsn``, with its own sandbox; keyword arguments override its settings."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with running_sandbox(
        tmp_path / "sandbox",
        stripe_webhook_url=f"{url}/api/v1/webhooks/stripe",
        hyperswitch_webhook_url=f"{url}/api/v1/webhooks/hyperswitch",
    ) as sandbox:
        chosen = Settings(
            **{
                "_env_file": None,
                "host": "127.0.0.1",
                "port": port,
                "app_domain": url,
                "veza_data_dir": tmp_path / "var",
                "jwt_secret": SecretStr("jwt-of-the-tests-" + "j" * 20),
                "stream_key_secret": SecretStr("stream-keys-of-the-tests-" + "s" * 20),
                "rate_limit_enabled": False,  # a test is everybody at one address
                "admin_email": ADMIN_EMAIL,
                "admin_password": SecretStr(PASSWORD),
                "hyperswitch_base_url": sandbox.hyperswitch_url,
                "hyperswitch_api_key": SecretStr(sandbox.config.hyperswitch_api_key),
                "hyperswitch_publishable_key": "pk_snd_test",
                "hyperswitch_webhook_secret": SecretStr(sandbox.config.hyperswitch_webhook_secret),
                "stripe_api_base": sandbox.stripe_url,
                "stripe_secret_key": SecretStr(sandbox.config.stripe_secret_key),
                "stripe_webhook_secret": SecretStr(sandbox.config.stripe_webhook_secret),
                **settings,
            }
        )
        chosen.veza_data_dir.mkdir(exist_ok=True)
        leave = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve.run, chosen, dsn, plan=QUICK, leave=leave))
            async with httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=20, verify=NO_CERTIFICATES) as client:
                yield House(url, dsn, chosen, sandbox, client, leave)
            leave.set()
