"""Erasing an account: nothing that tells of its person is left, but for what the answer says is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest
import trio

from tests.people import NOON, cheap_hasher
from tests.store.leaving import MARK, Leaver
from veza.domain.erasure import NAME, Gone, Kept
from veza.domain.errors import Conflict, NotFound, Unauthenticated
from veza.domain.refunds import Asker
from veza.gateways.passwords import Passwords, Verdict
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.erasure import KEPT_IN

# Where something of theirs may be found, and what the answer calls that.
STAYS = {
    "invoice_documents.document": Kept.INVOICES,
    "order_items.title": Kept.SALES,
    "products.title": Kept.PRODUCTS,
    "products.description": Kept.PRODUCTS,
    "products.tags": Kept.PRODUCTS,
    "products.words": Kept.PRODUCTS,
    "products.cover_key": Kept.PRODUCTS,
    "product_files.object_key": Kept.PRODUCTS,
    "product_files.filename": Kept.PRODUCTS,
    "refunds.reason": Kept.REFUNDS,
    "transfers.destination": Kept.PAYOUTS,
    "connect_accounts.account_id": Kept.PAYOUT_ACCOUNT,
    "audit_entries.address": Kept.AUDIT,
}

# All other places in which something of theirs is before. A column that is missing here is not being looked for.
GOES = {
    *(f"users.{column}" for column in ("username", "email", "ban_reason")),
    *(f"reports.{column}" for column in ("reason", "note")),
    *(f"sessions.{column}" for column in ("user_agent", "address")),
    "stream_tickets.hash",
    *(f"idempotency_keys.{column}" for column in ("key", "body_sha256")),
    *(f"notifications.{column}" for column in ("title", "body", "data")),
    *(f"gear.{column}" for column in ("name", "category", "brand", "model", "serial_number", "notes")),
    *(f"gear.{column}" for column in ("category_key", "words")),
    *(f"gear_documents.{column}" for column in ("object_key", "filename", "content_type")),
    *(f"gear_repairs.{column}" for column in ("description", "provider")),
    *(f"cloud_files.{column}" for column in ("name", "words", "object_key", "content_type")),
    *(f"cloud_versions.{column}" for column in ("object_key", "content_type")),
    "cloud_shares.token_hash",
    *(f"streams.{column}" for column in ("title", "description", "category", "tags")),
    "stream_sessions.video",
    *(f"tags.{column}" for column in ("tag", "key")),
    *(f"exports.{column}" for column in ("object_key", "failure")),
    "products.preview_key",
    *(f"reviews.{column}" for column in ("comment", "response")),
    "refunds.details",
}


def asker(user_id: UUID) -> Asker:
    return Asker(user_id, is_admin=False)


@pytest.fixture
async def leaver(db: Database) -> AsyncIterator[Leaver]:
    with trio.fail_after(30):
        yield await Leaver.over(db)


async def test_a_scan_of_every_column_finds_them_only_where_the_answer_says_that_something_is_kept(
    leaver: Leaver,
) -> None:
    await leaver.settle_in()
    assert await leaver.marked() == GOES | STAYS.keys() - {"invoice_documents.document"}
    erasure = await leaver.erase()
    assert await leaver.marked() == STAYS.keys()
    assert set(STAYS.values()) < set(erasure.kept)
    assert set(erasure.kept) == set(Kept)


async def test_why_they_asked_for_a_refund_or_declined_one_stays_only_where_it_stands_on_a_credit_note(
    leaver: Leaver,
) -> None:
    bought, sold = await leaver.buy(), await leaver.sell()
    ask = (
        "INSERT INTO refunds (id, order_id, origin, requested_by, status, reason, details, amount_cents, currency,"
        " reference, decided_by, decided_at, decision_reason) VALUES (gen_random_uuid(), $1, 'buyer', $2, 'declined',"
        " 'why', 'more', 1, 'EUR', gen_random_uuid()::text, $3, now(), 'no')"
    )
    seller: UUID = await leaver.db.fetchval("SELECT seller_id FROM order_items WHERE order_id = $1", bought.id)
    await leaver.market.run(ask, bought.id, leaver.id, seller)
    await leaver.market.run(ask, sold.id, sold.buyer_id, leaver.id)
    await leaver.erase()
    left = {
        (row["order_id"], row["status"]): (row["reason"], row["details"], row["decision_reason"])
        for row in await leaver.db.fetch("SELECT order_id, status, reason, details, decision_reason FROM refunds")
    }
    assert left[bought.id, "declined"] == ("", "", "no")
    assert left[sold.id, "declined"] == ("why", "more", "")
    assert left[bought.id, "succeeded"][:2] == (f"{MARK} reason", "")


async def test_every_table_that_refers_to_users_is_emptied_of_them_or_said_to_be_kept(leaver: Leaver) -> None:
    await leaver.settle_in()
    before = await leaver.referring()
    assert [table for table, rows in before.items() if not rows] == [], "has nothing of theirs: settle_in() must add it"
    await leaver.erase()
    after = await leaver.referring()
    assert {table for table, rows in after.items() if rows} == KEPT_IN.keys()


async def test_every_table_that_is_emptied_takes_no_new_rows_of_the_erased(leaver: Leaver) -> None:
    guarded = await leaver.db.fetch(
        "SELECT tgrelid::regclass::text AS table FROM pg_trigger WHERE tgname = 'user_is_there'"
    )
    emptied = (await leaver.referring()).keys() - KEPT_IN.keys() - {"notifications"}  # whose numbers are closed instead
    assert emptied <= {row["table"] for row in guarded}


async def test_the_answer_counts_what_went(leaver: Leaver) -> None:
    await leaver.settle_in()
    erasure = await leaver.erase()
    alone = {Gone.DELIVERABLES, Gone.PREVIEWS, Gone.TEXTS}
    assert {what: many for what, many in erasure.gone.items() if many != 1} == {Gone.PREVIEWS: 2}
    assert alone < erasure.gone.keys() == set(Gone)


async def test_who_has_nothing_is_told_of_an_empty_account_and_the_audit(leaver: Leaver) -> None:
    erasure = await leaver.erase()
    assert erasure.kept == (Kept.ACCOUNT, Kept.AUDIT)
    assert [what for what, many in erasure.gone.items() if many] == [Gone.IDENTITY]


async def test_the_ledger_holds_after_an_erasure(leaver: Leaver) -> None:
    await leaver.settle_in()
    await leaver.till.assert_balanced()
    await leaver.erase()
    await leaver.till.assert_balanced()


async def test_an_erased_account_is_unknown_and_its_name_and_address_are_free_again(leaver: Leaver) -> None:
    accounts, before = Accounts(leaver.db), await leaver.credentials()
    await leaver.erase()
    for lookup in (accounts.credentials("qzxv@example.com"), accounts.credentials_of(leaver.id)):
        assert await lookup is None
    with pytest.raises(NotFound):
        await accounts.get(leaver.id)
    again = leaver.market.new_id()
    await leaver.market.run(
        "INSERT INTO users (id, username, email, password_hash) VALUES ($1, $2, $3, '')",
        again,
        before.user.username,
        before.user.email,
    )
    assert (await accounts.get(again)).username == "QZXV_Ann"


async def test_any_number_of_people_can_be_erased(leaver: Leaver) -> None:
    await leaver.erase()
    await replace(leaver, id=await leaver.market.user()).erase()
    assert await leaver.db.fetchval("SELECT count(*) FROM users WHERE username = $1", NAME) == 2


async def test_no_password_is_right_for_an_erased_account(leaver: Leaver) -> None:
    await leaver.erase()
    kept: str = await leaver.db.fetchval("SELECT password_hash FROM users WHERE id = $1", leaver.id)
    passwords = Passwords(cheap_hasher())
    for password in (f"{MARK}-password-1", "", kept):
        assert await passwords.verify(password, kept) is Verdict.WRONG
    assert passwords.hasher.check_needs_rehash(kept) is False  # it costs as much to say no as with any


async def test_a_second_erasure_finds_nobody(leaver: Leaver) -> None:
    verified = await leaver.credentials()
    await leaver.erase(verified)
    with pytest.raises(Unauthenticated) as refused:
        await leaver.erase(verified)
    assert refused.value.code == "session_over"


async def test_a_password_that_was_changed_since_it_was_verified_erases_nobody(leaver: Leaver) -> None:
    verified = await leaver.credentials()
    await leaver.market.run("UPDATE users SET password_hash = 'another' WHERE id = $1", leaver.id)
    assert await leaver.erasures.erase(verified, "", by=leaver.by, now=NOON) is None
    assert (await leaver.credentials()).user == verified.user


async def test_the_audit_tells_of_it_without_what_was_erased(leaver: Leaver) -> None:
    await leaver.settle_in()
    await leaver.erase()
    [entry] = await leaver.db.fetch("SELECT * FROM audit_entries WHERE action = 'account_erased'")
    assert (entry["actor_id"], entry["resource"]) == (leaver.id, f"users/{leaver.id}")
    assert '"files": 1' in entry["details"]
    assert MARK not in entry["details"].lower()


# -- what others have of theirs ----------------------------------------------------------------------------------------


async def test_who_bought_a_product_keeps_it_and_its_files_and_nobody_else_sees_it(leaver: Leaver) -> None:
    order = await leaver.sell()
    await leaver.erase()
    products = await leaver.db.fetch(
        "SELECT p.id, p.status, u.username, p.description, (SELECT count(*) FROM product_files f"
        " WHERE f.product_id = p.id) AS files FROM products p JOIN users u ON u.id = seller_id ORDER BY p.id"
    )
    tried, sold = [tuple(row) for row in products]
    assert tried[1:] == ("archived", NAME, "", 0)  # it stands in an order that came to nothing
    assert sold == (order.items[0].product_id, "archived", NAME, f"{MARK} story", 1)


async def test_what_was_wholly_refunded_is_kept_for_nobody(leaver: Leaver) -> None:
    await leaver.sell()
    await leaver.market.run("UPDATE orders SET status = 'refunded' WHERE paid_at IS NOT NULL")
    erasure = await leaver.erase()
    assert (erasure.gone[Gone.DELIVERABLES], erasure.gone[Gone.TEXTS]) == (2, 2)


async def test_ratings_stay_without_their_words_and_still_add_up(leaver: Leaver) -> None:
    await leaver.settle_in()
    await leaver.erase()
    rows = await leaver.db.fetch("SELECT rating, comment, response, responded_at FROM reviews ORDER BY id")
    assert [tuple(row) for row in rows] == [(4, "Fine.", None, None), (4, "", None, None)]
    assert await leaver.db.fetchval("SELECT bool_and(rating_sum = 4) FROM products WHERE rating_count = 1")


async def test_invoices_and_credit_notes_that_nobody_asked_for_still_name_them(leaver: Leaver) -> None:
    sold, bought = await leaver.sell(), await leaver.buy()
    await leaver.erase()
    documents = {
        row["number"]: row["document"]
        for row in await leaver.db.fetch("SELECT number, document FROM invoice_documents")
    }
    numbers = await leaver.db.fetch("SELECT invoice_number FROM orders WHERE invoice_number IS NOT NULL")
    notes = await leaver.db.fetch("SELECT credit_note_number FROM refunds")
    assert documents.keys() == {row[0] for row in (*numbers, *notes)}
    assert len(documents) == 4
    invoice = await leaver.invoices.invoice(bought.id, asker(bought.buyer_id))
    assert (invoice.buyer.name, invoice.buyer.email) == ("QZXV_Ann", "qzxv@example.com")
    theirs = await leaver.invoices.invoice(sold.id, asker(sold.buyer_id))
    assert [line.seller for line in theirs.lines] == ["QZXV_Ann"]
    assert all("QZXV_Ann" in document for document in documents.values())


async def test_documents_are_written_in_batches_and_what_is_left_by_the_erasure_itself(leaver: Leaver) -> None:
    for _ in range(3):
        await leaver.buy()
    assert await leaver.erasures.write_documents(leaver.id) == 6
    assert await leaver.erasures.write_documents(leaver.id) == 0
    late = await leaver.buy()
    erasure = await leaver.erasures.erase(await leaver.credentials(), "!", by=leaver.by, now=NOON)
    assert erasure is not None
    invoice = await leaver.invoices.invoice(late.id, asker(leaver.id))
    assert invoice.buyer.name == "QZXV_Ann"


# -- who may not go ----------------------------------------------------------------------------------------------------


async def test_the_last_admin_stays_and_the_last_but_one_may_go(leaver: Leaver) -> None:
    await leaver.market.run("UPDATE users SET role = 'admin' WHERE id = $1", leaver.id)
    other = await leaver.market.user()
    with pytest.raises(Conflict) as refused:
        await leaver.erase()
    assert refused.value.code == "last_admin"
    await leaver.market.run("UPDATE users SET role = 'admin', banned_until = 'infinity' WHERE id = $1", other)
    with pytest.raises(Conflict):
        await leaver.erase()
    await leaver.market.run("UPDATE users SET banned_until = NULL WHERE id = $1", other)
    await leaver.erase()
    assert await leaver.db.fetchval("SELECT role FROM users WHERE id = $1", leaver.id) == "user"
