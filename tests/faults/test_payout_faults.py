"""Whatever the provider does to a payout, the seller is paid once and the ledger agrees; or it is said why not."""

from __future__ import annotations

from random import Random

import pytest
import trio

from tests.faults.stage import Stage, until, working
from veza.actors import onboarding
from veza.domain.connect import ProviderEvent
from veza.domain.payouts import HoldReason, TransferStatus

COMPLETED, FAILED, HELD = TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.HELD

# What goes wrong, and the epochs of the keys under which the provider was asked until it was paid.
ONCE = [
    ("commit_then_drop", [0, 0]),  # replayed
    ("drop_before", [0, 0]),
    ("409", [0, 0]),
    ("429", [0, 0]),
    ("503", [0, 0]),
    ("garbage", [0, 0]),  # replayed, and legible now
    ("500_committed", [0, 0]),  # replayed: but a look finds what came of it
]


@pytest.mark.parametrize(("kind", "epochs"), ONCE)
async def test_a_fault_of_the_provider_ends_in_one_transfer(stage: Stage, kind: str, epochs: list[int]) -> None:
    with trio.fail_after(20):
        transfer = await stage.due()
        await stage.fault(kind)
        async with working(stage) as worker:
            await worker.until(transfer, COMPLETED)
        assert await stage.epochs(transfer) == epochs
        await stage.assert_paid_once(transfer)


async def test_a_stored_error_is_asked_about_anew_once_two_looks_apart_have_found_nothing(stage: Stage) -> None:
    with trio.fail_after(20):
        transfer = await stage.due()
        await stage.fault("500")
        async with working(stage, transfer_ambiguity_seconds=1) as worker:
            await worker.until(transfer, COMPLETED)
        assert await stage.epochs(transfer) == [0, 0, 1]
        looks = [line["at"] for line in await stage.control.requests(method="GET", path="/v1/transfers")]
        assert looks[-1] - looks[0] > 0.9  # of the second between what they are answered
        await stage.assert_paid_once(transfer)


@pytest.mark.parametrize("kind", ["hang_before", "hang_after"])
async def test_a_hang_past_the_timeout_ends_in_one_transfer(stage: Stage, kind: str) -> None:
    with trio.fail_after(20):
        transfer = await stage.due()
        hang = await stage.fault(kind)
        async with working(stage, provider_timeout_seconds=0.5) as worker:
            await worker.until(transfer, FAILED, hurry=False)
            assert (await stage.transfer(transfer)).failure_code == "timeout"
            await stage.control.release(hang)
            await worker.until(transfer, COMPLETED)
        assert set(await stage.epochs(transfer)) == {0}
        await stage.assert_paid_once(transfer)


async def test_while_the_first_call_hangs_the_key_is_in_use_and_waits_for_it(stage: Stage) -> None:
    with trio.fail_after(20):
        transfer = await stage.due()
        hang = await stage.fault("hang_before")

        async def in_use() -> bool:
            await worker.hurry()
            return (0, 409) in await stage.asked(transfer)

        async with working(stage, provider_timeout_seconds=0.5) as worker:
            await until(in_use)
            await stage.assert_unpaid(transfer)
            await stage.control.release(hang)
            await worker.until(transfer, COMPLETED)
        assert set(await stage.epochs(transfer)) == {0}
        await stage.assert_paid_once(transfer)


# -- answers that are about the transfer -------------------------------------------------------------------------------


async def test_without_funds_it_is_held_uncounted_and_paid_once_there_are_some(stage: Stage) -> None:
    with trio.fail_after(20):
        transfer = await stage.due()
        await stage.fund(2698)
        async with working(stage) as worker:
            while len(await stage.asked(transfer)) < 3:  # by its probes, each second
                await worker.until(transfer, HELD, hurry=False)
                await worker.hurry()
            held = await worker.until(transfer, HELD, hurry=False)
            assert (held.hold_reason, held.attempts) == (HoldReason.AWAITING_FUNDS, 0)
            await stage.assert_unpaid(transfer)
            await stage.fund(2699)
            await worker.until(transfer, COMPLETED)
        epochs = await stage.epochs(transfer)
        assert epochs == list(range(len(epochs))), "a stored no would be replayed: each probe asks anew"
        await stage.assert_paid_once(transfer)


@pytest.mark.parametrize("cause", ["funds", "capability", "revoked", "unknown"])
async def test_an_admins_retry_pays_it_once_the_cause_is_gone(stage: Stage, cause: str) -> None:
    with trio.fail_after(20):
        seller = await stage.seller()
        transfer = await stage.sales.sale(seller.id)
        await spoil(stage, cause, seller.account)
        async with working(stage, funds_probe_seconds=3600) as worker:
            why = await worker.until(transfer, HELD, FAILED, hurry=False)
            assert await stage.epochs(transfer) == [0]
            await stage.assert_unpaid(transfer)
            assert (why.status, why.failure_code) == STANDS[cause]
            assert why.next_retry_at is None or why.status is HELD
            still = await worker.retry(transfer)
            assert (still.status, still.failure_code) == STANDS[cause], "the cause is still there"
            await stage.assert_unpaid(transfer)
            await mend(stage, cause, seller.account)
            assert (await worker.retry(transfer)).status is COMPLETED
        assert await stage.epochs(transfer) == [0, 1, 2]
        await stage.assert_paid_once(transfer)


async def test_a_no_after_an_answer_that_was_lost_pays_nothing_a_second_time(stage: Stage) -> None:
    """Said before the provider looks at the key, it proves nothing about what was done under it."""
    with trio.fail_after(20):
        transfer = await stage.due()
        await stage.fault("commit_then_drop")
        await stage.fault("400")
        async with working(stage) as worker:
            stands = await worker.until(transfer, FAILED)
            assert (stands.failure_code, stands.key_epoch, stands.doubtful) == ("resource_missing", 0, True)
            assert (await worker.retry(transfer)).status is COMPLETED
        await stage.assert_paid_once(transfer)


async def test_a_key_that_lacks_a_permission_stops_the_payouts_and_condemns_nothing(stage: Stage) -> None:
    with trio.fail_after(20):
        transfer = await stage.due()
        await stage.fault("403")
        async with working(stage) as worker:
            await until(lambda: stage.asked(transfer))
            waiting = await worker.until(transfer, TransferStatus.PENDING, hurry=False)
            assert (waiting.failure_code, waiting.attempts, waiting.key_epoch) == ("unauthorized", 0, 0)
            assert worker.ref.snapshot is not None
            assert worker.ref.snapshot.stopped_because is not None
        await stage.assert_unpaid(transfer)


STANDS = {
    "funds": (HELD, "awaiting_funds"),
    "capability": (HELD, "not_onboarded"),
    "revoked": (FAILED, "account_invalid"),
    "unknown": (FAILED, "resource_missing"),
}


async def spoil(stage: Stage, cause: str, account: str) -> None:
    match cause:
        case "funds":
            await stage.fund(0)
        case "capability":
            await stage.control.call("POST", f"accounts/{account}", {"transfers": "inactive"})
        case "revoked":
            await stage.control.call("POST", f"accounts/{account}", {"revoked": True})
        case _:
            await rename(stage, account, "acct_nobody")


async def mend(stage: Stage, cause: str, account: str) -> None:
    match cause:
        case "funds":
            await stage.fund(2699)
        case "capability":
            await stage.control.call("POST", f"accounts/{account}", {"transfers": "active"})
        case "revoked":
            await stage.control.call("POST", f"accounts/{account}", {"revoked": False})
        case _:
            await rename(stage, "acct_nobody", account)


async def rename(stage: Stage, old: str, new: str) -> None:
    async with stage.db.transaction() as tx:
        await tx.execute("UPDATE connect_accounts SET account_id = $2 WHERE account_id = $1", old, new)


async def test_what_is_given_up_is_not_asked_for_again_and_holds_up_nobody(stage: Stage) -> None:
    with trio.fail_after(20):
        seller = await stage.seller()
        dead = await stage.sales.sale(seller.id)
        await rename(stage, seller.account, "acct_nobody")
        async with working(stage) as worker:
            given_up = await worker.until(dead, FAILED)
            assert (given_up.failure_code, given_up.next_retry_at) == ("resource_missing", None)
            others = [await stage.due() for _ in range(3)]
            for other in others:
                await worker.until(other, COMPLETED)
        assert await stage.epochs(dead) == [0]
        await stage.assert_paid_once(*others)


async def test_a_seller_that_lost_and_regained_the_capability_is_paid_without_anyones_doing(stage: Stage) -> None:
    with trio.fail_after(20):
        seller = await stage.seller()
        transfer = await stage.sales.sale(seller.id)
        await spoil(stage, "capability", seller.account)
        async with working(stage) as worker:
            await worker.until(transfer, HELD)
            await mend(stage, "capability", seller.account)
            parts = worker.home.parts
            await parts.connect.note(ProviderEvent("evt_1", "account.updated", seller.account, seller.account))
            onboarding.ring(parts.refs.onboarding)
            await worker.until(transfer, COMPLETED)
        assert await stage.epochs(transfer) == [0, 1]
        await stage.assert_paid_once(transfer)


async def test_a_refused_key_stops_all_payouts_and_a_start_with_a_good_one_pays_them(stage: Stage) -> None:
    with trio.fail_after(20):
        transfers = [await stage.due() for _ in range(20)]
        refused = await stage.fault("401", times=None)
        async with working(stage) as worker:

            async def stopped() -> bool:
                view = worker.ref.snapshot
                return view is not None and view.stopped_because is not None and not view.in_hand

            await until(stopped)
            assert {(await stage.transfer(each)).status for each in transfers} == {TransferStatus.PENDING}
        await stage.control.call("DELETE", f"faults/{refused}")
        async with working(stage) as worker:
            for transfer in transfers:
                paid = await worker.until(transfer, COMPLETED)
                assert (paid.attempts, set(await stage.epochs(transfer))) == (1, {0})
        await stage.assert_paid_once(*transfers)


@pytest.mark.parametrize("cause", ["funds", "capability", "revoked", "unknown"])
async def test_a_stored_refusal_whose_answer_was_lost_is_learned_from_its_replay(stage: Stage, cause: str) -> None:
    """By then its cause is gone; what is replayed is the old no. Only a new key gets a new answer."""
    with trio.fail_after(20):
        seller = await stage.seller()
        transfer = await stage.sales.sale(seller.id)
        await spoil(stage, cause, seller.account)
        await stage.fault("commit_then_drop")
        async with working(stage, funds_probe_seconds=3600) as worker:
            await worker.until(transfer, FAILED, hurry=False)
            await mend(stage, cause, seller.account)
            await worker.hurry()

            async def learned() -> bool:
                now = await stage.transfer(transfer)
                return (now.status, now.failure_code) == STANDS[cause]

            await until(learned)
            assert await stage.epochs(transfer) == [0, 0]
            await stage.assert_unpaid(transfer)
            assert (await worker.retry(transfer)).status is COMPLETED
        assert await stage.epochs(transfer) == [0, 0, 1]
        await stage.assert_paid_once(transfer)


# -- a whole storm -----------------------------------------------------------------------------------------------------

STORM = ["commit_then_drop", "drop_before", "409", "429", "500", "500_committed", "503", "garbage"]
STORM += ["balance_insufficient", "hang_after"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_faults_over_many_sellers_ends_in_one_transfer_each(stage: Stage, seed: int) -> None:
    random = Random(seed)
    with trio.fail_after(120):  # some 3 s on a quiet machine: each of our timeouts under load is a fault more
        sellers = [await stage.seller() for _ in range(5)]
        transfers = [await stage.sales.sale(random.choice(sellers).id, random.randint(2, 9999)) for _ in range(40)]
        for transfer in transfers:
            for kind in random.choices(STORM, k=random.randint(0, 3)):
                await stage.fault(kind, seconds=2, of=transfer)
        async with working(stage, provider_timeout_seconds=1, transfer_retry_max_attempts=50) as worker:
            for transfer in transfers:
                await worker.until(transfer, COMPLETED)
        await stage.assert_paid_once(*transfers)
