"""What people call things: a line that can be seen and does not garble the text around it."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import Final

from veza.domain.errors import Invalid

BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn the direction of the text around them (Unicode Standard Annex 9), the seller's name for one."""

CONTROLS: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""With halves of characters, and what breaks a line without being a control."""

MARKS: Final = 30
"""On one character, as many as there ever are (Unicode Standard Annex 15, section 13: Stream-Safe Text Format)."""


def few_marks(text: str) -> str:
    """The text without what goes beyond ``MARKS`` in a row: to put marks in order takes the square of how many there
    are, in which the interpreter does nothing else."""
    if len(text) <= MARKS:
        return text
    kept, row = list[str](), 0
    for character in text:
        row = row + 1 if unicodedata.combining(character) else 0
        if row <= MARKS:
            kept.append(character)
    return "".join(kept)


def check_line(text: str, noun: str) -> str:
    """The text. Raises Invalid, with ``noun`` for its field, if nobody could see it or it would garble what is near."""
    kinds = {unicodedata.category(character) for character in text}
    if not kinds.isdisjoint(CONTROLS) or not BIDI_CONTROLS.isdisjoint(text):
        raise Invalid(f"A {noun} has no control characters.", field=noun)
    if not can_be_seen(kinds):
        raise Invalid(f"A {noun} has at least one character that can be seen.", field=noun)
    return text


def can_be_seen(kinds: Collection[str]) -> bool:
    """Whether among characters of these general categories is one that leaves a mark."""
    return any(kind[0] in "LNPS" for kind in kinds)
