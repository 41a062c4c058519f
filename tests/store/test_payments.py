"""The payments queue: claims, what is recorded under them, and what events do."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
import trio

from tests.store.selling import EVERY, LEASE, Market, paid
from veza.domain.orders import Order
from veza.domain.payments import Close, DueOrder, OrderStatus, PaymentStatus
from veza.store.bridge import Database
from veza.store.ledger import Ledger
from veza.store.payments import Recorded

NO_DELAY = timedelta(0)


async def sale(market: Market, *sellers: UUID, cents: int = 2999) -> Order:
    """An order of a new buyer, of one product from each seller."""
    products = [await market.product(seller, cents) for seller in sellers]
    return await market.place(await market.user(), *products)


async def column(db: Database, order: Order, name: str) -> object:
    row = await db.fetchrow("SELECT * FROM orders WHERE id = $1", order.id)
    assert row is not None
    value: object = row[name]
    return value


# -- settling ----------------------------------------------------------------------------------------------------------


async def test_settling_pays_books_and_owes_in_one_go(db: Database) -> None:
    market = Market.over(db)
    seller, other = await market.seller(), await market.seller(active=False)
    order = await sale(market, seller, other)

    recorded = await market.settle(order)

    assert recorded.paid
    found = await market.orders.get(order.id, order.buyer_id)
    assert found.status is OrderStatus.PAID
    assert found.paid_at is not None
    assert found.payment is not None
    assert (found.payment.client_secret, found.payment.status) == ("secret", PaymentStatus.SUCCEEDED)
    entries = await db.fetch(
        "SELECT kind, owner, amount_cents FROM entries e JOIN ledger_accounts a ON a.id = e.account_id"
    )
    assert {(row["kind"], row["owner"], row["amount_cents"]) for row in entries} == {
        ("clearing", None, 5998),
        ("seller", seller, -2699),
        ("seller", other, -2699),
        ("platform_fee", None, -600),
    }
    assert await db.fetchval("SELECT external_ref FROM journals") == f"hyperswitch:{paid(order).payment_id}"
    transfers = await db.fetch("SELECT *, next_retry_at <= now() AS due FROM transfers")
    assert {(row["seller_id"], row["status"], row["hold_reason"], row["due"]) for row in transfers} == {
        (seller, "pending", None, True),
        (other, "held", "not_onboarded", None),
    }
    assert {(row["amount_cents"], row["platform_fee_cents"]) for row in transfers} == {(2699, 300)}
    assert await db.fetchval("SELECT sum(sold_count) FROM products") == 2
    assert await market.payments.next_due() is None


async def test_a_transfer_is_held_for_a_seller_without_any_account(db: Database) -> None:
    market = Market.over(db)
    await market.settle(await sale(market, await market.user()))
    assert await db.fetchval("SELECT hold_reason FROM transfers") == "not_onboarded"


async def test_a_transfer_is_due_after_the_payout_delay(db: Database) -> None:
    market = Market.over(db)
    order, claim = await sale(market, await market.seller()), market.claim()
    due = await market.take(order, claim)
    await market.payments.settle(due, claim.id, paid(order), payout_delay=timedelta(days=7), new_id=market.new_id)
    assert await db.fetchval("SELECT next_retry_at - created_at FROM transfers") == timedelta(days=7)


async def test_a_seller_whose_whole_share_is_the_fee_gets_no_transfer(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller(), cents=1)
    await market.run("UPDATE earnings SET fee_cents = gross_cents")
    assert (await market.settle(order)).paid
    assert await db.fetchval("SELECT count(*) FROM transfers") == 0


async def test_settling_twice_is_settling_once(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    await market.settle(order)
    again = await market.settle(order)
    assert not again.paid
    assert await db.fetchval("SELECT count(*) FROM journals") == 1
    assert await db.fetchval("SELECT count(*) FROM entries") == 3
    assert await db.fetchval("SELECT count(*) FROM transfers") == 1
    assert await db.fetchval("SELECT sum(sold_count) FROM products") == 1
    assert await market.payments.next_due() is None


async def test_nothing_is_recorded_under_a_claim_that_somebody_else_has_taken_over(db: Database) -> None:
    market = Market.over(db)
    order, late, present = await sale(market, await market.seller()), market.claim(), market.claim()
    due = await market.take(order, late)
    await market.run("UPDATE orders SET claimed_until = now()")
    await market.take(order, present)

    recorded = await market.payments.settle(due, late.id, paid(order), payout_delay=NO_DELAY, new_id=market.new_id)
    await market.payments.close(due, late.id, None, Close(OrderStatus.FAILED))
    await market.payments.release(due, late.id, paid(order))

    assert not recorded.paid
    assert await market.status(order) == "pending"
    assert await column(db, order, "claim_id") == present.id
    assert await column(db, order, "client_secret") is None


@pytest.mark.parametrize("status", ["failed", "expired"])
async def test_a_late_payment_is_honoured_while_everything_in_it_is_still_sold(db: Database, status: str) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    await market.run("UPDATE orders SET status = $1", status)
    assert (await market.settle(order)).paid
    assert await market.status(order) == "paid"


@pytest.mark.parametrize("status", ["failed", "expired"])
async def test_a_late_payment_of_what_is_no_longer_sold_is_due_to_go_back_once(db: Database, status: str) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller(), await market.seller())
    await market.run("UPDATE orders SET status = $1", status)
    await market.run("UPDATE products SET status = 'archived' WHERE id = $1", order.items[1].product_id)

    recorded = await market.settle(order)

    assert not recorded.paid
    assert recorded.given_back == f"Paid after it was {status}, and not all of it is on sale any more."
    assert await market.status(order) == status
    assert await column(db, order, "payment_note") == recorded.given_back
    await market.run("UPDATE orders SET sync_due_at = now()")  # an event tells of it once more
    assert (await market.settle(order)).given_back is None
    rows = await db.fetch("SELECT origin, status, amount_cents, due_at IS NOT NULL AS due FROM refunds")
    assert [tuple(row) for row in rows] == [("platform", "pending", order.total_cents, True)]
    assert await db.fetchval("SELECT string_agg(kind, ',') FROM journals") == "deposit"
    await market.run("UPDATE products SET status = 'published'")  # it is on its way back all the same
    assert await market.settle(order) == Recorded()
    assert await market.payments.next_due() is None
    assert await Ledger(db).verify(None) == []


@pytest.mark.parametrize("state", ["open", "lost"])
async def test_a_dispute_that_is_older_than_the_sale_is_seen_to_with_it(db: Database, state: str) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    await market.run(
        "INSERT INTO disputes (id, order_id, state, amount_cents, closed_at)"
        " VALUES ('dp_1', $1, $2, 2999, CASE WHEN $2 = 'lost' THEN now() END)",
        order.id,
        state,
    )
    assert (await market.settle(order)).paid
    assert await db.fetchval("SELECT due_at <= now() FROM disputes")
    held = await db.fetchrow("SELECT status, hold_reason, disputed FROM transfers")
    assert held is not None
    assert tuple(held.values()) == (("held", "disputed", True) if state == "open" else ("pending", None, False))
    assert await market.status(order) == ("disputed" if state == "open" else "paid")


async def test_an_order_in_time_is_honoured_whatever_became_of_its_products(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    await market.run("UPDATE products SET status = 'archived'")
    assert (await market.settle(order)).paid


async def test_a_payment_of_a_cancelled_order_is_due_to_go_back(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    await market.run("UPDATE orders SET status = 'cancelled'")
    assert (await market.settle(order)).given_back == "Paid after it was cancelled."
    assert await market.status(order) == "cancelled"


async def test_many_orders_of_one_product_settle_at_once_without_losing_any(db: Database) -> None:
    """Their transactions meet at the product's row, the sellers' accounts and the ledger's."""
    market = Market.over(db)
    sellers = [await market.seller() for _ in range(3)]
    products = [await market.product(seller) for seller in sellers]
    buyer = await market.user()
    orders = [await market.place(buyer, *products[i % 2 :], *products[: i % 2]) for i in range(12)]
    await market.run("UPDATE orders SET sync_due_at = now()")
    claim = market.claim()
    taken = await market.payments.claim_due(100, claim, EVERY)
    payments = {order.id: paid(order) for order in orders}

    async def settle(due: DueOrder) -> None:
        await market.payments.settle(due, claim.id, payments[due.id], payout_delay=NO_DELAY, new_id=market.new_id)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for due in taken:
                nursery.start_soon(settle, due)

    assert await db.fetchval("SELECT count(*) FROM orders WHERE status = 'paid'") == 12
    numbers = [row["number"] for row in await db.fetch("SELECT right(invoice_number, 6)::int AS number FROM orders")]
    assert sorted(numbers) == list(range(1, 13))
    assert await db.fetchval("SELECT count(*) FROM transfers") == 36
    assert await db.fetchval("SELECT array_agg(DISTINCT sold_count) FROM products") == [12]


# -- the queue ---------------------------------------------------------------------------------------------------------


async def test_an_order_is_due_once_the_request_that_placed_it_can_no_longer_be_at_work(db: Database) -> None:
    market = Market.over(db)
    await sale(market, await market.seller())
    assert await market.payments.claim_due(10, market.claim(), EVERY) == []
    due_in = await market.payments.next_due()
    assert due_in is not None
    assert 30 < due_in <= 40


async def test_two_claimers_at_once_never_get_the_same_order(db: Database) -> None:
    market = Market.over(db)
    seller = await market.seller()
    for _ in range(20):
        await sale(market, seller)
    await market.run("UPDATE orders SET sync_due_at = now()")
    taken: list[UUID] = []

    async def claimer() -> None:
        taken.extend(due.id for due in await market.payments.claim_due(5, market.claim(), EVERY))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(claimer)

    assert len(taken) == len(set(taken)) > 0


SECONDS_TO_DUE = "SELECT extract(epoch FROM sync_due_at - now())::float8 FROM orders"


async def test_an_order_is_asked_about_ever_more_rarely_but_when_its_time_ends_and_never_before_its_lease_is_over(
    db: Database,
) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    pauses = []
    for _ in range(9):
        claim = market.claim(timedelta(seconds=90))
        due = await market.take(order, claim)
        pauses.append(await db.fetchval(SECONDS_TO_DUE))
        await market.payments.release(due, claim.id, None)
    assert [round(pause / 10) * 10 for pause in pauses] == [90, 120, 240, 480, 960, 1800, 1800, 1800, 1800]
    await market.run("UPDATE orders SET expires_at = now() + interval '10 seconds'")
    await market.take(order, claim)
    assert await db.fetchval(SECONDS_TO_DUE) == pytest.approx(90, abs=5), "its end comes within the lease"
    await market.run("UPDATE orders SET expires_at = now(), claimed_until = NULL")
    await market.take(order, claim)
    assert await db.fetchval(SECONDS_TO_DUE) == pytest.approx(3600, abs=5)


async def test_an_order_whose_worker_died_is_taken_up_again_after_its_lease(db: Database) -> None:
    market = Market.over(db)
    order, claim = await sale(market, await market.seller()), market.claim()
    await market.take(order, claim)
    assert await market.payments.claim_due(10, market.claim(), EVERY) == []
    await market.run("UPDATE orders SET claimed_until = now(), sync_due_at = now()")
    assert [due.asked for due in await market.payments.claim_due(10, market.claim(), EVERY)] == [1]


async def test_one_pending_order_can_be_taken_before_it_is_due(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    first = await market.payments.claim_pending(order.id, market.claim(), EVERY)
    assert first is not None
    assert (first.opened, first.in_time, first.status) == (False, True, OrderStatus.PENDING)
    assert await market.payments.claim_pending(order.id, market.claim(), EVERY) is None, "it is in hand"
    await market.run("UPDATE orders SET status = 'paid', claim_id = NULL, claimed_until = NULL")
    assert await market.payments.claim_pending(order.id, market.claim(), EVERY) is None, "it is paid"


async def test_what_is_learnt_is_kept_when_an_order_is_put_back(db: Database) -> None:
    market = Market.over(db)
    order, claim = await sale(market, await market.seller()), market.claim()
    due = await market.take(order, claim)
    await market.payments.release(due, claim.id, paid(order, PaymentStatus.REQUIRES_PAYMENT_METHOD))
    found = await market.orders.get(order.id, order.buyer_id)
    assert found.payment is not None
    assert found.payment.client_secret == "secret"
    assert found.payment.status is PaymentStatus.REQUIRES_PAYMENT_METHOD
    assert await column(db, order, "claim_id") is None


async def test_a_closed_order_is_not_asked_about_again_and_a_paid_one_cannot_be_closed(db: Database) -> None:
    market = Market.over(db)
    order, claim = await sale(market, await market.seller()), market.claim()
    due = await market.take(order, claim)
    await market.payments.close(due, claim.id, None, Close(OrderStatus.FAILED, "IR_04: no"))
    assert await market.status(order) == "failed"
    assert await column(db, order, "payment_note") == "IR_04: no"
    assert await market.payments.next_due() is None

    await market.settle(order)
    late = market.claim()
    due = await market.take(order, late)
    await market.payments.close(due, late.id, None, Close(OrderStatus.EXPIRED))
    assert await market.status(order) == "paid"


# -- events ------------------------------------------------------------------------------------------------------------


async def test_an_event_makes_its_order_due_at_once_and_a_repeated_one_does_nothing(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    payment_id = paid(order).payment_id
    assert await market.payments.receive("evt_1", "payment_succeeded", payment_id)
    claim = market.claim()
    assert len(await market.payments.claim_due(10, claim, EVERY)) == 1
    assert not await market.payments.receive("evt_1", "payment_succeeded", payment_id)
    assert await market.payments.claim_due(10, market.claim(), EVERY) == []


async def test_an_event_that_comes_while_its_order_is_in_hand_is_not_lost(db: Database) -> None:
    market = Market.over(db)
    order, claim = await sale(market, await market.seller()), market.claim()
    due = await market.take(order, claim)
    await market.payments.receive("evt_1", "payment_succeeded", paid(order).payment_id)
    assert await market.payments.claim_due(10, market.claim(), EVERY) == [], "the claim stands"

    recorded = await market.payments.release(due, claim.id, None)

    assert recorded.due_again
    assert len(await market.payments.claim_due(10, market.claim(), EVERY)) == 1


async def test_an_event_outlives_the_closing_of_its_order_too(db: Database) -> None:
    market = Market.over(db)
    order, claim = await sale(market, await market.seller()), market.claim()
    due = await market.take(order, claim)
    await market.payments.receive("evt_1", "payment_succeeded", paid(order).payment_id)
    recorded = await market.payments.close(due, claim.id, None, Close(OrderStatus.FAILED))
    assert recorded.due_again
    assert len(await market.payments.claim_due(10, market.claim(LEASE), EVERY)) == 1


async def test_an_event_about_a_paid_order_or_about_nothing_is_recorded_and_moves_nothing(db: Database) -> None:
    market = Market.over(db)
    order = await sale(market, await market.seller())
    await market.settle(order)
    assert await market.payments.receive("evt_1", "payment_succeeded", paid(order).payment_id)
    assert await market.payments.receive("evt_2", "payment_succeeded", "pay_of_somebody_else")
    assert await market.payments.receive("evt_3", "unknown", None)
    assert await market.payments.next_due() is None
    assert await db.fetchval("SELECT count(*) FROM provider_events") == 3
