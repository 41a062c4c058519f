"""``veza sandbox``: both stand-in providers as one process, with the keys the server was given."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

from veza.listener import CannotListen
from veza.sandbox.config import SandboxConfig, SandboxRefused
from veza.sandbox.hyperswitch import hyperswitch_app
from veza.sandbox.stripe import stripe_app
from veza.settings import Settings

DRAIN_SECONDS = 1.0  # nobody depends on the sandbox's last answers; its state is on disk already

KEYS = (
    "stripe_secret_key",
    "stripe_webhook_secret",
    "hyperswitch_api_key",
    "hyperswitch_publishable_key",
    "hyperswitch_webhook_secret",
)


@dataclass(frozen=True)
class Ports:
    """Where the stand-ins listen, and the demo's ingest server beside them, on loopback."""

    stripe: int = 8081
    hyperswitch: int = 8082
    rtmp: int = 1935  # RTMP's own: encoders take it for granted
    play: int = 1936
    hls: int = 8088
    stat: int = 8089


def serve_sandboxes(settings: Settings, ports: Ports) -> None:
    """Serve until SIGTERM or SIGINT. Raises SandboxRefused, in production and without keys, and CannotListen."""
    trio.run(_serve, sandbox_config(settings), ports)


def sandbox_config(settings: Settings) -> SandboxConfig:
    """The stand-ins take the keys we send and sign with the secrets we check, as the real ones would."""
    missing = [name.upper() for name in KEYS if not getattr(settings, name)]
    if missing:
        raise SandboxRefused(f"set {', '.join(missing)}, to anything: the stand-ins check what the server sends")
    hooks = f"{settings.base_url}/api/v1/webhooks"
    return SandboxConfig(
        state_dir=settings.veza_data_dir / "sandbox",
        stripe_secret_key=settings.stripe_secret_key.get_secret_value(),
        stripe_webhook_secret=settings.stripe_webhook_secrets[0],
        stripe_webhook_url=f"{hooks}/stripe",
        hyperswitch_api_key=settings.hyperswitch_api_key.get_secret_value(),
        hyperswitch_publishable_key=settings.hyperswitch_publishable_key,
        hyperswitch_webhook_secret=settings.hyperswitch_webhook_secrets[0],
        hyperswitch_webhook_url=f"{hooks}/hyperswitch",
        environment=settings.environment,
    )


async def _serve(config: SandboxConfig, ports: Ports) -> None:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        for app, port in ((stripe_app(config), ports.stripe), (hyperswitch_app(config), ports.hyperswitch)):
            await nursery.start(_listen, app, port, shutdown)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await signals.__anext__()
        shutdown.set()


async def _listen(app: ASGIFramework, port: int, shutdown: trio.Event, task_status: trio.TaskStatus[object]) -> None:
    """Hypercorn's own serving: unlike the server's listener it opens the nursery that the stand-ins work in."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = DRAIN_SECONDS
    config.errorlog = None  # it would say once more where it listens
    try:
        await serve(app, config, shutdown_trigger=shutdown.wait, task_status=task_status)
    except* OSError as error:
        raise CannotListen(f"the sandbox cannot listen on {config.bind[0]}") from error
