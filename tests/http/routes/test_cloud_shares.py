"""Links to cloud files: who has one reads the file while it holds, and nobody else learns anything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import trio

from tests.http.desk import Pair, refusal
from tests.http.routes.locker import FILES, Locker, nobody, open_locker
from tests.shop import Json, data
from veza.domain.cloud import MAX_SHARES
from veza.store.bridge import Database


@pytest.fixture
async def locker(db: Database, tmp_path: Path) -> AsyncIterator[Locker]:
    with trio.fail_after(30):
        async with open_locker(db, tmp_path / "objects") as opened:
            yield opened


async def shared(locker: Locker, by: Pair, file: Json, **body: object) -> Json:
    """The link as it is told, at the top level and in the envelope alike."""
    answer = await locker.call("POST", f"{FILES}/{file['id']}/share", by, json=body)
    assert answer.status_code == 200
    told: Json = answer.json()
    link: Json = told.pop("data")
    assert told == {"success": True} | link
    return link


def public(link: Json) -> str:
    """The link's path under the API."""
    prefix = "https://veza.example/api/v1"
    assert link["share_url"] == f"{prefix}/cloud/shared/{link['token']}"
    return str(link["share_url"]).removeprefix(prefix)


async def test_a_link_shows_the_file_as_it_is_and_nothing_of_its_owner(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file = await locker.kept(ann, b"one", "Mix 1.wav")
    link = await shared(locker, ann, file)
    assert link.keys() == {"id", "share_url", "token", "expires_at"}
    assert datetime.fromisoformat(link["expires_at"]) == locker.desk.clock() + timedelta(hours=24)
    seen = await locker.get(public(link))
    assert data(seen) == {
        "name": "Mix 1.wav",
        "size_bytes": 3,
        "content_type": "audio/wav",
        "version": 1,
        "permissions": "read",
        "expires_at": link["expires_at"],
    }
    assert seen.headers["cache-control"] == "private, no-store"
    await locker.replace(ann, file["id"], b"second")
    assert data(await locker.get(public(link)))["version"] == 2
    url = f"{public(link)}/content"
    whole = await locker.get(url)
    assert whole.content == b"second"
    assert whole.headers["content-disposition"].startswith("attachment; ")
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = await locker.get(url, headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.content) == (206, b"se")
    assert (await locker.get(url, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304


async def test_a_link_holds_until_it_expires(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file = await locker.kept(ann)
    short, long = await shared(locker, ann, file, expires_in_hours=1), await shared(locker, ann, file)
    locker.desk.clock.move(timedelta(minutes=59))
    assert (await locker.get(public(short))).status_code == 200
    assert data(await locker.get(f"{FILES}/{file['id']}/share", ann))["total"] == 2
    locker.desk.clock.move(timedelta(minutes=1))
    for path in (public(short), f"{public(short)}/content"):
        assert refusal(await locker.get(path)) == (404, "not_found")
    ann = Pair.of(await locker.desk.login("ann"))
    listed = data(await locker.get(f"{FILES}/{file['id']}/share", ann))
    assert ([each["id"] for each in listed["shares"]], listed["total"]) == ([long["id"]], 1)
    assert (await locker.get(public(long))).status_code == 200


async def test_a_revoked_link_is_as_one_that_never_was(locker: Locker) -> None:
    ann, bob = await locker.desk.sign_up("ann"), await locker.desk.sign_up("bob")
    file, other = await locker.kept(ann), await locker.kept(ann)
    link, still = await shared(locker, ann, file), await shared(locker, ann, file)
    own = f"{FILES}/{file['id']}/share/{link['id']}"
    for by, path in (
        (bob, own),
        (ann, f"{FILES}/{other['id']}/share/{link['id']}"),
        (ann, f"{FILES}/{file['id']}/share/{nobody()}"),
    ):
        assert refusal(await locker.call("DELETE", path, by)) == (404, "not_found")
    assert refusal(await locker.call("DELETE", own)) == (401, "unauthenticated")
    assert data(await locker.call("DELETE", own, ann)) == {"deleted": True}
    answers = [
        await locker.get(path)
        for path in (public(link), f"{public(link)}/content", "/cloud/shared/x", f"/cloud/shared/{'x' * 43}/content")
    ]
    assert {refusal(answer) for answer in answers} == {(404, "not_found")}
    assert len({answer.json()["error"] for answer in answers}) == 1
    assert (await locker.get(public(still))).status_code == 200
    await locker.call("DELETE", f"{FILES}/{file['id']}", ann)
    assert refusal(await locker.get(public(still))) == (404, "not_found")


async def test_what_a_link_may_be_is_checked(locker: Locker) -> None:
    ann, bob = await locker.desk.sign_up("ann"), await locker.desk.sign_up("bob")
    file = await locker.kept(ann)
    url = f"{FILES}/{file['id']}/share"
    for body in (
        {"permissions": "write"},
        {"permissions": ["read"]},
        {"permissions": None},
        {"expires_in_hours": 0},
        {"expires_in_hours": 8761},
        {"expires_in_hours": "24"},
        {"expires_in_hours": 1.5},
        {"password": "x"},
    ):
        assert refusal(await locker.call("POST", url, ann, json=body)) == (400, "invalid"), body
    assert refusal(await locker.call("POST", url, bob)) == (404, "not_found")
    assert refusal(await locker.call("POST", url)) == (401, "unauthenticated")
    assert refusal(await locker.get(url, bob)) == (404, "not_found")
    assert data(await locker.get(url, ann)) == {"shares": [], "total": 0}
    assert (await locker.call("POST", url, ann)).status_code == 200, "a body is not needed"
    await shared(locker, ann, file, permissions="read", expires_in_hours=8760)


async def test_a_file_has_a_hundred_living_links_at_most(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file = await locker.kept(ann)
    async with locker.desk.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO cloud_shares (id, file_id, token_hash, expires_at, created_at)"
            " SELECT gen_random_uuid(), $1, sha256(n::text::bytea), $2::timestamptz + n * interval '1 minute', $2"
            " FROM generate_series(1, $3::int) n",
            file["id"],
            locker.desk.clock(),
            MAX_SHARES,
        )
    url = f"{FILES}/{file['id']}/share"
    assert refusal(await locker.call("POST", url, ann)) == (409, "too_many_shares")
    locker.desk.clock.move(timedelta(minutes=1))
    await shared(locker, ann, file)
    page = data(await locker.get(f"{url}?limit=1&offset=99", ann))
    assert (len(page["shares"]), page["total"]) == (1, 100)


async def test_a_token_is_told_once_and_kept_nowhere(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file = await locker.kept(ann)
    links = [await shared(locker, ann, file) for _ in range(2)]
    tokens = [link["token"] for link in links]
    assert len(set(tokens)) == 2
    assert {len(token) for token in tokens} == {43}  # 32 bytes in base64url
    await locker.get(public(links[0]))
    await locker.get(f"{public(links[0])}/content")
    await locker.get(f"{public(links[0])}/contents")
    listed = await locker.get(f"{FILES}/{file['id']}/share", ann)
    assert [set(each) for each in data(listed)["shares"]] == [{"id", "permissions", "expires_at", "created_at"}] * 2
    rows = await locker.desk.db.fetch("SELECT token_hash, s::text AS row FROM cloud_shares s")
    assert {row["token_hash"] for row in rows} == {sha256(token.encode()).digest() for token in tokens}
    told = json.dumps(locker.desk.lines, default=str) + listed.text + "".join(row["row"] for row in rows)
    assert locker.desk.logged("request")
    assert not [token for token in tokens if token in told]
