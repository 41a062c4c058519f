"""The janitor over rows and a store in memory, on trio's own clock; and once over real ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.actors.fakes import database_time
from tests.buckets import open_local
from tests.sales import Sales
from veza.actors.core import State
from veza.actors.janitor import AT_ONCE, EVERY_SECONDS, FIRST_SECONDS, UNFINISHED, Janitor
from veza.domain.ids import utc_now
from veza.gateways.objects import KeptObject, unreachable
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable
from veza.store.orphans import Orphans
from veza.supervisors import one_for_one, permanent, running

GRACE = timedelta(hours=24)


@dataclass
class World:
    """Rows, archives and objects at once: what is named, what is noted when, what there is and when it was put."""

    named: set[str] = field(default_factory=set)
    there: dict[str, datetime] = field(default_factory=dict)
    noted: dict[str, datetime] = field(default_factory=dict)
    over: int = 0
    swept_before: list[datetime] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    fail: list[Exception | None] = field(default_factory=list)

    async def note(self, keys: Sequence[str]) -> int:
        await trio.lowlevel.checkpoint()
        assert len(keys) <= AT_ONCE
        news = [key for key in keys if key not in self.named | self.noted.keys()]
        self.noted |= dict.fromkeys(news, database_time())
        for key in self.named & self.noted.keys():
            del self.noted[key]
        return len(news)

    async def due(self, grace: timedelta, limit: int, after: str = "") -> list[str]:
        await trio.lowlevel.checkpoint()
        old = [key for key, since in self.noted.items() if since <= database_time() - grace]
        return sorted(key for key in old if key not in self.named and key > after)[:limit]

    async def forget(self, keys: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()
        for key in keys:
            del self.noted[key]

    async def prune(self, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        gone = min(limit, self.over)
        self.over -= gone
        return gone

    async def expire(self, now: datetime) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    async def kept(self) -> AsyncGenerator[Sequence[KeptObject], None]:
        await trio.lowlevel.checkpoint()
        self.looks.append(trio.current_time())
        if self.fail and (error := self.fail.pop(0)) is not None:
            raise error
        yield [KeptObject(key, put_at) for key, put_at in self.there.items()]

    async def remove(self, key: str, *, put_before: datetime) -> bool:
        await trio.lowlevel.checkpoint()
        if key in self.there and self.there[key] >= put_before:
            return False
        self.there.pop(key, None)
        return True

    async def sweep(self, begun_before: datetime) -> int:
        await trio.lowlevel.checkpoint()
        self.swept_before.append(begun_before)
        return 0


def janitor(world: World) -> Janitor:
    return Janitor(world, world, world, database_time, GRACE)


async def test_it_looks_soon_after_the_start_and_each_hour_then(autojump_clock: MockClock) -> None:
    world = World()
    async with running(
        one_for_one("veza", permanent("janitor", lambda: janitor(world))), clock=database_time, random=Random(1)
    ):
        begun = trio.current_time()
        await trio.sleep(FIRST_SECONDS + 2 * EVERY_SECONDS + 1)
    assert [look - begun for look in world.looks] == pytest.approx(
        [FIRST_SECONDS + n * EVERY_SECONDS for n in range(3)], abs=1
    )


async def test_what_nothing_names_is_removed_once_it_was_unnamed_for_the_grace_and_no_sooner(
    autojump_clock: MockClock,
) -> None:
    old = database_time() - timedelta(days=100)
    world = World(named={"kept"}, there={"kept": old, "orphan": old})
    child = permanent("janitor", lambda: janitor(world))
    async with running(one_for_one("veza", child), clock=database_time, random=Random(1)):
        await trio.sleep(GRACE.total_seconds() - 1)
        assert world.there.keys() == {"kept", "orphan"}
        world.named.clear()  # it lost its name late: its own grace begins with the next look
        await trio.sleep(2 * EVERY_SECONDS)
        assert world.there.keys() == {"kept"}
        await trio.sleep(GRACE.total_seconds())
        assert world.there == {}
    assert world.noted == {}
    assert child.ref.snapshot is not None
    assert child.ref.snapshot.removed == 2


async def test_what_was_put_again_within_the_grace_is_about_to_be_named_and_stays(autojump_clock: MockClock) -> None:
    world = World(there={"reused": database_time()}, noted={"reused": database_time() - 2 * GRACE})
    await trio.sleep(GRACE.total_seconds() - 10)
    await janitor(world).run_once()
    assert world.there.keys() == {"reused"}
    world.named = {"reused"}
    await trio.sleep(20)
    await janitor(world).run_once()
    assert world.there.keys() == {"reused"}
    assert world.noted == {}


async def test_what_another_process_removed_is_forgotten(autojump_clock: MockClock) -> None:
    world = World(noted={"gone": database_time() - 2 * GRACE})
    await janitor(world).run_once()
    assert world.noted == {}


async def test_many_are_noted_and_removed_a_part_at_a_time(autojump_clock: MockClock) -> None:
    old = database_time() - 3 * GRACE
    world = World(there={f"{n:05}": old for n in range(2 * AT_ONCE + 1)}, over=2 * AT_ONCE + 1)
    tidy = janitor(world)
    assert (await tidy.run_once()).noted == 2 * AT_ONCE + 1
    await trio.sleep(GRACE.total_seconds())
    view = await tidy.run_once()
    assert (view.removed, view.pruned, view.objects, world.there) == (2 * AT_ONCE + 1, 2 * AT_ONCE + 1, 2001, {})


async def test_unfinished_uploads_of_yesterday_are_swept_up(autojump_clock: MockClock) -> None:
    world = World()
    await janitor(world).run_once()
    assert world.swept_before == [database_time() - UNFINISHED]


@pytest.mark.parametrize("away", [DatabaseUnavailable("away"), unreachable()])
async def test_a_round_that_is_cut_short_is_told_and_made_up_for_by_the_next(
    away: Exception, autojump_clock: MockClock
) -> None:
    world = World(fail=[away, None])
    child = permanent("janitor", lambda: janitor(world))
    with structlog.testing.capture_logs() as lines:
        async with running(one_for_one("veza", child), clock=database_time, random=Random(1)):
            await trio.sleep(FIRST_SECONDS + EVERY_SECONDS + 1)
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["janitor_round_cut_short"]
    assert child.ref.snapshot is not None
    assert child.ref.snapshot.rounds == 1


async def test_it_comes_back_after_a_crash(autojump_clock: MockClock) -> None:
    world = World(fail=[RuntimeError("planted"), None])
    child = permanent("janitor", lambda: janitor(world))
    tree = one_for_one("veza", child)
    async with running(tree, clock=database_time, random=Random(1)):
        await trio.sleep(2 * FIRST_SECONDS + 30)
        assert tree.state is State.RUNNING
    assert len(world.looks) == 2


# -- over real rows and real files ------------------------------------------------------------------------------------


async def once(piece: bytes) -> AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield piece


class NoExports:
    async def expire(self, now: datetime) -> int:
        return 0


async def test_after_a_round_without_grace_the_store_holds_exactly_what_rows_name(db: Database, tmp_path: Path) -> None:
    ann = await Sales(db).user()
    async with open_local(tmp_path) as objects:
        named, orphan = (await objects.put(once(b"named"))).key, (await objects.put(once(b"orphan"))).key
        async with db.transaction() as tx:
            await tx.execute(
                "INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type,"
                " created_at, updated_at) VALUES (gen_random_uuid(), $1, 'a', '', 1, $2, 5, 'a/b', now(), now())",
                ann,
                named,
            )
        later = timedelta(seconds=1)  # after the files' own times
        tidy = Janitor(Orphans(db), NoExports(), objects, lambda: utc_now() + later, timedelta())
        view = await tidy.run_once()
        assert (view.objects, view.removed) == (2, 1)
        assert [path.name for path in (tmp_path / "sha256").rglob("*") if path.is_file()] == [named]
        assert orphan != named
