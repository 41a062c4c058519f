"""docs/runtime-semantics.md says what is so: the tests it names are there, and its example works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.named import ROOT, existing_tests, named_tests

DOCUMENT = ROOT.joinpath("docs", "runtime-semantics.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)

USE = """
import trio
from datetime import UTC, datetime
from random import Random
from typing import assert_type
from veza.supervisors import one_for_one, permanent, running

async def main() -> None:
    door = permanent("door", lambda: Door(places=2))
    tree = one_for_one("club", door)
    with trio.fail_after(10):
        async with running(tree, clock=lambda: datetime.now(UTC), random=Random(1)):
            assert_type(await admit(door.ref, "Ada"), GuestList | Full)
            assert await admit(door.ref, "Bix") == GuestList(frozenset({"Ada", "Bix"}))
            assert await admit(door.ref, "Cab") == Full()
            assert door.ref.snapshot == GuestList(frozenset({"Ada", "Bix"}))
    print("served")

trio.run(main)
"""


def test_every_test_the_document_names_exists() -> None:
    named = named_tests(DOCUMENT)
    assert len(named) > 60
    assert sorted(named - existing_tests()) == []


@pytest.mark.parametrize("guarantee", range(1, 11))
def test_each_guarantee_says_its_limits_and_what_shows_it(guarantee: int) -> None:
    (section,) = re.findall(rf"^### {guarantee}\. (.*?)(?=^##)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert re.search(r"^Limits?: ", section, re.MULTILINE)
    assert re.search(r"^Shown by `test_", section, re.MULTILINE)


def test_the_documents_example_is_typed_and_runs(tmp_path: Path) -> None:
    program = tmp_path / "door.py"
    program.write_text(EXAMPLE + USE)
    environment = {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", program.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Success" in checked.stdout, checked.stdout
    ran = subprocess.run(
        [sys.executable, program.name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout.endswith("served\n"), ran.stderr
