"""What routes work with, bound to the app by the composition root once the tree is up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Protocol, cast
from uuid import UUID

import trio
from quart import current_app

from veza.actors.audit import Outbox
from veza.actors.core import ActorView, NodeView, Pulse, SupervisorView
from veza.actors.lookout import Trends
from veza.actors.refs import Refs
from veza.domain.flags import Flags
from veza.domain.ids import Clock, NewId
from veza.domain.limits import Limits
from veza.domain.maintenance import Maintenance
from veza.domain.operations import Action
from veza.domain.orders import Terms
from veza.domain.stream_keys import StreamKeys
from veza.gateways.invoice_pdf import Printer
from veza.gateways.limits import Meter
from veza.gateways.objects import Objects
from veza.gateways.objects.links import Links
from veza.gateways.passwords import Passwords
from veza.gateways.stripe import Stripe
from veza.http.deadline import DEFAULT_SECONDS
from veza.http.lately import LatelyAdmins
from veza.http.metrics import Exposition
from veza.http.proxies import Networks
from veza.http.rooms import Rooms
from veza.http.states import States
from veza.http.tokens import Tokens
from veza.http.watches import Watches
from veza.store.accounts import Accounts
from veza.store.announcements import AnnouncementRows
from veza.store.audit import AuditRows
from veza.store.bans import Bans
from veza.store.catalog import Catalog
from veza.store.cloud import CloudRows
from veza.store.connect import Connect
from veza.store.debts import Debts
from veza.store.disputes import Disputes
from veza.store.erasure import Erasures
from veza.store.exports import ExportRows
from veza.store.gear import GearRows
from veza.store.invoices import Invoices
from veza.store.ledger import Ledger
from veza.store.library import Library
from veza.store.live import LiveRows
from veza.store.metrics import Metrics
from veza.store.notifications import Notifications
from veza.store.operations import Operations
from veza.store.orders import Orders
from veza.store.orphans import Orphans
from veza.store.payments import Payments
from veza.store.payouts import Payouts
from veza.store.privacy import PrivacyRows
from veza.store.reconciliations import Reconciliations
from veza.store.refunds import Refunds
from veza.store.reports import Reports
from veza.store.reviews import Reviews
from veza.store.sales import Sales
from veza.store.sessions import Sessions
from veza.store.streams import Streams
from veza.store.tags import Tags

EXTENSION = "veza.parts"


@dataclass(frozen=True)
class CheckResult:
    """What one dependency's check found. ``details`` may be shown to anyone: no addresses, no names, no secrets."""

    status: Literal["ok", "degraded", "failed", "not_configured"]
    details: Mapping[str, object] | None = None


Check = Callable[[], Awaitable[CheckResult]]


class Control(Protocol):
    """An operator's eye and hand on the tree. What names a path raises NotFound, and PreconditionFailed where it names
    an incarnation that is another by now."""

    def see(self, path: str, *, most: int | None = None) -> NodeView:
        """One node as it stands; of a dynamic supervisor's children ``most``, if it is given."""

    async def actors(self) -> list[ActorView]:
        """Every actor, in start order; others have their turn while it looks."""

    @property
    def turn(self) -> trio.Lock:
        """Held by an operator from the look to the deed, so that of two who mean one incarnation one comes too late."""

    def check(self, action: Action, path: str, incarnation: int) -> None:
        """Whether there is that incarnation to act upon."""

    def act(self, action: Action, path: str, incarnation: int, *, because: str) -> None:
        """Act upon it, at once and without a message."""


class Tree(Protocol):
    """What an operator sees of the supervision tree, taken without a message."""

    def __call__(self, *, most: int | None = None) -> SupervisorView:
        """All of it; of each dynamic supervisor's children ``most``, if it is given."""


@dataclass(frozen=True)
class ConfigSummary:
    """What ``/health/deep`` says of the configuration: whether, never what."""

    jwt_secret_set: bool
    stripe_connect_enabled: bool
    platform_fee_rate: float
    transfer_retry_enabled: bool


@dataclass(frozen=True)
class HttpSettings:
    """The numbers of this room. Times in seconds."""

    deadline_seconds: float = DEFAULT_SECONDS
    max_in_flight: int = 128
    """At some 2 ms of CPU a request, a quarter of a second of queue in one process; more would only wait longer."""
    base_url: str = "http://127.0.0.1:8080"
    upload_max_bytes: int = 2048 * 1024 * 1024
    cloud_quota_bytes: int = 10240 * 1024 * 1024
    cloud_versions_max: int = 50
    secure_cookies: bool = False
    metrics_token: str = ""
    """What whoever collects metrics has to show; without one they are open to all."""
    refresh_grace_seconds: int = 0
    currency: str = "EUR"
    """The platform's one currency (ISO 4217): every price is in it."""
    trusted_proxies: Networks = ()
    cors_origins: tuple[str, ...] = ()
    """Of the sites whose pages may ask us."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Checkout:
    """What sales are made under. ``publishable_key`` is for clients, ``webhook_secrets`` verify events.

    ``configured``: we have a key for the payment provider; without, only what is free can be ordered.
    """

    terms: Terms
    configured: bool
    publishable_key: str
    webhook_secrets: tuple[str, ...]


@dataclass(frozen=True)
class Selling:
    """What sellers are paid under. ``webhook_secrets`` verify the payout provider's events.

    ``configured``: we have a key for it; without, nobody comes on board.
    """

    states: States
    configured: bool
    webhook_secrets: tuple[str, ...]


@dataclass(frozen=True)
class Broadcasting:
    """What streams go on air under. ``encoder_url`` and ``players_url`` are where encoders and players go.

    ``hook_token`` is the ingest server's, in the address of our hooks; ``application`` is its name for our streams.
    ``renames``: it gives a stream its public id for a name; else encoders publish under that id, the key a password.
    """

    keys: StreamKeys
    encoder_url: str
    players_url: str
    application: str
    hook_token: str
    renames: bool = True

    @property
    def configured(self) -> bool:
        """Whether there is anywhere to publish to; without, keys are not shown."""
        return bool(self.encoder_url)

    def rtmp_url(self, stream_id: UUID) -> str:
        """Where an encoder publishes a stream: followed by a slash and the key, or by ``?pass=`` and the key."""
        return self.encoder_url if self.renames else f"{self.encoder_url}/{stream_id}"

    def hls_url(self, stream_id: UUID) -> str:
        return f"{self.players_url}/{stream_id}/index.m3u8"


@dataclass(frozen=True)
class Unbound:
    """Stands for a part that is not there."""

    name: str

    def __getattr__(self, attribute: str) -> Any:
        raise LookupError(f"parts().{self.name} is not bound")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything a route may reach."""

    clock: Clock
    new_id: NewId
    config: ConfigSummary
    checks: Mapping[str, Check]
    root_alive: Callable[[], bool]
    """Whether the root supervisor still runs: with the event loop's lag, all that ``/healthz`` looks at."""
    tree: Tree
    settings: HttpSettings = field(default_factory=HttpSettings)
    leaving: trio.Event = field(default_factory=trio.Event)
    """Set at SIGTERM: ``/readyz`` says not ready, and every answer closes its connection."""
    stopping: trio.Event = field(default_factory=trio.Event)
    """Set when accepting stops: event streams end, so that they do not hold the drain."""
    flags: Callable[[], Flags] = field(default_factory=lambda: Flags)
    """How the feature flags stand, as this process knows, read without a message; all on where nobody keeps them."""
    maintenance: Callable[[], Maintenance] = field(default_factory=lambda: Maintenance)
    """Whether the doors are closed, likewise."""
    trends: Trends = field(default_factory=Trends)
    """How busy each actor was in the last minutes."""
    lately: LatelyAdmins = field(default_factory=LatelyAdmins)
    """Who was an admin a moment ago, for while the database can't be asked."""
    pulse: Pulse = field(default_factory=Pulse)
    """The event loop's: how late it is. Whoever runs the app has it beat."""
    watches: Watches = field(default_factory=Watches)
    """How many pages of the console are watched, by whom."""
    rooms: Rooms = field(default_factory=Rooms)
    """What of whose cloud files is coming in."""
    exposition: Exposition = field(default_factory=Exposition)
    """What is measured of requests, and how all that is measured is told."""
    outbox: Outbox | None = field(default_factory=lambda: None)
    """Where finished requests leave their audit entries. Where nobody writes them there is none."""
    meter: Meter | None = field(default_factory=lambda: None)
    """What counts who asks how often; none where nobody is limited."""

    control: Control
    refs: Refs
    accounts: Accounts
    bans: Bans
    reports: Reports
    erasures: Erasures
    sessions: Sessions
    passwords: Passwords
    tokens: Tokens
    catalog: Catalog
    objects: Objects
    reviews: Reviews
    sales: Sales
    reconciliations: Reconciliations
    orders: Orders
    library: Library
    checkout: Checkout
    payments: Payments
    payouts: Payouts
    refunds: Refunds
    invoices: Invoices
    printer: Printer
    disputes: Disputes
    debts: Debts
    connect: Connect
    ledger: Ledger
    stripe: Stripe
    selling: Selling
    streams: Streams
    sessions_on_air: LiveRows
    broadcasting: Broadcasting
    notifications: Notifications
    gear: GearRows
    tags: Tags
    cloud: CloudRows
    links: Links
    orphans: Orphans
    exports: ExportRows
    audit: AuditRows
    metrics: Metrics
    operations: Operations
    privacy: PrivacyRows
    announcements: AnnouncementRows

    @classmethod
    def only(cls, **some: Any) -> Parts:
        """The parts of an app of which only some routes are used: reaching for any other raises LookupError."""
        needed = (part.name for part in fields(cls) if part.default_factory is MISSING)
        return cls(**{name: Unbound(name) for name in needed} | some)


def parts() -> Parts:
    """The parts of the app in hand. Raises LookupError before the composition root has bound them."""
    return cast(Parts, current_app.extensions[EXTENSION])
