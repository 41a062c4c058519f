"""The supervision tree as an operator sees it, and what they do to it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import trio

from tests.conftest import Server
from tests.house import Account, House
from tests.http.desk import refusal
from tests.shop import Json, data

LEAVES = {
    "audit": {"keeper", "months"},
    "switches": {"flags", "maintenance", "announcements"},
    "exporting": {"exporter"},
    "money": {"payouts", "onboarding", "reversals", "refunds", "disputes", "payments", "reconciler"},
}
ALONE = {"notifier", "warranties", "janitor", "lookout"}


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


# -- one by one --------------------------------------------------------------------------------------------------------

PAYOUTS = "/admin/actors/veza/money/payouts"


async def test_actors_are_listed_without_their_supervisors_filtered_and_sorted(house: House) -> None:
    admin = await house.admin()
    everyone = data(await house.get("/admin/actors?limit=100", admin))
    assert everyone["total"] == len(everyone["actors"]) == sum(map(len, LEAVES.values())) + len(ALONE)
    assert [each["path"] for each in everyone["actors"]][:2] == ["veza/audit/keeper", "veza/audit/months"]
    page = data(await house.get("/admin/actors?limit=2&offset=1", admin))
    assert (page["actors"][0]["path"], page["total"]) == ("veza/audit/months", everyone["total"])
    payers = data(await house.get("/admin/actors?kind=Payer&state=running", admin))
    assert [each["path"] for each in payers["actors"]] == ["veza/money/payouts"]
    assert data(await house.get("/admin/actors?state=paused", admin)) == {"actors": [], "total": 0}
    data(await act(house, admin, "restart", 1))
    await house.until(PAYOUTS, admin, lambda seen: (seen["incarnation"], seen["state"]) == (2, "running"))
    restarted = data(await house.get("/admin/actors?sort=restarts&limit=1", admin))
    assert restarted["actors"][0]["path"] == "veza/money/payouts"
    for sort in ("mailbox_depth", "oldest_age", "p99"):
        assert data(await house.get(f"/admin/actors?sort={sort}", admin))["total"] == everyone["total"]


async def test_a_filter_that_makes_no_sense_is_refused(house: House) -> None:
    admin = await house.admin()
    for query in ("state=asleep", "sort=name", "limit=0"):
        assert refusal(await house.get(f"/admin/actors?{query}", admin)) == (400, "invalid")


async def test_one_is_shown_by_its_path_with_its_incarnation_for_an_etag(house: House) -> None:
    admin = await house.admin()
    seen = await house.get(PAYOUTS, admin)
    assert (data(seen)["kind"], seen.headers["etag"]) == ("Payer", '"1"')
    assert data(seen)["mailbox"]["capacity"] > 0
    money = data(await house.get("/admin/actors/veza/money", admin))
    assert {child["path"] for child in money["children"]} == {f"veza/money/{name}" for name in LEAVES["money"]}
    for path in ("veza/nobody", "nobody", "veza//money"):
        assert refusal(await house.get(f"/admin/actors/{path}", admin)) == (404, "not_found")


# -- acting ------------------------------------------------------------------------------------------------------------


async def act(house: House, admin: Account, action: str, incarnation: int, reason: str = "A test.") -> httpx.Response:
    headers = {"If-Match": f'"{incarnation}"'}
    return await house.post(f"{PAYOUTS}/{action}", admin, headers=headers, json={"reason": reason})


async def entries(house: House, admin: Account) -> list[Json]:
    found: list[Json] = data(await house.get("/admin/audit?resource=actors/", admin))["entries"]
    return found


async def test_a_restart_begins_the_next_incarnation_and_is_audited_with_its_reason(house: House) -> None:
    admin = await house.admin()
    data(await act(house, admin, "restart", 1, "It looked stuck."))
    await house.until(PAYOUTS, admin, lambda seen: (seen["incarnation"], seen["state"]) == (2, "running"))
    assert (await house.get(PAYOUTS, admin)).headers["etag"] == '"2"'
    (entry,) = await entries(house, admin)
    assert (entry["action"], entry["resource"]) == ("actor.restart", "actors/veza/money/payouts")
    assert entry["user_id"] == admin.id
    assert entry["details"] == {"reason": "It looked stuck.", "incarnation": 1}


async def test_of_two_who_restart_one_incarnation_one_is_told_that_they_come_too_late_and_nothing_is_written_of_it(
    house: House,
) -> None:
    admin = await house.admin()
    answers = list[httpx.Response]()

    async def restart(reason: str) -> None:
        answers.append(await act(house, admin, "restart", 1, reason))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(restart, f"Operator {number}.")
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
    await house.until(PAYOUTS, admin, lambda seen: (seen["incarnation"], seen["state"]) == (2, "running"))
    assert [entry["details"]["incarnation"] for entry in await entries(house, admin)] == [1]


async def test_a_pause_is_seen_with_its_reason_degrades_readiness_and_ends_with_a_resume(house: House) -> None:
    admin = await house.admin()
    assert data(await act(house, admin, "pause", 1, "The books are being checked."))["state"] == "paused"
    seen = data(await house.get(PAYOUTS, admin))
    assert (seen["state"], seen["paused_because"]) == ("paused", "The books are being checked.")
    ready = await house.get("/readyz")
    assert (ready.status_code, ready.json()["data"]["checks"]["actors"]["status"]) == (200, "degraded")
    assert data(await act(house, admin, "resume", 1))["state"] == "running"
    assert [entry["action"] for entry in await entries(house, admin)] == ["actor.resume", "actor.pause"]


async def test_what_is_drained_degrades_readiness_until_it_is_resumed(house: House) -> None:
    admin = await house.admin()
    data(await act(house, admin, "drain", 1))
    await house.until(PAYOUTS, admin, lambda seen: seen["state"] == "drained")
    await house.until("/readyz", None, lambda told: told["checks"]["actors"]["status"] == "degraded")
    assert data(await act(house, admin, "resume", 1))["state"] == "running"


UNMEANT = [
    ({}, (428, "precondition_required")),
    ({"If-Match": '"2"'}, (412, "precondition_failed")),
    ({"If-Match": "*"}, (412, "precondition_failed")),
    ({"If-Match": '"1", "2"'}, (412, "precondition_failed")),
    ({"If-Match": '"one"'}, (412, "precondition_failed")),
    ({"If-Match": '""'}, (412, "precondition_failed")),
    ({"If-Match": '"\xb2"'}, (412, "precondition_failed")),
    ({"If-Match": f'"{"9" * 5000}"'}, (412, "precondition_failed")),
]


async def test_who_does_not_say_which_incarnation_is_there_changes_nothing(house: House) -> None:
    admin = await house.admin()
    for action in ("restart", "pause", "resume", "drain"):
        for headers, refused in UNMEANT:
            sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            sent.append((b"Authorization", f"Bearer {admin.token}".encode()))
            answer = await house.http.post(f"{PAYOUTS}/{action}", headers=sent, json={"reason": "A test."})
            assert refusal(answer) == refused
    seen = data(await house.get(PAYOUTS, admin))
    assert (seen["state"], seen["incarnation"]) == ("running", 1)
    assert await entries(house, admin) == []


async def test_without_a_reason_nothing_is_done(house: House) -> None:
    admin = await house.admin()
    for body in ({}, {"reason": " "}, {"reason": "x" * 501}, {"reason": "a\nb"}, {"reason": 1}):
        answer = await house.post(f"{PAYOUTS}/pause", admin, headers={"If-Match": '"1"'}, json=body)
        assert refusal(answer) == (400, "invalid")
    assert data(await house.get(PAYOUTS, admin))["state"] == "running"


async def test_a_supervisor_is_looked_at_and_not_acted_upon(house: House) -> None:
    admin = await house.admin()
    sent = {"headers": {"If-Match": '"1"'}, "json": {"reason": "A test."}}
    assert refusal(await house.post("/admin/actors/veza/money/restart", admin, **sent)) == (404, "not_found")
    assert await entries(house, admin) == []


# -- while the database is away ----------------------------------------------------------------------------------------


async def test_while_the_database_is_away_an_admin_of_a_moment_ago_sees_everything_and_does_nothing(
    house: House, postgres: Server, dsn: str
) -> None:
    admin, other = await house.admin(), await house.sign_up("mallory")
    await house.get(PAYOUTS, admin)
    await house.get(PAYOUTS, other)
    with postgres.away(dsn):
        for path in ("/admin/actors/tree", "/admin/actors", PAYOUTS):
            assert (await house.get(path, admin)).status_code == 200
            assert (await house.get(path, other)).status_code == 503
        assert (await act(house, admin, "pause", 1)).status_code == 503
        assert data(await house.get(PAYOUTS, admin))["state"] == "running"
    with trio.fail_after(20):
        await house.until("/readyz", None, lambda told: told["checks"]["database"]["status"] == "ok")
    assert await entries(house, admin) == []
