"""Maintenance: persisted, switched by admins and the command line, read by every request as a published snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from veza.actors import switches
from veza.actors.core import Ask, Ref
from veza.actors.switches import Keeper, Reload
from veza.domain.audit import By
from veza.domain.errors import Refusal
from veza.domain.maintenance import UNKNOWN, Maintenance, MaintenanceChange
from veza.store.errors import StoreError


class Rows(switches.Rows[Maintenance], Protocol):
    """The row. `switch` raises StoreError, Forbidden, and Invalid for a change that makes no sense."""

    async def switch(self, change: MaintenanceChange, by: By) -> Maintenance: ...


@dataclass(frozen=True, slots=True)
class SwitchMaintenance(Ask[Maintenance | StoreError | Refusal]):
    change: MaintenanceChange
    by: By


Messages = SwitchMaintenance | Reload
MaintenanceRef = Ref[Messages, Maintenance]


async def switch(ref: MaintenanceRef, change: MaintenanceChange, by: By) -> Maintenance:
    """Switch it: this process goes by it when this returns, the others within a second.

    Raises StoreError, Forbidden, Invalid (`veza.domain.maintenance.changed`), and what an ask raises.
    """
    return switches.known(await ref.ask(SwitchMaintenance(change, by)))


def current(ref: MaintenanceRef) -> Maintenance:
    """How it stands, as far as this process knows."""
    return ref.snapshot or UNKNOWN


class MaintenanceKeeper(Keeper[SwitchMaintenance, Maintenance]):
    what = "maintenance"

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._maintenance = rows

    async def handle(self, message: Messages) -> object:
        match message:
            case Reload():
                await self.reload()
                return None
            case SwitchMaintenance(change, by):
                return await self.keep(self._maintenance.switch(change, by))

    def told(self, found: Maintenance) -> object:
        return {"enabled": found.enabled, "expected_end": found.expected_end}
