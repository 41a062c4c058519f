"""Flags as rows: a feature is on unless its own row says that it is not."""

from __future__ import annotations

import pytest

from veza.domain.errors import Forbidden
from veza.domain.flags import Flag
from veza.store.bridge import Database
from veza.store.flags import Flags


async def test_a_feature_is_on_until_its_own_row_says_otherwise(db: Database) -> None:
    flags = Flags(db)
    assert [await flags.enabled(flag) for flag in Flag] == [True] * len(Flag)
    for flag in Flag:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO feature_flags (name, enabled) VALUES ($1, false)", flag)
        assert [each for each in Flag if not await flags.enabled(each)] == [flag]
        with pytest.raises(Forbidden) as refused:
            await flags.check(flag)
        assert refused.value.code == "feature_disabled"
        async with db.transaction() as tx:
            await tx.execute("UPDATE feature_flags SET enabled = true")
        assert await flags.enabled(flag)
        await flags.check(flag)
