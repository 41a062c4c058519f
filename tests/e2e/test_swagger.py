"""The API's document in a real browser: read, and tried out with a token that stays nowhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from playwright.async_api import Page, expect

from tests.browser import SCHEMES, Tab
from tests.house import House

pytestmark = pytest.mark.slow

KEPT = "() => [localStorage.length, sessionStorage.length, document.cookie]"


async def tries_out(page: Page, token: str) -> None:
    """Who they are, by a token that they type in."""
    await page.goto("/swagger#/Users/getUsersMe")
    await page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    await dialog.get_by_role("textbox").fill(token)  # there is one alone
    await dialog.get_by_role("button", name="Apply credentials").click()
    await dialog.get_by_role("button", name="Close", exact=True).click()
    operation = page.locator("#operations-Users-getUsersMe")
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_contain_text('"username": "ann"')


async def test_a_route_is_tried_out_with_a_token_that_is_kept_nowhere(house: House, tab: Tab) -> None:
    with trio.fail_after(120):
        ann = await house.sign_up("ann")
        await tab.do(tries_out(tab.page, ann.token))
        assert await tab.do(tab.page.evaluate(KEPT)) == [0, 0, ""]
        await tab.do(tab.page.reload())
        await tab.do(expect(tab.page.locator(".btn.authorize.unlocked")).to_be_visible())


async def unfolds(page: Page, document: dict[str, Any]) -> None:
    """Each chapter, and folds it up again."""
    operations = (operation for methods in document["paths"].values() for operation in methods.values())
    chapters = Counter(operation["tags"][0] for operation in operations)
    for number, chapter in enumerate(document["tags"]):
        head = page.locator(".opblock-tag").nth(number)
        await head.click()
        await expect(page.locator(".opblock")).to_have_count(chapters[chapter["name"]])
        await head.click()
        await expect(page.locator(".opblock")).to_have_count(0)


async def test_every_operation_is_shown_by_day_and_by_night(house: House, tab: Tab) -> None:
    with trio.fail_after(240):
        document = (await house.http.get(f"{house.url}/openapi.json")).json()
        for scheme in SCHEMES:
            await tab.do(tab.page.emulate_media(color_scheme=scheme))
            await tab.do(tab.page.goto("/swagger"))
            await tab.do(unfolds(tab.page, document))
            dark = await tab.do(tab.page.evaluate("document.documentElement.classList.contains('dark-mode')"))
            assert dark == (scheme == "dark")


async def test_an_operation_is_sound_by_day_and_by_night(tab: Tab) -> None:
    with trio.fail_after(120):
        await tab.do(tab.page.goto("/swagger#/Orders/postMarketplaceOrders"))
        await tab.do(expect(tab.page.locator(".responses-table")).to_be_visible())
        await tab.axe(but=["nested-interactive"])  # the viewer has a link within the button that unfolds an operation
        await tab.screenshot("swagger-operation")
