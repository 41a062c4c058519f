"""What the runbooks of docs/operations.md say shows, does; what they have one ask of PostgreSQL can be asked."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.house import House
from tests.http.desk import refusal
from tests.named import ROOT

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
