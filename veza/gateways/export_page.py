"""The page that an export is opened with: what is in it, what is not, and why; for a person, without anything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import groupby
from typing import Final
from urllib.parse import quote

CHUNK: Final = 64 * 1024  # characters: a page of many files is written in such parts
FOLDED_ABOVE: Final = 12  # files of one kind that a person takes in at a look

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f6f5f2; --sheet: #fff; --ink: #1d1d22; --quiet: #63636e; --line: #e4e2dc; --accent: #5b3fd6;
}
@media (prefers-color-scheme: dark) {
  :root { --ground: #131318; --sheet: #1c1c23; --ink: #ececf1; --quiet: #a0a0ad; --line: #2f2f39; --accent: #b3a1ff }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 50rem; margin: 0 auto; padding: 3rem 1.25rem 4rem }
a { color: var(--accent); text-decoration: none }
a:hover, a:focus-visible { text-decoration: underline }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em; margin: .2rem 0 .6rem; overflow-wrap: anywhere }
h2 { font-size: 1.3rem; letter-spacing: -.01em; margin: 3rem 0 .4rem }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem }
p { margin: .4rem 0 }
.brand { color: var(--accent); font-weight: 650; letter-spacing: .02em; margin: 0 }
.quiet { color: var(--quiet) }
.sums { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.6rem 0 0; padding: 0; list-style: none }
.sums li { flex: 1 1 6rem; background: var(--sheet); border: 1px solid var(--line); border-radius: .75rem;
  padding: .8rem 1rem; color: var(--quiet); font-size: .9rem }
.sums b { display: block; white-space: nowrap; color: var(--ink); font-size: 1.45rem; line-height: 1.3;
  font-variant-numeric: tabular-nums }
.list { background: var(--sheet); border: 1px solid var(--line); border-radius: .75rem; margin: .5rem 0; padding: 0;
  list-style: none; overflow: hidden }
.list li { display: flex; gap: 1rem; align-items: baseline; padding: .6rem 1rem; border-top: 1px solid var(--line) }
.list li:first-child { border-top: 0 }
.list span:first-child { flex: 1; min-width: 0; overflow-wrap: anywhere }
.list small { display: block; color: var(--quiet); font-size: .875rem; line-height: 1.4 }
.list .sum { color: var(--quiet); font-size: .9rem; white-space: nowrap; font-variant-numeric: tabular-nums }
summary { cursor: pointer; font-weight: 600; padding: .35rem 0 }
details { margin: 1rem 0 0 }
.empty { display: flex; flex-wrap: wrap; gap: .15rem 1.25rem; margin: .6rem 0; padding: 0; list-style: none }
.plain { padding-left: 1.2rem }
.plain li { margin: .35rem 0 }
@media (max-width: 34rem) { main { padding-top: 1.75rem } h1 { font-size: 1.7rem } h2 { margin-top: 2.25rem }
  .sums { gap: .5rem } .sums li { padding: .7rem .75rem } .sums b { font-size: 1.2rem } }
@media print { body { background: none } .list, .sums li { break-inside: avoid } }
"""

HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>What Veza holds about {username}</title>
<style>{style}</style>
</head>
<body>
<main>
<p class="brand">Veza</p>
<h1>What Veza holds about {username}</h1>
<p class="quiet">Made on {made_at}.</p>
<ul class="sums">
<li><b>{files}</b>{of_files}</li>
<li><b>{size}</b>in files</li>
<li><b>{entries}</b>{of_entries}</li>
</ul>
<h2>Your files</h2>
"""

NO_FILES: Final = '<p class="quiet">You keep no files with us.</p>\n'

LEFT_OUT: Final = """<p class="quiet">{many} deleted while this archive was being made, and {are} not in it:
<a href="{path}">{what}</a>.</p>
"""

DATA: Final = """<h2>Your data</h2>
<p class="quiet">Everything else that we keep about you, as it stood when this archive was begun. Each link opens a file
in JSON, which any text editor and any program can read. It says what each of its fields means.</p>
"""

REST: Final = """<h2>Nothing held</h2>
{empty}
<h2>For programs</h2>
<p class="quiet"><a href="{manifest}">{manifest}</a> says for every file here which entry it belongs to: by it a program
gets from an entry of your data to the file. Times are in UTC, amounts in minor units (cents).</p>
<h2>What is not in here</h2>
<ul class="plain">
{missing}
</ul>
</main>
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
    """A table that is in the archive. ``group`` is what it stands under; lines of one come together."""

    group: str
    title: str
    path: str
    rows: int
    about: str


@dataclass(frozen=True)
class FileLine:
    """A file in the archive, and what it stands under; files of one group come together."""

    group: str
    name: str
    path: str
    size_bytes: int


@dataclass(frozen=True)
class Page:
    """``withheld`` are tables that are not in it, each with why; ``left_out`` files that went while it was made."""

    username: str
    made_at: datetime
    tables: Sequence[Line]
    withheld: Sequence[tuple[str, str]]
    files: int
    size_bytes: int
    manifest: str
    left_out: int
    left_out_path: str


def render(page: Page, files: Iterable[FileLine]) -> Iterator[bytes]:
    """The page in UTF-8, a part at a time, with each of its files. It needs nothing beside it, and runs nothing."""
    part: list[str] = []
    size = 0
    for text in _texts(page, files):
        part.append(text)
        size += len(text)
        if size >= CHUNK:
            yield "".join(part).encode()
            part, size = [], 0
    yield "".join(part).encode()


def _texts(page: Page, files: Iterable[FileLine]) -> Iterator[str]:
    entries = sum(line.rows for line in page.tables)
    yield HEAD.format(
        username=escape(page.username),
        style=STYLE,
        made_at=f"{page.made_at.day} {page.made_at:%B %Y at %H:%M} UTC",
        files=f"{page.files:,}",
        of_files="file" if page.files == 1 else "files",
        size=told_size(page.size_bytes),
        entries=f"{entries:,}",
        of_entries="entry" if entries == 1 else "entries",
    )
    if not page.files:
        yield NO_FILES
    for group, those in groupby(files, lambda each: each.group):
        yield from _files(group, those)
    if page.left_out:
        one = page.left_out == 1
        yield LEFT_OUT.format(
            many="One file was" if one else f"{page.left_out:,} files were",
            are="is" if one else "are",
            what="which one it was" if one else "which ones they were",
            path=_address(page.left_out_path),
        )
    yield DATA
    for group, lines in groupby((line for line in page.tables if line.rows), lambda each: each.group):
        yield f'<h3>{escape(group)}</h3>\n<ul class="list">\n'
        yield from map(_line, lines)
        yield "</ul>\n"
    yield REST.format(
        empty=_empty([line for line in page.tables if not line.rows]),
        manifest=_address(page.manifest),
        missing="\n".join(
            _item(each) for each in (*NOT_IN_HERE, *(f"{title}: {why}." for title, why in page.withheld))
        ),
    )


def told_size(size_bytes: int) -> str:
    """Bytes as a person reads them, in powers of a thousand as file managers mostly show them."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:  # what is more rounds to the next unit
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _files(group: str, files: Iterator[FileLine]) -> Iterator[str]:
    """Under a heading, and folded where they are many."""
    first = [file for _, file in zip(range(FOLDED_ABOVE + 1), files, strict=False)]
    if len(first) <= FOLDED_ABOVE:
        yield f'<h3>{escape(group)}</h3>\n<ul class="list">\n'
    else:
        yield f'<details>\n<summary>{escape(group)}</summary>\n<ul class="list">\n'
    yield from map(_file, first)
    yield from map(_file, files)
    yield "</ul>\n" if len(first) <= FOLDED_ABOVE else "</ul>\n</details>\n"


def _file(file: FileLine) -> str:
    folder, _, name = file.name.rpartition("/")
    place = f"<small>{escape(folder)}</small>" if folder else ""
    size = told_size(file.size_bytes)
    return f'<li><span>{_link(file.path, name)}{place}</span><span class="sum">{size}</span></li>\n'


def _line(line: Line) -> str:
    number = f"{line.rows:,} {'entry' if line.rows == 1 else 'entries'}"
    about = f"<small>{escape(line.about)}</small>"
    return f'<li><span>{_link(line.path, line.title)}{about}</span><span class="sum">{number}</span></li>\n'


def _empty(lines: Sequence[Line]) -> str:
    if not lines:
        return '<p class="quiet">There is something of every kind.</p>'
    items = "\n".join(f"<li>{_link(line.path, line.title)}</li>" for line in lines)
    return f'<p class="quiet">Of these we hold nothing about you.</p>\n<ul class="empty">\n{items}\n</ul>'


def _link(path: str, text: str) -> str:
    return f'<a href="{_address(path)}">{escape(text)}</a>'


def _address(path: str) -> str:
    """A path in the archive as a relative reference: what has a meaning in an address, or in HTML, is encoded."""
    return quote(path)


def _item(text: str) -> str:
    return f"<li>{escape(text)}</li>"
