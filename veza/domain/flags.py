"""Features that an operator can switch off while the platform runs. What is under way, and what is kept, goes on."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from veza.domain.errors import Forbidden


class Flag(StrEnum):
    """A switch, by the name that operators know it by. One that nobody has thrown is on."""

    REGISTRATION = "auth.registration"
    """Off: nobody new signs up; who has an account comes in."""
    CHECKOUT = "marketplace.checkout"
    """Off: no order is made; those there are can be paid, fetched and refunded."""
    PAYOUTS = "payouts.enabled"
    """Off: transfers are held, for the reason `flag`, until it is on again; sales are booked all the same."""
    INGEST = "live.ingest"
    """Off: no session begins; an encoder whose session is open may come back to it."""
    UPLOADS = "cloud.uploads"
    """Off: no cloud file is uploaded and none is given new bytes; reading, snapshots, restoring and deleting go on."""
    EXPORTS = "exports.enabled"
    """Off: no export is asked for and none is begun; one that is being made is finished, and can be fetched."""


SWITCHED_OFF: Final = {
    Flag.REGISTRATION: "Signing up",
    Flag.CHECKOUT: "Ordering",
    Flag.PAYOUTS: "Paying out",
    Flag.INGEST: "Streaming",
    Flag.UPLOADS: "Uploading",
    Flag.EXPORTS: "Exporting one's data",
}


def feature_disabled(flag: Flag) -> Forbidden:
    """What is said to whoever asks for a feature that is switched off."""
    return Forbidden(f"{SWITCHED_OFF[flag]} is switched off at the moment.", code="feature_disabled")
