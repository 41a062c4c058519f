"""Everything the environment can say, read once and frozen.

In production a missing or weak required setting stops the start with one message that names every one of them. In
development what is missing is generated and kept under the data directory.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from veza.domain.addresses import Address, parse_address
from veza.domain.limits import ONE_ADDRESS, Limits, parse_limits
from veza.domain.origins import is_web_origin
from veza.domain.vat import VatRates, parse_vat_id, parse_vat_rates

T = TypeVar("T")

MIN_SECRET_BYTES = 32  # HS256 wants a key no shorter than its hash (RFC 7518, section 3.2)
EXAMPLE = re.compile(r"at-least-32-bytes|change.?me|secret.?key|your.?secret|example", re.IGNORECASE)
"""What stands in an example for a secret; of random ones, none in many billions has it in it."""

MIN_SECRET_VARIETY = 8  # different characters: any random secret of that length has more, in hexadecimal too


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _no_slash(value: str) -> str:
    return value.rstrip("/")


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return () if value.strip().lower() == "none" else tuple(map(ip_network, _split(value)))
    except ValueError:
        raise ValueError("networks such as 10.0.0.0/8, comma-separated, or none") from None


def _read_by(parse: Callable[[str], T]) -> Callable[[object], object]:
    """A text is for ``parse`` to read; what is none is a default."""
    return lambda value: parse(value) if isinstance(value, str) else value


def _origins(text: str) -> tuple[str, ...]:
    origins = () if text.strip().lower() == "none" else _split(text)
    if not all(map(is_web_origin, origins)):
        raise ValueError("origins such as https://app.veza.example, comma-separated, or none")
    return origins


HOOK_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}", re.ASCII)

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

Network = IPv4Network | IPv6Network
Url = Annotated[str, AfterValidator(_no_slash)]


class SettingsError(Exception):
    """The environment does not add up; the message names every setting that is wrong."""


class Settings(BaseSettings):
    """One process's configuration. The names, in capitals, are those of the environment."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_file=".env", env_ignore_empty=True, hide_input_in_errors=True
    )

    environment: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    app_domain: Url = ""
    veza_data_dir: Path = Path("var")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json", ""] = ""
    honcho_process_name: str = ""
    """Set by `honcho start` for each line of the Procfile; nobody else sets it."""

    database_url: str = ""
    database_pool_size: int = Field(10, ge=1, le=200)

    redis_url: SecretStr = SecretStr("")
    """Where all processes count together who asks how often; a secret, since its password is in it."""

    jwt_secret: SecretStr = SecretStr("")
    refresh_grace_seconds: int = Field(0, ge=0, le=300)
    admin_email: str = ""
    admin_password: SecretStr = SecretStr("")

    platform_fee_rate: Decimal = Field(Decimal("0.10"), ge=0, le=1)
    platform_currency: str = Field("EUR", pattern="^[A-Z]{3}$")
    order_expiry_minutes: int = Field(30, ge=1)
    payout_delay_days: int = Field(0, ge=0, le=90)
    refund_window_days: int = Field(14, ge=0, le=3650)

    platform_legal_name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] = (
        "Veza (development)"
    )
    platform_legal_address: Annotated[Address, NoDecode, BeforeValidator(_read_by(parse_address))] = Address(
        ("1 Example Street",), None, "Example City", "FR"
    )
    platform_vat_id: Annotated[str | None, BeforeValidator(_read_by(parse_vat_id))] = None
    vat_rates: Annotated[VatRates, NoDecode, BeforeValidator(_read_by(parse_vat_rates))] = VatRates()

    hyperswitch_base_url: Url = "https://sandbox.hyperswitch.io"
    hyperswitch_api_key: SecretStr = SecretStr("")
    hyperswitch_publishable_key: str = ""
    hyperswitch_webhook_secret: SecretStr = SecretStr("")
    stripe_api_base: Url = "https://api.stripe.com"
    stripe_secret_key: SecretStr = SecretStr("")
    stripe_webhook_secret: SecretStr = SecretStr("")

    transfer_retry_enabled: bool = True
    transfer_retry_max_attempts: int = Field(12, ge=1, le=100)
    transfer_retry_base_seconds: int = Field(15, ge=1)
    transfer_claim_seconds: int = Field(300, ge=1)
    provider_timeout_seconds: float = Field(20, gt=0)
    funds_probe_seconds: int = Field(3600, ge=1)
    transfer_ambiguity_seconds: int = Field(600, ge=1)
    reconcile_seconds: int = Field(60, ge=1)

    rtmp_url: Url = ""
    hls_base_url: Url = ""
    ingest_server: Literal["nginx-rtmp", "mediamtx"] = "nginx-rtmp"
    ingest_stat_url: Url = ""
    ingest_control_url: Url = ""
    ingest_hook_token: SecretStr = SecretStr("")
    stream_key_secret: SecretStr = SecretStr("")
    live_poll_seconds: float = Field(2, gt=0, le=60)
    live_stall_seconds: float = Field(6, gt=0, le=300)
    live_grace_seconds: float = Field(60, ge=0, le=1800)

    s3_endpoint_url: Url = ""
    s3_bucket: str = ""
    s3_region: str = ""
    s3_access_key_id: SecretStr = SecretStr("")
    s3_secret_access_key: SecretStr = SecretStr("")
    object_grace_hours: int = Field(24, ge=1, le=8760)
    """How long bytes that nothing names any more are kept: a backup of the database that old can be restored."""

    export_url_ttl_hours: int = Field(24, ge=1, le=168)
    """How long an export can be fetched; a bucket signs no URL for longer than a week."""

    metrics_token: SecretStr = SecretStr("")
    """Without one, metrics are open to whoever reaches the port."""

    audit_retention_days: int = Field(400, ge=30)
    """How long a month of the audit is kept once it is over."""

    upload_max_mb: int = Field(2048, ge=1)
    cloud_quota_mb: int = Field(10240, ge=1)
    cloud_versions_max: int = Field(50, ge=1)
    trusted_proxies: Annotated[tuple[Network, ...] | None, NoDecode, BeforeValidator(_networks)] = None
    """Whose `X-Forwarded-For` is believed; None while nobody has said."""

    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_by(_origins))] = ()
    """Of the sites whose pages may ask us, with their credentials."""

    rate_limit_enabled: bool = True
    rate_limits: Annotated[Limits, NoDecode, BeforeValidator(_read_by(parse_limits))] = Limits()

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @property
    def base_url(self) -> str:
        """The public base URL, without a slash at its end."""
        return self.app_domain or f"http://{self.host}:{self.port}"

    @property
    def fee_bp(self) -> int:
        """The platform's fee in basis points."""
        return int(self.platform_fee_rate * 10_000)

    @property
    def hyperswitch_webhook_secrets(self) -> tuple[str, ...]:
        """A list, so that a secret can be rotated while the old one is still in use."""
        return _split(self.hyperswitch_webhook_secret.get_secret_value())

    @property
    def stripe_webhook_secrets(self) -> tuple[str, ...]:
        """A list: Stripe's account and Connect endpoints have one each, and either may be in rotation."""
        return _split(self.stripe_webhook_secret.get_secret_value())

    @property
    def encoder_url(self) -> str:
        """Where encoders publish to, without the key; in development a server on this machine is taken for granted."""
        return self.rtmp_url or ("" if self.production else "rtmp://127.0.0.1:1935/live")

    @property
    def players_url(self) -> str:
        """Under which players find each stream's playlist."""
        return self.hls_base_url or ("" if self.production else "http://127.0.0.1:8088/hls")

    @property
    def ingest_application(self) -> str:
        """The ingest server's name for where encoders publish to: the path of RTMP_URL."""
        return urlsplit(self.encoder_url).path.strip("/")

    @property
    def ingest_configured(self) -> bool:
        return bool(self.ingest_stat_url)

    @property
    def payments_configured(self) -> bool:
        return bool(self.hyperswitch_api_key.get_secret_value())

    @property
    def payouts_configured(self) -> bool:
        return bool(self.stripe_secret_key.get_secret_value())


REQUIRED_IN_PRODUCTION = (
    "database_url",
    "app_domain",
    "hyperswitch_base_url",
    "hyperswitch_api_key",
    "hyperswitch_publishable_key",
    "hyperswitch_webhook_secret",
    "stripe_secret_key",
    "stripe_webhook_secret",
    "trusted_proxies",
    "platform_legal_name",
    "platform_legal_address",
)


REQUIRED_FOR_LIVE = ("rtmp_url", "hls_base_url", "ingest_stat_url", "ingest_hook_token", "stream_key_secret")

OUR_SECRETS = {
    "jwt_secret": MIN_SECRET_BYTES,
    "stream_key_secret": MIN_SECRET_BYTES,
    "ingest_hook_token": 16,
    "metrics_token": 16,
}
"""Those that we make up ourselves, and the bytes that each has at least; providers' are theirs to make."""

KEPT_SECRETS = ("jwt_secret", "stream_key_secret", "ingest_hook_token")
"""In development one that is missing is made once and kept."""


def load() -> Settings:
    """The settings of this process. Raises SettingsError, whose message names all that is wrong, never a value."""
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_unreadable(error))) from None
    if problems := _problems(settings):
        raise SettingsError("; ".join(problems))
    if settings.production:
        return settings
    make_data_dir(settings)
    kept = {name: _kept_secret(settings, name, getattr(settings, name)) for name in KEPT_SECRETS}
    limits = {} if "rate_limits" in settings.model_fields_set else {"rate_limits": ONE_ADDRESS}
    return settings.model_copy(update=kept | limits)


def make_data_dir(settings: Settings) -> None:
    """For what keeps files there; migrating in production does not. Raises SettingsError."""
    try:
        settings.veza_data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"VEZA_DATA_DIR: cannot be made: {error.strerror}") from None


def _unreadable(error: ValidationError) -> list[str]:
    """What is wrong with each value that can't be read, and, those left out, with the rest."""
    wrong = {str(e["loc"][0]): e["msg"].removeprefix("Value error, ") for e in error.errors()}
    rest = Settings(**{name: Settings.model_fields[name].default for name in wrong})
    named = tuple(f"{name.upper()}:" for name in wrong)
    told = [f"{name.upper()}: {message}" for name, message in wrong.items()]
    return told + [problem for problem in _problems(rest) if not problem.startswith(named)]


def _problems(settings: Settings) -> list[str]:
    problems: list[str] = []
    fee = settings.platform_fee_rate * 10_000
    if fee != fee.to_integral_value():
        problems.append("PLATFORM_FEE_RATE: at most four decimals (whole basis points)")
    if settings.vat_rates.charges and settings.platform_vat_id is None:
        problems.append("PLATFORM_VAT_ID: needed where VAT_RATES charges VAT")
    if settings.production and not settings.jwt_secret.get_secret_value():
        problems.append(f"JWT_SECRET: at least {MIN_SECRET_BYTES} bytes")
    problems += _secret_problems(settings)
    if settings.app_domain and not _is_origin(settings.app_domain):
        problems.append("APP_DOMAIN: a URL such as https://veza.example")
    if settings.payouts_configured and not settings.stripe_secret_key.get_secret_value().startswith(("sk_", "rk_")):
        problems.append("STRIPE_SECRET_KEY: begins with sk_ or rk_")
    if bool(settings.admin_email) != bool(settings.admin_password.get_secret_value()):
        problems.append("ADMIN_EMAIL and ADMIN_PASSWORD: both or neither")
    needed = settings.provider_timeout_seconds + RECORD_SECONDS
    if settings.transfer_claim_seconds <= needed:
        problems.append(f"TRANSFER_CLAIM_SECONDS: longer than {needed:g} s, a call to the provider and its record")
    redis = settings.redis_url.get_secret_value()
    if redis and not redis.startswith(REDIS_SCHEMES):
        problems.append("REDIS_URL: a URL such as redis://127.0.0.1:6379/0")
    problems += _live_problems(settings)
    problems += _s3_problems(settings)
    if settings.production:
        problems += [
            f"{name.upper()}: required in production" for name in REQUIRED_IN_PRODUCTION if _empty(settings, name)
        ]
    return problems


def _secret_problems(settings: Settings) -> list[str]:
    """What is wrong with the secrets of our own: each long enough, none a word or an example, no two alike."""
    problems, seen = [], dict[str, str]()
    for name, least in OUR_SECRETS.items():
        secret: str = getattr(settings, name).get_secret_value()
        if not secret:
            continue
        if len(secret.encode()) < least:
            problems.append(f"{name.upper()}: at least {least} bytes")
        elif len(set(secret)) < MIN_SECRET_VARIETY or EXAMPLE.search(secret):
            problems.append(f"{name.upper()}: this is not random")
        elif secret in seen:
            problems.append(f"{name.upper()}: not the same as {seen[secret].upper()}")
        seen[secret] = name
    return problems


def _live_problems(settings: Settings) -> list[str]:
    problems = []
    nginx = settings.ingest_server == "nginx-rtmp"
    if settings.rtmp_url and not settings.rtmp_url.startswith(("rtmp://", "rtmps://")):
        problems.append("RTMP_URL: a URL such as rtmp://live.veza.example/live")
    elif settings.rtmp_url and nginx and not settings.ingest_application:
        problems.append("RTMP_URL: its path is the ingest application's name, as in rtmp://live.veza.example/live")
    if settings.ingest_stat_url and nginx and not settings.ingest_control_url:
        problems.append("INGEST_CONTROL_URL: needed beside INGEST_STAT_URL, or nobody can be dropped")
    token = settings.ingest_hook_token.get_secret_value()
    if token and not HOOK_TOKEN.fullmatch(token):
        problems.append("INGEST_HOOK_TOKEN: at least 16 letters, digits, hyphens and underscores; it is part of a URL")
    if settings.production and (settings.rtmp_url or settings.ingest_stat_url):
        problems += [
            f"{name.upper()}: required in production for live streaming"
            for name in REQUIRED_FOR_LIVE
            if _empty(settings, name)
        ]
    return problems


def _s3_problems(settings: Settings) -> list[str]:
    problems = []
    keys = [bool(key.get_secret_value()) for key in (settings.s3_access_key_id, settings.s3_secret_access_key)]
    if not settings.s3_bucket and (settings.s3_endpoint_url or settings.s3_region or any(keys)):
        problems.append("S3_BUCKET: needed where anything of S3 is set; without it, files are kept on this disk")
    if any(keys) and not all(keys):
        problems.append("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY: both, or neither and a role of the machine's")
    if settings.s3_endpoint_url and not _is_origin(settings.s3_endpoint_url):
        problems.append("S3_ENDPOINT_URL: a URL such as https://s3.eu-west-3.amazonaws.com")
    return problems


RECORD_SECONDS = 10  # the longest that recording a result may take; see store/bridge.py's write timeout


def _is_origin(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)


def _empty(settings: Settings, name: str) -> bool:
    """Whether nobody has said: a default is no answer in production, nor is a list of nothing."""
    if name not in settings.model_fields_set:
        return True
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return not _split(value.get_secret_value())
    return value in ("", None)


def _kept_secret(settings: Settings, name: str, given: SecretStr) -> SecretStr:
    """The given secret, or one made once and kept, so that a restart in development signs nobody out."""
    if given.get_secret_value():
        return given
    kept = settings.veza_data_dir / "secrets" / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        draft.rename(kept)
    return SecretStr(kept.read_text())
