"""Selling: balance, transfers, and the way to an account at the payout provider and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.shop import Shop, data
from veza.domain.ids import utc_now
from veza.http.states import LIFETIME, States

NOT_CONNECTED = {"connected": False, "transfers_active": False, "details_submitted": False}


def state_of(house: House, user: Account, age: timedelta = timedelta(0)) -> str:
    secret = house.settings.jwt_secret.get_secret_value().encode()
    return States(secret, lambda: utc_now() - age).sign(UUID(user.id))


async def onboarding_link(house: House, seller: Account) -> str:
    link: str = data(await house.post("/sell/connect/onboard", seller))["onboarding_url"]
    return link


async def fill_in(house: House, link: str) -> httpx.Response:
    """What the seller does on the provider's page; then their browser comes back to us."""
    return await house.http.post(link, follow_redirects=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sell/balance"),
        ("GET", "/sell/transfers"),
        ("GET", "/sell/connect/status"),
        ("POST", "/sell/connect/onboard"),
    ],
)
async def test_selling_is_for_the_signed_in(house: House, method: str, path: str) -> None:
    assert (await house.request(method, path)).status_code == 401


async def test_someone_who_never_asked_has_no_account_and_no_balance(house: House) -> None:
    ana = await house.sign_up("ana")
    assert data(await house.get("/sell/connect/status", ana)) == NOT_CONNECTED
    balance = data(await house.get("/sell/balance", ana))
    nothing = {"available": 0, "pending": 0, "due": 0, "due_at": None, "held": 0, "owed": 0, "currency": "EUR"}
    assert balance == nothing | {"connected": False}
    assert data(await house.get("/sell/transfers", ana)) == {"transfers": [], "total": 0}


async def test_a_share_waits_for_its_seller_to_come_on_board_and_is_then_paid(house: House) -> None:
    shop, ana, bo = Shop(house), await house.sign_up("ana"), await house.sign_up("ben")
    with trio.fail_after(20):
        order = await shop.bought(bo, await shop.on_sale(ana))
        [held] = data(await house.get("/sell/transfers?status=held", ana))["transfers"]
        assert (held["order_id"], held["hold_reason"], held["amount_cents"]) == (order["id"], "not_onboarded", 2699)
        assert (held["next_retry_at"], held["platform_fee_cents"], held["currency"]) == (None, 300, "EUR")
        waiting = data(await house.get("/sell/balance", ana))
        assert (waiting["held"], waiting["due"], waiting["available"]) == (2699, 0, 0)

        back = await fill_in(house, await onboarding_link(house, ana))
        assert back.url.path == "/api/v1/sell/connect/return"
        assert data(back)["connected"] is True
        status = await house.until("/sell/connect/status", ana, lambda seen: seen["transfers_active"])
        assert status == {"connected": True, "transfers_active": True, "details_submitted": True}
        paid = await house.until("/sell/transfers", ana, lambda seen: seen["transfers"][0]["status"] == "completed")
        [transfer] = paid["transfers"]
        assert (transfer["id"], transfer["hold_reason"], transfer["retry_count"]) == (held["id"], None, 0)
        assert transfer["completed_at"] is not None
        balance = data(await house.get("/sell/balance", ana))
        assert (balance["connected"], balance["available"]) == (True, 2699)
        assert (balance["due"], balance["held"], balance["due_at"]) == (0, 0, None)


async def test_a_seller_sees_their_own_transfers_only_and_no_more_of_them_than_is_theirs_to_know(house: House) -> None:
    shop, ana, eve, bo = Shop(house), *[await house.sign_up(name) for name in ("ana", "eve", "ben")]
    with trio.fail_after(20):
        await shop.bought(bo, await shop.on_sale(ana), await shop.on_sale(eve))
        await shop.bought(bo, await shop.on_sale(ana, price_cents=500))
    seen = data(await house.get("/sell/transfers?limit=1", ana))
    assert (seen["total"], [each["amount_cents"] for each in seen["transfers"]]) == (2, [450])
    assert not {"external_ref", "failure_message", "seller_id"} & seen["transfers"][0].keys()
    assert data(await house.get("/sell/transfers", eve))["total"] == 1
    assert data(await house.get("/sell/transfers?status=completed", ana))["total"] == 0


SENSELESS: Sequence[str] = ["status=paid", "limit=0", "limit=101", "offset=-1", "limit=x"]


async def test_a_query_that_makes_no_sense_is_400(house: House, subtests: pytest.Subtests) -> None:
    ana = await house.sign_up("ana")
    for query in SENSELESS:
        with subtests.test(repr(query)):
            answer = await house.get(f"/sell/transfers?{query}", ana)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_asking_for_a_link_many_times_at_once_opens_one_account_and_each_link_is_new(house: House) -> None:
    ana = await house.sign_up("ana")
    links: list[str] = []

    async def ask() -> None:
        links.append(await onboarding_link(house, ana))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
    assert len(set(links)) == 5
    assert len(await house.sandbox.stripe_control.requests(method="POST", path="/v1/accounts")) == 1


async def test_a_link_that_was_used_up_leads_back_to_us_and_on_to_a_fresh_one(house: House) -> None:
    ana = await house.sign_up("ana")
    with trio.fail_after(20):
        link = await onboarding_link(house, ana)
        await fill_in(house, link)
        hops = [str(hop.url) for hop in (await house.http.get(link, follow_redirects=True)).history]
    assert hops[0] == link
    assert "/api/v1/sell/connect/refresh?state=" in hops[1]
    answer = await house.get(f"/sell/connect/refresh?state={state_of(house, ana)}")
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(house.sandbox.stripe_url)
    assert answer.headers["Location"] != link
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("page", ["return", "refresh"])
async def test_a_state_that_is_missing_forged_or_over_is_400_and_opens_nothing(house: House, page: str) -> None:
    ana = await house.sign_up("ana")
    stranger = States(b"x" * 32, utc_now).sign(UUID(ana.id))
    for state in ("", "x", ana.id, ana.token, stranger, state_of(house, ana, LIFETIME)):
        answer = await house.http.get(f"/sell/connect/{page}", params={"state": state})
        assert (answer.status_code, answer.json()["success"]) == (400, False), state
    assert (await house.get(f"/sell/connect/{page}")).status_code == 400
    assert data(await house.get("/sell/connect/status", ana)) == NOT_CONNECTED


async def test_while_the_provider_is_away_it_is_503_and_then_goes_on(house: House) -> None:
    ana = await house.sign_up("ana")
    with trio.fail_after(20):
        await fill_in(house, await onboarding_link(house, ana))
        await house.sandbox.stripe_control.fault("drop_before", times=None)
        for method, path in (("GET", "/sell/balance"), ("POST", "/sell/connect/onboard")):
            answer = await house.request(method, path, ana)
            assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        await house.sandbox.stripe_control.call("DELETE", "faults")
        assert data(await house.get("/sell/balance", ana))["connected"] is True
