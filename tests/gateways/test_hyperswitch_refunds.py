"""Refunds at the sandbox's Hyperswitch over HTTP: whatever happens to an answer, the money goes back once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import trio

from tests.gateways.test_hyperswitch import an_order, answering, client, mint
from tests.sandbox.running import Running, running_sandbox
from veza.domain.payments import DueOrder, KeyRefused, NoAnswer, Payment
from veza.domain.refund_attempts import (
    NotReturned,
    RefundClaim,
    RefundOutcome,
    Returned,
    Underway,
)
from veza.gateways.hyperswitch import Hyperswitch

PATIENCE = 20.0  # where no test is about it: long enough for any pause of a busy machine
TIMEOUT = 0.5  # where one is: short against a test
REFUNDS = "/refunds"


@dataclass(frozen=True)
class Counter:
    """Where money is given back: a provider, a payment that succeeded, and what is asked for of it."""

    sandbox: Running
    hyperswitch: Hyperswitch
    order: DueOrder
    claim: RefundClaim

    async def refund(self, asked: int = 1) -> RefundOutcome:
        return await self.hyperswitch.refund(replace(self.claim, asked=asked))

    async def fault(self, kind: str, method: str = "POST", times: int = 1) -> int:
        return await self.sandbox.hyperswitch_control.fault(kind, method=method, path=f"{REFUNDS}*", times=times)

    async def settle(self, action: str) -> None:
        await self.sandbox.hyperswitch_control.call("POST", f"refunds/{self.claim.reference}/{action}", {})

    async def asked(self, method: str) -> int:
        requests = await self.sandbox.hyperswitch_control.requests(method=method)
        return sum(each["path"].startswith(REFUNDS) for each in requests)

    async def given_back(self) -> list[int]:
        """The amount of each refund that the provider has of the payment, failed ones apart."""
        async with self.sandbox.hyperswitch_client() as provider:
            payment = (await provider.get(f"/payments/{self.order.payment_id}")).raise_for_status().json()
        return [each["amount"] for each in payment["refunds"] or [] if each["status"] != "failed"]


def a_claim(order: DueOrder, cents: int = 2000) -> RefundClaim:
    return RefundClaim(mint(), mint(), order.payment_id, cents, "EUR", 1, datetime.now(UTC))


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    with trio.fail_after(30):
        async with running_sandbox(tmp_path) as sandbox, client(sandbox, timeout=PATIENCE) as hyperswitch:
            order = an_order()
            assert isinstance(await hyperswitch.open_payment(order), Payment)
            await sandbox.hyperswitch_control.call("POST", f"payments/{order.payment_id}/pay", {})
            yield Counter(sandbox, hyperswitch, order, a_claim(order))


async def test_a_refund_is_asked_for_with_everything_it_is_found_by(counter: Counter) -> None:
    assert await counter.refund() == Returned()
    [sent] = await counter.sandbox.hyperswitch_control.requests(method="POST", path=REFUNDS)
    assert sent["params"] == {
        "refund_id": counter.claim.reference,
        "payment_id": counter.order.payment_id,
        "amount": 2000,
        "metadata": {"refund_id": str(counter.claim.refund_id)},
    }
    assert len(counter.claim.reference) == 30
    assert await counter.given_back() == [2000]


@pytest.mark.parametrize("kind", ["commit_then_drop", "500_committed", "garbage", "hang_after"])
async def test_a_refund_that_was_made_although_its_answer_was_lost_is_found(counter: Counter, kind: str) -> None:
    await counter.fault(kind)
    # Only for an answer that does not come at all it matters how long one waits.
    async with client(counter.sandbox, timeout=TIMEOUT if kind == "hang_after" else PATIENCE) as first:
        assert isinstance(await first.refund(counter.claim), NoAnswer)
    assert await counter.refund(asked=2) == Returned()
    assert (await counter.given_back(), await counter.asked("POST")) == ([2000], 1)


@pytest.mark.parametrize("kind", ["drop_before", "500", "503", "429"])
async def test_a_refund_that_was_not_made_is_asked_for_again(counter: Counter, kind: str) -> None:
    await counter.fault(kind)
    assert isinstance(await counter.refund(), NoAnswer)
    assert await counter.given_back() == []
    assert await counter.refund(asked=2) == Returned()
    assert await counter.given_back() == [2000]


async def test_a_call_that_takes_effect_late_is_the_only_one(counter: Counter) -> None:
    hang = await counter.fault("hang_before")
    async with client(counter.sandbox, timeout=TIMEOUT) as hurried:
        assert await hurried.refund(counter.claim) == NoAnswer(f"not within {TIMEOUT:g} s")
    assert await counter.refund(asked=2) == Returned()
    await counter.sandbox.hyperswitch_control.release(hang)
    assert await counter.refund(asked=3) == Returned()
    assert await counter.given_back() == [2000]


async def test_one_that_was_cut_short_is_found_though_it_counts_as_never_asked_for(counter: Counter) -> None:
    await counter.fault("commit_then_drop")
    await counter.refund()
    assert await counter.refund() == Returned(), "a duplicate is no refusal"
    assert await counter.given_back() == [2000]


async def test_however_many_ask_at_once_it_goes_back_once(counter: Counter) -> None:
    outcomes: list[RefundOutcome] = []

    async def ask(number: int) -> None:
        outcomes.append(await counter.refund(asked=1 + number % 2))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
    assert outcomes == [Returned()] * 10
    assert await counter.given_back() == [2000]


async def test_a_key_that_is_not_taken_is_told_apart(counter: Counter) -> None:
    for method, asked in (("POST", 1), ("GET", 2)):
        await counter.fault("401", method)
        assert isinstance(await counter.refund(asked), KeyRefused)
    async with client(counter.sandbox, key="wrong") as stranger:
        assert isinstance(await stranger.refund(counter.claim), KeyRefused)
    assert await counter.given_back() == []


# -- a no, and not yet -------------------------------------------------------------------------------------------------


async def test_more_than_is_left_does_not_go_back(counter: Counter) -> None:
    assert await counter.refund() == Returned()
    refused = await counter.hyperswitch.refund(a_claim(counter.order, 1000))
    assert isinstance(refused, NotReturned)
    assert (refused.code, bool(refused.message)) == ("IR_13", True)
    assert await counter.given_back() == [2000]


async def test_what_was_never_paid_does_not_go_back(counter: Counter) -> None:
    unpaid = an_order()
    assert isinstance(await counter.hyperswitch.refund(a_claim(unpaid)), NotReturned)
    await counter.hyperswitch.open_payment(unpaid)
    refused = await counter.hyperswitch.refund(a_claim(unpaid))
    assert isinstance(refused, NotReturned)
    assert refused.code == "IR_14"


async def test_a_no_is_not_believed_until_it_was_looked_into(counter: Counter) -> None:
    too_much = replace(counter.claim, amount_cents=3000)
    await counter.fault("503", "GET", times=2)
    assert isinstance(await counter.hyperswitch.refund(too_much), NoAnswer)
    assert isinstance(await counter.hyperswitch.refund(replace(too_much, asked=2)), NoAnswer)
    assert await counter.asked("POST") == 1, "without a look nothing is asked for a second time"
    assert isinstance(await counter.hyperswitch.refund(replace(too_much, asked=3)), NotReturned)


@pytest.mark.parametrize("kind", ["refund_pending", "refund_review"])
async def test_one_under_way_is_known_once_it_is_settled(counter: Counter, kind: str) -> None:
    await counter.fault(kind)
    assert await counter.refund() == Underway()
    assert await counter.refund(asked=2) == Underway()
    await counter.settle("succeed")
    assert await counter.refund(asked=3) == Returned()
    assert (await counter.given_back(), await counter.asked("POST")) == ([2000], 1)


async def test_one_under_way_may_fail_in_the_end(counter: Counter) -> None:
    await counter.fault("refund_pending")
    assert await counter.refund() == Underway()
    await counter.settle("fail")
    failed = NotReturned("refund_failed", "The connector could not refund")
    assert await counter.refund(asked=2) == failed
    assert await counter.refund(asked=1) == failed


async def test_one_that_fails_at_once_is_told_so_and_another_may_follow(counter: Counter) -> None:
    await counter.fault("refund_failed")
    assert isinstance(await counter.refund(), NotReturned)
    assert await counter.hyperswitch.refund(a_claim(counter.order, 2999)) == Returned()
    assert await counter.given_back() == [2999]


async def test_a_refund_ends_with_its_timeout_whatever_it_takes(counter: Counter) -> None:
    """Two calls it would be, each of which takes less."""
    await counter.sandbox.hyperswitch_control.fault("slow", path=f"{REFUNDS}*", times=None, seconds=TIMEOUT * 0.9)
    async with client(counter.sandbox, timeout=TIMEOUT) as hurried:
        began = trio.current_time()
        assert await hurried.refund(replace(counter.claim, asked=2)) == NoAnswer(f"not within {TIMEOUT:g} s")
        assert trio.current_time() - began < TIMEOUT * 1.7


# -- what the sandbox never says ---------------------------------------------------------------------------------------

CLAIM = RefundClaim(UUID(int=1), UUID(int=2), "pay_1", 2000, "EUR", 2, datetime.now(UTC))
REFUND = {"refund_id": CLAIM.reference, "status": "succeeded", "amount": 2000, "currency": "EUR"}


async def test_a_refund_found_as_it_was_asked_for_is_ours() -> None:
    assert await answering(200, REFUND | {"more": "than we read"}).refund(CLAIM) == Returned()
    assert await answering(200, REFUND | {"currency": "eur"}).refund(CLAIM) == Returned()
    assert await answering(200, REFUND | {"status": "on_the_moon"}).refund(CLAIM) == Underway()
    assert await answering(200, REFUND | {"status": "failed"}).refund(CLAIM) == NotReturned("failed", "")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, REFUND | {"refund_id": "ref_2"}),
        (200, REFUND | {"amount": 1999}),
        (200, REFUND | {"currency": "USD"}),
        (200, REFUND | {"status": "failed", "amount": 1999}),
        (200, REFUND | {"error_message": "a\0"}),
        (200, {"refund_id": CLAIM.reference}),
        (200, b"\xff"),
        (302, {}),
        (400, {"error": {"code": "IR_06", "message": "a no to looking"}}),
        (404, b"<html>a proxy's</html>"),
    ],
)
async def test_an_answer_that_is_not_about_our_refund_is_no_answer(status: int, body: object) -> None:
    assert isinstance(await answering(status, body).refund(CLAIM), NoAnswer)
