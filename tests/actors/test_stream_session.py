"""A stream on air: every state and timer of its session, over a server and rows in memory and trio's own clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from tests.actors.live_fakes import (
    AAC,
    BYTES_A_SECOND,
    H264,
    SHOW,
    open_station,
)
from veza.domain.errors import Conflict, Forbidden, Unavailable
from veza.domain.live import Health, SessionEnd, StreamState

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
