"""The Refs that requests may use, one a role: what the tree hands out and the routes are given."""

from __future__ import annotations

from dataclasses import dataclass

from veza.actors.announcements import AnnouncementsRef
from veza.actors.audit import AuditRef
from veza.actors.core import Ref
from veza.actors.exports import ExporterRef
from veza.actors.flags import FlagsRef
from veza.actors.live import Live
from veza.actors.maintenance import MaintenanceRef
from veza.actors.notifier import NotifierRef
from veza.actors.onboarding import OnboardingRef
from veza.actors.payments import Messages as PaymentsMessages
from veza.actors.payments import Till
from veza.actors.payouts import PayoutsRef
from veza.actors.queue import BellRef
from veza.actors.reconciler import ReconcilerRef


@dataclass(frozen=True)
class Refs:
    payments: Ref[PaymentsMessages, Till]
    payouts: PayoutsRef
    onboarding: OnboardingRef
    reconciler: ReconcilerRef
    refunds: BellRef
    reversals: BellRef
    disputes: BellRef
    live: Live
    notifier: NotifierRef
    exporter: ExporterRef
    flags: FlagsRef
    maintenance: MaintenanceRef
    audit: AuditRef
    announcements: AnnouncementsRef
