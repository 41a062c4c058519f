"""Who was an admin a moment ago: for what an operator must see while the database can't say so again."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from veza.domain.accounts import Role, User

REMEMBERED: Final = timedelta(minutes=15)
"""Looking into an outage takes longer than a minute. What is read on is how the process does; a demotion that could not
be read matters no longer than this."""

MOST: Final = 64  # sessions of admins; an operator's pages ask every few seconds


class LatelyAdmins:
    """The sessions that the database last said were an admin's, the latest last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[UUID, tuple[User, datetime]] = OrderedDict()

    def note(self, session_id: UUID, user: User | None, now: datetime) -> None:
        """What the database said of a session: whose it is, or None."""
        self._seen.pop(session_id, None)
        if user is not None and user.role is Role.ADMIN:
            self._seen[session_id] = (user, now)
            if len(self._seen) > MOST:
                self._seen.popitem(last=False)

    def recall(self, session_id: UUID, user_id: UUID, now: datetime) -> User | None:
        """The admin whose session it was a moment ago."""
        user, at = self._seen.get(session_id, (None, now))
        return user if user is not None and user.id == user_id and now - at < REMEMBERED else None
