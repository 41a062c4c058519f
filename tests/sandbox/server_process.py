"""The stand-ins in a process of their own, to be killed: ``python -m tests.sandbox.server_process DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from tests.sandbox.running import running_sandbox


async def main(state_dir: Path) -> None:
    async with running_sandbox(state_dir) as running:
        sys.stdout.write(f"{running.stripe_url}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
