"""What both stand-ins need to know to run; the top floor fills it in from its own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Stripe and Hyperswitch both retry for a day and longer; the first steps are short so that a demo sees its webhook.
WEBHOOK_BACKOFF = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0)
WEBHOOK_RETRY_FOR = 24 * 3600.0
ACCOUNT_LINK_SECONDS = 300  # "short-lived" in Stripe's words; a person needs a minute or two
PLATFORM_FLOAT = 100_000_000  # one million in each currency: a demo never runs dry unless a test wants it to


class SandboxRefused(Exception):  # noqa: N818 - named for what happened
    """The sandbox was asked to run where it must not."""


@dataclass(frozen=True)
class SandboxConfig:
    """Settings of the two stand-ins. Amounts are minor units, times are seconds.

    Constructing one with ``environment="production"`` raises `SandboxRefused`: there is no way to have an
    app of the sandbox without a config, so there is no way to have one in production.
    """

    state_dir: Path
    stripe_secret_key: str
    stripe_webhook_secret: str
    hyperswitch_api_key: str
    hyperswitch_webhook_secret: str
    stripe_webhook_url: str | None = None
    hyperswitch_webhook_url: str | None = None
    hyperswitch_publishable_key: str | None = None
    stripe_public_url: str | None = None  # of the links we hand out; None: whatever host the request named
    hyperswitch_public_url: str | None = None
    environment: str = "development"
    platform_float: int = PLATFORM_FLOAT
    account_link_seconds: int = ACCOUNT_LINK_SECONDS
    webhook_backoff: tuple[float, ...] = WEBHOOK_BACKOFF
    webhook_retry_for: float = WEBHOOK_RETRY_FOR

    def __post_init__(self) -> None:
        if self.environment.strip().lower() == "production":
            raise SandboxRefused(
                "The sandbox imitates Stripe and Hyperswitch and moves no real money: "
                "it refuses to start with ENVIRONMENT=production."
            )
