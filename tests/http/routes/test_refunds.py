"""Refunds by buyers, sellers and admins: who may have what back, and what it does to shares, rights and books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import ORDERS, Json, Shop, data

REASON = {"reason": "Not as described"}


@dataclass
class Scene:
    """Ana and Eve sell, Ben buys, and an admin looks on. Ana is on board."""

    house: House
    shop: Shop
    ana: Account
    eve: Account
    ben: Account
    admin: Account

    async def refund(self, by: Account, order: Json, **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": body.pop("key")} if "key" in body else {}
        return await self.house.post(f"{ORDERS}/{order['id']}/refund", by, json=REASON | body, headers=headers)

    async def refunded(self, by: Account, order: Json, **body: Any) -> None:
        assert data(await self.refund(by, order, **body)) == {"message": "Refund initiated"}

    async def refunds(self, by: Account, order: Json) -> list[Json]:
        found: list[Json] = data(await self.house.get(f"{ORDERS}/{order['id']}/refunds", by))["refunds"]
        return found

    async def download(self, order: Json) -> httpx.Response:
        [file] = data(await self.house.get(f"{ORDERS}/{order['id']}/downloads", self.ben))["downloads"][:1]
        return await self.house.get(f"{ORDERS}/{order['id']}/downloads/{file['id']}", self.ben)

    async def transfer(self, seller: Account, holds: Any) -> Json:
        """A seller's newest transfer, once it is as it should be."""
        seen = await self.house.until(
            "/sell/transfers", seller, lambda of: of["transfers"] and holds(of["transfers"][0])
        )
        newest: Json = seen["transfers"][0]
        return newest

    async def paid_out(self, *products: Json) -> Json:
        """An order of Ben's that Ana has her share of."""
        order = await self.shop.bought(self.ben, *products)
        await self.transfer(self.ana, lambda it: it["order_id"] == order["id"] and it["status"] == "completed")
        return order

    async def balanced(self) -> None:
        """The books hold, and agree with what the payout provider lists."""
        assert data(await self.house.get("/admin/ledger/verify", self.admin))["findings"] == []

    def payment_refunds(self) -> Any:
        return self.house.sandbox.hyperswitch_control.requests(method="POST", path="/refunds")


@pytest.fixture
async def scene(house: House) -> Any:
    with trio.fail_after(40):
        ana, eve, ben = [await house.sign_up(name) for name in ("ana", "eve", "ben")]
        link = data(await house.post("/sell/connect/onboard", ana))["onboarding_url"]
        await house.http.post(link, follow_redirects=True)
        yield Scene(house, Shop(house), ana, eve, ben, await house.admin())


async def test_a_buyer_has_their_money_back_and_the_seller_what_they_were_sent_taken_back(scene: Scene) -> None:
    order = await scene.paid_out(await scene.shop.on_sale(scene.ana))
    await scene.refunded(scene.ben, order, details="It hums.")
    await scene.shop.until_status(scene.ben, order, "refunded")
    reversed_ = await scene.transfer(scene.ana, lambda it: it["status"] == "reversed")
    assert (reversed_["amount_cents"], reversed_["withheld_cents"], reversed_["reversed_cents"]) == (2699, 0, 2699)
    [refund] = await scene.refunds(scene.ben, order)
    assert refund == {
        "id": refund["id"],
        "order_id": order["id"],
        "status": "succeeded",
        "origin": "buyer",
        "reason": "Not as described",
        "details": "It hums.",
        "amount_cents": 2999,
        "currency": "EUR",
        "items": [{"order_item_id": order["items"][0]["id"], "quantity": None, "amount_cents": 2999}],
        "failure_code": None,
        "credit_note_number": refund["credit_note_number"],
        "created_at": refund["created_at"],
        "decided_at": None,
        "decision_reason": "",
        "completed_at": refund["completed_at"],
    }
    assert refund["credit_note_number"].startswith("CN-")
    assert refusal(await scene.refund(scene.ben, order)) == (409, "nothing_to_refund")
    assert refusal(await scene.house.get(f"{ORDERS}/{order['id']}/downloads", scene.ben)) == (409, "refunded")
    assert data(await scene.house.get("/marketplace/library", scene.ben))["total"] == 0
    await scene.balanced()


async def test_what_was_not_sent_yet_is_withheld_and_nothing_is_reversed(scene: Scene) -> None:
    order = await scene.shop.bought(scene.ben, await scene.shop.on_sale(scene.eve))  # not on board: held
    await scene.refunded(scene.eve, order, amount_cents=1000)
    part = await scene.transfer(scene.eve, lambda it: it["withheld_cents"])
    assert (part["status"], part["withheld_cents"]) == ("held", 900)
    await scene.refunded(scene.eve, order)
    whole = await scene.transfer(scene.eve, lambda it: it["status"] == "reversed")
    assert (whole["withheld_cents"], whole["reversed_cents"], whole["completed_at"]) == (2699, 0, None)
    assert data(await scene.house.get("/sell/balance", scene.eve))["held"] == 0
    await scene.balanced()


async def test_what_a_seller_has_spent_is_a_debt_taken_from_what_they_sell_next(scene: Scene) -> None:
    track, pack = await scene.shop.on_sale(scene.ana), await scene.shop.on_sale(scene.ana, price_cents=5000)
    order = await scene.paid_out(track)
    await scene.house.sandbox.stripe_control.fault("balance_insufficient", path="/v1/transfers/:id/reversals")
    await scene.refunded(scene.ben, order)
    await scene.house.until("/sell/balance", scene.ana, lambda seen: seen["owed"] == 2699)
    [debt] = data(await scene.house.get("/admin/debts", scene.admin))["debts"]
    assert (debt["owed_cents"], debt["refunds"]) == (2699, 1)
    [refund] = data(await scene.house.get("/sell/refunds", scene.ana))["refunds"]
    share = {"net_cents": 2699, "fee_cents": 300, "withheld_cents": 0, "reversed_cents": 0, "left_cents": 2699}
    assert refund["share"] == share | {"status": "owed"}
    next_one = await scene.paid_out(pack)
    paid = await scene.transfer(scene.ana, lambda it: it["order_id"] == next_one["id"])
    assert (paid["amount_cents"], paid["withheld_cents"]) == (4500, 2699)
    reason = {"amount_cents": 2699, "reason": "debt", "refund_id": refund["id"], "order_id": order["id"]}
    assert paid["withholdings"] == [reason]
    assert data(await scene.house.get("/sell/balance", scene.ana))["owed"] == 0
    await scene.balanced()


async def test_a_download_makes_a_refund_a_request_that_the_seller_decides(scene: Scene) -> None:
    track, other = await scene.shop.on_sale(scene.ana), await scene.shop.on_sale(scene.eve)
    order = await scene.shop.bought(scene.ben, track, other)
    assert (await scene.download(order)).status_code == 200  # of the first line: Ana's
    await scene.refunded(scene.ben, order)
    await scene.shop.until_status(scene.ben, order, "partially_refunded")
    at_once, asked = await scene.refunds(scene.ben, order)
    assert (at_once["status"], asked["status"], asked["decided_at"]) == ("succeeded", "requested", None)
    assert refusal(await scene.refund(scene.ben, order)) == (409, "already_requested")
    listed = data(await scene.house.get("/sell/refunds?status=requested", scene.ana))
    assert ([each["id"] for each in listed["refunds"]], listed["total"]) == ([asked["id"]], 1)
    decide = f"/sell/refunds/{asked['id']}"
    assert refusal(await scene.house.post(f"{decide}/approve", scene.eve))[0] == 403
    assert refusal(await scene.house.post(f"{decide}/approve", scene.ben))[0] == 403
    assert refusal(await scene.house.post(f"{decide}/decline", await scene.house.sign_up("mallory")))[0] == 404
    assert refusal(await scene.house.post(f"{decide}/decline", scene.ana, json={"why": "x"}))[0] == 400
    told = data(await scene.house.post(f"{decide}/decline", scene.ana, json={"reason": "It is as described."}))
    assert (told["status"], told["decision_reason"]) == ("declined", "It is as described.")
    assert refusal(await scene.house.post(f"{decide}/approve", scene.admin))[0] == 409
    assert (await scene.download(order)).status_code == 200  # it is Ben's still
    await scene.refunded(scene.ben, order)
    anew = (await scene.refunds(scene.ben, order))[-1]
    assert data(await scene.house.post(f"/sell/refunds/{anew['id']}/approve", scene.admin))["status"] == "pending"
    await scene.shop.until_status(scene.ben, order, "refunded")
    audited = {row[0] for row in scene.shop.run("SELECT action FROM audit_entries WHERE resource LIKE 'refund:%%'")}
    assert audited == {"refund.ask", "refund.approve", "refund.decline"}
    await scene.balanced()


async def test_fifty_refunds_at_once_refund_once(scene: Scene) -> None:
    order = await scene.paid_out(await scene.shop.on_sale(scene.ana))
    answers: list[int] = []

    async def ask(by: Account) -> None:
        answers.append((await scene.refund(by, order)).status_code)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, (scene.ben, scene.ana, scene.admin)[number % 3])
    assert sorted(answers) == [200] + [409] * 49
    await scene.shop.until_status(scene.ben, order, "refunded")
    await scene.transfer(scene.ana, lambda it: it["status"] == "reversed")
    assert len(await scene.payment_refunds()) == 1
    await scene.balanced()


async def test_parts_by_piece_and_by_amount_never_come_to_more_than_was_paid(scene: Scene) -> None:
    track = await scene.shop.on_sale(scene.ana, price_cents=1000)
    order = await scene.shop.ordered(scene.ben, track, quantity=3)
    await scene.shop.pay(order)
    await scene.shop.until_status(scene.ben, order, "paid")
    line = order["items"][0]["id"]
    pieces = {"items": [{"order_item_id": line, "quantity": 2}]}
    await scene.refunded(scene.ben, order, **pieces, key="two")
    await scene.refunded(scene.ben, order, **pieces, key="two")  # the same request
    assert refusal(await scene.refund(scene.ben, order, amount_cents=1, key="two")) == (409, "idempotency_key_reused")
    for too_much in (pieces, {"amount_cents": 1001}):
        assert refusal(await scene.refund(scene.ben, order, **too_much)) == (409, "exceeds_refundable")
    seen = await scene.shop.until_status(scene.ben, order, "partially_refunded")
    assert (seen["items"][0]["refunded_cents"], seen["items"][0]["licence_key"] is None) == (2000, False)
    await scene.refunded(scene.ana, order, amount_cents=333)
    await scene.refunded(scene.admin, order)
    await scene.shop.until_status(scene.ben, order, "refunded")
    amounts = [each["amount_cents"] for each in await scene.refunds(scene.ben, order)]
    assert amounts == [2000, 333, 667]
    await scene.transfer(scene.ana, lambda it: it["withheld_cents"] + it["reversed_cents"] == it["amount_cents"])
    await scene.balanced()


async def test_a_line_refunded_whole_is_gone_from_the_buyers_shelf_and_its_review_says_so(scene: Scene) -> None:
    track, pack = await scene.shop.on_sale(scene.ana), await scene.shop.on_sale(scene.ana, title="A pack")
    order = await scene.shop.bought(scene.ben, track, pack)
    review = data(await scene.house.post(f"/marketplace/products/{track['id']}/reviews", scene.ben, json={"rating": 2}))
    assert review["refunded"] is False
    lines = {"items": [{"order_item_id": order["items"][0]["id"], "quantity": 1}]}
    await scene.refunded(scene.ana, order, **lines)
    await scene.shop.until_status(scene.ben, order, "partially_refunded")
    [left] = data(await scene.house.get(f"{ORDERS}/{order['id']}/downloads", scene.ben))["downloads"]
    assert left["product_id"] == pack["id"]
    library = data(await scene.house.get("/marketplace/library", scene.ben))
    assert ([each["product_id"] for each in library["library"]], library["total"]) == ([pack["id"]], 1)
    [seen] = data(await scene.house.get(f"/marketplace/products/{track['id']}/reviews"))["reviews"]
    assert seen["refunded"] is True


async def test_what_a_refund_is_refused_for_changes_nothing(scene: Scene) -> None:
    track, other = await scene.shop.on_sale(scene.ana), await scene.shop.on_sale(scene.eve)
    free = await scene.shop.ordered(scene.ben, await scene.shop.on_sale(scene.ana, price_cents=0))
    unpaid = await scene.shop.ordered(scene.ben, track)
    order = await scene.shop.bought(scene.ben, track, other)
    mallory = await scene.house.sign_up("mallory")
    own, others = (item["id"] for item in order["items"])
    for by, of, body, status in (
        (mallory, order, {}, 404),
        (scene.ben, {"id": "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a"}, {}, 404),
        (scene.ben, free, {}, 409),
        (scene.ben, unpaid, {}, 409),
        (scene.ana, order, {"items": [{"order_item_id": others, "quantity": 1}]}, 403),
        (scene.ben, order, {"items": [{"order_item_id": track["id"], "quantity": 1}]}, 400),
        (scene.ben, order, {"items": []}, 400),
        (scene.ben, order, {"items": [{"order_item_id": own, "quantity": 1}] * 2}, 400),
        (scene.ben, order, {"items": [{"order_item_id": own, "quantity": 0}]}, 400),
        (scene.ben, order, {"items": [{"order_item_id": own, "quantity": 1}], "amount_cents": 1}, 400),
        (scene.ben, order, {"amount_cents": 0}, 400),
        (scene.ben, order, {"amount_cents": 5999}, 409),
        (scene.ana, order, {"amount_cents": 3000}, 409),
        (scene.ben, order, {"reason": " "}, 400),
        (scene.ben, order, {"reason": "x" * 201}, 400),
        (scene.ben, order, {"colour": "red"}, 400),
    ):
        answer = await scene.refund(by, of, **body)
        assert answer.status_code == status, (body, answer.text)
    assert (await scene.house.post(f"{ORDERS}/{order['id']}/refund", json=REASON)).status_code == 401
    assert refusal(await scene.house.get(f"{ORDERS}/{order['id']}/refunds", mallory))[0] == 404
    assert refusal(await scene.house.get("/admin/refunds", scene.ana))[0] == 403
    scene.shop.run("UPDATE orders SET paid_at = now() - interval '14 days 1 minute' WHERE id = %s", order["id"])
    assert refusal(await scene.refund(scene.ben, order)) == (409, "refund_window_over")
    assert data(await scene.house.get("/admin/refunds", scene.admin)) == {"refunds": [], "total": 0}
    assert refusal(await scene.house.get(f"{ORDERS}/{order['id']}/refunds?limit=0", scene.ben)) == (400, "invalid")
    await scene.refunded(scene.eve, order)  # a seller may at any time
    [own_part] = await scene.refunds(scene.eve, order)
    assert (own_part["amount_cents"], len(own_part["items"])) == (2999, 1)
    assert await scene.refunds(scene.ana, order) == []


# -- disputes ----------------------------------------------------------------------------------------------------------


async def dispute(scene: Scene, order: Json, **options: object) -> str:
    path = f"payments/{order['payment']['payment_id']}/dispute"
    made = await scene.house.sandbox.hyperswitch_control.call("POST", path, options)
    await scene.house.until("/admin/disputes", scene.admin, lambda of: of["total"] and of["disputes"][0]["status"])
    return str(made["dispute_id"])


async def decide(scene: Scene, dispute_id: str, how: str, state: str) -> Json:
    """What the buyer's bank decides, once it is known here."""
    await scene.house.sandbox.hyperswitch_control.call("POST", f"disputes/{dispute_id}/{how}")
    seen = await scene.house.until("/admin/disputes", scene.admin, lambda of: of["disputes"][0]["state"] == state)
    newest: Json = seen["disputes"][0]
    return newest


async def test_a_dispute_holds_what_was_not_paid_out_and_lets_it_go_when_it_is_won(scene: Scene) -> None:
    order = await scene.shop.bought(scene.ben, await scene.shop.on_sale(scene.eve))  # held: she is not on board
    dispute_id = await dispute(scene, order)
    await scene.shop.until_status(scene.ben, order, "disputed")
    assert (await scene.transfer(scene.eve, lambda it: True))["hold_reason"] == "disputed"
    assert refusal(await scene.refund(scene.ben, order)) == (409, "disputed")
    assert refusal(await scene.house.get(f"{ORDERS}/{order['id']}/downloads", scene.ben)) == (409, "disputed")
    link = data(await scene.house.post("/sell/connect/onboard", scene.eve))["onboarding_url"]
    await scene.house.http.post(link, follow_redirects=True)
    await scene.house.until("/sell/connect/status", scene.eve, lambda seen: seen["transfers_active"])
    assert (await scene.transfer(scene.eve, lambda it: True))["hold_reason"] == "disputed"  # by that alone
    won = await decide(scene, dispute_id, "win", "won")
    assert (won["taken_cents"], won["amount_cents"], won["closed_at"] is None) == (0, 2999, False)
    await scene.shop.until_status(scene.ben, order, "paid")
    await scene.transfer(scene.eve, lambda it: it["status"] == "completed")
    await scene.balanced()


async def test_a_lost_dispute_is_had_back_from_the_seller_and_has_a_credit_note(scene: Scene) -> None:
    order = await scene.paid_out(await scene.shop.on_sale(scene.ana))
    lost = await decide(scene, await dispute(scene, order, amount=2000), "lose", "lost")
    assert lost["taken_cents"] == 2000
    await scene.shop.until_status(scene.ben, order, "partially_refunded")
    await scene.transfer(scene.ana, lambda it: it["reversed_cents"] == 1800)
    [refund] = await scene.refunds(scene.ben, order)
    assert (refund["origin"], refund["status"], refund["amount_cents"]) == ("dispute", "succeeded", 2000)
    assert refund["credit_note_number"] is not None
    assert await scene.payment_refunds() == []  # the bank took it: nobody is asked to give it back
    await scene.balanced()


async def test_a_refund_and_a_dispute_of_the_same_order_deduct_once(scene: Scene) -> None:
    order = await scene.paid_out(await scene.shop.on_sale(scene.ana))
    await scene.refunded(scene.ana, order, amount_cents=999)
    await scene.shop.until_status(scene.ben, order, "partially_refunded")
    lost = await decide(scene, await dispute(scene, order), "lose", "lost")
    assert (lost["amount_cents"], lost["taken_cents"]) == (2999, 2000)
    await scene.shop.until_status(scene.ben, order, "refunded")
    await scene.transfer(scene.ana, lambda it: it["reversed_cents"] == 2699)
    await scene.balanced()


async def test_what_a_failed_refund_did_not_give_back_a_lost_dispute_deducts_after_all(scene: Scene) -> None:
    order = await scene.paid_out(await scene.shop.on_sale(scene.ana))
    await scene.house.sandbox.hyperswitch_control.fault("refund_pending")
    await scene.refunded(scene.ben, order)
    lost = await decide(scene, await dispute(scene, order), "lose", "lost")
    assert lost["taken_cents"] == 0
    [asked] = await scene.payment_refunds()
    await scene.house.sandbox.hyperswitch_control.call("POST", f"refunds/{asked['params']['refund_id']}/fail")
    await scene.house.until("/admin/disputes", scene.admin, lambda of: of["disputes"][0]["taken_cents"] == 2999)
    await scene.transfer(scene.ana, lambda it: it["reversed_cents"] == 2699)
    assert [each["status"] for each in await scene.refunds(scene.ben, order)] == ["failed", "succeeded"]
    await scene.balanced()


async def test_a_payment_that_comes_too_late_for_what_is_sold_goes_back_whole(scene: Scene) -> None:
    track = await scene.shop.on_sale(scene.ana)
    order = await scene.shop.ordered(scene.ben, track)
    data(await scene.house.post(f"{ORDERS}/{order['id']}/cancel", scene.ben))
    await scene.shop.pay(order, force=True)
    seen = await scene.house.until(
        f"{ORDERS}/{order['id']}/refunds",
        scene.ben,
        lambda of: of["refunds"] and of["refunds"][0]["status"] == "succeeded",
    )
    [refund] = seen["refunds"]
    assert (refund["origin"], refund["amount_cents"], refund["credit_note_number"]) == ("platform", 2999, None)
    assert refund["reason"] == "Paid after it was cancelled."
    assert data(await scene.house.get(f"{ORDERS}/{order['id']}", scene.ben))["status"] == "cancelled"
    await scene.balanced()
