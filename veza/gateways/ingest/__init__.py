"""The ingest servers: where encoders publish, what is seen of them there, and how one is put off."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from veza.domain.ingest import StatPage


class IngestAway(Exception):  # noqa: N818 - said as it is, like the other refusals
    """The ingest server does not answer, or with nothing that can be read. Says what; never a key or a URL."""


class Ingest(Protocol):
    """One ingest server. Each call ends within the timeout that the adapter was opened with."""

    @property
    def name(self) -> str:
        """What kind of server it is, as publishers' records know it."""
        ...

    async def sample(self) -> StatPage:
        """Every stream that an encoder is publishing now. Raises IngestAway; a page is whole or it is none."""
        ...

    async def kick(self, stream_id: UUID) -> int:
        """Drop a stream's publisher: how many were dropped, 0 or 1. Raises IngestAway: it may or may not be gone."""
        ...

    async def has_playlist(self, stream_id: UUID) -> bool:
        """Whether a stream's HLS playlist is there to be played. False, too, while that can't be told."""
        ...
