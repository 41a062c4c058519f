"""Reviews over HTTP: who may write them, once for each purchase, and what they add up to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import PRODUCTS, Json, Shop, data


@pytest.fixture
async def shop(house: House) -> AsyncIterator[Shop]:
    with trio.fail_after(30):
        yield Shop(house)


async def a_gift(shop: Shop) -> tuple[Account, Account, Json, Json]:
    """A seller, who gave a buyer a product for nothing, the product, and the order."""
    seller, buyer = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    gift = await shop.on_sale(seller, price_cents=0)
    return seller, buyer, gift, await shop.ordered(buyer, gift)


def reviews_of(product: Json) -> str:
    return f"{PRODUCTS}/{product['id']}/reviews"


async def review(shop: Shop, buyer: Account, product: Json, rating: int = 5, **more: object) -> Json:
    made: Json = data(await shop.house.post(reviews_of(product), buyer, json={"rating": rating, **more}))
    return made


async def rating_of(shop: Shop, product: Json) -> Json:
    found: Json = data(await shop.house.get(f"{PRODUCTS}/{product['id']}"))["rating"]
    return found


async def test_a_review_is_shown_to_everyone_and_counts(shop: Shop) -> None:
    _, buyer, gift, order = await a_gift(shop)
    answer = await shop.house.post(reviews_of(gift), buyer, json={"rating": 4, "comment": " Amazing track! "})
    assert answer.status_code == 201
    written = data(answer)
    assert written == {
        "id": written["id"],
        "product_id": gift["id"],
        "buyer_id": buyer.id,
        "buyer": {"id": buyer.id, "username": "bob"},
        "order_id": order["id"],
        "rating": 4,
        "comment": "Amazing track!",
        "response": None,
        "responded_at": None,
        "refunded": False,
        "created_at": written["created_at"],
        "updated_at": written["created_at"],
    }
    assert data(await shop.house.get(reviews_of(gift))) == {"reviews": [written], "total": 1}
    assert await rating_of(shop, gift) == {"average": 4.0, "count": 1}


async def test_only_a_buyer_reviews_and_once_for_each_order(shop: Shop) -> None:
    seller, buyer, gift, first = await a_gift(shop)
    stranger = await shop.house.sign_up("eve")
    body = {"rating": 5}
    assert refusal(await shop.house.post(reviews_of(gift), json=body)) == (401, "unauthenticated")
    for nobody in (stranger, seller):
        assert refusal(await shop.house.post(reviews_of(gift), nobody, json=body)) == (403, "not_bought")
    await review(shop, buyer, gift)
    assert refusal(await shop.house.post(reviews_of(gift), buyer, json=body)) == (409, "already_reviewed")
    second = await shop.ordered(buyer, gift)
    assert (await review(shop, buyer, gift))["order_id"] == second["id"]
    again = {"rating": 5, "order_id": first["id"]}
    assert refusal(await shop.house.post(reviews_of(gift), buyer, json=again)) == (409, "already_reviewed")
    foreign = {"rating": 5, "order_id": str(uuid4())}
    assert refusal(await shop.house.post(reviews_of(gift), buyer, json=foreign)) == (404, "not_found")
    assert (await rating_of(shop, gift))["count"] == 2


async def test_an_order_that_is_not_paid_or_given_back_lets_nobody_review(shop: Shop) -> None:
    seller, buyer = await shop.house.sign_up("ann"), await shop.house.sign_up("bob")
    track = await shop.on_sale(seller)
    order = await shop.ordered(buyer, track)
    assert refusal(await shop.house.post(reviews_of(track), buyer, json={"rating": 1})) == (403, "not_bought")
    shop.run(
        "UPDATE orders SET status = 'refunded', paid_at = now(), invoice_number = '2026-000001' WHERE id = %s",
        order["id"],
    )
    assert refusal(await shop.house.post(reviews_of(track), buyer, json={"rating": 1})) == (403, "not_bought")


async def test_a_review_of_what_was_given_back_stays_and_says_so(shop: Shop) -> None:
    _, buyer, gift, order = await a_gift(shop)
    await review(shop, buyer, gift, 2)
    shop.run("UPDATE orders SET status = 'refunded' WHERE id = %s", order["id"])
    [seen] = data(await shop.house.get(reviews_of(gift)))["reviews"]
    assert (seen["rating"], seen["refunded"]) == (2, True)
    assert (await rating_of(shop, gift))["count"] == 1


async def test_its_author_edits_it_and_what_is_not_sent_stays(shop: Shop) -> None:
    seller, buyer, gift, _ = await a_gift(shop)
    written = await review(shop, buyer, gift, 1, comment="Too short.")
    path = f"{reviews_of(gift)}/{written['id']}"
    edited = data(await shop.house.put(path, buyer, json={"rating": 3}))
    assert (edited["rating"], edited["comment"]) == (3, "Too short.")
    assert edited["updated_at"] > written["updated_at"]
    assert data(await shop.house.put(path, buyer, json={**edited, "comment": "Short."}))["comment"] == "Short."
    assert await rating_of(shop, gift) == {"average": 3.0, "count": 1}
    for other in (seller, await shop.house.admin()):
        assert refusal(await shop.house.put(path, other, json={"rating": 5})) == (403, "forbidden")
    assert refusal(await shop.house.put(path, json={"rating": 5})) == (401, "unauthenticated")
    assert (await rating_of(shop, gift))["average"] == 3.0


async def test_a_review_goes_with_its_author_or_an_admin_and_counts_no_longer(shop: Shop) -> None:
    seller, buyer, gift, _ = await a_gift(shop)
    for remover in (buyer, await shop.house.admin()):
        path = f"{reviews_of(gift)}/{(await review(shop, buyer, gift))['id']}"
        assert refusal(await shop.house.delete(path, seller)) == (403, "forbidden")
        assert data(await shop.house.delete(path, remover)) == {"deleted": True}
        assert refusal(await shop.house.delete(path, remover)) == (404, "not_found")
        assert data(await shop.house.get(reviews_of(gift))) == {"reviews": [], "total": 0}
        assert await rating_of(shop, gift) == {"average": None, "count": 0}


async def test_the_seller_responds_and_may_take_it_back(shop: Shop) -> None:
    seller, buyer, gift, _ = await a_gift(shop)
    path = f"{reviews_of(gift)}/{(await review(shop, buyer, gift))['id']}/response"
    for other in (buyer, await shop.house.admin()):
        assert refusal(await shop.house.put(path, other, json={"response": "Hi."})) == (403, "forbidden")
    answered = data(await shop.house.put(path, seller, json={"response": "Thank you."}))
    assert answered["response"] == "Thank you."
    assert answered["responded_at"] is not None
    again = data(await shop.house.put(path, seller, json={"response": "Thank you."}))
    assert again["responded_at"] == answered["responded_at"]
    assert data(await shop.house.put(path, seller, json={"response": None}))["responded_at"] is None


async def test_reviews_come_the_newest_first_in_pages(shop: Shop) -> None:
    _, buyer, gift, _ = await a_gift(shop)
    written = [(await review(shop, buyer, gift))["id"]]
    for _ in range(2):
        await shop.ordered(buyer, gift)
        written.append((await review(shop, buyer, gift))["id"])
    page = data(await shop.house.get(f"{reviews_of(gift)}?limit=2&offset=1"))
    assert [each["id"] for each in page["reviews"]] == written[1::-1]
    assert page["total"] == 3


SENSELESS: Sequence[Json] = [
    {},
    {"rating": 0},
    {"rating": 6},
    {"rating": 4.5},
    {"rating": "5"},
    {"rating": True},
    {"rating": 5, "comment": "x" * 5001},
    {"rating": 5, "comment": "a\0"},
    {"rating": 5, "order_id": "mine"},
    {"rating": 5, "stars": 5},
]


async def test_reviews_that_make_no_sense_are_refused_and_change_nothing(
    house: House, subtests: pytest.Subtests
) -> None:
    shop = Shop(house)
    with trio.fail_after(30):
        _, buyer, gift, _ = await a_gift(shop)
        for body in SENSELESS:
            with subtests.test(repr(body)):
                assert refusal(await house.post(reviews_of(gift), buyer, json=body)) == (400, "invalid")
                assert await rating_of(shop, gift) == {"average": None, "count": 0}


async def test_reviews_are_found_under_their_product_alone(shop: Shop) -> None:
    seller, buyer, gift, _ = await a_gift(shop)
    other, draft = await shop.on_sale(seller), await shop.draft(seller)
    written = await review(shop, buyer, gift)
    misplaced = f"{reviews_of(other)}/{written['id']}"
    assert refusal(await shop.house.put(misplaced, buyer, json={"rating": 1})) == (404, "not_found")
    assert refusal(await shop.house.delete(misplaced, buyer)) == (404, "not_found")
    assert refusal(await shop.house.get(reviews_of(draft))) == (404, "not_found")
    assert refusal(await shop.house.post(reviews_of({"id": uuid4()}), buyer, json={"rating": 1})) == (404, "not_found")
    assert (await rating_of(shop, gift))["average"] == 5.0
