"""The operator's console in a real browser: what it shows moves by itself, and what is pressed there happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Never

import pytest
import trio
from playwright.async_api import Page, expect

from tests.browser import Browser, Tab
from tests.conftest import Server, server_directory
from tests.e2e.live_station import open_station
from tests.house import ADMIN_EMAIL, PASSWORD, House, running_house
from tests.scene import set_the_scene
from tests.shop import data
from veza.actors.payouts import Payer

pytestmark = pytest.mark.slow

MENU = ("Overview", "Actors", "Payouts", "Streams", "Exports", "Moderation", "Users", "Switches", "Audit")


async def signs_in(page: Page, email: str = ADMIN_EMAIL, password: str = PASSWORD) -> None:
    await page.goto("/console")
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def is_live(page: Page) -> None:
    await expect(page.locator(".pulse")).to_have_text("Live")


@asynccontextmanager
async def console(browser: Browser, house: House, *, expected: tuple[str, ...] = ()) -> AsyncIterator[Tab]:
    async with browser.open(house.url, expected=expected) as tab:
        await tab.do(signs_in(tab.page))
        await tab.do(is_live(tab.page))
        yield tab


async def test_every_page_is_sound_by_day_and_by_night_at_a_desk_and_on_a_phone(house: House, browser: Browser) -> None:
    with trio.fail_after(240):
        scene = await set_the_scene(house)
        await scene.refused_for_good()
        await scene.sold()
        [product] = data(await house.get("/marketplace/products?limit=1"))["products"]
        body = {"content_type": "track", "content_id": product["id"], "reason": "It is mine, and I never sold it."}
        data(await house.post("/reports", scene.bo, json=body))
        data(await house.post("/users/me/export", scene.bo))
        await house.until("/users/me/exports", scene.bo, lambda seen: seen["exports"][0]["status"] == "ready")
        async with browser.open(house.url, expected=("status of 404",)) as tab:
            await tab.do(tab.page.goto("/console"))
            await tab.axe()
            await tab.screenshot("console-login")
            await tab.do(signs_in(tab.page))
            for name in MENU:
                await tab.do(tab.page.get_by_role("link", name=name, exact=True).click())
                await tab.do(is_live(tab.page))
                await tab.axe()
                await tab.screenshot(f"console-{name.lower()}")
            for page in ("actors/veza/money/payouts", "actors/veza/money", "nothing-here"):
                await tab.do(tab.page.goto(f"/console/{page}"))
                await tab.axe()
                await tab.screenshot(f"console-{page.replace('/', '-')}")
            await tab.do(tab.page.goto("/console/payouts"))
            await tab.do(tab.page.get_by_role("link", name="ana").first.click())
            await tab.axe()
            await tab.screenshot("console-payout")


async def test_who_is_no_admin_or_does_not_know_the_password_stays_outside(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        await house.sign_up("mallory")
        async with browser.open(house.url, expected=("status of 401", "status of 403")) as tab:
            for email, password, told in (
                (ADMIN_EMAIL, "wrong-horse-1", "The email or the password is wrong."),
                ("mallory@veza.example", PASSWORD, "The console is for admins only."),
            ):
                await tab.do(signs_in(tab.page, email, password))
                await tab.do(expect(tab.page.get_by_role("alert")).to_have_text(told))
            await tab.axe()
            await tab.do(tab.page.goto("/console/payouts"))
            await tab.do(expect(tab.page).to_have_url(f"{house.url}/console/login?next=%2Fconsole%2Fpayouts"))
            await tab.do(tab.page.get_by_label("Email").fill(ADMIN_EMAIL))
            await tab.do(tab.page.get_by_label("Password").fill(PASSWORD))
            await tab.do(tab.page.keyboard.press("Enter"))
            await tab.do(expect(tab.page).to_have_url(f"{house.url}/console/payouts"))
            await tab.do(tab.page.get_by_role("button", name="Sign out").click())
            await tab.do(tab.page.goto("/console/payouts"))
            await tab.do(expect(tab.page.get_by_role("button", name="Sign in")).to_be_visible())


async def test_an_actor_that_crashes_is_seen_to_without_a_reload(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fall(_payer: Payer, _message: object) -> Never:
        raise RuntimeError("the secret is hunter2")

    with trio.fail_after(90):
        scene = await set_the_scene(house)
        dead = await scene.refused_for_good()
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Actors").click())
            row = page.locator("tr", has=page.get_by_role("link", name="payouts", exact=True))
            await tab.do(expect(row).to_contain_text("running"))
            await tab.do(expect(row).not_to_contain_text("RuntimeError"))
            with monkeypatch.context() as broken:
                broken.setattr(Payer, "handle", fall)
                assert (await house.post(f"/admin/transfers/{dead['id']}/retry", scene.admin)).status_code == 500
                await tab.do(expect(row).to_contain_text("RuntimeError"))
            await tab.do(expect(row).to_contain_text("running"))
            await tab.do(row.get_by_role("link", name="payouts").click())
            await tab.do(expect(page.get_by_text("2, up")).to_be_visible())
            traceback = page.get_by_label("Traceback")
            await tab.do(expect(traceback).to_contain_text("test_console.py"))
            await tab.do(expect(page.locator("body")).not_to_contain_text("hunter2"))
            await tab.axe()
            await tab.screenshot("console-crashed")


async def test_an_operator_pauses_and_resumes_an_actor_with_a_reason(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        admin = await house.admin()
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.goto("/console/actors/veza/janitor"))
            await tab.do(page.get_by_label("Reason").fill("The disk is being moved."))
            await tab.do(page.get_by_role("button", name="Pause").click())
            facts = page.locator("#region-facts")
            await tab.do(expect(facts).to_contain_text("paused The disk is being moved."))
            await tab.do(page.get_by_label("Reason").fill("It was."))
            await tab.do(page.get_by_role("button", name="Resume").click())
            await tab.do(expect(facts).to_contain_text("running"))
        told = data(await house.get("/admin/audit?resource=actors/", admin))["entries"]
        assert [(each["action"], each["details"]["reason"]) for each in told] == [
            ("actor.resume", "It was."),
            ("actor.pause", "The disk is being moved."),
        ]


async def test_a_dead_payout_is_retried_from_its_page_and_turns_completed(house: House, browser: Browser) -> None:
    with trio.fail_after(90):
        scene = await set_the_scene(house)
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Payouts", exact=True).click())
            await tab.do(expect(page.get_by_text("None is dead.")).to_be_visible())
            dead = await scene.refused_for_good()
            button = page.get_by_role("button", name="Retry the transfer to ana")  # it comes by itself
            await tab.do(button.click())
            await tab.do(expect(page).to_have_url(f"{house.url}/console/payouts/{dead['id']}"))
            await tab.do(expect(page.locator("#region-transfer")).to_contain_text("completed"))
            await tab.do(expect(page.locator("#region-attempts tr")).to_have_count(2))
            await tab.axe()
        assert await scene.at_the_provider() == 1
        [(actor, _, _)] = scene.shop.run(
            "SELECT actor_id::text, resource, request_id FROM audit_entries WHERE action = 'transfer.retry'"
        )
        assert actor == scene.admin.id


async def test_maintenance_is_switched_on_and_off_from_its_page(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Switches").click())
            await tab.do(page.get_by_label("What everybody is told").fill("Back at noon."))
            await tab.do(page.get_by_label("Expected end").fill("2030-01-01T12:00"))
            await tab.do(page.get_by_role("button", name="Switch maintenance on").click())
            await tab.do(expect(page.locator("#region-maintenance")).to_contain_text("told “Back at noon.”"))
            await tab.do(expect(page.locator("#region-maintenance")).to_contain_text("01 Jan 2030 12:00:00"))
            answer = await house.get("/marketplace/products")
            assert (answer.status_code, answer.json()["error"]) == (503, "Back at noon.")
            await tab.axe()
            await tab.screenshot("console-maintenance")
            await tab.do(page.get_by_role("button", name="Switch maintenance off").click())
            await tab.do(expect(page.locator("#region-maintenance")).to_contain_text("the doors are open"))
            assert (await house.get("/marketplace/products")).status_code == 200


async def test_what_somebody_is_writing_stays_while_the_rest_moves_and_a_report_is_decided_by_the_keyboard(
    house: House, browser: Browser
) -> None:
    with trio.fail_after(90):
        ann, bob = await house.sign_up("ann"), await house.sign_up("bob")
        report = {"content_type": "user", "content_id": ann.id, "reason": "Sells what is mine."}
        data(await house.post("/reports", bob, json=report))
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Moderation").click())
            await tab.do(page.get_by_text("Decide", exact=False).first.focus())
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(page.get_by_label("Words to ann").fill("Take it down."))
            cat = await house.sign_up("cat")
            data(await house.post("/reports", cat, json=report | {"reason": "Mine too."}))
            await tab.do(expect(page.locator("#region-reports > li")).to_have_count(2))
            await tab.do(expect(page.locator("#region-reports")).to_contain_text("reported 2 times"))
            await tab.do(expect(page.get_by_label("Words to ann").first).to_have_value("Take it down."))
            await tab.axe()
            await tab.screenshot("console-deciding")
            await tab.do(page.get_by_role("button", name="Warn").first.focus())
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(expect(page.locator("#region-reports > li")).to_have_count(1))
        news = data(await house.get("/notifications", ann))["notifications"]
        assert "Take it down." in str(news)


async def test_a_page_says_so_while_the_database_is_away_and_the_tree_goes_on(
    postgres: Server, dsn: str, tmp_path: Path, browser: Browser
) -> None:
    with trio.fail_after(120):
        async with running_house(dsn, tmp_path) as house, console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Payouts", exact=True).click())
            await tab.do(is_live(page))
            with postgres.away(dsn):
                status = page.locator(".pulse")
                await tab.do(expect(status).to_contain_text("The database does not answer"))
                await tab.do(page.goto("/console/actors"))
                await tab.do(is_live(page))
                await tab.do(expect(page.locator("#region-actors")).to_contain_text("Payer"))
                await tab.do(page.goto("/console/payouts"))
                await tab.do(expect(page.get_by_text("It can't be said just now.").first).to_be_visible())
                await tab.do(expect(page.get_by_text("None is dead.")).to_be_hidden())
                await tab.axe()
            await tab.do(is_live(page))
            await tab.do(expect(page.get_by_text("None is dead.")).to_be_visible())


async def test_who_is_on_air_is_shown_as_they_come_stall_and_go(postgres: Server, browser: Browser) -> None:
    admin = {"ADMIN_EMAIL": ADMIN_EMAIL, "ADMIN_PASSWORD": PASSWORD}
    name = postgres.create()
    with server_directory() as directory, open_station(postgres.named(name), directory, **admin) as on:
        with trio.fail_after(120):
            async with on.creator() as creator, browser.open(on.url) as tab:
                page = tab.page
                await tab.do(signs_in(page))
                await tab.do(page.get_by_role("link", name="Streams").click())
                await tab.do(expect(page.get_by_text("Nobody is on air.")).to_be_visible())
                encoder = creator.publish()
                row = page.locator("#region-streams tr")
                await tab.do(expect(row).to_contain_text("live"))
                await tab.do(expect(row).to_contain_text("good"))
                await tab.do(expect(row).to_contain_text("Mbit/s"))
                await tab.axe()
                await tab.screenshot("console-on-air")
                encoder.kill()
                await tab.do(expect(row).to_contain_text("reconnecting"))
                await tab.do(expect(page.get_by_text("Nobody is on air.")).to_be_visible())
    postgres.drop(name)
