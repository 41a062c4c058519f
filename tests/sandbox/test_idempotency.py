"""Stripe's idempotency keys, as a payout relies on them."""

from __future__ import annotations

import pytest
import stripe
import trio

from tests.sandbox.running import STRIPE_WARNING, Running, pay_out
from tests.sandbox.test_stripe import code_of

pytestmark = pytest.mark.filterwarnings(STRIPE_WARNING)


async def listed(sandbox: Running) -> list[str]:
    return [t.id for t in (await sandbox.stripe_client().v1.transfers.list_async()).data]


async def test_the_same_key_and_parameters_replay_the_first_answer(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    first = await pay_out(client, account, key="k:0")
    again = await pay_out(client, account, key="k:0")
    assert again.id == first.id
    assert await listed(sandbox) == [first.id]
    fresh, replayed = first.last_response, again.last_response
    assert fresh is not None
    assert replayed is not None
    assert "idempotent-replayed" not in fresh.headers
    assert replayed.headers["idempotent-replayed"] == "true"
    assert replayed.headers["original-request"] == fresh.request_id


async def test_the_same_key_with_other_parameters_is_an_idempotency_error(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await pay_out(client, account, key="k:0")
    with pytest.raises(stripe.IdempotencyError) as refused:
        await pay_out(client, account, key="k:0", amount=1)
    assert refused.value.http_status == 400
    assert len(await listed(sandbox)) == 1


async def test_a_refusal_after_the_endpoint_began_is_stored_and_replayed(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.call("POST", "balance", {"currency": "eur", "available": 0})
    with pytest.raises(stripe.InvalidRequestError):
        await pay_out(client, account, key="k:0")
    await sandbox.stripe_control.call("POST", "balance", {"currency": "eur", "available": 10_000})
    with pytest.raises(stripe.InvalidRequestError) as replayed:
        await pay_out(client, account, key="k:0")
    assert replayed.value.code == "balance_insufficient"
    assert replayed.value.headers is not None
    assert replayed.value.headers["idempotent-replayed"] == "true"
    assert (await pay_out(client, account, key="k:1")).amount == 2699


async def test_a_stored_500_is_replayed_and_made_nothing(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("500", path="/v1/transfers")
    for expected in (None, "true"):
        with pytest.raises(stripe.APIError) as failed:
            await pay_out(client, account, key="k:0")
        assert failed.value.http_status == 500
        assert failed.value.headers is not None
        assert failed.value.headers.get("idempotent-replayed") == expected
    assert await listed(sandbox) == []


async def test_a_500_after_the_effect_is_replayed_while_the_transfer_exists(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("500_committed", path="/v1/transfers")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await pay_out(client, account, key="k:0")
    assert len(await listed(sandbox)) == 1


@pytest.mark.parametrize("kind", ["401", "409", "429", "503", "drop_before"])
async def test_what_came_before_the_endpoint_began_is_not_stored(sandbox: Running, kind: str) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault(kind)
    with pytest.raises(stripe.StripeError):
        await pay_out(client, account, key="k:0")
    made = await pay_out(client, account, key="k:0")
    assert await listed(sandbox) == [made.id]


async def test_a_validation_failure_is_not_stored(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    with pytest.raises(stripe.InvalidRequestError):
        await pay_out(client, account, key="k:0", currency="euros")
    assert (await pay_out(client, account, key="k:0")).currency == "eur"


async def test_a_key_whose_request_is_still_running_is_in_use(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    hang = await sandbox.stripe_control.fault("hang_before", idempotency_key="k:0")
    made: list[stripe.Transfer] = []

    async def first() -> None:
        made.append(await pay_out(client, account, key="k:0"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await sandbox.stripe_control.wait_hanging(hang)
        with pytest.raises(stripe.APIError) as refused:
            await pay_out(client, account, key="k:0")
        assert (refused.value.http_status, code_of(refused.value)) == (409, "idempotency_key_in_use")
        await sandbox.stripe_control.release(hang)
    assert await listed(sandbox) == [made[0].id]


async def test_twenty_at_once_under_one_key_make_one_transfer(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    ids: list[str] = []

    async def one() -> None:
        ids.append((await pay_out(client, account, key="k:0")).id)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert await listed(sandbox) == list(set(ids))
