"""Guessing, decided purely: what an attempt counts on, and that none of it tells of whom."""

from __future__ import annotations

from uuid import UUID

from veza.domain.guesses import ACCOUNT, DEVICE, PAIR, SITE, Attempt, too_many_attempts
from veza.domain.limits import Limit, Verdict

DEVICE_ID = UUID(int=7)


def test_a_stranger_counts_at_their_address_on_the_account_and_on_both() -> None:
    claims = Attempt("ann@example.com", "192.0.2.7").stranger
    assert [claim.limit for claim in claims] == [PAIR, SITE, ACCOUNT]
    assert len({claim.by for claim in claims}) == 3


def test_an_account_is_one_in_whatever_case_and_at_every_address() -> None:
    one = Attempt("ann@example.com", "192.0.2.7").stranger
    other = Attempt("ANN@example.com", "192.0.2.8").stranger
    assert one[2] == other[2]
    assert one[0] != other[0]


def test_an_ipv6_site_is_one_address() -> None:
    one = Attempt("ann@example.com", "2001:db8:0:1::1").stranger
    assert one == Attempt("ann@example.com", "2001:db8:0:1::2").stranger
    assert one != Attempt("ann@example.com", "2001:db8:0:2::1").stranger


def test_who_is_known_counts_on_nothing_that_a_stranger_can_use_up_elsewhere() -> None:
    ann = Attempt("ann@example.com", "192.0.2.7", DEVICE_ID)
    [by_device] = ann.known(device=True)
    [by_address] = ann.known(device=False)
    assert by_device.limit is DEVICE
    assert by_address == ann.stranger[0]
    assert by_device not in Attempt("ann@example.com", "192.0.2.7").stranger
    [others] = Attempt("bob@example.com", "192.0.2.7", DEVICE_ID).known(device=True)
    assert others != by_device


def test_what_is_counted_by_holds_nobodys_email() -> None:
    attempt = Attempt("ann@example.com", "192.0.2.7", DEVICE_ID)
    for claim in (*attempt.stranger, *attempt.known(device=True), *attempt.known(device=False)):
        assert "ann" not in claim.by
    assert len(Attempt("a" * 10_000, None).stranger[0].by) < 100


def test_an_account_is_heard_no_oftener_than_nist_allows() -> None:
    assert ACCOUNT.quota + ACCOUNT.quota * 3600 / ACCOUNT.window <= 100


def test_who_tried_too_often_is_told_to_wait_a_second_at_least() -> None:
    told = too_many_attempts(Verdict(Limit("any", 1, 1), allowed=False, remaining=0, more_in=0.0))
    assert (told.code, told.retry_after) == ("too_many_attempts", 1)
