"""The dashboard and the alert rules in deploy/ speak of what is served, and say what a person needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser as ql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests import promql
from tests.http.world import World, running_world
from tests.named import ROOT
from tests.promql import SCRAPED, Known
from veza.domain.live import StreamState
from veza.domain.payouts import HoldReason

Json = dict[str, Any]

OPERATIONS = ROOT.joinpath("docs", "operations.md")
RUNBOOKS = {
    "An actor keeps crashing", "Audit behind", "Database away", "Database full", "Event loop stuck", "Flood",
    "Ingest lost", "Payouts stuck", "Provider down", "Where to look first",
}  # fmt: skip
MADE_BY_PROMETHEUS: Known = {"up": {}}  # of each scrape
VALUES: dict[tuple[str, str], set[str]] = {
    ("veza_live_sessions", "state"): {*StreamState},
    ("veza_transfers_held", "reason"): {*HoldReason},
    ("veza_transfers", "status"): {"pending", "processing", "failed", "held", "dead"},
    ("veza_exports", "status"): {"queued", "running"},
}
"""Of labels whose values come and go: which there may be."""


@cache
def dashboard() -> Json:
    found: Json = json.loads(ROOT.joinpath("deploy", "grafana", "veza.json").read_text())
    return found


@cache
def rules() -> list[Json]:
    groups: list[Json] = yaml.safe_load(ROOT.joinpath("deploy", "prometheus", "veza.rules.yml").read_text())["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[Json]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Each expression of the dashboard, as Grafana would send it, with its legend."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m"), target["legendFormat"]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [expr for expr, _ in queries()]


# -- what is served ----------------------------------------------------------------------------------------------------


async def everything(world: World) -> Known:
    """What is served of a platform where everything happens: each metric, with its labels and their values."""
    await world.on_air()
    export = "INSERT INTO exports (id, user_id, created_at, due_at) VALUES (gen_random_uuid(), %s, now(), 'infinity')"
    world.run(export, world.zoe.id)
    answer = await world.house.get("/metrics")
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return {name: {label: frozenset(of) for label, of in labels.items()} for name, labels in found.items()}


async def test_every_metric_and_label_that_they_name_is_served(dsn: str, tmp_path: Path) -> None:
    async with running_world(dsn, tmp_path) as world:
        known = {**await everything(world), **MADE_BY_PROMETHEUS}
    assert [fault for text in expressions() for fault in promql.faults(text, known)] == []
    for text, legend in queries():
        assert set(re.findall(r"{{\s*(\w+)\s*}}", legend)) <= promql.labels(ql.parse(text), known), (text, legend)
    for rule in rules():
        told = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert told <= promql.labels(ql.parse(rule["expr"]), known), rule["alert"]
    for metric in sorted(name for name in known if name.startswith("veza_") and not name.endswith("_created")):
        whole = re.sub(r"_(bucket|sum|count)$", "_bucket", metric)
        assert any(whole in text for text in expressions()), f"nobody looks at {metric}"


def test_every_value_they_ask_for_may_be_there() -> None:
    for text in expressions():
        for selector in promql.selectors(ql.parse(text)):
            for matcher in selector.matchers.matchers:
                values = VALUES.get((selector.name or "", matcher.name))
                assert values is None or matcher.value in values, text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rate(veza_requests_total[5m])", "there is no metric veza_requests_total"),
        ('veza_actors{name="a"}', "veza_actors has no label name"),
        ('veza_actors{actor="b"} == 0', "veza_actors is never of the actor b"),
        ("sum by (kind) (veza_actors)", "nothing in it has all of ['kind']"),
        ("sum(veza_actors", "unclosed"),
        ("rates(veza_actors[5m])", "unknown function"),
    ],
)
def test_what_is_not_there_is_found(text: str, fault: str) -> None:
    known = {"veza_actors": {"actor": frozenset({"a"})}}
    [found] = promql.faults(text, known)
    assert fault in found
    assert list(promql.faults('sum by (actor, instance) (veza_actors{actor="a"})', known)) == []


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("veza_a", {"x", "le"} | SCRAPED),
        ("sum(veza_a)", set()),
        ("sum by (x) (rate(veza_a[5m]))", {"x"}),
        ("sum without (x, instance) (veza_a)", {"le", "job"}),
        ("topk(3, max by (x) (veza_a))", {"x"}),
        ("histogram_quantile(0.9, sum by (le, x) (rate(veza_a[5m]))) > 1", {"x"}),
        ("1 - max by (x) (veza_a)", {"x"}),
        ("veza_a / sum by (x) (veza_a)", {"x"}),
    ],
)
def test_which_labels_are_left_is_known(text: str, labels: set[str]) -> None:
    none: frozenset[str] = frozenset()
    assert promql.labels(ql.parse(text), {"veza_a": {"x": none, "le": none}}) == labels


# -- the rules ---------------------------------------------------------------------------------------------------------


def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules()) > 20
    for rule in rules():
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}, rule
        assert re.fullmatch(r"Veza[A-Z]\w+", rule["alert"])
        assert ql.parse_duration(rule["for"]).total_seconds() >= 60
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "description", "runbook"}
        assert len(notes["summary"]) < 100
        assert notes["description"].endswith(".")
        assert all(each["job"] == "veza" for each in map(_matchers, promql.selectors(ql.parse(rule["expr"])))), rule


def _matchers(selector: ql.VectorSelector) -> dict[str, str]:
    return {each.name: each.value for each in selector.matchers.matchers}


def test_every_runbook_is_a_section_of_the_operators_page() -> None:
    named = set()
    for rule in rules():
        page, _, section = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operations.md"
        named.add(section)
    assert named == set(map(anchor, RUNBOOKS))
    assert set(re.findall(r"^##+ (.+)$", OPERATIONS.read_text(), re.MULTILINE)) >= RUNBOOKS


def anchor(heading: str) -> str:
    """What a link to a section ends in."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_every_panel_has_a_title_a_unit_and_a_query_and_its_own_place() -> None:
    everyone = dashboard()["panels"]
    assert len({panel["id"] for panel in everyone}) == len(everyone)
    assert len({panel["title"] for panel in everyone}) == len(everyone)
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in combinations([panel["gridPos"] for panel in everyone], 2):
        assert not _overlap(one, other), (one, other)


def _overlap(one: Json, other: Json) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))


def test_what_it_reads_from_is_chosen_by_who_looks() -> None:
    names = [variable["name"] for variable in dashboard()["templating"]["list"]]
    assert names == ["datasource", "job", "instance"]
    for panel in panels():
        for each in [panel, *panel["targets"]]:
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    for text, _ in queries():
        assert set(re.findall(r"\$(\w+)", text)) == {"job", "instance"}, text
        for selector in promql.selectors(ql.parse(text)):
            assert _matchers(selector).items() >= {"job": "$job", "instance": "$instance"}.items(), text
