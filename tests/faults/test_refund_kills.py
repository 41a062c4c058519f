"""kill -9 of the whole process at random moments while orders are refunded and sellers' shares had back.

A dead process's claims are found by their lease. The test lets it lapse rather than wait for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from uuid import UUID

import pytest
import trio

from tests.faults.stage import Stage, brought_about, until, working
from tests.processes import Program, program, veza
from tests.store.refunding import Till
from veza.domain.payouts import TransferStatus

pytestmark = pytest.mark.slow

ORDERS, KILLS = 30, 4

IN_HAND = "SELECT (SELECT count(claim_id) FROM refunds) + (SELECT count(claim_id) FROM refund_shares)"
ENDED = """
SELECT (SELECT count(*) FROM refunds WHERE status = 'succeeded')
    + (SELECT count(*) FROM refund_shares WHERE status = 'settled')
"""
LAPSE = (
    "UPDATE refunds SET claimed_until = now(), due_at = now() WHERE claim_id IS NOT NULL",
    "UPDATE refund_shares SET claimed_until = now(), due_at = now() WHERE claim_id IS NOT NULL",
    "UPDATE transfers SET claimed_until = now() WHERE claim_id IS NOT NULL",
)
HURRY = (
    "UPDATE refunds SET due_at = now() WHERE due_at > now() AND claim_id IS NULL",
    "UPDATE refund_shares SET due_at = now() WHERE due_at > now() AND claim_id IS NULL",
    "UPDATE transfers SET next_retry_at = now() WHERE next_retry_at > now()",
)


@asynccontextmanager
async def serving(stage: Stage) -> AsyncIterator[Program]:
    """A `veza serve` of its own, which takes money too."""
    environment = stage.environment() | {
        "HYPERSWITCH_BASE_URL": stage.sandbox.hyperswitch_url,
        "HYPERSWITCH_API_KEY": stage.sandbox.config.hyperswitch_api_key,
    }
    async with program(*veza("serve"), environment=environment, cwd=stage.directory) as started:
        yield started


async def run(stage: Stage, statements: tuple[str, ...]) -> None:
    async with stage.db.transaction() as tx:
        for sql in statements:
            await tx.execute(sql)


async def paid_for(stage: Stage, transfer_id: UUID) -> None:
    """Have the payment of a transfer's order succeed at its provider."""
    row = await stage.db.fetchrow(
        "SELECT payment_id, total_cents FROM orders WHERE id = (SELECT order_id FROM transfers WHERE id = $1)",
        transfer_id,
    )
    assert row is not None
    async with stage.sandbox.hyperswitch_client() as provider:
        body = {"payment_id": row["payment_id"], "amount": row["total_cents"], "currency": "EUR"}
        (await provider.post("/payments", json=body)).raise_for_status()
    await stage.sandbox.hyperswitch_control.call("POST", f"payments/{row['payment_id']}/pay", {"webhook": False})


async def sold(stage: Stage, random: Random) -> list[UUID]:
    """Sales of a few sellers: two in three of them are paid out, one is not yet."""
    sellers = [await stage.seller() for _ in range(4)]
    transfers = [await stage.sales.sale(random.choice(sellers).id, random.randint(500, 9999)) for _ in range(ORDERS)]
    for transfer_id in transfers:
        await paid_for(stage, transfer_id)
    for transfer_id in transfers[::3]:
        await stage.sales.change(transfer_id, "next_retry_at = now() + interval '1 hour'")
    async with working(stage) as worker:
        for transfer_id in transfers:
            if transfer_id not in transfers[::3]:
                await worker.until(transfer_id, TransferStatus.COMPLETED, hurry=False)
    return transfers


async def hurt(stage: Stage, random: Random) -> None:
    """Calls of every age are out at any moment, and some answers are lost."""
    for kind in ("slow", "slow", "hang_after", "commit_then_drop", "500_committed", "slow") * 5:
        seconds = random.uniform(0, 0.3)
        await stage.sandbox.hyperswitch_control.fault(kind, times=1, seconds=seconds, method="POST", path="/refunds")
        await stage.control.fault(kind, times=1, seconds=seconds, method="POST", path="/v1/transfers/:id/reversals")


async def given_back(stage: Stage, payment_id: str) -> list[int]:
    async with stage.sandbox.hyperswitch_client() as provider:
        payment = (await provider.get(f"/payments/{payment_id}")).raise_for_status().json()
    return [refund["amount"] for refund in payment["refunds"] or []]


async def assert_done_once(stage: Stage) -> None:
    """Each refund is one at its provider, and each share came back from its seller once, or was never sent."""
    rows = await stage.db.fetch(
        "SELECT o.payment_id, r.amount_cents, s.gross_cents - s.fee_cents AS net, s.reversed_cents, s.status, t.id,"
        " t.external_ref FROM refunds r JOIN orders o ON o.id = r.order_id JOIN refund_shares s ON s.refund_id = r.id"
        " JOIN transfers t ON t.order_id = o.id"
    )
    assert len(rows) == ORDERS
    for row in rows:
        assert await given_back(stage, row["payment_id"]) == [row["amount_cents"]]
        made: list[dict[str, Any]] = await stage.at_provider(row["id"])
        assert [(each["id"], each["amount_reversed"]) for each in made] == (
            [(row["external_ref"], row["reversed_cents"])] if row["external_ref"] else []
        )
        assert row["status"] == "settled"
        assert row["reversed_cents"] in (0, row["net"])
    assert sum(row["reversed_cents"] > 0 for row in rows) >= ORDERS * 2 / 3
    numbers = await stage.db.fetch("SELECT right(credit_note_number, 6)::int AS number FROM refunds ORDER BY 1")
    assert [row["number"] for row in numbers] == list(range(1, ORDERS + 1))
    await stage.assert_verified()


async def test_kills_at_random_moments_leave_each_of_many_orders_refunded_once(stage: Stage) -> None:
    random = Random(89)
    with trio.fail_after(120):
        transfers = await sold(stage, random)
        till = await Till.open(stage.db, stage.sales)
        for number, transfer_id in enumerate(transfers):
            await till.ask(transfer_id, None if number % 2 else random.randint(1, 500))
        await run(stage, ("UPDATE transfers SET next_retry_at = now() WHERE next_retry_at IS NOT NULL",))
        await hurt(stage, random)
        for _ in range(KILLS):
            moment = await stage.db.fetchval(ENDED) + random.randint(0, 10)

            async def has_come(moment: int = moment) -> bool:
                await run(stage, HURRY)
                return bool(await stage.db.fetchval(ENDED) >= moment and await stage.db.fetchval(IN_HAND) > 0)

            async with serving(stage) as started:
                await brought_about(started, lambda: until(has_come))
                await started.kill()
            await until(stage.quiet)
            assert await stage.db.fetchval(IN_HAND) > 0
            await run(stage, LAPSE)

        async def all_is_done() -> bool:
            await run(stage, HURRY)
            return bool(await stage.db.fetchval(ENDED) == 2 * ORDERS) and await nothing_to_send(stage)

        async with serving(stage) as last:
            await brought_about(last, lambda: until(all_is_done))
        await assert_done_once(stage)


async def nothing_to_send(stage: Stage) -> bool:
    left = "SELECT count(*) FROM transfers WHERE status NOT IN ('completed', 'reversed')"
    return bool(await stage.db.fetchval(left) == 0)
