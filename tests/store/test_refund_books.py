# ruff: noqa: S608 - the corruptions are the test's own words
"""What the ledger's invariants say of refunds: quiet over honest books, and each heard when its own thing is broken."""

from __future__ import annotations

import psycopg
import pytest

from tests.store.refunding import Till
from veza.domain.refund_attempts import Fail
from veza.store.bridge import Database
from veza.store.invariants import INVARIANTS


@pytest.fixture
async def till(db: Database) -> Till:
    """A refund of each kind: reversed, withheld, netted, owed, waited for, failed, and not done yet."""
    till = await Till.open(db)
    reversed_ = await till.paid_out(total=1000)
    await till.refund(reversed_, 500)
    await till.reverse(await till.reversal())
    await till.refund(await till.sale(total=2000), 700)
    debtor = await till.seller()
    await till.sale(debtor, 3000)
    await till.debt(debtor, 4000)
    waited_for = await till.sale(total=5000)
    await till.in_hand(waited_for)
    await till.refund(waited_for)
    failed = await till.sale(total=6000)
    await till.finish(await till.ask(failed), Fail("x", "x"))
    await till.ask(await till.paid_out(total=7000), 100)
    return till


Session = psycopg.Connection[tuple[str, str]]


def tear_down_the_guards(session: Session) -> None:
    """Let anybody do what triggers and constraints would not."""
    session.execute("SET session_replication_role = replica")
    for table in ("refund_shares", "order_items", "transfers", "refunds"):
        checks = "SELECT conname, '' FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass"
        for name, _ in session.execute(checks, [table]).fetchall():
            session.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'.encode())


def found_after(session: Session, sql: str) -> list[tuple[str, str]]:
    """What the invariants find, their number and their words, once something is broken; it is undone at once."""
    found = list[tuple[str, str]]()
    with session.transaction(force_rollback=True):
        assert session.execute(sql.encode()).rowcount > 0, sql
        for name, query in INVARIANTS.items():
            found += [(name[0], str(detail)) for _, detail in session.execute(query.encode())]
    return found


async def test_honest_books_of_refunds_hide_nothing(till: Till) -> None:
    found = await till.db.fetch("SELECT DISTINCT status FROM refund_shares")
    assert {row["status"] for row in found} == {"open", "waiting", "owed", "settled", "void"}
    await till.assert_balanced()


SHARE = "UPDATE refund_shares SET {} WHERE {}"
REFUND = "UPDATE refunds SET {} WHERE {}"
OF_KIND = "account_id IN (SELECT id FROM ledger_accounts WHERE kind = '{}')"
OF_JOURNAL = "journal_id IN (SELECT id FROM journals WHERE kind = '{}')"
MORE = "UPDATE entries SET amount_cents = amount_cents * 3 WHERE "

# What is done to the books, the invariant that has to notice, and its words.
BROKEN = [
    (f"{MORE}{OF_JOURNAL.format('refund')} AND {OF_KIND.format('clearing')}", "3", "1500 of 1000 given back"),
    (f"{MORE}{OF_JOURNAL.format('reversal')} AND {OF_KIND.format('payouts')}", "3", "1350 of 900 sent came back"),
    ("UPDATE order_items SET refunded_cents = 0 WHERE total_cents = 1000", "3", "0 of 1000 taken from line"),
    ("UPDATE order_items SET refunded_cents = 1 WHERE total_cents = 6000", "3", "1 of 6000 taken from line"),
    (REFUND.format("status = 'declined'", "amount_cents = 500"), "3", "500 of 1000 taken from line"),
    ("DELETE FROM refund_items WHERE amount_cents = 100", "3", "100 of 7000 taken from line"),
    (SHARE.format("status = 'settled'", "status = 'owed'"), "4", "-900 EUR by the ledger, 0 to get and 0 to give"),
    (SHARE.format("status = 'open'", "status = 'waiting'"), "4", "0 EUR by the ledger, 4500 to get and 0 to give"),
    (SHARE.format("status = 'waiting'", "status = 'open'"), "4", "0 EUR by the ledger, 0 to get and 90 to give"),
    ("UPDATE transfers SET withheld_cents = 0 WHERE amount_cents = 1800", "4", "0 withheld, 630 by its withholdings"),
    (SHARE.format("withheld_cents = 0", "gross_cents = 700"), "4", "0 withheld, 630 by its withholdings"),
    ("DELETE FROM withholdings WHERE amount_cents = 630", "4", "630 withheld, 0 by its withholdings"),
    ("UPDATE transfers SET open_refunds = 0 WHERE amount_cents = 6300", "4", "0 refunds under way by its count, 1 by"),
    ("UPDATE transfers SET reversed_cents = 0 WHERE amount_cents = 900", "4", "0 reversed, 450 by its shares"),
    (SHARE.format("reversed_cents = 449", "gross_cents = 500"), "4", "450 reversed, 449 by its shares"),
    (REFUND.format("status = 'pending'", "amount_cents = 500"), "5", "pending, with 500 of 500 booked"),
    (REFUND.format("status = 'succeeded'", "amount_cents = 6000"), "5", "succeeded, with 0 of 6000 booked"),
    (REFUND.format("reference = 'else'", "amount_cents = 500"), "5", "succeeded, with 0 of 500 booked"),
    (REFUND.format("reference = 'else'", "amount_cents = 500"), "5", "belongs to no refund"),
    (REFUND.format("credit_note_number = NULL", "amount_cents = 700"), "5", "done without a credit note"),
    (SHARE.format("reversed_cents = 0", "gross_cents = 500"), "5", "0 reversed, with 450 booked"),
    (SHARE.format("external_ref = 'else'", "gross_cents = 500"), "5", "450 reversed, with 0 booked"),
    (SHARE.format("external_ref = 'else'", "gross_cents = 500"), "5", "belongs to no refund"),
    (f"DELETE FROM entries WHERE {OF_JOURNAL.format('refund')}", "5", "with 0 of 700 booked"),
    (REFUND.format("status = 'failed'", "amount_cents = 500"), "7", "EUR on the account"),
    (f"{MORE}{OF_JOURNAL.format('refund')} AND {OF_KIND.format('clearing')}", "7", "EUR on the account"),
]


async def test_what_is_broken_of_a_refund_is_found_by_the_invariant_it_breaks(till: Till, dsn: str) -> None:
    with psycopg.connect(dsn) as session:
        tear_down_the_guards(session)
        assert found_after(session, "SELECT 1") == []
        for sql, number, words in BROKEN:
            found = found_after(session, sql)
            assert any(each == number and words in detail for each, detail in found), (sql, number, words, found)
        session.rollback()
    await till.assert_balanced()
