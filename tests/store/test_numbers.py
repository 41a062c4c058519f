"""Invoice numbers: no gap and no double, whoever pays at the same time and whatever is rolled back."""

from __future__ import annotations

from datetime import datetime
from random import Random

import pytest
import trio

from veza.store.bridge import Database
from veza.store.migrate import MIGRATIONS
from veza.store.numbers import take_invoice_number


class Undo(Exception):  # noqa: N818 - what a test wants undone
    """Rolls a transaction back."""


async def take(db: Database, *, undo: bool = False) -> str:
    async with db.transaction() as tx:
        number = await take_invoice_number(tx)
        if undo:
            raise Undo
    return number


async def test_a_hundred_at_once_a_third_of_them_undone_leave_no_gap_and_no_double(db: Database) -> None:
    chance, given = Random(5), list[str]()

    async def one(undo: bool) -> None:
        if undo:
            with pytest.raises(Undo):
                await take(db, undo=True)
        else:
            given.append(await take(db))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one, chance.random() < 0.33)
    year = given[0][:4]
    assert sorted(given) == [f"{year}-{number:06}" for number in range(1, len(given) + 1)]
    assert 50 < len(given) < 90


async def test_numbers_grow_past_six_digits(db: Database) -> None:
    assert (await take(db)).endswith("-000001")
    async with db.transaction() as tx:
        await tx.execute("UPDATE number_series SET last = 999999")
    assert (await take(db)).endswith("-1000000")


async def test_each_year_has_a_series_of_its_own(db: Database) -> None:
    first = await take(db)
    async with db.transaction() as tx:
        await tx.execute("UPDATE number_series SET year = year - 1")
    assert await take(db) == first


async def test_what_was_paid_before_there_were_numbers_has_them_in_its_order(db: Database) -> None:
    """The migration's own statement, over orders as they were before it."""
    text = (MIGRATIONS / "0012_invoice_numbers.sql").read_text()
    backfill = text[text.index("WITH numbered") : text.index("ALTER TABLE orders ADD CHECK")]
    moments = ["2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE orders DROP CONSTRAINT orders_check")
        await tx.execute("INSERT INTO users VALUES (gen_random_uuid(), 'ann', 'ann@veza.example', '')")
        for moment in reversed(moments):
            await tx.execute(
                "INSERT INTO orders (id, buyer_id, status, currency, total_cents, paid_at, expires_at)"
                " SELECT gen_random_uuid(), id, 'paid', 'EUR', 0, $1, now() FROM users",
                datetime.fromisoformat(moment),
            )
        await tx.execute(backfill)
    rows = await db.fetch("SELECT invoice_number FROM orders ORDER BY paid_at")
    assert [row["invoice_number"] for row in rows] == ["2025-000001", "2026-000001", "2026-000002"]
    async with db.transaction() as tx:
        await tx.execute("UPDATE number_series SET year = extract(year FROM now())::integer WHERE year = 2026")
    assert (await take(db)).endswith("-000003")
