"""What files are called in an archive: so that every system can unpack it, and nobody is led elsewhere by a name."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from uuid import UUID

from veza.domain.names import BIDI_CONTROLS, CONTROLS

NAME_BYTES: Final = 180  # of the 255 that file systems take: room for a number, and for systems that count otherwise
FOLDER_BYTES: Final = 80
ENDING_BYTES: Final = 20  # what is longer is no file type
FORBIDDEN: Final = frozenset('<>:"/\\|?*')  # on Windows, or anywhere
RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Devices on Windows, whatever follows the first dot (Naming Files, Paths, and Namespaces)."""
UNNAMED: Final = "unnamed"


def safe_name(name: str, most: int = NAME_BYTES) -> str:
    """The name as one part of a path, as near to itself as may be, in at most ``most`` bytes of UTF-8.

    Its ending stays, so that a program still knows what it is.
    """
    name = "".join(map(_safe, unicodedata.normalize("NFC", name))).strip(" ").rstrip(". ")
    if name.startswith("."):
        name = f"_{name[1:]}"  # hidden where it is unpacked, or meant for a server there
    if RESERVED.fullmatch(name):
        name = f"_{name}"
    stem, ending = split_name(name)
    stem = _cut(stem, most - len(ending.encode())).rstrip(". ") if len(name.encode()) > most else stem
    return f"{stem}{ending}" or UNNAMED


def split_name(name: str) -> tuple[str, str]:
    """The name before its ending, and the ending with its dot, empty if it has none."""
    stem, dot, ending = name.rpartition(".")
    if not stem or not dot or len(ending.encode()) > ENDING_BYTES or " " in ending:
        return name, ""
    return stem, f".{ending}"


def versioned(name: str, version: int) -> str:
    """What a snapshot of a file of that name is called."""
    stem, ending = split_name(name)
    return f"{stem} (version {version}){ending}"


def folder(name: str, of: UUID) -> str:
    """A folder for what belongs to one thing, told from another of the same name by the end of its id."""
    return f"{safe_name(name, FOLDER_BYTES)} ({of.hex[-8:]})"


class Names:
    """Paths that no other in an archive has, on a system that knows no case or writes accents apart either.

    What is remembered of each is a number of 64 bits. Two paths that have the same one by chance cost a number that was
    not needed.
    """

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}

    def unique(self, path: str) -> str:
        """The path, numbered if there is one like it."""
        base, slash, name = path.rpartition("/")
        stem, ending = split_name(name)
        key, wanted = _folded(path), path
        while (number := self._taken.get(key)) is not None:
            self._taken[key] = number + 1
            wanted = f"{base}{slash}{stem} ({number}){ending}"
            if (other := _folded(wanted)) not in self._taken:
                key = other
        self._taken[key] = 2
        return wanted


def _folded(path: str) -> int:
    return hash(unicodedata.normalize("NFD", unicodedata.normalize("NFKC", path).casefold()))


def _safe(character: str) -> str:
    unfit = character in FORBIDDEN or character in BIDI_CONTROLS or unicodedata.category(character) in CONTROLS
    return "_" if unfit else character


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")
