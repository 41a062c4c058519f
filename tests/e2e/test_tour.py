"""The README's own commands, against the demo as `make run` starts it."""

from __future__ import annotations

import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.house import free_port
from tests.processes import answering, clean_environment, demo, program

README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.slow


SAID = [
    "published",
    "1",
    "the very bytes",
    "%PDF-",
    "not_onboarded",
    "2699",
    "2699",
    "Refund initiated",
    "pending",
    "refunded",
    "%PDF-",
    "1",
    "running",
    "True",
    "2",
    "3",
    "the same, by its link",
    "2",  # the file, and the take that restoring kept
    "signal",
    "True",
    "True",
    "401",
    "1",
    "resolved",
    "1",
    "Spam",
    "banned",
    "False",
    "6",
    "False",
    "True",
    "Back at one.",
    "503",
    "False",
    "active",
    "Moving",
    "announcement.create",
    "feature_flags/cloud.uploads",
    "running",
    "paused",
    "running",
]


def tour() -> str:
    """Every command of the README's tour, its keeping things and its going live: one script, ending where one fails."""
    text = README.read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    [live] = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    return "set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n" + "".join([*blocks, live])


async def test_the_readmes_tour_sells_a_track_takes_it_all_back_keeps_things_and_goes_live(tmp_path: Path) -> None:
    port, hyperswitch = free_port(), free_port()
    base = f"http://127.0.0.1:{port}"
    environment = clean_environment() | {"VEZA_DATA_DIR": str(tmp_path / "var"), "PORT": str(port)}
    shell = environment | {"API": f"{base}/api/v1", "PAY": f"http://127.0.0.1:{hyperswitch}"}
    with trio.fail_after(180):
        async with program(*demo(hyperswitch=hyperswitch), environment=environment, cwd=tmp_path) as started:
            await answering(f"{base}/healthz", started)
            await started.line("A whole sale")  # said once its accounts are made
            run = partial(trio.run_process, ["bash", "-c", tour()], env=shell, capture_stdout=True, check=False)
            done: subprocess.CompletedProcess[bytes] = await run(stderr=subprocess.STDOUT)
            said = done.stdout.decode().split("\n")
            assert done.returncode == 0, "\n".join([*said, *started.lines[-30:]])
            started.terminate()
            assert await started.process.wait() == 0
    assert said[: len(SAID)] == SAID
    assert said[len(SAID)] == "#EXTM3U"  # the playlist of what is on air
