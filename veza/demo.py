"""``veza demo``: a serving platform with money that is not real, for a first look.

Up to four processes: the sandbox providers, nginx with its RTMP module if it is installed, the server, and this one,
which starts the others, makes the demo accounts through the public API as anyone would, prints a tour and waits.
Everything is kept in the data directory, so the next run goes on where this one stopped.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from veza.actors.core.crash import only
from veza.rtmp_server import RtmpServer
from veza.sandboxes import Ports
from veza.settings import Settings

READY_SECONDS = 60.0  # the first start creates a database cluster; on a slow disk that takes a while
STOP_SECONDS = 26.0  # one more than the server takes at the longest
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Json = dict[str, Any]


@dataclass(frozen=True)
class Account:
    name: str
    email: str
    password: str


# Known to anyone who reads this, which is why the demo listens on loopback only.
SELLER = Account("demo-seller", "seller@demo.veza.example", "demo-seller-1")
BUYER = Account("demo-buyer", "buyer@demo.veza.example", "demo-buyer-1")
ADMIN = Account("admin", "admin@demo.veza.example", "demo-admin-1")

STREAM = {
    "title": "Demo stream",
    "description": "A test picture and a tone, from an encoder on this machine.",
    "category": "music",
    "tags": ["demo"],
}


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
    except* httpx.HTTPError as failed:
        raise DemoError(f"the demo's accounts could not be made: {only(failed)}") from None


async def _present(settings: Settings, ports: Ports) -> None:
    base = f"http://{settings.host}:{settings.port}"
    nginx = ingest(settings, ports, base)
    environment = demo_environment(settings, ports) | (nginx.environment if nginx else {})
    _check_all_free(settings, ports, live=nginx is not None)
    print("Starting a database, the sandbox's providers and the server ...", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_on_signal, nursery.cancel_scope)
        stand_ins = _veza("sandbox", f"--stripe-port={ports.stripe}", f"--hyperswitch-port={ports.hyperswitch}")
        await _start(nursery, environment, stand_ins)
        await _answering(f"http://127.0.0.1:{ports.stripe}/sandbox")
        await _answering(f"http://127.0.0.1:{ports.hyperswitch}/sandbox")
        if nginx:
            await _start(nursery, dict(os.environ), nginx.command)
            await _answering(f"http://127.0.0.1:{ports.stat}/stat")
        await _start(nursery, environment, _veza("serve"))
        await _answering(f"{base}/readyz")
        async with httpx.AsyncClient(base_url=f"{base}/api/v1") as client:
            stream = await seed(client)
        print(tour(base, ports, going_live(base, stream) if nginx else WITHOUT_NGINX), flush=True)


@dataclass(frozen=True)
class Ingest:
    """How nginx is started, and what the server is told of it."""

    command: list[str]
    environment: dict[str, str]


def ingest(settings: Settings, ports: Ports, base: str) -> Ingest | None:
    """None where it is not installed."""
    token = settings.ingest_hook_token.get_secret_value()
    rtmp = RtmpServer(
        settings.veza_data_dir / "rtmp",
        rtmp_port=ports.rtmp,
        play_port=ports.play,
        hls_port=ports.hls,
        stat_port=ports.stat,
        hook_url=f"{base}/api/v1/hooks/rtmp/{token}",
    )
    try:
        command = rtmp.command()
    except LookupError:
        return None
    return Ingest(command, rtmp.environment | {"INGEST_SERVER": "nginx-rtmp", "INGEST_HOOK_TOKEN": token})


def demo_environment(settings: Settings, ports: Ports) -> dict[str, str]:
    """What the stand-ins and the server run with: this environment, and the sandbox's addresses and keys."""
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


def _check_all_free(settings: Settings, ports: Ports, *, live: bool) -> None:
    _check_free(settings.host, settings.port)
    for port in (ports.stripe, ports.hyperswitch, *((ports.rtmp, ports.play, ports.hls, ports.stat) if live else ())):
        _check_free("127.0.0.1", port)


def _check_free(host: str, port: int) -> None:
    """Or what already answers there would be taken for the demo."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise DemoError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; is another demo running?"
        ) from None


def _veza(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "veza", *arguments]


async def _start(nursery: trio.Nursery, environment: dict[str, str], command: list[str]) -> None:
    await nursery.start(_run_for_good, command, environment)


async def _run_for_good(
    command: list[str], environment: dict[str, str], *, task_status: trio.TaskStatus[trio.Process]
) -> None:
    """Run a process until we are told to leave. Raises DemoError if it ends before, however well."""
    await trio.run_process(
        command,
        check=False,
        env=environment,
        deliver_cancel=_terminate,
        # A session of its own: Ctrl-C comes to us alone, and we end the children in order.
        start_new_session=True,
        task_status=task_status,
    )
    raise DemoError("one of the demo's processes ended by itself; what it said is above")


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


async def seed(client: httpx.AsyncClient) -> Json:
    """The demo's accounts, a seller who can be paid, and their stream, returned. Done again, it changes nothing."""
    await _token(client, BUYER)
    client.headers["Authorization"] = f"Bearer {await _token(client, SELLER)}"
    await _onboard(client)
    return await _stream(client)


async def _onboard(client: httpx.AsyncClient) -> None:
    if _data(await client.get("/sell/connect/status"))["transfers_active"]:
        return
    link = _data(await client.post("/sell/connect/onboard"))["onboarding_url"]
    async with httpx.AsyncClient() as browser:  # the provider's page is nobody to show our token to
        await browser.post(link, follow_redirects=True)


async def _stream(client: httpx.AsyncClient) -> Json:
    """The demo's stream, as its owner sees it: with its key."""
    while True:
        mine = _data(await client.get("/live/streams/me", params={"limit": 100}))["streams"]  # nobody has more
        for stream in mine:
            if stream["title"] == STREAM["title"]:
                found: Json = stream
                return found
        _data(await client.post("/live/streams", json=STREAM))


def _data(answer: httpx.Response) -> Any:
    return answer.raise_for_status().json()["data"]


async def _token(client: httpx.AsyncClient, account: Account) -> str:
    """Signed in, registered first if need be."""
    answer = await client.post("/auth/login", json={"email": account.email, "password": account.password})
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        body = {"username": account.name, "email": account.email, "password": account.password}
        answer = await client.post("/auth/register", json=body)
    token: str = _data(answer)["access_token"]
    return token


def going_live(base: str, stream: Json) -> str:
    """How the demo seller goes on air with a test picture and a tone, and where that is watched."""
    target = f"{stream['rtmp_url']}/{stream['stream_key']}"
    return f"""To go live as {SELLER.name}, with a test picture and a tone:

  ffmpeg -hide_banner -loglevel warning -re -f lavfi -i testsrc2=size=854x480:rate=30 -f lavfi -i sine=frequency=330 \\
       -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 30 -c:a aac -b:a 128k \\
       -f flv {target}

and to watch it: {base}/watch/{stream["id"]}"""


WITHOUT_NGINX = (
    "Nobody can go live here: that takes nginx with its RTMP module (Debian: nginx-light, libnginx-mod-rtmp)."
)


def tour(base: str, ports: Ports, live: str) -> str:
    """What to try first, for someone with a browser, a shell and curl; ``live`` is what there is to say of live
    streaming."""
    rows = "\n".join(f"  {a.name:<12} {a.email:<26} {a.password}" for a in (SELLER, BUYER, ADMIN))
    return f"""
Veza serves on {base}

  the operator's console, for {ADMIN.name}   {base}/console
  the API, to be tried out            {base}/swagger
  metrics, for Prometheus             {base}/metrics

To sign in, as whom, with which email and password:

{rows}

A whole sale is in README.md, "A tour". To begin with:

  curl -s {base}/api/v1/marketplace/products
  curl -s {base}/api/v1/auth/login -H 'Content-Type: application/json' \\
       -d '{{"email":"{SELLER.email}","password":"{SELLER.password}"}}'

{live}

The sandbox's Stripe is on 127.0.0.1:{ports.stripe}, its Hyperswitch on 127.0.0.1:{ports.hyperswitch}.
Ctrl-C ends it all.
"""
