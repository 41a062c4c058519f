"""The supervision tree as an operator sees it."""

from __future__ import annotations

from tests.house import House


async def test_an_admin_sees_every_actor_with_its_counters(house: House) -> None:
    tree = (await house.get("/admin/actors/tree", await house.admin())).raise_for_status().json()["data"]["tree"]
    assert (tree["path"], tree["state"]) == ("veza", "running")
    branches = {branch["path"]: branch for branch in tree["children"]}
    money = branches.pop("veza/money")["children"]
    exports, exporter = branches.pop("veza/exporting")["children"]
    assert (exports["path"], exports["children"], exports["limit"]) == ("veza/exporting/exports", [], 2)
    actors = {actor["path"]: actor for actor in (*money, exporter)} | branches
    names = {"payouts", "onboarding", "reversals", "refunds", "disputes", "payments", "reconciler"}
    others = {"notifier", "warranties", "janitor", "exporting/exporter"}
    assert actors.keys() == {f"veza/money/{name}" for name in names} | {f"veza/{name}" for name in others}
    for actor in actors.values():
        assert actor["state"] == "running"
        assert actor["incarnation"] == 1
        assert actor["mailbox"]["capacity"] > 0
        assert actor["last_crash"] is None


async def test_the_tree_is_for_admins_only(house: House) -> None:
    assert (await house.get("/admin/actors/tree")).status_code == 401
    assert (await house.get("/admin/actors/tree", await house.sign_up("mallory"))).status_code == 403
