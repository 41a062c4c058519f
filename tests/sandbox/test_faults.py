"""Scripted faults: each does what it says, to the request it names, as often as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
import trio

from tests.sandbox.running import STRIPE_KEY, STRIPE_WARNING, Running, config_in, listen, pay_out
from tests.sandbox.test_idempotency import listed
from tests.sandbox.test_stripe import code_of
from veza.sandbox.stripe import stripe_app

pytestmark = pytest.mark.filterwarnings(STRIPE_WARNING)


async def test_commit_then_drop_closes_the_connection_and_keeps_the_transfer(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("commit_then_drop", method="POST", path="/v1/transfers")
    with pytest.raises(stripe.APIConnectionError) as dropped:
        await pay_out(client, account, key="k:0")
    assert isinstance(dropped.value.__cause__, httpx.RemoteProtocolError)
    assert "without sending a response" in str(dropped.value.__cause__)
    there = await listed(sandbox)
    assert len(there) == 1
    assert (await pay_out(client, account, key="k:0")).id == there[0]


async def test_where_the_socket_is_out_of_reach_a_drop_is_a_truncated_answer(tmp_path: Path) -> None:
    app, stop = stripe_app(config_in(tmp_path)), trio.Event()

    async def layered(scope: Any, receive: Any, send: Any) -> None:
        async def hidden(event: Any) -> None:
            await send(event)

        await app(scope, receive, hidden)

    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(headers={"Authorization": f"Bearer {STRIPE_KEY}"}) as client,
    ):
        url = await listen(nursery, layered, stop)
        await client.post(f"{url}/sandbox/faults", json={"kind": "drop_before"})
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{url}/v1/balance")
        stop.set()


async def test_drop_before_closes_the_connection_and_makes_nothing(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("drop_before", path="/v1/transfers")
    with pytest.raises(stripe.APIConnectionError):
        await pay_out(client, account, key="k:0")
    assert await listed(sandbox) == []


@pytest.mark.parametrize(
    ("kind", "error", "status", "code"),
    [
        ("401", stripe.AuthenticationError, 401, None),
        ("409", stripe.APIError, 409, "idempotency_key_in_use"),
        ("429", stripe.RateLimitError, 429, "rate_limit"),
        ("500", stripe.APIError, 500, None),
        ("503", stripe.APIError, 503, None),
        ("balance_insufficient", stripe.InvalidRequestError, 400, "balance_insufficient"),
        ("account_unknown", stripe.InvalidRequestError, 400, "resource_missing"),
        ("account_invalid", stripe.PermissionError, 403, "account_invalid"),
        ("insufficient_capabilities", stripe.InvalidRequestError, 400, "insufficient_capabilities_for_transfer"),
    ],
)
async def test_a_scripted_refusal_has_stripes_status_and_code(
    sandbox: Running, kind: str, error: type[stripe.StripeError], status: int, code: str | None
) -> None:
    account = await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault(kind)
    with pytest.raises(error) as refused:
        await pay_out(sandbox.stripe_client(), account)
    assert (refused.value.http_status, code_of(refused.value)) == (status, code)
    assert await listed(sandbox) == []


async def test_a_request_hanging_after_its_effect_outlives_its_client(sandbox: Running) -> None:
    account = await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("hang_after", path="/v1/transfers")
    with pytest.raises(stripe.APIConnectionError):
        await pay_out(sandbox.stripe_client(timeout=0.1), account, key="k:0")
    there = await listed(sandbox)
    again = await pay_out(sandbox.stripe_client(), account, key="k:0")
    assert there == [again.id]


async def test_a_request_hanging_before_its_effect_comes_through_after_its_client_has_gone(sandbox: Running) -> None:
    account = await sandbox.stripe_control.account()
    hang = await sandbox.stripe_control.fault("hang_before", path="/v1/transfers")
    with pytest.raises(stripe.APIConnectionError):
        await pay_out(sandbox.stripe_client(timeout=0.1), account, key="k:0")
    assert await listed(sandbox) == []
    await sandbox.stripe_control.release(hang)
    with trio.fail_after(5):
        while not await listed(sandbox):
            await trio.lowlevel.checkpoint()


async def test_deleting_a_fault_abandons_what_hangs_before_its_effect(sandbox: Running) -> None:
    account = await sandbox.stripe_control.account()
    hang = await sandbox.stripe_control.fault("hang_before", path="/v1/transfers")

    async def dropped() -> None:
        with pytest.raises(stripe.APIConnectionError):
            await pay_out(sandbox.stripe_client(), account)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dropped)
        await sandbox.stripe_control.wait_hanging(hang)
        await sandbox.stripe_control.call("DELETE", f"faults/{hang}")
    assert await listed(sandbox) == []


async def test_a_garbage_body_follows_a_real_effect(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("garbage", path="/v1/transfers")
    with pytest.raises(stripe.APIError, match="Invalid response body"):
        await pay_out(client, account)
    assert len(await listed(sandbox)) == 1


async def test_a_slow_answer_takes_the_seconds_it_was_given(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("slow", seconds=0.1)
    began = trio.current_time()
    await pay_out(client, account)
    assert trio.current_time() - began >= 0.1


async def test_a_fault_takes_only_what_it_matches_and_only_so_often(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("429", times=2, transfer_group="unlucky", idempotency_key="k:*")
    assert await pay_out(client, account, group="lucky", key="k:9")
    for number in range(2):
        with pytest.raises(stripe.RateLimitError):
            await pay_out(client, account, group="unlucky", key=f"k:{number}")
    assert await pay_out(client, account, group="unlucky", key="k:0")
    (fault,) = await sandbox.stripe_control.faults()
    assert (fault["fired"], fault["left"]) == (2, 0)


async def test_faults_are_taken_in_the_order_they_were_written(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    script = [{"kind": "500", "match": {"path": "/v1/transfers"}}, {"kind": "429", "match": {"path": "/v1/transfers"}}]
    await sandbox.stripe_control.call("POST", "faults", script)
    for key, status in (("k:0", 500), ("k:0", 429), ("k:0", 500), ("k:1", 200)):
        answer = 200
        try:
            await pay_out(client, account, key=key)
        except stripe.StripeError as error:
            answer = error.http_status or 0
        assert answer == status


async def test_a_fault_nobody_could_play_is_refused(sandbox: Running) -> None:
    async with httpx.AsyncClient() as client:
        for bad in ({"kind": "meteor"}, {"kind": "429", "time": 2}, {"kind": "429", "match": {"paths": "*"}}):
            answer = await client.post(f"{sandbox.stripe_url}/sandbox/faults", json=bad)
            assert answer.status_code == 400
        answer = await client.post(f"{sandbox.hyperswitch_url}/sandbox/faults", json={"kind": "balance_insufficient"})
        assert answer.status_code == 400
    assert await sandbox.stripe_control.faults() == []


async def test_requests_are_logged_with_key_status_and_fault(sandbox: Running) -> None:
    client, account = sandbox.stripe_client(), await sandbox.stripe_control.account()
    await sandbox.stripe_control.fault("commit_then_drop")
    with pytest.raises(stripe.APIConnectionError):
        await pay_out(client, account, key="k:0")
    await pay_out(client, account, key="k:0")
    logged = await sandbox.stripe_control.requests(idempotency_key="k:0")
    assert [(line["status"], line["fault"]) for line in logged] == [("dropped", "commit_then_drop"), (200, None)]


async def test_hyperswitch_meets_faults_too(sandbox: Running) -> None:
    body = {"amount": 100, "currency": "EUR", "payment_id": "pay_0000000000000000000000000a"}
    await sandbox.hyperswitch_control.fault("commit_then_drop", path="/payments", payment_id=body["payment_id"])
    await sandbox.hyperswitch_control.fault("500", path="/payments/:id")
    async with sandbox.hyperswitch_client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/payments", json=body)
        failed = await client.get(f"/payments/{body['payment_id']}")
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "HE_00")
        assert (await client.get(f"/payments/{body['payment_id']}")).json()["amount"] == 100
