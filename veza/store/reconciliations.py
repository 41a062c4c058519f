"""Reconciliations: when the next is due, and what each of them found."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Final
from uuid import UUID

from veza.domain.audit import By
from veza.domain.ids import NewId
from veza.domain.ledger import Finding, Reconciliation
from veza.store import audit
from veza.store.bridge import Database, Record
from veza.store.ledger import Ledger, Lister

TAKE: Final = (
    "UPDATE schedules SET due_at = now() + $1 WHERE name = 'reconciliation' AND due_at <= now() RETURNING name"
)

NEXT: Final = "SELECT extract(epoch FROM due_at - now())::float8 FROM schedules WHERE name = 'reconciliation'"

AGAIN: Final = "UPDATE schedules SET due_at = now() + $1 WHERE name = 'reconciliation'"

INSERT: Final = """
INSERT INTO reconciliations (id, provider_asked, findings) VALUES ($1, $2, $3)
RETURNING id, ran_at, provider_asked, findings
"""

PAGE: Final = """
SELECT id, ran_at, provider_asked, findings FROM reconciliations ORDER BY ran_at DESC, id DESC LIMIT $1 OFFSET $2
"""


class Reconciliations:
    def __init__(self, db: Database, new_id: NewId) -> None:
        self._db = db
        self._ledger = Ledger(db)
        self._new_id = new_id

    async def take(self, lease: timedelta) -> bool:
        """Whether one is due and now ours; should nothing come of it, it is due again after ``lease``."""
        async with self._db.transaction() as tx:
            return await tx.fetchval(TAKE, lease) is not None

    async def next_due_in(self) -> float:
        """Seconds until the next is due, negative if it is overdue."""
        seconds: float = await self._db.fetchval(NEXT)
        return seconds

    async def verify(self, provider: Lister | None) -> list[Finding]:
        """See ``Ledger.verify``. Raises Unavailable."""
        return await self._ledger.verify(provider)

    async def record(
        self, findings: list[Finding], *, provider_asked: bool, next_in: timedelta, by: By | None
    ) -> Reconciliation:
        """Write down what one found, and when the next is due. Audited where somebody asked for it."""
        async with self._db.transaction() as tx:
            told = json.dumps([asdict(finding) for finding in findings])
            row = await tx.fetchrow(INSERT, self._new_id(), provider_asked, told)
            if row is None:
                raise LookupError("an insert returned no row")
            await tx.execute(AGAIN, next_in)
            if by is not None:
                found = {"findings": len(findings)}
                await audit.write(tx, self._new_id(), by, "ledger.reconcile", f"reconciliation:{row['id']}", found)
        return _reconciliation(row)

    async def page(self, *, limit: int, offset: int) -> tuple[list[Reconciliation], int]:
        """The latest first, and how many there are."""
        async with self._db.snapshot() as moment:
            total: int = await moment.fetchval("SELECT count(*) FROM reconciliations")
            rows = await moment.fetch(PAGE, limit, offset)
        return [_reconciliation(row) for row in rows], total


def _reconciliation(row: Record) -> Reconciliation:
    found_id: UUID = row["id"]
    findings = tuple(Finding(**finding) for finding in json.loads(row["findings"]))
    return Reconciliation(found_id, row["ran_at"], row["provider_asked"], findings)
