"""The whole supervision tree on one page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID

from veza.actors.announcements import AnnouncementKeeper
from veza.actors.audit import AuditKeeper, MonthMinder, Outbox
from veza.actors.disputes import Disputer
from veza.actors.export_contents import Contents, Sources, Tally
from veza.actors.export_job import ExportActor, Office
from veza.actors.exports import AT_ONCE as EXPORTS
from veza.actors.exports import Exporter, ExporterRef
from veza.actors.exports import ring as ring_exporter
from veza.actors.flags import FlagKeeper
from veza.actors.flags import current as current_flags
from veza.actors.ingest_poller import IngestPoller
from veza.actors.janitor import Janitor
from veza.actors.live import Live, NoSessions
from veza.actors.lookout import Lookout, Trends
from veza.actors.maintenance import MaintenanceKeeper
from veza.actors.notifier import Notifier
from veza.actors.onboarding import Onboarder
from veza.actors.payments import Payments
from veza.actors.payouts import Payer
from veza.actors.queue import Leases, ring
from veza.actors.reconciler import Reconciler
from veza.actors.refs import Refs
from veza.actors.refunds import Refunder
from veza.actors.reversals import Reverser
from veza.actors.session_holder import SessionHolder, may_be_elsewhere
from veza.actors.session_row import Studio
from veza.actors.stream_session import StreamSessionActor
from veza.actors.warranties import WarrantyMinder
from veza.domain.attempts import RetryPolicy
from veza.domain.audience import Audience
from veza.domain.flags import Flags
from veza.domain.ids import Clock, NewId
from veza.domain.ingest import Watch
from veza.domain.live import StreamSession, Timing
from veza.gateways.archive import Archive
from veza.gateways.hyperswitch import Hyperswitch
from veza.gateways.ingest import Ingest
from veza.gateways.objects import Objects
from veza.gateways.stripe import Stripe
from veza.store.announcements import AnnouncementRows
from veza.store.audit import AuditRows
from veza.store.connect import Connect
from veza.store.disputes import Disputes
from veza.store.exports import ExportRows
from veza.store.flags import FlagRows
from veza.store.live import LiveRows
from veza.store.maintenance import MaintenanceRows
from veza.store.notifications import Notifications
from veza.store.orphans import Orphans
from veza.store.payments import Payments as PaymentRows
from veza.store.payouts import Payouts
from veza.store.reconciliations import Reconciliations
from veza.store.refund_queue import RefundQueue
from veza.store.reversals import Reversals
from veza.store.warranties import Warranties
from veza.supervisors.child import Intensity, Node, Restart, permanent
from veza.supervisors.dynamic import dynamic
from veza.supervisors.supervisor import Supervisor, one_for_one

BLIPS = Intensity(restarts=3, per_seconds=60)  # a network blip fits; a bug does not

SESSIONS = 20_000  # twice what was measured in one process; an ingest server fills its line long before


@dataclass(frozen=True)
class TreeParts:
    """What the actors work with."""

    payments: PaymentRows
    payouts: Payouts
    connect: Connect
    hyperswitch: Hyperswitch
    stripe: Stripe
    new_id: NewId
    random: Random
    retry_policy: RetryPolicy
    leases: Leases
    reconcile_every: timedelta
    payout_delay: timedelta
    reconciliations: Reconciliations
    refunds: RefundQueue
    reversals: Reversals
    disputes: Disputes
    payouts_configured: bool
    clock: Clock
    sessions: LiveRows
    ingest: Ingest | None
    timing: Timing
    notifications: Notifications
    warranties: Warranties
    exports: ExportRows
    export_sources: Sources
    export_lifetime: timedelta
    objects: Objects
    object_grace: timedelta
    orphans: Orphans
    flags: FlagRows
    maintenance: MaintenanceRows
    announcements: AnnouncementRows
    audit: AuditRows
    outbox: Outbox
    trends: Trends
    audit_retention_days: int


def tree(parts: TreeParts) -> tuple[Supervisor, Refs]:
    """The tree, not yet running, and the Refs into it.

    Children start in this order and stop in the reverse: who rings stops before who is rung.
    """

    def flags_changed() -> None:
        ring(payouts.ref)
        ring_exporter(exporter)

    keeper = permanent("keeper", lambda: AuditKeeper(parts.audit, parts.outbox))
    months = permanent("months", lambda: MonthMinder(parts.audit, parts.audit_retention_days))
    # First, so that it stops last: with all that was done before.
    audit = one_for_one("audit", keeper, months, intensity=BLIPS)
    flags = permanent("flags", lambda: FlagKeeper(parts.flags, flags_changed))
    flags_now = partial(current_flags, flags.ref)
    maintenance = permanent("maintenance", lambda: MaintenanceKeeper(parts.maintenance))
    announcements = permanent("announcements", lambda: AnnouncementKeeper(parts.announcements))
    payouts = permanent(
        "payouts",
        lambda: Payer(parts.payouts, parts.stripe, parts.retry_policy, parts.leases, parts.random, flags=flags_now),
    )
    onboarding = permanent("onboarding", lambda: Onboarder(parts.connect, parts.stripe, payouts.ref))
    reversals = permanent(
        "reversals",
        lambda: Reverser(parts.reversals, parts.stripe, parts.retry_policy, parts.leases, parts.random),
    )

    def ring_sellers_side() -> None:
        ring(reversals.ref)
        ring(payouts.ref)

    refunds = permanent("refunds", lambda: Refunder(parts.refunds, parts.hyperswitch, parts.leases, ring_sellers_side))
    disputes = permanent(
        "disputes", lambda: Disputer(parts.disputes, parts.hyperswitch, parts.leases, ring_sellers_side)
    )
    payments = permanent(
        "payments",
        lambda: Payments(
            parts.payments,
            parts.hyperswitch,
            new_id=parts.new_id,
            ring_payouts=partial(ring, payouts.ref),
            ring_refunds=partial(ring, refunds.ref),
            every=parts.reconcile_every,
            call_seconds=parts.leases.provider_timeout,
            payout_delay=parts.payout_delay,
        ),
    )
    reconciler = permanent(
        "reconciler", lambda: Reconciler(parts.reconciliations, parts.stripe if parts.payouts_configured else None)
    )
    # One for one: each works from its own rows, and none holds anything of another's that a restart would stale.
    children = (payouts, onboarding, reversals, refunds, disputes, payments, reconciler)
    money = one_for_one("money", *children, intensity=BLIPS)
    on_air, live = _live(parts)
    notifier = permanent("notifier", lambda: Notifier(parts.notifications))
    exporting, exporter = _exporting(parts, flags_now)
    refs = Refs(
        payments.ref,
        payouts.ref,
        onboarding.ref,
        reconciler.ref,
        refunds.ref,
        reversals.ref,
        disputes.ref,
        live,
        notifier.ref,
        exporter,
        flags.ref,
        maintenance.ref,
        keeper.ref,
        announcements.ref,
    )
    warranties = permanent("warranties", lambda: WarrantyMinder(parts.warranties))
    janitor = permanent(
        "janitor",
        lambda: Janitor(parts.orphans, parts.exports, parts.objects, parts.clock, parts.object_grace),
    )
    # Before all who read them. They know nothing of each other.
    switches = one_for_one("switches", flags, maintenance, announcements, intensity=BLIPS)
    lookout = permanent("lookout", lambda: Lookout(lambda: root.view(most=0), parts.trends))
    branches: list[Node] = [audit, switches, notifier, warranties, janitor, lookout, exporting, money, *on_air]
    root = one_for_one("veza", *branches, intensity=BLIPS)
    return root, refs


def _exporting(parts: TreeParts, flags: Callable[[], Flags]) -> tuple[Supervisor, ExporterRef]:
    """Who finds the exports that are due, and who makes each: one that crashed is gone, its row is due again."""

    def contents(user_id: UUID, made_at: datetime, tally: Tally) -> Callable[[Archive], Awaitable[None]]:
        return Contents(parts.export_sources, user_id, made_at, tally).write

    office = Office(parts.exports, contents, parts.objects, parts.export_lifetime)

    def export(export_id: UUID) -> ExportActor:
        return ExportActor(export_id, office)

    jobs = dynamic("exports", export, limit=EXPORTS, restart=Restart.TEMPORARY)
    exporter = permanent("exporter", lambda: Exporter(parts.exports, flags, office, jobs))
    office.changed = partial(ring_exporter, exporter.ref)
    return one_for_one("exporting", jobs, exporter, intensity=BLIPS), exporter.ref


def _live(parts: TreeParts) -> tuple[list[Supervisor], Live]:
    """The part that is on air, none where no ingest server is set up, and the doors to it."""
    watches: dict[UUID, Watch] = {}
    peaks: dict[UUID, int] = {}
    taken: dict[UUID, StreamSession] = {}
    audience = Audience()
    server = parts.ingest
    if server is None:
        return [], Live(NoSessions(), audience, watches)
    studio = Studio(
        parts.sessions, server, parts.clock, parts.new_id, parts.timing, watches=watches, peaks=peaks, taken=taken
    )

    def session(stream_id: UUID) -> StreamSessionActor:
        return StreamSessionActor(stream_id, studio)

    sessions = dynamic("sessions", session, limit=SESSIONS, intensity=BLIPS)
    holder = permanent("holder", lambda: SessionHolder(parts.sessions, sessions, audience, watches, peaks, taken))
    poller = permanent(
        "ingest", lambda: IngestPoller(server, sessions, partial(may_be_elsewhere, holder.ref), parts.timing, watches)
    )
    # The holder stops last: it lets go of what the sessions have written by then.
    on_air = one_for_one("live", holder, sessions, poller, intensity=BLIPS)
    return [on_air], Live(sessions, audience, watches, poller.ref, holder.ref)
