"""Flags as rows: a feature is on unless its own row says otherwise, and whoever throws a switch is written down."""

from __future__ import annotations

import json
from random import Random

import pytest
import trio

from tests.sales import ticking
from veza.domain.audit import By
from veza.domain.errors import Forbidden
from veza.domain.flags import Flag
from veza.domain.ids import IdMint
from veza.store.bridge import Database
from veza.store.flags import FlagRows, is_on

ADMIN = By(None, "req-1", "192.0.2.7")


@pytest.fixture
def rows(db: Database) -> FlagRows:
    return FlagRows(db, IdMint(ticking(), Random(1)))


async def test_a_feature_is_on_until_its_own_row_says_otherwise(db: Database, rows: FlagRows) -> None:
    assert (await rows.load()).off == frozenset()
    for flag in Flag:
        flags = await rows.switch(flag, False, ADMIN)
        assert flags.off == {flag}
        assert await db.fetchval(f"SELECT {is_on(flag)}") is False
        with pytest.raises(Forbidden) as refused:
            flags.check(flag)
        assert refused.value.code == "feature_disabled"
        (await rows.switch(flag, True, ADMIN)).check(flag)
        assert await db.fetchval(f"SELECT {is_on(flag)}") is True


async def test_every_flag_is_told_with_when_it_was_last_thrown(db: Database, rows: FlagRows) -> None:
    assert {(each.flag, each.enabled, each.updated_at) for each in await rows.load()} == {(f, True, None) for f in Flag}
    await rows.switch(Flag.UPLOADS, False, ADMIN)
    before = (await rows.load()).switch(Flag.UPLOADS).updated_at
    await rows.switch(Flag.UPLOADS, True, ADMIN)
    after = (await rows.load()).switch(Flag.UPLOADS)
    assert before is not None
    assert after.enabled
    assert after.updated_at is not None
    assert after.updated_at > before
    assert (await rows.load()).switch(Flag.EXPORTS).updated_at is None


async def test_a_name_that_this_version_does_not_know_is_passed_over(db: Database, rows: FlagRows) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO feature_flags (name, enabled) VALUES ('of.tomorrow', false)")
    assert (await rows.load()).off == frozenset()


async def test_each_throw_is_audited_in_its_transaction(db: Database, rows: FlagRows) -> None:
    await rows.switch(Flag.PAYOUTS, False, ADMIN)
    await rows.switch(Flag.PAYOUTS, True, ADMIN)
    found = await db.fetch("SELECT * FROM audit_entries ORDER BY id")
    assert [(row["action"], row["resource"], json.loads(row["details"])) for row in found] == [
        ("flag.switch", "feature_flags/payouts.enabled", {"enabled": False}),
        ("flag.switch", "feature_flags/payouts.enabled", {"enabled": True}),
    ]
    assert {(row["actor_id"], row["request_id"], row["address"]) for row in found} == {(None, "req-1", "192.0.2.7")}


async def test_whatever_throws_a_switch_rings(db: Database, rows: FlagRows) -> None:
    statements = (
        "INSERT INTO feature_flags (name, enabled) VALUES ('live.ingest', false)",
        "UPDATE feature_flags SET enabled = true",
        "DELETE FROM feature_flags",
    )
    with trio.fail_after(10):
        async with rows.listen() as bells:
            await bells.__anext__()  # of listening itself
            await rows.switch(Flag.EXPORTS, False, ADMIN)
            await bells.__anext__()
            for statement in statements:
                async with db.transaction() as tx:
                    await tx.execute(statement)
                await bells.__anext__()
