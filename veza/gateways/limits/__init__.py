"""Where it is kept how often somebody asked: in this process, or in Redis for all processes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from veza.domain.limits import Claim, Verdict


class Meter(Protocol):
    """Counts claims. Neither call fails: what can't be counted in one place is counted in another."""

    @property
    def away(self) -> bool:
        """Whether it counts for this process alone, though it is there for all of them."""
        ...

    async def take(self, claims: Sequence[Claim]) -> Sequence[Verdict]:
        """Allow all of the claims and count them, or refuse some and count none; a verdict on each, in their order."""
        ...

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Let claims that were allowed not count after all."""
        ...
