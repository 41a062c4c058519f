"""The feature flags: thrown by admins, read by everybody as a published snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from veza.actors import switches
from veza.actors.core import Ask, Ref
from veza.actors.switches import Keeper, Reload
from veza.domain.audit import By
from veza.domain.errors import Refusal
from veza.domain.flags import UNKNOWN, Flag, Flags
from veza.store.errors import StoreError


class Rows(switches.Rows[Flags], Protocol):
    """The rows. `switch` raises StoreError, Forbidden."""

    async def switch(self, flag: Flag, enabled: bool, by: By) -> Flags: ...


@dataclass(frozen=True, slots=True)
class SwitchFlag(Ask[Flags | StoreError | Refusal]):
    flag: Flag
    enabled: bool
    by: By


Messages = SwitchFlag | Reload
FlagsRef = Ref[Messages, Flags]


async def switch(ref: FlagsRef, flag: Flag, *, enabled: bool, by: By) -> Flags:
    """Throw a switch: this process goes by it when this returns, the others within a second.

    Raises StoreError, Forbidden, and what an ask raises.
    """
    return switches.known(await ref.ask(SwitchFlag(flag, enabled, by)))


def current(ref: FlagsRef) -> Flags:
    """How they stand, as far as this process knows."""
    return ref.snapshot or UNKNOWN


class FlagKeeper(Keeper[SwitchFlag, Flags]):
    what = "feature_flags"

    def __init__(self, rows: Rows, changed: switches.Callback = switches.nothing_follows) -> None:
        super().__init__(rows, changed)
        self._flags = rows

    async def handle(self, message: Messages) -> object:
        match message:
            case Reload():
                await self.reload()
                return None
            case SwitchFlag(flag, enabled, by):
                return await self.keep(self._flags.switch(flag, enabled, by))

    def told(self, found: Flags) -> object:
        return {"off": sorted(found.off)}
