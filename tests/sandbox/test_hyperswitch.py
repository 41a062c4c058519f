"""The Hyperswitch stand-in over real HTTP: payments, sync, confirm, cancel, refunds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.running import Running, running_sandbox

PAY_ID, REFUND_ID = "pay_0000000000000000000000000a", "ref_0000000000000000000000000a"
PAYMENT = {
    "amount": 2999,
    "currency": "EUR",
    "payment_id": PAY_ID,
    "customer_id": "buyer-1",
    "capture_method": "automatic",
    "return_url": "http://127.0.0.1:9/paid?order=1",
    "metadata": {"order_id": "o1"},
    "confirm": False,
}
CARD = {"payment_method": "card", "payment_method_data": {"card": {"card_number": "4242424242424242"}}}


@pytest.fixture
async def client(sandbox: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox.hyperswitch_client() as opened:
        yield opened


async def create(client: httpx.AsyncClient, **changes: object) -> dict[str, Any]:
    answer = await client.post("/payments", json={**PAYMENT, **changes})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def refused(answer: httpx.Response, status: int, code: str) -> bool:
    return (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_payment_is_created_awaiting_its_method(client: httpx.AsyncClient) -> None:
    made = await create(client)
    assert (made["payment_id"], made["status"], made["amount"]) == (PAY_ID, "requires_payment_method", 2999)
    assert made["client_secret"].startswith(f"{PAY_ID}_secret_")
    assert made["expires_on"] > made["created"]
    assert (await client.get(f"/payments/{PAY_ID}")).json() == made


async def test_a_duplicate_payment_id_is_he_01(client: httpx.AsyncClient) -> None:
    await create(client)
    assert refused(await client.post("/payments", json=PAYMENT), 400, "HE_01")


async def test_a_payment_without_an_id_gets_one_of_thirty_characters(client: httpx.AsyncClient) -> None:
    assert len((await create(client, payment_id=None))["payment_id"]) == 30


async def test_a_wrong_api_key_is_ir_01(sandbox: Running) -> None:
    async with sandbox.hyperswitch_client(key="wrong") as stranger:
        assert refused(await stranger.post("/payments", json=PAYMENT), 401, "IR_01")
        assert refused(await stranger.get(f"/payments/{PAY_ID}"), 401, "IR_01")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"amount": None}, 400, "IR_04"),
        ({"currency": None}, 400, "IR_04"),
        ({"amount": "2999"}, 422, "IR_05"),
        ({"amount": -1}, 422, "IR_05"),
        ({"currency": "euro"}, 422, "IR_05"),
        ({"payment_id": "short"}, 422, "IR_05"),
        ({"customer_id": "c" * 65}, 422, "IR_05"),
        ({"capture_method": "later"}, 422, "IR_05"),
        ({"colour": "red"}, 422, "IR_06"),
        ({"confirm": True}, 400, "IR_04"),
    ],
)
async def test_an_invalid_payment_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, change: dict[str, object], status: int, code: str
) -> None:
    assert refused(await client.post("/payments", json={**PAYMENT, **change}), status, code)
    assert refused(await client.get(f"/payments/{PAY_ID}"), 404, "HE_02")


async def test_confirming_with_a_card_pays(client: httpx.AsyncClient) -> None:
    await create(client)
    paid = (await client.post(f"/payments/{PAY_ID}/confirm", json=CARD)).json()
    assert (paid["status"], paid["amount_received"], paid["amount_capturable"]) == ("succeeded", 2999, 0)
    assert refused(await client.post(f"/payments/{PAY_ID}/confirm", json=CARD), 400, "IR_14")


async def test_a_declined_card_fails_the_payment_with_a_reason(client: httpx.AsyncClient) -> None:
    declined = {"payment_method": "card", "payment_method_data": {"card": {"card_number": "4000000000000002"}}}
    failed = await create(client, confirm=True, **declined)
    assert (failed["status"], failed["error_code"]) == ("failed", "card_declined")


async def test_manual_capture_waits(client: httpx.AsyncClient) -> None:
    assert (await create(client, confirm=True, capture_method="manual", **CARD))["status"] == "requires_capture"


async def test_the_buyer_confirms_with_the_client_secret_alone(sandbox: Running, client: httpx.AsyncClient) -> None:
    secret = (await create(client))["client_secret"]
    async with sandbox.hyperswitch_client(key="pk_anything") as buyer:
        wrong = await buyer.post(f"/payments/{PAY_ID}/confirm", json={**CARD, "client_secret": "guess"})
        assert refused(wrong, 400, "IR_09")
        seen = await buyer.get(f"/payments/{PAY_ID}", params={"client_secret": secret})
        assert seen.json()["status"] == "requires_payment_method"
        paid = await buyer.post(f"/payments/{PAY_ID}/confirm", json={**CARD, "client_secret": secret})
        assert paid.json()["status"] == "succeeded"
        cancel = await buyer.post(f"/payments/{PAY_ID}/cancel", json={"client_secret": secret})
        assert refused(cancel, 401, "IR_01")


async def test_where_a_publishable_key_is_set_the_buyer_needs_it(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path, hyperswitch_publishable_key="pk_snd") as sandbox:
        async with sandbox.hyperswitch_client() as client:
            secret = (await create(client))["client_secret"]
        for key, status in (("pk_other", 401), ("pk_snd", 200)):
            async with sandbox.hyperswitch_client(key=key) as buyer:
                answer = await buyer.post(f"/payments/{PAY_ID}/confirm", json={**CARD, "client_secret": secret})
                assert answer.status_code == status


async def test_one_curl_pays_and_another_is_told_it_is_over(sandbox: Running, client: httpx.AsyncClient) -> None:
    await create(client)
    async with httpx.AsyncClient() as curl:
        paid = await curl.post(f"{sandbox.hyperswitch_url}/sandbox/payments/{PAY_ID}/pay")
        assert paid.json()["status"] == "succeeded"
        again = await curl.post(f"{sandbox.hyperswitch_url}/sandbox/payments/{PAY_ID}/fail")
        assert again.status_code == 409


async def test_the_pay_page_sends_the_browser_back_to_the_shop(sandbox: Running, client: httpx.AsyncClient) -> None:
    secret = (await create(client))["client_secret"]
    page = f"{sandbox.hyperswitch_url}/sandbox/pay/{PAY_ID}"
    async with httpx.AsyncClient() as browser:
        assert (await browser.get(page, params={"client_secret": "guess"})).status_code == 404
        assert "29.99 EUR" in (await browser.get(page, params={"client_secret": secret})).text
        paid = await browser.post(f"{sandbox.hyperswitch_url}/sandbox/payments/{PAY_ID}/pay", data={"browser": "1"})
    assert paid.status_code == 303
    assert paid.headers["location"] == f"{PAYMENT['return_url']}&payment_id={PAY_ID}&status=succeeded"


async def test_force_sync_finds_what_no_webhook_told(sandbox: Running, client: httpx.AsyncClient) -> None:
    await create(client)
    await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/pay", {"noticed": False})
    assert await sandbox.hyperswitch_control.deliveries() == []
    assert (await client.get(f"/payments/{PAY_ID}")).json()["status"] == "processing"
    synced = await client.get(f"/payments/{PAY_ID}", params={"force_sync": "true"})
    assert synced.json()["status"] == "succeeded"
    assert (await client.get(f"/payments/{PAY_ID}")).json()["status"] == "succeeded"


async def test_a_payer_may_have_paid_something_else(sandbox: Running, client: httpx.AsyncClient) -> None:
    await create(client)
    await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/pay", {"amount": 1, "webhook": False})
    seen = (await client.get(f"/payments/{PAY_ID}")).json()
    assert (seen["status"], seen["amount"]) == ("succeeded", 1)
    assert await sandbox.hyperswitch_control.deliveries() == []


async def test_an_open_payment_can_be_cancelled_and_a_paid_one_not(client: httpx.AsyncClient) -> None:
    await create(client)
    other = "pay_0000000000000000000000000b"
    await create(client, payment_id=other, confirm=True, **CARD)
    gone = await client.post(f"/payments/{PAY_ID}/cancel", json={"cancellation_reason": "abandoned"})
    assert (gone.json()["status"], gone.json()["cancellation_reason"]) == ("cancelled", "abandoned")
    assert refused(await client.post(f"/payments/{other}/cancel", json={}), 400, "IR_14")


async def test_each_change_of_a_payment_has_a_later_updated(sandbox: Running, client: httpx.AsyncClient) -> None:
    times = [(await create(client))["updated"]]
    for action in ("process", "pay"):
        changed = await sandbox.hyperswitch_control.call("POST", f"payments/{PAY_ID}/{action}")
        times.append(changed["updated"])
    assert times == sorted(set(times))


async def test_refunds_give_back_up_to_what_was_captured(client: httpx.AsyncClient) -> None:
    await create(client, confirm=True, **CARD)
    part = await client.post("/refunds", json={"payment_id": PAY_ID, "refund_id": REFUND_ID, "amount": 1000})
    assert (part.json()["status"], part.json()["amount"], part.json()["currency"]) == ("succeeded", 1000, "EUR")
    assert (await client.get(f"/refunds/{REFUND_ID}")).json() == part.json()
    again = await client.post("/refunds", json={"payment_id": PAY_ID, "refund_id": REFUND_ID, "amount": 1})
    assert refused(again, 400, "HE_01")
    assert refused(await client.post("/refunds", json={"payment_id": PAY_ID, "amount": 2000}), 400, "IR_13")
    rest = await client.post("/refunds", json={"payment_id": PAY_ID, "reason": "customer"})
    assert (rest.json()["amount"], rest.json()["reason"]) == (1999, "customer")
    seen = (await client.get(f"/payments/{PAY_ID}")).json()
    assert [refund["amount"] for refund in seen["refunds"]] == [1000, 1999]


async def test_an_unpaid_payment_has_nothing_to_refund(client: httpx.AsyncClient) -> None:
    await create(client)
    assert refused(await client.post("/refunds", json={"payment_id": PAY_ID}), 400, "IR_14")
    assert refused(await client.post("/refunds", json={"payment_id": "pay_none"}), 404, "HE_02")
    assert refused(await client.get("/refunds/ref_none"), 404, "HE_02")


async def test_a_pending_refund_is_settled_later_and_a_failed_one_frees_its_amount(
    sandbox: Running, client: httpx.AsyncClient
) -> None:
    await create(client, confirm=True, **CARD)
    await sandbox.hyperswitch_control.fault("refund_pending", path="/refunds")
    pending = await client.post("/refunds", json={"payment_id": PAY_ID, "refund_id": REFUND_ID})
    assert pending.json()["status"] == "pending"
    assert refused(await client.post("/refunds", json={"payment_id": PAY_ID, "amount": 1}), 400, "IR_13")
    failed = await sandbox.hyperswitch_control.call("POST", f"refunds/{REFUND_ID}/fail")
    assert (failed["status"], failed["error_code"]) == ("failed", "refund_failed")
    whole = await client.post("/refunds", json={"payment_id": PAY_ID})
    assert (whole.json()["status"], whole.json()["amount"]) == ("succeeded", 2999)
    told = [delivery["event_type"] for delivery in await sandbox.hyperswitch_control.deliveries()]
    assert told == ["payment_succeeded", "refund_failed", "refund_succeeded"]


async def test_a_refund_settled_without_a_word_is_found_by_asking(sandbox: Running, client: httpx.AsyncClient) -> None:
    await create(client, confirm=True, **CARD)
    silent = {"webhook": False}
    for refund_id, action, status in ((REFUND_ID, "succeed", "succeeded"), (f"{REFUND_ID[:-1]}b", "fail", "failed")):
        await sandbox.hyperswitch_control.fault("refund_pending", path="/refunds")
        await client.post("/refunds", json={"payment_id": PAY_ID, "refund_id": refund_id, "amount": 100})
        await sandbox.hyperswitch_control.call("POST", f"refunds/{refund_id}/{action}", silent)
        for query in ({}, {"force_sync": "true"}):
            assert (await client.get(f"/refunds/{refund_id}", params=query)).json()["status"] == status
    told = [delivery["event_type"] for delivery in await sandbox.hyperswitch_control.deliveries()]
    assert told == ["payment_succeeded"]


async def test_what_is_not_its_api_has_its_error_shape(client: httpx.AsyncClient) -> None:
    assert refused(await client.get("/customers"), 404, "IR_02")
    assert refused(await client.delete(f"/payments/{PAY_ID}"), 405, "IR_03")
    assert refused(await client.post("/payments", content=b"{"), 400, "IR_06")
