"""Covers and previews over HTTP: shown to all who may see the product, and only what they say they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import PRODUCTS, Json, Shop, data

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
MP3 = b"ID3\x04" + bytes(range(256)) * 8


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        yield Shop(house)


async def upload(shop: Shop, seller: Account | None, product: Json, kind: str, content: bytes) -> httpx.Response:
    files = {"file": ("anything.exe", content, "application/x-msdownload")}
    return await shop.house.post(f"{PRODUCTS}/{product['id']}/{kind}", seller, files=files)


async def seen(shop: Shop, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """What anybody sees who follows a product's own link."""
    parts = urlsplit(url)
    return await shop.house.http.get(f"{shop.house.url}{parts.path}?{parts.query}", headers=headers)


@pytest.mark.parametrize(
    ("kind", "content", "content_type"), [("cover", PNG, "image/png"), ("preview", MP3, "audio/mpeg")]
)
async def test_what_is_uploaded_is_shown_to_everyone(
    house: House, kind: str, content: bytes, content_type: str
) -> None:
    shop = Shop(house)
    with trio.fail_after(30):
        seller = await house.sign_up("ann")
        product = await shop.on_sale(seller)
        assert product[f"{kind}_url"] is None
        assert refusal(await house.get(f"{PRODUCTS}/{product['id']}/{kind}")) == (404, "not_found")
        answer = await upload(shop, seller, product, kind, content)
        assert answer.status_code == 201
        url = data(answer)[f"{kind}_url"]
        assert data(await house.get(f"{PRODUCTS}/{product['id']}"))[f"{kind}_url"] == url
        [listed] = data(await house.get(PRODUCTS))["products"]
        assert listed[f"{kind}_url"] == url
        shown = await seen(shop, url)
        part = await seen(shop, url, {"Range": "bytes=0-3"})
        known = await seen(shop, url, {"If-None-Match": shown.headers["etag"]})
    assert shown.content == content
    assert shown.headers["content-type"] == content_type
    assert shown.headers["cache-control"].startswith("public")
    assert shown.headers["content-disposition"].startswith("inline")
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert (part.status_code, part.content) == (206, content[:4])
    assert (known.status_code, known.content) == (304, b"")


async def test_another_takes_its_place_under_another_url_and_it_can_be_taken_away(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.on_sale(seller)
    first = data(await upload(shop, seller, product, "cover", PNG))
    second = data(await upload(shop, seller, product, "cover", PNG + b"more"))
    assert first["cover_url"] != second["cover_url"]
    assert (await seen(shop, first["cover_url"])).content == PNG + b"more"
    assert data(await shop.set(seller, second, title="Renamed"))["cover_url"] == second["cover_url"]
    path = f"{PRODUCTS}/{product['id']}/cover"
    assert data(await shop.house.delete(path, seller)) == {"deleted": True}
    assert refusal(await shop.house.get(path)) == (404, "not_found")
    assert data(await shop.house.get(f"{PRODUCTS}/{product['id']}"))["cover_url"] is None


async def test_only_the_seller_changes_it(shop: Shop) -> None:
    seller, other = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    product = await shop.on_sale(seller)
    data(await upload(shop, seller, product, "cover", PNG))
    path = f"{PRODUCTS}/{product['id']}/cover"
    assert refusal(await upload(shop, None, product, "cover", PNG)) == (401, "unauthenticated")
    assert refusal(await upload(shop, other, product, "cover", PNG + b"x")) == (403, "forbidden")
    assert refusal(await shop.house.delete(path, other)) == (403, "forbidden")
    assert (await shop.house.get(path)).content == PNG


async def test_a_drafts_cover_is_its_sellers_and_in_nobody_elses_cache(shop: Shop) -> None:
    seller, other = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    draft = await shop.draft(seller)
    path = f"{PRODUCTS}/{draft['id']}/cover"
    data(await upload(shop, seller, draft, "cover", PNG))
    for reader in (None, other):
        assert refusal(await shop.house.get(path, reader)) == (404, "not_found")
    own = await shop.house.get(path, seller)
    assert own.content == PNG
    assert own.headers["cache-control"].startswith("private")


NO_MEDIA: Sequence[tuple[str, bytes]] = [
    ("cover", MP3),
    ("preview", PNG),
    ("cover", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
    ("cover", b"\x89PNG"),
    ("cover", b"RIFF\0\0\0\0WAVE"),
    ("preview", b"RIFF\0\0\0\0WEBP"),
    ("preview", b""),
]


async def test_what_is_no_picture_or_sound_is_refused_and_changes_nothing(
    house: House, subtests: pytest.Subtests
) -> None:
    shop = Shop(house)
    with trio.fail_after(30):
        seller = await house.sign_up("ann")
        product = await shop.draft(seller)
        for kind, content in NO_MEDIA:
            with subtests.test(repr((kind, content))):
                assert refusal(await upload(shop, seller, product, kind, content)) == (400, "invalid")
                assert data(await house.get(f"{PRODUCTS}/{product['id']}", seller)) == product


async def test_a_cover_above_its_limit_is_refused(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.draft(seller)
    assert refusal(await upload(shop, seller, product, "cover", PNG + bytes(10 << 20))) == (413, "too_large")
    assert data(await shop.house.get(f"{PRODUCTS}/{product['id']}", seller)) == product
