"""`python -m bench [name ...]`: run the benchmarks (all by default), print a table, write bench/results/<name>.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from bench.measure import Measure, table

# Each has `run() -> list[Measure]`.
MODULES = (
    "actors",
    "bridge",
    "http",
    "listing",
    "scale",
    "payouts",
    "live",
    "tags",
    "files",
    "exports",
    "audit",
    "limits",
    "console",
    "introspection",
)
RESULTS = Path(__file__).with_name("results")  # not in the repository: a figure is of the machine it was taken on


def main(names: Sequence[str]) -> None:
    measures: list[Measure] = []
    for name in names or MODULES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        run: Callable[[], list[Measure]] = import_module(f"bench.{name}").run
        found = run()
        write(name, found)
        measures += found
    print(table(measures))


def write(name: str, measures: Sequence[Measure]) -> None:
    """A file a module, so that running one alone keeps what is known of the others."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps([asdict(measure) for measure in measures], indent=2)
    RESULTS.joinpath(f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
