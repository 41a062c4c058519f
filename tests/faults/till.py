"""A till to be hurt step by step: sales, refunds, disputes and payouts over a real database and the stand-ins.

Nothing runs by itself. A queue's worker is walked through one batch at a time, by the very methods that its actor
calls, so that a test can let it die between any two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Any
from uuid import UUID, uuid4

from tests.faults.stage import Stage
from tests.store.selling import Market
from veza.actors.disputes import Disputer
from veza.actors.payouts import Payer
from veza.actors.queue import Leases, QueueWorker
from veza.actors.refunds import Refunder
from veza.actors.reversals import Reverser
from veza.domain.attempts import RetryPolicy
from veza.domain.audit import By
from veza.domain.errors import Refusal
from veza.domain.orders import Order
from veza.domain.payments import Payment
from veza.domain.refunds import Asker, Wish
from veza.gateways.hyperswitch import Hyperswitch
from veza.store.disputes import Disputes
from veza.store.ledger import Ledger
from veza.store.payments import Payments
from veza.store.payouts import Payouts
from veza.store.refund_queue import RefundQueue
from veza.store.refunds import Refunds
from veza.store.reversals import Reversals

LEASE = timedelta(minutes=5)
# Looks are believed at once, and nothing is given up: a test has no days to wait, nor an admin at hand.
POLICY = RetryPolicy(max_attempts=1000, ambiguity=timedelta(0))


class Crash(Enum):
    """Where a worker dies, if it does; or that it records what it did twice."""

    NOWHERE = "nowhere"
    BEFORE_THE_CALL = "before the call"
    BEFORE_THE_RECORD = "before the record"
    NEVER_SURE = "recorded twice"


@dataclass
class Person:
    id: UUID
    account: str = ""


@dataclass
class Till:
    stage: Stage
    hyperswitch: Hyperswitch
    market: Market
    random: Random = field(default_factory=lambda: Random(3))
    orders: list[Order] = field(default_factory=list)
    disputes: list[str] = field(default_factory=list)
    sellers: list[Person] = field(default_factory=list)
    admin: UUID | None = None

    @classmethod
    async def open(cls, stage: Stage, hyperswitch: Hyperswitch, *, sellers: int = 2) -> Till:
        till = cls(stage, hyperswitch, Market.over(stage.db))
        for _ in range(sellers):
            account = await stage.control.account()
            person = Person(await till.market.user(), account)
            await stage.sales.connect(person.id, account)
            till.sellers.append(person)
        till.admin = await till.market.user()
        return till

    def workers(self) -> dict[str, QueueWorker[Any, Any, Any, Any, Any]]:
        """As after a restart: with nothing in their memory."""
        db, new_id, leases = self.stage.db, self.market.new_id, Leases()
        stripe, random = self.stage.stripe, self.random
        return {
            "payouts": Payer(Payouts(db, new_id), stripe, POLICY, leases, random),
            "refunds": Refunder(RefundQueue(db), self.hyperswitch, leases, lambda: None),
            "reversals": Reverser(Reversals(db), stripe, POLICY, leases, random),
            "disputes": Disputer(Disputes(db, new_id, timedelta(0)), self.hyperswitch, leases, lambda: None),
        }

    # -- what people do ---------------------------------------------------------------------------------------------

    async def buy(self, lines: Sequence[tuple[int, int]], quantity: int) -> Order:
        """A paid order of lines (seller, price), at the provider and here."""
        products = [await self.market.product(self.sellers[seller].id, cents) for seller, cents in lines]
        order = await self.market.place(await self.market.user(), *products, quantity=quantity)
        claim = self.market.claim()
        due = await self.market.take(order, claim)
        await self.hyperswitch.open_payment(due)
        await self.at_hyperswitch(f"payments/{due.payment_id}/pay")
        payment = await self.hyperswitch.retrieve(due.payment_id)
        assert isinstance(payment, Payment)
        await self.market.payments.settle(due, claim.id, payment, payout_delay=timedelta(0), new_id=self.market.new_id)
        self.orders.append(order)
        return order

    async def refund(self, order: Order, by: str, wish: Wish, now: datetime) -> bool:
        """Whether it was taken on; refused is as good."""
        asker = {
            "buyer": Asker(order.buyer_id, False),
            "seller": Asker(order.items[0].seller_id, False),
            "admin": Asker(self.admin or UUID(int=0), True),
        }[by]
        try:
            await Refunds(self.stage.db, self.market.new_id, timedelta(days=14)).ask(
                order.id, asker, wish, reason="a test", details="", by=By(asker.user_id), now=now
            )
        except Refusal:
            return False
        return True

    async def dispute(self, order: Order, cents: int) -> None:
        path = f"payments/{order.payment.payment_id if order.payment else ''}/dispute"
        made = await self.at_hyperswitch(path, {"amount": cents})
        self.disputes.append(str(made["dispute_id"]))
        await self.tell_of_disputes()

    async def decide(self, dispute_id: str, how: str) -> None:
        seen = await self.hyperswitch_client_get(f"/disputes/{dispute_id}")
        if seen["dispute_status"] in ("dispute_opened", "dispute_challenged"):
            await self.at_hyperswitch(f"disputes/{dispute_id}/{how}")
        await self.tell_of_disputes()

    async def tell_of_disputes(self) -> None:
        """Its events come, again if need be, and in any order."""
        for dispute_id in self.disputes:
            seen = await self.hyperswitch_client_get(f"/disputes/{dispute_id}")
            payments = Payments(self.stage.db)
            await payments.receive(str(uuid4()), seen["dispute_status"], seen["payment_id"], None, dispute_id)

    async def end_refunds(self, how: str) -> None:
        """What the provider had still to do of refunds, it does."""
        for row in await self.stage.db.fetch("SELECT reference FROM refunds WHERE status = 'pending'"):
            async with self.stage.sandbox.hyperswitch_client() as client:
                seen = await client.get(f"/refunds/{row['reference']}")
            if seen.is_success and seen.json()["status"] in ("pending", "review"):
                await self.at_hyperswitch(f"refunds/{row['reference']}/{how}")

    async def spend(self, seller: Person) -> None:
        """Whatever they have at the payout provider is gone to their bank."""
        body = {"account": seller.account, "currency": "eur", "available": 0, "pending": 0}
        await self.stage.control.call("POST", "balance", body)

    async def pass_time(self) -> None:
        """What is due some day is due now, and no claim stands."""
        for sql in (
            "UPDATE transfers SET claimed_until = now() - interval '1 second' WHERE claim_id IS NOT NULL",
            "UPDATE transfers SET next_retry_at = now() WHERE next_retry_at IS NOT NULL",
            *(
                f"UPDATE {table} SET claimed_until = now(), due_at = now() WHERE due_at IS NOT NULL"  # noqa: S608
                for table in ("refunds", "refund_shares", "disputes")
            ),
        ):
            await self.market.run(sql)

    # -- what workers do --------------------------------------------------------------------------------------------

    async def work(self, queue: str, crash: Crash = Crash.NOWHERE, at_once: int = 4) -> int:
        """One batch of a queue, by a worker that was just started. Answers how many it claimed."""
        worker = self.workers()[queue]
        claims = await worker.claim(at_once, LEASE)
        if crash is Crash.BEFORE_THE_CALL:
            return len(claims)
        for claim in claims:
            question = worker.question(claim)
            outcome = await question(claim) if callable(question) else question
            if crash is Crash.BEFORE_THE_RECORD:
                continue
            decision = worker.decide(claim, outcome, claim.claimed_at)
            assert await worker.record(claim, outcome, decision) is not None
            if crash is Crash.NEVER_SURE:
                assert await worker.record(claim, outcome, decision) is None
        return len(claims)

    async def finish(self, rounds: int = 60) -> None:
        """Everything that is due gets done, until nothing is."""
        for _ in range(rounds):
            await self.pass_time()
            await self.market.run("UPDATE connect_accounts SET transfers_active = true")  # they are on board after all
            await Payouts(self.stage.db, self.market.new_id).release_onboarded()
            if not sum([await self.work(queue, at_once=50) for queue in self.workers()]):
                return
        raise AssertionError("something is due for ever")

    # -- what must hold ---------------------------------------------------------------------------------------------

    async def holds(self, *, at_the_provider: bool = False) -> None:
        findings = await Ledger(self.stage.db).verify(self.stage.stripe if at_the_provider else None)
        assert findings == []

    async def is_never_paid_above_what_is_due(self) -> None:
        """What a seller has from the payout provider, reversals taken off, is at most what they earned."""
        for seller in self.sellers:
            assert await self._has(seller) <= await self._sum(
                "SELECT sum(gross_cents - fee_cents) FROM earnings JOIN orders ON id = order_id"
                " WHERE seller_id = $1 AND paid_at IS NOT NULL",
                seller.id,
            )

    async def agrees_in_the_end(self) -> None:
        """Each seller has what they earned, less what was refunded, and what of that they still owe."""
        for seller in self.sellers:
            earned = await self._sum(
                "SELECT sum(gross_cents - fee_cents) FROM earnings JOIN orders ON id = order_id"
                " WHERE seller_id = $1 AND paid_at IS NOT NULL",
                seller.id,
            )
            returned = await self._sum(
                "SELECT sum(gross_cents - fee_cents) FROM refund_shares WHERE seller_id = $1 AND status <> 'void'",
                seller.id,
            )
            owed = await self._sum(
                "SELECT sum(gross_cents - fee_cents - withheld_cents - reversed_cents) FROM refund_shares"
                " WHERE seller_id = $1 AND status = 'owed'",
                seller.id,
            )
            assert await self._has(seller) == earned - returned + owed
        left = await self.stage.db.fetchval(
            "SELECT count(*) FROM refund_shares WHERE status IN ('open', 'waiting', 'reversing')"
        )
        assert left == 0

    async def gave_back_what_it_says(self) -> None:
        """What the payment provider gave back of each payment is what our refunds say, disputes left out."""
        for order in self.orders:
            payment_id = order.payment.payment_id if order.payment else ""
            payment = await self.hyperswitch_client_get(f"/payments/{payment_id}")
            given = sum(each["amount"] for each in payment["refunds"] or [] if each["status"] == "succeeded")
            assert given == await self._sum(
                "SELECT sum(amount_cents) FROM refunds"
                " WHERE order_id = $1 AND status = 'succeeded' AND origin <> 'dispute'",
                order.id,
            )

    async def _has(self, seller: Person) -> int:
        listed = await self.stage.stripe.transfers_to(seller.account)
        return sum(each.amount_cents - each.reversed_cents for each in listed)

    async def _sum(self, sql: str, *args: object) -> int:
        return int(await self.stage.db.fetchval(sql, *args) or 0)

    # -- the providers ----------------------------------------------------------------------------------------------

    async def at_hyperswitch(self, path: str, body: object = None) -> dict[str, Any]:
        return await self.stage.sandbox.hyperswitch_control.call("POST", path, body)

    async def hyperswitch_client_get(self, path: str) -> Any:
        async with self.stage.sandbox.hyperswitch_client() as client:
            return (await client.get(path)).raise_for_status().json()
