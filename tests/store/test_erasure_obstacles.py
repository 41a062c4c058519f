"""Who may not go yet: money that is due, held, disputed or owed, each found by the rows that it leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import trio

from tests.store.leaving import Leaver
from veza.domain.attempts import Dead, Hold, NoFunds
from veza.domain.erasure import Obstacle
from veza.domain.errors import Conflict
from veza.domain.ledger import AccountKind, Entry
from veza.domain.payouts import HoldReason
from veza.store.bridge import Database
from veza.store.ledger import book

Case = Callable[[Leaver], Awaitable[object]]


@pytest.fixture
async def leaver(db: Database) -> AsyncIterator[Leaver]:
    with trio.fail_after(30):
        made = await Leaver.over(db)
        await made.till.sales.connect(made.id, "acct_theirs")
        yield made


async def orders(leaver: Leaver) -> None:
    await leaver.market.place(leaver.id, await leaver.market.product(await leaver.market.seller()))


async def is_ordered_of(leaver: Leaver) -> None:
    await leaver.market.place(await leaver.market.user(), await leaver.shelve())


async def paid_too_little(leaver: Leaver) -> None:
    await orders(leaver)
    await leaver.market.run(
        "UPDATE orders SET status = 'expired', payment_note = 'captured 1 EUR for an order of 2999 EUR'"
    )


async def waits_for_a_refund(leaver: Leaver) -> None:
    order = await leaver.market.place(leaver.id, await leaver.market.product(await leaver.market.seller()))
    await leaver.market.settle(order)
    await leaver.till.ask(await leaver.transfer(order))


async def wants_a_refund(leaver: Leaver) -> None:
    await waits_for_a_refund(leaver)
    await leaver.market.run("UPDATE refunds SET status = 'requested', due_at = NULL")


async def was_not_given_back_what_came_late(leaver: Leaver) -> None:
    await orders(leaver)
    await leaver.market.run("UPDATE orders SET status = 'expired', sync_due_at = NULL")
    await leaver.market.run(
        "INSERT INTO refunds (id, order_id, origin, status, reason, amount_cents, currency, reference, completed_at)"
        " SELECT id, id, 'platform', 'failed', 'Paid late.', total_cents, 'EUR', 'ref_1', now() FROM orders"
    )


async def is_to_give_back(leaver: Leaver) -> None:
    await leaver.till.ask(await leaver.till.paid_out(leaver.id))


async def is_asked_to_give_back(leaver: Leaver) -> None:
    await is_to_give_back(leaver)
    await leaver.market.run("UPDATE refunds SET status = 'requested', due_at = NULL")
    await leaver.market.run("UPDATE refund_shares SET status = 'void'")


async def disputes(leaver: Leaver) -> None:
    order = await leaver.market.place(leaver.id, await leaver.market.product(await leaver.market.seller()))
    await leaver.market.settle(order)
    await leaver.market.run("INSERT INTO disputes (id, order_id, state) VALUES ('dp_1', $1, 'open')", order.id)


async def is_disputed(leaver: Leaver) -> None:
    await leaver.till.paid_out(leaver.id)
    await leaver.market.run(
        "INSERT INTO disputes (id, order_id, due_at)"
        " SELECT 'dp_1', order_id, now() FROM transfers WHERE seller_id = $1",
        leaver.id,
    )


async def is_to_be_paid(leaver: Leaver) -> None:
    await leaver.till.sale(leaver.id)


async def is_being_paid(leaver: Leaver) -> None:
    await leaver.till.in_hand(await leaver.till.sale(leaver.id))


async def was_not_paid_at_last(leaver: Leaver) -> None:
    await leaver.till.tried(await leaver.till.sale(leaver.id), NoFunds("low"), Dead("gone", "The account is closed."))


async def is_held(leaver: Leaver) -> None:
    decision = Hold(HoldReason.NOT_ONBOARDED, "Not on board.", None)
    await leaver.till.tried(await leaver.till.sale(leaver.id), NoFunds("low"), decision)


async def is_being_taken_from(leaver: Leaver) -> None:
    await leaver.till.refund(await leaver.till.paid_out(leaver.id))


async def owes(leaver: Leaver) -> None:
    await leaver.till.debt(leaver.id)


async def has_a_balance_that_nothing_explains(leaver: Leaver) -> None:
    transfer = await leaver.till.paid_out(leaver.id)
    entries = [Entry(AccountKind.SELLER, leaver.id, -5), Entry(AccountKind.CLEARING, None, 5)]
    async with leaver.db.transaction() as tx:
        order_id = await tx.fetchval("SELECT order_id FROM transfers WHERE id = $1", transfer)
        assert await book(tx, "deposit", "by hand", order_id, entries, "EUR")


CASES: list[tuple[Case, Obstacle]] = [
    (orders, Obstacle.ORDERS_PENDING),
    (is_ordered_of, Obstacle.SALES_PENDING),
    (paid_too_little, Obstacle.PAYMENTS_UNCLEAR),
    (waits_for_a_refund, Obstacle.REFUNDS_AWAITED),
    (wants_a_refund, Obstacle.REFUNDS_AWAITED),
    (was_not_given_back_what_came_late, Obstacle.REFUNDS_AWAITED),
    (is_to_give_back, Obstacle.REFUNDS_OPEN),
    (is_asked_to_give_back, Obstacle.REFUNDS_OPEN),
    (disputes, Obstacle.DISPUTES_OPEN),
    (is_disputed, Obstacle.DISPUTES_OPEN),
    (is_to_be_paid, Obstacle.PAYOUTS_DUE),
    (is_being_paid, Obstacle.PAYOUTS_DUE),
    (was_not_paid_at_last, Obstacle.PAYOUTS_FAILED),
    (is_held, Obstacle.PAYOUTS_HELD),
    (is_being_taken_from, Obstacle.RECOVERY_OPEN),
    (owes, Obstacle.MONEY_OWED),
    (has_a_balance_that_nothing_explains, Obstacle.BALANCE_OPEN),
]


@pytest.mark.parametrize(("case", "obstacle"), CASES, ids=[case.__name__ for case, _ in CASES])
async def test_who_may_not_go_yet_is_told_why_and_nothing_is_done(
    leaver: Leaver, case: Case, obstacle: Obstacle
) -> None:
    await case(leaver)
    before = await leaver.credentials()
    for refused in (leaver.erasures.check(leaver.id), leaver.erase()):
        with pytest.raises(Conflict) as told:
            await refused
        assert told.value.code == obstacle
    assert await leaver.credentials() == before


async def test_what_others_have_under_way_is_in_nobodys_way(leaver: Leaver) -> None:
    other = replace(leaver, id=await leaver.market.user())
    await leaver.till.sales.connect(other.id, "acct_anothers")
    for case in (orders, is_ordered_of, waits_for_a_refund, is_disputed, is_to_be_paid, is_held, owes):
        await case(other)
    await leaver.erase()


async def test_what_was_under_way_and_is_over_is_in_nobodys_way(leaver: Leaver) -> None:
    await is_being_taken_from(leaver)
    await leaver.till.reverse(await leaver.till.reversal())
    await leaver.erase()
    await leaver.till.assert_balanced()


async def test_money_that_goes_back_after_an_erasure_is_booked_as_ever(leaver: Leaver) -> None:
    transfer = await leaver.till.paid_out(leaver.id)
    await leaver.erase()
    await leaver.till.refund(transfer)
    await leaver.till.reverse(await leaver.till.reversal())
    await leaver.till.assert_balanced()
