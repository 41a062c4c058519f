"""Features that an operator can switch off while the platform runs. What is under way, and what is kept, goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from veza.domain.errors import Forbidden, NotFound


class Flag(StrEnum):
    """A switch, by the name that operators know it by. One that nobody has thrown is on."""

    REGISTRATION = "auth.registration"
    CHECKOUT = "marketplace.checkout"
    PAYOUTS = "payouts.enabled"
    INGEST = "live.ingest"
    UPLOADS = "cloud.uploads"
    EXPORTS = "exports.enabled"


DESCRIPTIONS: Final[Mapping[Flag, str]] = {
    Flag.REGISTRATION: "Off: nobody new signs up; who has an account comes in.",
    Flag.CHECKOUT: "Off: no order is made; those there are can be paid, fetched and refunded.",
    Flag.PAYOUTS: "Off: transfers are held as they fall due, until it is on again; sales are booked all the same.",
    Flag.INGEST: "Off: no session begins; an encoder whose session is open may come back to it.",
    Flag.UPLOADS: "Off: no cloud file is uploaded and none is given new bytes; reading, snapshots, restoring and"
    " deleting go on.",
    Flag.EXPORTS: "Off: no export is asked for and none is begun; one that is being made is finished, and can be"
    " fetched.",
}
"""What is shown to operators: what stops, and what goes on."""

SWITCHED_OFF: Final = {
    Flag.REGISTRATION: "Signing up",
    Flag.CHECKOUT: "Ordering",
    Flag.PAYOUTS: "Paying out",
    Flag.INGEST: "Streaming",
    Flag.UPLOADS: "Uploading",
    Flag.EXPORTS: "Exporting one's data",
}


@dataclass(frozen=True)
class Switch:
    """How one flag stands; ``updated_at`` is null for one that nobody has ever thrown."""

    flag: Flag
    enabled: bool = True
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Flags:
    """How all flags stand at one moment. Without further word every feature is on."""

    thrown: tuple[Switch, ...] = ()
    off: frozenset[Flag] = frozenset()

    @classmethod
    def of(cls, thrown: Iterable[Switch]) -> Flags:
        """What follows from the switches that were ever thrown."""
        switches = tuple(thrown)
        return cls(switches, frozenset(each.flag for each in switches if not each.enabled))

    def is_on(self, flag: Flag) -> bool:
        return flag not in self.off

    def check(self, flag: Flag) -> None:
        """Raises Forbidden (`feature_disabled`) while the feature is switched off."""
        if flag in self.off:
            raise feature_disabled(flag)

    def switch(self, flag: Flag) -> Switch:
        return next((each for each in self.thrown if each.flag is flag), Switch(flag))

    def __iter__(self) -> Iterator[Switch]:
        return map(self.switch, Flag)


ALL_ON: Final = Flags()
UNKNOWN: Final = Flags(off=frozenset(Flag))
"""Until the rows were read once, nothing is taken to be allowed that may be switched off."""


def flag_named(name: str) -> Flag:
    """Raises NotFound for a name that is no flag's."""
    try:
        return Flag(name)
    except ValueError:
        raise NotFound("There is no such feature flag.") from None


def feature_disabled(flag: Flag) -> Forbidden:
    """What is said to whoever asks for a feature that is switched off."""
    return Forbidden(f"{SWITCHED_OFF[flag]} is switched off at the moment.", code="feature_disabled")
