"""What people said of selling their data, as rows: kept since when it was said, and gone with whose it was."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
import trio

from tests.people import NOON
from tests.store.leaving import Leaver
from tests.store.selling import Market
from veza.domain.errors import NotFound
from veza.domain.privacy import Preference, Source
from veza.store.accounts import Accounts
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable
from veza.store.export_data import ExportData
from veza.store.personal_data import shown
from veza.store.privacy import COLUMNS, PrivacyRows

LATER = NOON + timedelta(hours=1)
NOBODY = UUID(int=7)


@pytest.fixture
def rows(db: Database) -> PrivacyRows:
    return PrivacyRows(db)


@pytest.fixture
async def ann(db: Database) -> UUID:
    """One of two."""
    market = Market.over(db)
    await market.user()
    return await market.user()


async def test_who_said_nothing_has_not_opted_out(rows: PrivacyRows, ann: UUID) -> None:
    assert await rows.get(ann) == Preference(do_not_sell=False, source=None, updated_at=None)


async def test_what_somebody_says_stands_since_they_said_it_first(rows: PrivacyRows, ann: UUID) -> None:
    said = Preference(do_not_sell=True, source=Source.USER, updated_at=NOON)
    assert await rows.choose(ann, True, NOON) == said
    assert await rows.choose(ann, True, LATER) == said
    taken_back = Preference(do_not_sell=False, source=Source.USER, updated_at=LATER)
    assert await rows.choose(ann, False, LATER) == taken_back == await rows.get(ann)


async def test_a_signal_is_kept_once_and_is_no_news_to_who_opted_out(rows: PrivacyRows, ann: UUID) -> None:
    assert await rows.heed(ann, NOON)
    assert not await rows.heed(ann, LATER)
    assert await rows.get(ann) == Preference(do_not_sell=True, source=Source.SIGNAL, updated_at=NOON)
    await rows.choose(ann, False, LATER)
    assert await rows.heed(ann, LATER)
    assert (await rows.get(ann)).do_not_sell


async def test_somebody_who_opted_out_themselves_keeps_their_own_word(rows: PrivacyRows, ann: UUID) -> None:
    await rows.choose(ann, True, NOON)
    assert not await rows.heed(ann, LATER)
    assert (await rows.get(ann)).source is Source.USER


async def test_it_comes_with_the_account(db: Database, rows: PrivacyRows, ann: UUID) -> None:
    assert not (await Accounts(db).get(ann)).do_not_sell
    await rows.heed(ann, NOON)
    assert (await Accounts(db).get(ann)).do_not_sell


async def test_nobody_elses_is_touched_and_a_stranger_has_none(db: Database, rows: PrivacyRows, ann: UUID) -> None:
    other = await db.fetchval("SELECT id FROM users WHERE id <> $1", ann)
    await rows.choose(ann, True, NOON)
    assert not (await rows.get(other)).do_not_sell
    assert not await rows.heed(NOBODY, NOON)
    with pytest.raises(NotFound):
        await rows.get(NOBODY)
    with pytest.raises(NotFound):
        await rows.choose(NOBODY, True, NOON)


async def test_a_signal_waits_for_nobody_who_holds_the_row(db: Database, rows: PrivacyRows, ann: UUID) -> None:
    async with db.transaction() as tx:
        await tx.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", ann)
        with trio.fail_after(5):
            assert not await rows.heed(ann, NOON)
    assert await rows.heed(ann, NOON)


async def test_a_database_that_does_not_answer_holds_a_signal_up_for_half_a_second(
    db: Database, rows: PrivacyRows, ann: UUID
) -> None:
    async with db.transaction() as tx:
        await tx.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        began = trio.current_time()
        with pytest.raises(DatabaseUnavailable):
            await rows.heed(ann, NOON)
        assert trio.current_time() - began < 3  # the bound, and cleaning the connection after it
    assert not (await rows.get(ann)).do_not_sell


async def test_an_export_shows_it(db: Database, rows: PrivacyRows, ann: UUID) -> None:
    await rows.heed(ann, NOON)
    async with ExportData(db).moment(ann) as moment:
        [[row]] = [page async for page in moment.rows("users", dict(shown())["users"])]
    assert '"do_not_sell":true,"do_not_sell_source":"signal","do_not_sell_at":"2026-02-23T12:00:00.000000Z"' in row


async def test_it_goes_with_the_account(db: Database, rows: PrivacyRows) -> None:
    leaver = await Leaver.over(db)
    await rows.heed(leaver.id, NOON)
    await leaver.erase()
    sql = f"SELECT {COLUMNS} FROM users WHERE id = $1"  # noqa: S608 - our own columns
    [left] = await db.fetch(sql, leaver.id)
    assert tuple(left) == (False, None, None)
    with pytest.raises(NotFound):
        await rows.get(leaver.id)
    assert not await rows.heed(leaver.id, NOON)
    with pytest.raises(NotFound):
        await rows.choose(leaver.id, True, NOON)
