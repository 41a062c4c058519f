"""kill -9 of the whole process while an export is made: the next one makes it anew, and tells of it once.

A dead process's claims are found by their lease. The tests let it lapse rather than wait for it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
import trio

from tests.faults.stage import Stage, brought_about, until
from tests.faults.vault import Owner, Served, Vault
from tests.shop import Json
from tests.unpack import fetch

pytestmark = pytest.mark.slow

FOR_SECONDS = 8 * 1024**3  # a gigabyte in one is a fast disk

TAKES = (b"first take" * 200_000, b"second take" * 200_000, b"third take")

Reached = Callable[[], Awaitable[object]]


async def found(stage: Stage, condition: str) -> bool:
    sql = f"SELECT EXISTS (SELECT FROM exports WHERE {condition})"  # noqa: S608 - the conditions are those below
    return bool(await stage.db.fetchval(sql))


# -- the steps: each holds the export up where its process is to be killed, and lets go of what it held on leaving -----


@asynccontextmanager
async def while_a_file_is_read(vault: Vault) -> AsyncIterator[Reached]:
    """The second file goes on for so long that it is not read to its end; it is sparse, and takes no room."""
    second: str = await vault.stage.db.fetchval("SELECT object_key FROM cloud_files ORDER BY id OFFSET 1 LIMIT 1")
    path = vault.on_disk()[second]
    size = path.stat().st_size
    os.truncate(path, FOR_SECONDS)
    yield partial(until, partial(found, vault.stage, "status = 'running' AND files_done = 1"))
    os.truncate(path, size)


@asynccontextmanager
async def before_its_record_is_committed(vault: Vault) -> AsyncIterator[Reached]:
    with vault.stage.gate("IMMEDIATE", "INSERT ON notifications"):
        yield partial(until, vault.stage.blocked)


@asynccontextmanager
async def while_its_record_is_committed(vault: Vault) -> AsyncIterator[Reached]:
    with vault.stage.gate("DEFERRED", "INSERT ON notifications"):
        yield partial(until, vault.stage.blocked)


Step = Callable[[Vault], AbstractAsyncContextManager[Reached]]
STEPS: dict[Step, set[str]] = {
    while_a_file_is_read: {"running"},
    before_its_record_is_committed: {"running"},
    # Its commit may have come through, with nobody left to be told of it.
    while_its_record_is_committed: {"running", "ready"},
}


async def status(stage: Stage) -> str:
    told: str = await stage.db.fetchval("SELECT status FROM exports")
    return told


async def ask(served: Served, owner: Owner) -> Json:
    return await owner.call(served.client, "POST", "/users/me/export")


async def assert_made(served: Served, owner: Owner, export: Json) -> None:
    """It is ready, its owner was told so once, and what the link opens is whole."""
    made = await owner.call(served.client, "GET", f"/users/me/exports/{export['id']}")
    assert (made["status"], made["progress"]["files_done"], made["progress"]["files_total"]) == ("ready", 3, 3)
    told = await owner.call(served.client, "GET", "/notifications")
    assert [each["kind"] for each in told["notifications"]] == ["export_ready"]
    opened = await fetch(made["download_url"])
    assert sorted(opened.files.values()) == sorted(TAKES)
    assert [row["username"] for row in opened.rows("users")] == [owner.name]
    assert "index.html" in opened.names


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_an_export_whose_process_was_killed_is_made_by_the_next(stage: Stage, step: Step) -> None:
    vault = Vault(stage)
    with trio.fail_after(60):
        async with vault.serving() as served:
            [owner] = await vault.sign_up(served, 1)
            for take in TAKES:
                await owner.upload(served.client, take)
            async with step(vault) as reached:
                export = await ask(served, owner)
                await brought_about(served.started, reached)
                await served.started.kill()
        await until(stage.quiet)
        assert await status(stage) in STEPS[step]
        async with stage.db.transaction() as tx:
            await tx.execute("UPDATE exports SET claimed_until = now() WHERE claim_id IS NOT NULL")
        async with vault.serving() as served:
            await brought_about(served.started, partial(until, partial(found, stage, "status = 'ready'")))
            await assert_made(served, owner, export)
            async with vault.janitor(timedelta()) as janitor:
                await janitor.run_once()
            await assert_made(served, owner, export)
        archive: str = await stage.db.fetchval("SELECT object_key FROM exports")
        assert set(vault.on_disk()) == vault.named_in_rows() | {archive}
        assert list((vault.objects / "drafts").glob("*/*")) == []


async def test_an_export_in_an_orderly_stop_is_given_back_and_made_by_the_next(stage: Stage) -> None:
    vault = Vault(stage)
    with trio.fail_after(60):
        async with vault.serving() as served:
            [owner] = await vault.sign_up(served, 1)
            for take in TAKES:
                await owner.upload(served.client, take)
            with stage.locking() as session:
                session.execute("LOCK cloud_files")
                export = await ask(served, owner)
                await brought_about(served.started, partial(until, stage.blocked))
                assert await found(stage, "status = 'running' AND attempts = 1")
                served.started.terminate()
                assert await served.started.ended() == 0
                assert await found(stage, "status = 'queued' AND attempts = 0 AND due_at <= now()")
        async with vault.serving() as served:
            await brought_about(served.started, partial(until, partial(found, stage, "status = 'ready'")))
            await assert_made(served, owner, export)
        assert await found(stage, "attempts = 1")
