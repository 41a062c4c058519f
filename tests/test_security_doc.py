"""docs/security.md answers every requirement it says it does, and the tests and sections it names are there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.named import ROOT, existing_tests, named_tests

PAGE = ROOT.joinpath("docs", "security.md").read_text()

# OWASP ASVS 5.0.0: how many requirements of levels 1 and 2 each section has, numbered from 1 without gaps.
ASKED = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2,
    "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1,
    "3.2": 2, "3.3": 4, "3.4": 6, "3.5": 5, "3.7": 2,
    "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4,
    "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4,
    "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2,
    "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1,
    "9.1": 3, "9.2": 4,
    "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4,
    "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5,
    "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7,
    "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3,
}  # fmt: skip

ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)


def numbers() -> Iterator[str]:
    return (f"{section}.{number}" for section, many in ASKED.items() for number in range(1, many + 1))


def test_every_requirement_is_answered_once_in_the_standards_order() -> None:
    assert [number for number, _, _ in ROWS] == list(numbers())


@pytest.mark.parametrize(("number", "answer"), [(number, answer) for number, _, answer in ROWS])
def test_an_answer_is_a_test_a_section_or_a_reason(number: str, answer: str) -> None:
    assert re.search(r"`test_\w+`|\]\(#|(^|; )(n/a|open): .{8}", answer), number


def test_every_test_it_names_exists() -> None:
    named = named_tests(PAGE)
    assert len(named) > 150
    assert sorted(named - existing_tests()) == []


def test_what_it_links_to_is_there() -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.+)", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
    for link in re.findall(r"\]\(([^#)][^)]*)\)", PAGE):
        assert ROOT.joinpath("docs", link).exists(), link


def test_every_lint_rule_it_rests_on_is_in_the_gate() -> None:
    gate = ROOT.joinpath("pyproject.toml").read_text()
    rules = set(re.findall(r"`(S\d{3})`", PAGE))
    assert rules
    assert re.search(r'"S",', gate)
    assert [rule for rule in rules if re.search(rf'^    "{rule}",', gate, re.MULTILINE)] == []
