"""A whole process stopped (SIGSTOP) past its leases, as a machine that swaps or is suspended would."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.faults.stage import Stage, brought_about, until

pytestmark = pytest.mark.slow


async def test_what_a_process_frozen_in_its_calls_learns_too_late_is_not_recorded(stage: Stage) -> None:
    """Three calls are out when it freezes. Its claims lapse, another process takes them over and ends them; thawed, it
    is told: that one was made, that one was made only while it slept, that one failed.
    """
    with trio.fail_after(60):
        made, made_late, failed = transfers = [await stage.due() for _ in range(3)]
        hangs = [
            await stage.fault(kind, of=transfer)
            for kind, transfer in (("hang_after", made), ("hang_before", made_late), ("hang_before", failed))
        ]

        async def all_hang() -> bool:
            return all([await stage.hanging(hang) for hang in hangs])

        async def keys_are_in_use() -> bool:
            return all([(0, 409) in await stage.asked(transfer) for transfer in (made_late, failed)])

        async with stage.serving() as frozen:
            await brought_about(frozen, partial(until, all_hang))
            frozen.freeze()
            await stage.let_claims_lapse()
            async with stage.serving() as rescuer:
                await brought_about(rescuer, partial(until, partial(stage.completed, made)))
                await brought_about(rescuer, partial(until, keys_are_in_use))
                await stage.control.release(hangs[0])
                await stage.control.release(hangs[1])
                await stage.control.call("DELETE", f"faults/{hangs[2]}")
                await brought_about(rescuer, partial(until, partial(stage.completed, *transfers)))
            before = [await stage.transfer(transfer) for transfer in transfers]
            frozen.thaw()
            frozen.terminate()  # it ends what it has in hand before it leaves
            assert await frozen.process.wait() == 0
            assert frozen.logged("transfer_paid") == []
            assert frozen.logged("transfer_to_retry") == []
        assert [await stage.transfer(transfer) for transfer in transfers] == before
        for transfer in transfers:
            unended, *_, last = await stage.attempts(transfer)
            assert (unended, last) == (None, "Paid")
            assert set(await stage.epochs(transfer)) == {0}
        await stage.assert_paid_once(*transfers)


async def test_a_process_frozen_between_its_claim_and_its_call_does_not_call_under_that_claim(stage: Stage) -> None:
    with trio.fail_after(60):
        transfer = await stage.due()
        patience = {"provider_timeout_seconds": 5, "transfer_claim_seconds": 16}  # a call may begin for one second
        async with stage.serving(**patience) as frozen:
            with stage.gate("IMMEDIATE", "INSERT ON transfer_attempts"):
                await brought_about(frozen, partial(until, stage.blocked))
                frozen.freeze()
            await until(partial(stage.claiming_for, 1.5))
            assert await stage.asked(transfer) == []
            frozen.thaw()
            await brought_about(frozen, partial(until, partial(stage.completed, transfer)))
        assert await stage.attempts(transfer) == ["Interrupted", "Paid"]
        assert (await stage.transfer(transfer)).attempts == 1
        assert await stage.epochs(transfer) == [0]
        await stage.assert_paid_once(transfer)
