"""docs/operations.md speaks of this house: the settings, routes, metrics, log lines and headings it names are there."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.house import House
from tests.named import ROOT
from veza.domain.flags import Flag
from veza.http.app import create_app, routes
from veza.settings import Settings

PAGE = ROOT.joinpath("docs", "operations.md").read_text()
CODE = "".join(path.read_text() for suffix in ("py", "sql") for path in ROOT.joinpath("veza").rglob(f"*.{suffix}"))
NAMED = re.findall(r"`([^`\n]+)`", PAGE)

RUNBOOKS = (
    "Payouts stuck",
    "Provider down",
    "Database full",
    "Database away",
    "Ingest lost",
    "Event loop stuck",
    "An actor keeps crashing",
    "Audit behind",
    "Flood",
    "Restore from a backup",
)
"""Alert rules name them."""

PARTS = ("How it shows", "What it means", "What not to do", "Over")
"""First comes what to do first: a line, or a list of steps."""


def headings(page: str) -> list[str]:
    return re.findall(r"^## (.+)", page, re.MULTILINE)


def anchors(page: str) -> set[str]:
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def runbook(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", RUNBOOKS)
def test_a_runbook_says_how_it_shows_what_it_means_what_to_do_and_when_it_is_over(name: str) -> None:
    assert name in headings(PAGE)
    assert [part for part in PARTS if f"**{part}**" not in runbook(name)] == []


def test_every_link_leads_somewhere() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors(PAGE)
    for file, anchor in re.findall(r"\]\(([^#)]+)#?([\w-]*)\)", PAGE):
        target = ROOT.joinpath("docs", file)
        assert target.exists(), file
        assert not anchor or anchor in anchors(target.read_text()), (file, anchor)
    for page in [ROOT / "README.md", *ROOT.joinpath("docs").rglob("*.md")]:
        assert set(re.findall(r"operations\.md#([\w-]+)", page.read_text())) <= anchors(PAGE), page


def test_every_setting_it_names_is_one() -> None:
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", PAGE))
    assert len(named) > 25
    assert named - {name.upper() for name in Settings.model_fields} == set()


def test_every_route_it_names_is_served() -> None:
    served = [
        (method, re.compile(re.sub(r":path\b", ".+", re.sub(r":(?!path\b)\w+", "[^/]+", path))))
        for method, path in routes(create_app())
    ]
    told = {(method, path) for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]+)[^`]*`", PAGE)}
    told |= {("", path) for path in re.findall(r"`(/(?:api/v1/|readyz|healthz|health/deep|metrics)[^`?]*)`", PAGE)}
    told |= {("", f"/api/v1{path}") for path in re.findall(r"\$(?:API|A)(/[\w/-]+)", PAGE)}
    assert len(told) > 20
    unknown = {
        (method, path)
        for method, path in told
        if not any(method in ("", of) and template.fullmatch(path) for of, template in served)
    }
    assert unknown == set()


def test_it_names_every_flag() -> None:
    assert set(map(str, Flag)) <= set(NAMED)


async def test_every_metric_it_names_is_told(house: House) -> None:
    text = (await house.get("/metrics")).text
    told = {name for family in text_string_to_metric_families(text) for name in (family.name, f"{family.name}_total")}
    once_known = ROOT.joinpath("veza", "http", "metrics.py").read_text()  # some are told once there is what to tell
    told |= set(re.findall(r'"(veza_\w+)"', once_known))
    named = set(re.findall(r"\bveza_\w+", PAGE))
    assert len(named) > 8
    assert named - told == set()


def test_every_word_of_the_code_it_uses_is_in_the_code() -> None:
    """Log lines, columns, reasons: what is written with an underscore, alone or in a line that was logged."""
    named = {
        name for each in NAMED if not each.startswith("veza_") for name in re.findall(r"^[a-z]+(?:_[a-z]+)+$", each)
    }
    named |= set(re.findall(r'"event": "(\w+)"', PAGE))
    assert len(named) > 30
    elsewhere = {"max_connections", "pg_dump", "pg_wal", "recovery_target_time"}  # PostgreSQL's
    assert {name for name in named - elsewhere if not re.search(rf"\b{name}\b", CODE)} == set()


async def test_every_actor_it_names_is_in_the_tree(house: House) -> None:
    tree = (await house.get("/admin/actors/tree", await house.admin())).text
    there = set(re.findall(r'"path":"([^"]+)"', tree))
    named = set(re.findall(r"\bveza(?:/[a-z]+)+(?![\w./])", PAGE))
    assert {re.sub(r"/(restart|pause|resume|drain)$", "", path) for path in named} <= there
