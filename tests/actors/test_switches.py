"""Keeping switches: what the rows say is what is gone by, soon, whatever is lost or away meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.fakes import database_time
from veza.actors import announcements, flags, maintenance
from veza.actors.announcements import Announce, AnnouncementKeeper, AnnouncementsRef
from veza.actors.core import Actor, ActorCrashed, State
from veza.actors.flags import FlagKeeper, FlagsRef, SwitchFlag
from veza.actors.maintenance import MaintenanceKeeper, MaintenanceRef, SwitchMaintenance
from veza.actors.switches import AWAY_SECONDS, LOAD_SECONDS, POLL_SECONDS
from veza.domain.announcements import Announcement, Announcements, Kind
from veza.domain.audit import By
from veza.domain.errors import NotFound, Unavailable
from veza.domain.flags import UNKNOWN as NO_FLAGS
from veza.domain.flags import Flag, Flags, Switch
from veza.domain.maintenance import UNKNOWN as NOT_KNOWN
from veza.domain.maintenance import Maintenance, MaintenanceChange, changed
from veza.store.errors import DatabaseUnavailable, OutcomeUnknown
from veza.supervisors import Supervisor, one_for_one, permanent, running
from veza.supervisors.control import restart

CONSOLE = By(None)


@dataclass
class FakeRows:
    """One database for several processes. ``deaf``: nobody is rung for. ``hung``: reading takes for ever.

    ``fail``: what each read raises. ``refuse``: what each change raises; of which the outcome is unknown, it was made.
    """

    flags: Flags = field(default_factory=Flags)
    maintenance: Maintenance = field(default_factory=Maintenance)
    deaf: bool = False
    hung: bool = False
    away: bool = False
    fail: list[Exception] = field(default_factory=list)
    refuse: list[Exception] = field(default_factory=list)
    bells: list[trio.Event] = field(default_factory=list)

    async def read(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.hung:
            await trio.sleep_forever()
        if self.fail:
            raise self.fail.pop(0)
        if self.away:
            raise DatabaseUnavailable("away")

    async def write(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuse and not isinstance(self.refuse[0], OutcomeUnknown):
            raise self.refuse.pop(0)

    def told(self) -> None:
        if not self.deaf:
            for bell in self.bells:
                bell.set()
        if self.refuse:
            raise self.refuse.pop(0)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        yield self._rings()

    async def _rings(self) -> AsyncIterator[None]:
        if not self.deaf:
            yield  # of listening itself
        mine = trio.Event()
        self.bells.append(mine)
        while True:
            await mine.wait()
            self.bells.remove(mine)
            self.bells.append(mine := trio.Event())
            yield


class FakeFlags(FakeRows):
    async def load(self) -> Flags:
        await self.read()
        return self.flags

    async def switch(self, flag: Flag, enabled: bool, by: By) -> Flags:
        await self.write()
        others = [each for each in self.flags if each.flag is not flag]
        self.flags = Flags.of([*others, Switch(flag, enabled, database_time())])
        self.told()
        return self.flags


class FakeMaintenance(FakeRows):
    async def load(self) -> Maintenance:
        await self.read()
        return self.maintenance

    async def switch(self, change: MaintenanceChange, by: By) -> Maintenance:
        await self.write()
        self.maintenance = changed(self.maintenance, change, database_time())
        self.told()
        return self.maintenance


class FakeAnnouncements(FakeRows):
    made: tuple[Announcement, ...] = ()

    async def load(self) -> Announcements:
        await self.read()
        return Announcements(self.made)

    async def add(self, announcement: Announcement, by: By) -> Announcements:
        await self.write()
        self.made = (*self.made, announcement)
        self.told()
        return Announcements(self.made)

    async def delete(self, announcement_id: UUID, by: By) -> Announcements:
        await self.write()
        if announcement_id not in {each.id for each in self.made}:
            raise NotFound("There is no such announcement.")
        self.made = tuple(each for each in self.made if each.id != announcement_id)
        self.told()
        return Announcements(self.made)


@dataclass
class Process:
    """``rung``: how often somebody was told that the flags are others."""

    flags: FlagsRef
    maintenance: MaintenanceRef
    tree: Supervisor
    rung: list[float]

    def off(self) -> frozenset[Flag]:
        return flags.current(self.flags).off

    def closed(self) -> bool:
        return maintenance.current(self.maintenance).enabled

    async def switch(self, flag: Flag, *, enabled: bool) -> Flags:
        with trio.fail_after(10):
            return await flags.switch(self.flags, flag, enabled=enabled, by=CONSOLE)

    async def close(self, change: MaintenanceChange) -> Maintenance:
        with trio.fail_after(10):
            return await maintenance.switch(self.maintenance, change, CONSOLE)


@asynccontextmanager
async def process(flag_rows: FakeFlags, row: FakeMaintenance) -> AsyncIterator[Process]:
    rung: list[float] = []
    keeper = permanent("flags", lambda: FlagKeeper(flag_rows, lambda: rung.append(trio.current_time())))
    minder = permanent("maintenance", lambda: MaintenanceKeeper(row))
    tree = one_for_one("switches", keeper, minder)
    async with running(tree, clock=database_time, random=Random(1)):
        yield Process(keeper.ref, minder.ref, tree, rung)


@dataclass
class Two:
    flags: FakeFlags
    maintenance: FakeMaintenance
    one: Process
    other: Process


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    """Two processes on one database."""
    flag_rows, row = FakeFlags(), FakeMaintenance()
    async with process(flag_rows, row) as one, process(flag_rows, row) as other:
        await wait_all_tasks_blocked()
        yield Two(flag_rows, row, one, other)


async def test_who_switches_is_answered_when_the_process_goes_by_it(two: Two, autojump_clock: MockClock) -> None:
    answered = await two.one.switch(Flag.UPLOADS, enabled=False)
    assert answered.off == two.one.off() == {Flag.UPLOADS}
    assert (await two.one.close(MaintenanceChange(True))).enabled
    assert two.one.closed()


async def test_the_other_process_goes_by_it_when_it_is_rung(two: Two, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    await two.one.switch(Flag.UPLOADS, enabled=False)
    await two.one.close(MaintenanceChange(True, "Back soon."))
    await wait_all_tasks_blocked()
    assert two.other.off() == {Flag.UPLOADS}
    assert two.other.closed()
    await two.other.switch(Flag.UPLOADS, enabled=True)
    await two.other.close(MaintenanceChange(False))
    await wait_all_tasks_blocked()
    assert (two.one.off(), two.one.closed()) == (frozenset(), False)
    assert trio.current_time() == began


async def test_a_ring_that_was_lost_costs_a_poll_at_most(two: Two, autojump_clock: MockClock) -> None:
    two.flags.deaf = two.maintenance.deaf = True
    await two.one.switch(Flag.UPLOADS, enabled=False)
    await two.one.close(MaintenanceChange(True))
    await wait_all_tasks_blocked()
    assert (two.other.off(), two.other.closed()) == (frozenset(), False)
    await trio.sleep(POLL_SECONDS)
    await wait_all_tasks_blocked()
    assert two.other.off() == {Flag.UPLOADS}
    assert two.other.closed()


@pytest.mark.parametrize("how", ["away", "hung"])
async def test_while_the_database_is_away_what_was_known_holds(two: Two, how: str, autojump_clock: MockClock) -> None:
    await two.one.switch(Flag.UPLOADS, enabled=False)
    await two.one.close(MaintenanceChange(True))
    vars(two.flags)[how] = vars(two.maintenance)[how] = True
    await trio.sleep(600)
    assert two.one.off() == {Flag.UPLOADS}
    assert two.one.closed()
    two.flags.flags, two.maintenance.maintenance = Flags(), Maintenance()
    vars(two.flags)[how] = vars(two.maintenance)[how] = False
    await trio.sleep(LOAD_SECONDS + AWAY_SECONDS)
    await wait_all_tasks_blocked()
    assert (two.one.off(), two.one.closed()) == (frozenset(), False)
    assert two.one.tree.view().children[0].incarnation == 1


async def test_a_start_without_the_database_allows_nothing_until_it_is_back(autojump_clock: MockClock) -> None:
    flag_rows, row = FakeFlags(away=True), FakeMaintenance(away=True)
    async with process(flag_rows, row) as one:
        await trio.sleep(60)
        assert flags.current(one.flags) is NO_FLAGS
        assert maintenance.current(one.maintenance) is NOT_KNOWN
        flag_rows.away = row.away = False
        await trio.sleep(AWAY_SECONDS)
        await wait_all_tasks_blocked()
        assert (one.off(), one.closed()) == (frozenset(), False)


async def test_a_restart_begins_from_the_rows_and_never_lets_go_of_what_was_known(autojump_clock: MockClock) -> None:
    flag_rows, row = FakeFlags(), FakeMaintenance()
    async with process(flag_rows, row) as one:
        await one.close(MaintenanceChange(True))
        row.away = True
        restart(one.tree, "switches/maintenance", 1)
        await one.tree.wait("switches/maintenance", State.RUNNING, incarnation=2)
        assert one.closed()
        row.away, row.maintenance = False, Maintenance()
        restart(one.tree, "switches/maintenance", 2)
        await one.tree.wait("switches/maintenance", State.RUNNING, incarnation=3)
        assert not one.closed()


async def test_a_change_that_was_not_made_is_told_and_changes_nothing(two: Two, autojump_clock: MockClock) -> None:
    two.flags.refuse.append(DatabaseUnavailable("away"))
    with pytest.raises(DatabaseUnavailable):
        await two.one.switch(Flag.UPLOADS, enabled=False)
    await wait_all_tasks_blocked()
    assert two.one.off() == two.other.off() == frozenset()
    assert two.one.tree.view().children[0].incarnation == 1


async def test_a_change_of_which_nobody_knows_is_told_so_and_looked_for(two: Two, autojump_clock: MockClock) -> None:
    two.flags.deaf = True
    two.flags.refuse.append(OutcomeUnknown("no answer"))
    with pytest.raises(OutcomeUnknown):
        await two.one.switch(Flag.UPLOADS, enabled=False)
    await wait_all_tasks_blocked()
    assert two.one.off() == {Flag.UPLOADS}


async def test_who_needs_to_know_is_rung_at_each_change_and_at_no_poll(two: Two, autojump_clock: MockClock) -> None:
    two.one.rung.clear()
    await trio.sleep(10 * POLL_SECONDS)
    assert two.one.rung == []
    await two.other.switch(Flag.PAYOUTS, enabled=False)
    await two.other.switch(Flag.PAYOUTS, enabled=True)
    await wait_all_tasks_blocked()
    assert 1 <= len(two.one.rung) <= 2  # rings may fold into one
    assert len(two.other.rung) == 3  # the first of its start


async def test_a_bug_in_reading_fails_nobody_who_reads_the_snapshot(two: Two, autojump_clock: MockClock) -> None:
    await two.one.switch(Flag.UPLOADS, enabled=False)
    two.flags.fail.append(RuntimeError("planted"))
    await trio.sleep(POLL_SECONDS + 1)
    assert two.one.off() == {Flag.UPLOADS}
    assert two.other.off() == {Flag.UPLOADS}
    await trio.sleep(60)
    assert sum(each.incarnation for process in (two.one, two.other) for each in process.tree.view().children) == 5


async def test_a_bug_in_a_change_fails_its_asker_and_spares_the_next(two: Two, autojump_clock: MockClock) -> None:
    two.flags.refuse.append(RuntimeError("planted"))
    with pytest.raises(ActorCrashed):
        await two.one.switch(Flag.UPLOADS, enabled=False)
    assert (await two.one.switch(Flag.UPLOADS, enabled=False)).off == {Flag.UPLOADS}


@pytest.mark.parametrize("where", WHERE)
async def test_the_keeper_of_flags_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    message: flags.Messages = SwitchFlag(Flag.UPLOADS, False, CONSOLE)
    await assert_recovers(where, partial(FlagKeeper, FakeFlags(deaf=True)), message)


@pytest.mark.parametrize("where", WHERE)
async def test_the_keeper_of_maintenance_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    def keeper() -> Actor[maintenance.Messages, Maintenance]:
        return MaintenanceKeeper(FakeMaintenance(deaf=True))

    message: maintenance.Messages = SwitchMaintenance(MaintenanceChange(True), CONSOLE)
    await assert_recovers(where, keeper, message)


# -- announcements -----------------------------------------------------------------------------------------------------


def announcement(number: int = 1) -> Announcement:
    at = database_time()
    return Announcement(UUID(int=number), "Moving", "We move on Sunday.", Kind.INFO, at, None, at)


@asynccontextmanager
async def announcing(rows: FakeAnnouncements) -> AsyncIterator[AnnouncementsRef]:
    keeper = permanent("announcements", lambda: AnnouncementKeeper(rows))
    async with running(one_for_one("switches", keeper), clock=database_time, random=Random(1)):
        yield keeper.ref


async def announce(ref: AnnouncementsRef, made: Announcement) -> None:
    with trio.fail_after(10):
        await announcements.announce(ref, made, CONSOLE)


async def delete(ref: AnnouncementsRef, announcement_id: UUID) -> None:
    with trio.fail_after(10):
        await announcements.delete(ref, announcement_id, CONSOLE)


async def test_what_is_announced_or_deleted_is_known_here_when_answered_and_there_when_rung(
    autojump_clock: MockClock,
) -> None:
    rows, one = FakeAnnouncements(), announcement()
    async with announcing(rows) as here, announcing(rows) as there:
        await wait_all_tasks_blocked()
        await announce(here, one)
        assert announcements.current(here).all == (one,)
        await wait_all_tasks_blocked()
        assert announcements.current(there).all == (one,)
        await delete(there, one.id)
        assert announcements.current(there).all == ()
        await wait_all_tasks_blocked()
        assert announcements.current(here).all == ()


async def test_deleting_what_is_not_there_is_refused_and_crashes_nobody(autojump_clock: MockClock) -> None:
    rows = FakeAnnouncements()
    async with announcing(rows) as ref:
        with pytest.raises(NotFound):
            await delete(ref, UUID(int=9))
        one = announcement()
        await announce(ref, one)
        assert announcements.current(ref).all == (one,)


async def test_an_announcement_that_was_not_written_is_told_so_and_not_shown(autojump_clock: MockClock) -> None:
    rows = FakeAnnouncements(refuse=[DatabaseUnavailable("away")])
    async with announcing(rows) as ref:
        with pytest.raises(DatabaseUnavailable):
            await announce(ref, announcement())
        await wait_all_tasks_blocked()
        assert announcements.current(ref).all == ()


async def test_without_the_database_the_last_announcements_are_shown_and_before_the_first_look_none(
    autojump_clock: MockClock,
) -> None:
    rows = FakeAnnouncements(away=True)
    async with announcing(rows) as ref:
        await wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            announcements.current(ref)
        rows.away, one = False, announcement()
        await trio.sleep(AWAY_SECONDS)
        await announce(ref, one)
        rows.away = True
        await trio.sleep(600)
        assert announcements.current(ref).all == (one,)


@pytest.mark.parametrize("where", WHERE)
async def test_the_keeper_of_announcements_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    def keeper() -> Actor[announcements.Messages, Announcements]:
        return AnnouncementKeeper(FakeAnnouncements(deaf=True))

    message: announcements.Messages = Announce(announcement(), CONSOLE)
    await assert_recovers(where, keeper, message)
