"""Products over HTTP: what sellers do with theirs, and what everyone else finds."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from tests.house import House, running_house
from tests.http.desk import refusal
from tests.shop import BYTES, ORDERS, PRODUCTS, Json, Shop, data


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        yield Shop(house)


async def titles(shop: Shop, query: str = "") -> list[str]:
    return [product["title"] for product in data(await shop.house.get(f"{PRODUCTS}?{query}"))["products"]]


# -- offering ----------------------------------------------------------------------------------------------------------


async def test_a_product_begins_as_a_draft_with_all_that_was_said_of_it(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    answer = await shop.house.post(
        PRODUCTS,
        seller,
        json={
            "title": "  Night Drive ",
            "description": "At 120 bpm.",
            "product_type": "track",
            "price_cents": 2999,
            "currency": "EUR",
            "tags": ["Synth Wave", "synth  wave", "80s"],
        },
    )
    assert answer.status_code == 201
    made = data(answer)
    assert UUID(made["id"]).version == 7
    assert datetime.fromisoformat(made["created_at"]).tzinfo == UTC
    assert made["created_at"].endswith("Z")
    assert made == {
        "id": made["id"],
        "seller_id": seller.id,
        "seller": {"id": seller.id, "username": "ann"},
        "title": "Night Drive",
        "description": "At 120 bpm.",
        "product_type": "track",
        "price_cents": 2999,
        "currency": "EUR",
        "tags": ["synth wave", "80s"],
        "status": "draft",
        "rating": {"average": None, "count": 0},
        "cover_url": None,
        "preview_url": None,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert data(await shop.house.get(f"{PRODUCTS}/{made['id']}", seller)) == made


NO_PRODUCTS: list[tuple[Json, str]] = [
    ({"title": " "}, "title"),
    ({"title": "t" * 201}, "title"),
    ({"title": "\u200b"}, "title"),
    ({"title": "bell\x07"}, "title"),
    ({"title": "\u202egnos"}, "title"),
    ({"title": 7}, "title"),
    ({"description": "d" * 10_001}, "description"),
    ({"price_cents": -1}, "price_cents"),
    ({"price_cents": 100_000_000}, "price_cents"),
    ({"price_cents": 29.99}, "price_cents"),
    ({"price_cents": "2999"}, "price_cents"),
    ({"price_cents": None}, "price_cents"),
    ({"currency": "USD"}, "currency"),
    ({"product_type": "song"}, "product_type"),
    ({"tags": ["x" * 41]}, "tags"),
    ({"tags": [str(number) for number in range(21)]}, "tags"),
    ({"tags": "synth"}, "tags"),
    ({"status": "sold"}, "status"),
    ({"rating": 5}, "rating"),
]


async def test_what_makes_no_product_is_refused_with_its_field(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    for fields, field in NO_PRODUCTS:
        answer = await shop.house.post(PRODUCTS, seller, json={"title": "A track", "price_cents": 1, **fields})
        assert refusal(answer) == (400, "invalid"), fields
        assert [problem["field"] for problem in answer.json()["details"]] == [field], fields
    assert data(await shop.house.get(f"{PRODUCTS}?seller_id={seller.id}&status=all", seller))["total"] == 0


async def test_only_the_signed_in_offer_change_upload_and_delete(shop: Shop) -> None:
    product = await shop.on_sale(await shop.house.sign_up("ann"))
    path = f"{PRODUCTS}/{product['id']}"
    for answer in (
        await shop.house.post(PRODUCTS, json={"title": "A track", "price_cents": 1}),
        await shop.house.put(path, json={"title": "Mine"}),
        await shop.house.delete(path),
        await shop.house.post(f"{path}/files", files={"file": ("a.wav", b"a")}),
        await shop.house.get(f"{path}/files"),
    ):
        assert answer.status_code == 401


async def test_prices_are_in_the_platforms_currency(dsn: str, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with running_house(dsn, tmp_path, platform_currency="USD") as house:
            shop, seller = Shop(house), await house.sign_up("ann")
            assert (await shop.draft(seller))["currency"] == "USD"
            refused = await house.post(PRODUCTS, seller, json={"title": "A", "price_cents": 1, "currency": "EUR"})
            assert refusal(refused) == (400, "invalid")


# -- publishing --------------------------------------------------------------------------------------------------------


async def test_publishing_needs_something_to_deliver(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.draft(seller)
    assert refusal(await shop.set(seller, product, status="published")) == (409, "no_deliverable")
    body = {"title": "A track", "price_cents": 1, "status": "published"}
    assert refusal(await shop.house.post(PRODUCTS, seller, json=body)) == (409, "no_deliverable")
    data(await shop.upload(seller, product))
    assert data(await shop.set(seller, product, status="published"))["status"] == "published"


async def test_a_draft_is_there_for_its_seller_and_admins_alone(shop: Shop) -> None:
    seller, stranger = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    product = await shop.draft(seller, title="Secret")
    path = f"{PRODUCTS}/{product['id']}"
    for reader in (None, stranger):
        assert refusal(await shop.house.get(path, reader)) == (404, "not_found")
    for answer in (
        await shop.set(stranger, product, title="Mine"),
        await shop.upload(stranger, product),
        await shop.house.get(f"{path}/files", stranger),
        await shop.house.delete(path, stranger),
    ):
        assert refusal(answer) == (404, "not_found")
    assert data(await shop.house.get(path, await shop.house.admin()))["title"] == "Secret"
    assert await titles(shop) == []
    assert await titles(shop, "search=secret") == []
    assert await titles(shop, f"seller_id={seller.id}") == []


async def test_what_is_on_sale_is_everyones_to_see_and_its_sellers_to_change(shop: Shop) -> None:
    seller, stranger = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    product = await shop.on_sale(seller)
    path = f"{PRODUCTS}/{product['id']}"
    assert data(await shop.house.get(path)) == product
    for answer in (
        await shop.set(stranger, product, price_cents=1),
        await shop.upload(stranger, product),
        await shop.house.get(f"{path}/files", stranger),
        await shop.house.delete(path, stranger),
        await shop.set(await shop.house.admin(), product, price_cents=1),
    ):
        assert refusal(answer) == (403, "forbidden")
    assert data(await shop.house.get(path)) == product


async def test_a_product_that_does_not_exist_is_not_found(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    for product_id in (uuid4(), "nonsense"):
        path = f"{PRODUCTS}/{product_id}"
        assert refusal(await shop.house.get(path)) == (404, "not_found")
        assert refusal(await shop.house.put(path, seller, json={})) == (404, "not_found")
        assert refusal(await shop.house.delete(path, seller)) == (404, "not_found")


async def test_put_changes_what_is_sent_and_takes_a_fetched_product_back(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.on_sale(seller, description="As it was.", tags=["synth"])
    assert data(await shop.set(seller, product)) == product
    assert data(await shop.set(seller, product, **product)) == product, "nothing changed, so neither did updated_at"
    changed = data(await shop.set(seller, product, price_cents=1999, tags=[]))
    assert changed["updated_at"] > product["updated_at"]
    assert changed == product | {"price_cents": 1999, "tags": [], "updated_at": changed["updated_at"]}
    greedy = {"seller_id": str(uuid4()), "rating": {"average": 5, "count": 9}, "id": 1, "created_at": None}
    assert data(await shop.set(seller, product, **greedy)) == changed


async def test_a_change_that_makes_no_sense_changes_nothing(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.draft(seller)
    wrong: list[Json] = [{"title": None}, {"title": ""}, {"price_cents": -1}, {"currency": "USD"}, {"colour": "red"}]
    for changes in wrong:
        answer = await shop.set(seller, product, **{"description": "New.", **changes})
        assert refusal(answer) == (400, "invalid"), changes
    assert data(await shop.house.get(f"{PRODUCTS}/{product['id']}", seller)) == product


async def test_what_is_archived_leaves_the_listing_and_can_come_back_but_never_as_a_draft(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.on_sale(seller)
    assert data(await shop.set(seller, product, status="archived"))["status"] == "archived"
    assert await titles(shop) == []
    assert refusal(await shop.house.get(f"{PRODUCTS}/{product['id']}")) == (404, "not_found")
    assert refusal(await shop.set(seller, product, status="draft"))[0] == 409
    assert data(await shop.set(seller, product, status="published"))["status"] == "published"
    assert await titles(shop) == ["A track"]
    assert refusal(await shop.set(seller, product, status="draft"))[0] == 409


async def test_what_nobody_ordered_is_deleted(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.on_sale(seller)
    path = f"{PRODUCTS}/{product['id']}"
    assert data(await shop.house.delete(path, seller)) == {"deleted": True}
    assert refusal(await shop.house.get(path, seller)) == (404, "not_found")
    assert refusal(await shop.house.delete(path, seller)) == (404, "not_found")


async def test_deleting_what_was_sold_archives_it_and_leaves_its_buyer_their_files(shop: Shop) -> None:
    seller, buyer = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    product = await shop.on_sale(seller)
    order = await shop.bought(buyer, product)
    path = f"{PRODUCTS}/{product['id']}"
    [file] = data(await shop.house.get(f"{path}/files", seller))["files"]
    assert refusal(await shop.house.delete(f"{path}/files/{file['id']}", seller)) == (409, "sold")
    assert data(await shop.house.delete(path, seller)) == {"deleted": True}
    assert await titles(shop) == []
    assert data(await shop.house.get(path, buyer))["status"] == "archived"
    assert refusal(await shop.house.get(path, await shop.house.sign_up("eve"))) == (404, "not_found")
    downloaded = await shop.house.get(f"{ORDERS}/{order['id']}/downloads/{file['id']}", buyer)
    assert downloaded.content == BYTES


# -- the listing -------------------------------------------------------------------------------------------------------


async def test_the_listing_is_found_by_words_filters_and_order(shop: Shop) -> None:
    seller, other = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    await shop.on_sale(seller, title="Night Drive", price_cents=500, product_type="track", tags=["synthwave"])
    await shop.on_sale(seller, title="Drive Home", price_cents=1500, product_type="album")
    await shop.on_sale(other, title="Élan", description="A drive at noon.", price_cents=1000, product_type="track")
    everything = ["Élan", "Drive Home", "Night Drive"]
    for query, expected in {
        "": everything,
        "sort=newest": everything,
        "sort=oldest": everything[::-1],
        "sort=price_asc": ["Night Drive", "Élan", "Drive Home"],
        "sort=price_desc": ["Drive Home", "Élan", "Night Drive"],
        "search=drive": everything,
        "search=dri": everything,
        "search=ÉLAN": ["Élan"],
        "search=elan": ["Élan"],
        "search=drive+night": ["Night Drive"],
        "search=dri+night": [],
        "search=synthwave": ["Night Drive"],
        "search=nothing": [],
        "search=%27%22%5C%3A*%26": [],
        "search=": everything,
        "search=%20": everything,
        "tag=SynthWave": ["Night Drive"],
        "tag=nothing": [],
        "product_type=track": ["Élan", "Night Drive"],
        f"seller_id={other.id}": ["Élan"],
        f"seller_id={uuid4()}": [],
        "min_price=1000": ["Élan", "Drive Home"],
        "max_price=1000": ["Élan", "Night Drive"],
        "min_price=501&max_price=1499": ["Élan"],
        f"search=drive&product_type=track&seller_id={seller.id}&sort=price_asc": ["Night Drive"],
        "unknown=parameter": everything,
    }.items():
        assert await titles(shop, query) == expected, query
        assert data(await shop.house.get(f"{PRODUCTS}?{query}"))["total"] == len(expected), query


async def test_popular_is_what_was_sold_most(shop: Shop) -> None:
    seller, buyer = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    products = {title: await shop.on_sale(seller, title=title) for title in ("One", "Two", "None")}
    await shop.bought(buyer, products["One"])
    twice = await shop.ordered(buyer, products["Two"], quantity=2)
    await shop.pay(twice)
    await shop.until_status(buyer, twice, "paid")
    assert await titles(shop, "sort=popular") == ["Two", "One", "None"]


async def test_pages_follow_one_another_and_say_how_much_there_is(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.on_sale(seller, title="0")
    for number in range(1, 22):
        product = await shop.draft(seller, title=str(number))
        data(await shop.upload(seller, product))
        data(await shop.set(seller, product, status="published"))
    first = data(await shop.house.get(PRODUCTS))
    assert (len(first["products"]), first["total"]) == (20, 22)
    pages = [data(await shop.house.get(f"{PRODUCTS}?limit=9&offset={offset}")) for offset in (0, 9, 18, 27)]
    assert [page["total"] for page in pages] == [22] * 4
    assert [product["title"] for page in pages for product in page["products"]] == [str(21 - n) for n in range(22)]


NO_QUERIES = [
    ("limit=0", "limit"),
    ("limit=101", "limit"),
    ("limit=ten", "limit"),
    ("offset=-1", "offset"),
    ("sort=best", "sort"),
    ("product_type=song", "product_type"),
    ("seller_id=ann", "seller_id"),
    ("min_price=-1", "min_price"),
    ("min_price=2&max_price=1", "min_price"),
    ("status=sold", "status"),
    ("status=draft", "seller_id"),
    ("search=" + "x" * 201, "search"),
]


async def test_a_query_that_makes_no_sense_is_refused_and_not_mended(shop: Shop) -> None:
    for query, field in NO_QUERIES:
        answer = await shop.house.get(f"{PRODUCTS}?{query}")
        assert refusal(answer) == (400, "invalid"), query
        assert [problem["field"] for problem in answer.json()["details"]] == [field], query


async def test_sellers_list_their_own_shelf_and_nobody_elses(shop: Shop) -> None:
    seller, stranger = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    await shop.draft(seller, title="Draft")
    await shop.on_sale(seller, title="On sale")
    for status, expected in {"draft": ["Draft"], "archived": [], "all": ["On sale", "Draft"]}.items():
        path = f"{PRODUCTS}?seller_id={seller.id}&status={status}"
        assert [product["title"] for product in data(await shop.house.get(path, seller))["products"]] == expected
        assert len(data(await shop.house.get(path, await shop.house.admin()))["products"]) == len(expected)
        for reader in (None, stranger):
            assert refusal(await shop.house.get(path, reader)) == (403, "forbidden")


# -- files -------------------------------------------------------------------------------------------------------------


async def test_an_uploaded_file_is_kept_as_it_came(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.draft(seller)
    answer = await shop.upload(seller, product, name="../träck 日 1.wav")
    assert answer.status_code == 201
    file = data(answer)
    assert file == {
        "id": file["id"],
        "product_id": product["id"],
        "filename": "träck 日 1.wav",
        "content_type": "audio/wav",
        "size_bytes": len(BYTES),
        "created_at": file["created_at"],
    }
    assert data(await shop.house.get(f"{PRODUCTS}/{product['id']}/files", seller)) == {"files": [file], "total": 1}
    digest = hashlib.sha256(BYTES).hexdigest()
    kept = trio.Path(shop.house.settings.veza_data_dir) / "objects" / "sha256" / digest[:2] / digest
    assert await kept.read_bytes() == BYTES


NO_UPLOADS: list[tuple[Json, tuple[int, str]]] = [
    ({"files": {"other": ("a.wav", b"a")}}, (400, "invalid")),
    ({"files": [("file", ("a.wav", b"a")), ("file", ("b.wav", b"b"))]}, (400, "invalid")),
    ({"files": {"file": ("a.wav", b"")}}, (400, "invalid")),
    ({"files": {"file": ("/", b"a")}}, (400, "invalid")),
    ({"content": b"RIFF", "headers": {"Content-Type": "audio/wav"}}, (415, "unsupported_media_type")),
    ({"json": {}}, (415, "unsupported_media_type")),
    (
        {"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        (400, "bad_request"),
    ),
]


async def test_an_upload_that_is_none_is_refused_and_leaves_nothing(shop: Shop) -> None:
    seller = await shop.house.sign_up("ann")
    product = await shop.draft(seller)
    path = f"{PRODUCTS}/{product['id']}/files"
    for sent, expected in NO_UPLOADS:
        assert refusal(await shop.house.post(path, seller, **sent)) == expected, sent
    assert data(await shop.house.get(path, seller)) == {"files": [], "total": 0}


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_file_above_the_limit_is_refused_however_it_comes(dsn: str, tmp_path: Path, chunked: bool) -> None:
    with trio.fail_after(30):
        async with running_house(dsn, tmp_path, upload_max_mb=1) as house:
            shop, seller = Shop(house), await house.sign_up("ann")
            product = await shop.draft(seller)
            path = f"{PRODUCTS}/{product['id']}/files"
            head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'

            async def body(size: int) -> AsyncIterator[bytes]:
                yield head
                for _ in range(size // 65536):
                    yield bytes(65536)
                yield b"\r\n--b--\r\n"

            async def send(size: int) -> int:
                headers = {"Content-Type": "multipart/form-data; boundary=b"}
                if not chunked:
                    headers["Content-Length"] = str(len(head) + size + len(b"\r\n--b--\r\n"))
                return (await house.post(path, seller, content=body(size), headers=headers)).status_code

            assert await send(2 * 1024 * 1024) == 413
            assert data(await house.get(path, seller)) == {"files": [], "total": 0}
            assert await send(1024 * 1024) == 201


async def test_the_last_file_of_what_is_on_sale_stays_and_another_can_go(shop: Shop) -> None:
    seller, stranger = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    product = await shop.on_sale(seller)
    files = f"{PRODUCTS}/{product['id']}/files"
    [first] = data(await shop.house.get(files, seller))["files"]
    assert refusal(await shop.house.delete(f"{files}/{first['id']}", seller)) == (409, "last_deliverable")
    second = data(await shop.upload(seller, product, name="second.wav"))
    assert refusal(await shop.house.delete(f"{files}/{first['id']}", stranger)) == (403, "forbidden")
    assert refusal(await shop.house.delete(f"{files}/{uuid4()}", seller)) == (404, "not_found")
    assert data(await shop.house.delete(f"{files}/{first['id']}", seller)) == {"deleted": True}
    assert data(await shop.house.get(files, seller)) == {"files": [second], "total": 1}
