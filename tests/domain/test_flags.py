"""What the feature flags are, and what is said of a feature that is switched off."""

from __future__ import annotations

import pytest

from veza.domain.errors import Forbidden, NotFound
from veza.domain.flags import ALL_ON, DESCRIPTIONS, UNKNOWN, Flag, Flags, Switch, feature_disabled, flag_named


@pytest.mark.parametrize("flag", Flag)
def test_each_feature_has_its_own_sentence_and_all_have_one_code(flag: Flag) -> None:
    said = feature_disabled(flag)
    assert said.code == "feature_disabled"
    assert str(said).endswith(" is switched off at the moment.")
    assert [each for each in Flag if str(feature_disabled(each)) == str(said)] == [flag]


def test_operators_are_told_of_each_what_stops() -> None:
    assert list(DESCRIPTIONS) == list(Flag)
    assert all(said.startswith("Off: ") and said.endswith(".") for said in DESCRIPTIONS.values())


def test_what_nobody_has_thrown_is_on_and_all_are_listed_in_their_order() -> None:
    flags = Flags.of([Switch(Flag.EXPORTS, enabled=False), Switch(Flag.UPLOADS, enabled=True)])
    assert [switch.flag for switch in flags] == list(Flag)
    assert [switch.flag for switch in flags if not switch.enabled] == [Flag.EXPORTS]
    assert [flag for flag in Flag if not flags.is_on(flag)] == [Flag.EXPORTS]
    assert list(ALL_ON) == [Switch(flag) for flag in Flag]


def test_who_asks_for_what_is_off_is_refused_and_for_what_is_on_is_not() -> None:
    flags = Flags.of([Switch(Flag.EXPORTS, enabled=False)])
    flags.check(Flag.UPLOADS)
    with pytest.raises(Forbidden):
        flags.check(Flag.EXPORTS)


def test_before_the_rows_were_read_nothing_is_taken_to_be_allowed() -> None:
    assert not any(UNKNOWN.is_on(flag) for flag in Flag)


@pytest.mark.parametrize("name", ["", "auth", "AUTH.REGISTRATION", "auth.registration ", "REGISTRATION"])
def test_a_name_that_is_no_flags_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        flag_named(name)


@pytest.mark.parametrize("flag", Flag)
def test_a_flag_is_found_by_its_name(flag: Flag) -> None:
    assert flag_named(str(flag)) is flag
