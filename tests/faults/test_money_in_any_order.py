"""Sales, refunds in parts, disputes, payouts and reversals in any order, with faults in them and crashes between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server
from tests.faults.stage import open_stage
from tests.faults.till import Crash, Till
from veza.domain.refunds import (
    Amount,
    Pieces,
    Whole,
    Wish,
)
from veza.gateways.hyperswitch import Hyperswitch
from veza.store.bridge import Database

# What can go wrong at each provider, and what money it can lose or double if it is misread.
STRIPE_FAULTS = (
    "commit_then_drop",
    "drop_before",
    "500",
    "500_committed",
    "429",
    "409",
    "garbage",
    "balance_insufficient",
    "insufficient_capabilities",
)
REFUND_FAULTS = (
    "commit_then_drop",
    "drop_before",
    "500",
    "500_committed",
    "429",
    "garbage",
    "refund_pending",
    "refund_failed",
    "refund_review",
)


@dataclass(frozen=True)
class Buy:
    lines: tuple[tuple[int, int], ...]
    quantity: int

    async def take(self, till: Till) -> None:
        await till.buy(self.lines, self.quantity)


@dataclass(frozen=True)
class Refund:
    which: int
    by: str
    how: str
    part: int

    async def take(self, till: Till) -> None:
        if not till.orders:
            return
        order = till.orders[self.which % len(till.orders)]
        wishes: dict[str, Wish] = {
            "whole": Whole(),
            "pieces": Pieces({order.items[self.part % len(order.items)].id: 1}),
            "amount": Amount(1 + self.part * 37 % order.total_cents),
        }
        await till.refund(order, self.by, wishes[self.how], datetime.now(UTC))


@dataclass(frozen=True)
class Dispute:
    which: int
    percent: int

    async def take(self, till: Till) -> None:
        if till.orders:
            order = till.orders[self.which % len(till.orders)]
            await till.dispute(order, max(order.total_cents * self.percent // 100, 1))


@dataclass(frozen=True)
class Decide:
    which: int
    how: str

    async def take(self, till: Till) -> None:
        if till.disputes:
            await till.decide(till.disputes[self.which % len(till.disputes)], self.how)


@dataclass(frozen=True)
class Work:
    queue: str
    fault: str | None
    crash: Crash

    async def take(self, till: Till) -> None:
        control, kinds = till.stage.control, STRIPE_FAULTS
        if self.queue in ("refunds", "disputes"):
            control, kinds = till.stage.sandbox.hyperswitch_control, REFUND_FAULTS
        if self.fault in kinds:
            await control.fault(self.fault, method="GET" if self.queue == "disputes" else "POST")
        await till.work(self.queue, self.crash)
        await control.call("DELETE", "faults")


@dataclass(frozen=True)
class Spend:
    seller: int

    async def take(self, till: Till) -> None:
        await till.spend(till.sellers[self.seller])


@dataclass(frozen=True)
class PassTime:
    async def take(self, till: Till) -> None:
        await till.pass_time()


@dataclass(frozen=True)
class EndRefunds:
    how: str

    async def take(self, till: Till) -> None:
        await till.end_refunds(self.how)


SELLER = st.integers(0, 1)
BUY = st.builds(
    Buy, st.lists(st.tuples(SELLER, st.integers(1, 5000)), min_size=1, max_size=3).map(tuple), st.integers(1, 3)
)
WHICH, PERCENT = st.integers(0, 9), st.integers(1, 100)
QUEUES = ("payouts", "refunds", "reversals", "disputes")
Step = Buy | Refund | Dispute | Decide | Work | Spend | PassTime | EndRefunds
STEP = st.one_of(
    BUY,
    st.builds(
        Refund,
        WHICH,
        st.sampled_from(("buyer", "seller", "admin")),
        st.sampled_from(("whole", "pieces", "amount")),
        PERCENT,
    ),
    st.builds(Dispute, WHICH, PERCENT),
    st.builds(Decide, WHICH, st.sampled_from(("win", "lose", "accept", "cancel"))),
    *[
        st.builds(
            Work,
            st.sampled_from(QUEUES),
            st.none() | st.sampled_from(sorted({*STRIPE_FAULTS, *REFUND_FAULTS})),
            st.sampled_from(Crash),
        )
    ]
    * 4,
    st.builds(Spend, SELLER),
    st.builds(PassTime),
    st.builds(EndRefunds, st.sampled_from(("succeed", "fail"))),
)


@asynccontextmanager
async def open_till(postgres: Server, directory: Path) -> AsyncIterator[Till]:
    """A till of its own for one example."""
    name = postgres.create()
    dsn = postgres.named(name)
    async with Database.open(dsn) as db, open_stage(dsn, db, directory / name) as stage:
        url, key = stage.sandbox.hyperswitch_url, stage.sandbox.config.hyperswitch_api_key
        async with Hyperswitch.open(url, key, timeout=5, return_url="http://127.0.0.1") as hyperswitch:
            yield await Till.open(stage, hyperswitch)
    postgres.drop(name)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, min_size=4, max_size=24))
async def test_in_any_order_no_invariant_breaks_and_in_the_end_the_providers_agree(
    postgres: Server,
    tmp_path: Path,
    steps: list[Buy | Refund | Dispute | Decide | Work | Spend | PassTime | EndRefunds],
) -> None:
    with trio.fail_after(60):
        async with open_till(postgres, tmp_path) as till:
            await till.buy(((0, 2999), (1, 1000)), 1)
            for step in steps:
                await step.take(till)
                await till.holds()
                if isinstance(step, Work):
                    await till.is_never_paid_above_what_is_due()
            await till.end_refunds("succeed")
            for dispute_id in till.disputes:
                await till.decide(dispute_id, "lose")
            await till.finish()
            await till.holds(at_the_provider=True)
            await till.agrees_in_the_end()
            await till.gave_back_what_it_says()
