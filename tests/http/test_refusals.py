"""The list of codes: it has those that the code raises, each with its status, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from werkzeug import exceptions

import veza
from veza.domain.erasure import Obstacle
from veza.domain.errors import Refusal
from veza.domain.payments import OrderStatus
from veza.http.errors import FAILURES, INTERNAL, STATUS, describe
from veza.http.refusals import MEANINGS, STATUS_OF, refused_by, refuses

ROOMS: Final = ("actors", "domain", "gateways", "http", "store", "supervisors")
PUT_TOGETHER: Final = frozenset(
    (409, code) for code in ("username_taken", "email_taken", OrderStatus.REFUNDED, OrderStatus.DISPUTED, *Obstacle)
)
"""Codes that are written out nowhere."""


def kinds(of: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def status_of(kind: type[Refusal]) -> int:
    return next(STATUS[each] for each in kind.__mro__ if each in STATUS)


REFUSALS: Final = {kind.__name__: kind for kind in kinds() if kind.__module__.startswith("veza.")}
FRAMEWORK: Final = {
    kind.__name__: kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, exceptions.HTTPException) and kind.code
}
del FRAMEWORK["Unauthorized"]  # the payout provider's answer has that name; ours is Unauthenticated


def said_by(call: ast.Call) -> Iterator[tuple[int, str]]:
    """The status and the code of a call, if it makes a refusal whose code is written out."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    if name in REFUSALS and not given:
        yield status_of(REFUSALS[name]), REFUSALS[name].code
    elif name in REFUSALS:
        yield from ((status_of(REFUSALS[name]), str(code.value)) for code in given if isinstance(code, ast.Constant))
    elif name in FRAMEWORK:
        told = describe(FRAMEWORK[name]())
        yield told.status, told.code


def said() -> set[tuple[int, str]]:
    found = (path for room in ROOMS for path in (Path(veza.__file__).parent / room).rglob("*.py"))
    paths = [path for path in found if path.parent.name != "console"]  # whose refusals are pages
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    pairs = {pair for node in nodes if isinstance(node, ast.Call) for pair in said_by(node)}
    return pairs | {(each.status, each.code) for each in (*FAILURES.values(), INTERNAL)}


def test_every_code_that_is_said_is_in_the_list_with_its_status_and_no_other() -> None:
    listed = {(status, code) for code, status in STATUS_OF.items()}
    assert said() | PUT_TOGETHER == listed


def test_a_code_has_one_status() -> None:
    assert sum(map(len, MEANINGS.values())) == len(STATUS_OF)


def test_a_route_may_say_no_by_listed_codes_alone() -> None:
    with pytest.raises(KeyError, match="no_such_code"):
        refuses("not_found", "no_such_code")


def test_what_a_route_says_adds_up() -> None:
    @refuses("not_found")
    @refuses("forbidden", "sold")
    def view() -> None: ...

    assert refused_by(view) == {"not_found", "forbidden", "sold"}
    assert refused_by(said) == frozenset()
