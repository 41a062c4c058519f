"""`make audit`: whether anything that is installed has a fault that is known, as `pip-audit` learns from PyPI.

That takes a service on the internet. Where it can't be asked this says so, in words that are no approval, and is no
failure: nothing is known then. What is found is one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECONDS = 120  # for some two hundred questions
LOCKS = ("requirements-dev.lock",)  # what runs in production is in it as well


def judge(lock: str, dependencies: Sequence[dict[str, Any]]) -> tuple[bool, str]:
    """Whether all is well as far as is known, and the sentence that says how far that is."""
    asked = [each for each in dependencies if "skip_reason" not in each]
    faulty = [each for each in asked if each["vulns"]]
    if faulty:
        told = (
            f"{each['name']} {each['version']}: {', '.join(fault['id'] for fault in each['vulns'])}" for each in faulty
        )
        return False, f"{lock}: KNOWN FAULTS\n  " + "\n  ".join(told)
    if not asked:
        return True, f"{lock}: NOT LOOKED AT: no service that knows of faults can be asked from here"
    missed = len(dependencies) - len(asked)
    rest = f"; NOT LOOKED AT: {missed} that it does not know" if missed else ""
    return True, f"{lock}: {len(asked)} packages without a known fault{rest}"


def look(lock: str) -> tuple[bool, str]:
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--require-hashes", "--disable-pip"]
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=SECONDS, check=False)
        dependencies = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return judge(lock, [])
    return judge(lock, dependencies)


def main() -> int:
    found = [look(lock) for lock in LOCKS if Path(lock).exists()]
    for _, sentence in found:
        sys.stdout.write(f"{sentence}\n")
    return 0 if all(well for well, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
