"""The ledger's rows: journals written once for each thing that happened, never changed; the proof that they add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from veza.domain.ledger import BookedTransfer, Entry, Finding, ListedTransfer, compare
from veza.store.bridge import Database, Snapshot, Transaction

OPEN_ACCOUNTS = """
INSERT INTO ledger_accounts (kind, owner, currency)
SELECT kind, NULL::uuid, $2 FROM unnest(ARRAY['clearing', 'platform_fee', 'payouts']) AS kind
UNION ALL SELECT 'seller', owner, $2 FROM unnest($1::uuid[]) AS owner
ON CONFLICT DO NOTHING
"""

BOOK = """
WITH journal AS (
    INSERT INTO journals (kind, external_ref, order_id) VALUES ($1, $2, $3)
    ON CONFLICT (external_ref) DO NOTHING RETURNING id
)
INSERT INTO entries (journal_id, account_id, amount_cents, currency)
SELECT journal.id, account.id, line.amount_cents, $7
FROM journal, unnest($4::text[], $5::uuid[], $6::bigint[]) AS line (kind, owner, amount_cents)
JOIN ledger_accounts account
    ON account.kind = line.kind AND account.owner IS NOT DISTINCT FROM line.owner AND account.currency = $7
RETURNING journal_id
"""


async def open_accounts(tx: Transaction, sellers: Iterable[UUID], currency: str) -> None:
    """Make the accounts that a sale by ``sellers`` will move money between, where they are missing."""
    await tx.execute(OPEN_ACCOUNTS, sorted(sellers), currency)


async def book(
    tx: Transaction, kind: str, external_ref: str, order_id: UUID, entries: Sequence[Entry], currency: str
) -> bool:
    """Write a journal and its entries. False, and nothing is written, when ``external_ref`` is booked already.

    Its accounts must be open. The transaction cannot commit a journal that does not balance.
    """
    written = await tx.fetch(
        BOOK,
        kind,
        external_ref,
        order_id,
        [entry.kind.value for entry in entries],
        [entry.owner for entry in entries],
        [entry.amount_cents for entry in entries],
        currency,
    )
    if written and len(written) != len(entries):
        raise LookupError(f"an account of journal {external_ref} is not open")
    return bool(written)


# -- the invariants: each query must find nothing --------------------------------------------------------------------

# A finding a row: what it is about, and what is wrong with it.
INVARIANTS: Final[Mapping[str, str]] = {
    "1: a journal's entries sum to nothing": """
        SELECT journal.id AS subject, format('%s in %s over %s entries', coalesce(sum(amount_cents), 0), currency,
            count(entry.id)) AS detail
        FROM journals AS journal LEFT JOIN entries AS entry ON journal_id = journal.id
        GROUP BY journal.id, currency
        HAVING coalesce(sum(amount_cents), 0) <> 0 OR count(entry.id) = 0
        UNION ALL
        SELECT journal_id, format('entry %s is in %s, its account in %s', entry.id, entry.currency, account.currency)
        FROM entries AS entry JOIN ledger_accounts AS account ON account.id = account_id
        WHERE entry.currency <> account.currency
    """,
    "2: an order's capture is its sellers' shares and the fee": """
        WITH captured AS (
            SELECT journal.order_id,
                coalesce(sum(amount_cents) FILTER (WHERE account.kind = 'clearing'), 0) AS paid,
                -coalesce(sum(amount_cents) FILTER (WHERE account.kind = 'seller'), 0) AS sellers,
                -coalesce(sum(amount_cents) FILTER (WHERE account.kind = 'platform_fee'), 0) AS fee
            FROM journals AS journal JOIN entries ON journal_id = journal.id
            JOIN ledger_accounts AS account ON account.id = account_id
            WHERE journal.kind = 'capture' GROUP BY journal.order_id
        ), earned AS (
            SELECT order_id, sum(gross_cents - fee_cents) AS sellers, sum(fee_cents) AS fee
            FROM earnings GROUP BY order_id
        )
        SELECT orders.id AS subject, format('%s cost, %s captured, %s of %s to sellers, %s of %s in fees',
            total_cents, coalesce(paid, 0), coalesce(captured.sellers, 0), coalesce(earned.sellers, 0),
            coalesce(captured.fee, 0), coalesce(earned.fee, 0)) AS detail
        FROM orders LEFT JOIN captured ON captured.order_id = orders.id LEFT JOIN earned ON earned.order_id = orders.id
        WHERE CASE WHEN paid_at IS NOT NULL AND total_cents > 0
            THEN (total_cents, earned.sellers, earned.fee) IS DISTINCT FROM (paid, captured.sellers, captured.fee)
            ELSE captured.order_id IS NOT NULL END
    """,
    "3: no more is given back than came, and no more sent than earned": """
        SELECT journal.order_id AS subject, format('%s of %s given back', -sum(least(amount_cents, 0)),
            sum(greatest(amount_cents, 0))) AS detail
        FROM journals AS journal JOIN entries ON journal_id = journal.id
        JOIN ledger_accounts AS account ON account.id = account_id
        WHERE account.kind = 'clearing' GROUP BY journal.order_id HAVING sum(amount_cents) < 0
        UNION ALL
        SELECT journal.order_id,
            format('%s of %s sent came back', sum(greatest(amount_cents, 0)), -sum(least(amount_cents, 0)))
        FROM journals AS journal JOIN entries ON journal_id = journal.id
        JOIN ledger_accounts AS account ON account.id = account_id
        WHERE account.kind = 'payouts' GROUP BY journal.order_id HAVING sum(amount_cents) > 0
        UNION ALL
        SELECT transfer.id, format('%s sent of %s earned', amount_cents, coalesce(gross_cents - fee_cents, 0))
        FROM transfers AS transfer LEFT JOIN earnings USING (order_id, seller_id)
        WHERE amount_cents > coalesce(gross_cents - fee_cents, 0)
    """,
    "4: what a seller owes is a debt on record": """
        SELECT owner AS subject, format('%s %s more than earned', sum(amount_cents), account.currency) AS detail
        FROM ledger_accounts AS account JOIN entries ON account_id = account.id
        WHERE account.kind = 'seller' GROUP BY owner, account.currency HAVING sum(amount_cents) > 0
    """,
    "5: each thing that happened is booked once": """
        SELECT transfer.id AS subject, format('%s with %s journals', status, count(journal.id)) AS detail
        FROM transfers AS transfer LEFT JOIN journals AS journal
            ON journal.kind = 'transfer' AND journal.external_ref = 'stripe:' || transfer.external_ref
        GROUP BY transfer.id HAVING count(journal.id) <> (status IN ('completed', 'reversed'))::int
        UNION ALL
        SELECT journal.id, format('%s belongs to no transfer', journal.external_ref)
        FROM journals AS journal
        LEFT JOIN transfers AS transfer ON journal.external_ref = 'stripe:' || transfer.external_ref
        WHERE journal.kind = 'transfer' AND transfer.id IS NULL
        UNION ALL
        SELECT order_id, format('captured %s times', count(*)) FROM journals WHERE kind = 'capture'
        GROUP BY order_id HAVING count(*) > 1
        UNION ALL
        SELECT transfer.id, format('%s entered of %s', coalesce(-sum(entry.amount_cents), 0), transfer.amount_cents)
        FROM transfers AS transfer
        JOIN journals AS journal ON journal.external_ref = 'stripe:' || transfer.external_ref
        LEFT JOIN entries AS entry ON entry.journal_id = journal.id
            AND entry.account_id IN (SELECT id FROM ledger_accounts WHERE kind = 'payouts')
        GROUP BY transfer.id HAVING coalesce(-sum(entry.amount_cents), 0) <> transfer.amount_cents
        UNION ALL
        SELECT order_id, format('seller %s has an earning and no transfer', seller_id)
        FROM earnings JOIN orders ON orders.id = order_id LEFT JOIN transfers USING (order_id, seller_id)
        WHERE paid_at IS NOT NULL AND gross_cents > fee_cents AND transfers.id IS NULL
    """,
    "7: clearing is what was captured less what was refunded": """
        WITH cleared AS (
            SELECT account.currency, sum(amount_cents) AS cents FROM ledger_accounts AS account
            JOIN entries ON account_id = account.id WHERE account.kind = 'clearing' GROUP BY account.currency
        ), captured AS (
            SELECT currency, sum(total_cents) AS cents FROM orders
            WHERE paid_at IS NOT NULL AND total_cents > 0 GROUP BY currency
        )
        SELECT NULL::uuid AS subject,
            format('%s %s on the account, %s by the orders', coalesce(cleared.cents, 0), currency,
                coalesce(captured.cents, 0)) AS detail
        FROM cleared FULL JOIN captured USING (currency) WHERE cleared.cents IS DISTINCT FROM captured.cents
    """,
}

SENT: Final = """
SELECT id::text AS transfer_id, external_ref, destination, amount_cents, currency, completed_at,
    (status IN ('completed', 'reversed') OR (status = 'failed' AND next_retry_at IS NULL)) AS settled
FROM transfers
"""

DESTINATIONS: Final = """
SELECT account_id AS destination FROM connect_accounts WHERE account_id IS NOT NULL
UNION SELECT destination FROM transfers WHERE destination IS NOT NULL
"""


class Lister(Protocol):
    """The payout provider, as far as the sixth invariant needs it."""

    async def transfers_to(self, destination: str) -> Sequence[ListedTransfer]:
        """All transfers to an account, reversed ones too. Raises Unavailable."""
        ...


class Ledger:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def verify(self, provider: Lister | None) -> list[Finding]:
        """Every row that breaks an invariant; none if all is well.

        Our own rows are read at one moment, after the provider's. Without a provider the sixth is left out.
        Raises Unavailable when the provider can't be asked.
        """
        asked_at: datetime = await self._db.fetchval("SELECT now()")
        listed: list[ListedTransfer] = []
        if provider is not None:
            for row in await self._db.fetch(DESTINATIONS):
                listed += await provider.transfers_to(row["destination"])
        async with self._db.snapshot() as moment:
            findings = [finding for name in INVARIANTS for finding in await _look_for(moment, name)]
            if provider is not None:
                booked = [BookedTransfer(**dict(row)) for row in await moment.fetch(SENT)]
                findings += compare(booked, listed, asked_at)
        return sorted(findings, key=lambda finding: finding.invariant)


async def _look_for(moment: Snapshot, name: str) -> list[Finding]:
    rows = await moment.fetch(INVARIANTS[name])
    code = f"invariant_{name[0]}"
    return [Finding(name, str(row["subject"] or "platform"), row["detail"], code) for row in rows]
