"""The tests that a document names, and those there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named_tests(document: str) -> set[str]:
    return set(re.findall(r"\btest_\w+", document))


def existing_tests() -> set[str]:
    return {
        name
        for path in ROOT.joinpath("tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
