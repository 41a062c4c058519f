"""Claims counted in this process. Whatever comes, it takes no more memory than so many claimants of each limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import trio

from veza.domain.limits import Claim, Verdict, fits, given_back, judge, taken

CLAIMANTS: Final = 10_000
"""Of each limit. Some 2 MB a limit, and more than ask one process within a window, unless they do it to have somebody
forgotten. So who has used least is forgotten first: a flood of new ones frees itself, and nobody who has used much."""

FORGOTTEN: Final = 4
"""Of so many one is forgotten when there are too many: some 3 ms, once in thousands of new ones."""


class InMemory:
    """A Meter. ``clock`` gives seconds that only go up."""

    def __init__(self, *, clock: Callable[[], float] = trio.current_time, claimants: int = CLAIMANTS) -> None:
        self._clock = clock
        self._claimants = claimants
        self._kept: defaultdict[str, dict[str, float]] = defaultdict(dict)

    @property
    def away(self) -> bool:
        return False

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    async def take(self, claims: Sequence[Claim]) -> Sequence[Verdict]:
        return self.take_now(claims)

    def take_now(self, claims: Sequence[Claim]) -> Sequence[Verdict]:
        """``take``, without a wait."""
        now = self._clock()
        tats = [self._tat(claim, now) for claim in claims]
        admitted = all(fits(claim.limit, tat, now) for claim, tat in zip(claims, tats, strict=True))
        if admitted:
            tats = [taken(claim.limit, tat, now) for claim, tat in zip(claims, tats, strict=True)]
            for claim, tat in zip(claims, tats, strict=True):
                self._keep(claim, tat)
        return judge(claims, tats, now, admitted=admitted)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        now = self._clock()
        for claim in claims:
            kept = self._kept[claim.limit.name]
            if claim.by in kept:
                tat = given_back(claim.limit, kept[claim.by])
                if tat > now:
                    kept[claim.by] = tat
                else:
                    del kept[claim.by]

    def _tat(self, claim: Claim, now: float) -> float:
        return self._kept[claim.limit.name].get(claim.by, now)

    def _keep(self, claim: Claim, tat: float) -> None:
        kept = self._kept[claim.limit.name]
        kept[claim.by] = tat
        if len(kept) > self._claimants:
            for by in sorted(kept, key=kept.__getitem__)[: max(len(kept) // FORGOTTEN, 1)]:
                del kept[by]
