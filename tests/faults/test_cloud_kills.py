"""kill -9 of the whole process while cloud files are uploaded, replaced, snapshotted, restored and deleted.

What was acknowledged is there with its bytes; what was in hand came to be or did not, and nothing in between. A kill
leaves the machine's own memory of its disk as it is: what a power cut does is not shown here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from random import Random

import httpx
import pytest
import trio

from tests.faults.stage import Stage, brought_about, until
from tests.faults.vault import BEGUN_BYTES, FILES, Owner, Served, Vault
from veza.actors.janitor import Janitor

pytestmark = pytest.mark.slow


async def cut_off(write: Awaitable[object]) -> None:
    """What a process that dies was asked for."""
    with suppress(httpx.TransportError):
        await write


async def test_a_kill_in_the_middle_of_an_upload_leaves_nothing_of_it(stage: Stage) -> None:
    vault = Vault(stage)
    with trio.fail_after(60):
        async with vault.serving() as served:
            [owner] = await vault.sign_up(served, 1)
            file_id = await owner.upload(served.client, b"first take")
            before = set(vault.on_disk())
            async with (
                owner.uploading(served.port, "POST", FILES),
                owner.uploading(served.port, "PUT", f"{FILES}/{file_id}/content"),
            ):
                await brought_about(served.started, partial(until, partial(vault.drafted, 2)))
                await served.started.kill()
        assert await vault.drafted(2)
        async with vault.serving() as served:
            await vault.assert_kept(served)
            assert set(vault.on_disk()) == before


async def test_after_a_kill_the_whole_quota_is_there_however_much_was_coming_in(stage: Stage) -> None:
    vault, quota = Vault(stage), 10 * BEGUN_BYTES
    with trio.fail_after(60):
        async with vault.serving(cloud_quota_mb=quota >> 20) as served:
            [owner] = await vault.sign_up(served, 1)
            async with owner.uploading(served.port, "POST", FILES), owner.uploading(served.port, "POST", FILES):
                await brought_about(served.started, partial(until, partial(vault.drafted, 2)))
                await served.started.kill()
        async with vault.serving(cloud_quota_mb=quota >> 20) as served:
            await owner.upload(served.client, bytes(quota))
            await vault.assert_kept(served)
            usage = await owner.call(served.client, "GET", "/cloud/usage")
            assert (usage["used_bytes"], usage["quota_bytes"]) == (quota, quota)


# -- at the steps of a write's end: five owners, each with the second version of a file and a snapshot of its first ----

Write = Callable[[Owner, httpx.AsyncClient, str], Awaitable[object]]


async def prepared(owner: Owner, client: httpx.AsyncClient) -> str:
    file_id = await owner.upload(client, b"first take")
    await owner.snapshot(client, file_id)
    await owner.replace(client, file_id, b"second take")
    return file_id


WRITES: tuple[Write, ...] = (
    lambda owner, client, _: owner.upload(client, b"another song"),
    lambda owner, client, file_id: owner.replace(client, file_id, b"third take"),
    lambda owner, client, file_id: owner.snapshot(client, file_id),
    lambda owner, client, file_id: owner.restore(client, file_id, 1),
    lambda owner, client, file_id: owner.delete(client, file_id),
)
ROWS = ("INSERT OR UPDATE OR DELETE ON cloud_files", "INSERT ON cloud_versions")


async def killed_while_writing(vault: Vault, served: Served, when: str | None) -> None:
    """Each owner writes, and the process is killed where a gate of that kind holds them all up; without one, the moment
    that the last was answered."""
    files = [await prepared(owner, served.client) for owner in vault.owners]
    with vault.stage.gate(when, *ROWS) if when else nullcontext():
        async with trio.open_nursery() as nursery:
            for write, owner, file_id in zip(WRITES, vault.owners, files, strict=True):
                nursery.start_soon(cut_off, write(owner, served.client, file_id))
            if when:
                held_up = partial(vault.stage.blocked, len(WRITES))
                await brought_about(served.started, partial(until, held_up))
                await served.started.kill()
        await served.started.kill()


async def test_a_kill_at_any_step_of_a_write_leaves_a_file_as_it_was_or_as_it_was_to_be(stage: Stage) -> None:
    vault = Vault(stage)
    with trio.fail_after(90):
        async with vault.serving() as served:
            await vault.sign_up(served, len(WRITES))
            await killed_while_writing(vault, served, "IMMEDIATE")
        assert all(owner.hopes is not None for owner in vault.owners)
        for owner in vault.owners:
            owner.hopes = None  # nobody had come as far as the commit
        async with vault.serving() as served:
            await vault.assert_kept(served)
            await killed_while_writing(vault, served, "DEFERRED")
        assert all(owner.hopes is not None for owner in vault.owners)
        async with vault.serving() as served:
            await vault.assert_kept(served)
            await killed_while_writing(vault, served, None)
        assert all(owner.hopes is None for owner in vault.owners)  # each was answered
        async with vault.serving() as served:
            await vault.assert_kept(served)


# -- at any moment -----------------------------------------------------------------------------------------------------

OWNERS, KILLS = 4, 4
GRACE = timedelta(seconds=3)  # an upload's row follows its bytes within a few hundredths; a busy machine takes longer


async def test_kills_at_random_moments_lose_nothing_and_leave_only_what_the_janitor_removes(stage: Stage) -> None:
    vault, random = Vault(stage), Random(50)
    with trio.fail_after(120):
        async with vault.serving() as served:
            await vault.sign_up(served, OWNERS)
        for _ in range(KILLS):
            async with vault.serving() as served:
                await vault.assert_kept(served)
                await killed_sooner_or_later(vault, served, random)
        async with vault.serving() as served, vault.janitor(timedelta()) as janitor:
            await vault.assert_kept(served)
            await janitor.run_once()
            assert set(vault.on_disk()) == vault.named_in_rows()
            await vault.assert_kept(served)


async def killed_sooner_or_later(vault: Vault, served: Served, random: Random) -> None:
    """All owners go on and on, often with bytes that others have or have just let go of, and a janitor is about."""
    moment = vault.acknowledged + random.randint(5, 60)

    async def has_come() -> bool:
        await trio.lowlevel.checkpoint()
        return vault.acknowledged >= moment

    async def tidied(janitor: Janitor) -> bool:
        await janitor.run_once()
        return False  # it is never over

    async with vault.janitor(GRACE) as janitor, trio.open_nursery() as nursery:
        nursery.start_soon(until, partial(tidied, janitor))
        async with trio.open_nursery() as working:
            for owner in vault.owners:
                working.start_soon(cut_off, owner.go_on(served.client, Random(random.random())))
            await brought_about(served.started, partial(until, has_come))
            await served.started.kill()
        nursery.cancel_scope.cancel()
