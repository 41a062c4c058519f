"""Whom the gateways believe: no certificate that nobody we know has signed, and nobody who sends us elsewhere."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from tests.gateways.scripted_server import ScriptedServer, answer, scripted_server
from veza.domain.errors import Unavailable
from veza.domain.payments import NoAnswer
from veza.gateways.hyperswitch import Hyperswitch
from veza.gateways.ingest import IngestAway
from veza.gateways.ingest.exchange import answering, ask_ok, http_client
from veza.gateways.objects.s3 import Bucket, S3Objects
from veza.gateways.stripe import Stripe

Ask = Callable[[str, Path], Awaitable[None]]


async def ask_hyperswitch(url: str, _: Path) -> None:
    async with Hyperswitch.open(url, "a key", timeout=5, return_url="") as hyperswitch:
        assert isinstance(await hyperswitch.retrieve("pay_1"), NoAnswer)


async def ask_stripe(url: str, _: Path) -> None:
    async with Stripe.open("sk_test_1", base=url, timeout=5, currency="EUR") as stripe:
        with pytest.raises(Unavailable):
            await stripe.account("acct_1")


async def ask_ingest_server(url: str, _: Path) -> None:
    async with http_client() as client:
        with pytest.raises(IngestAway), answering(5):
            await ask_ok(client, "GET", f"{url}/stat")


async def ask_bucket(url: str, folder: Path) -> None:
    bucket = Bucket("files", endpoint_url=url, region="eu", access_key_id="id", secret_access_key="key")
    async with S3Objects.open(bucket, folder, lambda: datetime.now(UTC)) as objects:
        with pytest.raises(Unavailable):
            await objects.check()


ASK = {
    "hyperswitch": ask_hyperswitch,
    "stripe": ask_stripe,
    "ingest": ask_ingest_server,
    "bucket": ask_bucket,
}


async def an_answer_from(server: ScriptedServer, authority: trustme.CA) -> int:
    """The status with which it answers who does know its authority."""
    known = ssl.create_default_context()
    authority.configure_trust(known)
    async with httpx.AsyncClient(verify=known) as client:
        return (await client.get(server.url)).status_code


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
async def test_a_server_whose_certificate_nobody_we_know_has_signed_is_told_nothing(ask: Ask, tmp_path: Path) -> None:
    authority = trustme.CA()
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(shown)
    with trio.fail_after(30):
        async with scripted_server(shown) as server:
            assert await an_answer_from(server, authority) == 404
            before = server.connections
            server.asked.clear()
            await ask(server.url, tmp_path)
            assert server.connections > before
            assert server.asked == []


@pytest.mark.parametrize("name", ["hyperswitch", "stripe", "ingest"])
async def test_who_sends_us_elsewhere_is_not_followed(name: str, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with scripted_server() as server:
            moved = answer(b"{}", f"307 Temporary Redirect\r\nLocation: {server.url}/elsewhere")
            server.answers = dict.fromkeys(
                ("GET /payments/pay_1?force_sync=true", "GET /v1/accounts/acct_1", "GET /stat"), moved
            )
            await ASK[name](server.url, tmp_path)
            assert server.asked
            assert set(server.asked) <= server.answers.keys()
