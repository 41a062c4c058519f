"""What `make audit` says of what it could and could not learn."""

from __future__ import annotations

from tests.known_faults import judge

FINE = {"name": "trio", "version": "0.30", "vulns": []}
FAULTY = {"name": "jinja2", "version": "2.0", "vulns": [{"id": "CVE-2016-10745"}]}
UNKNOWN = {"name": "veza", "skip_reason": "not on PyPI"}


def test_a_known_fault_fails_and_is_named() -> None:
    well, told = judge("a.lock", [FINE, FAULTY, UNKNOWN])
    assert not well
    assert "jinja2 2.0: CVE-2016-10745" in told


def test_where_nobody_could_be_asked_it_neither_fails_nor_pretends() -> None:
    for nothing in ([], [UNKNOWN]):
        well, told = judge("a.lock", nothing)
        assert well
        assert "NOT LOOKED AT" in told
        assert "without a known fault" not in told


def test_what_was_looked_at_and_what_was_not_are_both_told() -> None:
    assert judge("a.lock", [FINE]) == (True, "a.lock: 1 packages without a known fault")
    assert "NOT LOOKED AT: 1" in judge("a.lock", [FINE, UNKNOWN])[1]
