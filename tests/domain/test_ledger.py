"""Double entry, and how our books are held against the provider's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from veza.domain.ledger import AccountKind, BookedTransfer, Entry, ListedTransfer, capture, compare, transfer
from veza.domain.orders import Earning

NOW = datetime(2026, 2, 23, 12, tzinfo=UTC)
SELLER = UUID(int=7)
OURS = BookedTransfer("t1", "tr_1", "acct_1", 2699, "EUR", NOW - timedelta(hours=1), settled=True)
THEIRS = ListedTransfer("tr_1", "t1", "acct_1", 2699, 0, "EUR")


def details(booked: Sequence[BookedTransfer], listed: Sequence[ListedTransfer]) -> list[str]:
    return [finding.detail for finding in compare(booked, listed, NOW)]


def test_a_capture_is_the_sellers_share_and_the_fee() -> None:
    assert capture(2999, [Earning(SELLER, 2999, 300, 1000)]) == (
        Entry(AccountKind.CLEARING, None, 2999),
        Entry(AccountKind.SELLER, SELLER, -2699),
        Entry(AccountKind.PLATFORM_FEE, None, -300),
    )


def test_no_fee_makes_no_entry() -> None:
    assert [e.kind for e in capture(100, [Earning(SELLER, 100, 0, 0)])] == [AccountKind.CLEARING, AccountKind.SELLER]


def test_a_transfer_takes_from_what_the_seller_is_owed() -> None:
    assert transfer(SELLER, 2699) == (
        Entry(AccountKind.SELLER, SELLER, 2699),
        Entry(AccountKind.PAYOUTS, None, -2699),
    )


def test_books_that_agree_find_nothing() -> None:
    assert details([OURS], [THEIRS]) == []


@pytest.mark.parametrize(
    "theirs",
    [
        replace(THEIRS, amount_cents=2700),
        replace(THEIRS, currency="USD"),
        replace(THEIRS, destination="acct_2"),
        replace(THEIRS, reversed_cents=1),
    ],
)
def test_a_transfer_that_is_not_as_booked_is_found(theirs: ListedTransfer) -> None:
    assert len(details([OURS], [theirs])) == 1


def test_a_booked_transfer_that_the_provider_has_not_is_found() -> None:
    assert "tr_1" in details([OURS], [])[0]


def test_one_that_completed_after_the_listing_is_not_missed_in_it() -> None:
    assert details([replace(OURS, completed_at=NOW + timedelta(seconds=1))], []) == []


def test_one_that_is_still_being_tried_may_be_at_the_provider_already() -> None:
    trying = replace(OURS, external_ref=None, completed_at=None, settled=False)
    assert details([trying], [THEIRS]) == []


def test_one_that_was_given_up_may_not_be_at_the_provider() -> None:
    given_up = replace(OURS, external_ref=None, completed_at=None, settled=True)
    assert len(details([given_up], [THEIRS])) == 1


def test_a_transfer_made_twice_is_found() -> None:
    assert any("2 times" in each for each in details([OURS], [THEIRS, replace(THEIRS, external_ref="tr_2")]))


@pytest.mark.parametrize("named", ["someone-else", None])
def test_a_transfer_that_is_not_ours_is_found(named: str | None) -> None:
    assert len(details([], [replace(THEIRS, transfer_id=named)])) == 1
