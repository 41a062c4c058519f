"""What changes of a page is drawn and sent, and nothing else; and what its reader is told when that can't be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from veza.actors.core.meter import Meter
from veza.domain.errors import Unauthenticated
from veza.http.console import pages
from veza.http.console.looks import Tile
from veza.http.console.pages import PAGES
from veza.http.console.regions import LOOK_SECONDS, Content, Drawing, Forms, Row, Watching
from veza.http.console.tree import figure
from veza.http.drawing import lasting, line, measured, millis, money, size, templates, told
from veza.http.events import HEARTBEAT_SECONDS
from veza.store.errors import DatabaseUnavailable

ROOT = UUID(int=3)
FOLDER = Path(pages.__file__).parents[1] / "templates" / "console"


def tiles(**values: str) -> Content:
    return {"tiles": [Row(label, Tile(label, value, "payouts")) for label, value in values.items()]}


def test_a_row_that_stays_as_it_is_is_not_drawn_again() -> None:
    drawing = Drawing(Forms("key", ROOT))
    assert set(drawing.whole(tiles(due="1", held="2"))) == {"tiles"}
    assert drawing.changes(tiles(due="1", held="2")) == {}
    changed = drawing.changes(tiles(due="1", held="3"))
    assert list(changed["tiles"]["rows"]) == ["held"]
    assert "order" not in changed["tiles"]


def test_rows_that_come_go_and_move_are_told_by_their_order() -> None:
    drawing = Drawing(Forms("key", ROOT))
    drawing.whole(tiles(due="1", held="2"))
    come = drawing.changes(tiles(dead="0", due="1", held="2"))["tiles"]
    assert (list(come["rows"]), come["order"]) == (["dead"], ["dead", "due", "held"])
    assert drawing.changes(tiles(due="1"))["tiles"] == {"rows": {}, "order": ["due"]}


def test_who_comes_without_having_seen_anything_is_sent_everything() -> None:
    changed = Drawing(Forms("key", ROOT)).changes(tiles(due="1"))["tiles"]
    assert (list(changed["rows"]), changed["order"]) == (["due"], ["due"])


def test_who_comes_back_is_told_of_a_region_in_which_there_is_nothing_any_more() -> None:
    drawing = Drawing(Forms("key", ROOT))
    assert drawing.changes({"tiles": []}) == {"tiles": {"rows": {}, "order": []}}
    assert drawing.changes({"tiles": []}) == {}


def test_what_people_wrote_is_text_in_a_row() -> None:
    drawn = Drawing(Forms("key", ROOT)).whole(tiles(**{"<b>": "<script>"}))["tiles"]
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_every_page_has_a_template_and_every_region_of_it_a_macro() -> None:
    macros = templates().get_template("console/rows.html").module
    for page in PAGES.values():
        source = FOLDER.joinpath(f"{page.name}.html").read_text()
        regions = re.findall(r'data-region="(\w+)"|\{\{ table\("(\w+)"', source)
        assert regions, page.name
        for names in regions:
            assert callable(getattr(macros, "".join(names))), (page.name, names)


def test_a_rate_that_only_wavers_is_no_news() -> None:
    minute = Meter()
    for second in range(180):
        minute.record(float(second), 0.001, 0.001)
    told = {figure(minute.rate(180.0 + looks / 10)) for looks in range(10)}
    assert len({round(minute.rate(180.0 + looks / 10), 2) for looks in range(10)}) > 1
    assert len(told) == 1
    assert [figure(rate) for rate in (0.0, 0.0166, 0.516, 0.524, 7.77, 1234.0)] == [0.0, 0.02, 0.5, 0.5, 7.8, 1200.0]


def test_on_a_phone_each_cell_is_called_what_its_column_is() -> None:
    source = FOLDER.joinpath("rows.html").read_text()
    macros = dict(re.findall(r"{% macro (\w+)\(.*?%}(.*?){% endmacro %}", source, re.DOTALL))
    tables = [
        found
        for template in FOLDER.glob("*.html")
        for found in re.findall(r'{{ table\("(\w+)", "[^"]*", (\[.*?\])', template.read_text())
    ]
    assert len(tables) >= 12
    for name, columns in tables:
        row = macros[name].replace("{{ transfer_cells(it) }}", macros["transfer_cells"])
        labels = dict.fromkeys(re.findall(r'data-label="([^"]*)"', row))
        assert list(labels) == [each.removeprefix("#") for each in json.loads(columns)], name


def test_what_was_written_is_kept_in_the_form_that_was_refused_and_in_no_other() -> None:
    forms = Forms("key", ROOT, "/console/moderation/1", {"reason": "<Take it down.>"})
    assert forms.kept("/console/moderation/1", "reason") == "<Take it down.>"
    assert forms.kept("/console/moderation/1", "until") == ""
    assert forms.kept("/console/moderation/2", "reason") == ""


# -- a page that goes on -----------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A page whose rows a test changes. ``trouble`` is raised at each look, ``out`` at each asking who it is."""

    ending: trio.Event = field(default_factory=trio.Event)
    values: dict[str, str] = field(default_factory=lambda: {"due": "1"})
    trouble: Exception | None = None
    out: Exception | None = None

    async def look(self) -> Content:
        if self.trouble is not None:
            raise self.trouble
        return tiles(**self.values)

    async def still(self) -> None:
        if self.out is not None:
            raise self.out

    def watched(self) -> Watching:
        return Watching(
            self.look, Drawing(Forms("key", ROOT)), 2.0, place=nullcontext(), ending=self.ending, still=self.still
        )


def read(event: bytes) -> tuple[str, Mapping[str, Any]]:
    name, data = event.decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def begun(scene: Scene) -> Watching:
    watching = scene.watched()
    assert b"retry:" in await anext(watching)
    assert read(await anext(watching))[0] == "changes"
    return watching


async def test_a_change_is_told_at_the_next_look_and_silence_is_kept_alive(autojump_clock: MockClock) -> None:
    scene = Scene()
    watching = await begun(scene)
    began = trio.current_time()
    assert await anext(watching) == b":\n\n"
    assert HEARTBEAT_SECONDS <= trio.current_time() - began <= HEARTBEAT_SECONDS + 2
    scene.values["due"] = "2"
    began = trio.current_time()
    name, data = read(await anext(watching))
    assert (name, list(data["tiles"]["rows"])) == ("changes", ["due"])
    assert trio.current_time() - began == pytest.approx(2.0)


async def test_a_reader_is_told_once_that_the_database_is_away_and_once_that_it_is_back(
    autojump_clock: MockClock,
) -> None:
    scene = Scene()
    watching = await begun(scene)
    scene.trouble = DatabaseUnavailable("gone")
    assert read(await anext(watching)) == ("away", {})
    assert await anext(watching) == b":\n\n"
    scene.trouble = None
    assert read(await anext(watching)) == ("back", {})


async def test_a_look_that_takes_too_long_is_as_if_the_database_were_away(autojump_clock: MockClock) -> None:
    scene = Scene()
    watching = await begun(scene)
    scene.trouble = trio.TooSlowError()
    assert read(await anext(watching)) == ("away", {})


async def test_asking_who_looks_takes_nothing_of_the_time_for_the_look(autojump_clock: MockClock) -> None:
    scene = Scene()

    async def still() -> None:
        await trio.sleep(LOOK_SECONDS - 0.1)

    async def look() -> Content:
        await trio.sleep(LOOK_SECONDS - 0.1)
        return tiles(due="1")

    watching = Watching(look, Drawing(Forms("key", ROOT)), 2.0, place=nullcontext(), ending=scene.ending, still=still)
    await anext(watching)
    assert read(await anext(watching))[0] == "changes"


async def test_who_is_out_is_told_so_and_nothing_more(autojump_clock: MockClock) -> None:
    scene = Scene()
    watching = await begun(scene)
    scene.out = Unauthenticated("This session is over.")
    assert read(await anext(watching)) == ("over", {})
    with pytest.raises(StopAsyncIteration):
        await anext(watching)


async def test_it_ends_when_the_process_leaves(autojump_clock: MockClock) -> None:
    scene = Scene()
    watching = await begun(scene)
    scene.ending.set()
    with pytest.raises(StopAsyncIteration):
        await anext(watching)


# -- how things are written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "as_"),
    [
        (money(2699, "EUR"), "26.99 EUR"),
        (money(123456789, "EUR"), "1,234,567.89 EUR"),
        (money(500, "JPY"), "500 JPY"),
        (size(999), "999 B"),
        (size(1500), "1.5 kB"),
        (size(72_500_000_000), "72.5 GB"),
        (lasting(0.25), "0.2 s"),
        (lasting(90), "90 s"),
        (lasting(150), "2 min"),
        (lasting(200_000), "2 d"),
        (millis(0.0321), "0.0321 ms"),
        (millis(999.4), "999 ms"),
        (millis(1234.5), "1.23 s"),
        (millis(150_000), "2 min"),
        (measured("latency_ms", 1.15), "latency 1.15 ms"),
        (measured("free_gb", 66.6), "free 66.6 GB"),
        (measured("veza/money", "degraded"), "veza/money degraded"),
    ],
)
def test_figures_are_written_as_people_say_them(told: str, as_: str) -> None:
    assert told == as_


def test_what_an_entry_tells_is_told_in_words_and_what_it_does_not_is_left_out() -> None:
    details = {"enabled": False, "expected_end": None, "message": "", "held": 0, "streams": ["a", "é"], "reason": "x"}
    assert list(told(details)) == [("enabled", "no"), ("held", "0"), ("streams", '["a", "é"]'), ("reason", "x")]


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ([], ""),
        ([None, None], ""),
        ([0.0, 2.0], "M80.0 23.0L120.0 1.0"),
        ([1.0, None, 1.0, 1.0], "M0.0 1.0M80.0 1.0L120.0 1.0"),
        ([1.0], "M120.0 1.0h1"),
    ],
)
def test_a_sparkline_ends_at_the_right_and_is_broken_where_there_is_nothing(
    values: Sequence[float | None], path: str
) -> None:
    assert line(values, 4) == path
