"""The ledger's examination, over a real sale."""

from __future__ import annotations

import trio

from tests.house import House
from tests.shop import Shop, data


async def test_after_a_sale_the_ledger_balances_and_what_was_tampered_with_is_found(house: House) -> None:
    shop, ana, bo, admin = Shop(house), await house.sign_up("ana"), await house.sign_up("ben"), await house.admin()
    with trio.fail_after(20):
        link = data(await house.post("/sell/connect/onboard", ana))["onboarding_url"]
        await house.http.post(link, follow_redirects=True)
        await shop.bought(bo, await shop.on_sale(ana))
        await house.until("/sell/transfers", ana, lambda seen: seen["transfers"][0]["status"] == "completed")
        verified = data(await house.get("/admin/ledger/verify", admin))
        assert verified == {"balanced": True, "provider_asked": True, "findings": []}

        shop.run("UPDATE transfers SET amount_cents = amount_cents + 1")
        verified = data(await house.get("/admin/ledger/verify", admin))
    assert verified["balanced"] is False
    assert {finding["invariant"][0] for finding in verified["findings"]} == {"3", "5", "6"}
    assert all(finding["subject"] and finding["detail"] for finding in verified["findings"])


async def test_a_provider_that_cannot_be_asked_is_503_and_not_a_clean_bill(house: House) -> None:
    admin, ana = await house.admin(), await house.sign_up("ana")
    with trio.fail_after(20):
        data(await house.post("/sell/connect/onboard", ana))
        await house.sandbox.stripe_control.fault("503", times=None)
        answer = await house.get("/admin/ledger/verify", admin)
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")


async def test_the_examination_is_for_admins_only(house: House) -> None:
    assert (await house.get("/admin/ledger/verify")).status_code == 401
    assert (await house.get("/admin/ledger/verify", await house.sign_up("mallory"))).status_code == 403
