"""What is said of a feature that is switched off."""

from __future__ import annotations

import pytest

from veza.domain.flags import Flag, feature_disabled


@pytest.mark.parametrize("flag", Flag)
def test_each_feature_has_its_own_sentence_and_all_have_one_code(flag: Flag) -> None:
    said = feature_disabled(flag)
    assert said.code == "feature_disabled"
    assert str(said).endswith(" is switched off at the moment.")
    assert [each for each in Flag if str(feature_disabled(each)) == str(said)] == [flag]
