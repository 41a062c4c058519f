"""Streams on air across crashes, restarts of Veza and several processes of it, on trio's own clock."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.live_fakes import (
    SHOW,
    FakeRows,
    FakeServer,
    FakeTable,
    lone_session,
    open_station,
)
from veza.actors.core import ActorCrashed
from veza.actors.stream_session import CheckHold, EndSession, Messages, Publish
from veza.domain.errors import Unavailable
from veza.domain.live import SessionEnd, StreamState
from veza.domain.stream_keys import KeyClaim
from veza.supervisors.child import Intensity

S = StreamState


async def test_what_was_on_air_is_taken_up_after_a_restart(autojump_clock: MockClock) -> None:
    server, table = FakeServer(), FakeTable()
    async with open_station(server, table) as station:
        await station.on_air()
        first = station.session()
    async with open_station(server, table, number=2) as station:
        await station.until(S.LIVE)
        await trio.sleep(20)
        session = station.session()
        assert (session.id, session.reconnects, session.state) == (first.id, 0, S.LIVE)
        assert session.changes > first.changes
        assert server.kicked == []
        server.hang_up()
        await station.until(S.RECONNECTING)


async def test_what_a_killed_process_had_on_air_is_taken_over_when_its_lease_is_over(
    autojump_clock: MockClock,
) -> None:
    server, table = FakeServer(), FakeTable()
    async with open_station(server, table) as station:
        await station.on_air()
        kept = dict(table.open), dict(table.seen)
    table.open, table.seen = kept  # as a kill leaves it: nothing was let go
    async with open_station(server, table, number=2) as station:
        await trio.sleep(2)
        assert station.state() is S.LIVE  # as its row has it
        await trio.sleep(12)
        [(holder, _)] = table.open.values()
        assert holder.int == 0xFF02
        assert station.state() is S.LIVE


async def test_one_that_left_while_nobody_looked_is_missed_after_two_polls(autojump_clock: MockClock) -> None:
    server, table = FakeServer(), FakeTable()
    async with open_station(server, table) as station:
        await station.on_air()
    server.hang_up(told=False)
    async with open_station(server, table, number=2) as station:
        await station.until(S.RECONNECTING)
        await station.until(None)
        assert [why for _, _, why, _ in table.past] == [SessionEnd.TIMEOUT]


async def test_another_process_knows_what_is_on_air_and_who_asks_it_holds_it(autojump_clock: MockClock) -> None:
    server, table = FakeServer(), FakeTable()
    async with open_station(server, table) as one, open_station(server, table, number=2) as two:
        await one.on_air()
        await two.until(S.LIVE)
        assert two.status().is_live
        assert two.live.on_air() == [SHOW]
        one.live.watched(SHOW, 1)
        two.live.watched(SHOW, 2)
        await trio.sleep(12)
        assert (one.status().viewer_count, two.status().viewer_count) == (2, 2)
        server.hang_up()  # the hook comes to two, which held nothing
        await two.until(S.RECONNECTING)
        await one.until(S.RECONNECTING)
        [(holder, _)] = table.open.values()
        assert holder.int == 0xFF02
        await one.on_air()
        await two.until(S.LIVE)
        assert len(table.open) == 1
        assert await two.end(SessionEnd.FINISHED) is True
        await one.until(None)
        assert len(table.past) == 1


async def test_a_process_that_stood_still_does_not_drop_who_sent_all_the_while(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.publish()
        autojump_clock.jump(15)  # its alarm rings, late, and the polls have shown nothing yet
        await station.until(S.LIVE)
        assert station.server.kicked == []
        station.server.hang_up()
        await station.until(S.RECONNECTING)
        autojump_clock.jump(100)
        await station.on_air()
        assert station.session().reconnects == 1


async def test_who_is_told_that_another_may_hold_its_session_looks_before_it_lets_go(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        ref = station.live._sessions.get(SHOW)
        assert ref is not None
        ref.tell(CheckHold())
        await trio.sleep(20)
        assert station.state() is S.LIVE
        assert station.server.kicked == []
        FakeRows(station.table, UUID(int=0xFF02))._hold(station.session())
        ref.tell(CheckHold())
        await trio.sleep(0.5)
        assert station.live._sessions.get(SHOW) is None


async def test_nobody_is_dropped_by_who_does_not_know_that_another_holds_the_session(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        (await station.on_air()).freeze()
        await station.until(S.STALLED)
        FakeRows(station.table, UUID(int=0xFF02))._hold(station.session())
        with pytest.raises(Unavailable, match="Another process"):
            await station.publish()
        assert station.server.kicked == []
    async with open_station() as station:
        await station.on_air()
        FakeRows(station.table, UUID(int=0xFF02))._hold(station.session())
        with pytest.raises(Unavailable, match="Another process"):
            await station.end(SessionEnd.FINISHED)
        assert station.server.kicked == []


async def test_what_another_process_ended_is_over_here_within_two_seconds(autojump_clock: MockClock) -> None:
    server, table = FakeServer(), FakeTable()
    async with open_station(server, table) as one, open_station(server, table, number=2) as two:
        await one.on_air()
        server.hang_up(told=False)
        await one.until(S.RECONNECTING)
        await two.until(S.RECONNECTING)
        await two.end(SessionEnd.FINISHED)
        await two.until(S.ENDED, None)  # and never what was known of the other before
        began = trio.current_time()
        await one.until(None)
        assert trio.current_time() - began <= 2


async def test_an_encoder_beside_one_that_nobody_could_see_any_more_replaces_it(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.server.away = "timeout"
        await station.until(S.RECONNECTING)
        station.server.away = None
        await station.publish()
        assert station.server.kicked == [SHOW]
        await station.until(S.LIVE)


async def test_a_session_that_was_never_live_leaves_the_state_that_was_before(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        await station.end(SessionEnd.FINISHED)
        await station.until(None)
        (await station.publish()).freeze()
        station.table.away = True  # so that it is told for a while before its row is written
        await station.until(S.ENDED)
        assert not station.status().is_live


async def test_while_the_database_is_away_an_encoder_is_refused_and_nothing_crashes(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        station.table.away = True
        with capture_logs() as lines:
            for _ in range(20):
                with pytest.raises(Unavailable):
                    await station.publish()
        assert [line for line in lines if line["event"] == "actor_crashed"] == []


async def test_a_key_that_is_replaced_ends_only_what_was_begun_with_the_old_one(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        station.table.key_versions[SHOW] = 2
        await station.publish(version=2)
        ref = station.live._sessions.get(SHOW)
        assert ref is not None
        ref.tell(EndSession(SessionEnd.KEY_ROTATED, key_version=1))
        await station.until(S.LIVE)
        assert station.server.kicked == []


async def test_a_crashed_session_goes_on_from_its_row(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        first = station.session()
        station.server.crash = RuntimeError("planted")
        with pytest.raises(ActorCrashed):
            await station.end(SessionEnd.FINISHED)
        station.server.crash = None
        await trio.sleep(5)
        session = station.session()
        assert (session.id, session.state) == (first.id, S.LIVE)
        assert session.changes > first.changes
        station.server.hang_up()
        await station.until(S.RECONNECTING)


@pytest.mark.parametrize("where", WHERE)
async def test_a_session_recovers_from_a_crash(where: str, autojump_clock: MockClock) -> None:
    server, table = FakeServer(), FakeTable()
    message: Messages = Publish(KeyClaim(SHOW, 1), "1")
    await assert_recovers(where, lambda: lone_session(server, table), message)


async def test_a_poller_that_crashes_ends_nothing(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        encoder = await station.on_air()
        station.server.blind = RuntimeError("planted")
        await trio.sleep(10)
        assert station.server.blind is None
        assert station.state() is S.LIVE
        encoder.freeze()
        await station.until(S.STALLED)


async def test_a_holder_that_crashes_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.crash = RuntimeError("planted")
        await trio.sleep(10)
        assert station.table.crash is None
        assert station.state() is S.LIVE
        assert trio.current_time() - station.table.seen[UUID(int=0xFF01)] < 2


async def test_a_session_that_crashed_too_often_gets_an_actor_again(autojump_clock: MockClock) -> None:
    async with open_station(intensity=Intensity(restarts=0, per_seconds=60)) as station:
        await station.on_air()
        station.server.crash = RuntimeError("planted")
        with pytest.raises(ActorCrashed):
            await station.end(SessionEnd.FINISHED)
        station.server.crash = None
        await trio.sleep(6)
        assert station.state() is S.LIVE
        assert await station.end(SessionEnd.FINISHED) is True
