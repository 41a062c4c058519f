"""What was taken back of sellers' shares, where, and what they still owe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from veza.domain.recovery import Debt, Withholding
from veza.store.bridge import Database

WITHHOLDINGS: Final = """
SELECT w.transfer_id, w.amount_cents, s.refund_id, s.order_id, s.order_id = t.order_id AS own
FROM withholdings w JOIN refund_shares s ON s.id = w.share_id JOIN transfers t ON t.id = w.transfer_id
WHERE w.transfer_id = ANY($1::uuid[]) ORDER BY w.created_at, s.id
"""

OWED: Final = """
SELECT seller_id, currency, sum(gross_cents - fee_cents - withheld_cents - reversed_cents)::bigint AS owed_cents,
    count(*) AS refunds
FROM refund_shares WHERE status = 'owed' GROUP BY seller_id, currency
"""


class Debts:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def withholdings(self, transfer_ids: Sequence[UUID]) -> dict[UUID, list[Withholding]]:
        """What was not sent of each transfer, and for which refund."""
        found: dict[UUID, list[Withholding]] = {transfer_id: [] for transfer_id in transfer_ids}
        for row in await self._db.fetch(WITHHOLDINGS, list(transfer_ids)):
            reason = "refund" if row["own"] else "debt"
            found[row["transfer_id"]].append(
                Withholding(row["amount_cents"], reason, row["refund_id"], row["order_id"])
            )
        return found

    async def page(self, limit: int, offset: int) -> tuple[list[Debt], int]:
        """A page of what sellers owe, the most first, and how many owe something."""
        async with self._db.snapshot() as moment:
            order = "ORDER BY owed_cents DESC, seller_id LIMIT $1 OFFSET $2"
            rows = await moment.fetch(f"{OWED} {order}", limit, offset)
            total: int = await moment.fetchval(f"SELECT count(*) FROM ({OWED}) AS debt")
        return [Debt(**dict(row)) for row in rows], total
