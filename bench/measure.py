"""What every benchmark yields, and how two things are compared fairly on a noisy machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

DRAWS = 2_000  # of a bootstrap: its ends waver by less than the rounds do


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
    """`ratio` is the median of a/b over the rounds, which in 95 of 100 cases is no lower than `at_least`; `a` and `b`
    are the medians of each."""

    ratio: float
    at_least: float
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
    ratios = [(first + control) / 2 / other for first, other, control in kept]
    return Comparison(
        ratio=median(ratios),
        at_least=lower_bound(ratios),
        a=median((first + control) / 2 for first, _, control in kept),
        b=median(other for _, other, _ in kept),
        aa_spread=median(abs(first / control - 1) for first, _, control in kept),
        rounds=rounds,
    )


def lower_bound(values: Sequence[float]) -> float:
    """What the median of more such values would be no lower than in 95 of 100 cases, by a bootstrap."""
    random = Random(1)
    medians = sorted(median(random.choices(values, k=len(values))) for _ in range(DRAWS))
    return medians[DRAWS // 20]


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
