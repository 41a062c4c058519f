"""kill -9 of the whole process at each step between a claim and its recorded result, and at random moments.

A dead process's claims are found by their lease. The tests let it lapse rather than wait for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from random import Random
from uuid import UUID

import pytest
import trio

from tests.faults.stage import Stage, brought_about, until
from tests.processes import program, veza
from veza.domain.payouts import TransferStatus

pytestmark = [pytest.mark.slow, pytest.mark.long]

PENDING, PROCESSING, COMPLETED = TransferStatus.PENDING, TransferStatus.PROCESSING, TransferStatus.COMPLETED

Reached = Callable[[], Awaitable[object]]
Step = Callable[[Stage, UUID], AbstractAsyncContextManager[Reached]]

# -- the steps: each holds the process up where it is to be killed, and lets go of what it held on leaving -------------


@asynccontextmanager
async def before_the_claim_is_committed(stage: Stage, _: UUID) -> AsyncIterator[Reached]:
    with stage.gate("IMMEDIATE", "INSERT ON transfer_attempts"):
        yield partial(until, stage.blocked)


@asynccontextmanager
async def while_the_claim_is_committed(stage: Stage, _: UUID) -> AsyncIterator[Reached]:
    with stage.gate("DEFERRED", "INSERT ON transfer_attempts"):
        yield partial(until, stage.blocked)


@asynccontextmanager
async def before_the_call_has_any_effect(stage: Stage, _: UUID) -> AsyncIterator[Reached]:
    hang = await stage.fault("hang_before")
    yield partial(until, partial(stage.hanging, hang))
    await stage.control.call("DELETE", f"faults/{hang}")  # it never has one


@asynccontextmanager
async def before_the_answer_is_delivered(stage: Stage, _: UUID) -> AsyncIterator[Reached]:
    hang = await stage.fault("hang_after")
    yield partial(until, partial(stage.hanging, hang))
    await stage.control.release(hang)


@asynccontextmanager
async def before_the_record_is_begun(stage: Stage, transfer: UUID) -> AsyncIterator[Reached]:
    hang = await stage.fault("hang_after")
    with stage.locking() as session:

        async def reached() -> None:
            await until(partial(stage.hanging, hang))
            session.execute("SELECT FROM transfers WHERE id = %s FOR UPDATE", [transfer])
            await stage.control.release(hang)
            await until(stage.blocked)

        yield reached


@asynccontextmanager
async def before_the_record_is_committed(stage: Stage, _: UUID) -> AsyncIterator[Reached]:
    with stage.gate("IMMEDIATE", "INSERT ON entries"):
        yield partial(until, stage.blocked)


@asynccontextmanager
async def while_the_record_is_committed(stage: Stage, _: UUID) -> AsyncIterator[Reached]:
    with stage.gate("DEFERRED", "INSERT ON entries"):
        yield partial(until, stage.blocked)


@asynccontextmanager
async def after_the_record(stage: Stage, transfer: UUID) -> AsyncIterator[Reached]:
    yield partial(until, partial(stage.completed, transfer))


# Each step, what the transfer may be found as, and how many the provider has by then. A commit may have come through
# or not when nobody is left to be told of it.
STEPS: dict[Step, tuple[set[TransferStatus], int]] = {
    before_the_claim_is_committed: ({PENDING}, 0),
    while_the_claim_is_committed: ({PENDING, PROCESSING}, 0),
    before_the_call_has_any_effect: ({PROCESSING}, 0),
    before_the_answer_is_delivered: ({PROCESSING}, 1),
    before_the_record_is_begun: ({PROCESSING}, 1),
    before_the_record_is_committed: ({PROCESSING}, 1),
    while_the_record_is_committed: ({PROCESSING, COMPLETED}, 1),
    after_the_record: ({COMPLETED}, 1),
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_a_kill_at_any_step_neither_loses_nor_doubles_a_transfer(stage: Stage, step: Step) -> None:
    with trio.fail_after(60):
        transfer = await stage.due()
        async with step(stage, transfer) as reached, stage.serving() as first:
            await brought_about(first, reached)
            await first.kill()
        await until(stage.quiet)
        found, asked = (await stage.transfer(transfer)).status, await stage.epochs(transfer)
        allowed, made = STEPS[step]
        assert (found in allowed, len(await stage.at_provider(transfer))) == (True, made)
        await stage.let_claims_lapse()
        another = await stage.due()  # once it is paid too, the new process has seen what there was
        async with stage.serving() as second:
            await brought_about(second, partial(until, partial(stage.completed, transfer, another)))
        assert await stage.epochs(transfer) == ([*asked] if found is COMPLETED else [*asked, 0])
        await stage.assert_paid_once(transfer, another)


async def test_a_call_that_takes_effect_after_its_process_was_killed_is_the_only_one(stage: Stage) -> None:
    with trio.fail_after(60):
        transfer = await stage.due()
        hang = await stage.fault("hang_before")
        async with stage.serving() as first:
            await brought_about(first, partial(until, partial(stage.hanging, hang)))
            await first.kill()
        await stage.let_claims_lapse()

        async def key_is_in_use() -> bool:
            return (0, 409) in await stage.asked(transfer)

        async with stage.serving() as second:
            await brought_about(second, partial(until, key_is_in_use))
            await stage.assert_unpaid(transfer)
            await stage.control.release(hang)
            await brought_about(second, partial(until, partial(stage.completed, transfer)))
        assert set(await stage.epochs(transfer)) == {0}
        await stage.assert_paid_once(transfer)


KILLS = 8


async def test_kills_at_random_moments_leave_each_of_many_transfers_paid_once(stage: Stage) -> None:
    random = Random(88)
    with trio.fail_after(120):
        sellers = [await stage.seller() for _ in range(5)]
        transfers = [await stage.sales.sale(random.choice(sellers).id, random.randint(2, 9999)) for _ in range(120)]
        for transfer in transfers:  # calls of every age are out at any moment, and more wait for their turn
            kind, seconds = random.choice(["slow", "hang_after"]), random.uniform(0, 0.2)
            await stage.fault(kind, times=None, seconds=seconds, of=transfer)
        for _ in range(KILLS):
            moment = await stage.ended() + random.randint(0, 16)

            async def has_come(moment: int = moment) -> bool:
                return await stage.ended() >= moment and await stage.in_hand() > 0

            async with stage.serving() as started:
                await brought_about(started, partial(until, has_come))
                await started.kill()
            assert await stage.in_hand() > 0
            await stage.let_claims_lapse()
        async with stage.serving() as last:
            await brought_about(last, partial(until, partial(stage.completed, *transfers)))
        await stage.assert_paid_once(*transfers)
        assert await stage.keys() == {f"{transfer}:0" for transfer in transfers}
        assert await verified_from_the_command_line(stage)


async def verified_from_the_command_line(stage: Stage) -> bool:
    async with program(*veza("ledger", "verify"), environment=stage.environment(), cwd=stage.directory) as checking:
        return await checking.process.wait() == 0
