"""A stream on air: every state and timer of its session, over a server and rows in memory and trio's own clock."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.live_fakes import (
    AAC,
    BYTES_A_SECOND,
    H264,
    SHOW,
    FakeRows,
    FakeServer,
    FakeTable,
    lone_session,
    open_station,
)
from veza.actors.core import ActorCrashed
from veza.actors.stream_session import CheckHold, EndSession, Messages, Publish
from veza.domain.errors import Conflict, Forbidden, Unavailable
from veza.domain.live import Health, SessionEnd, StreamState
from veza.domain.stream_keys import KeyClaim
from veza.supervisors.child import Intensity

S = StreamState


async def test_an_encoder_is_let_in_and_live_once_its_bytes_advance(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.publish()
        assert station.state() is S.STARTING
        assert not station.status().is_live
        await station.until(S.LIVE)
        session = station.session()
        assert (session.video, session.audio) == (H264, AAC)
        assert session.publisher is not None
        assert session.publisher.boot == "boot-1"
        assert station.status().is_live
        assert station.table.open[SHOW][1].state is S.LIVE


async def test_one_that_sends_nothing_is_dropped_after_ten_seconds_and_leaves_no_trace(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        (await station.publish()).freeze()
        began = trio.current_time()
        await station.until(None)
        assert 10 <= trio.current_time() - began <= 11
        assert station.server.kicked == [SHOW]
        assert (station.table.open, station.table.past) == ({}, [])


async def test_a_second_encoder_is_refused_and_hurts_nobody(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        with pytest.raises(Conflict, match="has a publisher"):
            await station.publish()
        station.live.left(SHOW, "99")  # nginx tells of the one that it refused, too
        await trio.sleep(5)
        assert station.state() is S.LIVE


async def test_two_at_once_let_one_in(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        outcomes: list[bool] = []

        async def attempt() -> None:
            try:
                await station.publish()
            except Conflict:
                outcomes.append(False)
            else:
                outcomes.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(attempt)
        assert sorted(outcomes) == [False] * 9 + [True]


async def test_a_publisher_without_bytes_is_stalled_after_six_seconds_and_live_again_with_the_next(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        encoder = await station.on_air()
        encoder.freeze()
        froze = trio.current_time()
        await station.until(S.STALLED)
        assert 6 <= trio.current_time() - froze <= 10
        assert station.status().is_live
        assert station.status().health is Health.POOR
        encoder.thaw()
        await station.until(S.LIVE)
        assert station.session().reconnects == 0


async def test_an_encoder_that_was_killed_comes_back_into_the_same_session(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        first = station.session()
        station.server.hang_up()
        await station.until(S.RECONNECTING)
        assert station.status().is_live
        await station.on_air()
        session = station.session()
        assert (session.id, session.reconnects, session.live_at) == (first.id, 1, first.live_at)


async def test_the_bytes_of_every_publisher_are_a_sessions_bytes(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        for _ in range(2):
            await station.on_air()
            await trio.sleep(20)
            station.server.hang_up()
            await station.until(S.RECONNECTING)
        await station.until(None)
        [(_, figures, why, _)] = station.table.past
        assert why is SessionEnd.TIMEOUT
        assert 40 * BYTES_A_SECOND <= figures.bytes_in <= 60 * BYTES_A_SECOND


async def test_the_grace_is_not_begun_anew_by_an_encoder_that_shows_nothing(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.server.hang_up()
        await station.until(S.RECONNECTING)
        lost = trio.current_time()
        while station.state() is S.RECONNECTING:
            (await station.publish()).freeze()
            await station.until(S.RECONNECTING, S.ENDED, None)
        assert 60 <= trio.current_time() - lost <= 75
        await station.until(None)


async def test_the_grace_over_it_is_ended_and_its_row_written(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.server.hang_up()
        lost = trio.current_time()
        await station.until(None)
        assert 60 <= trio.current_time() - lost <= 62
        [(session, _, why, _)] = station.table.past
        assert (session.state, why) == (S.ENDED, SessionEnd.TIMEOUT)


async def test_a_ghost_is_dropped_for_the_encoder_that_comes_back(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        (await station.on_air()).freeze()
        first = station.session()
        await station.until(S.STALLED)
        await station.on_air()
        assert station.server.kicked == [SHOW]
        session = station.session()
        assert (session.id, session.reconnects) == (first.id, 1)
        assert session.publisher is not None
        assert session.publisher.client_id == "2"


async def test_an_old_key_does_not_drop_a_publisher_that_stands_still(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        station.table.key_versions[SHOW] = 2
        encoder = await station.publish(version=2)
        await station.until(S.LIVE)
        encoder.freeze()
        await station.until(S.STALLED)
        with pytest.raises(Forbidden, match="not valid"):
            await station.publish(version=1)
        assert station.server.kicked == []
        assert station.state() is S.STALLED


async def test_a_ghost_that_cannot_be_dropped_keeps_everyone_out_until_it_can(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        (await station.on_air()).freeze()
        await station.until(S.STALLED)
        station.server.away = "refused"
        with pytest.raises(Unavailable):
            await station.publish()
        assert station.state() is S.STALLED
        station.server.away = None
        await station.on_air()


async def test_polls_that_fail_change_no_state_and_make_health_unknown(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        assert station.status().health is Health.GOOD
        station.server.away = "timeout"
        await trio.sleep(25)
        assert station.state() is S.LIVE
        assert station.status().health is Health.UNKNOWN
        station.server.away = None
        await trio.sleep(10)
        assert station.state() is S.LIVE
        assert station.status().health is Health.GOOD


async def test_a_server_silent_for_half_a_minute_has_its_sessions_reconnecting_and_then_ended(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        await station.on_air()
        station.server.away = "refused"
        silent = trio.current_time()
        await station.until(S.RECONNECTING)
        assert 30 <= trio.current_time() - silent <= 34
        await station.until(None)
        assert 90 <= trio.current_time() - silent <= 96
        assert [why for _, _, why, _ in station.table.past] == [SessionEnd.INGEST_LOST]


async def test_a_publisher_that_was_there_all_the_time_is_live_again_when_its_server_answers(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        await station.on_air()
        station.server.away = "timeout"
        await station.until(S.RECONNECTING)
        station.server.away = None
        await station.until(S.LIVE)
        assert station.session().reconnects == 0


async def test_a_restart_of_the_server_is_not_taken_for_its_old_publisher_of_the_same_number(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        await station.on_air()
        station.server.restart()
        await station.until(S.RECONNECTING)
        await station.on_air()  # the server numbers anew: this is its client 1 again
        session = station.session()
        assert (session.reconnects, session.publisher and session.publisher.boot) == (1, "boot-1+")


async def test_whoever_publishes_without_having_been_let_in_is_dropped(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        station.server.connect()
        await trio.sleep(12)
        assert station.server.encoders == {}
        assert station.state() is None


async def test_a_replaced_key_drops_the_publisher_and_says_so(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.key_versions[SHOW] = 2
        assert await station.end(SessionEnd.KEY_ROTATED) is True
        assert station.server.encoders == {}
        assert [why for _, _, why, _ in station.table.past] == [SessionEnd.KEY_ROTATED]
        with pytest.raises(Forbidden, match="not valid"):
            await station.publish()
        await station.publish(version=2)


async def test_a_key_replaced_by_another_process_ends_the_session_within_two_seconds(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.key_versions[SHOW] = 2
        began = trio.current_time()
        await station.until(None)
        assert trio.current_time() - began <= 2
        assert station.server.encoders == {}


async def test_whose_owner_is_banned_is_dropped_within_two_seconds_and_stays_out(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.banned.add(SHOW)
        began = trio.current_time()
        await station.until(None)
        assert trio.current_time() - began <= 2
        assert station.server.encoders == {}
        assert [why for _, _, why, _ in station.table.past] == [SessionEnd.BANNED]
        with pytest.raises(Forbidden, match="banned"):
            await station.publish()


async def test_a_publisher_that_cannot_be_dropped_now_is_dropped_once_the_server_answers(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.key_versions[SHOW] = 2
        station.server.away = "timeout"
        with pytest.raises(Unavailable):
            await station.end(SessionEnd.KEY_ROTATED)
        station.server.away = None
        await station.until(None)
        assert station.server.encoders == {}


async def test_ending_what_is_not_on_air_says_that_nobody_was_dropped(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        assert await station.end(SessionEnd.FINISHED) is False
        assert station.table.open == {}


async def test_switched_off_nobody_new_comes_in_and_who_is_on_air_may_come_back(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.enabled = False
        station.server.hang_up()
        await station.until(S.RECONNECTING)
        await station.on_air()
        assert await station.end(SessionEnd.FINISHED) is True
        with pytest.raises(Forbidden, match="switched off") as refused:
            await station.publish()
        assert refused.value.code == "feature_disabled"


async def test_a_database_that_is_away_lets_nobody_in_and_drops_nobody(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        encoder = await station.on_air()
        station.table.away = True
        encoder.freeze()
        await station.until(S.STALLED)
        with pytest.raises(Unavailable):
            await station.publish()
        station.table.away = False
        await trio.sleep(3)
        assert station.table.open[SHOW][1].state is station.state()


async def test_what_could_not_be_written_while_the_database_was_away_is_written_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with open_station() as station:
        await station.on_air()
        station.table.away = True
        station.server.hang_up()
        await trio.sleep(120)
        assert station.state() is S.ENDED
        assert station.table.past == []
        station.table.away = False
        await station.until(None)
        assert [why for _, _, why, _ in station.table.past] == [SessionEnd.TIMEOUT]


async def test_there_is_something_to_play_only_once_the_playlist_is_there(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        await trio.sleep(10)
        assert not station.session().ready
        station.server.playlists.add(SHOW)
        await trio.sleep(3)
        assert station.session().ready
        station.server.hang_up()
        await station.until(S.RECONNECTING)
        assert not station.session().ready


async def test_sound_alone_is_a_stream_too(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        encoder = await station.publish()
        encoder.video = None
        await station.until(S.LIVE)
        assert (station.session().video, station.session().audio) == (None, AAC)


async def test_a_version_goes_up_with_every_change_and_never_back(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        versions: list[int] = []

        async def note() -> None:
            while True:
                status = station.live.status(SHOW)
                if status is not None:
                    versions.append(status.version)
                await trio.sleep(0.5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
            await station.on_air()
            station.server.hang_up()
            await station.until(S.RECONNECTING)
            (await station.on_air()).freeze()
            await station.until(S.STALLED)
            await station.end(SessionEnd.FINISHED)
            await station.on_air()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert versions == sorted(versions)
        assert len(set(versions)) >= 6


async def test_figures_make_a_new_version_at_most_every_five_seconds(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        told = {station.status().version: trio.current_time()}
        for viewer in range(120):
            station.live.watched(SHOW, viewer)
            await trio.sleep(0.25)
            told.setdefault(station.status().version, trio.current_time())
        times = sorted(told.values())
        assert all(later - earlier >= 5 for earlier, later in pairwise(times))
        assert len(times) >= 5
        await trio.sleep(5)
        assert station.status().viewer_count == 120


async def test_the_most_viewers_at_once_are_kept(autojump_clock: MockClock) -> None:
    async with open_station() as station:
        await station.on_air()
        for viewer in range(7):
            station.live.watched(SHOW, viewer)
        await trio.sleep(90)
        assert station.live.viewers(SHOW) == 0
        await station.end(SessionEnd.FINISHED)
        assert [figures.peak_viewers for _, figures, _, _ in station.table.past] == [7]


# -- restarts of Veza, and several of it ------------------------------------------------------------------------------


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
