"""Sessions' rows: let in under the stream's lock, written by their holder alone, taken over from who is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
import trio

from tests.sales import START, Sales
from veza.domain.errors import Forbidden
from veza.domain.ingest import Audio, Publisher, Video
from veza.domain.live import FIGURES_A_CHANGE, Figures, Permission, SessionEnd, StreamSession, StreamState, admit
from veza.domain.stream_keys import KeyClaim
from veza.domain.streams import Stream, Streamer
from veza.store.bridge import Database
from veza.store.live import LiveRows, Revoked
from veza.store.streams import Streams

ONE, TWO = UUID(int=0xA1), UUID(int=0xA2)
ENCODER = Publisher("nginx-rtmp", "7")
NOTHING = Figures(0, 0)


@dataclass
class Stage:
    """Two processes over one database, and a stream."""

    db: Database
    sales: Sales
    stream: Stream
    one: LiveRows
    two: LiveRows

    async def let_in(self, rows: LiveRows | None = None, before: StreamSession | None = None) -> StreamSession:
        decide = partial(
            admit,
            claim=KeyClaim(self.stream.id, 1),
            publisher=ENCODER,
            before=before,
            id=self.sales.new_id(),
            now=START,
        )
        session = await (rows or self.one).accept(decide, self.stream.id)
        assert session is not None
        return session

    async def on_air(self) -> StreamSession:
        session = replace(
            await self.let_in(),
            state=StreamState.LIVE,
            changes=2,
            live_at=START,
            publisher=replace(ENCODER, boot="boot-1"),
            video=Video("H264", 1280, 720, 29.97, "High", "3.1"),
            audio=Audio("AAC", "LC", 2, 48_000),
            ready=True,
        )
        assert await self.one.save(session, Figures(1_000, 3))
        return session

    async def silence(self, holder: UUID) -> None:
        """A process that was not seen for longer than its lease."""
        async with self.db.transaction() as tx:
            await tx.execute("UPDATE live_processes SET seen_at = now() - interval '9 seconds' WHERE id = $1", holder)


@pytest.fixture
async def stage(db: Database) -> AsyncIterator[Stage]:
    with trio.fail_after(30):
        sales = Sales(db)
        user_id = await sales.user()
        stream = Stream(
            sales.new_id(),
            Streamer(user_id, "x"),
            "A show",
            "",
            None,
            (),
            1,
            StreamState.OFFLINE,
            START,
            START,
        )
        await Streams(db).add(stream)
        one, two = LiveRows(db, ONE), LiveRows(db, TWO)
        for rows in (one, two):
            await rows.seen(None)
        yield Stage(db, sales, stream, one, two)


async def test_what_is_saved_is_what_is_taken_up(stage: Stage) -> None:
    session = await stage.on_air()
    taken = await stage.two.take(stage.stream.id)
    assert taken is not None
    assert replace(taken, changes=0, peak_viewers=0) == replace(session, changes=0, peak_viewers=0)
    assert (taken.peak_viewers, taken.changes) == (3, session.changes + 100)


async def test_who_does_not_hold_a_session_can_write_nothing_of_it(stage: Stage) -> None:
    session = await stage.on_air()
    await stage.two.take(stage.stream.id)
    stalled = replace(session, state=StreamState.STALLED, changes=3)
    assert not await stage.one.save(stalled, NOTHING)
    assert not await stage.one.end(stalled, NOTHING, SessionEnd.TIMEOUT, START)
    again = await stage.one.accept(lambda _: replace(session, reconnects=1), stage.stream.id)
    assert again is None
    [seen] = (await stage.one.seen(None)).sessions
    assert seen.state is StreamState.LIVE


async def test_two_that_want_in_at_once_are_let_in_one_after_the_other(stage: Stage) -> None:
    let_in: list[StreamSession] = []
    changes: list[int] = []

    async def attempt(rows: LiveRows) -> None:
        def decide(permission: Permission) -> StreamSession:
            changes.append(permission.changes)
            if permission.changes:
                raise Forbidden("too late")
            return admit(permission, KeyClaim(stage.stream.id, 1), ENCODER, None, id=stage.sales.new_id(), now=START)

        try:
            session = await rows.accept(decide, stage.stream.id)
        except Forbidden:
            return
        assert session is not None
        let_in.append(session)

    async with trio.open_nursery() as nursery:
        for rows in (stage.one, stage.two):
            nursery.start_soon(attempt, rows)
    assert len(let_in) == 1
    assert sorted(changes) == [0, 1]


async def test_who_comes_second_to_begin_a_session_begins_none(stage: Stage) -> None:
    session = await stage.let_in()
    second = await stage.two.accept(lambda _: replace(session, id=stage.sales.new_id()), stage.stream.id)
    assert second is None
    assert await stage.one.mine() == [stage.stream.id]


async def test_those_that_write_of_one_stream_at_once_wait_for_each_other_and_none_is_a_deadlock(stage: Stage) -> None:
    session = await stage.on_air()

    async def save() -> None:
        for _ in range(30):
            await stage.one.save(session, NOTHING)

    async def take(rows: LiveRows) -> None:
        for _ in range(30):
            await rows.take(stage.stream.id)

    async def come_back() -> None:
        for n in range(30):
            await stage.two.accept(lambda _: replace(session, reconnects=n + 1), stage.stream.id)  # noqa: B023

    async def replace_key() -> None:
        for _ in range(30):
            await Streams(stage.db).replace_key(stage.stream.id, lambda _: None)

    async with trio.open_nursery() as nursery:
        for work in (save, partial(take, stage.one), partial(take, stage.two), come_back, replace_key):
            nursery.start_soon(work)


async def test_a_stream_without_a_session_is_not_changed_by_looking_for_one(stage: Stage) -> None:
    assert await stage.one.take(stage.stream.id) is None
    told = await stage.one.status(stage.stream.id)
    assert told is not None
    assert told.version == 0


async def test_a_key_that_was_replaced_and_a_stream_that_is_gone_permit_nobody(stage: Stage) -> None:
    await Streams(stage.db).replace_key(stage.stream.id, lambda _: None)
    with pytest.raises(Forbidden):
        await stage.let_in()
    await Streams(stage.db).remove(stage.stream.id, lambda _: None)
    with pytest.raises(Forbidden):
        await stage.let_in()


async def test_switched_off_permits_nobody_new(stage: Stage) -> None:
    async with stage.db.transaction() as tx:
        await tx.execute("INSERT INTO feature_flags (name, enabled) VALUES ('live.ingest', false)")
    with pytest.raises(Forbidden) as refused:
        await stage.let_in()
    assert refused.value.code == "feature_disabled"
    async with stage.db.transaction() as tx:
        await tx.execute("UPDATE feature_flags SET enabled = true")
    await stage.let_in()


async def test_an_end_is_written_once_and_the_stream_reads_ended(stage: Stage) -> None:
    session = await stage.on_air()
    over = replace(session, state=StreamState.ENDED, publisher=None, changes=7)
    assert await stage.one.end(over, Figures(5_000, 9), SessionEnd.FINISHED, START)
    assert not await stage.one.end(over, Figures(6_000, 9), SessionEnd.TIMEOUT, START)
    [past], total = await Streams(stage.db).past_sessions(stage.stream.id, limit=10)
    assert (past.end_reason, past.bytes_in, past.peak_viewers, total) == (SessionEnd.FINISHED, 5_000, 9, 1)
    told = await stage.one.status(stage.stream.id)
    assert told is not None
    assert (told.state, told.version) == (StreamState.ENDED, 7 * FIGURES_A_CHANGE)
    assert await stage.one.take(stage.stream.id) is None


async def test_one_that_was_never_live_leaves_no_row_and_its_changes_are_kept(stage: Stage) -> None:
    session = replace(await stage.let_in(), state=StreamState.OFFLINE, changes=5)
    assert await stage.one.end(session, NOTHING, SessionEnd.TIMEOUT, START)
    told = await stage.one.status(stage.stream.id)
    assert told is not None
    assert (told.state, told.version) == (StreamState.OFFLINE, 5 * FIGURES_A_CHANGE)
    assert (await stage.let_in()).changes == 6


async def test_the_sessions_of_a_process_that_is_gone_are_taken_over_and_no_others(stage: Stage) -> None:
    await stage.on_air()
    assert await stage.two.take_lapsed(10) == []
    await stage.silence(ONE)
    [taken] = await stage.two.take_lapsed(10)
    assert taken.stream_id == stage.stream.id
    assert await stage.two.mine() == [stage.stream.id]
    assert await stage.two.take_lapsed(10) == []


async def test_two_that_take_over_at_once_share_what_there_is(stage: Stage) -> None:
    await stage.on_air()
    await stage.silence(ONE)
    three = LiveRows(stage.db, UUID(int=0xA3))
    await three.seen(None)
    taken: list[StreamSession] = []

    async def take(rows: LiveRows) -> None:
        taken.extend(await rows.take_lapsed(10))

    async with trio.open_nursery() as nursery:
        for rows in (stage.two, three):
            nursery.start_soon(take, rows)
    assert len(taken) == 1


async def test_who_leaves_in_order_is_taken_over_from_at_once(stage: Stage) -> None:
    await stage.on_air()
    await stage.one.leave()
    assert len(await stage.two.take_lapsed(10)) == 1


async def test_each_process_learns_what_the_others_hold_and_how_many_watch_there(stage: Stage) -> None:
    session = await stage.on_air()
    await stage.one.seen({stage.stream.id: 4})
    await LiveRows(stage.db, UUID(int=0xA3)).seen({stage.stream.id: 2})
    told = await stage.two.seen({stage.stream.id: 100})
    assert [other.id for other in told.sessions] == [session.id]
    assert told.viewers == {stage.stream.id: 6}
    assert (await stage.two.seen(None)).revoked == {}
    assert (await stage.one.seen(None)).viewers == {stage.stream.id: 102}
    await stage.silence(TWO)
    assert (await stage.one.seen(None)).viewers == {stage.stream.id: 2}


async def test_a_session_whose_key_was_replaced_is_told_to_who_holds_it(stage: Stage) -> None:
    await stage.on_air()
    await Streams(stage.db).replace_key(stage.stream.id, lambda _: None)
    assert (await stage.two.seen(None)).revoked == {}
    assert (await stage.one.seen(None)).revoked == {stage.stream.id: Revoked(SessionEnd.KEY_ROTATED, 1)}


@pytest.mark.parametrize(
    ("until", "banned"), [(timedelta(hours=1), True), (timedelta(seconds=-1), False), (None, False)]
)
async def test_a_session_of_who_is_banned_is_told_to_who_holds_it(
    stage: Stage, until: timedelta | None, banned: bool
) -> None:
    await stage.on_air()
    async with stage.db.transaction() as tx:
        await tx.execute("UPDATE users SET banned_until = now() + $1::interval", until)
    assert (await stage.one.seen(None)).revoked == ({stage.stream.id: Revoked(SessionEnd.BANNED, 1)} if banned else {})


async def test_figures_are_noted_for_what_one_holds_and_peaks_never_fall(stage: Stage) -> None:
    session = await stage.on_air()
    await stage.one.note({session.id: Figures(9_000, 1)})
    await stage.two.note({session.id: Figures(1, 99)})
    [past], _ = await Streams(stage.db).past_sessions(stage.stream.id, limit=1)
    assert (past.bytes_in, past.peak_viewers) == (9_000, 3)


async def test_the_status_of_a_stream_is_its_open_sessions_and_none_of_what_does_not_exist(stage: Stage) -> None:
    await stage.let_in()
    told = await stage.two.status(stage.stream.id)
    assert told is not None
    assert told.state is StreamState.STARTING
    assert await stage.two.status(UUID(int=1)) is None
