"""What the console says of what was sent to it, in a real browser: what was done, what is wrong, that nothing was."""

from __future__ import annotations

import pytest
import trio
from playwright.async_api import expect

from tests.browser import Browser
from tests.e2e.test_console import console, is_live
from tests.house import ADMIN_EMAIL, PASSWORD, Account, House
from tests.shop import data
from veza.http.edge import Seats

pytestmark = pytest.mark.slow

JANITOR = "/console/actors/veza/janitor"


async def sign_out_elsewhere(house: House, account: Account) -> None:
    """End every session of theirs but that of their token."""
    for each in data(await house.get("/auth/sessions", account))["sessions"]:
        if not each["current"]:
            data(await house.delete(f"/auth/sessions/{each['id']}", account))


async def test_what_was_done_is_said_and_has_the_focus_until_the_page_is_left(house: House, browser: Browser) -> None:
    with trio.fail_after(90):
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.goto("/console/switches"))
            await tab.do(page.get_by_label("What everybody is told").fill("Back at noon."))
            await tab.do(page.keyboard.press("Enter"))
            told = page.locator(".said")
            await tab.do(expect(told).to_have_text("Maintenance is on: everyone but admins is turned away."))
            await tab.do(expect(told).to_have_role("status"))
            await tab.do(expect(told).to_be_focused())
            await tab.do(is_live(page))
            await tab.do(expect(page).to_have_url(f"{house.url}/console/switches"))
            await tab.axe()
            await tab.screenshot("console-done")
            await tab.do(page.keyboard.press("Tab"))
            await tab.do(expect(page.get_by_role("button", name="Switch maintenance off")).to_be_focused())
            await tab.do(page.reload())
            await tab.do(is_live(page))
            await tab.do(expect(told).to_have_count(0))


async def test_what_is_wrong_with_a_field_is_said_beside_it(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        async with console(browser, house, expected=("status of 400",)) as tab:
            page = tab.page
            await tab.do(page.goto("/console/switches"))
            end = page.get_by_label("Expected end")
            await tab.do(page.get_by_label("What everybody is told").fill("Back at noon."))
            await tab.do(end.fill("2020-01-01T12:00"))
            await tab.do(page.get_by_role("button", name="Switch maintenance on").click())
            await tab.do(expect(end).to_have_accessible_description("The expected end is in the future, or left out."))
            await tab.do(is_live(page))
            await tab.do(expect(end).to_have_value("2020-01-01T12:00"))
            await tab.do(expect(page.get_by_label("What everybody is told")).to_have_value("Back at noon."))
            await tab.do(expect(page.locator(".wrong")).to_be_visible())
            await tab.axe()
            await tab.screenshot("console-wrong")
            await tab.do(end.fill("2100-01-01T12:00"))
            await tab.do(page.get_by_role("button", name="Switch maintenance on").click())
            await tab.do(expect(page.locator(".said")).to_contain_text("Maintenance is on"))


async def test_a_page_that_nobody_wrote_on_leads_to_the_door_by_itself(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        admin = await house.admin()
        async with console(browser, house) as tab:
            await tab.do(tab.page.goto(JANITOR))
            await tab.do(is_live(tab.page))
            await sign_out_elsewhere(house, admin)
            await tab.do(expect(tab.page.get_by_role("button", name="Sign in")).to_be_visible())


async def test_who_was_signed_out_meanwhile_finds_their_words_again_and_sends_them(
    house: House, browser: Browser
) -> None:
    with trio.fail_after(90):
        admin = await house.admin()
        async with console(browser, house, expected=("status of 401",)) as tab:
            page, words = tab.page, "Die Platte zieht um, в 12 часов."
            await tab.do(page.goto(JANITOR))
            await tab.do(is_live(page))
            await tab.do(page.get_by_label("Reason").fill(words))
            await sign_out_elsewhere(house, admin)
            await tab.do(expect(page.locator(".pulse")).to_contain_text("Not watched any more."))
            await tab.do(expect(page.get_by_label("Reason")).to_have_value(words))
            await tab.axe()
            await tab.do(page.get_by_role("button", name="Pause").click())
            await tab.do(expect(page.get_by_role("alert")).to_contain_text("nothing was done"))
            email = page.get_by_label("Email")
            await tab.do(expect(email).to_be_focused())
            await tab.do(
                expect(email).to_have_accessible_description(
                    "You are not signed in any more, so nothing was done. Sign in to go on where you were."
                )
            )
            await tab.axe()
            await tab.screenshot("console-signed-out")
            await tab.do(email.fill(ADMIN_EMAIL))
            await tab.do(page.get_by_label("Password").fill(PASSWORD))
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(expect(page).to_have_url(f"{house.url}{JANITOR}"))
            await tab.do(expect(page.locator(".said")).to_contain_text("What you wrote is still here."))
            await tab.do(is_live(page))
            await tab.do(expect(page.get_by_label("Reason")).to_have_value(words))
            await tab.axe()
            await tab.screenshot("console-words-kept")
            await tab.do(page.get_by_role("button", name="Pause").click())
            await tab.do(expect(page.locator(".said")).to_have_text("veza/janitor was paused."))
        [told] = data(await house.get("/admin/audit?action=actor.pause", admin))["entries"]
        assert told["details"]["reason"] == words


async def test_the_audit_is_filtered_by_the_keyboard_and_says_what_makes_no_sense(
    house: House, browser: Browser
) -> None:
    with trio.fail_after(90):
        admin = await house.admin()
        data(await house.put("/admin/feature-flags/cloud.uploads", admin, json={"enabled": False}))
        await house.sign_up("mallory")
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Audit").click())
            await tab.do(is_live(page))
            rows = page.locator("#region-entries tr")
            await tab.do(expect(rows).not_to_have_count(1))
            await tab.do(page.get_by_label("Who").fill("ADMIN"))
            await tab.do(page.get_by_label("Action").fill("flag.switch"))
            await tab.do(page.get_by_label("From").fill("2026-01-01T00:00"))
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(expect(rows).to_have_count(1))
            await tab.do(is_live(page))
            data(await house.put("/admin/feature-flags/cloud.uploads", admin, json={"enabled": True}))
            await tab.do(expect(rows).to_have_count(2))
            await tab.do(expect(page.get_by_label("Who")).to_have_value("ADMIN"))
            await tab.do(expect(page.get_by_label("From")).to_have_value("2026-01-01T00:00"))
            await tab.axe()
            await tab.screenshot("console-audit-filtered")
            await tab.do(page.get_by_label("Who").fill("nobody-here"))
            await tab.do(page.get_by_role("button", name="Filter").click())
            await tab.do(
                expect(page.get_by_role("alert")).to_have_text("Who: There is no account of this name, email or id.")
            )
            await tab.do(is_live(page))
            await tab.axe()
            await tab.screenshot("console-audit-wrong")
            await tab.do(page.get_by_role("link", name="All of it").click())
            await tab.do(expect(page).to_have_url(f"{house.url}/console/audit"))
            await tab.do(expect(page.locator(".faults")).to_be_hidden())


async def test_a_full_house_says_so_on_a_page(house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(60):
        async with browser.open(house.url, expected=("status of 503",)) as tab:
            with monkeypatch.context() as full:
                full.setattr(Seats, "full_for", lambda _seats, path: path.startswith("/console"))
                await tab.do(tab.page.goto("/console/switches"))
                heading = tab.page.get_by_role("heading", name="Too many requests are in hand; try again.")
                await tab.do(expect(heading).to_be_visible())
                await tab.axe()
                await tab.screenshot("console-full-house")
            await tab.do(tab.page.reload())
            await tab.do(expect(tab.page.get_by_role("button", name="Sign in")).to_be_visible())


async def test_a_user_is_found_banned_and_let_in_again_by_the_keyboard(house: House, browser: Browser) -> None:
    with trio.fail_after(90):
        await house.sign_up("mallory")
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.get_by_role("link", name="Users", exact=True).click())
            await tab.do(is_live(page))
            await tab.do(page.get_by_label("Part of a name").fill("MALL"))
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(expect(page.locator("#region-users tr")).to_have_count(1))
            await tab.do(is_live(page))
            await tab.axe()
            await tab.screenshot("console-users-found")
            await tab.do(page.get_by_role("link", name="mallory").focus())
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(page.get_by_label("Reason").fill("Sells what is not theirs."))
            await tab.do(page.get_by_role("button", name="Ban mallory").focus())
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(expect(page.locator(".said")).to_have_text("mallory is banned."))
            await tab.do(expect(page.locator("#region-account")).to_contain_text("Sells what is not theirs."))
            await tab.do(is_live(page))
            await tab.axe()
            await tab.screenshot("console-user-banned")
            await tab.do(page.get_by_role("button", name="Lift the ban").focus())
            await tab.do(page.keyboard.press("Enter"))
            await tab.do(expect(page.locator(".said")).to_have_text("mallory is not banned any more."))
            await tab.do(expect(page.locator("#region-account")).to_contain_text("takes part"))
