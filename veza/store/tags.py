"""Tags in use, found by how they begin. Triggers count them (migration 0018): whatever writes a row, none is missed."""

from __future__ import annotations

from typing import Final

from veza.store.bridge import Database

SHORT: Final = 3  # letters for whose every beginning an index has the most used first

GATHERED: Final = 300  # tags sorted at most, some 0.2 ms; what more begin with is common

KEY: Final = "(SELECT tag_key($1))"  # a query of its own, so that the server folds it once and not for each row
ORDER: Final = "ORDER BY uses DESC, key, tag LIMIT $2"

# Walking goes along an index of beginnings, the most used first, until there are enough.
WALK: Final = {
    letters: f"""
SELECT tag FROM tags WHERE left(key, {letters}) = left({KEY}, {letters}) AND starts_with(key, {KEY}) {ORDER}
"""
    for letters in range(1, SHORT + 1)
}

# Gathering takes all that begin so and sorts them, unless they are too many.
GATHER: Final = f"""
SELECT tag, count(*) OVER () AS found
FROM (
    SELECT tag, key, uses FROM tags
    WHERE {KEY} <> '' AND key >= {KEY} AND key < {KEY} || U&'\\+10FFFF' LIMIT {GATHERED} + 1
) AS hits
{ORDER}
"""


class Tags:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def suggest(self, beginning: str, *, limit: int) -> list[str]:
        """The tags in use that begin so, accents aside: the most used first, then by the alphabet.

        ``beginning`` is folded as a tag is (`veza.domain.catalog.fold_tag`), and not empty.
        """
        letters = _letters(beginning)
        if letters < len(beginning):
            rows = await self._db.fetch(GATHER, beginning, limit)
            if not rows or rows[0]["found"] <= GATHERED:
                return [row["tag"] for row in rows]
        return [row["tag"] for row in await self._db.fetch(WALK[letters], beginning, limit)]


def _letters(beginning: str) -> int:
    """How many letters of it an index can be asked for: not more than its key surely has.

    The server folds accents, so only it knows how long the key is; but of ASCII nothing is folded away.
    """
    return min(max(sum(map(str.isascii, beginning)), 1), SHORT)
