"""The Hyperswitch stand-in's disputes over real HTTP: opened and moved by control, asked for by the merchant."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.running import Running, receiving, running_sandbox
from tests.sandbox.test_hyperswitch import CARD, PAY_ID, create, refused

OUTCOMES = {
    "win": "dispute_won",
    "lose": "dispute_lost",
    "accept": "dispute_accepted",
    "expire": "dispute_expired",
    "cancel": "dispute_cancelled",
}


@pytest.fixture
async def client(sandbox: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox.hyperswitch_client() as opened:
        yield opened


async def control(sandbox: Running, path: str, body: object = None) -> httpx.Response:
    """A control request whose refusal is what is looked at."""
    async with httpx.AsyncClient() as curl:
        return await curl.post(f"{sandbox.hyperswitch_url}/sandbox/{path}", json=body)


async def dispute(sandbox: Running, client: httpx.AsyncClient, **options: object) -> dict[str, Any]:
    """A dispute on a fresh captured payment."""
    await create(client, confirm=True, **CARD)
    return await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/dispute", options)


async def told(sandbox: Running) -> list[str]:
    return [delivery["event_type"] for delivery in await sandbox.hyperswitch_control.deliveries()]


async def test_a_dispute_is_of_the_whole_payment_unless_told_otherwise(
    sandbox: Running, client: httpx.AsyncClient
) -> None:
    whole = await dispute(sandbox, client)
    assert (whole["payment_id"], whole["attempt_id"]) == (PAY_ID, f"{PAY_ID}_1")
    assert (whole["amount"], whole["currency"]) == ("2999", "EUR")
    assert (whole["dispute_stage"], whole["dispute_status"]) == ("dispute", "dispute_opened")
    assert whole["challenge_required_by"] > whole["created_at"]
    answer = await control(sandbox, f"payments/{PAY_ID}/dispute", {"amount": 1000, "reason": "product_not_received"})
    part = answer.json()
    assert answer.status_code == 201
    assert (part["amount"], part["connector_reason"]) == ("1000", "product_not_received")
    assert part["dispute_id"] != whole["dispute_id"]
    for opened in (whole, part):
        assert (await client.get(f"/disputes/{opened['dispute_id']}")).json() == opened


async def test_a_payment_lists_its_disputes_and_keeps_its_status(sandbox: Running, client: httpx.AsyncClient) -> None:
    assert (await create(client))["disputes"] is None
    await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/pay")
    opened = [
        await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/dispute", {"amount": amount})
        for amount in (1000, 1999)
    ]
    await sandbox.hyperswitch_control.call("POST", f"disputes/{opened[1]['dispute_id']}/lose")
    seen = (await client.get(f"/payments/{PAY_ID}")).json()
    assert [(each["dispute_id"], each["dispute_status"]) for each in seen["disputes"]] == [
        (opened[0]["dispute_id"], "dispute_opened"),
        (opened[1]["dispute_id"], "dispute_lost"),
    ]
    assert (seen["status"], seen["amount_received"]) == ("succeeded", 2999)


async def test_an_unknown_dispute_is_he_04_and_a_stranger_is_ir_01(sandbox: Running, client: httpx.AsyncClient) -> None:
    opened = await dispute(sandbox, client)
    assert refused(await client.get("/disputes/dp_none"), 404, "HE_04")
    async with sandbox.hyperswitch_client(key="wrong") as stranger:
        assert refused(await stranger.get(f"/disputes/{opened['dispute_id']}"), 401, "IR_01")
    secret = (await client.get(f"/payments/{PAY_ID}")).json()["client_secret"]
    async with sandbox.hyperswitch_client(key="pk_anything") as buyer:
        asked = await buyer.get(f"/disputes/{opened['dispute_id']}", params={"client_secret": secret})
        assert refused(asked, 401, "IR_01")


async def test_only_a_captured_payment_can_be_disputed(sandbox: Running, client: httpx.AsyncClient) -> None:
    await create(client)
    assert (await control(sandbox, f"payments/{PAY_ID}/dispute")).status_code == 409
    assert (await control(sandbox, "payments/pay_none/dispute")).status_code == 404
    assert await told(sandbox) == []


@pytest.mark.parametrize("wrong", [{"amount": 3000}, {"amount": 0}, {"amount": "1"}, {"amount": True}, {"reason": 1}])
async def test_a_dispute_that_makes_no_sense_is_refused_and_leaves_nothing(
    sandbox: Running, client: httpx.AsyncClient, wrong: dict[str, object]
) -> None:
    await create(client, confirm=True, **CARD)
    assert (await control(sandbox, f"payments/{PAY_ID}/dispute", wrong)).status_code == 400
    assert (await client.get(f"/payments/{PAY_ID}")).json()["disputes"] is None
    assert await told(sandbox) == ["payment_succeeded"]


@pytest.mark.parametrize("first", [[], ["challenge"]], ids=["opened", "challenged"])
@pytest.mark.parametrize(("action", "status"), OUTCOMES.items())
async def test_an_undecided_dispute_comes_to_an_end_and_stays_there(
    sandbox: Running, client: httpx.AsyncClient, first: list[str], action: str, status: str
) -> None:
    opened = await dispute(sandbox, client)
    path, times = f"disputes/{opened['dispute_id']}", [opened["connector_updated_at"]]
    for step in [*first, action]:
        moved = await sandbox.hyperswitch_control.call("POST", f"{path}/{step}")
        times.append(moved["connector_updated_at"])
    assert (moved["dispute_status"], moved["created_at"]) == (status, opened["created_at"])
    assert times == sorted(set(times))
    assert (await client.get(f"/{path}")).json() == moved
    for late in ("challenge", *OUTCOMES):
        assert (await control(sandbox, f"{path}/{late}")).status_code == 409
    challenged = ["dispute_challenged"] * len(first)
    assert await told(sandbox) == ["payment_succeeded", "dispute_opened", *challenged, status]


async def test_an_unknown_dispute_or_move_is_not_found(sandbox: Running, client: httpx.AsyncClient) -> None:
    opened = await dispute(sandbox, client)
    assert (await control(sandbox, "disputes/dp_none/win")).status_code == 404
    assert (await control(sandbox, f"disputes/{opened['dispute_id']}/forget")).status_code == 404
    assert (await client.get(f"/disputes/{opened['dispute_id']}")).json() == opened


async def test_a_dispute_nobody_is_told_of_is_found_by_asking(sandbox: Running, client: httpx.AsyncClient) -> None:
    silent = await dispute(sandbox, client, webhook=False)
    path = f"disputes/{silent['dispute_id']}"
    await sandbox.hyperswitch_control.call("POST", f"{path}/lose", {"webhook": False})
    assert (await client.get(f"/{path}", params={"force_sync": "true"})).json()["dispute_status"] == "dispute_lost"
    assert await told(sandbox) == ["payment_succeeded"]


async def test_a_disputes_event_is_signed_and_carries_the_dispute(sandbox: Running, client: httpx.AsyncClient) -> None:
    opened = await dispute(sandbox, client, webhook=False)
    async with receiving() as receiver:
        await sandbox.hyperswitch_control.call("POST", "webhooks", {"url": receiver.url, "paused": True})
        won = await sandbox.hyperswitch_control.call("POST", f"disputes/{opened['dispute_id']}/win")
        await sandbox.hyperswitch_control.call("POST", "webhooks", {"paused": False})
        received = [(json.loads(got.body), got) for got in await receiver.wait_for(2)]
    key = sandbox.config.hyperswitch_webhook_secret.encode()
    for _, got in received:
        assert got.headers["x-webhook-signature-512"] == hmac.new(key, got.body, hashlib.sha512).hexdigest()
    (event,) = [event for event, _ in received if event["event_type"] != "payment_succeeded"]
    assert (event["event_type"], event["content"]) == ("dispute_won", {"type": "dispute_details", "object": won})


async def test_asking_for_a_dispute_meets_faults(sandbox: Running, client: httpx.AsyncClient) -> None:
    opened = await dispute(sandbox, client)
    path = f"/disputes/{opened['dispute_id']}"
    await sandbox.hyperswitch_control.fault("drop_before", path="/disputes/:id")
    await sandbox.hyperswitch_control.fault("500", path="/disputes/:id")
    hanging = await sandbox.hyperswitch_control.fault("hang_before", path=path, seconds=0)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(path)
    assert refused(await client.get(path), 500, "HE_00")
    assert (await client.get(path)).json() == opened
    (fault,) = [each for each in await sandbox.hyperswitch_control.faults() if each["id"] == hanging]
    assert fault["fired"] == 1
    logged = await sandbox.hyperswitch_control.requests(path=path)
    assert [line["status"] for line in logged] == ["dropped", 500, 200]


async def test_a_dispute_outlives_a_restart(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as before, before.hyperswitch_client() as client:
        opened = await dispute(before, client)
    async with running_sandbox(tmp_path) as after, after.hyperswitch_client() as client:
        assert (await client.get(f"/disputes/{opened['dispute_id']}")).json() == opened
