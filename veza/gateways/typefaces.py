"""Which typeface draws which character, so that any name renders.

The texts of a document are made readable first: what no typeface here can draw becomes a box, since a PDF/A may not
refer to a missing glyph (ISO 19005-3, 6.2.11.8). Then each typeface is asked only for the characters it has to draw.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont

FONTS = Path(__file__).parent / "fonts"
REGULAR, BOLD = FONTS / "NotoSans-Regular.ttf", FONTS / "NotoSans-Bold.ttf"
SCRIPTS = (
    "Arabic", "Hebrew", "Thaana", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu",
    "Kannada", "Malayalam", "Thai", "Khmer", "Myanmar",
)  # fmt: skip
OTHERS = ("NotoEmoji-Regular.ttf", "DejaVuSans.ttf", "DroidSansFallback.ttf")
CHAIN = (REGULAR, *(FONTS / f"NotoSans{script}-Regular.ttf" for script in SCRIPTS), *(FONTS / name for name in OTHERS))
"""The first that has a character draws it; the bold has the same characters as the regular."""

BOX = "\u25a1"
JOINER = "\u200c"  # the one invisible character that changes a word's look, in Persian
LAST_PLAIN = "\u058f"  # Hebrew begins after Armenian
VARIATIONS = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))


def readable(text: str) -> str:
    """One line of what can be drawn: composed, blanks as one space, nothing invisible, a box for what has no glyph."""
    return "".join(map(_drawable, " ".join(unicodedata.normalize("NFC", text).split())))


def _drawable(char: str) -> str:
    # Cf are the invisible, those that turn the direction of text among them; so are variation selectors.
    category = unicodedata.category(char)
    if (category == "Cf" and char != JOINER) or char in VARIATIONS:
        return ""
    return char if category != "Cc" and _typeface(char) else BOX


def needed(texts: Iterable[str]) -> Mapping[Path, set[int]]:
    """The typefaces of readable texts, each with the characters it draws."""
    faces: defaultdict[Path, set[int]] = defaultdict(set)
    for char in set().union(*texts):
        if face := _typeface(char):
            faces[face].add(ord(char))
    return {face: faces[face] for face in CHAIN if face in faces}


def _typeface(char: str) -> Path | None:
    return next((face for face in CHAIN if ord(char) in _characters(face)), None)


@cache  # a character outside the first ones has them all read, once: 60 ms
def _characters(face: Path) -> frozenset[int]:
    with TTFont(face, lazy=True) as font:
        return frozenset(font.getBestCmap())


def joins(text: str) -> bool:
    """Whether a text has to be shaped: joined, stacked or right to left. Latin, Greek and Cyrillic need it not."""
    return any(char > LAST_PLAIN or unicodedata.combining(char) for char in text)
