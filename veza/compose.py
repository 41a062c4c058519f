"""Everything put together: settings in, a house out that can be served. Nothing here runs by itself."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from secrets import token_bytes
from urllib.parse import urlsplit

import trio

from veza import admin
from veza.actors import flags, maintenance
from veza.actors.audit import Outbox
from veza.actors.core import State
from veza.actors.export_contents import Sources
from veza.actors.lookout import Trends
from veza.actors.queue import Leases
from veza.actors.refs import Refs
from veza.domain.accounts import User
from veza.domain.attempts import RetryPolicy
from veza.domain.errors import Unavailable
from veza.domain.ids import IdMint, system_mint, utc_now
from veza.domain.invoices import Billing, Issuer
from veza.domain.ledger import Finding
from veza.domain.live import Timing
from veza.domain.maintenance import Maintenance, MaintenanceChange
from veza.domain.orders import Terms
from veza.domain.stream_keys import StreamKeys
from veza.gateways.hyperswitch import Hyperswitch
from veza.gateways.ingest import Ingest
from veza.gateways.ingest.mediamtx import MediaMtx
from veza.gateways.ingest.nginx_rtmp import NginxRtmp
from veza.gateways.invoice_pdf import Printer
from veza.gateways.limits import Meter
from veza.gateways.limits.memory import InMemory
from veza.gateways.objects import Objects
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects
from veza.gateways.passwords import Passwords
from veza.gateways.stripe import Stripe
from veza.http.app import VezaApp, create_app
from veza.http.parts import Broadcasting, Check, Checkout, CheckResult, ConfigSummary, HttpSettings, Parts, Selling
from veza.http.states import States
from veza.http.tokens import Tokens
from veza.settings import Settings
from veza.store.accounts import Accounts
from veza.store.announcements import AnnouncementRows
from veza.store.audit import AuditRows
from veza.store.bans import Bans
from veza.store.bridge import Database, Patience
from veza.store.catalog import Catalog
from veza.store.cloud import CloudRows
from veza.store.connect import Connect
from veza.store.debts import Debts
from veza.store.disputes import Disputes
from veza.store.erasure import Erasures
from veza.store.export_data import ExportData
from veza.store.exports import ExportRows
from veza.store.flags import FlagRows
from veza.store.gear import GearRows
from veza.store.invoices import Invoices
from veza.store.ledger import Ledger
from veza.store.library import Library
from veza.store.live import LiveRows
from veza.store.maintenance import MaintenanceRows
from veza.store.metrics import Metrics
from veza.store.notifications import Notifications
from veza.store.operations import Operations
from veza.store.orders import Orders
from veza.store.orphans import Orphans
from veza.store.payments import Payments
from veza.store.payouts import Payouts
from veza.store.privacy import PrivacyRows
from veza.store.reconciliations import Reconciliations
from veza.store.refund_queue import RefundQueue
from veza.store.refunds import Refunds
from veza.store.reports import Reports
from veza.store.reversals import Reversals
from veza.store.reviews import Reviews
from veza.store.sales import Sales
from veza.store.sessions import Sessions
from veza.store.streams import Streams
from veza.store.tags import Tags
from veza.store.warranties import Warranties
from veza.supervisors import Supervisor, run_tree
from veza.supervisors.control import Control
from veza.supervisors.tree import TreeParts, tree

NO_KEY = "sk_not_configured"  # the client insists on one; the provider will refuse it, which is then told as such
INGEST_SECONDS = 5.0  # for an answer of the ingest server, which is near: an encoder waits for some of them
BUCKET_SECONDS = 1.5  # of the two that all checks have together
DISK_FLOOR_BYTES = 1 << 30  # less than this is a few uploads, or an hour of a busy server's logs and WAL


@dataclass(frozen=True)
class House:
    """A composed platform: bind nothing more, run the tree, then listen."""

    app: VezaApp
    parts: Parts
    tree: Supervisor
    random: Random

    async def run_tree(self, task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED) -> None:
        await run_tree(self.tree, clock=self.parts.clock, random=self.random, task_status=task_status)


@asynccontextmanager
async def house(settings: Settings, dsn: str) -> AsyncIterator[House]:
    """The house over a migrated database; its connections and clients are closed at the end of the block.

    Raises DatabaseUnavailable.
    """
    random = SystemRandom()
    new_id = IdMint(utc_now, random)
    secret = settings.jwt_secret.get_secret_value().encode()
    delay = timedelta(days=settings.payout_delay_days)
    links = Links(secret, settings.base_url, utc_now)
    async with (
        Database.open(dsn, size=settings.database_pool_size) as database,
        open_objects(settings, links) as objects,
        open_hyperswitch(settings) as hyperswitch,
        open_stripe(settings) as stripe,
        open_ingest(settings) as ingest,
        open_meter(settings) as meter,
    ):
        payments, payouts, connect = Payments(database), Payouts(database, new_id, delay), Connect(database, delay)
        reconciliations = Reconciliations(database, new_id)
        disputes = Disputes(database, new_id, delay)
        on_air, notifications = LiveRows(database, new_id()), Notifications(database)
        exports, orphans = ExportRows(database, new_id), Orphans(database)
        audit, outbox, trends = AuditRows(database), Outbox(), Trends()
        announcements = AnnouncementRows(database, new_id)
        root, refs = tree(
            TreeParts(
                payments=payments,
                payouts=payouts,
                connect=connect,
                hyperswitch=hyperswitch,
                stripe=stripe,
                new_id=new_id,
                random=random,
                retry_policy=_retry_policy(settings),
                leases=Leases(settings.transfer_claim_seconds, settings.provider_timeout_seconds),
                reconcile_every=timedelta(seconds=settings.reconcile_seconds),
                payout_delay=delay,
                reconciliations=reconciliations,
                refunds=RefundQueue(database),
                reversals=Reversals(database),
                disputes=disputes,
                payouts_configured=settings.payouts_configured,
                clock=utc_now,
                sessions=on_air,
                ingest=ingest,
                timing=Timing(settings.live_poll_seconds, settings.live_stall_seconds, settings.live_grace_seconds),
                notifications=notifications,
                warranties=Warranties(database, new_id),
                exports=exports,
                export_sources=Sources(ExportData(database), objects, Printer(at_once=1)),  # others ask for theirs too
                export_lifetime=timedelta(hours=settings.export_url_ttl_hours),
                objects=objects,
                object_grace=timedelta(hours=settings.object_grace_hours),
                orphans=orphans,
                flags=FlagRows(database, new_id),
                maintenance=MaintenanceRows(database, new_id),
                announcements=announcements,
                audit=audit,
                outbox=outbox,
                trends=trends,
                audit_retention_days=settings.audit_retention_days,
            )
        )
        parts = Parts(
            clock=utc_now,
            new_id=new_id,
            config=_summary(settings),
            checks=_checks(settings, database, objects, meter, root, refs),
            root_alive=partial(_alive, root),
            tree=root.view,
            control=Control(root),
            settings=_http_settings(settings),
            refs=refs,
            accounts=Accounts(database),
            bans=Bans(database, new_id, delay),
            reports=Reports(database, new_id),
            erasures=Erasures(database, new_id),
            sessions=Sessions(database),
            passwords=Passwords(),
            tokens=Tokens(secret, utc_now, new_id),
            catalog=Catalog(database),
            objects=objects,
            reviews=Reviews(database),
            sales=Sales(database),
            reconciliations=reconciliations,
            orders=Orders(database),
            library=Library(database),
            checkout=_checkout(settings),
            payments=payments,
            payouts=payouts,
            refunds=Refunds(database, new_id, timedelta(days=settings.refund_window_days)),
            disputes=disputes,
            debts=Debts(database),
            invoices=Invoices(database),
            printer=Printer(),
            connect=connect,
            ledger=Ledger(database),
            stripe=stripe,
            selling=Selling(States(secret, utc_now), settings.payouts_configured, settings.stripe_webhook_secrets),
            streams=Streams(database),
            sessions_on_air=on_air,
            broadcasting=_broadcasting(settings),
            notifications=notifications,
            gear=GearRows(database),
            tags=Tags(database),
            cloud=CloudRows(database),
            links=links,
            orphans=orphans,
            flags=partial(flags.current, refs.flags),
            maintenance=partial(maintenance.current, refs.maintenance),
            exports=exports,
            audit=audit,
            outbox=outbox,
            trends=trends,
            metrics=Metrics(database),
            operations=Operations(database),
            privacy=PrivacyRows(database),
            announcements=announcements,
            meter=meter,
        )
        await _first_admin(settings, parts)
        await parts.invoices.begin(_billing(settings))
        app = create_app()
        app.bind(parts)
        yield House(app, parts, root, random)


def open_hyperswitch(settings: Settings) -> AbstractAsyncContextManager[Hyperswitch]:
    return Hyperswitch.open(
        settings.hyperswitch_base_url,
        settings.hyperswitch_api_key.get_secret_value(),
        timeout=settings.provider_timeout_seconds,
        return_url=settings.base_url,
    )


def open_stripe(settings: Settings) -> AbstractAsyncContextManager[Stripe]:
    return Stripe.open(
        settings.stripe_secret_key.get_secret_value() or NO_KEY,
        base=settings.stripe_api_base,
        timeout=settings.provider_timeout_seconds,
        currency=settings.platform_currency,
    )


@asynccontextmanager
async def open_ingest(settings: Settings) -> AsyncIterator[Ingest | None]:
    """The ingest server, none where none is set up."""
    if not settings.ingest_configured:
        yield None
    elif settings.ingest_server == "mediamtx":
        async with MediaMtx.open(
            api_url=settings.ingest_stat_url, hls_base_url=settings.players_url, timeout=INGEST_SECONDS
        ) as server:
            yield server
    else:
        async with NginxRtmp.open(
            stat_url=settings.ingest_stat_url,
            control_url=settings.ingest_control_url,
            hls_base_url=settings.players_url,
            application=settings.ingest_application,
            timeout=INGEST_SECONDS,
        ) as nginx:
            yield nginx


def open_objects(settings: Settings, links: Links) -> AbstractAsyncContextManager[Objects]:
    """The bucket where one is set up, else a folder of the data directory."""
    if not settings.s3_bucket:
        return LocalObjects.open(_files_folder(settings), links)
    from veza.gateways.objects.s3 import Bucket, S3Objects  # its SDK takes a tenth of a start, where it is needed

    bucket = Bucket(
        settings.s3_bucket,
        settings.s3_endpoint_url or None,
        settings.s3_region or None,
        settings.s3_access_key_id.get_secret_value() or None,
        settings.s3_secret_access_key.get_secret_value() or None,
    )
    return S3Objects.open(bucket, _files_folder(settings), utc_now)


@asynccontextmanager
async def open_meter(settings: Settings) -> AsyncIterator[Meter | None]:
    """What counts who asks how often: Redis where there is one, else this process; none where nobody is limited."""
    url = settings.redis_url.get_secret_value()
    if not settings.rate_limit_enabled:
        yield None
    elif not url:
        yield InMemory()
    else:
        from veza.gateways.limits.redis import InRedis  # as much again

        async with InRedis.open(url, InMemory()) as shared:
            yield shared


def _files_folder(settings: Settings) -> Path:
    """Where files are kept, or gathered on their way to the bucket."""
    return settings.veza_data_dir / ("parts" if settings.s3_bucket else "objects")


async def _first_admin(settings: Settings, parts: Parts) -> None:
    if settings.admin_email:
        await admin.ensure_admin(
            parts.accounts,
            parts.passwords,
            settings.admin_email,
            settings.admin_password.get_secret_value(),
            new_id=parts.new_id,
            now=parts.clock,
        )


def _http_settings(settings: Settings) -> HttpSettings:
    return HttpSettings(
        base_url=settings.base_url,
        upload_max_bytes=settings.upload_max_mb * 1024 * 1024,
        cloud_quota_bytes=settings.cloud_quota_mb * 1024 * 1024,
        cloud_versions_max=settings.cloud_versions_max,
        secure_cookies=settings.production,
        metrics_token=settings.metrics_token.get_secret_value(),
        refresh_grace_seconds=settings.refresh_grace_seconds,
        currency=settings.platform_currency,
        trusted_proxies=settings.trusted_proxies or (),
        cors_origins=settings.cors_origins,
        limits=settings.rate_limits,
    )


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        automatic=settings.transfer_retry_enabled,
        base=timedelta(seconds=settings.transfer_retry_base_seconds),
        max_attempts=settings.transfer_retry_max_attempts,
        funds_probe=timedelta(seconds=settings.funds_probe_seconds),
        ambiguity=timedelta(seconds=settings.transfer_ambiguity_seconds),
    )


def _checkout(settings: Settings) -> Checkout:
    return Checkout(
        terms=Terms(
            currency=settings.platform_currency,
            fee_bp=settings.fee_bp,
            expiry=timedelta(minutes=settings.order_expiry_minutes),
        ),
        configured=settings.payments_configured,
        publishable_key=settings.hyperswitch_publishable_key,
        webhook_secrets=settings.hyperswitch_webhook_secrets,
    )


def _billing(settings: Settings) -> Billing:
    site = urlsplit(settings.base_url).hostname or settings.base_url
    issuer = Issuer(settings.platform_legal_name, settings.platform_legal_address, settings.platform_vat_id, site)
    return Billing(issuer, settings.vat_rates)


def _broadcasting(settings: Settings) -> Broadcasting:
    return Broadcasting(
        # Where live streaming is not set up there is no secret, and keys are neither shown nor taken.
        keys=StreamKeys(settings.stream_key_secret.get_secret_value().encode() or token_bytes(32)),
        encoder_url=settings.encoder_url,
        players_url=settings.players_url,
        application=settings.ingest_application,
        hook_token=settings.ingest_hook_token.get_secret_value() if settings.ingest_configured else "",
        renames=settings.ingest_server == "nginx-rtmp",
    )


def _summary(settings: Settings) -> ConfigSummary:
    return ConfigSummary(
        jwt_secret_set=bool(settings.jwt_secret.get_secret_value()),
        stripe_connect_enabled=settings.payouts_configured,
        platform_fee_rate=float(settings.platform_fee_rate),
        transfer_retry_enabled=settings.transfer_retry_enabled,
    )


# -- health ------------------------------------------------------------------------------------------------------------


def _alive(root: Supervisor) -> bool:
    return root.state is State.RUNNING


def _checks(
    settings: Settings, database: Database, objects: Objects, meter: Meter | None, root: Supervisor, refs: Refs
) -> Mapping[str, Check]:
    in_redis = settings.redis_url.get_secret_value() != ""
    return {
        "database": partial(_check_database, database),
        "redis": partial(_check_redis, meter) if meter is not None and in_redis else _not_configured,
        "s3": partial(_check_s3, objects) if settings.s3_bucket else _not_configured,
        "ingest": partial(_check_ingest, refs) if settings.ingest_configured else _not_configured,
        "disk": partial(_check_disk, settings.veza_data_dir, _files_folder(settings)),
        "actors": partial(_check_actors, settings, root, refs),
    }


async def _check_database(database: Database) -> CheckResult:
    seconds = await database.ping()
    return CheckResult("ok", {"latency_ms": round(seconds * 1000, 2)})


async def _not_configured() -> CheckResult:
    return CheckResult("not_configured")


async def _check_ingest(refs: Refs) -> CheckResult:
    """Degraded while it does not answer: what is on air goes on, and nobody is dropped for it."""
    found = refs.live.ingest
    if found is None or found.silent_since is not None:
        return CheckResult("degraded", {"error": "the ingest server does not answer"})
    return CheckResult("ok", {"streams": found.streams})


async def _check_s3(objects: Objects) -> CheckResult:
    """Degraded while the bucket cannot be reached: what needs no files goes on."""
    with trio.move_on_after(BUCKET_SECONDS), suppress(Unavailable):
        await objects.check()
        return CheckResult("ok")
    return CheckResult("degraded", {"error": "the bucket cannot be reached"})


async def _check_redis(meter: Meter) -> CheckResult:
    """Degraded while it is away: each process counts for itself who asks how often."""
    if meter.away:
        return CheckResult("degraded", {"error": "redis cannot be reached", "counting": "in this process"})
    return CheckResult("ok")


async def _check_disk(*folders: Path) -> CheckResult:
    """By the fullest of the disks that they are on."""
    free = min([(await trio.to_thread.run_sync(shutil.disk_usage, folder)).free for folder in folders])
    details = {"free_gb": round(free / 1e9, 1)}
    return CheckResult("ok" if free > DISK_FLOOR_BYTES else "degraded", details)


UNWELL = (State.PAUSED, State.DRAINING, State.DRAINED, State.DEGRADED)


async def _check_actors(settings: Settings, root: Supervisor, refs: Refs) -> CheckResult:
    """Degraded while anything is held, a subtree is down after too many restarts, or a provider refuses our key."""
    nodes = (slot.node for slot in root.walk())
    unwell = {node.path: state.value for node in nodes if (state := node.state) in UNWELL}
    queues = {
        "payouts": refs.payouts.snapshot,
        "reversals": refs.reversals.snapshot,
        "refunds": refs.refunds.snapshot,
        "disputes": refs.disputes.snapshot,
    }
    for name, progress in queues.items():
        if progress is not None and progress.stopped_because is not None:
            unwell[name] = "the provider refuses our key"
    payments = refs.payments.snapshot
    if settings.payments_configured and payments is not None and payments.provider == "refuses_key":
        unwell["payments"] = "the payment provider refuses our key"
    return CheckResult("degraded", unwell) if unwell else CheckResult("ok")


# -- the command line --------------------------------------------------------------------------------------------------

AT_A_TERMINAL = Patience(start=5.0)  # the server is not expected to be starting, and somebody waits


async def grant(dsn: str, email: str) -> User:
    """Make an account an admin's. Raises NotFound, DatabaseUnavailable."""
    async with Database.open(dsn, size=1, patience=AT_A_TERMINAL) as database:
        return await admin.grant(Accounts(database), email, new_id=system_mint(), now=utc_now)


async def reset_password(dsn: str, email: str, password: str | None) -> str:
    """Give an account a password, a new one if none is given, and end its sessions; the one that now holds."""
    async with Database.open(dsn, size=1, patience=AT_A_TERMINAL) as database:
        accounts, passwords = Accounts(database), Passwords()
        return await admin.reset_password(accounts, passwords, email, password, new_id=system_mint(), now=utc_now)


async def switch_maintenance(dsn: str, change: MaintenanceChange) -> Maintenance:
    """Switch maintenance on or off; whatever serves the database goes by it within a second."""
    async with Database.open(dsn, size=1, patience=AT_A_TERMINAL) as database:
        return await MaintenanceRows(database, system_mint()).switch(change, admin.SYSTEM)


async def verify_ledger(settings: Settings, dsn: str) -> list[Finding]:
    """What breaks the ledger's invariants; the provider is asked too where one is configured. Raises Unavailable."""
    async with Database.open(dsn, size=1, patience=AT_A_TERMINAL) as database, open_stripe(settings) as stripe:
        return await Ledger(database).verify(stripe if settings.payouts_configured else None)
