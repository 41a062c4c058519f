"""What an export reads: all that is a person's, nothing that is another's, nothing that is secret."""

from __future__ import annotations

import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
import trio

from tests.store.belongings import AT, Belongings, Person
from tests.store.conftest import Onlooker
from tests.store.selling import Market
from veza.domain.ids import IdMint
from veza.store import export_data
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable
from veza.store.export_data import Amount, ExportData, Held
from veza.store.personal_data import shown

Row = dict[str, Any]


@pytest.fixture
def belongings(db: Database) -> Belongings:
    return Belongings(db, IdMint(lambda: datetime.now(UTC), Random(6)))


async def everything(db: Database, who: Person) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    async with ExportData(db).moment(who.id) as moment:
        for name, table in shown():
            async with aclosing(moment.rows(name, table)) as pages:
                found[name] = [json.loads(row) async for page in pages for row in page]
    return found


async def files(db: Database, who: Person) -> list[Held]:
    async with aclosing(ExportData(db).files(who.id)) as found:
        return [held async for held in found]


async def test_every_table_shows_what_is_theirs_and_nothing_secret_or_of_anothers(
    db: Database, belongings: Belongings
) -> None:
    ann, bob, cid = [await belongings.person(name) for name in ("ANN", "BOB", "CID")]
    for buyer, seller in ((ann, bob), (bob, ann), (cid, bob), (bob, cid)):
        await belongings.trade(buyer, seller)
    found = await everything(db, ann)
    assert [name for name, rows in found.items() if not rows] == []
    text = json.dumps(found)
    assert "ANN" in text
    for foreign in ("SECRET", "BOB", "CID", str(cid.id), str(cid.product), str(cid.account)):
        assert foreign not in text, foreign
    where = {name for name, rows in found.items() if str(bob.id) in json.dumps(rows)}
    assert where == {"order_items"}  # who sold her what she bought


async def test_its_rows_are_those_of_the_database(db: Database, belongings: Belongings) -> None:
    ann, bob = await belongings.person("ANN"), await belongings.person("BOB")
    bought, sold = await belongings.trade(ann, bob), await belongings.trade(bob, ann)
    async with db.transaction() as tx:
        await tx.execute("UPDATE users SET banned_until = 'infinity' WHERE id = $1", ann.id)
    found = await everything(db, ann)
    for name, table in shown():
        for row in found[name]:
            assert list(row) == list(table.columns)
    [account] = found["users"]
    assert account["created_at"] == "2026-02-23T12:30:15.250000Z"
    assert (account["banned_until"], account["ban_reason"]) == ("infinity", "ANN")
    [order] = found["orders"]
    assert (order["id"], order["total_cents"]) == (str(bought.order), 100)
    lines = {row["order_id"]: row for row in found["order_items"]}
    assert set(lines) == {str(bought.order), str(sold.order)}
    assert lines[str(bought.order)]["licence_key"] is not None
    assert lines[str(sold.order)]["licence_key"] is None
    [product] = found["products"]
    assert (product["tags"], product["price_cents"]) == (["ANN"], 100)
    [session] = found["stream_sessions"]
    assert session["video"] == {"codec": "H264"}
    [gear] = found["gear"]
    assert gear["purchase_date"] == "2025-12-24"
    [notification] = found["notifications"]
    assert notification["data"] == {"export_id": "ANN"}


async def test_of_a_refund_and_a_review_each_side_sees_its_own_part(db: Database, belongings: Belongings) -> None:
    ann, bob = await belongings.person("ANN"), await belongings.person("BOB")
    trade = await belongings.trade(ann, bob)
    buyers, sellers = await everything(db, ann), await everything(db, bob)
    [hers], [his] = buyers["refunds"], sellers["refunds"]
    assert (hers["requested_by"], hers["decided_by"], hers["amount_cents"]) == (str(ann.id), None, 50)
    assert (his["requested_by"], his["decided_by"], his["amount_cents"]) == (None, str(bob.id), None)
    assert (hers["credit_note_number"], his["credit_note_number"]) == (f"CN-2026-{trade.number:06}", None)
    assert (buyers["refund_shares"], len(sellers["refund_shares"])) == ([], 1)
    [hers], [his] = buyers["reviews"], sellers["reviews"]
    assert (hers["rating"], hers["comment"], hers["response"]) == (4, "says ANN", "Thanks")
    assert (his["rating"], his["comment"], his["response"], his["buyer_id"]) == (None, None, "Thanks", None)
    assert [row["number"] for row in buyers["invoice_documents"]] == ["2026-000001", "CN-2026-000001"]
    assert sellers["invoice_documents"] == []
    assert sellers["order_items"][0]["licence_key"] is None


async def test_of_a_report_whose_content_it_is_sees_nothing_that_tells_who_made_it_or_when(
    db: Database, belongings: Belongings
) -> None:
    ann = await belongings.person("ANN")
    reports = (await everything(db, ann))["reports"]
    [made] = [row for row in reports if row["reporter_id"] is not None]
    [about] = [row for row in reports if row["reporter_id"] is None]
    assert (made["id"] is None, made["created_at"] is None, made["reason"]) == (False, False, "ANN")
    assert (about["owner_id"], about["action"], about["note"]) == (str(ann.id), "warn", "ANN")
    assert (about["id"], about["created_at"], about["reason"]) == (None, None, None)  # an id tells when it was made


async def test_an_unpaid_order_of_anothers_is_not_shown_to_its_seller(db: Database) -> None:
    market = Market.over(db)
    seller, buyer = await market.user(), await market.user()
    product = await market.product(seller)
    await market.file(product)
    await market.place(buyer, product)
    assert (await everything(db, Person("", seller, product, product)))["order_items"] == []
    assert len((await everything(db, Person("", buyer, product, product)))["order_items"]) == 1


async def test_rows_come_a_page_at_a_time_and_all_of_one_moment(db: Database, belongings: Belongings) -> None:
    ann = await belongings.person("ANN")
    fill = """
    INSERT INTO downloads (id, order_id, file_id, user_id) SELECT gen_random_uuid(), $1, gen_random_uuid(), $2
    FROM generate_series(1, 450)
    """
    trade = await belongings.trade(ann, ann)
    async with db.transaction() as tx:
        await tx.execute(fill, trade.order, ann.id)
    sizes = []
    async with (
        ExportData(db).moment(ann.id) as moment,
        aclosing(moment.rows("downloads", dict(shown())["downloads"])) as pages,
    ):
        async for page in pages:
            sizes.append(len(page))
            async with db.transaction() as tx:
                await tx.execute(fill, trade.order, ann.id)
    assert sizes == [200, 200, 51]


async def test_files_are_found_with_what_they_belong_to(db: Database, belongings: Belongings) -> None:
    ann, _ = await belongings.person("ANN"), await belongings.person("BOB")
    found = {held.source: held for held in await files(db, ann)}
    assert {source: (held.table, held.name, held.folder, held.version) for source, held in found.items()} == {
        "cloud": ("cloud_files", "ANN.wav", None, 2),
        "snapshots": ("cloud_versions", "ANN.wav", None, 1),
        "gear": ("gear_documents", "ANN.pdf", "ANN", None),
        "products": ("product_files", "ANN.wav", "ANN", None),
        "covers": ("products", "cover", "ANN", None),
        "previews": ("products", "preview", "ANN", None),
    }
    assert found["cloud"].modified == AT
    assert {source for source, held in found.items() if held.size_bytes is None} == {"covers", "previews"}
    async with ExportData(db).moment(ann.id) as moment:
        assert await moment.amount() == Amount(6, 16)
        assert await moment.username() == "ANN"


async def test_a_snapshot_of_what_its_file_holds_is_not_there_twice(db: Database, belongings: Belongings) -> None:
    ann = await belongings.person("ANN")
    async with db.transaction() as tx:
        await tx.execute("UPDATE cloud_versions SET object_key = 'SECRET'")
    assert "snapshots" not in {held.source for held in await files(db, ann)}


async def test_files_of_every_page_come_once(
    db: Database, belongings: Belongings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_data, "FILES", 3)
    ann = await belongings.person("ANN")
    more = """
    INSERT INTO cloud_files (id, owner_id, name, words, version, object_key, size_bytes, content_type, created_at,
        updated_at)
    SELECT gen_random_uuid(), owner_id, name, words, version, object_key, size_bytes, content_type, created_at,
        updated_at
    FROM cloud_files, generate_series(1, 7)
    """
    versions = """
    INSERT INTO cloud_versions (id, file_id, version, object_key, size_bytes, content_type, created_at)
    SELECT gen_random_uuid(), id, n, 'before', 4, 'x', now() FROM cloud_files, generate_series(10, 14) AS n
    """
    async with db.transaction() as tx:
        await tx.execute(more)
        await tx.execute(versions)
    found = await files(db, ann)
    counted = {source: sum(held.source == source for held in found) for source in ("cloud", "snapshots")}
    assert counted == {"cloud": 8, "snapshots": 41}
    assert len({(held.source, held.id) for held in found}) == len(found)


async def test_a_file_is_still_there_while_its_row_names_these_bytes(db: Database, belongings: Belongings) -> None:
    ann, data = await belongings.person("ANN"), ExportData(db)
    found = await files(db, ann)
    assert all([await data.still(held) for held in found])
    async with db.transaction() as tx:
        await tx.execute("UPDATE cloud_files SET object_key = 'other'")
        await tx.execute("UPDATE products SET cover_key = 'other'")
        await tx.execute("DELETE FROM gear")
    assert {held.source for held in found if not await data.still(held)} == {"cloud", "covers", "gear"}


async def test_a_connection_that_is_lost_in_the_middle_is_told_as_such(
    db: Database, belongings: Belongings, onlooker: Onlooker
) -> None:
    ann = await belongings.person("ANN")

    async def cut_off() -> None:
        async with ExportData(db).moment(ann.id) as moment:
            await moment.amount()
            [reader] = onlooker.pids("idle in transaction")
            assert onlooker.terminate(reader)
            async with aclosing(moment.rows("users", dict(shown())["users"])) as pages:
                await anext(pages)

    with pytest.raises(DatabaseUnavailable):
        await cut_off()
    with trio.fail_after(5):
        assert (await everything(db, ann))["users"] != []


async def test_reading_is_cut_short_by_a_cancel_and_leaves_the_pool_whole(db: Database, belongings: Belongings) -> None:
    ann = await belongings.person("ANN")
    for _ in range(3 * 10):  # more than there are connections
        with trio.move_on_after(0.005):
            await everything(db, ann)
            await trio.sleep(timedelta(days=1).total_seconds())
    with trio.fail_after(5):
        assert (await everything(db, ann))["users"] != []
