"""Who did a thing, for the audit of money and admin actions."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class By:
    """``user_id`` is null for the command line and the system itself."""

    user_id: UUID | None
    request_id: str | None = None
    address: str | None = None
