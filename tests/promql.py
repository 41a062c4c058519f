"""What a PromQL expression asks for, and which labels its result has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as ql

SCRAPED = frozenset({"job", "instance"})  # the labels that Prometheus adds to everything it scrapes
ALWAYS_SEEN = frozenset({"actor", "check", "kind", "outcome", "quantile"})  # others have values that come and go
KEEPS_LABELS = frozenset({"topk", "bottomk"})

Known = Mapping[str, Mapping[str, frozenset[str]]]
"""Of each metric there is, the values of each of its labels."""


def faults(text: str, known: Known) -> Iterator[str]:
    """What the expression asks for that is not there, or why it can't be read."""
    try:
        expr = ql.parse(text)
    except ValueError as unreadable:
        yield f"{text}: {unreadable}"
        return
    for selector in selectors(expr):
        metric = selector.name or ""
        if metric not in known:
            yield f"{text}: there is no metric {metric}"
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name in SCRAPED:
                continue
            values = known[metric].get(matcher.name)
            if values is None:
                yield f"{text}: {metric} has no label {matcher.name}"
            elif matcher.op == ql.MatchOp.Equal and matcher.name in ALWAYS_SEEN and matcher.value not in values:
                yield f"{text}: {metric} is never of the {matcher.name} {matcher.value}"
    for wanted in groupings(expr):
        if not wanted <= frozenset().union(*(known.get(each.name or "", {}) for each in selectors(expr))) | SCRAPED:
            yield f"{text}: nothing in it has all of {sorted(wanted)}"


def selectors(expr: ql.Expr) -> list[ql.VectorSelector]:
    """Each place where it names a metric."""
    return [each for each in _nodes(expr) if isinstance(each, ql.VectorSelector)]


def groupings(expr: ql.Expr) -> Iterator[frozenset[str]]:
    """The labels that it groups or matches by."""
    for each in _nodes(expr):
        if isinstance(each, ql.AggregateExpr) and each.modifier is not None:
            yield frozenset(each.modifier.labels)
        elif isinstance(each, ql.BinaryExpr) and each.modifier is not None and each.modifier.matching is not None:
            yield frozenset(each.modifier.matching.labels)


def labels(expr: Any, known: Known) -> frozenset[str]:
    """Those that its result may have."""
    match expr:
        case ql.VectorSelector():
            return frozenset(known[expr.name or ""]) | SCRAPED
        case ql.MatrixSelector():
            return labels(expr.vector_selector, known)
        case ql.ParenExpr() | ql.UnaryExpr() | ql.SubqueryExpr():
            return labels(expr.expr, known)
        case ql.Call():
            of = frozenset().union(*(labels(each, known) for each in expr.args))
            return of - {"le"} if expr.func.name == "histogram_quantile" else of
        case ql.AggregateExpr():
            return _aggregated(expr, known)
        case ql.BinaryExpr():
            left, right = labels(expr.lhs, known), labels(expr.rhs, known)
            return left & right if left and right else left | right
        case _:
            return frozenset()


def _aggregated(expr: ql.AggregateExpr, known: Known) -> frozenset[str]:
    under = labels(expr.expr, known)
    if str(expr.op) in KEEPS_LABELS:
        return under
    if expr.modifier is None:
        return frozenset()
    given = frozenset(expr.modifier.labels)
    return under - given if expr.modifier.type == ql.AggModifierType.Without else under & given


def _nodes(expr: ql.Expr) -> list[ql.Expr]:
    found: list[ql.Expr] = []
    ql.walk(expr, pre_visit=found.append)
    return found
