"""What pages say where the database says nothing, or not in time: what else is known, and that the rest is not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Never

import pytest
import trio

from tests.house import House
from tests.http.console.test_doors import Desk
from veza.http.console.regions import LOOK_SECONDS
from veza.store.audit import AuditRows
from veza.store.bridge import Database
from veza.store.errors import DatabaseUnavailable
from veza.store.operations import Operations
from veza.store.reports import Reports


@pytest.fixture
async def desk(house: House, db: Database) -> AsyncIterator[Desk]:
    with trio.fail_after(120):
        yield Desk(house, db, await house.admin(), await house.sign_up("mallory"))


def unknown(page: str) -> list[str]:
    """The lists of which a page says that it can't say what is in them."""
    return re.findall(r'data-region="(\w+)" data-unknown', page)


async def away(*_args: object, **_more: object) -> Never:
    raise DatabaseUnavailable("gone")


async def late(*_args: object, **_more: object) -> Never:
    await trio.sleep_forever()


async def test_nothing_is_said_to_be_empty_that_could_not_be_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    lists = {"payouts": ["dead", "held", "due"], "moderation": ["reports"], "exports": ["going", "over"]}
    for name in lists:
        assert unknown((await desk.ask("GET", f"/console/{name}", token)).text) == []
    monkeypatch.setattr(Operations, "transfers", away)
    monkeypatch.setattr(Operations, "exports", away)
    monkeypatch.setattr(Reports, "page", away)
    for name, regions in lists.items():
        page = (await desk.ask("GET", f"/console/{name}", token)).text
        assert unknown(page) == regions
        assert 'data-state="away"' in page


@pytest.mark.parametrize("silent", [away, late])
async def test_how_the_process_is_is_seen_though_the_audit_can_not_be_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, silent: object
) -> None:
    token = desk.tokens.console(await desk.session(desk.admin))
    monkeypatch.setattr(AuditRows, "page", silent)
    began = trio.current_time()
    page = (await desk.ask("GET", "/console", token)).text
    assert trio.current_time() - began < LOOK_SECONDS
    assert unknown(page) == ["entries"]
    assert 'data-key="database"' in page
    assert 'data-key="Payouts dead"' in page
    assert 'data-state="still"' in page
