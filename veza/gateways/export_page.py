"""The page that an export is opened with: what is in it, what is not, and why; for a person, without anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Final

STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #ddd }
td.rows { text-align: right; font-variant-numeric: tabular-nums }
@media (prefers-color-scheme: dark) {
  body { background: #191919; color: #ddd } a { color: #9cf } th, td { border-color: #444 }
}
"""

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>What Veza holds about {username}</title>
<style>{style}</style>
</head>
<body>
<h1>What Veza holds about {username}</h1>
<p>Made on {made_at}. The rows are of that moment; the files are those there were as the archive was written.</p>
<h2>Your data</h2>
<p>One file a table, in JSON. Each says what its columns mean, and which of them it leaves out and why.</p>
<table>
<thead><tr><th>File</th><th>Rows</th><th>What it is</th></tr></thead>
<tbody>
{tables}
</tbody>
</table>
<h2>Your files</h2>
<p>{files}</p>
<h2>What is not in here</h2>
<ul>
{missing}
</ul>
</body>
</html>
"""

NOT_IN_HERE: Final = (
    "Passwords, and whatever lets somebody in: it would serve whoever finds this archive. Of most we keep but a hash.",
    "What is other people's: who bought from you, what they wrote, who reported something of yours.",
    "Files that you bought from others. They stay in your library, as long as your purchase stands.",
    "Our own bookkeeping of work to be done, and copies of your words that are made for searching.",
)


@dataclass(frozen=True)
class Line:
    """A table that is in the archive."""

    name: str
    path: str
    rows: int
    about: str


@dataclass(frozen=True)
class Page:
    """``withheld`` are tables that are not in it, each with why; ``left_out`` files that went while it was made."""

    username: str
    made_at: datetime
    tables: Sequence[Line]
    withheld: Sequence[tuple[str, str]]
    files: int
    left_out: int
    left_out_path: str


def render(page: Page) -> bytes:
    """The page in UTF-8. It needs nothing beside it, and runs nothing."""
    text = PAGE.format(
        username=escape(page.username),
        style=STYLE,
        made_at=f"{page.made_at:%Y-%m-%d at %H:%M} UTC",
        tables="\n".join(map(_line, page.tables)),
        files="".join(_files(page)),
        missing="\n".join(_item(each) for each in (*NOT_IN_HERE, *(f"{name}: {why}." for name, why in page.withheld))),
    )
    return text.encode()


def _line(line: Line) -> str:
    link = f'<a href="{escape(line.path)}">{escape(line.name)}</a>'
    return f'<tr><td>{link}</td><td class="rows">{line.rows:,}</td><td>{escape(line.about)}</td></tr>'


def _files(page: Page) -> Iterable[str]:
    yield {0: "You have none.", 1: "There is one, under files/."}.get(
        page.files, f"There are {page.files:,}, under files/."
    )
    if page.left_out:
        link = f'<a href="{page.left_out_path}">{page.left_out:,}</a>'
        yield f" Deleted while the archive was made, and so left out: {link}."


def _item(text: str) -> str:
    return f"<li>{escape(text)}</li>"
