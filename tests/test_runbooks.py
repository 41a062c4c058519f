"""What the runbooks of docs/operations.md say shows, does; what they have one ask of PostgreSQL can be asked."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.house import PASSWORD, Account, House
from tests.http.desk import refusal
from tests.named import ROOT
from tests.sales import Sales
from veza.compose import reset_password
from veza.store.bridge import Database

PAGE = ROOT.joinpath("docs", "operations.md").read_text()
COMMANDS = "\n".join(re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL))
ASKED = re.findall(r'psql "\$DATABASE_URL" -(?:At)?c "([^"]+)"', COMMANDS)

# What PostgreSQL says where there is no room (class 53 of its error codes).
NO_ROOM = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON gear FOR EACH STATEMENT EXECUTE FUNCTION no_room();
CREATE TRIGGER no_room BEFORE INSERT ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION no_room();
"""


@contextmanager
def full(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(NO_ROOM)
        yield
        connection.execute("DROP FUNCTION no_room() CASCADE")


async def metric(house: House, name: str) -> float:
    families = text_string_to_metric_families((await house.get("/metrics")).text)
    [value] = [each.value for family in families for each in family.samples if each.name == name]
    return value


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(20):
        while not await holds():  # noqa: ASYNC110 - seen over HTTP, as an operator sees it
            await trio.sleep(0.05)


async def test_a_full_database_shows_in_what_waits_and_not_in_readiness_and_is_over_by_itself(house: House) -> None:
    ann = await house.sign_up("ann")
    with full(house.dsn):
        assert refusal(await house.post("/inventory/gear", ann, json={"name": "MPC"})) == (503, "database_unavailable")
        assert (await house.get("/inventory/gear", ann)).status_code == 200

        async def waits() -> bool:
            return await metric(house, "veza_audit_waiting") > 0

        await until(waits)
        assert (await house.get("/readyz")).json()["data"]["status"] == "ready"
        assert await metric(house, "veza_database_up") == 1

    async def is_over() -> bool:
        return await metric(house, "veza_audit_waiting") == 0

    await until(is_over)
    assert (await house.post("/inventory/gear", ann, json={"name": "MPC"})).status_code == 201
    assert await metric(house, "veza_audit_dropped_total") == 0


async def unlocked(house: House, admin: Account, whom: Account, address: str) -> tuple[str, str]:
    """The steps of the runbook for the banned up to signing in as one: the password that only we know, and a token."""
    password = await reset_password(house.dsn, address, None)
    assert (await house.post(f"/admin/users/{whom.id}/unban", admin)).status_code == 200
    signed_in = await house.post("/auth/login", json={"email": address, "password": password})
    return password, signed_in.raise_for_status().json()["data"]["access_token"]


async def test_a_banned_person_gets_their_archive_and_never_comes_in(house: House) -> None:
    address, old = "ann@veza.example", {"email": "ann@veza.example", "password": PASSWORD}
    with trio.fail_after(60):
        admin, ann = await house.admin(), await house.sign_up("ann")
        ban = {"reason": "Spam", "until": "2100-01-01T00:00:00Z"}
        async with Database.open(house.dsn, size=1) as db:
            sales = Sales(db)
            await sales.connect(UUID(ann.id), "acct_1")
            transfer = await sales.sale(UUID(ann.id), held="admin")
        assert (await house.post(f"/admin/users/{ann.id}/ban", admin, json=ban)).status_code == 200
        with psycopg.connect(house.dsn, autocommit=True) as connection:
            connection.execute("UPDATE transfers SET hold_reason = 'banned'")
        flag = "/admin/feature-flags/payouts.enabled"
        assert (await house.put(flag, admin, json={"enabled": False})).status_code == 200
        _, theirs = await unlocked(house, admin, ann, address)
        assert refusal(await house.post("/auth/login", json=old)) == (401, "invalid_credentials")
        export = (await house.post("/users/me/export", theirs)).raise_for_status().json()["data"]
        ready = await house.until(f"/users/me/exports/{export['id']}", Account(ann.id, theirs, ""), is_ready)
        archive = (await house.http.get(ready["download_url"])).raise_for_status().content
        assert archive.startswith(b"PK")
        assert (await house.post(f"/admin/users/{ann.id}/ban", admin, json=ban)).status_code == 200
        assert (await house.put(flag, admin, json={"enabled": True})).status_code == 200
        assert refusal(await house.get("/users/me", theirs)) == (401, "session_over")
        [shown] = (await house.get(f"/admin/users?search={address}", admin)).json()["data"]["users"]
        assert (shown["ban"]["reason"], shown["ban"]["until"]) == (ban["reason"], ban["until"])

        def held_again(seen: dict[str, Any]) -> bool:
            [each] = seen["transfers"]
            assert each["id"] == str(transfer)
            return (each["status"], each["hold_reason"]) == ("held", "banned")

        await house.until("/admin/transfers", admin, held_again)
        with psycopg.connect(house.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM transfer_attempts").fetchall() == [(0,)]


def is_ready(export: dict[str, Any]) -> bool:
    return bool(export["status"] == "ready")


async def test_a_banned_person_is_erased(house: House) -> None:
    with trio.fail_after(60):
        admin, ann = await house.admin(), await house.sign_up("ann")
        assert (await house.post(f"/admin/users/{ann.id}/ban", admin, json={"reason": "Spam"})).status_code == 200
        password, theirs = await unlocked(house, admin, ann, "ann@veza.example")
        gone = await house.request("DELETE", "/users/me", theirs, json={"password": password})
        assert gone.status_code == 200
        found = (await house.get("/admin/users?search=ann@veza.example", admin)).json()["data"]
        assert found["total"] == 0
        with psycopg.connect(house.dsn) as connection:
            written = connection.execute(
                "SELECT action FROM audit_entries WHERE resource = %s AND method IS NULL ORDER BY at, id",
                [f"users/{ann.id}"],
            ).fetchall()
        assert [action for (action,) in written] == ["user.ban", "user.reset_password", "user.unban", "account_erased"]


@pytest.mark.parametrize("number", range(len(ASKED)))
def test_what_an_operator_asks_of_the_database_can_be_asked(dsn: str, number: int) -> None:
    with psycopg.connect(dsn) as connection:
        assert connection.execute(ASKED[number].encode()).description


def test_who_holds_the_audits_table_is_told(dsn: str) -> None:
    [asked] = [sql for sql in ASKED if "pg_locks" in sql]
    with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as operator:
        assert operator.execute(asked.encode()).fetchall() == []
        holder.execute("LOCK TABLE audit_entries IN ACCESS EXCLUSIVE MODE")
        [(pid, _, state, _, mode, _)] = operator.execute(asked.encode()).fetchall()
        assert (pid, state, mode) == (holder.info.backend_pid, "idle in transaction", "AccessExclusiveLock")


def test_the_page_asks_for_connections_sizes_slots_objects_and_locks() -> None:
    assert len(ASKED) == 6
