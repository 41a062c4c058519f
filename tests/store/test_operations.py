"""What operators look at over real rows: each transfer on its pile, exports open and over, titles and names."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.sales import START, Sales
from veza.domain.live import StreamState
from veza.domain.payouts import TransferStatus
from veza.domain.streams import Stream, Streamer
from veza.store.bridge import Database
from veza.store.exports import ExportRows
from veza.store.operations import Operations, Pile, SeenTransfer
from veza.store.payouts import Payouts
from veza.store.streams import Streams

FAILED = "status = 'failed', failure_code = 'account_invalid'"


@pytest.fixture
def sales(db: Database) -> Sales:
    return Sales(db)


async def test_every_transfer_that_is_not_over_lies_on_the_pile_of_what_becomes_of_it(
    db: Database, sales: Sales
) -> None:
    seller = await sales.seller("acct_1")
    due, later, held, dead, over = [await sales.sale(seller) for _ in range(5)]
    await sales.change(later, f"{FAILED}, next_retry_at = '2027-01-01'")
    await sales.change(held, "status = 'held', hold_reason = 'admin', next_retry_at = NULL")
    await sales.change(dead, f"{FAILED}, next_retry_at = NULL")
    await sales.change(over, "status = 'reversed', next_retry_at = NULL, external_ref = 'tr_1'")
    found = await Operations(db).transfers(10)
    assert {pile: [each.transfer.id for each in seen] for pile, seen in found.items()} == {
        Pile.DUE: [due, later],
        Pile.HELD: [held],
        Pile.DEAD: [dead],
    }
    assert {each.seller for pile in found.values() for each in pile} == {seller.hex}


async def test_what_is_being_tried_is_due_before_what_waits(db: Database, sales: Sales) -> None:
    seller = await sales.seller("acct_1")
    in_hand, waits = [await sales.sale(seller) for _ in range(2)]
    await Payouts(db, sales.new_id, timedelta(0)).claim(1, timedelta(minutes=1), retries=True)
    found = (await Operations(db).transfers(10))[Pile.DUE]
    assert [(each.transfer.id, each.transfer.status) for each in found] == [
        (in_hand, TransferStatus.PROCESSING),
        (waits, TransferStatus.PENDING),
    ]


async def test_of_a_long_pile_the_first_are_shown(db: Database, sales: Sales) -> None:
    seller = await sales.seller("acct_1")
    made = [await sales.sale(seller) for _ in range(3)]
    for number, transfer_id in enumerate(reversed(made)):
        await sales.change(transfer_id, f"next_retry_at = '2026-01-0{number + 1}'")
    found = await Operations(db).transfers(2)
    assert [each.transfer.id for each in found[Pile.DUE]] == made[:0:-1]


async def test_a_transfer_comes_with_its_tries_the_newest_first(db: Database, sales: Sales) -> None:
    payouts = Payouts(db, sales.new_id, timedelta(0))
    seller, operations = await sales.seller("acct_1"), Operations(db)
    transfer_id = await sales.sale(seller)
    found = await payouts.get(transfer_id)
    seen, tries = await operations.transfer(found, 5)
    assert (seen, tries) == (SeenTransfer(found, seller.hex), [])
    await payouts.claim(1, timedelta(minutes=1), retries=True)
    _, [begun] = await operations.transfer(await payouts.get(transfer_id), 5)
    assert (begun.finished_at, begun.outcome) == (None, None)


async def test_exports_are_open_or_over(db: Database, sales: Sales) -> None:
    rows, operations = ExportRows(db, sales.new_id), Operations(db)
    first, second = [await rows.ask(await sales.user(), START) for _ in range(2)]
    going, over = await operations.exports(10)
    assert ([each.export.id for each in going], over) == ([first.id, second.id], [])
    assert going[0].owner == first.user_id.hex


async def test_streams_come_with_their_owners_and_what_is_gone_is_left_out(db: Database, sales: Sales) -> None:
    owner = await sales.user()
    streamer, offline = Streamer(owner, owner.hex), StreamState.OFFLINE
    stream = Stream(sales.new_id(), streamer, "The show", "", None, (), 1, offline, START, START)
    await Streams(db).add(stream)
    found = await Operations(db).streams([stream.id, sales.new_id()])
    assert [(each.title, each.owner) for each in found.values()] == [("The show", owner.hex)]


async def test_who_is_called_so_is_found_by_name_and_by_address_in_whatever_case(db: Database, sales: Sales) -> None:
    seller = await sales.seller()
    for name in (seller.hex, seller.hex.upper(), await db.fetchval("SELECT email FROM users WHERE id = $1", seller)):
        assert await Operations(db).called(name) == seller
    for name in ("", "%", seller.hex[:-1], str(seller)):
        assert await Operations(db).called(name) is None
    async with db.transaction() as tx:
        await tx.execute("UPDATE users SET erased_at = now() WHERE id = $1", seller)
    assert await Operations(db).called(seller.hex) is None


async def test_people_are_called_by_their_names(db: Database, sales: Sales) -> None:
    user, nobody = await sales.user(), sales.new_id()
    assert await Operations(db).names([user, nobody]) == {user: user.hex}
