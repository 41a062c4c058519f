"""Numbers without gaps, as the law wants them of invoices (Directive 2006/112/EC, article 226 (2))."""

from __future__ import annotations

from typing import Final

from veza.store.bridge import Transaction

TAKE: Final = """
INSERT INTO number_series (series, year, last) VALUES ($1, extract(year FROM now() AT TIME ZONE 'UTC')::integer, 1)
ON CONFLICT (series, year) DO UPDATE SET last = number_series.last + 1
RETURNING year, last
"""


async def take_invoice_number(tx: Transaction) -> str:
    """The next invoice number of this year (UTC), ``YYYY-NNNNNN``.

    Whoever needs one waits from here on until this transaction is over, so take it last. What rolls back took none.
    """
    return await _take(tx, "invoice")


async def take_credit_note_number(tx: Transaction) -> str:
    """The next credit note number of this year (UTC), ``CN-YYYY-NNNNNN``; waited for as an invoice number is."""
    return f"CN-{await _take(tx, 'credit_note')}"


async def _take(tx: Transaction, series: str) -> str:
    row = await tx.fetchrow(TAKE, series)
    if row is None:
        raise LookupError("an insert returned no row")
    return f"{row['year']}-{row['last']:06}"
