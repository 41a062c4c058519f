"""The page that an export is opened with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from veza.gateways.export_page import CHUNK, FOLDED_ABOVE, FileLine, Line, Page, render, told_size

PAGE = Page(
    "<script>alert(1)</script>",
    datetime(2026, 2, 23, 12, 30, tzinfo=UTC),
    [
        Line("Your account", "Account", "data/users.json", 1, "Your account."),
        Line("Money", "Orders", "data/orders.json", 1234, "What & why."),
        Line("Money", "Refunds", "data/refunds.json", 0, "None."),
    ],
    [("Tickets", "they let <you> in")],
    2,
    37_000,
    "data/files.json",
    0,
    "data/left_out.json",
)
FILES = [
    FileLine("Cloud files", "a #1.wav", "files/cloud/a #1.wav", 36_000),
    FileLine("Gear documents", "<Synth>/manual.pdf", "files/gear/<Synth>/manual.pdf", 1000),
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def text(page: Page = PAGE, files: Sequence[FileLine] = FILES) -> str:
    return b"".join(render(page, files)).decode()


def tags() -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text())
    return parser.found


def many(number: int) -> list[FileLine]:
    return [FileLine("Cloud files", f"{n}.wav", f"files/cloud/{n}.wav", 1) for n in range(number)]


def test_it_says_what_there_is_and_when_it_was_made() -> None:
    page = text()
    assert "Made on 23 February 2026 at 12:30 UTC." in page
    assert re.search(r"<h3>Money</h3>.*>Orders</a><small>What &amp; why.</small>.*1,234 entries", page, re.DOTALL)
    assert "<li><b>2</b>files</li>" in page
    assert "<li><b>37 kB</b>in files</li>" in page
    assert "<li><b>1,235</b>entries</li>" in page
    assert "<li>Tickets: they let &lt;you&gt; in.</li>" in page
    assert "deleted" not in page


def test_what_there_is_nothing_of_is_in_a_list_of_its_own() -> None:
    before, _, after = text().partition("<h2>Nothing held</h2>")
    assert "Refunds" not in before
    assert '<li><a href="data/refunds.json">Refunds</a></li>' in after
    full = text(replace(PAGE, tables=PAGE.tables[:2]))
    assert "There is something of every kind." in full


def test_each_file_is_linked_under_its_kind_with_its_folder_and_its_size() -> None:
    page = text()
    assert re.search(r"<h3>Cloud files</h3>.*<h3>Gear documents</h3>", page, re.DOTALL)
    assert '<a href="files/gear/%3CSynth%3E/manual.pdf">manual.pdf</a><small>&lt;Synth&gt;</small>' in page
    assert "1.0 kB" in page


def test_nobody_has_to_scroll_past_many_files() -> None:
    few, more = many(FOLDED_ABOVE), many(FOLDED_ABOVE + 1)
    assert "<details>" not in text(files=few)
    assert text(files=more).count("<details>") == text(files=more).count("</details>") == 1
    for files in (few, more):
        assert re.findall(r"files/cloud/(\d+).wav", text(files=files)) == [str(n) for n in range(len(files))]


def test_who_has_no_files_is_told_so() -> None:
    assert "You keep no files with us." in text(replace(PAGE, files=0), [])


def test_it_says_what_was_left_out() -> None:
    assert "One file was deleted while this archive was being made, and is not in it" in text(replace(PAGE, left_out=1))
    several = text(replace(PAGE, left_out=3))
    assert "3 files were deleted while this archive was being made, and are not in it" in several
    assert '<a href="data/left_out.json">which ones they were</a>' in several


def test_a_page_of_very_many_files_comes_in_parts() -> None:
    parts = list(render(PAGE, many(5000)))
    assert len(parts) > 5
    assert max(map(len, parts)) < 2 * CHUNK


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (37_000, "37 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (4_000_000_000_000, "4.0 TB"),
        (4_000_000_000_000_000, "4,000.0 TB"),
    ],
)
def test_sizes_are_told_as_a_person_reads_them(size: int, told: str) -> None:
    assert told_size(size) == told


def test_a_name_is_text_and_nothing_runs_or_is_fetched() -> None:
    found = tags()
    assert not {tag for tag, _ in found} & {"script", "img", "link", "iframe", "object"}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on") or name == "src"]
    links = [attributes["href"] for tag, attributes in found if tag == "a"]
    assert links == [
        "files/cloud/a%20%231.wav",
        "files/gear/%3CSynth%3E/manual.pdf",
        "data/users.json",
        "data/orders.json",
        "data/refunds.json",
        "data/files.json",
    ]
    assert "default-src 'none'" in text()
