# ruff: noqa: S608 - the corruptions are the test's own words
"""The seven invariants: quiet over honest books, and each one heard when its own thing is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.sales import Sales
from veza.domain.attempts import Done, Paid
from veza.domain.errors import Unavailable
from veza.domain.ledger import ListedTransfer
from veza.store.bridge import Database
from veza.store.ledger import Ledger
from veza.store.payouts import Payouts


@dataclass
class Provider:
    """Lists what it is told to have."""

    has: list[ListedTransfer] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def transfers_to(self, destination: str) -> Sequence[ListedTransfer]:
        self.asked.append(destination)
        return [each for each in self.has if each.destination == destination]


@dataclass
class Books:
    """A sale that was paid out, and one that was not yet."""

    db: Database
    dsn: str
    ledger: Ledger
    provider: Provider
    paid: UUID

    def corrupt(self, sql: str) -> None:
        """Do what the triggers and constraints would not let anyone do."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute("SET session_replication_role = replica")
            assert connection.execute(sql.encode()).rowcount > 0

    async def broken(self) -> set[str]:
        """The numbers of the invariants that found something."""
        return {finding.invariant[0] for finding in await self.ledger.verify(self.provider)}


@pytest.fixture
async def books(db: Database, dsn: str) -> Books:
    sales = Sales(db)
    payouts = Payouts(db, sales.new_id)
    paid = await sales.sale(await sales.seller("acct_1"))
    [claim] = await payouts.claim(1, timedelta(seconds=300), retries=True)
    await payouts.record(claim, Paid("tr_1"), Done("tr_1"))
    await sales.sale(await sales.seller("acct_2"), 1000)
    provider = Provider([ListedTransfer("tr_1", str(paid), "acct_1", 2699, 0, "EUR")])
    return Books(db, dsn, Ledger(db), provider, paid)


async def test_honest_books_hide_nothing(books: Books) -> None:
    assert await books.ledger.verify(books.provider) == []
    assert sorted(books.provider.asked) == ["acct_1", "acct_2"]


async def test_empty_books_are_honest(db: Database) -> None:
    assert await Ledger(db).verify(Provider()) == []


PAYOUT = "(SELECT id FROM journals WHERE external_ref = 'stripe:tr_1')"
OF_KIND = "account_id IN (SELECT id FROM ledger_accounts WHERE kind = '{}')"


@pytest.mark.parametrize(
    ("sql", "numbers"),
    [
        (f"UPDATE entries SET amount_cents = amount_cents + 1 WHERE journal_id = {PAYOUT} AND amount_cents > 0", "1"),
        (f"DELETE FROM entries WHERE journal_id = {PAYOUT}", "15"),
        ("UPDATE entries SET currency = 'USD' WHERE journal_id = " + PAYOUT, "1"),
        ("UPDATE earnings SET fee_cents = fee_cents + 1 WHERE gross_cents = 2999", "23"),
        ("DELETE FROM earnings WHERE gross_cents = 1000", "23"),
        ("UPDATE orders SET total_cents = total_cents - 1 WHERE total_cents = 2999", "27"),
        ("UPDATE orders SET paid_at = NULL, invoice_number = NULL WHERE total_cents = 2999", "27"),
        (
            "UPDATE transfers SET amount_cents = amount_cents + 1 WHERE external_ref = 'tr_1'",
            "356",
        ),
        (f"UPDATE entries SET amount_cents = amount_cents * 2 WHERE journal_id = {PAYOUT}", "45"),
        ("DELETE FROM journals WHERE external_ref = 'stripe:tr_1'", "5"),
        ("UPDATE journals SET external_ref = 'stripe:tr_2' WHERE external_ref = 'stripe:tr_1'", "5"),
        ("UPDATE transfers SET status = 'failed', external_ref = NULL WHERE external_ref = 'tr_1'", "56"),
        ("DELETE FROM transfers WHERE external_ref IS NULL", "5"),
        (
            "INSERT INTO journals (kind, external_ref, order_id) SELECT kind, 'again', order_id FROM journals LIMIT 1",
            "15",
        ),
        (f"UPDATE entries SET amount_cents = -amount_cents WHERE {OF_KIND.format('clearing')}", "1237"),
        (f"UPDATE entries SET amount_cents = -amount_cents WHERE {OF_KIND.format('payouts')}", "135"),
    ],
)
async def test_what_is_broken_is_found_by_the_invariant_it_breaks(books: Books, sql: str, numbers: str) -> None:
    books.corrupt(sql)
    found = await books.broken()
    assert found >= set(numbers), found


async def test_the_providers_side_is_compared_too(books: Books) -> None:
    books.provider.has.append(ListedTransfer("tr_9", None, "acct_2", 5, 0, "EUR"))
    assert await books.broken() == {"6"}
    books.provider.has.clear()
    assert await books.broken() == {"6"}


async def test_without_a_provider_the_sixth_is_left_out(books: Books) -> None:
    books.provider.has.clear()
    assert await books.ledger.verify(None) == []


async def test_a_provider_that_is_away_is_not_good_news(books: Books) -> None:
    class Away(Provider):
        async def transfers_to(self, destination: str) -> Sequence[ListedTransfer]:
            raise Unavailable("away")

    with pytest.raises(Unavailable):
        await books.ledger.verify(Away())


async def test_a_finding_names_what_it_is_about(books: Books) -> None:
    books.corrupt("DELETE FROM journals WHERE external_ref = 'stripe:tr_1'")
    subjects = {finding.subject for finding in await books.ledger.verify(books.provider) if finding.invariant[0] == "5"}
    assert subjects == {str(books.paid)}
