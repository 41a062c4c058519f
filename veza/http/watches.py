"""How many pages of the console are watched: each has the database asked every two seconds while it is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from veza.domain.errors import TooMany

OF_ONE_ADMIN: Final = 16
"""A wall of screens. Pages in the back of a browser are not watched; a connection that broke unseen counts for less
than a minute (``listener.STALL_SECONDS``)."""

AGAIN_SECONDS: Final = 5


class Watches:
    """Those that are open in this process, by whose they are."""

    def __init__(self) -> None:
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def of(self, user_id: UUID) -> Iterator[None]:
        """One more, as long as the block lasts. Raises TooMany."""
        if self._open[user_id] >= OF_ONE_ADMIN:
            raise TooMany("Too many pages of yours are watched.", retry_after=AGAIN_SECONDS)
        self._open[user_id] += 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]
