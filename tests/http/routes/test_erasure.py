"""Erasing one's own account over HTTP: what it takes, what stands in its way, and what is left afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from tests.house import PASSWORD as HOUSE_PASSWORD
from tests.house import House
from tests.http.desk import PASSWORD, Desk, Pair, open_desk, refusal, signed
from tests.http.routes.on_air import OnAir, open_on_air
from tests.people import People
from tests.shop import BYTES, ORDERS, PRODUCTS, Shop, data
from veza.domain.erasure import NAME
from veza.store.bridge import Database
from veza.store.erasure import Erasures
from veza.store.streams import Streams

ME = "/users/me"


@pytest.fixture
async def desk(db: Database) -> AsyncIterator[Desk]:
    with trio.fail_after(20):
        async with open_desk(db, more={"erasures": Erasures(db, People().new_id), "streams": Streams(db)}) as opened:
            yield opened


async def erase(desk: Desk, user: Pair | None, body: Any = None, **headers: str) -> httpx.Response:
    sent = {**(signed(user.access) if user is not None else {}), **headers}
    return await desk.http.request("DELETE", ME, headers=sent, json={"password": PASSWORD} if body is None else body)


async def test_the_answer_says_what_was_erased_and_what_is_kept_and_why(desk: Desk) -> None:
    ann = await desk.sign_up()
    answer = await erase(desk, ann)
    told = data(answer)
    assert told["deleted"] is True
    assert told["erased"] == [
        {"what": "username, email address and password", "how_many": None},
        {"what": "sessions", "how_many": 1},
    ]
    assert [each["what"] for each in told["kept"]] == ["an empty account", "audit entries"]
    assert all(each["why"].endswith(".") for each in told["kept"])
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("refresh_token=;")
    assert "Max-Age=0" in cookie


async def test_afterwards_no_token_holds_and_nobody_knows_them(desk: Desk) -> None:
    ann = await desk.sign_up()
    elsewhere = Pair.of(await desk.login())
    data(await erase(desk, ann))
    for pair in (ann, elsewhere):
        assert refusal(await desk.get(ME, pair.access)) == (401, "session_over")
        assert refusal(await desk.refresh(pair.refresh)) == (401, "session_over")
    assert refusal(await erase(desk, ann)) == (401, "session_over")
    assert refusal(await desk.http.get(f"/users/{ann.id}")) == (404, "not_found")
    gone, never = await desk.login(), await desk.login("Nobody")
    assert refusal(gone) == refusal(never) == (401, "invalid_credentials")
    assert gone.json()["error"] == never.json()["error"]


async def test_the_name_and_the_address_can_be_had_again(desk: Desk) -> None:
    ann = await desk.sign_up()
    data(await erase(desk, ann))
    again = await desk.sign_up()
    assert again.id != ann.id
    assert data(await desk.get(ME, again.access))["username"] == "Ann"


async def test_it_takes_the_password(desk: Desk) -> None:
    ann = await desk.sign_up()
    wrong = await erase(desk, ann, {"password": "another-horse-2"})
    assert refusal(wrong) == (401, "invalid_credentials")
    assert wrong.json()["details"] == [{"field": "password", "message": wrong.json()["error"]}]
    for body in ({}, {"password": 12}, {"password": PASSWORD, "sure": True}):
        assert refusal(await erase(desk, ann, body)) == (400, "invalid")
    bodyless = await desk.http.request("DELETE", ME, headers=signed(ann.access))
    assert refusal(bodyless) == (400, "invalid")
    assert await desk.is_in(ann.access)


async def test_a_stranger_is_told_to_sign_in(desk: Desk) -> None:
    assert refusal(await erase(desk, None)) == (401, "unauthenticated")
    ann = await desk.sign_up()
    assert refusal(await erase(desk, None, Authorization=f"Bearer {ann.refresh}"))[0] == 401
    assert await desk.is_in(ann.access)


async def test_the_last_admin_is_told_to_make_another_first(desk: Desk) -> None:
    ann = await desk.sign_up()
    async with desk.db.transaction() as tx:
        await tx.execute("UPDATE users SET role = 'admin'")
    assert refusal(await erase(desk, ann)) == (409, "last_admin")
    assert await desk.is_in(ann.access)


async def test_of_two_requests_at_once_one_erases(desk: Desk) -> None:
    ann = await desk.sign_up()
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await erase(desk, ann))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert sorted(answer.status_code for answer in answers) == [200, 401]


# -- on air ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def erasing_on_air(db: Database) -> AsyncIterator[OnAir]:
    with trio.fail_after(20):
        async with open_on_air(db, others={"erasures": Erasures(db, People().new_id)}) as air:
            yield air


async def test_what_is_on_air_goes_off_air_and_the_key_holds_no_more(db: Database) -> None:
    async with erasing_on_air(db) as air:
        ann = await air.desk.sign_up()
        stream_id = await air.live(ann)
        told = data(await erase(air.desk, ann))
        assert air.station.server.kicked == [stream_id]
        await air.until(stream_id, None)
        assert (await air.publish(air.key(stream_id))).status_code == 403
        assert refusal(await air.desk.http.get(f"/live/streams/{stream_id}")) == (404, "not_found")
        counted = {each["what"]: each["how_many"] for each in told["erased"]}
        assert (counted["streams"], counted["broadcasts of streams"]) == (1, 1)


async def test_who_may_not_go_stays_on_air(db: Database) -> None:
    async with erasing_on_air(db) as air:
        ann = await air.desk.sign_up()
        stream_id = await air.live(ann)
        async with db.transaction() as tx:
            await tx.execute("UPDATE users SET role = 'admin'")
        assert refusal(await erase(air.desk, ann)) == (409, "last_admin")
        assert refusal(await erase(air.desk, ann, {"password": "another-horse-2"}))[0] == 401
        assert air.station.server.kicked == []
        assert air.station.live.session(stream_id) is not None


async def test_while_the_ingest_server_does_not_answer_nobody_on_air_is_erased(db: Database) -> None:
    async with erasing_on_air(db) as air:
        ann = await air.desk.sign_up()
        stream_id = await air.live(ann)
        air.station.server.away = "it hangs"
        assert (await erase(air.desk, ann)).status_code == 503
        assert await air.desk.is_in(ann.access)
        air.station.server.away = None
        assert data(await erase(air.desk, ann))["deleted"] is True
        assert stream_id in air.station.server.kicked


# -- in the whole house ------------------------------------------------------------------------------------------------


async def test_a_seller_goes_once_they_are_paid_and_their_buyers_keep_what_they_bought(house: House) -> None:
    shop, body = Shop(house), {"password": HOUSE_PASSWORD}
    with trio.fail_after(60):
        seller, buyer, admin = await house.sign_up("seller"), await house.sign_up("buyer"), await house.admin()
        product = await shop.on_sale(seller, title="Dawn")
        order = await shop.bought(buyer, product)
        assert refusal(await house.delete(ME, seller, json=body)) == (409, "payouts_held")
        link = data(await house.post("/sell/connect/onboard", seller))["onboarding_url"]
        await house.http.post(link, follow_redirects=True)
        await house.until("/sell/transfers", seller, lambda seen: seen["transfers"][0]["status"] == "completed")
        told = data(await house.delete(ME, seller, json=body))
        assert {"payouts", "payout account", "invoices and credit notes"} <= {each["what"] for each in told["kept"]}
        assert refusal(await house.get(f"{PRODUCTS}/{product['id']}")) == (404, "not_found")
        [bought] = data(await house.get("/marketplace/library", buyer))["library"]
        assert (bought["title"], bought["seller"]["username"]) == ("Dawn", NAME)
        [file] = bought["downloads"]
        downloaded = await house.get(f"{ORDERS}/{order['id']}/downloads/{file['id']}", buyer)
        assert downloaded.raise_for_status().content == BYTES
        (await house.get(f"{ORDERS}/{order['id']}/invoice", buyer)).raise_for_status()
        [(document,)] = shop.run("SELECT document FROM invoice_documents")
        assert [line["seller"] for line in document["lines"]] == ["seller"]
        assert data(await house.get("/admin/ledger/verify", admin)) == {
            "balanced": True,
            "provider_asked": True,
            "findings": [],
        }


async def test_a_buyer_with_an_open_order_cancels_it_first(house: House) -> None:
    shop, body = Shop(house), {"password": HOUSE_PASSWORD}
    with trio.fail_after(60):
        seller, buyer = await house.sign_up("seller"), await house.sign_up("buyer")
        order = await shop.ordered(buyer, await shop.on_sale(seller))
        assert refusal(await house.delete(ME, buyer, json=body)) == (409, "orders_pending")
        assert refusal(await house.delete(ME, seller, json=body)) == (409, "sales_pending")
        data(await house.post(f"{ORDERS}/{order['id']}/cancel", buyer))
        assert data(await house.delete(ME, buyer, json=body))["deleted"] is True
        assert data(await house.delete(ME, seller, json=body))["deleted"] is True
