"""Feature flags in a running house: who may throw them, and what each does, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
import trio

from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import Json, Shop, data
from veza.actors import switches
from veza.domain.flags import DESCRIPTIONS, Flag

FLAGS = "/admin/feature-flags"
AUDITED = """
SELECT actor_id::text, action, resource, request_id, details FROM audit_entries WHERE action = 'flag.switch' ORDER BY id
"""
OFF = (403, "feature_disabled")


@dataclass
class Panel:
    house: House
    shop: Shop
    admin: Account
    ana: Account
    bo: Account

    async def throw(self, flag: Flag, *, on: bool) -> None:
        data(await self.house.put(f"{FLAGS}/{flag}", self.admin, json={"enabled": on}))

    async def transfer(self, status: str) -> Json:
        """The seller's one transfer, as soon as it has this status."""

        def there(seen: Any) -> bool:
            return [each["status"] for each in seen["transfers"]] == [status]

        seen = await self.house.until("/sell/transfers", self.ana, there)
        found: Json = seen["transfers"][0]
        return found


@pytest.fixture
async def panel(house: House) -> AsyncIterator[Panel]:
    with trio.fail_after(30):
        admin, ana, bo = await house.admin(), await house.sign_up("ana"), await house.sign_up("ben")
        yield Panel(house, Shop(house), admin, ana, bo)


# -- throwing ----------------------------------------------------------------------------------------------------------


async def test_all_flags_are_listed_with_what_they_do_and_none_was_thrown(panel: Panel) -> None:
    seen = data(await panel.house.get(FLAGS, panel.admin))
    assert seen == {
        "feature_flags": [
            {"name": str(flag), "enabled": True, "description": DESCRIPTIONS[flag], "updated_at": None} for flag in Flag
        ],
        "total": 6,
    }
    page = data(await panel.house.get(f"{FLAGS}?limit=2&offset=5", panel.admin))
    assert ([each["name"] for each in page["feature_flags"]], page["total"]) == (["exports.enabled"], 6)


async def test_a_flag_that_is_thrown_is_answered_listed_and_audited(panel: Panel) -> None:
    path = f"{FLAGS}/cloud.uploads"
    thrown = data(await panel.house.put(path, panel.admin, json={"enabled": False}, headers={"X-Request-ID": "req-7"}))
    assert (thrown["name"], thrown["enabled"]) == ("cloud.uploads", False)
    assert thrown["updated_at"].endswith("Z")
    listed = data(await panel.house.get(FLAGS, panel.admin))["feature_flags"]
    assert [each for each in listed if not each["enabled"]] == [thrown]
    back = data(await panel.house.put(path, panel.admin, json=thrown | {"enabled": True}))
    assert back["enabled"]
    assert back["updated_at"] > thrown["updated_at"]
    first, second = panel.shop.run(AUDITED)
    assert first == (panel.admin.id, "flag.switch", "feature_flags/cloud.uploads", "req-7", {"enabled": False})
    assert second[4] == {"enabled": True}


@pytest.mark.parametrize("name", ["nothing", "AUTH.REGISTRATION", "auth.registration.x"])
async def test_an_unknown_name_is_not_found(panel: Panel, name: str) -> None:
    answer = await panel.house.put(f"{FLAGS}/{name}", panel.admin, json={"enabled": False})
    assert refusal(answer) == (404, "not_found")
    assert panel.shop.run(AUDITED) == []


NO_SWITCHES: Sequence[Json] = [{}, {"enabled": "false"}, {"enabled": 0}, {"enabled": None}, {"enabled": True, "x": 1}]


async def test_what_is_no_switch_is_refused(panel: Panel, subtests: pytest.Subtests) -> None:
    for body in NO_SWITCHES:
        with subtests.test(repr(body)):
            answer = await panel.house.put(f"{FLAGS}/cloud.uploads", panel.admin, json=body)
            assert refusal(answer) == (400, "invalid")
            assert panel.shop.run(AUDITED) == []


async def test_only_admins_see_and_throw_them(panel: Panel) -> None:
    for by, told in ((None, (401, "unauthenticated")), (panel.ana, (403, "forbidden"))):
        assert refusal(await panel.house.get(FLAGS, by)) == told
        assert refusal(await panel.house.put(f"{FLAGS}/cloud.uploads", by, json={"enabled": False})) == told
        assert refusal(await panel.house.put(f"{FLAGS}/nothing", by, json={"enabled": False})) == told


@pytest.fixture
def rung_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by the clock: what is gone by was rung for. How soon is measured in tests/e2e/test_switches.py."""
    monkeypatch.setattr(switches, "POLL_SECONDS", 3600.0)


@pytest.mark.usefixtures("rung_for")
async def test_what_an_operator_writes_with_sql_is_gone_by_as_well(panel: Panel) -> None:
    panel.shop.run("INSERT INTO feature_flags (name, enabled) VALUES ('auth.registration', false)")
    with trio.fail_after(20):
        while (await register(panel.house, "eve")).status_code != 403:
            pass


# -- what each does ----------------------------------------------------------------------------------------------------


async def register(house: House, name: str) -> httpx.Response:
    body = {"username": name, "email": f"{name}@veza.example", "password": "correct-horse-1"}
    return await house.post("/auth/register", json=body)


async def test_nobody_new_signs_up_and_who_has_an_account_comes_in(panel: Panel) -> None:
    await panel.throw(Flag.REGISTRATION, on=False)
    assert refusal(await register(panel.house, "eve")) == OFF
    assert panel.shop.run("SELECT 1 FROM users WHERE username = 'eve'") == []
    assert (await panel.house.post("/auth/refresh", json={"refresh_token": panel.ana.refresh_token})).status_code == 200
    await panel.house.admin()
    await panel.throw(Flag.REGISTRATION, on=True)
    assert (await register(panel.house, "eve")).status_code == 201


async def test_no_order_is_made_and_those_there_are_go_on(panel: Panel) -> None:
    track = await panel.shop.on_sale(panel.ana)
    order = await panel.shop.ordered(panel.bo, track, key="one")
    await panel.throw(Flag.CHECKOUT, on=False)
    assert refusal(await panel.shop.order(panel.bo, track)) == OFF
    assert refusal(await panel.shop.order(panel.bo, track, key="two")) == OFF
    repeated = await panel.shop.ordered(panel.bo, track, key="one")
    assert (repeated["id"], repeated["payment"]) == (order["id"], order["payment"])
    await panel.shop.pay(order)
    await panel.shop.until_status(panel.bo, order, "paid")
    assert panel.shop.run("SELECT count(*) FROM orders") == [(1,)]
    await panel.throw(Flag.CHECKOUT, on=True)
    await panel.shop.ordered(panel.bo, track, key="two")


async def test_sales_are_booked_and_their_transfers_wait_until_paying_out_is_on_again(panel: Panel) -> None:
    link = data(await panel.house.post("/sell/connect/onboard", panel.ana))["onboarding_url"]
    await panel.house.http.post(link, follow_redirects=True)
    await panel.house.until("/sell/connect/status", panel.ana, lambda seen: seen["transfers_active"])
    await panel.throw(Flag.PAYOUTS, on=False)
    await panel.shop.bought(panel.bo, await panel.shop.on_sale(panel.ana))
    held = await panel.transfer("held")
    assert (held["hold_reason"], held["next_retry_at"], held["retry_count"]) == ("flag", None, 0)
    assert (await panel.house.sandbox.stripe_client().v1.transfers.list_async()).data == []
    assert refusal(await panel.house.post(f"/admin/transfers/{held['id']}/retry", panel.admin)) == OFF
    release = await panel.house.post(f"/admin/transfers/{held['id']}/release", panel.admin)
    assert refusal(release) == (409, "not_releasable")
    await panel.throw(Flag.PAYOUTS, on=True)
    began = trio.current_time()
    paid = await panel.transfer("completed")
    assert trio.current_time() - began < 2
    assert paid["hold_reason"] is None
    assert len((await panel.house.sandbox.stripe_client().v1.transfers.list_async()).data) == 1
    assert data(await panel.house.get("/admin/ledger/verify", panel.admin))["balanced"]


async def test_no_file_is_uploaded_and_no_export_is_asked_for(panel: Panel) -> None:
    await panel.throw(Flag.UPLOADS, on=False)
    await panel.throw(Flag.EXPORTS, on=False)
    assert refusal(await upload(panel)) == OFF
    assert refusal(await panel.house.post("/users/me/export", panel.ana)) == OFF
    await panel.throw(Flag.UPLOADS, on=True)
    await panel.throw(Flag.EXPORTS, on=True)
    assert (await upload(panel)).status_code == 201
    assert (await panel.house.post("/users/me/export", panel.ana)).status_code == 202


async def test_an_export_that_waits_is_begun_at_once_when_it_is_on_again(panel: Panel) -> None:
    await panel.throw(Flag.EXPORTS, on=False)
    export_id = UUID(int=7)
    panel.shop.run("INSERT INTO exports (id, user_id, created_at) VALUES (%s, %s, now())", export_id, panel.ana.id)
    path = f"/users/me/exports/{export_id}"
    assert data(await panel.house.get(path, panel.ana))["status"] == "queued"
    await panel.throw(Flag.EXPORTS, on=True)
    began = trio.current_time()
    await panel.house.until(path, panel.ana, lambda seen: seen["status"] == "ready")
    assert trio.current_time() - began < 3


async def upload(panel: Panel) -> httpx.Response:
    return await panel.house.post("/cloud/files", panel.ana, files={"file": ("a.wav", b"RIFF", "audio/wav")})
