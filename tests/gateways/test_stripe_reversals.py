"""Reversals at the sandbox's Stripe over HTTP: every answer of the table, and what is there is had back once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
import trio

from tests.domain.test_attempts import NOW, TRANSFER
from tests.sandbox.running import STRIPE_KEY, Running, running_sandbox
from veza.domain.attempts import (
    Absent,
    Mismatch,
    NoFunds,
    Outcome,
    Paid,
    Refused,
    StoredError,
    Unauthorized,
    Unclear,
)
from veza.domain.payouts import Claim
from veza.domain.recovery import Reversal, ReversalClaim
from veza.gateways.stripe import Stripe

TIMEOUT = 0.5  # long against a loopback call, short against a test
REVERSALS = "/v1/transfers/:id/reversals"


@dataclass(frozen=True)
class Sent:
    """A transfer of 2699 that its seller has, and 1000 of it to be had back."""

    sandbox: Running
    stripe: Stripe
    account: str
    transfer_ref: str

    def claim(self, cents: int = 1000, epoch: int = 0, share: int = 7) -> ReversalClaim:
        reversal = Reversal(
            share_id=UUID(int=share),
            order_id=TRANSFER.order_id,
            seller_id=TRANSFER.seller_id,
            transfer_ref=self.transfer_ref,
            amount_cents=cents,
            currency="EUR",
            attempts=1,
            key_epoch=epoch,
            key_used_at=NOW,
            doubtful=False,
            absent_since=None,
        )
        return ReversalClaim(UUID(int=1), reversal, NOW)

    async def fault(self, kind: str, method: str = "POST") -> int:
        return await self.sandbox.stripe_control.fault(kind, method=method, path=REVERSALS)

    async def left(self) -> int:
        """What the seller has still."""
        return (await self.stripe.balance(self.account)).available


@pytest.fixture
async def sent(tmp_path: Path) -> AsyncIterator[Sent]:
    with trio.fail_after(30):
        async with (
            running_sandbox(tmp_path) as sandbox,
            Stripe.open(STRIPE_KEY, base=sandbox.stripe_url, timeout=TIMEOUT, currency="EUR") as stripe,
        ):
            account = await sandbox.stripe_control.account()
            paid = await stripe.transfer(Claim(TRANSFER.id, TRANSFER, account, NOW))
            assert isinstance(paid, Paid)
            yield Sent(sandbox, stripe, account, paid.external_ref)


async def test_a_reversal_is_asked_for_with_everything_it_is_found_by(sent: Sent) -> None:
    assert isinstance(await sent.stripe.reverse(sent.claim()), Paid)
    path = f"/v1/transfers/{sent.transfer_ref}/reversals"
    [asked] = await sent.sandbox.stripe_control.requests(method="POST", path=path)
    assert asked["idempotency_key"] == f"reversal:{UUID(int=7)}:0"
    assert asked["params"] == {
        "amount": "1000",
        "metadata": {"share_id": str(UUID(int=7)), "order_id": str(TRANSFER.order_id)},
    }
    assert await sent.left() == 1699


async def test_the_same_key_has_it_back_once(sent: Sent) -> None:
    assert await sent.stripe.reverse(sent.claim()) == await sent.stripe.reverse(sent.claim())
    assert await sent.left() == 1699


ANSWERS: list[tuple[str, type[Outcome]]] = [
    ("drop_before", Unclear),
    ("commit_then_drop", Unclear),
    ("409", Unclear),
    ("429", Unclear),
    ("503", Unclear),
    ("500", Unclear),
    ("500_committed", Unclear),
    ("garbage", Unclear),
    ("hang_before", Unclear),
    ("401", Unauthorized),
    ("balance_insufficient", NoFunds),
]


async def test_each_answer_is_the_outcome_it_stands_for(sent: Sent) -> None:
    for share, (fault, outcome) in enumerate(ANSWERS):
        await sent.fault(fault)
        assert isinstance(await sent.stripe.reverse(sent.claim(1, share=share)), outcome), fault


@pytest.mark.parametrize("fault", ["drop_before", "commit_then_drop", "429", "503", "garbage", "hang_after"])
async def test_after_what_was_unclear_the_same_key_has_it_back_exactly_once(sent: Sent, fault: str) -> None:
    await sent.fault(fault)
    assert isinstance(await sent.stripe.reverse(sent.claim()), Unclear)
    assert isinstance(await sent.stripe.reverse(sent.claim()), Paid)
    assert await sent.left() == 1699


@pytest.mark.parametrize(("fault", "found", "left"), [("500", Absent, 2699), ("500_committed", Paid, 1699)])
async def test_a_stored_error_is_known_by_its_replay_and_settled_by_a_look(
    sent: Sent, fault: str, found: type[Outcome], left: int
) -> None:
    await sent.fault(fault)
    await sent.stripe.reverse(sent.claim())
    assert isinstance(await sent.stripe.reverse(sent.claim()), StoredError)
    assert isinstance(await sent.stripe.look_for_reversal(sent.claim()), found)
    assert await sent.left() == left


async def test_what_a_seller_has_spent_is_refused_and_stays_so_under_its_key(sent: Sent) -> None:
    spent = {"currency": "eur", "available": 999, "account": sent.account, "event": False}
    await sent.sandbox.stripe_control.call("POST", "balance", spent)
    refused = await sent.stripe.reverse(sent.claim())
    assert isinstance(refused, NoFunds)
    assert not refused.stored
    await sent.sandbox.stripe_control.call("POST", "balance", spent | {"available": 1000})
    replayed = await sent.stripe.reverse(sent.claim())
    assert isinstance(replayed, NoFunds)
    assert replayed.stored
    assert isinstance(await sent.stripe.reverse(sent.claim(epoch=1)), Paid)
    assert await sent.left() == 0


async def test_more_than_is_left_of_the_transfer_is_refused(sent: Sent) -> None:
    assert isinstance(await sent.stripe.reverse(sent.claim(2700)), Refused)
    assert isinstance(await sent.stripe.reverse(sent.claim(2000, share=8)), Paid)
    assert isinstance(await sent.stripe.reverse(sent.claim(700, share=9)), Refused)
    assert isinstance(await sent.stripe.reverse(sent.claim(699, share=10)), Paid)
    assert isinstance(await sent.stripe.reverse(sent.claim(1, share=11)), Refused)
    assert await sent.left() == 0


async def test_a_transfer_that_the_provider_does_not_know_is_refused_and_looking_finds_nothing_out(sent: Sent) -> None:
    claim = sent.claim()
    lost = replace(claim, reversal=replace(claim.reversal, transfer_ref="tr_lost"))
    assert isinstance(await sent.stripe.reverse(lost), Refused)
    assert isinstance(await sent.stripe.look_for_reversal(lost), Unclear)


async def test_a_key_that_asked_for_something_else_is_looked_into_rather_than_left(sent: Sent) -> None:
    await sent.stripe.reverse(sent.claim())
    assert isinstance(await sent.stripe.reverse(sent.claim(999)), StoredError)
    assert isinstance(await sent.stripe.look_for_reversal(sent.claim(999)), Mismatch)


async def test_a_look_adopts_its_own_reversal_and_no_other(sent: Sent) -> None:
    assert await sent.stripe.look_for_reversal(sent.claim()) == Absent()
    await sent.stripe.reverse(sent.claim(share=8))
    assert await sent.stripe.look_for_reversal(sent.claim()) == Absent(), "of the same amount, for another refund"
    made = await sent.stripe.reverse(sent.claim())
    assert await sent.stripe.look_for_reversal(sent.claim()) == made


async def test_a_look_goes_through_all_the_pages(sent: Sent) -> None:
    made = await sent.stripe.reverse(sent.claim(1))
    for share in range(100, 201):
        assert isinstance(await sent.stripe.reverse(sent.claim(1, share=share)), Paid)
    assert await sent.stripe.look_for_reversal(sent.claim(1)) == made


@pytest.mark.parametrize(
    ("fault", "outcome"), [("503", Unclear), ("429", Unclear), ("hang_before", Unclear), ("401", Unauthorized)]
)
async def test_a_look_that_is_not_answered_finds_nothing_out(sent: Sent, fault: str, outcome: type[Outcome]) -> None:
    await sent.fault(fault, "GET")
    assert isinstance(await sent.stripe.look_for_reversal(sent.claim()), outcome)
