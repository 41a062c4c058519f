"""A route leads to its handler, and no code is made at the start that would lead back."""

from __future__ import annotations

import pytest
from quart import Quart

from veza.http.app import create_app
from veza.sandbox.connection import SandboxApp


def assert_leads_nowhere_back(app: Quart) -> None:
    rules = list(app.url_map.iter_rules())
    assert rules
    for rule in rules:
        with pytest.raises(LookupError):
            rule.build({})


def test_no_address_is_built_from_a_route() -> None:
    assert_leads_nowhere_back(create_app())


def test_nor_from_one_of_a_stand_in() -> None:
    app = SandboxApp("stand-in")
    app.add_url_rule("/v1/accounts/<subject>", view_func=lambda subject: subject)
    assert_leads_nowhere_back(app)
