"""The announcements: made and deleted by admins, read by everybody as a published snapshot, so that no visitor asks
the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from veza.actors import switches
from veza.actors.core import Ask, Ref
from veza.actors.switches import Keeper, Reload
from veza.domain.announcements import Announcement, Announcements
from veza.domain.audit import By
from veza.domain.errors import Refusal, Unavailable
from veza.store.errors import StoreError


class Rows(switches.Rows[Announcements], Protocol):
    """The rows. Changes raise StoreError and Forbidden; `delete` raises NotFound."""

    async def add(self, announcement: Announcement, by: By) -> Announcements: ...
    async def delete(self, announcement_id: UUID, by: By) -> Announcements: ...


@dataclass(frozen=True, slots=True)
class Announce(Ask[Announcements | StoreError | Refusal]):
    announcement: Announcement
    by: By


@dataclass(frozen=True, slots=True)
class DeleteAnnouncement(Ask[Announcements | StoreError | Refusal]):
    announcement_id: UUID
    by: By


Changes = Announce | DeleteAnnouncement
Messages = Announce | DeleteAnnouncement | Reload
AnnouncementsRef = Ref[Messages, Announcements]


async def announce(ref: AnnouncementsRef, announcement: Announcement, by: By) -> None:
    """Make one: this process goes by it when this returns, the others within a second.

    Raises StoreError, and what an ask raises.
    """
    switches.known(await ref.ask(Announce(announcement, by)))


async def delete(ref: AnnouncementsRef, announcement_id: UUID, by: By) -> None:
    """Delete one, likewise. Raises NotFound, StoreError, and what an ask raises."""
    switches.known(await ref.ask(DeleteAnnouncement(announcement_id, by)))


def current(ref: AnnouncementsRef) -> Announcements:
    """Those that are shown or will be, as far as this process knows. Raises Unavailable before the first look."""
    if ref.snapshot is None:
        raise Unavailable("The announcements are not known yet; try again.")
    return ref.snapshot


class AnnouncementKeeper(Keeper[Changes, Announcements]):
    what = "announcements"

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._announcements = rows

    async def handle(self, message: Messages) -> object:
        match message:
            case Reload():
                await self.reload()
                return None
            case Announce(announcement, by):
                return await self.keep(self._announcements.add(announcement, by))
            case DeleteAnnouncement(announcement_id, by):
                return await self.keep(self._announcements.delete(announcement_id, by))

    def told(self, found: Announcements) -> object:
        return {"open": len(found.all)}
