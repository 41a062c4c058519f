"""The API reference's own examples, as data: `python -m tests.http.reference API-REFERENCE.md` writes them down.

They are every JSON block, every body that a sentence or a `curl` shows, in the order of the reference, under the route
and the part of it that they stand by. Where the reference abbreviates, that is spelt out: `[...]` is an empty list,
`,...}` ends an object, and of `"a"|"b"` each is an example of its own. The placeholder `"uuid"` is kept.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

EXAMPLES: Final = Path(__file__).with_suffix(".json")

SECTION: Final = re.compile(r"^### ([A-Z]+) (/\S+)$", re.MULTILINE)
BLOCK: Final = re.compile(r"^\*\*(Body|Response)[^\n]*\*\*\n```json\n(.*?)\n```", re.MULTILINE | re.DOTALL)
STATUS: Final = re.compile(r"\*\*Response \((\d{3})")
SENTENCE: Final = re.compile(r"Body:(?:\*\*)? `(\{.*?\})`")
CURL: Final = re.compile(r"-d '(\{.*?\})'", re.DOTALL)
CHOICE: Final = re.compile(r'("[^"]*"|true|false)(?:\|(?:"[^"]*"|true|false))+')


@dataclass(frozen=True)
class Example:
    """``status`` is of an answer, None of a body."""

    route: str
    status: int | None
    value: Any


def examples_in(reference: str) -> Iterator[Example]:
    """What a text of the reference's form shows."""
    heads = [*SECTION.finditer(reference)]
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        text = reference[head.end() : following.start() if following else None]
        route = f"{head[1]} {head[2]}"
        for block in BLOCK.finditer(text):
            status = STATUS.match(block[0])
            yield from (Example(route, int(status[1]) if status else None, value) for value in values(block[2]))
        for found in (*SENTENCE.finditer(text), *CURL.finditer(text)):
            yield from (Example(route, None, value) for value in values(found[1]))


def values(shown: str) -> Iterator[Any]:
    """The JSON that is meant."""
    whole = shown.replace("[...]", "[]").replace(",...}", "}")
    choices = [choice[0].split("|") for choice in CHOICE.finditer(whole)]
    template = CHOICE.sub("\0", whole)
    for chosen in product(*choices):
        parts = template.split("\0")
        yield json.loads("".join(part + choice for part, choice in zip(parts, (*chosen, ""), strict=True)))


def written_down() -> list[Example]:
    """Those that were written down."""
    return [Example(**each) for each in json.loads(EXAMPLES.read_text())["examples"]]


def main(path: str) -> None:
    found = [asdict(example) for example in examples_in(Path(path).read_text())]
    made = "Written by `python -m tests.http.reference API-REFERENCE.md`, whose first lines say how."
    EXAMPLES.write_text(json.dumps({"made": made, "examples": found}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
