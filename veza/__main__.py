"""The ``veza`` command: loads what there is to run, and runs it."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """The exit status of the command that the process was started with."""
    # What is loaded stays to the end. Looking for garbage in it while it comes, now and then, and once more when all is
    # over takes a third of a short command, and holds up whoever is served by a long one.
    gc.disable()
    from veza.commands import main as run

    gc.freeze()
    gc.enable()
    return run()


if __name__ == "__main__":
    sys.exit(main())
