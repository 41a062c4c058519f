"""Documents of gear over HTTP: what they say they are, whole or in part, for their owner alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import Json, data

GEAR = "/inventory/gear"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 8
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
TEXT = "Gekauft am 3. März.\r\n".encode() * 9000

Part = tuple[str, tuple[str | None, bytes, str] | tuple[str | None, bytes]]


@pytest.fixture
async def studio(house: House) -> AsyncIterator[House]:
    with trio.fail_after(30):
        yield house


async def documents(studio: House, owner: Account) -> str:
    """Where the documents of a new item are."""
    return f"{GEAR}/{data(await studio.post(GEAR, owner, json={'name': 'Juno'}))['id']}/documents"


async def upload(
    studio: House,
    by: Account | None,
    path: str,
    content: bytes = PDF,
    claim: str = "application/pdf",
    name: str = "Invoice.pdf",
    kind: str = "invoice",
) -> httpx.Response:
    return await studio.post(path, by, files={"file": (name, content, claim)}, data={"type": kind})


async def send(studio: House, by: Account, path: str, parts: Sequence[Part]) -> httpx.Response:
    return await studio.post(path, by, files=parts)


def objects(studio: House) -> list[Path]:
    return [path for path in (studio.settings.veza_data_dir / "objects").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("content", "claim", "content_type"),
    [
        (PDF, "application/pdf", "application/pdf"),
        (PDF, "application/octet-stream", "application/pdf"),
        (PNG, "image/png", "image/png"),
        (b"\xff\xd8\xff\xe0" + PNG, "image/jpg", "image/jpeg"),
        (b"RIFF\x24\x10\0\0WEBPVP8 ", "image/webp", "image/webp"),
        (TEXT, "text/plain; charset=utf-8", "text/plain"),
        (b"x", "", "text/plain"),
    ],
)
async def test_what_is_uploaded_is_fetched_as_what_it_is(
    house: House, content: bytes, claim: str, content_type: str
) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        path = await documents(house, ann)
        answer = await upload(house, ann, path, content, claim)
        assert answer.status_code == 201
        made = data(answer)
        assert made == {
            "id": made["id"],
            "gear_id": path.split("/")[3],
            "type": "invoice",
            "filename": "Invoice.pdf",
            "content_type": content_type,
            "size_bytes": len(content),
            "created_at": made["created_at"],
        }
        assert data(await house.get(path, ann)) == {"documents": [made], "total": 1}
        assert data(await house.get(path.removesuffix("/documents"), ann))["documents_count"] == 1
        url = f"{path}/{made['id']}/content"
        whole = await house.get(url, ann)
        part = await house.get(url, ann, headers={"Range": "bytes=0-3"})
        beyond = await house.get(url, ann, headers={"Range": f"bytes={len(content)}-"})
        known = await house.get(url, ann, headers={"If-None-Match": whole.headers["etag"]})
    assert whole.content == content
    assert whole.headers["content-type"] == content_type
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"].startswith('attachment; filename="Invoice.pdf"')
    assert whole.headers["cache-control"].startswith("private")
    assert (part.status_code, part.content) == (206, content[:4])
    assert refusal(beyond) == (416, "range_not_satisfiable")
    assert (known.status_code, known.content) == (304, b"")


NOT_WHAT_THEY_SAY: Sequence[tuple[bytes, str]] = [
    (PNG, "application/pdf"),
    (PDF, "image/png"),
    (PDF, "text/plain"),
    (b"plain", "application/pdf"),
    (PDF, "text/html"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
    (b"<script>alert(1)</script>", "text/html"),
    (b"MZ\x90\0\x03", "application/octet-stream"),
    (b"GIF89a\x01\0", "image/gif"),
    (b"RIFF\0\0\0\0WAVE", "application/octet-stream"),
    (TEXT + b"\0", "text/plain"),
    (TEXT + b"\xff", "text/plain"),
    (TEXT + "ä".encode()[:1], "text/plain"),
]


async def test_what_is_not_what_it_says_is_refused_and_leaves_nothing(house: House, subtests: pytest.Subtests) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        path = await documents(house, ann)
        for content, claim in NOT_WHAT_THEY_SAY:
            with subtests.test(repr((content, claim))):
                assert refusal(await upload(house, ann, path, content, claim)) == (415, "unsupported_media_type")
                assert data(await house.get(path, ann)) == {"documents": [], "total": 0}
                assert objects(house) == []


async def test_a_form_that_is_not_right_is_refused(studio: House) -> None:
    ann = await studio.sign_up("ann")
    path = await documents(studio, ann)
    file: Part = ("file", ("a.pdf", PDF, "application/pdf"))
    kind: Part = ("type", (None, b"invoice"))
    wrong: dict[str, Sequence[Part]] = {
        "no file": [kind],
        "no type": [file],
        "no such type": [("type", (None, b"receipt")), file],
        "no such type, told late": [file, ("type", (None, b"receipt"))],
        "two files": [kind, file, file],
        "another field": [kind, ("colour", (None, b"grey")), file],
        "another field, told late": [file, kind, ("colour", (None, b"grey"))],
        "no name": [kind, ("file", ("..", PDF, "application/pdf"))],
        "no bytes": [kind, ("file", ("a.pdf", b"", "application/pdf"))],
        "the file as text": [kind, ("file", (None, PDF))],
    }
    for why, parts in wrong.items():
        assert refusal(await send(studio, ann, path, parts)) == (400, "invalid"), why
    assert (await studio.post(path, ann, json={"type": "invoice"})).status_code == 415
    assert (await studio.post(path, ann, content=PDF, headers={"Content-Type": "application/pdf"})).status_code == 415
    assert data(await studio.get(path, ann)) == {"documents": [], "total": 0}
    assert (await send(studio, ann, path, [file, kind])).status_code == 201


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\papers\\Invoice.pdf", "Invoice.pdf"),
        ('a"b\r\nX-Evil: 1.pdf', None),
        ("Rechnung für Ämter 🎹.pdf", "Rechnung für Ämter 🎹.pdf"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
async def test_a_name_is_only_a_name(house: House, name: str, kept: str | None) -> None:
    with trio.fail_after(30):
        ann = await house.sign_up("ann")
        path = await documents(house, ann)
        made = data(await upload(house, ann, path, name=name))
        assert made["filename"] == kept or (kept is None and "\n" not in made["filename"])
        answer = await house.get(f"{path}/{made['id']}/content", ann)
    assert "x-evil" not in answer.headers
    assert answer.content == PDF


async def test_a_document_has_25_mib_at_most(studio: House) -> None:
    ann = await studio.sign_up("ann")
    path = await documents(studio, ann)
    most = PDF.ljust(25 << 20, b"\n")
    assert data(await upload(studio, ann, path, most))["size_bytes"] == 25 << 20
    assert refusal(await upload(studio, ann, path, most + b"\n")) == (413, "too_large")
    assert data(await studio.get(path, ann))["total"] == 1


async def test_an_item_has_fifty_documents_at_most_a_page_shows_some(studio: House) -> None:
    ann = await studio.sign_up("ann")
    path = await documents(studio, ann)
    made = [data(await upload(studio, ann, path))["id"] for _ in range(50)]  # the same bytes, each a document
    assert refusal(await upload(studio, ann, path)) == (409, "too_many_documents")
    page = data(await studio.get(f"{path}?limit=2&offset=1", ann))
    assert ([each["id"] for each in page["documents"]], page["total"]) == ([made[48], made[47]], 50)
    assert data(await studio.delete(f"{path}/{made[0]}", ann)) == {"deleted": True}
    assert (await upload(studio, ann, path)).status_code == 201


async def test_another_persons_documents_are_not_there(studio: House) -> None:
    ann, bob, admin = await studio.sign_up("ann"), await studio.sign_up("bob"), await studio.admin()
    path, other = await documents(studio, ann), await documents(studio, ann)
    made: Json = data(await upload(studio, ann, path))
    for stranger in (bob, admin):
        for answer in (
            await upload(studio, stranger, path),
            await studio.get(path, stranger),
            await studio.get(f"{path}/{made['id']}/content", stranger),
            await studio.delete(f"{path}/{made['id']}", stranger),
        ):
            assert refusal(answer) == (404, "not_found")
    for answer in (
        await studio.get(f"{other}/{made['id']}/content", ann),
        await studio.delete(f"{other}/{made['id']}", ann),
        await studio.get(f"{path}/{uuid4()}/content", ann),
        await studio.delete(f"{path}/{uuid4()}", ann),
    ):
        assert refusal(answer) == (404, "not_found")
    assert refusal(await upload(studio, None, path)) == (401, "unauthenticated")
    assert refusal(await studio.get(f"{path}/{made['id']}/content")) == (401, "unauthenticated")
    assert data(await studio.get(path, ann)) == {"documents": [made], "total": 1}
    assert data(await studio.delete(f"{path}/{made['id']}", ann)) == {"deleted": True}
    assert refusal(await studio.get(f"{path}/{made['id']}/content", ann)) == (404, "not_found")
