"""The ledger's rows: journals written once for each thing that happened, never changed; the proof that they add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from veza.domain.ledger import BookedTransfer, Entry, Finding, ListedTransfer, compare
from veza.store.bridge import Database, Snapshot, Transaction
from veza.store.invariants import INVARIANTS

OPEN_ACCOUNTS = """
INSERT INTO ledger_accounts (kind, owner, currency)
SELECT kind, NULL::uuid, $2 FROM unnest(ARRAY['clearing', 'platform_fee', 'payouts', 'buyers']) AS kind
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


# -- the proof ---------------------------------------------------------------------------------------------------------

SENT: Final = """
SELECT id::text AS transfer_id, external_ref, destination, amount_cents - withheld_cents AS amount_cents, currency,
    completed_at, reversed_cents, reversed_at,
    EXISTS (SELECT FROM refund_shares AS share WHERE share.order_id = transfers.order_id
            AND share.seller_id = transfers.seller_id AND reversing_cents > 0) AS reversing,
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
