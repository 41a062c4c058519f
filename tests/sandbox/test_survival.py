"""What the sandbox acknowledged is there after a restart, and after its own kill -9."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import stripe
import trio

from tests.sandbox.running import STRIPE_KEY, STRIPE_WARNING, close, pay_out, running_sandbox
from veza.sandbox.config import SandboxConfig, SandboxRefused

pytestmark = pytest.mark.filterwarnings(STRIPE_WARNING)


async def test_accounts_transfers_keys_and_balances_outlive_a_restart(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as before:
        account = await before.stripe_control.account()
        made = await pay_out(before.stripe_client(), account, key="k:0")
    async with running_sandbox(tmp_path) as after:
        client = after.stripe_client()
        again = await pay_out(client, account, key="k:0")
        assert again.id == made.id
        assert again.last_response is not None
        assert again.last_response.headers["idempotent-replayed"] == "true"
        theirs = await client.v1.balance.retrieve_async(options={"stripe_account": account})
        assert theirs.available[0].amount == made.amount


@asynccontextmanager
async def process(state_dir: Path) -> AsyncIterator[tuple[trio.Process, str]]:
    command = [sys.executable, "-m", "tests.sandbox.server_process", str(state_dir)]
    server = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        async with server.stdout as output:
            with trio.fail_after(20):
                url = (await output.receive_some()).decode().strip()
            yield server, url
    finally:
        server.kill()
        await server.wait()


def client_for(url: str, http: stripe.HTTPXClient) -> stripe.StripeClient:
    return stripe.StripeClient(STRIPE_KEY, base_addresses={"api": url}, http_client=http, max_network_retries=0)


async def test_a_kill_in_the_middle_loses_no_acknowledged_transfer_and_doubles_none(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    http = stripe.HTTPXClient(timeout=5)
    async with process(tmp_path) as (server, url):
        async with httpx.AsyncClient() as plain:
            account = str((await plain.post(f"{url}/sandbox/accounts", json={})).json()["id"])
            for kind, keys in (("hang_before", "k4?:0"), ("hang_after", "k5?:0")):
                fault = {"kind": kind, "times": None, "match": {"idempotency_key": keys}}
                assert (await plain.post(f"{url}/sandbox/faults", json=fault)).status_code == 201

        async def pay(number: int) -> None:
            try:
                made = await pay_out(client_for(url, http), account, amount=1, group=f"t{number}", key=f"k{number}:0")
            except stripe.APIConnectionError:
                return
            acknowledged[f"t{number}"] = made.id
            if len(acknowledged) == 20:
                server.kill()

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(pay, number)
    assert 20 <= len(acknowledged) <= 40  # ten hang before their effect, ten after it
    async with process(tmp_path) as (_, url):
        client = client_for(url, http)
        for number in range(60):
            again = await pay_out(client, account, amount=1, group=f"t{number}", key=f"k{number}:0")
            assert acknowledged.get(f"t{number}", again.id) == again.id
        listed = await client.v1.transfers.list_async({"limit": 100})
        assert sorted(str(t.transfer_group) for t in listed.data) == sorted(f"t{number}" for number in range(60))
        theirs = await client.v1.balance.retrieve_async(options={"stripe_account": account})
        assert theirs.available[0].amount == 60
    await close(http)


def test_it_refuses_to_start_in_production(tmp_path: Path) -> None:
    with pytest.raises(SandboxRefused, match="production"):
        SandboxConfig(
            state_dir=tmp_path,
            stripe_secret_key="sk",
            stripe_webhook_secret="whsec",
            hyperswitch_api_key="key",
            hyperswitch_webhook_secret="secret",
            environment="Production",
        )
