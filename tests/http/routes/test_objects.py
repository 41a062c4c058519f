"""A link is fetched by whoever has it, until it expires; the file is then sent as any other is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import trio
from pydantic import SecretStr

from tests.buckets import S3
from tests.house import running_house
from tests.http.desk import refusal
from tests.http.routes.locker import FILES, open_locker
from tests.sandbox.running import NO_CERTIFICATES
from tests.shop import data
from veza.store.bridge import Database


def path_of(url: str) -> str:
    """A link's path at the desk: its host is the public one."""
    return url.removeprefix("https://veza.example/api/v1")


async def test_a_link_to_ones_own_file_needs_no_bearer_and_ends_after_five_minutes(
    db: Database, tmp_path: Path
) -> None:
    async with open_locker(db, tmp_path) as locker:
        ann = await locker.desk.sign_up("Ann")
        file = await locker.kept(ann, b"RIFF and more", "Träck.wav")
        link = data(await locker.call("POST", f"{FILES}/{file['id']}/link", ann))
        assert link["url"].startswith("https://veza.example/api/v1/objects/")
        answer = await locker.get(path_of(link["url"]))
        assert (answer.status_code, answer.content) == (200, b"RIFF and more")
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["content-disposition"].startswith('attachment; filename="Tr_ck.wav"')
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["cache-control"] == "private, no-cache"
        part = await locker.get(path_of(link["url"]), headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"RIFF")
        locker.desk.clock.move(timedelta(minutes=5))
        assert refusal(await locker.get(path_of(link["url"]))) == (403, "link_expired")


async def test_nobody_else_gets_a_link_to_it(db: Database, tmp_path: Path) -> None:
    async with open_locker(db, tmp_path) as locker:
        ann, bob = await locker.desk.sign_up("Ann"), await locker.desk.sign_up("Bob")
        file = await locker.kept(ann)
        assert refusal(await locker.call("POST", f"{FILES}/{file['id']}/link", bob)) == (404, "not_found")
        assert refusal(await locker.call("POST", f"{FILES}/{file['id']}/link")) == (401, "unauthenticated")


async def test_a_link_that_was_not_made_here_leads_nowhere(db: Database, tmp_path: Path) -> None:
    async with open_locker(db, tmp_path) as locker:
        ann = await locker.desk.sign_up("Ann")
        for token in ("x", "..", "a.b.c", ann.access, "x" * 5000):
            assert refusal(await locker.get(f"/objects/{token}")) == (404, "not_found")


async def test_a_link_shows_what_the_file_held_when_it_was_made_while_a_snapshot_still_holds_it(
    db: Database, tmp_path: Path
) -> None:
    async with open_locker(db, tmp_path) as locker:
        ann = await locker.desk.sign_up("Ann")
        file = await locker.kept(ann, b"one")
        link = data(await locker.call("POST", f"{FILES}/{file['id']}/link", ann))
        data(await locker.call("POST", f"{FILES}/{file['id']}/versions", ann))
        await locker.replace(ann, file["id"], b"two")
        assert (await locker.get(path_of(link["url"]))).content == b"one"


async def test_a_link_is_dead_once_what_it_was_of_is_replaced_or_deleted(db: Database, tmp_path: Path) -> None:
    async with open_locker(db, tmp_path) as locker:
        ann = await locker.desk.sign_up("Ann")
        file = await locker.kept(ann, b"one")
        before = data(await locker.call("POST", f"{FILES}/{file['id']}/link", ann))
        await locker.replace(ann, file["id"], b"two")
        after = data(await locker.call("POST", f"{FILES}/{file['id']}/link", ann))
        assert refusal(await locker.get(path_of(before["url"]))) == (404, "not_found")
        assert (await locker.get(path_of(after["url"]))).content == b"two"
        data(await locker.call("DELETE", f"{FILES}/{file['id']}", ann))
        assert refusal(await locker.get(path_of(after["url"]))) == (404, "not_found")
        assert len(locker.objects()) == 2  # the bytes wait for the janitor, and nothing leads to them


async def test_a_platform_whose_files_are_in_a_bucket_serves_them_as_it_serves_those_on_a_disk(
    dsn: str, tmp_path: Path, s3: S3
) -> None:
    bucket = s3.bucket()
    said = {
        "s3_bucket": bucket.name,
        "s3_endpoint_url": bucket.endpoint_url,
        "s3_region": bucket.region,
        "s3_access_key_id": SecretStr(bucket.access_key_id or ""),
        "s3_secret_access_key": SecretStr(bucket.secret_access_key or ""),
    }
    async with running_house(dsn, tmp_path, **said) as house:
        ann = await house.sign_up("Ann")
        file = data(await house.post(FILES, ann, files={"file": ("take.wav", b"RIFF and more", "audio/wav")}))
        part = await house.get(f"{FILES}/{file['id']}/content", ann, headers={"Range": "bytes=0-3"})
        assert (part.status_code, part.content) == (206, b"RIFF")
        link = data(await house.post(f"{FILES}/{file['id']}/link", ann))
        assert link["url"].startswith(s3.url)
        async with httpx.AsyncClient(verify=NO_CERTIFICATES) as stranger:
            assert (await stranger.get(link["url"])).content == b"RIFF and more"
        with trio.fail_after(20):
            await house.until("/health/deep", None, lambda deep: deep["checks"]["s3"]["status"] == "ok")
    assert not [path for path in (tmp_path / "var" / "objects").rglob("*") if path.is_file()]


async def test_a_bucket_that_is_away_degrades_health_and_refuses_files_alone(dsn: str, tmp_path: Path) -> None:
    said = {"s3_bucket": "veza", "s3_endpoint_url": "http://127.0.0.1:9", "s3_region": "eu-west-3"}
    keys = {"s3_access_key_id": SecretStr("a"), "s3_secret_access_key": SecretStr("b")}
    async with running_house(dsn, tmp_path, **said, **keys) as house:
        ann = await house.sign_up("Ann")
        sent = await house.post(FILES, ann, files={"file": ("take.wav", b"RIFF", "audio/wav")})
        assert refusal(sent) == (503, "storage_unavailable")
        assert data(await house.get(FILES, ann))["files"] == []
        deep = await house.get("/health/deep")
        assert (deep.status_code, deep.json()["data"]["checks"]["s3"]["status"]) == (200, "degraded")
