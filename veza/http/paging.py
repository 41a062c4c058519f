"""``limit`` and ``offset``, the same for every list: what is out of range is 400, not silently mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import Field

from veza.http.envelope import Query
from veza.http.fields import WholeNumber

T = TypeVar("T")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_OFFSET = 2**31 - 1  # far past any list, and a number PostgreSQL takes


class Paging(Query):
    """A list's page. Lists with filters of their own subclass it."""

    limit: WholeNumber = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    offset: WholeNumber = Field(0, ge=0, le=MAX_OFFSET)

    def of(self, everything: Sequence[T]) -> Sequence[T]:
        """The page of a list that is short, and read whole."""
        return everything[self.offset : self.offset + self.limit]
