"""The page that an export is opened with."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

from veza.gateways.export_page import Line, Page, render

PAGE = Page(
    "<script>alert(1)</script>",
    datetime(2026, 2, 23, 12, 30, tzinfo=UTC),
    [Line("users", "data/users.json", 1, "Your account."), Line("orders", "data/orders.json", 1234, "What & why.")],
    [("stream_tickets", "they let <you> in")],
    2,
    0,
    "data/left_out.json",
)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(page: Page) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(render(page).decode())
    return parser.found


def test_it_says_what_there_is_and_when_it_was_made() -> None:
    text = render(PAGE).decode()
    assert "2026-02-23 at 12:30 UTC" in text
    assert '<a href="data/orders.json">orders</a></td><td class="rows">1,234</td><td>What &amp; why.</td>' in text
    assert "There are 2, under files/." in text
    assert "Files that you bought from others" in text
    assert "stream_tickets: they let &lt;you&gt; in." in text
    assert "left out:" not in text


def test_it_says_how_many_files_there_are() -> None:
    told = {
        number: re.findall(r"<p>(You have none|There (?:is|are)[^<]*)", render(replace(PAGE, files=number)).decode())
        for number in (0, 1, 10_000)
    }
    assert told == {
        0: ["You have none"],
        1: ["There is one, under files/."],
        10_000: ["There are 10,000, under files/."],
    }


def test_it_says_what_was_left_out() -> None:
    text = render(replace(PAGE, left_out=3)).decode()
    assert '<a href="data/left_out.json">3</a>' in text


def test_a_name_is_text_and_nothing_runs_or_is_fetched() -> None:
    found = tags(PAGE)
    assert not {tag for tag, _ in found} & {"script", "img", "link", "iframe", "object"}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "src"]
    links = [attributes["href"] for tag, attributes in found if tag == "a"]
    assert links == ["data/users.json", "data/orders.json"]
    assert "default-src 'none'" in render(PAGE).decode()
