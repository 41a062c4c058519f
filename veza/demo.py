"""``veza demo``: a serving platform with money that is not real, for a first look.

Three processes: the sandbox providers, the server, and this one, which starts the others, makes the demo accounts
through the public API as anyone would, prints a tour and waits. Everything is kept in the data directory, so the next
run goes on where this one stopped.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import trio

from veza.actors.core.crash import only
from veza.sandboxes import Ports
from veza.settings import Settings

READY_SECONDS = 60.0  # the first start creates a database cluster; on a slow disk that takes a while
STOP_SECONDS = 26.0  # one more than the server takes at the longest
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Account:
    name: str
    email: str
    password: str


# Known to anyone who reads this, which is why the demo listens on loopback only.
SELLER = Account("demo-seller", "seller@demo.veza.example", "demo-seller-1")
BUYER = Account("demo-buyer", "buyer@demo.veza.example", "demo-buyer-1")
ADMIN = Account("demo-admin", "admin@demo.veza.example", "demo-admin-1")


class DemoError(Exception):
    """The demo could not be set up; the message says what to do."""


def demo(settings: Settings, ports: Ports) -> None:
    """Run the demo until Ctrl-C or SIGTERM. Raises DemoError where it must not or cannot run."""
    if settings.production:
        raise DemoError("the demo does not run with ENVIRONMENT=production")
    if settings.host not in LOOPBACK:
        raise DemoError("the demo's passwords are public: it listens on loopback only")
    trio.run(_run, settings, ports)


async def _run(settings: Settings, ports: Ports) -> None:
    try:
        await _present(settings, ports)
    except* subprocess.CalledProcessError:
        raise DemoError("one of the demo's processes ended by itself; what it said is above") from None
    except* httpx.HTTPError as failed:
        raise DemoError(f"the demo's accounts could not be made: {only(failed)}") from None


async def _present(settings: Settings, ports: Ports) -> None:
    environment = demo_environment(settings, ports)
    base = f"http://{settings.host}:{settings.port}"
    for host, port in ((settings.host, settings.port), ("127.0.0.1", ports.stripe), ("127.0.0.1", ports.hyperswitch)):
        _check_free(host, port)
    print("Starting a database, the sandbox's providers and the server ...", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_on_signal, nursery.cancel_scope)
        await _start(
            nursery, environment, "sandbox", f"--stripe-port={ports.stripe}", f"--hyperswitch-port={ports.hyperswitch}"
        )
        await _answering(f"http://127.0.0.1:{ports.stripe}/sandbox")
        await _answering(f"http://127.0.0.1:{ports.hyperswitch}/sandbox")
        await _start(nursery, environment, "serve")
        await _answering(f"{base}/readyz")
        async with httpx.AsyncClient(base_url=f"{base}/api/v1") as client:
            await seed(client)
        print(tour(base, ports), flush=True)


def demo_environment(settings: Settings, ports: Ports) -> dict[str, str]:
    """What the two child processes run with: this environment, and the sandbox's addresses and keys."""
    keys = _kept_keys(settings.veza_data_dir / "secrets" / "demo")
    return os.environ | {
        "STRIPE_API_BASE": f"http://127.0.0.1:{ports.stripe}",
        "HYPERSWITCH_BASE_URL": f"http://127.0.0.1:{ports.hyperswitch}",
        "STRIPE_SECRET_KEY": f"sk_test_{keys[0]}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{keys[1]}",
        "HYPERSWITCH_API_KEY": f"snd_{keys[2]}",
        "HYPERSWITCH_PUBLISHABLE_KEY": f"pk_snd_{keys[3]}",
        "HYPERSWITCH_WEBHOOK_SECRET": keys[4],
        "ADMIN_EMAIL": ADMIN.email,
        "ADMIN_PASSWORD": ADMIN.password,
    }


def _kept_keys(path: Path) -> list[str]:
    """Five keys, made at the first run: the sandbox remembers what was done with them."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("\n".join(secrets.token_hex(24) for _ in range(5)))
    return path.read_text().split()


def _check_free(host: str, port: int) -> None:
    """Or what already answers there would be taken for the demo."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise DemoError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; is another demo running?"
        ) from None


async def _start(nursery: trio.Nursery, environment: dict[str, str], *arguments: str) -> None:
    run = partial(
        trio.run_process,
        [sys.executable, "-m", "veza", *arguments],
        env=environment,
        deliver_cancel=_terminate,
        # A session of its own: Ctrl-C comes to us alone, and we end the children in order.
        start_new_session=True,
    )
    await nursery.start(run)


async def _terminate(process: trio.Process) -> None:
    process.terminate()
    with trio.move_on_after(STOP_SECONDS, shield=True):
        await process.wait()
    process.kill()


async def _leave_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


async def _answering(url: str) -> None:
    """Wait until a URL answers with success."""
    async with httpx.AsyncClient() as client:
        with trio.move_on_after(READY_SECONDS):
            while True:
                try:
                    if (await client.get(url)).is_success:
                        return
                except httpx.TransportError:
                    pass  # not listening yet
                await trio.sleep(0.1)
    raise DemoError(f"{urlsplit(url).netloc} did not answer within {READY_SECONDS:g} s")


async def seed(client: httpx.AsyncClient) -> None:
    """The demo's accounts, and a seller who can be paid. Done again, it changes nothing."""
    await _token(client, BUYER)
    seller = {"Authorization": f"Bearer {await _token(client, SELLER)}"}
    status = (await client.get("/sell/connect/status", headers=seller)).raise_for_status().json()["data"]
    if status["transfers_active"]:
        return
    link = (await client.post("/sell/connect/onboard", headers=seller)).raise_for_status().json()["data"]
    await client.post(link["onboarding_url"], follow_redirects=True)


async def _token(client: httpx.AsyncClient, account: Account) -> str:
    """Signed in, registered first if need be."""
    answer = await client.post("/auth/login", json={"email": account.email, "password": account.password})
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        body = {"username": account.name, "email": account.email, "password": account.password}
        answer = await client.post("/auth/register", json=body)
    token: str = answer.raise_for_status().json()["data"]["access_token"]
    return token


def tour(base: str, ports: Ports) -> str:
    """What to try first, for someone with a shell and curl."""
    rows = "\n".join(f"  {a.name:<12} {a.email:<26} {a.password}" for a in (SELLER, BUYER, ADMIN))
    return f"""
Veza serves on {base}

{rows}

A whole sale is in README.md, "A tour". To begin with:

  curl -s {base}/openapi.json
  curl -s {base}/api/v1/marketplace/products
  curl -s {base}/api/v1/auth/login -H 'Content-Type: application/json' \\
       -d '{{"email":"{SELLER.email}","password":"{SELLER.password}"}}'

The sandbox's Stripe is on 127.0.0.1:{ports.stripe}, its Hyperswitch on 127.0.0.1:{ports.hyperswitch}.
Ctrl-C ends it all.
"""
