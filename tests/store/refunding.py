"""What tests of refunds do in a database: sell, pay out, refund, have back, and see that the books hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.sales import Sales
from veza.domain.attempts import (
    Decision,
    Done,
    NoFunds,
    Outcome,
    Paid,
)
from veza.domain.audit import By
from veza.domain.payouts import Claim
from veza.domain.recovery import Owe, ReversalClaim
from veza.domain.refund_attempts import RefundClaim, RefundDecision, Succeed
from veza.domain.refunds import (
    Amount,
    Asker,
    Refund,
    Whole,
)
from veza.store.bridge import Database
from veza.store.ledger import Ledger
from veza.store.payouts import Payouts
from veza.store.refund_queue import Recorded, RefundQueue
from veza.store.refunds import Refunds
from veza.store.reversals import Reversals

LEASE = timedelta(seconds=300)
NONE = timedelta(0)
WINDOW = timedelta(days=14)
NO_FUNDS = NoFunds("low")
OWE = Owe("awaiting_funds", "low")
TABLES = ["orders", "order_items", "transfers", "refunds", "refund_shares", "withholdings", "entries", "number_series"]
Row = dict[str, object]


@dataclass
class Till:
    """An admin at a till: what is refunded here is refunded at once."""

    db: Database
    sales: Sales
    admin: UUID
    refunds: Refunds
    queue: RefundQueue
    reversals: Reversals
    payouts: Payouts

    @classmethod
    async def open(cls, db: Database, sales: Sales | None = None) -> Till:
        sales = sales or Sales(db)
        refunds, payouts = Refunds(db, sales.new_id, WINDOW), Payouts(db, sales.new_id)
        return cls(db, sales, await sales.user(), refunds, RefundQueue(db), Reversals(db), payouts)

    # -- selling and paying out ----------------------------------------------------------------------------------------

    async def seller(self) -> UUID:
        return await self.sales.seller(f"acct_{self.sales.new_id().hex}")

    async def sale(self, seller: UUID | None = None, total: int = 2999) -> UUID:
        """A transfer that is due."""
        return await self.sales.sale(seller or await self.seller(), total)

    async def in_hand(self, transfer_id: UUID, lease: timedelta = LEASE) -> Claim:
        """The claim of a transfer that is being tried."""
        await self.run("UPDATE transfers SET next_retry_at = '2025-01-01' WHERE id = $1", transfer_id)
        [claim] = await self.payouts.claim(1, lease, retries=True)
        assert claim.transfer.id == transfer_id
        return claim

    async def tried(self, transfer_id: UUID, outcome: Outcome, decision: Decision) -> None:
        assert await self.payouts.record(await self.in_hand(transfer_id), outcome, decision) is not None

    async def paid_out(self, seller: UUID | None = None, total: int = 2999) -> UUID:
        """A transfer that its seller has."""
        transfer_id = await self.sale(seller, total)
        await self.pay(await self.in_hand(transfer_id))
        return transfer_id

    async def pay(self, claim: Claim) -> None:
        ref = f"tr_{claim.transfer.id.hex}"
        assert await self.payouts.record(claim, Paid(ref), Done(ref)) is not None

    # -- refunding -----------------------------------------------------------------------------------------------------

    async def ask(self, transfer_id: UUID, cents: int | None = None) -> Refund:
        """A refund of a transfer's order, of all that is left of it or of so much."""
        order_id: UUID = await self.db.fetchval("SELECT order_id FROM transfers WHERE id = $1", transfer_id)
        wish = Whole() if cents is None else Amount(cents)
        asker = Asker(self.admin, is_admin=True)
        [refund] = await self.refunds.ask(
            order_id, asker, wish, reason="It hums", details="", by=By(self.admin), now=datetime.now(UTC)
        )
        return refund

    async def take(self, refund: Refund, lease: timedelta = LEASE) -> RefundClaim:
        await self.run("UPDATE refunds SET due_at = '2025-01-01' WHERE id = $1", refund.id)
        [claim] = await self.queue.claim(1, lease)
        assert claim.refund_id == refund.id
        return claim

    async def finish(self, refund: Refund, decision: RefundDecision) -> Recorded:
        recorded = await self.queue.record(await self.take(refund), decision)
        assert recorded is not None
        return recorded

    async def refund(self, transfer_id: UUID, cents: int | None = None) -> UUID:
        """A refund whose buyer has it back; answers the seller's share of it."""
        refund = await self.ask(transfer_id, cents)
        await self.finish(refund, Succeed())
        share_id: UUID = await self.db.fetchval("SELECT id FROM refund_shares WHERE refund_id = $1", refund.id)
        return share_id

    # -- having back ---------------------------------------------------------------------------------------------------

    async def reversal(self, lease: timedelta = LEASE) -> ReversalClaim:
        [claim] = await self.reversals.claim(5, lease)
        return claim

    async def reverse(self, claim: ReversalClaim) -> None:
        ref = f"trr_{claim.reversal.share_id.hex}"
        assert await self.reversals.record(claim, Paid(ref), Done(ref)) is not None

    async def debt(self, seller: UUID, total: int = 1000) -> UUID:
        """A share that could not be reversed: the seller owes nine tenths of ``total``."""
        share_id = await self.refund(await self.paid_out(seller, total))
        assert await self.reversals.record(await self.reversal(), NO_FUNDS, OWE) is not None
        return share_id

    # -- looking -------------------------------------------------------------------------------------------------------

    async def run(self, sql: str, *args: object) -> None:
        async with self.db.transaction() as tx:
            await tx.execute(sql, *args)

    async def row(self, table: str, row_id: UUID, columns: str = "*") -> Row:
        found = await self.db.fetchrow(f"SELECT {columns} FROM {table} WHERE id = $1", row_id)  # noqa: S608 - the tests' own
        assert found is not None
        return dict(found)

    async def transfer(self, transfer_id: UUID) -> tuple[object, ...]:
        """Its status, what is withheld of it and what came back of it."""
        columns = "status, withheld_cents, reversed_cents"
        return tuple((await self.row("transfers", transfer_id, columns)).values())

    async def share(self, share_id: UUID) -> tuple[object, ...]:
        """Its status, what was withheld for it, what was reversed, and what is being reversed."""
        columns = "status, withheld_cents, reversed_cents, reversing_cents"
        return tuple((await self.row("refund_shares", share_id, columns)).values())

    async def everything(self) -> Mapping[str, list[Row]]:
        """All that money is about, row by row."""
        sql = "SELECT * FROM {} AS t ORDER BY t::text"
        return {table: [dict(row) for row in await self.db.fetch(sql.format(table))] for table in TABLES}

    async def assert_balanced(self) -> None:
        assert await Ledger(self.db).verify(None) == []
