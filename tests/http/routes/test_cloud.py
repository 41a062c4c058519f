"""Cloud files over HTTP: what is kept is fetched again, by its owner alone, and never takes more room than there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.house import House, running_house
from tests.http.desk import Pair, refusal
from tests.http.routes.locker import FILES, QUOTA, Locker, Part, answer_on, nobody, open_locker
from tests.shop import Json, data
from veza.gateways.objects import PIECE_BYTES
from veza.http.uploads import FRAMING_BYTES
from veza.store.bridge import Database


@pytest.fixture
async def locker(db: Database, tmp_path: Path) -> AsyncIterator[Locker]:
    with trio.fail_after(30):
        async with open_locker(db, tmp_path / "objects") as opened:
            yield opened


async def test_what_is_kept_is_fetched_again_whole_or_in_part(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    answer = await locker.upload(ann, b"RIFF....", "Größe №1.wav", "audio/WAV; rate=44100")
    assert answer.status_code == 201
    made = data(answer)
    assert made == {
        "id": made["id"],
        "name": "Größe №1.wav",
        "size_bytes": 8,
        "content_type": "audio/wav",
        "version": 1,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert data(await locker.get(f"{FILES}/{made['id']}", ann)) == made
    assert data(await locker.get(FILES, ann)) == {"files": [made], "total": 1}
    url = f"{FILES}/{made['id']}/content"
    whole = await locker.get(url, ann)
    part = await locker.get(url, ann, {"Range": "bytes=4-"})
    beyond = await locker.get(url, ann, {"Range": "bytes=8-"})
    known = await locker.get(url, ann, {"If-None-Match": whole.headers["etag"]})
    assert (whole.content, whole.headers["content-type"]) == (b"RIFF....", "audio/wav")
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"].startswith("attachment; ")
    assert "sandbox" in whole.headers["content-security-policy"]
    assert whole.headers["cache-control"].startswith("private")
    assert (part.status_code, part.content) == (206, b"....")
    assert refusal(beyond) == (416, "range_not_satisfiable")
    assert (known.status_code, known.content) == (304, b"")


async def test_a_file_may_be_empty(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann, b"", "empty.txt")
    assert (made["size_bytes"], await locker.content(ann, made)) == (0, b"")


async def test_a_page_somebody_uploads_is_never_shown_as_one(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = data(await locker.upload(ann, b"<script>alert(1)</script>", "a.html", "text/html"))
    answer = await locker.get(f"{FILES}/{made['id']}/content", ann)
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    odd = data(await locker.upload(ann, b"x", "b", "text/html\x01<script>"))
    assert odd["content_type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("name", "kept"),
    [("../../etc/passwd", "passwd"), ("C:\\takes\\1.wav", "1.wav"), ("x" * 300, "x" * 255), ("..a", "..a")],
)
async def test_a_files_own_name_loses_its_folders(locker: Locker, name: str, kept: str) -> None:
    assert (await locker.kept(await locker.desk.sign_up("ann"), name=name))["name"] == kept


async def test_a_name_that_was_chosen_is_taken_as_it_is_or_refused(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file: Part = ("file", ("take.wav", b"RIFF", "audio/wav"))
    assert data(await locker.send(ann, [("name", (None, b" Final .wav ")), file]))["name"] == "Final .wav"
    late = data(await locker.send(ann, [("file", (None, b"RIFF")), ("name", (None, "Später".encode()))]))
    assert late["name"] == "Später"
    before = len(locker.objects())
    url = f"{FILES}/{late['id']}"
    for name in ("a/b", "a\\b", "..", "a\nb", "\u202ewav.exe", " ", "\u0301", "x" * 256):
        field: Part = ("name", (None, name.encode()))
        for parts in ([field, file], [("file", ("t", b"new bytes", "a/b")), field]):
            assert refusal(await locker.send(ann, parts)) == (400, "invalid"), name
        assert refusal(await locker.call("PATCH", url, ann, json={"name": name})) == (400, "invalid"), name
    assert refusal(await locker.call("PATCH", url, ann, json={})) == (400, "invalid")
    assert refusal(await locker.call("PATCH", url, ann, json={"name": "x", "colour": 9})) == (400, "invalid")
    assert len(locker.objects()) == before
    assert data(await locker.get(url, ann)) == late


async def test_a_form_that_is_not_right_is_refused_and_leaves_nothing(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file: Part = ("file", ("take.wav", b"RIFF", "audio/wav"))
    for parts in (
        [("name", (None, b"x"))],
        [file, file],
        [file, ("colour", (None, b"grey"))],
        [("colour", (None, b"grey")), file],
        [("file", (None, b"RIFF"))],
        [("file", ("..", b"RIFF", "audio/wav"))],
    ):
        assert refusal(await locker.send(ann, list[Part](parts))) == (400, "invalid"), parts
    assert refusal(await locker.call("POST", FILES, ann, json={})) == (415, "unsupported_media_type")
    assert await locker.used(ann) == (0, 0, 0)
    assert locker.objects() == []


async def test_files_are_found_by_words_and_sorted(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    kick = await locker.kept(ann, b"123", "kick_01.wav")
    ete = await locker.kept(ann, b"1", "Été kick.wav")
    bass = await locker.kept(ann, b"12", "Bass 100%.flac")

    async def listed(query: str) -> list[str]:
        return [each["id"] for each in data(await locker.get(f"{FILES}?{query}", ann))["files"]]

    newest = [bass["id"], ete["id"], kick["id"]]
    assert await listed("") == await listed("sort=newest") == newest
    assert await listed("sort=oldest") == newest[::-1]
    assert await listed("sort=name") == [bass["id"], ete["id"], kick["id"]]
    assert await listed("sort=size") == [kick["id"], bass["id"], ete["id"]]
    assert await listed("search=KIC&sort=oldest") == [kick["id"], ete["id"]]
    assert await listed("search=ete+wav") == [ete["id"]]
    assert await listed("search=%25") == await listed("search=ick") == []
    page = data(await locker.get(f"{FILES}?limit=1&offset=1&search=wav", ann))
    assert ([each["id"] for each in page["files"]], page["total"]) == ([kick["id"]], 2)
    sent_back = kick | {"name": "Snare", "size_bytes": 1, "version": 9}
    renamed = data(await locker.call("PATCH", f"{FILES}/{kick['id']}", ann, json=sent_back))
    assert renamed == kick | {"name": "Snare", "updated_at": renamed["updated_at"]}
    assert await listed("search=snare") == [kick["id"]]
    assert await listed("search=01") == []
    for query in ("sort=colour", "limit=0", "offset=-1", f"search={'x' * 201}"):
        assert refusal(await locker.get(f"{FILES}?{query}", ann)) == (400, "invalid"), query


async def test_replacing_goes_up_a_version_and_drops_what_no_snapshot_has(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann, b"one")
    second = data(await locker.replace(ann, made["id"], b"second"))
    assert second == made | {
        "version": 2,
        "size_bytes": 6,
        "content_type": "audio/flac",
        "updated_at": second["updated_at"],
    }
    assert await locker.content(ann, made) == b"second"
    assert await locker.used(ann) == (6, 1, 0)
    assert refusal(await locker.call("POST", f"{FILES}/{made['id']}/restore/1", ann)) == (404, "not_found")
    named = await locker.call(
        "PUT", f"{FILES}/{made['id']}/content", ann, files={"file": ("x", b"3")}, data={"name": "y"}
    )
    assert refusal(named) == (400, "invalid")


async def test_a_snapshot_is_gone_back_to_and_nothing_is_lost_by_it(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann, b"one")
    versions = f"{FILES}/{made['id']}/versions"
    answer = await locker.call("POST", versions, ann)
    first = data(answer)
    assert answer.status_code == 201
    assert first == {
        "id": first["id"],
        "file_id": made["id"],
        "version": 1,
        "storage_key": first["storage_key"],
        "size_bytes": 3,
        "content_type": "audio/wav",
        "created_at": first["created_at"],
    }
    assert data(await locker.call("POST", versions, ann)) == first, "at the same version it is the same snapshot"
    assert await locker.used(ann) == (3, 1, 1), "what the file holds and its snapshot keeps is counted once"
    await locker.replace(ann, made["id"], b"second")
    assert await locker.used(ann) == (9, 1, 1)
    back = data(await locker.call("POST", f"{FILES}/{made['id']}/restore/1", ann))
    assert (back["version"], back["size_bytes"], back["content_type"]) == (3, 3, "audio/wav")
    assert await locker.content(ann, made) == b"one"
    told = (await locker.get(versions, ann)).json()
    assert [each["version"] for each in told["versions"]] == [2, 1]
    assert (
        (told["versions"], told["total"])
        == (told["data"]["versions"], told["data"]["total"])
        == (
            told["versions"],
            2,
        )
    )
    assert await locker.used(ann) == (9, 1, 2)
    again = data(await locker.call("POST", f"{FILES}/{made['id']}/restore/2", ann))
    assert (again["version"], await locker.content(ann, made)) == (4, b"second")
    assert await locker.used(ann) == (9, 1, 2), "both contents have their snapshots already"
    page = data(await locker.get(f"{versions}?limit=1&offset=1", ann))
    assert ([each["version"] for each in page["versions"]], page["total"]) == ([1], 2)


async def test_a_file_has_so_many_snapshots_and_none_is_dropped_unasked(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    file = f"{FILES}/{(await locker.kept(ann, b'1'))['id']}"
    for content in (b"22", b"333"):
        data(await locker.call("POST", f"{file}/versions", ann))
        await locker.replace(ann, file.split("/")[-1], content)
    data(await locker.call("POST", f"{file}/versions", ann))
    await locker.replace(ann, file.split("/")[-1], b"4444")
    assert refusal(await locker.call("POST", f"{file}/versions", ann)) == (409, "too_many_versions")
    assert refusal(await locker.call("POST", f"{file}/restore/1", ann)) == (409, "too_many_versions")
    assert data(await locker.get(file, ann))["version"] == 4
    assert data(await locker.call("DELETE", f"{file}/versions/2", ann)) == {"deleted": True}
    assert data(await locker.call("POST", f"{file}/restore/1", ann))["version"] == 5
    for version in (2, 9, 0, 2**31, 10**30):
        assert refusal(await locker.call("DELETE", f"{file}/versions/{version}", ann)) == (404, "not_found")
        assert refusal(await locker.call("POST", f"{file}/restore/{version}", ann)) == (404, "not_found")


async def test_the_quota_is_told_before_the_bytes_are_sent(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    answer = await locker.announce(ann, "POST", FILES, 5_000_000)
    assert answer.startswith("HTTP/1.1 413 ")
    assert '"code":"quota_exceeded"' in answer


async def test_the_quota_is_held_to_the_byte_and_midway(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    made = await locker.kept(ann, b"x" * QUOTA)
    before = locker.objects()
    assert refusal(await locker.upload(ann, b"y")) == (413, "quota_exceeded")

    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield b"z" * 4096

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert refusal(await locker.call("POST", FILES, ann, content=endless(), headers=kind)) == (413, "quota_exceeded")
    assert refusal(await locker.replace(ann, made["id"], b"z" * (QUOTA + 1))) == (413, "quota_exceeded")
    assert locker.objects() == before, "nothing of what was refused is kept"
    assert data(await locker.replace(ann, made["id"], b"z" * QUOTA))["version"] == 2, "what it replaces makes room"
    data(await locker.call("POST", f"{FILES}/{made['id']}/versions", ann))
    assert refusal(await locker.replace(ann, made["id"], b"w")) == (413, "quota_exceeded")
    assert await locker.used(ann) == (QUOTA, 1, 1)
    assert data(await locker.call("DELETE", f"{FILES}/{made['id']}", ann)) == {"deleted": True}
    assert await locker.used(ann) == (0, 0, 0)
    assert data(await locker.upload(await locker.desk.sign_up("bob"), b"y" * QUOTA))["size_bytes"] == QUOTA


async def test_twenty_uploads_at_once_do_not_exceed_the_quota(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    answers: list[tuple[int, str]] = []

    async def upload(number: int) -> None:
        answer = await locker.upload(ann, bytes([number]) * 300)
        answers.append((201, "") if answer.status_code == 201 else refusal(answer))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(upload, number)
    assert sorted(answers) == [(201, "")] * 3 + [(413, "quota_exceeded")] * 17
    assert len(locker.objects()) == 3  # what was refused once it was here is not left to the janitor
    assert await locker.used(ann) == (900, 3, 0)


async def test_uploads_under_way_take_together_no_more_of_the_disk_than_is_left(db: Database, tmp_path: Path) -> None:
    room, each = 4 * PIECE_BYTES, 2 * PIECE_BYTES
    refused: list[str] = []
    enough = trio.Event()

    async def upload(locker: Locker, by: Pair) -> None:
        async with locker.uploading(by, "POST", FILES, room, bytes(each)) as stream:
            refused.append(await answer_on(stream))
        if len(refused) == 12 - room // each:
            enough.set()

    with trio.fail_after(30):
        async with open_locker(db, tmp_path / "objects", cloud_quota_bytes=room) as locker, trio.open_nursery() as many:
            ann = await locker.desk.sign_up("ann")
            for _ in range(12):
                many.start_soon(upload, locker, ann)
            await enough.wait()
            assert sum(path.stat().st_size for path in locker.objects()) <= room
            assert all('"code":"quota_exceeded"' in answer for answer in refused)
            many.cancel_scope.cancel()


async def test_an_upload_is_refused_midway_once_another_has_taken_its_room(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    async with locker.uploading(ann, "POST", FILES, FRAMING_BYTES + 600, b"x" * 500) as stream:
        assert (await locker.upload(ann, b"z" * 500)).status_code == 201
        await stream.send_all(b"y")
        answer = await answer_on(stream)
    assert answer.startswith("HTTP/1.1 413 ")
    assert '"code":"quota_exceeded"' in answer
    assert len(locker.objects()) == 1
    assert await locker.used(ann) == (500, 1, 0)


async def test_the_quota_holds_over_several_processes(dsn: str, tmp_path: Path) -> None:
    answers: list[tuple[int, str]] = []
    with trio.fail_after(60):
        async with (
            running_house(dsn, tmp_path / "one", cloud_quota_mb=1) as one,
            running_house(dsn, tmp_path / "two", cloud_quota_mb=1, jwt_secret=one.settings.jwt_secret) as two,
        ):
            ann = await one.sign_up("ann")

            async def upload(house: House, number: int) -> None:
                answer = await house.post(FILES, ann, files={"file": ("a", bytes([number]) * 300_000)})
                answers.append((201, "") if answer.status_code == 201 else refusal(answer))

            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(upload, (one, two)[number % 2], number)
            assert sorted(answers) == [(201, "")] * 3 + [(413, "quota_exceeded")] * 9
            assert data(await two.get("/cloud/usage", ann))["used_bytes"] == 900_000


async def test_an_upload_has_a_limit_of_its_own(db: Database, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_locker(db, tmp_path / "objects", upload_max_bytes=10) as locker:
            ann = await locker.desk.sign_up("ann")
            assert refusal(await locker.upload(ann, b"x" * 11)) == (413, "too_large")
            assert (await locker.upload(ann, b"x" * 10)).status_code == 201


async def test_an_upload_that_is_cut_off_leaves_nothing(locker: Locker) -> None:
    ann = await locker.desk.sign_up("ann")
    cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf a song'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert refusal(await locker.call("POST", FILES, ann, content=cut, headers=kind)) == (400, "bad_request")
    assert await locker.used(ann) == (0, 0, 0)
    assert locker.objects() == []


async def test_a_house_keeps_files_under_the_limits_of_its_settings(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with running_house(dsn, tmp_path, cloud_quota_mb=1, cloud_versions_max=1) as house:
            ann = await house.sign_up("ann")
            made = data(await house.post(FILES, ann, files={"file": ("a.wav", b"x" * (1 << 20))}))
            file = f"{FILES}/{made['id']}"
            assert data(await house.get("/cloud/usage", ann))["quota_bytes"] == 1 << 20
            assert refusal(await house.post(FILES, ann, files={"file": ("b", b"y")})) == (413, "quota_exceeded")
            data(await house.put(f"{file}/content", ann, files={"file": ("a.wav", b"z")}))
            data(await house.post(f"{file}/versions", ann))
            data(await house.put(f"{file}/content", ann, files={"file": ("a.wav", b"zz")}))
            assert refusal(await house.post(f"{file}/versions", ann)) == (409, "too_many_versions")
            link = data(await house.post(f"{file}/share", ann))
            assert (await house.http.get(f"{link['share_url']}/content")).content == b"zz"


async def test_another_persons_files_are_not_there(locker: Locker) -> None:
    ann, bob = await locker.desk.sign_up("ann"), await locker.desk.sign_up("bob")
    made = await locker.kept(ann)
    data(await locker.call("POST", f"{FILES}/{made['id']}/versions", ann))
    calls = (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/content"),
        ("GET", "/versions"),
        ("POST", "/versions"),
        ("DELETE", "/versions/1"),
        ("POST", "/restore/1"),
    )
    for method, rest in calls:
        body: Json = {"json": {"name": "mine"}} if method == "PATCH" else {}
        for by, file_id in ((bob, made["id"]), (ann, nobody())):
            answer = await locker.call(method, f"{FILES}/{file_id}{rest}", by, **body)
            assert refusal(answer) == (404, "not_found"), (method, rest)
        answer = await locker.call(method, f"{FILES}/{made['id']}{rest}", **body)
        assert refusal(answer) == (401, "unauthenticated"), (method, rest)
    assert refusal(await locker.replace(bob, made["id"], b"mine")) == (404, "not_found")
    assert refusal(await locker.replace(None, made["id"], b"mine")) == (401, "unauthenticated")
    assert refusal(await locker.upload(None)) == (401, "unauthenticated")
    assert data(await locker.get(FILES, bob)) == {"files": [], "total": 0}
    assert await locker.used(bob) == (0, 0, 0)
    assert data(await locker.get(f"{FILES}/{made['id']}", ann)) == made
    assert "take.wav" not in json.dumps(locker.desk.lines, default=str), "no log tells what people keep"


async def test_a_name_with_a_nul_in_it_is_refused_and_not_mended(locker: Locker) -> None:
    ann = await locker.desk.sign_up("Ann")
    parts: list[Part] = [("name", (None, b"a\0b.wav")), ("file", ("take.wav", b"RIFF", "audio/wav"))]
    assert refusal(await locker.send(ann, parts)) == (400, "invalid")
    assert await locker.used(ann) == (0, 0, 0)
