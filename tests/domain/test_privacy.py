"""Selling and sharing: who says no is heard, by whichever way they say it, and nobody is given anything unlisted."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import veza.gateways
from veza.domain.errors import Conflict
from veza.domain.privacy import RECIPIENTS, Basis, Preference, Source, check_choice, is_news, may_share

BUYER_OF_DATA = replace(RECIPIENTS[0], name="A broker", basis=Basis.SALE)
SPEAKS = re.compile(
    r"^(?:import|from) (?:httpx|stripe|aiobotocore|botocore|boto3|obstore|h11|socket|coredis)\b", re.MULTILINE
)

SPEAKS_TO_NOBODY = {"certificates"}  # says whom the others may speak to


@pytest.mark.parametrize(("signal", "stored"), [*product((False, True), repeat=2)])
def test_either_word_keeps_data_from_whoever_wants_it_for_themselves(signal: bool, stored: bool) -> None:
    preference = Preference(stored, Source.USER)
    assert may_share(BUYER_OF_DATA, signal=signal, preference=preference) is not (signal or stored)


@pytest.mark.parametrize(("signal", "stored"), [*product((False, True), repeat=2)])
def test_who_does_what_was_asked_for_gets_what_that_takes(signal: bool, stored: bool) -> None:
    preference = Preference(stored, Source.USER)
    assert all(may_share(each, signal=signal, preference=preference) for each in RECIPIENTS)


def test_nothing_is_sold() -> None:
    assert {each.basis for each in RECIPIENTS} == {Basis.SERVICE}


def test_every_gateway_that_speaks_to_somebody_outside_is_listed() -> None:
    root = Path(veza.gateways.__file__).parent
    speaking = {
        path.relative_to(root).parts[0].removesuffix(".py").removesuffix("_http")
        for path in root.rglob("*.py")
        if SPEAKS.search(path.read_text())
    }
    assert speaking - SPEAKS_TO_NOBODY == {each.gateway for each in RECIPIENTS}


@pytest.mark.parametrize(
    ("stored", "signal", "news"),
    [(False, True, True), (True, True, False), (False, False, False), (True, False, False)],
)
def test_a_signal_is_news_once_and_its_absence_never(stored: bool, signal: bool, news: bool) -> None:
    assert is_news(stored, signal=signal) is news


def test_nobody_allows_what_their_browser_forbids_in_the_same_breath() -> None:
    check_choice(False, signal=False)
    check_choice(True, signal=True)
    check_choice(True, signal=False)
    with pytest.raises(Conflict) as refused:
        check_choice(False, signal=True)
    assert refused.value.code == "gpc_signal"
