"""Reconciliations over HTTP: our books against what the payout provider lists, each difference by its name."""

from __future__ import annotations

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.sandbox.running import STRIPE_KEY
from tests.shop import Shop, data

PATH = "/admin/reconciliations"
AUDIT = "SELECT actor_id::text, resource, details FROM audit_entries WHERE action = 'ledger.reconcile'"


async def a_paid_transfer(house: House) -> tuple[Shop, str, str]:
    """A sale whose seller was paid: the transfer's id and the provider's."""
    shop, ana, ben = Shop(house), await house.sign_up("ana"), await house.sign_up("ben")
    link = data(await house.post("/sell/connect/onboard", ana))["onboarding_url"]
    await house.http.post(link, follow_redirects=True)
    await house.until("/sell/connect/status", ana, lambda seen: seen["transfers_active"])
    await shop.bought(ben, await shop.on_sale(ana))
    await house.until("/sell/transfers", ana, lambda seen: seen["transfers"][0]["status"] == "completed")
    [(transfer, ref)] = shop.run("SELECT id::text, external_ref FROM transfers")
    return shop, transfer, ref


async def at_provider(house: House, path: str, form: dict[str, object]) -> str:
    """What somebody does there behind our back; the id of what it makes."""
    headers = {"Authorization": f"Bearer {STRIPE_KEY}"}
    async with httpx.AsyncClient(base_url=house.sandbox.stripe_url, headers=headers) as provider:
        answer = await provider.post(f"/v1/{path}", data=form)
    made: str = answer.raise_for_status().json()["id"]
    return made


async def reconciled(house: House, admin: Account) -> list[tuple[str, str]]:
    """Every difference's name and subject."""
    answer = await house.post(PATH, admin)
    assert answer.status_code == 201
    done = data(answer)
    assert done["provider_asked"] is True
    assert done["balanced"] is not bool(done["findings"])
    return [(finding["code"], finding["subject"]) for finding in done["findings"]]


async def test_books_that_agree_are_balanced_and_every_look_is_kept_and_audited(house: House) -> None:
    admin = await house.admin()
    with trio.fail_after(40):
        shop, *_ = await a_paid_transfer(house)
        assert await reconciled(house, admin) == []
        assert await reconciled(house, admin) == []
        kept = data(await house.get(f"{PATH}?limit=1", admin))
    assert kept["total"] == 2
    [latest] = kept["reconciliations"]
    assert (latest["balanced"], latest["findings"]) == (True, [])
    assert (admin.id, f"reconciliation:{latest['id']}", {"findings": 0}) in shop.run(AUDIT)
    assert shop.run("SELECT due_at > now() + interval '23 hours' FROM schedules") == [(True,)]


async def test_each_difference_has_its_name(house: House) -> None:
    admin = await house.admin()
    with trio.fail_after(60):
        shop, transfer, ref = await a_paid_transfer(house)
        [(account,)] = shop.run("SELECT account_id FROM connect_accounts")
        wish = {"amount": 1, "currency": "eur", "destination": account, "metadata[transfer_id]": transfer}
        twin = await at_provider(house, "transfers", wish)
        found = await reconciled(house, admin)
        assert set(found) == {("not_booked", twin), ("made_twice", transfer)}
        await at_provider(house, f"transfers/{ref}/reversals", {"amount": 7})
        assert ("reversal_not_booked", transfer) in await reconciled(house, admin)
        shop.run("UPDATE transfers SET amount_cents = amount_cents - 1")
        assert ("unlike", transfer) in await reconciled(house, admin)
        shop.run("UPDATE transfers SET external_ref = 'tr_lost'")
        found = await reconciled(house, admin)
        assert ("missing_at_provider", transfer) in found
        assert "invariant_5" in {code for code, _ in found}


async def test_a_provider_that_can_not_be_asked_is_503_and_nothing_is_kept(house: House) -> None:
    admin = await house.admin()
    with trio.fail_after(40):
        await a_paid_transfer(house)
        await house.sandbox.stripe_control.fault("503", times=None, method="GET")
        answer = await house.post(PATH, admin)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
        assert data(await house.get(PATH, admin)) == {"reconciliations": [], "total": 0}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_reconciliations_are_for_admins(house: House, method: str) -> None:
    assert (await house.request(method, PATH)).status_code == 401
    assert (await house.request(method, PATH, await house.sign_up("ana"))).status_code == 403
