"""What the console's script does to a page in somebody's hands: it takes nothing from them, and leaves nothing old."""

from __future__ import annotations

import pytest
import trio
from playwright.async_api import Route, expect

from tests.browser import Browser
from tests.e2e.test_console import console, is_live
from tests.house import House
from tests.shop import data

pytestmark = pytest.mark.slow

FLAG = "cloud.uploads"


async def test_what_was_left_alone_while_somebody_was_there_is_drawn_once_they_are_elsewhere(
    house: House, browser: Browser
) -> None:
    with trio.fail_after(90):
        admin = await house.admin()
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.goto("/console/switches"))
            await tab.do(is_live(page))
            row = page.locator("#region-flags tr", has_text=FLAG)
            await tab.do(row.get_by_role("button").focus())
            data(await house.put(f"/admin/feature-flags/{FLAG}", admin, json={"enabled": False}))
            await tab.do(expect(row.locator(".state")).to_have_text("off"))
            await tab.do(expect(row.get_by_role("button")).to_contain_text("Switch off"))
            await tab.do(expect(row.get_by_role("button")).to_be_focused())
            await tab.do(page.get_by_label("What everybody is told").focus())
            await tab.do(expect(row.get_by_role("button")).to_contain_text("Switch on"))


async def test_what_somebody_writes_about_a_row_that_goes_stays_until_they_let_go_of_it(
    house: House, browser: Browser
) -> None:
    with trio.fail_after(90):
        admin, ann, bob = await house.admin(), await house.sign_up("ann"), await house.sign_up("bob")
        report = {"content_type": "user", "content_id": ann.id, "reason": "Sells what is mine."}
        told = data(await house.post("/reports", bob, json=report))
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.goto("/console/moderation"))
            await tab.do(is_live(page))
            rows = page.locator("#region-reports > li")
            await tab.do(page.locator("summary").click())
            await tab.do(page.get_by_label("Words to ann").fill("Take it down."))
            decided = await house.post(f"/admin/reports/{told['id']}/resolve", admin, json={"action": "resolve"})
            assert decided.status_code == 200, decided.text
            await tab.do(expect(page.locator("#region-reports > li.gone")).to_have_count(1))
            await tab.do(expect(page.get_by_label("Words to ann")).to_have_value("Take it down."))
            await tab.do(expect(page.get_by_label("Words to ann")).to_be_focused())
            await tab.axe()
            await tab.do(page.get_by_label("Words to ann").fill(""))
            await tab.do(page.locator("summary").click())
            await tab.do(page.get_by_role("link", name="Moderation").focus())
            await tab.do(expect(rows).to_have_count(0))


async def test_rows_change_places_around_the_one_that_somebody_is_in(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.goto("/console/switches"))
            await tab.do(is_live(page))
            buttons = page.locator("#region-flags button")
            keys = await tab.do(page.locator("#region-flags tr").evaluate_all("all => all.map(e => e.dataset.key)"))
            for order in ([*keys[1:], keys[0]], list(reversed(keys)), keys):
                focused = page.locator(f"#region-flags tr[data-key='{keys[1]}'] button")
                await tab.do(focused.focus())
                await tab.do(
                    page.evaluate("order => apply(document.getElementById('region-flags'), {rows: {}, order})", order)
                )
                await tab.do(expect(focused).to_be_focused())
                there = "all => all.map(e => e.dataset.key)"
                assert await tab.do(page.locator("#region-flags tr").evaluate_all(there)) == order
            await tab.do(expect(buttons).to_have_count(len(keys)))


async def test_who_was_refused_is_told_why_and_sends_what_they_wrote_again(house: House, browser: Browser) -> None:
    with trio.fail_after(90):
        admin = await house.admin()
        path = "/admin/actors/veza/janitor"
        async with console(browser, house, expected=("status of 412",)) as tab:
            page, words, reason = tab.page, "The disk is being moved.", tab.page.get_by_label("Reason")
            await tab.do(page.goto("/console/actors/veza/janitor"))
            await tab.do(is_live(page))
            await tab.do(reason.fill(words))
            meant = (await house.get(path, admin)).headers["etag"]
            done = await house.post(f"{path}/restart", admin, json={"reason": "x"}, headers={"If-Match": meant})
            assert done.status_code == 200
            await house.until(path, admin, lambda seen: seen["incarnation"] == 2 and seen["state"] == "running")
            await tab.do(page.get_by_role("button", name="Pause").click())
            alert = page.get_by_role("alert")
            await tab.do(expect(alert).to_contain_text("It is at its incarnation 2 now"))
            await tab.do(expect(alert).to_be_focused())
            await tab.do(is_live(page))
            await tab.do(expect(reason).to_have_value(words))
            await tab.axe()
            await tab.screenshot("console-refused")
            await tab.do(page.get_by_role("button", name="Pause").click())
            await tab.do(expect(page.locator("#region-facts")).to_contain_text(f"paused {words}"))
            await tab.do(expect(page).to_have_url(f"{house.url}/console/actors/veza/janitor"))


async def test_a_page_that_refused_a_form_comes_anew_without_sending_it_again(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        async with console(browser, house, expected=("status of 400",)) as tab:
            page, sent = tab.page, list[str]()

            async def listen() -> None:
                page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))

            await tab.do(page.goto("/console/actors/veza/janitor"))
            await tab.do(is_live(page))
            await tab.do(page.get_by_label("Reason").fill(" "))
            await tab.do(page.get_by_role("button", name="Pause").click())
            await tab.do(expect(page.get_by_role("alert")).to_contain_text("Nothing was changed."))
            await tab.do(listen())
            await tab.do(page.evaluate("again()"))
            await tab.do(expect(page.get_by_role("alert")).to_have_count(0))
            await tab.do(is_live(page))
            assert f"GET {house.url}/console/actors/veza/janitor" in sent
            assert not any(each.startswith("POST") for each in sent)


async def test_an_answer_that_passes_does_not_take_the_page_away(house: House, browser: Browser) -> None:
    async def bad_gateway(route: Route) -> None:
        await route.fulfill(status=502, body="A proxy's own page.")

    with trio.fail_after(90):
        async with console(browser, house, expected=("status of 502",)) as tab:
            page = tab.page
            await tab.do(page.goto("/console/switches"))
            await tab.do(is_live(page))
            await tab.do(page.get_by_label("What everybody is told").fill("Back at noon."))
            await tab.do(page.route("**/console/**", bad_gateway))
            await tab.do(page.evaluate("watch()"))
            status = page.locator(".pulse")
            await tab.do(expect(status).to_have_text("Not connected, trying again"))
            await tab.do(page.wait_for_event("response", lambda answer: answer.request.method == "HEAD"))
            await tab.do(page.unroute("**/console/**"))
            await tab.do(is_live(page))
            await tab.do(expect(page.get_by_label("What everybody is told")).to_have_value("Back at noon."))


async def test_a_page_that_is_left_and_come_back_to_is_watched_once(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        admin = await house.admin()
        async with console(browser, house) as tab:
            page = tab.page
            await tab.do(page.goto("/console/switches"))
            await tab.do(is_live(page))
            for _ in range(20):  # a browser has six connections to one place
                await tab.do(page.evaluate("document.dispatchEvent(new Event('visibilitychange'))"))
            data(await house.put(f"/admin/feature-flags/{FLAG}", admin, json={"enabled": False}))
            row = page.locator("#region-flags tr", has_text=FLAG)
            await tab.do(expect(row.locator(".state")).to_have_text("off"))


async def test_a_double_click_sends_a_form_once(house: House, browser: Browser) -> None:
    with trio.fail_after(60):
        async with console(browser, house) as tab:
            page, sent = tab.page, list[str]()

            async def listen() -> None:
                page.on("request", lambda request: sent.append(request.method))

            await tab.do(listen())
            await tab.do(page.goto("/console/switches"))
            await tab.do(is_live(page))
            row = page.locator("#region-flags tr", has_text=FLAG)
            await tab.do(row.get_by_role("button").dblclick())
            await tab.do(expect(row.locator(".state")).to_have_text("off"))
            assert sent.count("POST") == 1
