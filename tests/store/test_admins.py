"""What an admin does is done if they are one as it is written down, whatever they were when their request came in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import trio

from tests.people import People, until_blocked
from tests.sales import Sales
from veza.domain.accounts import Role, User
from veza.domain.announcements import Announcement, Kind
from veza.domain.audit import By
from veza.domain.errors import Conflict, Forbidden, Refusal
from veza.domain.flags import Flag
from veza.domain.maintenance import MaintenanceChange
from veza.domain.reports import Action, ContentType, Report
from veza.store.accounts import Accounts
from veza.store.admins import ADMINS, check_still_admin
from veza.store.announcements import AnnouncementRows
from veza.store.audit import AuditRows
from veza.store.bans import Bans
from veza.store.bridge import Database
from veza.store.errors import TryAgain
from veza.store.flags import FlagRows
from veza.store.maintenance import MaintenanceRows
from veza.store.payouts import Payouts
from veza.store.reconciliations import Reconciliations
from veza.store.reports import Reports


@dataclass
class Desk:
    db: Database
    people: People
    root: User
    ann: User
    bob: User
    transfer: UUID
    failed: UUID
    report: UUID

    @property
    def as_ann(self) -> By:
        return By(self.ann.id, "req-1", as_admin=True)

    async def demote(self, whom: User, by: User | None = None) -> None:
        await Accounts(self.db).set_role(
            whom.id,
            Role.USER,
            by=By((by or self.root).id, as_admin=True),
            new_id=self.people.new_id,
            now=self.people.clock(),
        )

    async def ban(self, whom: User, by: By) -> None:
        await Bans(self.db, self.people.new_id).ban(whom.id, None, "", by=by, now=self.people.clock())

    async def state(self) -> list[Any]:
        """Whatever an admin may change, and what was written of it."""
        return [
            await self.db.fetch(f"TABLE {table}")
            for table in (
                "audit_entries", "users", "feature_flags", "maintenance", "announcements", "transfers", "reports",
                "reconciliations", "notifications", "sessions",
            )
        ]  # fmt: skip


@pytest.fixture
async def desk(db: Database) -> Desk:
    people, sales = People(), Sales(db)
    users = [
        people.user(name, role=role) for name, role in (("root", Role.ADMIN), ("ann", Role.ADMIN), ("bob", Role.USER))
    ]
    for user in users:
        await Accounts(db).register(user, "a hash", people.session(user.id))
    root, ann, bob = users
    seller = await sales.seller("acct_1")
    report = Report(people.new_id(), root.id, ContentType.USER, bob.id, bob.id, "Spam.", people.clock())
    await Reports(db, people.new_id).add(report)
    transfer, failed = await sales.sale(seller), await sales.sale(seller)
    async with db.transaction() as tx:
        await tx.execute("UPDATE transfers SET status = 'failed', failure_code = 'x' WHERE id = $1", failed)
    return Desk(db, people, root, ann, bob, transfer, failed, report.id)


Deed = Callable[[Desk, By], Awaitable[object]]

DEEDS: dict[str, Deed] = {
    "flag.switch": lambda desk, by: FlagRows(desk.db, desk.people.new_id).switch(Flag.UPLOADS, False, by),
    "maintenance.switch": lambda desk, by: MaintenanceRows(desk.db, desk.people.new_id).switch(
        MaintenanceChange(True, None, None), by
    ),
    "announcement.create": lambda desk, by: AnnouncementRows(desk.db, desk.people.new_id).add(
        Announcement(UUID(int=7), "News", "Of today.", Kind.INFO, desk.people.clock(), None, desk.people.clock()), by
    ),
    "user.ban": lambda desk, by: desk.ban(desk.bob, by),
    "user.role": lambda desk, by: Accounts(desk.db).set_role(
        desk.bob.id, Role.ADMIN, by=by, new_id=desk.people.new_id, now=desk.people.clock()
    ),
    "report.resolve": lambda desk, by: Reports(desk.db, desk.people.new_id).decide(
        desk.report, Action.WARN, "Don't.", None, by=by, now=desk.people.clock()
    ),
    "transfer.hold": lambda desk, by: Payouts(desk.db, desk.people.new_id).hold(desk.transfer, by, "Wait."),
    "transfer.retry": lambda desk, by: Payouts(desk.db, desk.people.new_id).claim_one(
        desk.failed, timedelta(seconds=60), by
    ),
    "ledger.reconcile": lambda desk, by: Reconciliations(desk.db, desk.people.new_id).record(
        [], provider_asked=False, next_in=timedelta(days=1), by=by
    ),
    "actor.pause": lambda desk, by: AuditRows(desk.db).record(
        desk.people.new_id(), by, "actor.pause", "actors/veza/janitor", {}
    ),
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_an_admin_does_is_not_done_once_they_are_none(desk: Desk, deed: str) -> None:
    with trio.fail_after(20):
        await desk.demote(desk.ann)
        before = await desk.state()
        with pytest.raises(Forbidden):
            await DEEDS[deed](desk, desk.as_ann)
        assert await desk.state() == before
        written = "SELECT count(*) FROM audit_entries WHERE action = $1 AND actor_id = $2"
        earlier = await desk.db.fetchval(written, deed, desk.root.id)
        await DEEDS[deed](desk, By(desk.root.id, as_admin=True))
        assert await desk.db.fetchval(written, deed, desk.root.id) == earlier + 1


async def test_nor_once_they_are_banned_until_the_ban_is_over(desk: Desk) -> None:
    await desk.ban(desk.ann, By(desk.root.id, as_admin=True))
    with pytest.raises(Forbidden):
        await DEEDS["flag.switch"](desk, desk.as_ann)
    async with desk.db.transaction() as tx:
        await tx.execute("UPDATE users SET banned_until = now() WHERE id = $1", desk.ann.id)
    await DEEDS["flag.switch"](desk, desk.as_ann)


@pytest.mark.parametrize("deed", DEEDS)
async def test_while_an_admin_is_being_made_none_nothing_is_done_and_nobody_waits(desk: Desk, deed: str) -> None:
    async with desk.db.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock($1)", ADMINS)
        before = await desk.state()
        with trio.fail_after(5), pytest.raises(TryAgain):
            await DEEDS[deed](desk, desk.as_ann)
        assert await desk.state() == before


async def test_who_is_one_as_it_is_written_down_stays_one_until_it_is_done(desk: Desk) -> None:
    done: list[str] = []

    async def demote() -> None:
        await desk.demote(desk.ann)
        done.append("demoted")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, desk.db.transaction() as tx:
            await check_still_admin(tx, desk.ann.id)
            nursery.start_soon(demote)
            await until_blocked(desk.db)
            done.append("written")
    assert done == ["written", "demoted"]


async def test_two_admins_who_put_each_other_out_as_admins_leave_one_and_neither_waits_for_ever(desk: Desk) -> None:
    refused: list[str] = []

    async def put_out(attempt: Awaitable[None]) -> None:
        try:
            await attempt
        except Refusal as refusal:
            refused.append(refusal.code)

    with trio.fail_after(20):
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(put_out, desk.ban(desk.ann, By(desk.root.id, as_admin=True)))
                nursery.start_soon(put_out, desk.demote(desk.root, by=desk.ann))
            async with desk.db.transaction() as tx:
                left = "SELECT count(*) FROM users WHERE role = 'admin' AND banned_until IS NULL"
                assert await tx.fetchval(left) == 1
                await tx.execute(
                    "UPDATE users SET role = 'admin', banned_until = NULL, banned_at = NULL WHERE id = ANY($1)",
                    [desk.ann.id, desk.root.id],
                )
    assert len(refused) == 10
    assert set(refused) <= {"last_admin", Forbidden.code, Conflict.code}
