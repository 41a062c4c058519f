"""What every benchmark yields, and how two things are compared fairly on a noisy machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Measure:
    """One line of the table. `met` is None where there is no aim. `aa_spread` is how far a thing strays from itself
    in a round, in the median (0.03 = 3 %): a difference smaller than that says nothing."""

    name: str
    value: float
    unit: str
    aim: str
    met: bool | None
    aa_spread: float | None
    detail: str


@dataclass(frozen=True)
class Comparison:
    """`ratio` is the median of a/b over the rounds; `a` and `b` are the medians of each."""

    ratio: float
    a: float
    b: float
    aa_spread: float
    rounds: int


def interleaved(a: Callable[[], float], b: Callable[[], float], rounds: int) -> Comparison:
    """Run a, b and a again in every round, turning the order, so that a slow minute strikes all alike.

    The second a is the control: `aa_spread` is the median distance from 1 of a's ratio to itself.
    """
    kept: list[tuple[float, float, float]] = []
    for each in range(rounds + 1):
        runs = [("a", a), ("b", b), ("control", a)]
        runs = runs[each % 3 :] + runs[: each % 3]
        found = {name: run() for name, run in runs}
        if each:  # the first round warms up
            kept.append((found["a"], found["b"], found["control"]))
    return Comparison(
        ratio=median((first + control) / 2 / other for first, other, control in kept),
        a=median((first + control) / 2 for first, _, control in kept),
        b=median(other for _, other, _ in kept),
        aa_spread=median(abs(first / control - 1) for first, _, control in kept),
        rounds=rounds,
    )


def table(measures: Sequence[Measure]) -> str:
    """The measures as aligned text."""
    rows = [("benchmark", "value", "aim", "", "A/A", "detail")]
    for each in measures:
        verdict = {True: "met", False: "MISSED", None: ""}[each.met]
        spread = "" if each.aa_spread is None else f"±{each.aa_spread:.1%}"
        rows.append((each.name, f"{each.value:,.2f} {each.unit}", each.aim, verdict, spread, each.detail))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[5]]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
