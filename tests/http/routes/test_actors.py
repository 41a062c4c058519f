"""The supervision tree as an operator sees it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.house import House
from tests.shop import Json

LEAVES = {
    "audit": {"keeper", "months"},
    "switches": {"flags", "maintenance"},
    "exporting": {"exporter"},
    "money": {"payouts", "onboarding", "reversals", "refunds", "disputes", "payments", "reconciler"},
}
ALONE = {"notifier", "warranties", "janitor"}


def actors_below(node: Json) -> Iterator[Json]:
    """The leaves of the tree: supervisors have children, those of a dynamic one come and go."""
    if "children" not in node:
        yield node
    for child in node.get("children", ()):
        yield from actors_below(child)


async def test_an_admin_sees_every_actor_with_its_counters(house: House) -> None:
    tree = (await house.get("/admin/actors/tree", await house.admin())).raise_for_status().json()["data"]["tree"]
    assert (tree["path"], tree["state"]) == ("veza", "running")
    (exports,) = (
        child
        for branch in tree["children"]
        for child in branch.get("children", ())
        if child["path"] == "veza/exporting/exports"
    )
    assert (exports["children"], exports["limit"]) == ([], 2)
    actors = {actor["path"]: actor for actor in actors_below(tree)}
    below = {f"veza/{branch}/{name}" for branch, names in LEAVES.items() for name in names}
    assert actors.keys() == below | {f"veza/{name}" for name in ALONE}
    for actor in actors.values():
        assert actor["state"] == "running"
        assert actor["incarnation"] == 1
        assert actor["mailbox"]["capacity"] > 0
        assert actor["last_crash"] is None


async def test_the_tree_is_for_admins_only(house: House) -> None:
    assert (await house.get("/admin/actors/tree")).status_code == 401
    assert (await house.get("/admin/actors/tree", await house.sign_up("mallory"))).status_code == 403
