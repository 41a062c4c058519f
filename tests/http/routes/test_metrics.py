"""Metrics as Prometheus reads them, of a running house."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.conftest import Server
from tests.house import House, running_house
from tests.http.desk import refusal
from tests.shop import Shop, data

TOKEN = "metrics-of-the-tests-1"
Sample = tuple[str, frozenset[tuple[str, str]]]


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


async def told(house: House, path: str = "/metrics") -> Mapping[Sample, float]:
    answer = await house.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        sample(each.name, **each.labels): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


async def told_once(house: House, holds: Callable[[Mapping[Sample, float]], bool]) -> Mapping[Sample, float]:
    """What is told as soon as it satisfies ``holds``."""
    with trio.fail_after(20):
        while not holds(seen := await told(house)):
            pass  # each look is a request
    return seen


async def test_requests_are_counted_by_their_routes_template_and_status(house: House) -> None:
    for path in ("/marketplace/products", "/marketplace/products/01a22662-13a7-7263-a1b6-af32322d2a94", "/nowhere"):
        await house.get(path)
    await house.request("BREW", "/health")
    seen = await told(house)
    listed = "/api/v1/marketplace/products"
    assert seen[sample("veza_http_requests_total", method="GET", route=listed, status="200")] == 1
    one = f"{listed}/<uuid:product_id>"
    assert seen[sample("veza_http_requests_total", method="GET", route=one, status="404")] == 1
    assert seen[sample("veza_http_requests_total", method="none", route="none", status="404")] == 1
    assert seen[sample("veza_http_requests_total", method="none", route="none", status="405")] == 1
    assert seen[sample("veza_http_request_seconds_count", route=one)] == 1
    assert seen[sample("veza_http_requests_in_hand")] == 1  # the one that asks
    assert not any("01a22662" in value for _, labels in seen for _, value in labels)


async def test_each_actor_is_told_of_and_a_crowd_as_one(house: House) -> None:
    seen = await told(house)
    actors = {dict(labels)["actor"] for name, labels in seen if name == "veza_actors"}
    assert {"veza/money/payouts", "veza/audit/keeper", "veza/exporting/exports/*"} <= actors
    assert seen[sample("veza_actors_running", actor="veza/money/payouts")] == 1
    assert seen[sample("veza_actors", actor="veza/exporting/exports/*")] == 0
    assert seen[sample("veza_actor_restarts_total", actor="veza/money/payouts")] == 0
    admin = await house.admin()
    held = {"headers": {"If-Match": '"1"'}, "json": {"reason": "A test."}}
    (await house.post("/admin/actors/veza/money/payouts/pause", admin, **held)).raise_for_status()
    assert (await told(house))[sample("veza_actors_running", actor="veza/money/payouts")] == 0


async def test_work_that_waits_is_told_by_its_status(house: House) -> None:
    shop = Shop(house)
    seller, buyer = await house.sign_up("sam"), await house.sign_up("bea")
    await shop.bought(buyer, await shop.on_sale(seller))
    await house.until("/sell/transfers", seller, lambda seen: seen["transfers"][0]["status"] == "held")
    seen = await told(house)
    assert seen[sample("veza_transfers", status="held")] == 1
    assert seen[sample("veza_transfers_held", reason="not_onboarded")] == 1
    assert seen[sample("veza_transfers_minor_units", status="held")] == 2699
    assert seen[sample("veza_database_up")] == 1
    assert (seen[sample("veza_check_ok", check="database")], seen[sample("veza_check_ok", check="actors")]) == (1, 1)
    assert sample("veza_check_ok", check="redis") not in seen  # none is set up
    assert seen[sample("veza_reports_waiting")] == 0


async def test_what_came_of_asking_the_payout_provider_is_told_by_outcome(house: House) -> None:
    shop = Shop(house)
    seller, buyer = await house.sign_up("sam"), await house.sign_up("bea")
    link = data(await house.post("/sell/connect/onboard", seller))["onboarding_url"]
    await house.http.post(link, follow_redirects=True)
    await house.until("/sell/connect/status", seller, lambda seen: seen["transfers_active"])
    await shop.bought(buyer, await shop.on_sale(seller))
    done = sample("veza_queue_attempts_total", actor="veza/money/payouts", outcome="done")
    seen = await told_once(house, lambda seen: seen[done] > 0)
    outcomes = {dict(labels)["outcome"]: value for (name, labels), value in seen.items() if name == done[0]}
    assert outcomes.keys() == {"done", "retried", "given_back", "held", "given_up"}
    assert seen[done] == 1
    assert seen[sample("veza_queue_stopped", actor="veza/money/payouts")] == 0
    assert seen[sample("veza_payment_provider_answers")] == 1


async def test_the_audit_says_how_long_its_oldest_entry_waits(house: House) -> None:
    admin = await house.admin()
    held = {"headers": {"If-Match": '"1"'}, "json": {"reason": "A test."}}
    (await house.post("/admin/actors/veza/audit/keeper/pause", admin, **held)).raise_for_status()
    (await house.put("/users/me", admin, json={})).raise_for_status()
    seen = await told(house)
    assert seen[sample("veza_audit_waiting")] >= 1
    assert 0 < seen[sample("veza_audit_lag_seconds")] < 60
    (await house.post("/admin/actors/veza/audit/keeper/resume", admin, **held)).raise_for_status()
    seen = await told_once(house, lambda seen: seen[sample("veza_audit_lag_seconds")] == 0)
    assert seen[sample("veza_audit_waiting")] == 0


async def test_how_late_the_event_loop_is_and_what_it_was_stuck_in_is_told(house: House) -> None:
    seen = await told(house)
    assert seen[sample("veza_event_loop_lag_seconds_count")] > 0
    assert (
        seen[sample("veza_event_loop_lag_seconds_bucket", le="+Inf")]
        == seen[sample("veza_event_loop_lag_seconds_count")]
    )
    for name, labels in [
        ("stalls_total", {"kind": "stuck"}),
        ("stalls_total", {"kind": "crowded"}),
        ("stalled_seconds_total", {}),
    ]:
        assert sample(f"veza_event_loop_{name}", **labels) in seen
    assert seen[sample("veza_event_loop_watched")] == 1


async def test_while_the_database_is_away_all_else_is_told(house: House, postgres: Server, dsn: str) -> None:
    with postgres.away(dsn):
        seen = await told(house)
    assert seen[sample("veza_database_up")] == 0
    assert seen[sample("veza_check_ok", check="database")] == 0
    assert seen[sample("veza_actors", actor="veza/money/payouts")] == 1
    assert not any(name == "veza_transfers" for name, _ in seen)


async def test_the_root_tells_the_same_and_where_its_successor_is(house: House) -> None:
    answer = await house.http.get(f"{house.url}/metrics")
    assert (answer.status_code, answer.headers["link"]) == (200, '</api/v1/metrics>; rel="successor-version"')
    assert "deprecation" in answer.headers
    assert "veza_http_requests_total" in answer.text


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/metrics"])
async def test_where_there_is_a_token_it_is_asked_for(dsn: str, tmp_path: Path, path: str) -> None:
    async with running_house(dsn, tmp_path, metrics_token=SecretStr(TOKEN)) as house:
        url = house.url + path
        for headers in (
            {},
            {"Authorization": "Bearer guessed"},
            {"Authorization": f"Bearer {(await house.admin()).token}"},
        ):
            assert refusal(await house.http.get(url, headers=headers)) == (401, "invalid_token")
        assert (await house.http.get(url, headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200
