"""Streams as rows: what is listed in which order, who may have how many, and which keys hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
import trio

from tests.people import until_blocked
from tests.sales import START, Sales
from veza.domain.errors import Conflict, Forbidden, NotFound
from veza.domain.live import SessionEnd, StreamState
from veza.domain.streams import MAX_STREAMS, Stream, Streamer, StreamListing
from veza.store.bridge import Database
from veza.store.streams import COUNT_LIMIT, Streams

EVERYTHING = StreamListing()
ON_AIR = StreamListing(is_live=True)
OFF_AIR = StreamListing(is_live=False)


@dataclass
class Stage:
    """A database, and what a test puts there."""

    db: Database
    sales: Sales = field(init=False)
    streams: Streams = field(init=False)

    def __post_init__(self) -> None:
        self.sales, self.streams = Sales(self.db), Streams(self.db)

    async def user(self) -> Streamer:
        user_id = await self.sales.user()
        return Streamer(user_id, user_id.hex)

    def new(
        self, user: Streamer, title: str = "A show", category: str | None = None, tags: Sequence[str] = ()
    ) -> Stream:
        stream_id = self.sales.new_id()
        return Stream(stream_id, user, title, "", category, tuple(tags), 1, StreamState.OFFLINE, START, START)

    async def added(self, user: Streamer, title: str = "A show", category: str | None = None, *tags: str) -> Stream:
        stream = self.new(user, title, category, tags)
        await self.streams.add(stream)
        return stream

    async def run(self, sql: str, *args: object) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(sql, *args)

    async def session(self, stream: Stream, minute: int = 0, *, ended: bool = False, live: bool = True) -> UUID:
        """A session's row, begun so many minutes after the start; it was live after a second, for a quarter hour."""
        session_id, began = self.sales.new_id(), START + timedelta(minutes=minute)
        await self.run(
            "INSERT INTO stream_sessions (id, stream_id, state, holder, key_version, started_at, live_at, ended_at,"
            " end_reason, reconnects, peak_viewers, bytes_in) VALUES ($1, $2, $3, $1, 1, $4, $5, $6, $7, 2, 30, 4096)",
            session_id,
            stream.id,
            "ended" if ended else "live" if live else "starting",
            began,
            began + timedelta(seconds=1) if live else None,
            began + timedelta(minutes=15) if ended else None,
            "timeout" if ended else None,
        )
        return session_id

    async def listed(
        self, listing: StreamListing, on_air: Sequence[Stream] = (), limit: int = 20, offset: int = 0
    ) -> tuple[list[Stream], int]:
        return await self.streams.page(listing, [each.id for each in on_air], limit=limit, offset=offset)


@pytest.fixture
def stage(db: Database) -> Stage:
    return Stage(db)


async def test_a_stream_is_read_as_it_was_written(stage: Stage) -> None:
    stream = await stage.added(await stage.user(), "Sunday", "music", "house", "deep")
    assert await stage.streams.get(stream.id) == stream
    with pytest.raises(NotFound):
        await stage.streams.get(stage.sales.new_id())


async def test_the_public_list_has_the_newest_first_and_no_drafts(stage: Stage) -> None:
    ann, bob = await stage.user(), await stage.user()
    shows = [await stage.added(user) for user in (ann, bob, ann)]
    await stage.added(ann, "")
    assert await stage.listed(EVERYTHING) == (shows[::-1], 3)
    assert await stage.listed(EVERYTHING, limit=1, offset=1) == ([shows[1]], 3)
    assert await stage.listed(EVERYTHING, limit=5, offset=7) == ([], 3)


async def test_live_streams_are_listed_in_the_order_they_are_given_in(stage: Stage) -> None:
    ann = await stage.user()
    first, second, third, off = [await stage.added(ann) for _ in range(4)]
    draft = await stage.added(ann, "")
    gone = stage.new(ann)
    on_air = [second, gone, third, draft, first]
    assert await stage.listed(ON_AIR, on_air) == ([second, third, first], 3)
    assert await stage.listed(ON_AIR, on_air, limit=1, offset=1) == ([third], 3)
    assert await stage.listed(OFF_AIR, on_air) == ([off], 1)
    assert await stage.listed(EVERYTHING, on_air) == ([off, third, second, first], 4)


async def test_while_nothing_is_on_air_nothing_is_listed_as_live(stage: Stage) -> None:
    show = await stage.added(await stage.user())
    assert await stage.listed(ON_AIR) == ([], 0)
    assert await stage.listed(OFF_AIR) == ([show], 1)


async def test_filters_narrow_whatever_list_it_is(stage: Stage) -> None:
    ann, bob = await stage.user(), await stage.user()
    house = await stage.added(ann, "House", "music", "house", "deep")
    jazz = await stage.added(bob, "Jazz", "music", "jazz")
    talk = await stage.added(bob, "Talk", "talk", "house")
    on_air = [jazz, house]
    assert await stage.listed(StreamListing(category="Music")) == ([jazz, house], 2)
    assert await stage.listed(StreamListing(tag="HOUSE")) == ([talk, house], 2)
    assert await stage.listed(StreamListing(user_id=bob.id, tag="house")) == ([talk], 1)
    assert await stage.listed(StreamListing(is_live=True, tag="house"), on_air) == ([house], 1)
    assert await stage.listed(StreamListing(is_live=False, user_id=bob.id), on_air) == ([talk], 1)
    assert await stage.listed(StreamListing(is_live=True, user_id=ann.id, category="talk"), on_air) == ([], 0)


async def test_whatever_is_asked_for_a_page_is_what_the_list_says(stage: Stage) -> None:
    chance, users = Random(4), [await stage.user() for _ in range(3)]
    streams = [
        await stage.added(
            chance.choice(users),
            chance.choice(["", "A", "B", "C"]),
            chance.choice(["music", None]),
            *chance.sample(["a", "b", "c"], chance.randint(0, 2)),
        )
        for _ in range(40)
    ]
    on_air = chance.sample(streams, 12)
    for _ in range(40):
        wanted = StreamListing(
            chance.choice([True, False, None]),
            chance.choice([None, users[0].id]),
            chance.choice([None, "music"]),
            chance.choice([None, "a"]),
        )
        ordered = {True: on_air, False: [s for s in streams[::-1] if s not in on_air], None: streams[::-1]}
        expected = [
            stream
            for stream in ordered[wanted.is_live]
            if stream.title
            and wanted.user_id in (None, stream.user.id)
            and wanted.category in (None, stream.category)
            and (wanted.tag is None or wanted.tag in stream.tags)
        ]
        limit, offset = chance.randint(1, 6), chance.randint(0, 8)
        found = await stage.listed(wanted, on_air, limit, offset)
        assert found == (expected[offset : offset + limit], len(expected))


async def test_a_long_list_is_counted_only_so_far_and_never_below_what_is_seen(stage: Stage) -> None:
    user = await stage.user()
    await stage.run(
        "INSERT INTO streams (id, owner_id, title, description, tags, created_at, updated_at)"
        " SELECT gen_random_uuid(), $1, 'A show', '', '{}', now(), now() FROM generate_series(1, $2)",
        user.id,
        COUNT_LIMIT + 20,
    )
    assert (await stage.listed(EVERYTHING, limit=1))[1] == COUNT_LIMIT
    rest, total = await stage.listed(EVERYTHING, limit=100, offset=COUNT_LIMIT)
    assert (len(rest), total) == (20, COUNT_LIMIT + 20)


async def test_ones_own_list_has_drafts_and_nobody_elses(stage: Stage) -> None:
    ann, bob = await stage.user(), await stage.user()
    mine = [await stage.added(ann, title) for title in ("One", "", "Three")]
    await stage.added(bob)
    assert await stage.streams.of_user(ann.id, limit=20) == (mine[::-1], 3)
    assert await stage.streams.of_user(ann.id, limit=1, offset=2) == ([mine[0]], 3)


async def test_however_many_are_made_at_once_nobody_has_too_many(stage: Stage) -> None:
    ann, bob = await stage.user(), await stage.user()
    refused: list[Stream] = []

    async def add(stream: Stream) -> None:
        try:
            await stage.streams.add(stream)
        except Conflict:
            refused.append(stream)

    for _ in range(MAX_STREAMS - 3):
        await stage.added(ann)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(add, stage.new(ann))
    assert len(refused) == 6
    assert (await stage.streams.of_user(ann.id, limit=1))[1] == MAX_STREAMS
    await stage.added(bob)


async def test_twenty_who_ask_for_a_key_at_once_get_the_same_draft(stage: Stage) -> None:
    ann = await stage.user()
    found: list[Stream] = []

    async def ask() -> None:
        found.append(await stage.streams.newest_or(stage.new(ann, "")))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
    assert len({stream.id for stream in found}) == 1
    assert await stage.streams.of_user(ann.id, limit=20) == ([found[0]], 1)
    newer = await stage.added(ann)
    assert await stage.streams.newest_or(stage.new(ann, "")) == newer


async def test_a_change_is_decided_on_what_is_there_and_written(stage: Stage) -> None:
    stream = await stage.added(await stage.user(), "Old")
    changed = await stage.streams.change(stream.id, lambda before: replace(before, title=f"{before.title} and new"))
    assert changed.title == "Old and new"
    assert await stage.streams.get(stream.id) == changed

    def refuse(stream: Stream) -> Stream:
        raise Forbidden("This is not your stream.")

    with pytest.raises(Forbidden):
        await stage.streams.change(stream.id, refuse)
    with pytest.raises(NotFound):
        await stage.streams.change(stage.sales.new_id(), refuse)


async def test_of_changes_at_once_none_is_lost(stage: Stage) -> None:
    stream = await stage.added(await stage.user())

    def note(before: Stream) -> Stream:
        return replace(before, description=f"{before.description}.")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(stage.streams.change, stream.id, note)
    assert (await stage.streams.get(stream.id)).description == 20 * "."


async def test_replacing_a_key_moves_one_streams_version_and_tells_what_is_open(stage: Stage) -> None:
    ann = await stage.user()
    one, other = await stage.added(ann), await stage.added(ann)
    await stage.session(one, ended=True)
    assert (await stage.streams.replace_key(one.id, lambda _: None)).open == ()
    await stage.session(one, 20)
    replaced = await stage.streams.replace_key(one.id, lambda _: None)
    assert (replaced.streams, replaced.open) == ((replace(one, key_version=3),), (one.id,))
    assert (await stage.streams.get(other.id)).key_version == 1


async def test_a_key_that_may_not_be_replaced_is_not(stage: Stage) -> None:
    stream = await stage.added(await stage.user())

    def refuse(stream: Stream) -> None:
        raise NotFound("There is no such stream.")

    with pytest.raises(NotFound):
        await stage.streams.replace_key(stream.id, refuse)
    with pytest.raises(NotFound):
        await stage.streams.remove(stream.id, refuse)
    with pytest.raises(NotFound):
        await stage.streams.replace_key(stage.sales.new_id(), lambda _: None)
    assert await stage.streams.get(stream.id) == stream


async def test_replacing_every_key_touches_ones_own_streams_alone(stage: Stage) -> None:
    ann, bob = await stage.user(), await stage.user()
    mine, others = [await stage.added(ann) for _ in range(3)], await stage.added(bob)
    await stage.session(mine[1])
    await stage.session(others)
    replaced = await stage.streams.replace_keys(stage.new(ann, ""))
    assert replaced.streams == tuple(replace(stream, key_version=2) for stream in mine[::-1])
    assert replaced.open == (mine[1].id,)
    assert await stage.streams.get(others.id) == others


async def test_who_has_no_stream_to_replace_a_key_of_gets_a_draft_once(stage: Stage) -> None:
    ann = await stage.user()
    drafts = [stage.new(ann, "") for _ in range(20)]
    made: list[Stream] = []

    async def replace_all(draft: Stream) -> None:
        made.extend((await stage.streams.replace_keys(draft)).streams)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for draft in drafts:
                nursery.start_soon(replace_all, draft)
    assert len({stream.id for stream in made}) == 1
    assert sorted(stream.key_version for stream in made) == list(range(1, 21))


async def test_whoever_is_let_in_while_a_key_is_replaced_is_seen_by_who_replaces_it(stage: Stage) -> None:
    stream = await stage.added(await stage.user())
    opened: list[UUID] = []

    async def replace_key() -> None:
        opened.extend((await stage.streams.replace_key(stream.id, lambda _: None)).open)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, stage.db.transaction() as tx:
            await tx.execute("SELECT FROM streams WHERE id = $1 FOR UPDATE", stream.id)  # as letting in does first
            nursery.start_soon(replace_key)
            await until_blocked(stage.db)
            await tx.execute(
                "INSERT INTO stream_sessions (id, stream_id, state, holder, key_version, started_at)"
                " VALUES ($1, $2, 'starting', $1, 1, now())",
                stage.sales.new_id(),
                stream.id,
            )
    assert opened == [stream.id]


async def test_past_sessions_are_those_that_were_live_the_newest_first(stage: Stage) -> None:
    ann = await stage.user()
    show, other = await stage.added(ann), await stage.added(ann)
    ids = [await stage.session(show, minute, ended=True) for minute in (0, 20, 40)]
    ids.append(await stage.session(show, 60))
    await stage.session(other, ended=True)
    found, total = await stage.streams.past_sessions(show.id, limit=3)
    assert ([each.id for each in found], total) == (ids[:0:-1], 4)
    assert (found[0].ended_at, found[0].end_reason) == (None, None)
    last = found[1]
    assert (last.started_at, last.end_reason) == (START + timedelta(minutes=40), SessionEnd.TIMEOUT)
    assert last.ended_at == last.started_at + timedelta(minutes=15)
    assert (last.live_at, last.peak_viewers) == (last.started_at + timedelta(seconds=1), 30)
    assert (last.bytes_in, last.reconnects) == (4096, 2)
    assert [each.id for each in (await stage.streams.past_sessions(show.id, limit=3, offset=3))[0]] == ids[:1]


async def test_one_that_was_never_live_is_open_and_nothing_to_look_back_on(stage: Stage) -> None:
    show = await stage.added(await stage.user())
    assert not await stage.streams.is_open(show.id)
    await stage.session(show, live=False)
    assert await stage.streams.is_open(show.id)
    assert await stage.streams.past_sessions(show.id, limit=20) == ([], 0)


async def test_a_stream_goes_with_all_that_is_kept_of_it(stage: Stage) -> None:
    ann = await stage.user()
    show, other = await stage.added(ann), await stage.added(ann)
    await stage.session(show, ended=True)
    await stage.streams.remove(show.id, lambda _: None)
    with pytest.raises(NotFound):
        await stage.streams.get(show.id)
    with pytest.raises(NotFound):
        await stage.streams.remove(show.id, lambda _: None)
    assert await stage.streams.past_sessions(show.id, limit=20) == ([], 0)
    assert await stage.streams.get(other.id) == other
