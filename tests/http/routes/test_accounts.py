"""Accounts as admins see them, and a ban as whoever is banned meets it, in a running house."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import trio

from tests.events import listening
from tests.house import PASSWORD, Account, House
from tests.http.desk import refusal, signed
from tests.sales import Sales
from tests.shop import PRODUCTS, Json, Shop, data
from veza.domain.bans import zulu
from veza.store.bridge import Database

USERS = "/admin/users"
BANNED = (403, "banned")
FOREVER = "This account is banned. The reason: Spam."


@dataclass
class Office:
    house: House
    shop: Shop
    admin: Account
    ana: Account
    ben: Account

    async def ban(self, whom: Account, **body: object) -> Json:
        made: Json = data(await self.house.post(f"{USERS}/{whom.id}/ban", self.admin, json=body))
        return made

    async def unban(self, whom: Account) -> Json:
        made: Json = data(await self.house.post(f"{USERS}/{whom.id}/unban", self.admin))
        return made

    async def over(self, whom: Account) -> None:
        """The time of the ban has come to its end."""
        self.shop.run("UPDATE users SET banned_until = now() WHERE id = %s", whom.id)

    async def login(self, name: str, password: str = PASSWORD) -> Any:
        return await self.house.post("/auth/login", json={"email": f"{name}@veza.example", "password": password})

    async def sells(self) -> list[str]:
        return [each["id"] for each in data(await self.house.get(PRODUCTS))["products"]]

    async def audited(self) -> list[tuple[str, str]]:
        sql = "SELECT action, resource FROM audit_entries WHERE actor_id = %s AND action LIKE 'user.%%' ORDER BY at, id"
        return [(action, resource) for action, resource in self.shop.run(sql, self.admin.id)]


@pytest.fixture
async def office(house: House) -> AsyncIterator[Office]:
    with trio.fail_after(40):
        admin, ana, ben = await house.admin(), await house.sign_up("ana"), await house.sign_up("ben")
        yield Office(house, Shop(house), admin, ana, ben)


# -- who was let in and is put out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("put_out", "told"), [("role", (403, "forbidden")), ("ban", (401, "session_over"))])
async def test_an_admin_whose_body_comes_after_they_were_put_out_does_nothing_more(
    office: Office, put_out: str, told: tuple[int, str]
) -> None:
    await office.house.put(f"{USERS}/{office.ana.id}/role", office.admin, json={"role": "admin"})

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"role":'
        await office.house.get(USERS, office.admin)  # what came before it has been let in
        if put_out == "ban":
            await office.ban(office.ana)
        else:
            await office.house.put(f"{USERS}/{office.ana.id}/role", office.admin, json={"role": "user"})
        yield b'"admin"}'

    head = {"Content-Type": "application/json"}
    late = await office.house.put(f"{USERS}/{office.ben.id}/role", office.ana, content=slowly(), headers=head)
    assert refusal(late) == told
    admins = data(await office.house.get(f"{USERS}?role=admin&banned=false", office.admin))["users"]
    assert [each["id"] for each in admins] == [office.admin.id]


# What somebody has who holds up such a write: its row, which it locks before it writes to the audit.
WAITING = {
    "maintenance": ("PUT", "/admin/maintenance", {"enabled": True}, "SELECT FROM maintenance FOR UPDATE"),
    "a flag": ("PUT", "/admin/feature-flags/live.ingest", {"enabled": False}, "SELECT FROM feature_flags FOR UPDATE"),
    "an announcement": ("DELETE", "/admin/announcements/{made}", None, "SELECT FROM announcements FOR UPDATE"),
    "a transfer": ("POST", "/admin/transfers/{failed}/retry", None, "SELECT FROM transfers FOR UPDATE"),
    "the ledger": ("POST", "/admin/reconciliations", None, "SELECT FROM schedules FOR UPDATE"),
}

HELD_UP = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"


@pytest.mark.parametrize("what", WAITING)
async def test_an_admin_who_is_put_out_while_their_write_waits_changes_nothing(office: Office, what: str) -> None:
    house, shop = office.house, office.shop
    await house.put(f"{USERS}/{office.ana.id}/role", office.admin, json={"role": "admin"})
    await house.put("/admin/feature-flags/live.ingest", office.admin, json={"enabled": True})
    news = {"title": "News", "content": "Of today.", "type": "info"}
    made = data(await house.post("/admin/announcements", office.admin, json=news))["id"]
    async with Database.open(house.dsn) as db:
        sales = Sales(db)
        failed = await sales.sale(await sales.seller("acct_1"), held="admin")
    shop.run("UPDATE transfers SET status = 'failed', hold_reason = NULL, failure_code = 'x', next_retry_at = NULL")
    method, path, body, row = WAITING[what]
    answers: list[tuple[int, str]] = []

    async def ask() -> None:
        answer = await house.request(method, path.format(made=made, failed=failed), office.ana, json=body)
        answers.append(refusal(answer))

    def written() -> list[tuple[Any, ...]]:
        return shop.run("SELECT action FROM audit_entries WHERE actor_id = %s AND method IS NULL", office.ana.id)

    with psycopg.connect(house.dsn) as holding:
        holding.execute(row.encode())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            while not shop.run(HELD_UP, holding.info.backend_pid):
                await trio.lowlevel.checkpoint()
            await house.put(f"{USERS}/{office.ana.id}/role", office.admin, json={"role": "user"})
            holding.rollback()
    assert answers == [(403, "forbidden")]
    assert written() == []
    assert not data(await house.get("/admin/maintenance", office.admin))["enabled"]
    again = await house.request(method, path.format(made=made, failed=failed), office.admin, json=body)
    assert again.status_code in (200, 201), "the actor that refused it is as it was"


# -- the list and roles ------------------------------------------------------------------------------------------------


async def test_admins_list_and_search_accounts_and_see_no_secret(office: Office) -> None:
    await office.ban(office.ana, reason="Spam")
    seen = data(await office.house.get(USERS, office.admin))
    assert seen["total"] == 3
    [ana] = data(await office.house.get(f"{USERS}?search=ANA@", office.admin))["users"]
    assert set(ana) == {"id", "username", "email", "role", "banned", "ban", "created_at", "updated_at"}
    assert (ana["id"], ana["banned"], ana["ban"]["until"], ana["ban"]["reason"]) == (office.ana.id, True, None, "Spam")
    for query, names in (
        ("role=admin", ["admin"]),
        ("banned=true", ["ana"]),
        ("banned=false&limit=1&offset=1", ["admin"]),
        (f"search={office.ben.id}", ["ben"]),
        ("search=nobody", []),
    ):
        found = data(await office.house.get(f"{USERS}?{query}", office.admin))["users"]
        assert [each["username"] for each in found] == names, query
    for query in ("role=root", "banned=maybe", "limit=0"):
        assert refusal(await office.house.get(f"{USERS}?{query}", office.admin)) == (400, "invalid")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "", None), ("POST", "/{}/ban", {}), ("POST", "/{}/unban", None), ("PUT", "/{}/role", {"role": "admin"})],
)
async def test_only_admins_do_so(office: Office, method: str, path: str, body: Json | None) -> None:
    path = USERS + path.format(office.ana.id)
    assert refusal(await office.house.request(method, path, json=body)) == (401, "unauthenticated")
    assert refusal(await office.house.request(method, path, office.ben, json=body)) == (403, "forbidden")


async def test_a_role_acts_at_the_next_request_and_nobody_demotes_themself(office: Office) -> None:
    path = f"{USERS}/{office.ana.id}/role"
    assert data(await office.house.put(path, office.admin, json={"role": "admin"}))["role"] == "admin"
    assert (await office.house.get(USERS, office.ana)).status_code == 200
    mine = await office.house.put(f"{USERS}/{office.admin.id}/role", office.admin, json={"role": "user"})
    assert refusal(mine) == (409, "own_account")
    assert data(await office.house.put(path, office.admin, json={"role": "user"}))["role"] == "user"
    assert refusal(await office.house.get(USERS, office.ana)) == (403, "forbidden")
    mine = await office.house.put(f"{USERS}/{office.admin.id}/role", office.admin, json={"role": "user"})
    assert refusal(mine) == (409, "last_admin")
    assert await office.audited() == [("user.role", f"users/{office.ana.id}")] * 2
    assert refusal(await office.house.put(path, office.admin, json={"role": "root"})) == (400, "invalid")


# -- the ban -----------------------------------------------------------------------------------------------------------


async def test_who_is_banned_is_out_at_once_and_told_why_when_they_sign_in(office: Office) -> None:
    assert (await office.ban(office.ana, reason="Spam"))["banned"] is True
    assert refusal(await office.house.get("/users/me", office.ana)) == (401, "session_over")
    assert refusal(await office.login("ana", "wrong-horse-1")) == (401, "invalid_credentials")
    refresh = await office.house.post("/auth/refresh", json={"refresh_token": office.ana.refresh_token})
    for answer in (await office.login("ana"), refresh):
        assert refusal(answer) == BANNED
        assert answer.json()["error"] == FOREVER
        assert answer.json()["details"] == [{"field": "reason", "message": "Spam"}]
    assert (await office.login("ben")).status_code == 200
    assert (await office.unban(office.ana))["ban"] is None
    back = await office.login("ana")
    assert back.status_code == 200
    told = data(await office.house.get("/notifications", data(back)["access_token"]))["notifications"]
    assert [each["kind"] for each in told] == ["ban_lifted", "account_banned"]
    refresh = await office.house.post("/auth/refresh", json={"refresh_token": office.ana.refresh_token})
    assert refusal(refresh) == (401, "session_over")
    assert await office.audited() == [(f"user.{what}", f"users/{office.ana.id}") for what in ("ban", "unban")]


async def test_a_ban_for_a_time_is_told_with_its_end_and_is_over_by_itself(office: Office) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    made = await office.ban(office.ana, until=zulu(until))
    assert made["ban"]["until"] == zulu(until)
    answer = await office.login("ana")
    assert refusal(answer) == BANNED
    assert answer.json()["details"] == [{"field": "until", "message": zulu(until)}]
    await office.over(office.ana)
    assert (await office.login("ana")).status_code == 200
    assert data(await office.house.get(f"{USERS}?banned=true", office.admin))["total"] == 0


async def test_a_ban_without_a_body_is_a_lasting_one(office: Office) -> None:
    made = data(await office.house.post(f"{USERS}/{office.ana.id}/ban", office.admin))
    assert (made["ban"]["until"], made["ban"]["reason"]) == (None, "")
    assert "details" not in (await office.login("ana")).json()


SENSELESS: Sequence[tuple[Json, str]] = [
    ({"until": "2001-01-01T00:00:00Z"}, "until"),
    ({"until": "tomorrow"}, "until"),
    ({"reason": "x" * 501}, "reason"),
    ({"days": 3}, "days"),
]


async def test_a_ban_that_makes_no_sense_changes_nothing(office: Office, subtests: pytest.Subtests) -> None:
    for body, field in SENSELESS:
        with subtests.test(repr((body, field))):
            answer = await office.house.post(f"{USERS}/{office.ana.id}/ban", office.admin, json=body)
            assert refusal(answer) == (400, "invalid")
            assert answer.json()["details"][0]["field"] == field
            assert await office.audited() == []


async def test_nobody_bans_themself_the_last_admin_or_nobody_or_lifts_what_is_not(office: Office) -> None:
    assert refusal(await office.house.post(f"{USERS}/{office.admin.id}/ban", office.admin)) == (409, "last_admin")
    data(await office.house.put(f"{USERS}/{office.ana.id}/role", office.admin, json={"role": "admin"}))
    assert refusal(await office.house.post(f"{USERS}/{office.admin.id}/ban", office.admin)) == (409, "own_account")
    assert refusal(await office.house.post(f"{USERS}/{office.ana.id}/unban", office.admin)) == (409, "not_banned")
    nobody = f"{USERS}/0198a1c0-0000-7000-8000-000000000000"
    for path in ("ban", "unban"):
        assert refusal(await office.house.post(f"{nobody}/{path}", office.admin)) == (404, "not_found")
    await office.ban(office.ana)
    mine = {"password": PASSWORD}
    assert refusal(await office.house.delete("/users/me", office.admin, json=mine)) == (409, "last_admin")


async def test_who_listens_is_told_and_hung_up_on(office: Office) -> None:
    url = f"{office.house.url}/api/v1/notifications/stream"
    async with listening(url, signed(office.ana.token)) as events, listening(url, signed(office.ben.token)) as others:
        assert (await events.next())["event"] == "ready"
        assert (await others.next())["event"] == "ready"
        began = trio.current_time()
        await office.ban(office.ana, reason="Spam")
        assert (await events.notification())["kind"] == "account_banned"
        with pytest.raises(EOFError):
            await events.next()
        assert trio.current_time() - began < 2
        await office.ban(office.ben)
        assert (await others.notification())["kind"] == "account_banned"


async def test_what_they_sell_is_gone_for_all_but_who_bought_it_until_the_ban_is_over(office: Office) -> None:
    track, other = await office.shop.on_sale(office.ana), await office.shop.on_sale(office.ben)
    cy = await office.house.sign_up("cyd")
    order = await office.shop.bought(cy, track)
    await office.ban(office.ana)
    assert await office.sells() == [other["id"]]
    assert data(await office.house.get(f"{PRODUCTS}?search=track"))["total"] == 1
    path = f"{PRODUCTS}/{track['id']}"
    for by, status in ((None, 404), (office.ben, 404), (cy, 200), (office.admin, 200)):
        assert (await office.house.get(path, by)).status_code == status
        assert (await office.house.get(f"{path}/reviews", by)).status_code == status
    assert refusal(await office.shop.order(cy, track))[0] == 409
    downloads = data(await office.house.get(f"/marketplace/orders/{order['id']}/downloads", cy))["downloads"]
    got = await office.house.http.get(downloads[0]["url"], headers=signed(cy.token))
    assert got.status_code == 200
    await office.over(office.ana)
    assert set(await office.sells()) == {track["id"], other["id"]}
    await office.shop.bought(office.ben, track)


async def test_their_streams_and_links_are_gone_until_the_ban_is_lifted(office: Office) -> None:
    show = data(await office.house.post("/live/streams", office.ana, json={"title": "A show"}))
    kept = data(await office.house.post("/cloud/files", office.ana, files={"file": ("a.wav", b"RIFF", "audio/wav")}))
    share = await office.house.post(f"/cloud/files/{kept['id']}/share", office.ana, json={"permissions": "read"})
    shared = share.raise_for_status().json()["share_url"]
    assert (await office.house.http.get(shared)).status_code == 200
    await office.ban(office.ana)
    assert data(await office.house.get("/live/streams"))["total"] == 0
    assert (await office.house.get(f"/live/streams/{show['id']}")).status_code == 404
    assert (await office.house.get(f"/live/streams/{show['id']}", office.admin)).status_code == 200
    assert (await office.house.http.get(f"{office.house.url}/watch/{show['id']}")).status_code == 404
    assert (await office.house.http.get(shared)).status_code == 404
    await office.unban(office.ana)
    assert data(await office.house.get("/live/streams"))["total"] == 1
    assert (await office.house.http.get(shared)).status_code == 200


async def test_their_payouts_are_held_and_go_on_when_the_ban_is_lifted(office: Office) -> None:
    link = data(await office.house.post("/sell/connect/onboard", office.ana))["onboarding_url"]
    await office.house.http.post(link, follow_redirects=True)
    await office.house.until("/sell/connect/status", office.ana, lambda seen: seen["transfers_active"])
    order = await office.shop.ordered(office.ben, await office.shop.on_sale(office.ana))
    await office.ban(office.ana)
    await office.shop.pay(order)  # what was ordered before is honoured; its seller's share waits
    await office.shop.until_status(office.ben, order, "paid")

    async def transfer(**wanted: object) -> Json:
        def there(seen: Json) -> bool:
            return bool(seen["transfers"]) and seen["transfers"][0] == seen["transfers"][0] | wanted

        found: Json = (await office.house.until("/admin/transfers", office.admin, there))["transfers"][0]
        return found

    held = await transfer(status="held", hold_reason="banned", next_retry_at=None)
    for what, code in (("retry", "not_retryable"), ("release", "not_releasable")):
        answer = await office.house.post(f"/admin/transfers/{held['id']}/{what}", office.admin)
        assert refusal(answer) == (409, code)
    assert (await office.house.sandbox.stripe_client().v1.transfers.list_async()).data == []
    await office.unban(office.ana)
    began = trio.current_time()
    await transfer(status="completed")
    assert trio.current_time() - began < 3
    assert data(await office.house.get("/admin/ledger/verify", office.admin))["balanced"]


async def test_a_ban_that_is_over_by_time_lets_payouts_go_on(office: Office) -> None:
    link = data(await office.house.post("/sell/connect/onboard", office.ana))["onboarding_url"]
    await office.house.http.post(link, follow_redirects=True)
    await office.house.until("/sell/connect/status", office.ana, lambda seen: seen["transfers_active"])
    order = await office.shop.ordered(office.ben, await office.shop.on_sale(office.ana))
    await office.ban(office.ana)
    await office.shop.pay(order)

    def stands(status: str) -> Any:
        return lambda seen: [each["status"] for each in seen["transfers"]] == [status]

    await office.house.until("/admin/transfers", office.admin, stands("held"))
    await office.over(office.ana)
    await office.house.until("/admin/transfers", office.admin, stands("completed"))


async def test_the_routes_are_in_the_document(office: Office) -> None:
    document = (await office.house.http.get(f"{office.house.url}/openapi.json")).json()
    paths = {
        path: set(methods) for path, methods in document["paths"].items() if path.startswith("/api/v1/admin/users")
    }
    assert paths == {
        "/api/v1/admin/users": {"get"},
        "/api/v1/admin/users/{user_id}/ban": {"post"},
        "/api/v1/admin/users/{user_id}/unban": {"post"},
        "/api/v1/admin/users/{user_id}/role": {"put"},
    }
