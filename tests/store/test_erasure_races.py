"""What happens to somebody's account while they are being erased: it comes first, or it is refused; nothing stays.

Each test holds a row that both wait for, has them queue up in a chosen order, and lets go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import pytest
import trio

from tests.people import NOON, People
from tests.store.leaving import ADDRESS, MARK, Leaver
from tests.store.selling import TERMS, key, now, paid
from veza.domain.accounts import begin_session
from veza.domain.catalog import Changes, ProductFile, offer
from veza.domain.cloud import CloudFile
from veza.domain.erasure import Erasure
from veza.domain.errors import Conflict, NotFound, Refusal, Unauthenticated
from veza.domain.gear import warranty_news
from veza.domain.orders import CartLine
from veza.domain.reviews import respond
from veza.domain.streams import draft
from veza.store.accounts import Accounts
from veza.store.admins import ADMINS
from veza.store.bridge import Database
from veza.store.catalog import Catalog
from veza.store.cloud import CloudRows
from veza.store.connect import Connect
from veza.store.exports import ExportRows
from veza.store.notifications import Notifications, notify
from veza.store.orders import Orders
from veza.store.payments import Payments
from veza.store.reviews import Reviews
from veza.store.streams import Streams

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
async def leaver(db: Database) -> AsyncIterator[Leaver]:
    with trio.fail_after(30):
        yield await Leaver.over(db)


@dataclass
class Queue:
    """Those that wait for what is held, in the order in which they came, and what became of each."""

    db: Database
    nursery: trio.Nursery
    answers: dict[str, object] = field(default_factory=dict)

    async def join(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        before: int = await self.db.fetchval(BLOCKED)
        self.nursery.start_soon(self._run, name, work)
        while await self.db.fetchval(BLOCKED) == before:
            await trio.lowlevel.checkpoint()

    async def _run(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            self.answers[name] = await work()
        except Refusal as refusal:
            self.answers[name] = refusal


@asynccontextmanager
async def held(db: Database, sql: str, *args: object) -> AsyncIterator[Queue]:
    """While the block lasts a lock is held; at its end those that queue up for it go on, and are waited for."""
    async with trio.open_nursery() as nursery:
        queue = Queue(db, nursery)
        async with db.transaction() as tx:
            await tx.execute(sql, *args)
            yield queue


HOLD_USER = "SELECT FROM users WHERE id = $1 FOR UPDATE"
HOLD_PRODUCT = "SELECT FROM products WHERE id = $1 FOR UPDATE"
HOLD_PRODUCTS = "SELECT FROM products WHERE seller_id = $1 FOR UPDATE"


def refusal_of(queue: Queue, name: str) -> tuple[type[Refusal], str]:
    answer = queue.answers[name]
    assert isinstance(answer, Refusal), answer
    return type(answer), answer.code


OVER = (Unauthenticated, "session_over")

# -- rows that are added -----------------------------------------------------------------------------------------------

Adding = Callable[[Leaver], Awaitable[object]]


async def a_file(leaver: Leaver) -> None:
    file = CloudFile(leaver.market.new_id(), leaver.id, f"{MARK}.wav", 1, "0" * 64, 4, "audio/wav", now(), now())
    await CloudRows(leaver.db).add(file, 1000)


async def an_export(leaver: Leaver) -> None:
    await ExportRows(leaver.db, leaver.market.new_id).ask(leaver.id, now())


async def a_stream(leaver: Leaver) -> None:
    user = replace(People().user(MARK), id=leaver.id)
    await Streams(leaver.db).add(draft(user, id=leaver.market.new_id(), now=now()))


async def a_product(leaver: Leaver) -> None:
    user = replace(People().user(MARK), id=leaver.id)
    changes = Changes(title=MARK, price_cents=100)
    await Catalog(leaver.db).add(offer(user, changes, id=leaver.market.new_id(), currency="EUR", now=now()))


async def a_ticket(leaver: Leaver) -> None:
    await Notifications(leaver.db).hand_out(MARK, leaver.id, leaver.market.new_id())


async def an_account_for_payouts(leaver: Leaver) -> None:
    await Connect(leaver.db).wish(leaver.id)


async def an_order(leaver: Leaver) -> None:
    [product] = await leaver.db.fetch("SELECT id FROM products WHERE seller_id <> $1", leaver.id)
    lines = [CartLine(product["id"], 1)]
    await Orders(leaver.db).place(leaver.id, lines, TERMS, key=None, now=now(), new_id=leaver.market.new_id)


async def an_order_with_a_key(leaver: Leaver) -> None:
    lines = [CartLine(leaver.market.new_id(), 1)]
    await Orders(leaver.db).place(leaver.id, lines, TERMS, key=key("k"), now=now(), new_id=leaver.market.new_id)


async def a_name(leaver: Leaver) -> None:
    await Accounts(leaver.db).rename(leaver.id, username="Again", email=None, now=now())


ADDED: list[Adding] = [
    a_file,
    an_export,
    a_stream,
    a_product,
    a_ticket,
    an_account_for_payouts,
    an_order,
    an_order_with_a_key,
    a_name,
]


@pytest.mark.parametrize("adding", ADDED, ids=[adding.__name__ for adding in ADDED])
async def test_what_is_about_to_be_added_to_an_account_that_goes_is_refused(leaver: Leaver, adding: Adding) -> None:
    await leaver.market.product(await leaver.market.user())
    verified = await leaver.credentials()
    async with held(leaver.db, HOLD_USER, leaver.id) as queue:
        await queue.join("erasure", lambda: leaver.erase(verified))
        await queue.join("adding", lambda: adding(leaver))
    assert isinstance(queue.answers["erasure"], Erasure)
    assert refusal_of(queue, "adding") == OVER
    assert await leaver.marked() == {"audit_entries.address"}
    assert {table for table, rows in (await leaver.referring()).items() if rows} == {"notification_numbers"}


@pytest.mark.parametrize("adding", [a_file, a_stream, a_product], ids=["a_file", "a_stream", "a_product"])
async def test_what_was_added_just_before_goes_too(leaver: Leaver, adding: Adding) -> None:
    verified = await leaver.credentials()
    async with held(leaver.db, HOLD_USER, leaver.id) as queue:
        await queue.join("adding", lambda: adding(leaver))
        await queue.join("erasure", lambda: leaver.erase(verified))
    assert queue.answers["adding"] is None
    assert await leaver.marked() == {"audit_entries.address"}


REFUSED = {
    "gear": """INSERT INTO gear (id, owner_id, name, status, words, created_at, updated_at)
        VALUES (gen_random_uuid(), $1, 'x', 'active', 'x', now(), now())""",
    "sessions": """INSERT INTO sessions (id, user_id, refresh_id, expires_at)
        VALUES (gen_random_uuid(), $1, $1, now())""",
    "reviews": """INSERT INTO reviews (id, product_id, order_id, buyer_id, rating)
        SELECT gen_random_uuid(), product_id, order_id, $1, 5 FROM order_items""",
    "refunds": """INSERT INTO refunds (id, order_id, origin, requested_by, status, reason, amount_cents, currency,
        reference) SELECT gen_random_uuid(), id, 'buyer', $1, 'requested', 'x', 1, 'EUR', 'x' FROM orders""",
    "users": "UPDATE users SET username = 'Again' WHERE id = $1",
}


@pytest.mark.parametrize("table", list(REFUSED))
async def test_the_database_itself_refuses_what_is_added_for_the_erased(leaver: Leaver, table: str) -> None:
    await leaver.buy()
    await leaver.market.run("DELETE FROM reviews")
    await leaver.erase()
    with pytest.raises(Unauthenticated) as refused:
        await leaver.market.run(REFUSED[table], leaver.id)
    assert refused.value.code == "session_over"


async def test_a_login_at_the_same_time_opens_no_session(leaver: Leaver) -> None:
    verified = await leaver.credentials()
    session = begin_session(leaver.id, leaver.market.new_id, now(), user_agent=MARK, address=ADDRESS)
    async with held(leaver.db, HOLD_USER, leaver.id) as queue:
        await queue.join("erasure", lambda: leaver.erase(verified))
        await queue.join("login", lambda: Accounts(leaver.db).sign_in(verified, session))
    assert queue.answers["login"] is False
    assert await leaver.db.fetchval("SELECT count(*) FROM sessions") == 0


async def test_of_two_erasures_at_once_one_is_done_and_the_other_finds_nobody(leaver: Leaver) -> None:
    verified = await leaver.credentials()
    async with held(leaver.db, HOLD_USER, leaver.id) as queue:
        await queue.join("first", lambda: leaver.erase(verified))
        await queue.join("second", lambda: leaver.erase(verified))
    assert isinstance(queue.answers["first"], Erasure)
    assert refusal_of(queue, "second") == OVER
    assert await leaver.db.fetchval("SELECT count(*) FROM audit_entries") == 1


async def test_of_the_last_two_admins_who_go_at_once_one_stays(leaver: Leaver) -> None:
    other = replace(leaver, id=await leaver.market.user())
    await leaver.market.run("UPDATE users SET role = 'admin' WHERE id IN ($1, $2)", leaver.id, other.id)
    async with held(leaver.db, "SELECT pg_advisory_xact_lock($1)", ADMINS) as queue:
        await queue.join("one", leaver.erase)
        await queue.join("other", other.erase)
    assert isinstance(queue.answers["one"], Erasure)
    assert refusal_of(queue, "other") == (Conflict, "last_admin")


# -- sales of theirs ---------------------------------------------------------------------------------------------------


async def buys(leaver: Leaver, product: UUID, buyer: UUID) -> UUID:
    return (await leaver.market.place(buyer, product)).id


@pytest.mark.parametrize("first", ["order", "erasure"])
async def test_an_order_for_their_product_comes_first_or_finds_it_gone(leaver: Leaver, first: str) -> None:
    product, buyer = await leaver.shelve(), await leaver.market.user()
    work: dict[str, Callable[[], Awaitable[object]]] = {
        "order": lambda: buys(leaver, product, buyer),
        "erasure": leaver.erase,
    }
    async with held(leaver.db, HOLD_PRODUCTS, leaver.id) as queue:
        for name in sorted(work, key=lambda name: name != first):
            await queue.join(name, work[name])
    if first == "order":
        assert isinstance(queue.answers["order"], UUID)
        assert refusal_of(queue, "erasure") == (Conflict, "sales_pending")
    else:
        assert isinstance(queue.answers["erasure"], Erasure)
        assert isinstance(queue.answers["order"], Refusal)
        assert await leaver.db.fetchval("SELECT count(*) FROM orders") == 0


async def test_two_who_go_while_each_buys_of_the_other_do_not_wait_for_each_other_for_ever(leaver: Leaver) -> None:
    other = replace(leaver, id=await leaver.market.user())
    theirs, others = await leaver.shelve(), await other.shelve()
    async with held(leaver.db, "SELECT FROM products FOR UPDATE") as queue:
        await queue.join("one buys", lambda: buys(leaver, others, leaver.id))
        await queue.join("other buys", lambda: buys(leaver, theirs, other.id))
        await queue.join("one goes", leaver.erase)
        await queue.join("other goes", other.erase)
    assert isinstance(queue.answers["one buys"], UUID)
    assert isinstance(queue.answers["other buys"], UUID)
    assert refusal_of(queue, "one goes") == refusal_of(queue, "other goes") == (Conflict, "orders_pending")


@pytest.mark.parametrize("first", ["payment", "erasure"])
async def test_a_late_payment_for_their_product_is_honoured_before_or_given_back(leaver: Leaver, first: str) -> None:
    await leaver.till.sales.connect(leaver.id, "acct_theirs")
    order = await leaver.market.place(await leaver.market.user(), await leaver.shelve())
    await leaver.market.run("UPDATE orders SET status = 'expired'")
    claim = leaver.market.claim()
    due = await leaver.market.take(order, claim)

    async def settles() -> object:
        return await Payments(leaver.db).settle(
            due, claim.id, paid(order), payout_delay=timedelta(0), new_id=leaver.market.new_id
        )

    work: dict[str, Callable[[], Awaitable[object]]] = {"payment": settles, "erasure": leaver.erase}
    async with held(leaver.db, HOLD_PRODUCTS, leaver.id) as queue:
        for name in sorted(work, key=lambda name: name != first):
            await queue.join(name, work[name])
    if first == "payment":
        assert await leaver.market.status(order) == "paid"
        assert refusal_of(queue, "erasure") == (Conflict, "payouts_due")
    else:
        assert isinstance(queue.answers["erasure"], Erasure)
        assert await leaver.market.status(order) == "expired"
        assert await leaver.db.fetchval("SELECT origin FROM refunds") == "platform"
    await leaver.till.assert_balanced()


# -- what stays of theirs is not changed any more ----------------------------------------------------------------------


async def test_a_product_that_its_buyers_keep_is_not_changed_by_what_was_under_way(leaver: Leaver) -> None:
    order = await leaver.sell()
    product, catalog = order.items[0].product_id, Catalog(leaver.db)
    file = ProductFile(leaver.market.new_id(), product, "1" * 64, f"{MARK} late.wav", "audio/wav", 4, NOON)
    async with held(leaver.db, HOLD_PRODUCT, product) as queue:  # all three wait at this one, and go one after another
        await queue.join("erasure", leaver.erase)
        await queue.join("upload", lambda: catalog.add_file(file, lambda product: None))
        await queue.join("change", lambda: catalog.change(product, lambda product, _: replace(product, title="Late")))
    assert isinstance(queue.answers["erasure"], Erasure)
    assert refusal_of(queue, "upload") == OVER
    assert refusal_of(queue, "change") == OVER
    assert await leaver.db.fetchval("SELECT count(*) FROM product_files WHERE filename ~ 'late'") == 0


async def test_an_upload_for_a_product_that_nobody_bought_finds_it_gone(leaver: Leaver) -> None:
    product = await leaver.shelve()
    file = ProductFile(leaver.market.new_id(), product, "1" * 64, "late.wav", "audio/wav", 4, NOON)
    async with held(leaver.db, HOLD_PRODUCTS, leaver.id) as queue:
        await queue.join("erasure", leaver.erase)
        await queue.join("upload", lambda: Catalog(leaver.db).add_file(file, lambda product: None))
    assert refusal_of(queue, "upload")[0] is NotFound


async def test_a_response_that_was_under_way_is_refused_and_others_may_still_rate(leaver: Leaver) -> None:
    order = await leaver.sell()
    product, reviews = order.items[0].product_id, Reviews(leaver.db)
    review: UUID = await leaver.db.fetchval("SELECT id FROM reviews")
    seller = (await leaver.credentials()).user
    sold = await Catalog(leaver.db).get(product)

    async def responds() -> None:
        await reviews.change(
            product, review, lambda before: respond(before, sold, seller, response=f"{MARK} late", now=now())
        )

    async with held(leaver.db, "SELECT FROM reviews FOR UPDATE") as queue:
        await queue.join("erasure", leaver.erase)
        await queue.join("response", responds)
    assert refusal_of(queue, "response") == OVER
    changed = await reviews.change(product, review, lambda before: replace(before, rating=2, comment="Less fine."))
    assert (changed.rating, changed.response) == (2, None)
    assert await leaver.db.fetchval("SELECT rating_sum FROM products WHERE id = $1", product) == 2


# -- what they are told ------------------------------------------------------------------------------------------------


async def test_who_was_erased_is_told_nothing_and_nobody_fails_for_it(leaver: Leaver) -> None:
    async def tell() -> None:
        async with leaver.db.transaction() as tx:
            await notify(tx, leaver.market.new_id(), leaver.id, warranty_news(leaver.id, MARK, NOON.date()))

    await tell()
    async with held(leaver.db, "SELECT FROM notification_numbers FOR UPDATE") as queue:
        await queue.join("erasure", leaver.erase)
        await queue.join("news", tell)
    await tell()
    assert isinstance(queue.answers["erasure"], Erasure)
    assert await leaver.db.fetchval("SELECT count(*) FROM notifications") == 0
    assert await leaver.db.fetchval("SELECT last FROM notification_numbers") == 0


async def test_gear_whose_owner_is_just_being_told_of_its_warranty_goes_with_the_news(leaver: Leaver) -> None:
    await leaver.settle_in()
    async with trio.open_nursery() as nursery:
        queue = Queue(leaver.db, nursery)
        async with leaver.db.transaction() as tx:
            await tx.execute("SELECT FROM gear FOR UPDATE")
            await queue.join("erasure", leaver.erase)
            await notify(tx, leaver.market.new_id(), leaver.id, warranty_news(leaver.id, MARK, NOON.date()))
    assert isinstance(queue.answers["erasure"], Erasure)
    assert await leaver.db.fetchval("SELECT count(*) FROM notifications") == 0
