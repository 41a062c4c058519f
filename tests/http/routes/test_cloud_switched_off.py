"""While uploading is switched off nothing comes in, and everything that is kept is there as before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.http.desk import refusal
from tests.http.routes.locker import FILES, Locker, open_locker
from tests.shop import data
from veza.domain.flags import Flag
from veza.store.bridge import Database


@pytest.fixture
async def locker(db: Database, tmp_path: Path) -> AsyncIterator[Locker]:
    with trio.fail_after(30):
        async with open_locker(db, tmp_path / "objects") as opened:
            yield opened


async def test_nothing_is_uploaded_or_replaced_until_it_is_on_again(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann, b"one")
    locker.desk.board.switch_off(Flag.UPLOADS)
    before = locker.objects()
    assert refusal(await locker.upload(ann, b"two")) == (403, "feature_disabled")
    assert refusal(await locker.replace(ann, made["id"], b"two")) == (403, "feature_disabled")
    assert refusal(await locker.upload(None)) == (401, "unauthenticated")
    assert locker.objects() == before
    assert data(await locker.get(f"{FILES}/{made['id']}", ann)) == made
    locker.desk.board.switch_off()
    assert (await locker.upload(ann, b"two")).status_code == 201
    assert (await locker.replace(ann, made["id"], b"two")).status_code == 200


async def test_who_uploads_is_told_before_the_bytes_are_sent(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann)
    locker.desk.board.switch_off(Flag.UPLOADS)
    for method, path in (("POST", FILES), ("PUT", f"{FILES}/{made['id']}/content")):
        answer = await locker.announce(ann, method, path, 500)
        assert answer.startswith("HTTP/1.1 403 ")
        assert '"code":"feature_disabled"' in answer


async def test_what_is_kept_is_fetched_snapshotted_restored_shared_and_deleted(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann, b"one")
    file = f"{FILES}/{made['id']}"
    data(await locker.call("POST", f"{file}/versions", ann))
    await locker.replace(ann, made["id"], b"second")
    locker.desk.board.switch_off(Flag.UPLOADS)
    assert await locker.content(ann, made) == b"second"
    assert data(await locker.call("POST", f"{file}/versions", ann))["version"] == 2
    assert data(await locker.call("POST", f"{file}/restore/1", ann))["version"] == 3
    assert await locker.content(ann, made) == b"one"
    assert data(await locker.call("PATCH", file, ann, json={"name": "First take"}))["name"] == "First take"
    data(await locker.call("POST", f"{file}/share", ann))
    assert data(await locker.call("DELETE", f"{file}/versions/1", ann)) == {"deleted": True}
    assert data(await locker.call("DELETE", file, ann)) == {"deleted": True}
    assert await locker.used(ann) == (0, 0, 0)
