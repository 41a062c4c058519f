"""Transfers for admins: every filter, and the retry that tries at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from tests.house import House
from tests.scene import Scene, set_the_scene
from tests.shop import Shop, data

RETRIES = "SELECT actor_id::text, resource, request_id FROM audit_entries WHERE action = 'transfer.retry'"

NOTHING = {"count": 0, "amount_cents": 0, "withheld_cents": 0, "reversed_cents": 0}


@pytest.fixture
async def scene(house: House) -> Scene:
    return await set_the_scene(house)


async def test_an_admin_sees_every_transfer_whole(scene: Scene) -> None:
    with trio.fail_after(20):
        await scene.sold()
        transfer = await scene.newest("completed")
    assert transfer["seller_id"] == scene.ana.id
    assert (transfer["amount_cents"], transfer["platform_fee_cents"], transfer["currency"]) == (2699, 300, "EUR")
    assert (transfer["retry_count"], transfer["failure_code"], transfer["hold_reason"]) == (0, None, None)
    assert transfer["external_ref"].startswith("tr_")
    assert transfer["created_at"].endswith("Z")


async def test_the_filters_narrow_the_list_and_its_total(scene: Scene) -> None:
    eve = await scene.house.sign_up("eve")
    with trio.fail_after(20):
        for price in (1000, 2000, 3000):
            await scene.sold(price_cents=price)
            await scene.newest("completed")
        await scene.shop.bought(scene.bo, await scene.shop.on_sale(eve, price_cents=4000))
    for day, cents in enumerate((900, 1800, 2700, 3600), start=20):
        moment = f"2026-02-{day} 12:00Z"
        scene.shop.run("UPDATE transfers SET created_at = %s WHERE amount_cents = %s", moment, cents)

    async def seen(query: str) -> tuple[list[int], int]:
        found = data(await scene.house.get(f"/admin/transfers?{query}", scene.admin))
        return [each["amount_cents"] for each in found["transfers"]], found["total"]

    assert await seen("") == ([3600, 2700, 1800, 900], 4)
    assert await seen("status=held") == ([3600], 1)
    assert await seen(f"seller_id={scene.ana.id}&limit=2&offset=1") == ([1800, 900], 3)
    assert await seen("from=2026-02-21&to=2026-02-23") == ([2700, 1800], 2)
    assert await seen("from=2026-02-21T12:00:00Z&to=2026-02-22T12:00:00Z") == ([1800], 1)
    assert await seen("from=2026-02-21T13:00:00%2B01:00&to=2026-02-21T12:00:00.001Z") == ([1800], 1)
    assert await seen(f"seller_id={eve.id}&status=completed") == ([], 0)
    assert await seen(f"seller_id={uuid4()}") == ([], 0)
    assert await seen("offset=4") == ([], 4)
    assert await seen("from=0001-01-01&to=9999-12-31T23:59:59.999z&limit[]=1&tag[]=x") == await seen("")


SENSELESS: Sequence[str] = [
    "status=lost",
    "seller_id=ana",
    "from=yesterday",
    "from=2026-02-30",
    "to=2026-02-21T12:00:00",
    "from=2026-02-22&to=2026-02-21",
    "from=1795528595",
    "to=-1",
    "from=2026-W48-2",
    "from=9999-12-31T23:59:59-14:00",
    "to=0001-01-01T00:00:00%2B14:00",
    "limit=1.0",
    "limit=1_0",
    "offset=%2B5",
    "limit=0",
    "limit=1000",
    "offset=-1",
]


async def test_a_filter_that_makes_no_sense_is_400(house: House, subtests: pytest.Subtests) -> None:
    admin = await house.admin()
    for query in SENSELESS:
        with subtests.test(repr(query)):
            answer = await house.get(f"/admin/transfers?{query}", admin)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_transfers_are_for_admins_only(scene: Scene) -> None:
    with trio.fail_after(20):
        failed = await scene.refused_for_good()
    for method, path in (("GET", "/admin/transfers"), ("POST", f"/admin/transfers/{failed['id']}/retry")):
        assert (await scene.house.request(method, path)).status_code == 401
        assert (await scene.house.request(method, path, scene.ana)).status_code == 403
    assert (await scene.newest("failed")) == failed


async def test_a_retry_pays_at_once_answers_with_the_outcome_and_is_audited(scene: Scene) -> None:
    with trio.fail_after(20):
        failed = await scene.refused_for_good()
        assert (failed["failure_code"], failed["retry_count"]) == ("account_invalid", 0)
        answer = await scene.house.post(f"/admin/transfers/{failed['id']}/retry", scene.admin)
    retried = data(answer)
    assert (retried["id"], retried["status"], retried["retry_count"]) == (failed["id"], "completed", 1)
    assert await scene.at_the_provider() == 1
    audited = scene.shop.run(RETRIES)
    assert audited == [(scene.admin.id, f"transfer:{failed['id']}", answer.headers["X-Request-ID"])]


async def test_a_retry_that_fails_again_says_why(scene: Scene) -> None:
    with trio.fail_after(20):
        failed = await scene.refused_for_good()
        await scene.house.sandbox.stripe_control.fault("account_invalid", path="/v1/transfers")
        retried = data(await scene.house.post(f"/admin/transfers/{failed['id']}/retry", scene.admin))
    assert (retried["status"], retried["next_retry_at"], retried["retry_count"]) == ("failed", None, 1)
    assert (retried["failure_code"], bool(retried["failure_message"])) == ("account_invalid", True)


async def test_retrying_five_times_at_once_pays_once(scene: Scene) -> None:
    statuses: list[int] = []
    with trio.fail_after(20):
        failed = await scene.refused_for_good()

        async def retry() -> None:
            answer = await scene.house.post(f"/admin/transfers/{failed['id']}/retry", scene.admin)
            statuses.append(answer.status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(retry)
    assert sorted(set(statuses)) in ([200, 409], [200, 409, 503]), "one pays, the others come too late or are too many"
    assert statuses.count(200) == 1
    assert await scene.at_the_provider() == 1


async def test_what_is_not_to_be_retried_is_409_and_stays_as_it_is(scene: Scene) -> None:
    with trio.fail_after(20):
        await scene.sold()
        paid = await scene.newest("completed")
        failed = await scene.refused_for_good()
        scene.shop.run("UPDATE transfers SET status = 'held', hold_reason = 'admin' WHERE id = %s", failed["id"])
    held = await scene.newest("held")
    for transfer in (paid, held):
        answer = await scene.house.post(f"/admin/transfers/{transfer['id']}/retry", scene.admin)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_retryable")
        assert (await scene.newest(transfer["status"])) == transfer
    assert scene.shop.run(RETRIES) == []


@pytest.mark.parametrize("name", [str(UUID(int=1)), "x", "1"])
async def test_a_transfer_that_is_not_there_is_404(house: House, name: str) -> None:
    assert (await house.post(f"/admin/transfers/{name}/retry", await house.admin())).status_code == 404


async def test_a_key_that_the_provider_refuses_stops_the_payouts_and_is_told_to_whoever_probes(scene: Scene) -> None:
    with trio.fail_after(20):
        await scene.house.sandbox.stripe_control.fault("401", path="/v1/transfers")
        await scene.sold()
        await scene.house.until("/readyz", None, lambda seen: seen["checks"]["actors"]["status"] == "degraded")
        [waiting] = data(await scene.house.get("/admin/transfers", scene.admin))["transfers"]
    assert (waiting["status"], waiting["retry_count"], waiting["failure_code"]) == ("pending", 0, "unauthorized")


# -- held and released -------------------------------------------------------------------------------------------------

MOVES = "SELECT actor_id::text, action, resource, details FROM audit_entries WHERE action LIKE 'transfer.%' ORDER BY at"


async def moved(scene: Scene, transfer: Any, what: str, **body: object) -> Any:
    return data(await scene.house.post(f"/admin/transfers/{transfer['id']}/{what}", scene.admin, json=body))


async def test_what_an_admin_holds_is_not_tried_until_one_releases_it_and_both_are_audited(scene: Scene) -> None:
    with trio.fail_after(30):
        failed = await scene.refused_for_good()
        held = await moved(scene, failed, "hold", reason="The seller called.")
        assert (held["status"], held["hold_reason"], held["next_retry_at"]) == ("held", "admin", None)
        retried = await scene.house.post(f"/admin/transfers/{failed['id']}/retry", scene.admin)
        assert (retried.status_code, retried.json()["code"]) == (409, "not_retryable")
        assert await scene.at_the_provider() == 0
        assert (await moved(scene, failed, "release"))["status"] == "pending"
        paid = await scene.newest("completed")
        assert paid["id"] == failed["id"]
    was = {"status": "failed", "hold_reason": None}
    told = {"status": "held", "hold_reason": "admin"}
    resource = f"transfer:{failed['id']}"
    assert scene.shop.run(MOVES) == [
        (scene.admin.id, "transfer.hold", resource, was | {"reason": "The seller called."}),
        (scene.admin.id, "transfer.release", resource, told),
    ]


async def test_released_a_transfer_waits_on_for_its_seller_to_come_on_board(house: House) -> None:
    shop, admin = Shop(house), await house.admin()
    ana, ben = await house.sign_up("ana"), await house.sign_up("ben")
    with trio.fail_after(30):
        await shop.bought(ben, await shop.on_sale(ana))
        [transfer] = data(await house.get("/admin/transfers", admin))["transfers"]
        path = f"/admin/transfers/{transfer['id']}"
        assert data(await house.post(f"{path}/hold", admin))["hold_reason"] == "admin"
        released = data(await house.post(f"{path}/release", admin))
    assert (released["status"], released["hold_reason"]) == ("held", "not_onboarded")


async def test_what_is_over_or_held_for_another_reason_is_neither_held_nor_released(scene: Scene) -> None:
    with trio.fail_after(30):
        await scene.sold()
        paid = await scene.newest("completed")
        path = f"/admin/transfers/{paid['id']}"
        held, released = [await scene.house.post(f"{path}/{what}", scene.admin) for what in ("hold", "release")]
        assert (held.status_code, held.json()["code"]) == (409, "not_holdable")
        assert (released.status_code, released.json()["code"]) == (409, "not_releasable")
        scene.shop.run("UPDATE transfers SET status = 'held', hold_reason = 'disputed' WHERE id = %s", paid["id"])
        for what in ("hold", "release"):
            assert (await scene.house.post(f"{path}/{what}", scene.admin)).status_code == 409
        for reader, status in ((None, 401), (scene.ana, 403)):
            assert (await scene.house.post(f"{path}/hold", reader)).status_code == status
        assert (await scene.house.post(f"/admin/transfers/{uuid4()}/hold", scene.admin)).status_code == 404
        wrong = await scene.house.post(f"{path}/hold", scene.admin, json={"reason": "x" * 501})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid")
    assert scene.shop.run(MOVES) == []


async def test_the_list_adds_up_what_there_is_of_each_status(scene: Scene) -> None:
    with trio.fail_after(30):
        await scene.sold()
        await scene.sold(price_cents=1000)
        await scene.house.until("/admin/transfers?status=completed", scene.admin, lambda seen: seen["total"] == 2)
        totals = data(await scene.house.get("/admin/transfers?status=held&limit=1", scene.admin))["totals"]
        assert totals.pop("completed") == NOTHING | {"count": 2, "amount_cents": 2699 + 900}
        assert set(totals) == {"pending", "processing", "failed", "held", "reversed"}
        assert all(total == NOTHING for total in totals.values())
        none = data(await scene.house.get(f"/admin/transfers?seller_id={uuid4()}", scene.admin))["totals"]
        assert none["completed"] == NOTHING
