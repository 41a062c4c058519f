"""The crash matrix, tried on the sample actors (and on one that does not recover)."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.actors.crash_matrix import WHERE, assert_recovers
from tests.actors.samples import Add, Counter, Messages, Ring
from veza.actors.core import ActorCrashed


@pytest.mark.parametrize("message", [Add(1), Ring()])
@pytest.mark.parametrize("where", WHERE)
async def test_an_actor_recovers_from_a_crash(where: str, message: Messages, autojump_clock: MockClock) -> None:
    await assert_recovers(where, Counter, message)


async def test_the_matrix_reports_an_actor_that_does_not_recover(autojump_clock: MockClock) -> None:
    spoiled = list[str]()

    class Spoiled(Counter):
        async def handle(self, message: Messages) -> object:
            if spoiled:
                raise ValueError
            spoiled.append("once")
            return await super().handle(message)

    message: Messages = Add(1)
    with pytest.raises(ExceptionGroup) as failed:
        await assert_recovers("after handling", Spoiled, message)
    assert failed.group_contains(ActorCrashed)
