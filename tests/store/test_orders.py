"""Placing orders under idempotency keys, and finding them again."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
import trio

from tests.store.selling import TERMS, Market, key, now
from veza.domain.errors import Conflict, Invalid, NotFound
from veza.domain.orders import CartLine, Earning
from veza.domain.payments import OrderStatus, payment_id_of
from veza.store.bridge import Database
from veza.store.library import Library


async def test_an_order_is_placed_with_its_prices_fees_and_payment_frozen(db: Database) -> None:
    market = Market.over(db)
    seller, other, buyer = await market.user(), await market.user(), await market.user()
    track, pack = await market.product(seller, 2999), await market.product(other, 500)

    placed = await market.place(buyer, track, pack, quantity=2)
    await market.run("UPDATE products SET price_cents = 1")
    found = await market.orders.get(placed.id, buyer)

    assert found.total_cents == 2 * 3499
    assert found.status is OrderStatus.PENDING
    assert [item.unit_price_cents for item in found.items] == [2999, 500]
    assert set(found.earnings) == {Earning(seller, 5998, 600, 1000), Earning(other, 1000, 100, 1000)}
    assert found.payment is not None
    assert (found.payment.payment_id, found.payment.client_secret) == (payment_id_of(placed.id), None)


async def test_a_free_order_is_paid_at_once_and_moves_no_money(db: Database) -> None:
    market = Market.over(db)
    buyer = await market.user()
    order = await market.place(buyer, await market.product(await market.user(), 0))

    assert order.status is OrderStatus.PAID
    assert await market.payments.next_due() is None
    for count in ("SELECT count(*) FROM earnings", "SELECT count(*) FROM journals", "SELECT count(*) FROM transfers"):
        assert await db.fetchval(count) == 0


@pytest.mark.parametrize(
    ("status", "currency", "code"),
    [
        ("draft", "EUR", "not_on_sale"),
        ("archived", "EUR", "not_on_sale"),
        ("published", "USD", "not_on_sale"),
    ],
)
async def test_what_is_not_on_sale_cannot_be_ordered(db: Database, status: str, currency: str, code: str) -> None:
    market = Market.over(db)
    product = await market.product(await market.user(), status=status, currency=currency)
    with pytest.raises(Conflict) as refused:
        await market.place(await market.user(), product, named=key("k"))
    assert refused.value.code == code
    assert await db.fetchval("SELECT count(*) FROM idempotency_keys") == 0, "a refused request uses up no key"


async def test_nobody_buys_their_own_product(db: Database) -> None:
    market = Market.over(db)
    seller = await market.user()
    with pytest.raises(Conflict, match="own product"):
        await market.place(seller, await market.product(seller))


async def test_another_total_than_the_buyer_saw_is_refused(db: Database) -> None:
    market = Market.over(db)
    lines = [CartLine(await market.product(await market.user(), 2999), 1)]
    buyer = await market.user()
    with pytest.raises(Conflict) as refused:
        await market.orders.place(
            buyer, lines, TERMS, key=None, now=now(), new_id=market.new_id, expected_total_cents=1999
        )
    assert refused.value.code == "total_changed"


async def test_an_empty_cart_is_refused_before_the_database_is_asked(db: Database) -> None:
    with pytest.raises(Invalid):
        await Market.over(db).place(Market.over(db).new_id())


# -- idempotency keys --------------------------------------------------------------------------------------------------


async def test_a_repeat_while_the_first_is_in_hand_is_told_so(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user())
    await market.place(buyer, product, named=key("k"))
    with pytest.raises(Conflict) as refused:
        await market.place(buyer, product, named=key("k"))
    assert refused.value.code == "idempotency_in_flight"


async def test_a_repeat_answers_with_the_first_order_once_that_has_landed(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user())
    first = await market.place(buyer, product, named=key("k"))
    await market.orders.land(first)

    lines = [CartLine(product, 1)]
    again = await market.orders.place(buyer, lines, TERMS, key=key("k"), now=now(), new_id=market.new_id)

    assert again.repeated
    assert again.order.id == first.id
    with pytest.raises(Conflict) as refused:  # the repeat is in flight itself
        await market.place(buyer, product, named=key("k"))
    assert refused.value.code == "idempotency_in_flight"


async def test_a_key_with_another_body_is_refused(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user(), 0)
    await market.place(buyer, product, named=key("k"))
    with pytest.raises(Conflict) as refused:
        await market.place(buyer, product, named=key("k", b"two"))
    assert refused.value.code == "idempotency_key_reused"


async def test_a_key_is_each_users_own(db: Database) -> None:
    market = Market.over(db)
    product = await market.product(await market.user(), 0)
    first = await market.place(await market.user(), product, named=key("k"))
    second = await market.place(await market.user(), product, named=key("k", b"two"))
    assert first.id != second.id


async def test_a_key_is_honoured_for_24_hours(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user(), 0)
    first = await market.place(buyer, product, named=key("k"))
    await market.run("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    assert (await market.place(buyer, product, named=key("k"))).id == first.id
    await market.run("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'")
    assert (await market.place(buyer, product, named=key("k"))).id != first.id


async def test_a_request_whose_process_died_blocks_its_repeat_only_for_a_while(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user())
    first = await market.place(buyer, product, named=key("k"))
    left = await db.fetchval("SELECT in_flight_until - now() FROM idempotency_keys")
    assert timedelta(0) < left <= timedelta(seconds=40)
    await market.run("UPDATE idempotency_keys SET in_flight_until = now() - interval '1 second'")
    assert (await market.place(buyer, product, named=key("k"))).id == first.id


async def test_twenty_requests_at_once_under_one_key_place_one_order(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user())
    outcomes: Counter[str] = Counter()

    async def request() -> None:
        try:
            await market.place(buyer, product, named=key("k"))
            outcomes["placed"] += 1
        except Conflict as conflict:
            outcomes[conflict.code] += 1

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(request)

    assert outcomes == {"placed": 1, "idempotency_in_flight": 19}
    assert await db.fetchval("SELECT count(*) FROM orders") == 1


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_somebody_elses_order_does_not_exist(db: Database) -> None:
    market = Market.over(db)
    order = await market.place(await market.user(), await market.product(await market.user()))
    with pytest.raises(NotFound):
        await market.orders.get(order.id, await market.user())


async def test_orders_are_listed_newest_first_with_their_total(db: Database) -> None:
    market = Market.over(db)
    buyer, product = await market.user(), await market.product(await market.user())
    placed = [await market.place(buyer, product) for _ in range(3)]
    await market.place(await market.user(), product)

    page, total = await market.orders.list_of(buyer, status=None, limit=2, offset=1)
    assert [order.id for order in page] == [placed[1].id, placed[0].id]
    assert total == 3
    assert await market.orders.list_of(buyer, status=OrderStatus.PAID, limit=2, offset=0) == ([], 0)


async def test_files_open_with_payment_and_to_the_buyer_alone(db: Database) -> None:
    market, library = Market.over(db), Library(db)
    buyer, product = await market.user(), await market.product(await market.seller())
    file_id = await market.file(product)
    order = await market.place(buyer, product)
    with pytest.raises(Conflict) as refused:
        await library.deliverables(order.id, buyer)
    assert refused.value.code == "not_paid"

    await market.settle(order)

    assert [file.id for file in await library.deliverables(order.id, buyer)] == [file_id]
    assert (await library.deliverable(order.id, file_id, buyer)).filename == "track.wav"
    with pytest.raises(NotFound):
        await library.deliverable(order.id, file_id, await market.user())
    foreign = await market.file(await market.product(await market.user()))
    with pytest.raises(NotFound):
        await library.deliverable(order.id, foreign, buyer)


async def test_a_download_is_noted_once_an_hour(db: Database) -> None:
    market, library = Market.over(db), Library(db)
    buyer, product = await market.user(), await market.product(await market.user(), 0)
    file_id = await market.file(product)
    order = await market.place(buyer, product)
    for _ in range(3):
        await library.record_download(order.id, file_id, buyer, new_id=market.new_id)
    assert await db.fetchval("SELECT count(*) FROM downloads") == 1
    await market.run("UPDATE downloads SET created_at = now() - interval '61 minutes'")
    await library.record_download(order.id, file_id, buyer, new_id=market.new_id)
    assert await db.fetchval("SELECT count(*) FROM downloads") == 2


async def test_the_library_has_each_product_once_under_the_order_that_brought_it_first(db: Database) -> None:
    market, library = Market.over(db), Library(db)
    buyer, seller = await market.user(), await market.seller()
    twice, once, unpaid = [await market.product(seller) for _ in range(3)]
    file_id = await market.file(twice)
    first = await market.place(buyer, twice)
    for order in (first, await market.place(buyer, twice), await market.place(buyer, once)):
        await market.settle(order)
    await market.place(buyer, unpaid)

    bought, total = await library.page(buyer, limit=10, offset=0)
    assert [each.product_id for each in bought] == [once, twice]
    assert total == 2
    assert bought[1].order_id == first.id
    assert [file.id for file in bought[1].files] == [file_id]
    assert await library.page(buyer, limit=10, offset=2) == ([], 2)
