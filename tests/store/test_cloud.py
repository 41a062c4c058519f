"""Cloud files as rows: their owner's alone, counted right, and never more than there may be however many write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest
import trio

from tests.sales import START, Sales
from veza.domain.cloud import MAX_FILES, CloudFile, Content, FileSort, Share, Usage, new_file, rename
from veza.domain.errors import Conflict, NotFound, Refusal, TooLarge
from veza.store.bridge import Database
from veza.store.cloud import CloudRows

QUOTA = 1000
MOST = 3


def content(what: str, size: int = 100) -> Content:
    return Content(sha256(what.encode()).hexdigest(), size, "audio/wav")


@dataclass
class Attic:
    """A database, and what a test keeps in it."""

    db: Database
    sales: Sales = field(init=False)
    rows: CloudRows = field(init=False)

    def __post_init__(self) -> None:
        self.sales, self.rows = Sales(self.db), CloudRows(self.db)

    async def added(self, owner: UUID, what: str = "one", size: int = 100, name: str = "take.wav") -> CloudFile:
        file = new_file(owner, name, content(what, size), id=self.sales.new_id(), now=START)
        await self.rows.add(file, QUOTA)
        return file

    async def replace(self, file: CloudFile, what: str, size: int = 100) -> CloudFile:
        return await self.rows.replace(file.owner_id, file.id, content(what, size), QUOTA, START)

    async def keep(self, file: CloudFile) -> int:
        return (await self.rows.keep(file.owner_id, file.id, MOST, self.sales.new_id, START)).version

    async def restore(self, file: CloudFile, version: int) -> CloudFile:
        return await self.rows.restore(file.owner_id, file.id, version, MOST, self.sales.new_id, START)

    async def versions(self, file: CloudFile) -> dict[int, str]:
        return {each.version: each.object_key for each in await self.rows.versions(file.owner_id, file.id)}

    async def count(self, table: str) -> int:
        found: int = await self.db.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - the test's own words
        return found


@pytest.fixture
def attic(db: Database) -> Attic:
    return Attic(db)


async def test_a_file_is_read_as_it_was_written_and_by_its_owner_alone(attic: Attic) -> None:
    ann, bob = await attic.sales.user(), await attic.sales.user()
    file = await attic.added(ann)
    assert await attic.rows.get(ann, file.id) == file
    assert await attic.rows.page(ann, search=None, sort=FileSort.NEWEST, limit=9, offset=0) == ([file], 1)
    assert await attic.rows.page(bob, search=None, sort=FileSort.NEWEST, limit=9, offset=0) == ([], 0)
    renamed = await attic.rows.change(ann, file.id, lambda before: rename(before, "final", START))
    assert await attic.rows.get(ann, file.id) == renamed
    share = Share(attic.sales.new_id(), file.id, START, START)
    attempts: list[Callable[[UUID, UUID], Awaitable[object]]] = [
        attic.rows.get,
        attic.rows.remove,
        attic.rows.versions,
        lambda owner, file_id: attic.rows.change(owner, file_id, lambda before: before),
        lambda owner, file_id: attic.rows.replace(owner, file_id, content("two"), QUOTA, START),
        lambda owner, file_id: attic.rows.keep(owner, file_id, MOST, attic.sales.new_id, START),
        lambda owner, file_id: attic.rows.restore(owner, file_id, 1, MOST, attic.sales.new_id, START),
        lambda owner, file_id: attic.rows.forget(owner, file_id, 1),
        lambda owner, file_id: attic.rows.shares(owner, file_id, START),
        lambda owner, _: attic.rows.share(owner, share, "t"),
        lambda owner, file_id: attic.rows.revoke(owner, file_id, share.id),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound):
            await attempt(bob, file.id)
    for attempt in attempts[:-2]:
        with pytest.raises(NotFound):
            await attempt(ann, attic.sales.new_id())
    assert await attic.rows.get(ann, file.id) == renamed


async def test_bytes_that_a_file_and_its_snapshots_share_are_counted_once(attic: Attic) -> None:
    ann, bob = await attic.sales.user(), await attic.sales.user()
    file, other = await attic.added(ann), await attic.added(ann)
    assert await attic.rows.usage(ann) == Usage(200, 2, 0), "two files with the same bytes are two"
    assert await attic.keep(file) == await attic.keep(file) == 1
    assert await attic.rows.usage(ann) == Usage(200, 2, 1)
    assert await attic.rows.room(ann, QUOTA) == 800
    assert await attic.rows.room(ann, QUOTA, instead_of=file.id) == 800, "its snapshot would stay"
    assert await attic.rows.room(ann, QUOTA, instead_of=other.id) == 900
    assert await attic.rows.room(ann, 50) == 0
    assert await attic.rows.room(ann, 50, instead_of=other.id) == 100, "less is always well"
    await attic.replace(file, "two", 50)
    assert await attic.rows.usage(ann) == Usage(250, 2, 1)
    await attic.restore(file, 1)
    assert await attic.rows.usage(ann) == Usage(250, 2, 2)
    await attic.rows.forget(ann, file.id, 2)
    assert await attic.rows.usage(ann) == Usage(200, 2, 1)
    await attic.rows.remove(ann, file.id)
    assert await attic.rows.usage(ann) == Usage(100, 1, 0)
    assert await attic.rows.usage(bob) == Usage(0, 0, 0)
    assert await attic.count("cloud_versions") == 0


async def test_what_is_refused_changes_nothing(attic: Attic) -> None:
    ann = await attic.sales.user()
    file = await attic.added(ann, size=900)
    with pytest.raises(TooLarge):
        await attic.added(ann, size=101)
    with pytest.raises(TooLarge):
        await attic.replace(file, "two", 1001)
    assert await attic.rows.get(ann, file.id) == file
    assert await attic.rows.usage(ann) == Usage(900, 1, 0)
    await attic.keep(file)
    with pytest.raises(TooLarge):
        await attic.replace(file, "two", 101)
    assert (await attic.replace(file, "two", 100)).version == 2


async def test_restoring_loses_nothing_and_the_same_again_takes_nothing_more(attic: Attic) -> None:
    file = await attic.added(await attic.sales.user())
    await attic.keep(file)
    await attic.replace(file, "two")
    one, two = content("one").object_key, content("two").object_key
    assert [(await attic.restore(file, 1)).object_key for _ in range(4)] == [one] * 4
    assert await attic.versions(file) == {2: two, 1: one}
    assert (await attic.restore(file, 2)).version == 7
    await attic.replace(file, "three")
    await attic.restore(file, 1)
    assert len(await attic.versions(file)) == MOST
    await attic.replace(file, "four")
    with pytest.raises(Conflict) as refused:
        await attic.restore(file, 1)
    assert refused.value.code == "too_many_versions"
    assert (await attic.rows.get(file.owner_id, file.id)).object_key == content("four").object_key


async def test_whatever_happens_at_once_no_kept_content_is_lost_and_the_quota_holds(attic: Attic) -> None:
    ann = await attic.sales.user()
    file = await attic.added(ann)
    await attic.keep(file)
    done, refused = Counter[str](), set[str]()

    async def attempt(what: str, write: Awaitable[object]) -> None:
        try:
            await write
            done[what] += 1
        except Refusal as refusal:
            refused.add(refusal.code)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(attempt, "new version", attic.replace(file, f"content {number}"))
                nursery.start_soon(attempt, "new version", attic.restore(file, 1))
                nursery.start_soon(attempt, "snapshot", attic.keep(file))
                nursery.start_soon(attempt, "new file", attic.added(ann, f"file {number}"))
    usage = await attic.rows.usage(ann)
    versions = await attic.versions(file)
    assert usage.used_bytes <= QUOTA
    assert usage.versions == len(versions) <= MOST
    assert versions[1] == content("one").object_key
    assert refused <= {"quota_exceeded", "too_many_versions"}
    assert (await attic.rows.get(ann, file.id)).version == 1 + done["new version"]
    assert usage.files == 1 + done["new file"]


# Whoever writes a file stops there, its row written and not committed, until nobody holds the gate.
GATE = (
    """CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END $$""",
    "CREATE TRIGGER gate AFTER INSERT ON cloud_files FOR EACH ROW EXECUTE FUNCTION pass_gate()",
)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def test_files_that_are_written_at_the_same_time_count_for_each_other(attic: Attic) -> None:
    ann = await attic.sales.user()
    added: list[CloudFile] = []

    async def attempt(number: int) -> None:
        with suppress(TooLarge):
            added.append(await attic.added(ann, f"file {number}", 300))

    with trio.fail_after(20):
        async with attic.db.transaction() as tx:
            for statement in GATE:
                await tx.execute(statement)
        async with trio.open_nursery() as nursery, attic.db.transaction() as gate:
            await gate.execute("SELECT pg_advisory_xact_lock(7)")
            for number in range(6):
                nursery.start_soon(attempt, number)
            while await attic.db.fetchval(WAITING) < 6:  # noqa: ASYNC110 - nothing announces that they wait
                await trio.sleep(0.01)
    assert len(added) == 3
    assert await attic.rows.usage(ann) == Usage(900, 3, 0)


async def test_files_have_their_limit(attic: Attic) -> None:
    ann = await attic.sales.user()
    async with attic.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type,"
            " created_at, updated_at) SELECT gen_random_uuid(), $1, 'x', ' x', 1, '', 0, 'a/b', now(), now()"
            " FROM generate_series(1, $2::int)",
            ann,
            MAX_FILES - 1,
        )
    await attic.added(ann)
    with pytest.raises(Conflict) as refused:
        await attic.added(ann)
    assert refused.value.code == "too_many_files"
    await attic.added(await attic.sales.user())


async def test_a_link_is_found_by_its_token_while_it_holds(attic: Attic) -> None:
    ann = await attic.sales.user()
    file = await attic.added(ann)
    until = START + timedelta(hours=1)
    share = Share(attic.sales.new_id(), file.id, until, START)
    await attic.rows.share(ann, share, "token")
    just_before = until - timedelta(microseconds=1)
    assert await attic.rows.shared("token", just_before) == (file, until)
    assert await attic.rows.shares(ann, file.id, just_before) == [share]
    for token, now in (("token", until), ("Token", START), ("", START), (sha256(b"token").hexdigest(), START)):
        with pytest.raises(NotFound):
            await attic.rows.shared(token, now)
    assert await attic.rows.shares(ann, file.id, until) == []
    await attic.rows.revoke(ann, file.id, share.id)
    with pytest.raises(NotFound):
        await attic.rows.shared("token", START)
