"""What mypy knows of a Ref: the reply's type, and which messages it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = """
from dataclasses import dataclass
from typing import assert_type
from veza.actors.core import Actor, Ask, Mailbox, Ref, Refuse, Tell
from veza.supervisors import Child, permanent

@dataclass(frozen=True, slots=True)
class Switch(Ask[bool]):
    on: bool

@dataclass(frozen=True, slots=True)
class Ring(Tell):
    pass

@dataclass(frozen=True, slots=True)
class Stranger(Ask[str]):
    pass

class Light(Actor[Switch | Ring, int]):
    mailbox = Mailbox(1, full=Refuse, why="a test")

    async def handle(self, message: Switch | Ring) -> bool | None:
        return None

async def use(ref: Ref[Switch | Ring]) -> None:
    {statement}

light = permanent("light", Light)
assert_type(light, Child[Switch | Ring, int])
assert_type(light.ref, Ref[Switch | Ring, int])
assert_type(light.ref.snapshot, int | None)
narrower: Ref[Switch] = light.ref
"""


def mypy(statement: str, where: Path) -> str:
    """What mypy (strict) reports of one statement that uses a Ref[Switch | Ring]."""
    where.joinpath("sample.py").write_text(SOURCE.replace("{statement}", statement))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", "sample.py"],
        cwd=where,
        env={"MYPYPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    return checked.stdout + checked.stderr


def test_the_type_of_a_reply_stands_in_the_message(tmp_path: Path) -> None:
    assert "Success" in mypy("assert_type(await ref.ask(Switch(True)), bool)", tmp_path)


def test_a_message_the_actor_does_not_take_is_reported(tmp_path: Path) -> None:
    report = mypy("await ref.ask(Stranger())", tmp_path)
    assert "sample.py:26: error" in report
    assert "Stranger" in report


def test_a_tell_can_not_be_asked_nor_a_stranger_told(tmp_path: Path) -> None:
    assert "sample.py:26: error" in mypy("await ref.ask(Ring())", tmp_path)
    assert "sample.py:26: error" in mypy("ref.tell(Stranger())", tmp_path)
