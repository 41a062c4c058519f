"""Accounts for payouts as rows: what is older than what we know is no news, and an event releases what it is about."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.sales import Sales
from veza.domain.connect import AccountState, ProviderEvent
from veza.store.bridge import Database
from veza.store.connect import Connect
from veza.store.payouts import Payouts

LEASE = timedelta(minutes=1)
ACTIVE, INACTIVE = AccountState(transfers_active=True, details_submitted=True), AccountState(False, False)


async def test_an_answer_that_another_has_overtaken_is_not_believed(db: Database) -> None:
    connect = Connect(db)
    seller = await Sales(db).seller("acct_1", active=False)
    await connect.check_soon(seller)
    [(_, slow)] = await connect.claim_checks(1, LEASE)
    await connect.check_soon(seller)  # an event came meanwhile, and another process fetches the account
    [(_, quick)] = await connect.claim_checks(1, LEASE)
    await connect.record(seller, ACTIVE, quick)
    await connect.record(seller, INACTIVE, slow)
    found = await connect.find(seller)
    assert found is not None
    assert found.transfers_active


@pytest.mark.parametrize("retries", [True, False])
async def test_funds_that_arrived_release_what_waited_for_them_retries_or_not(db: Database, retries: bool) -> None:
    sales = Sales(db)
    waiting = await sales.sale(await sales.seller("acct_1"), held="awaiting_funds")
    payouts = Payouts(db, sales.new_id)
    assert await payouts.claim(5, LEASE, retries=retries) == []
    assert await Connect(db).note(ProviderEvent("evt_1", "balance.available", None, None))
    assert [claim.transfer.id for claim in await payouts.claim(5, LEASE, retries=retries)] == [waiting]
